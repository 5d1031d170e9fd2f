import { createHash } from "node:crypto"
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import fc from "fast-check"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import {
  blockRange,
  blocksWith,
  decodeLocatorIndex,
  encodeLocatorIndex,
  hashOfId,
  type LocatorIndex,
  shardsWith,
} from "../../../src/manifest/locator.js"
import type { LocatorEntry } from "../../../src/manifest/manifest.js"
import type { Duplicates } from "../../../src/writer/rows/id-log.js"
import { writeLocator } from "../../../src/writer/rows/locator.js"
import { openScratch } from "../../../src/writer/scratch.js"

let dir: string
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "vecsnap-test-"))
})
afterAll(() => rm(dir, { recursive: true, force: true }))

interface Logged {
  readonly hash: bigint
  readonly shard: number
  readonly position?: number
}

let files = 0
/** Writes a locator from the entries as the id log leaves them: a bucket file per first byte of the hash. */
async function locatorOf(
  logged: readonly Logged[],
  { perBlock = 3, drop = new Map() }: { perBlock?: number; drop?: Duplicates["drop"] } = {},
): Promise<{ bytes: Buffer; entry: LocatorEntry; index: LocatorIndex; rows: number }> {
  const buckets = new Map<number, Buffer[]>()
  for (const [order, { hash, shard, position = 0 }] of logged.entries()) {
    const entry = Buffer.alloc(24)
    entry.writeBigUInt64LE(hash)
    entry.writeDoubleLE(order, 8)
    entry.writeUInt32LE(shard, 16)
    entry.writeUInt32LE(position, 20)
    const bucket = Number(hash >> 56n)
    buckets.set(bucket, [...(buckets.get(bucket) ?? []), entry])
  }
  const names: string[] = []
  for (const [, entries] of [...buckets].sort(([a], [b]) => a - b)) {
    names.push(`bucket-${files++}`)
    await writeFile(join(dir, names.at(-1)!), Buffer.concat(entries))
  }
  const name = `ids-${files++}`
  const entry = {
    key: "routing/k3v9x2m4q7ab/ids.bin",
    ...(await writeLocator(openScratch({ directory: dir }), name, names, drop, perBlock)),
  }
  const bytes = await readFile(join(dir, name))
  const rows = logged.length - Array.from(drop.values()).reduce((sum, { size }) => sum + size, 0)
  return { bytes, entry, rows, index: decodeLocatorIndex(indexOf(bytes, entry), entry, rows) }
}

const indexOf = (bytes: Buffer, { index }: LocatorEntry): Buffer => bytes.subarray(bytes.length - index.size)
const sha256 = (bytes: Buffer): string => createHash("sha256").update(bytes).digest("hex")

/** Shards of a hash, as a reader finds them. */
function locate(bytes: Buffer, index: LocatorIndex, hash: bigint): readonly number[] {
  const shards = blocksWith(index, hash).flatMap((block) => {
    const { start, end } = blockRange(index, block)
    return shardsWith(bytes.subarray(start, end), hash)
  })
  return [...new Set(shards)].sort((a, b) => a - b)
}

describe("the id locator", () => {
  it("is laid out as docs/format.md says", async () => {
    const ids = ["king", "queen", "cat"]
    const shards = [0, 3, 3]
    const { bytes, entry } = await locatorOf(
      ids.map((id, i) => ({ hash: hashOfId(id)!, shard: shards[i]! })),
      { perBlock: 2 },
    )
    // The worked example, three entries in blocks of two, as it is printed there.
    const document = await readFile(join(import.meta.dirname, "../../../../docs/format.md"), "utf8")
    const printed = [...document.matchAll(/^(\d{3}) {2}((?:[0-9a-f]{2} ?)+)/gm)].map(([, at, hex]) => ({
      at: Number(at),
      hex: hex!.replaceAll(" ", ""),
    }))
    let at = 0
    for (const line of printed) {
      expect(line.at).toBe(at)
      expect(line.hex, `byte ${at}`).toBe(bytes.subarray(at, at + line.hex.length / 2).toString("hex"))
      at += line.hex.length / 2
    }
    expect(at).toBe(bytes.length)
    expect(entry).toMatchObject({ size: 108, index: { size: 72 } })
  })

  it("finds every shard of every hash, and none for others, whatever the blocks", () =>
    fc.assert(
      fc.asyncProperty(
        // Few hashes: many collide, and their entries go over the ends of blocks.
        fc.array(
          fc.record({
            hash: fc
              .tuple(fc.constantFrom(0n, 1n, 128n, 255n), fc.constantFrom(0n, 1n, 2n ** 32n, 2n ** 56n - 1n))
              .map(([top, rest]) => top * 2n ** 56n + rest),
            shard: fc.constantFrom(0, 1, 7, 2 ** 32 - 1),
          }),
          { minLength: 1, maxLength: 40 },
        ),
        fc.integer({ min: 1, max: 9 }),
        async (logged, perBlock) => {
          const { bytes, index, entry } = await locatorOf(logged, { perBlock })
          expect(entry).toMatchObject({ size: bytes.length, sha256: sha256(bytes) })
          expect(entry.index.sha256).toBe(sha256(indexOf(bytes, entry)))
          for (const { hash } of logged) {
            const expected = new Set(logged.filter((other) => other.hash === hash).map(({ shard }) => shard))
            expect(locate(bytes, index, hash)).toEqual([...expected].sort((a, b) => a - b))
          }
          for (const hash of [2n, 2n ** 40n, 77n * 2n ** 56n, 2n ** 64n - 2n]) {
            expect(locate(bytes, index, hash)).toEqual([])
          }
        },
      ),
      { numRuns: 60 },
    ))

  it("does not depend on the order of the input", async () => {
    const logged = Array.from({ length: 50 }, (_, i) => ({ hash: hashOfId(i % 40)!, shard: i % 7 }))
    const [one, other] = await Promise.all([locatorOf(logged), locatorOf(logged.toReversed())])
    expect(other.bytes).toEqual(one.bytes)
  })

  it("reads one block for the first and last hash of a block, and none between blocks", async () => {
    const hashes = [10n, 20n, 30n, 40n, 50n, 60n, 70n]
    const { index } = await locatorOf(hashes.map((hash) => ({ hash, shard: 0 })))
    expect(hashes.map((hash) => blocksWith(index, hash))).toEqual([[0], [0], [0], [1], [1], [1], [2]])
    for (const hash of [9n, 35n, 65n, 71n]) expect(blocksWith(index, hash)).toEqual([])
    expect(blocksWith(index, 25n)).toEqual([0])
  })

  it("leaves out rows that lost against another with the same id", async () => {
    const logged = [
      { hash: 5n, shard: 1, position: 0 },
      { hash: 5n, shard: 2, position: 9 },
      { hash: 6n, shard: 2, position: 0 },
    ]
    const { bytes, index, rows } = await locatorOf(logged, { drop: new Map([[2, new Set([9])]]) })
    expect({ rows, entries: index.entries }).toEqual({ rows: 2, entries: 2 })
    expect(locate(bytes, index, 5n)).toEqual([1])
    expect(locate(bytes, index, 6n)).toEqual([2])
  })

  it("files an integer under one hash, as number or bigint, and none beyond 64 bits", () => {
    expect(hashOfId(42)).toBe(hashOfId(42n))
    expect(hashOfId(-1)).toBe(hashOfId(-1n))
    expect(hashOfId("42")).not.toBe(hashOfId(42))
    expect(hashOfId(-(2n ** 63n))).toBeTypeOf("bigint")
    expect(hashOfId(2n ** 63n)).toBeUndefined()
    expect(hashOfId(-(2n ** 63n) - 1n)).toBeUndefined()
  })

  it("has an index that fits object and snapshot, else it is Corrupt or Unsupported", async () => {
    const { bytes, entry, index, rows } = await locatorOf(
      [1n, 2n, 3n, 4n].map((hash) => ({ hash, shard: 0 })),
    )
    const encoded = indexOf(bytes, entry)
    expect(encodeLocatorIndex(index)).toEqual(encoded)
    const altered = (change: (index: Buffer) => void): Buffer => {
      const copy = Buffer.from(encoded)
      change(copy)
      return copy
    }
    const cases: [Buffer, LocatorEntry, number, string, RegExp][] = [
      [encoded, entry, rows + 1, "Corrupt", /ids\.bin has 4 entries, but its snapshot has 5 rows/],
      [encoded, { ...entry, size: entry.size + 1 }, rows, "Corrupt", /ids\.bin has 121 bytes/],
      [encoded.subarray(0, -1), entry, rows, "Corrupt", /an index of 71/],
      [altered((copy) => copy.writeUInt32LE(0, 12)), entry, rows, "Corrupt", /blocks of 0 entries/],
      [altered((copy) => copy.writeUInt8(0)), entry, rows, "Corrupt", /does not begin with VSNAPIDS/],
      [encoded.subarray(0, 7), entry, rows, "Corrupt", /does not begin with VSNAPIDS/],
      [altered((copy) => copy.writeUInt32LE(2, 8)), entry, rows, "Unsupported", /ids\.bin has version 2/],
    ]
    for (const [given, locator, rowCount, tag, message] of cases) {
      const decode = (): unknown => decodeLocatorIndex(given, locator, rowCount)
      expect(decode).toThrow(message)
      expect(decode).toThrow(expect.objectContaining({ tag }))
    }
  })
})
