/**
 * What is signed in our format, byte for byte: docs/format.md, "Signatures".
 *
 * A statement is a few lines of text, each ending in a newline. Its values hold no newline and have one
 * spelling, so that no canonical form of JSON is needed to say what was signed.
 */
import { createHash } from "node:crypto"
import { z } from "zod"
import type { Signature, SignedStatement } from "../snapshot/signatures/verdict.js"
import { parseKey } from "./keys.js"
import type { Publication } from "./pointer.js"
import { SEAL_BYTES } from "./seal.js"

/** A publication that is signed: what the statement has besides, and the signatures. */
export interface PublicationSignatures {
  /** SHA-256 of the manifest, of all its bytes. */
  readonly manifestSha256: string
  readonly signatures: readonly Signature[]
}

/** Old and new keys for a while; nobody needs more, and the pointer has to stay small. */
export const SIGNATURES_MAX = 8

export const signature = z.object({
  key: z.string().regex(/^[0-9a-f]{16}$/, "a key id of 16 hex digits"),
  signature: z.string().regex(/^[0-9a-f]{128}$/, "a signature of 128 hex digits"),
})

/** What the signatures in a pointer sign. */
export function publicationStatement(
  { number, run, manifest, publishedAt, action }: Publication,
  manifestSha256: string,
): Buffer {
  return statement("publication", {
    number: String(number),
    run,
    manifest,
    "manifest-sha256": manifestSha256,
    "published-at": publishedAt.toISOString(),
    action,
  })
}

/** What the signatures in a manifest sign: all that stands before them. */
const manifestStatement = (content: Uint8Array): Buffer =>
  statement("manifest", { sha256: createHash("sha256").update(content).digest("hex") })

const statement = (of: string, values: Readonly<Record<string, string>>): Buffer =>
  Buffer.from(
    [`vecsnap-${of} 1`, ...Object.entries(values).map(([name, value]) => `${name}: ${value}`)]
      .map((line) => `${line}\n`)
      .join(""),
  )

/** What a signed pointer states, with its signatures; `undefined` if it has none. */
export function signedPublication(
  pointer: Publication & { readonly signed?: PublicationSignatures | undefined },
): SignedStatement | undefined {
  const { signed, publishedAt } = pointer
  return (
    signed && {
      statement: publicationStatement(pointer, signed.manifestSha256),
      signatures: signed.signatures,
      signedAt: publishedAt,
    }
  )
}

// One per line, in exactly this form, right before the seal: so all before it is what was signed.
const signatureLine = ({ key, signature }: Signature): string =>
  `    { "key": "${key}", "signature": "${signature}" }`
const LINE = String.raw`    \{ "key": "([0-9a-f]{16})", "signature": "([0-9a-f]{128})" \}`
const BLOCK = new RegExp(
  String.raw`,\n  "signatures": \[\n(${LINE}(?:,\n${LINE}){0,${SIGNATURES_MAX - 1}})\n  \]$`,
)
const LINES = new RegExp(LINE, "g")
/** More than the block can have, and little enough to be looked through whatever it is. */
const BLOCK_MAX_BYTES = 256 * (SIGNATURES_MAX + 1)

/** The signatures of a manifest as they stand in it, to follow its content. */
export const signatureBlock = (
  content: Uint8Array,
  sign: (statement: Buffer) => readonly Signature[],
): string => `,\n  "signatures": [\n${sign(manifestStatement(content)).map(signatureLine).join(",\n")}\n  ]`

/**
 * What a manifest states by its own signatures; `undefined` if it has none. Nothing else of the bytes is
 * looked at: whether to read them at all may depend on it. The time is that of its key, which reading
 * compares with what the manifest says.
 */
export function signedManifest(bytes: Uint8Array, key: string): SignedStatement | undefined {
  const parsed = parseKey(key)
  if (parsed?.kind !== "manifest" || bytes.length <= SEAL_BYTES) return undefined
  const body = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength - SEAL_BYTES)
  const tail = body.subarray(Math.max(0, body.length - BLOCK_MAX_BYTES)).toString("latin1")
  const block = BLOCK.exec(tail)
  if (block === null) return undefined
  const signatures = Array.from(block[1]!.matchAll(LINES), ([, key, signature]) => ({
    key: key!,
    signature: signature!,
  }))
  const content = body.subarray(0, body.length - block[0].length)
  return { statement: manifestStatement(content), signatures, signedAt: parsed.time }
}
