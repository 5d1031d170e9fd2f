import { createHash, verify } from "node:crypto"
import { readFileSync } from "node:fs"
import fc from "fast-check"
import { describe, expect, it } from "vitest"
import { decodeManifest, encodeManifest } from "../../../src/manifest/codec.js"
import {
  decodePointer,
  encodePointer,
  liveOf,
  type Pointer,
  withCondemned,
  withPublication,
} from "../../../src/manifest/pointer.js"
import { seal, unseal } from "../../../src/manifest/seal.js"
import { publicationStatement, signedManifest, signedPublication } from "../../../src/manifest/signed.js"
import { signPublication } from "../../../src/manifest/signing.js"
import { judgeSignatures } from "../../../src/snapshot/signatures/verdict.js"
import { GOLDEN_KEY, signingWith, testKey } from "../../support/keys.js"
import { fromRoot } from "../../support/paths.js"

const golden = (name: string): Buffer => readFileSync(fromRoot("test/data/golden", name))
const KEY = "manifests/20261121T030000.000Z-k3v9x2m4q7ab.json"
const MANIFEST = decodeManifest(golden("manifest-v1-locator.json"), KEY)
const { write: WRITE, ...POINTER } = decodePointer(golden("pointer-v1-history.json"), "_CURRENT")
const SHA256 = createHash("sha256").update(golden("manifest-v1-signed.json")).digest("hex")
const SIGNED = signPublication(POINTER, SHA256, signingWith(GOLDEN_KEY))
const TRUSTED = [GOLDEN_KEY.trusted]

const asRead = (bytes: Uint8Array): Pointer => decodePointer(bytes, "_CURRENT")

/** How many keys have signed it, or why it is not believed, or that it can't even be read. */
function verdictOf(read: () => ReturnType<typeof signedPublication>): number | string {
  try {
    const verdict = judgeSignatures(read(), TRUSTED)
    return verdict.valid ? verdict.by.length : verdict.distrust
  } catch {
    return "unreadable"
  }
}

describe("signed documents", () => {
  it("are the golden files, byte for byte", () => {
    const manifest = golden("manifest-v1-signed.json")
    expect(encodeManifest(MANIFEST, [GOLDEN_KEY.signing]).toString()).toBe(manifest.toString())
    expect(decodeManifest(manifest, KEY)).toEqual(MANIFEST)
    const pointer = golden("pointer-v1-signed.json")
    expect(encodePointer(SIGNED, WRITE).toString()).toBe(pointer.toString())
    expect(asRead(pointer)).toEqual({ ...SIGNED, write: WRITE })
    expect(verdictOf(() => signedPublication(asRead(pointer)))).toBe(1)
    expect(verdictOf(() => signedManifest(manifest, KEY))).toBe(1)
  })

  it("are signed in version 2 as in version 1", () => {
    const index = { kind: "cells", cells: 8 }
    const manifest = { ...MANIFEST, shards: MANIFEST.shards.map((entry) => ({ ...entry, index })) }
    const bytes = encodeManifest(manifest, [GOLDEN_KEY.signing])
    expect(bytes.toString()).toContain('"version": 2')
    expect(decodeManifest(bytes, KEY)).toEqual(manifest)
    expect(verdictOf(() => signedManifest(bytes, KEY))).toBe(1)
  })

  it("sign what docs/format.md says, and nothing else", () => {
    const statement = `vecsnap-publication 1
number: 3
run: k3v9x2m4q7ab
manifest: manifests/20261121T030000.000Z-k3v9x2m4q7ab.json
manifest-sha256: ${SHA256}
published-at: 2026-11-21T03:00:01.000Z
action: rollback
`
    expect(publicationStatement(POINTER, SHA256).toString()).toBe(statement)
    const { signature } = SIGNED.signed!.signatures[0]!
    const bytes = Buffer.from(signature, "hex")
    expect(verify(null, Buffer.from(statement), GOLDEN_KEY.signing.publicKey, bytes)).toBe(true)

    const unsigned = encodeManifest(MANIFEST).toString()
    const content = unsigned.slice(0, unsigned.lastIndexOf(',\n  "sha256"'))
    const digest = createHash("sha256").update(content).digest("hex")
    const signed = signedManifest(golden("manifest-v1-signed.json"), KEY)!
    expect(Buffer.from(signed.statement).toString()).toBe(`vecsnap-manifest 1\nsha256: ${digest}\n`)
    expect(signed.signedAt).toEqual(MANIFEST.createdAt)
  })

  it("have one byte changed anywhere and the seal put right: refused, or the same statement", () => {
    const flips = fc.record({
      share: fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
      bit: fc.nat(7),
    })
    const flipped = (bytes: Buffer, { share, bit }: { share: number; bit: number }): Buffer => {
      const body = bytes.subarray(0, bytes.length - 81)
      const at = Math.floor(share * body.length)
      const altered = Buffer.from(body)
      altered[at] = altered[at]! ^ (1 << bit)
      const sha256 = createHash("sha256").update(altered).digest("hex")
      return Buffer.concat([altered, Buffer.from(`,\n  "sha256": "${sha256}"\n}\n`)])
    }
    const manifest = golden("manifest-v1-signed.json")
    const pointer = golden("pointer-v1-signed.json")
    const statement = publicationStatement(POINTER, SHA256)
    fc.assert(
      fc.property(flips, (flip) => {
        // All of a manifest is signed.
        const altered = flipped(manifest, flip)
        expect(verdictOf(() => signedManifest(altered, KEY))).not.toBe(1)
        // Of a pointer only the statement is: whoever believes it believes what was signed.
        const read = flipped(pointer, flip)
        if (verdictOf(() => signedPublication(asRead(read))) === 1)
          expect(Buffer.from(signedPublication(asRead(read))!.statement)).toEqual(statement)
      }),
      { numRuns: 2000 },
    )
  })

  it("have no character of a signature that means nothing", () => {
    const { key, signature } = SIGNED.signed!.signatures[0]!
    for (let at = 0; at < signature.length; at++) {
      for (const digit of ["0", "F", "g", " "]) {
        if (digit === signature[at]) continue
        const altered = { key, signature: signature.slice(0, at) + digit + signature.slice(at + 1) }
        const pointer = { ...SIGNED, signed: { ...SIGNED.signed!, signatures: [altered] } }
        expect(verdictOf(() => signedPublication(asRead(encodePointer(pointer))))).toMatch(
          /bad-signature|unreadable/,
        )
      }
    }
  })

  it("keep what is signed when a collection writes the pointer, and only the signers in the history", () => {
    const condemned = withCondemned(asRead(encodePointer(SIGNED)), ["b1b2c3d4e5f6"])
    const read = asRead(encodePointer(condemned))
    expect(read.condemned).toEqual(["a1b2c3d4e5f6", "b1b2c3d4e5f6"])
    expect(verdictOf(() => signedPublication(read))).toBe(1)
    expect(liveOf(read).signedBy).toEqual([GOLDEN_KEY.id])
    const { signed: _, ...next } = { ...POINTER, run: "b1b2c3d4e5f6" }
    const after = asRead(encodePointer(withPublication(read, next)))
    expect(after.signed).toBeUndefined()
    expect(after.history[0]).toMatchObject({ run: POINTER.run, signedBy: [GOLDEN_KEY.id] })
  })

  it("of eight keys, with a full history, are small enough for a pointer", () => {
    const keys = Array.from({ length: 8 }, () => testKey())
    let pointer: Pointer | undefined
    for (let i = 0; i < 110; i++) {
      const next = withPublication(pointer, { ...liveOf(POINTER), action: "rollback" }, Date.now())
      pointer = asRead(encodePointer(signPublication(next, SHA256, signingWith(...keys))))
    }
    const runs = Array.from({ length: 500 }, (_, i) => `c${i}`.padEnd(12, "0"))
    expect(encodePointer(withCondemned(pointer!, runs)).length).toBeLessThan(64 * 2 ** 10)
  })

  it("are read by their bytes alone: a manifest that says it is signed in another form is not", () => {
    const { sha256: _, ...document } = unseal(golden("manifest-v1-signed.json"), KEY)
    expect(signedManifest(seal(document), KEY)).toBeUndefined()
    expect(signedManifest(golden("manifest-v1.json"), KEY)).toBeUndefined()
    expect(signedManifest(Buffer.alloc(81), KEY)).toBeUndefined()
    expect(signedManifest(golden("manifest-v1-signed.json"), "_CURRENT")).toBeUndefined()
  })
})
