import { writeFile } from "node:fs/promises"
import { join } from "node:path"
import fc from "fast-check"
import { describe, expect, it } from "vitest"
import { bucketBits, createBuckets } from "../../../src/maintenance/buckets.js"
import { checkIds, encodeShardRow, type IdsOptions } from "../../../src/maintenance/verify/ids.js"
import {
  blockChecksum,
  encodeLocatorIndex,
  hashOfId,
  type LocatorBlock,
} from "../../../src/manifest/locator.js"
import type { LocatorEntry } from "../../../src/manifest/manifest.js"
import { withTempDir } from "../../support/stores.js"

interface Row {
  readonly id: string
  readonly shard: number
  readonly payload?: string
}

/** A locator of these rows, in blocks of a few entries. */
async function writeLocator(path: string, rows: readonly Row[]): Promise<LocatorEntry> {
  const entries = rows.map(({ id, shard }) => ({ hash: hashOfId(id)!, shard }))
  entries.sort((a, b) => (a.hash < b.hash ? -1 : a.hash > b.hash ? 1 : a.shard - b.shard))
  const body = Buffer.alloc(entries.length * 12)
  entries.forEach(({ hash, shard }, i) => {
    body.writeBigUInt64LE(hash, i * 12)
    body.writeUInt32LE(shard, i * 12 + 8)
  })
  const blocks: LocatorBlock[] = []
  for (let at = 0; at < entries.length; at += 3) {
    const last = Math.min(at + 3, entries.length)
    const checksum = blockChecksum(body.subarray(at * 12, last * 12))
    blocks.push({ firstHash: entries[at]!.hash, lastHash: entries[last - 1]!.hash, checksum })
  }
  const index = encodeLocatorIndex({ entries: entries.length, entriesPerBlock: 3, blocks })
  await writeFile(path, Buffer.concat([body, index]))
  const size = body.length + index.length
  return { key: "routing/x/ids.bin", size, sha256: "", index: { size: index.length, sha256: "" } }
}

/**
 * Checks the rows of shards 0 to 2 against a locator of others; shards that are not `readable` are left out.
 */
async function check(
  rows: readonly Row[],
  located: readonly Row[],
  readable = [0, 1, 2],
  more: Pick<IdsOptions, "copies" | "complete"> = {},
) {
  return withTempDir(async (dir) => {
    const path = join(dir, "locator")
    const entry = await writeLocator(path, located)
    const shards = await Promise.all(
      readable.map(async (shard) => {
        const ids = createBuckets(dir, `ids-${shard}`, 1)
        for (const row of rows) {
          if (row.shard !== shard) continue
          const record = { id: row.id, vector: Float32Array.of(1), fields: {}, payload: row.payload ?? null }
          await ids.add(hashOfId(row.id)!, encodeShardRow(record, []))
        }
        await ids.finish()
        return { shard, ids }
      }),
    )
    const options = {
      name: "s",
      dir,
      rows: located.length,
      rowsPerBucket: 2,
      locator: { entry, path },
      ...more,
    }
    return (await checkIds(shards, options)).map(({ message }) => message)
  })
}

const rowsOf = fc.uniqueArray(fc.record({ id: fc.string({ maxLength: 4 }), shard: fc.nat(2) }), {
  minLength: 1,
  maxLength: 30,
  selector: ({ id }) => id,
})

describe("the ids of a snapshot", () => {
  it("agree with the locator that was made of them", async () => {
    await fc.assert(
      fc.asyncProperty(rowsOf, fc.subarray([0, 1, 2]), async (rows, readable) => {
        expect(await check(rows, rows, readable)).toEqual([])
      }),
      { numRuns: 40, seed: 3 },
    )
  })

  it("do not agree if one row is in another shard than the locator says", async () => {
    await fc.assert(
      fc.asyncProperty(rowsOf, fc.nat(), async (rows, pick) => {
        const wrong = rows.map((row, i) =>
          i === pick % rows.length ? { ...row, shard: (row.shard + 1) % 3 } : row,
        )
        const { id, shard } = rows[pick % rows.length]!
        const [lacking, stray] = await check(rows, wrong)
        expect(lacking).toBe(
          `routing/x/ids.bin does not lead to 1 ids, the first ${JSON.stringify(id)} of shard ${shard}`,
        )
        expect(stray).toContain("names 1 ids that are not in their shards")
        expect(stray).toContain(`in shard ${(shard + 1) % 3}`)
      }),
      { numRuns: 40, seed: 3 },
    )
  })

  it("are each there once", async () => {
    const rows = ["a", "b", "c", "d"].map((id, i) => ({ id, shard: i % 2 }))
    const twice = [...rows, { id: "c", shard: 2 }]
    expect(await check(twice, twice)).toEqual([
      's: 1 rows repeat an id of another row, the first "c" in shards 0 and 2',
    ])
  })
})

describe("copies in a snapshot", () => {
  const homes = ["a", "b", "c", "d"].map((id, i) => ({ id, shard: i % 2 }))
  const stored = [...homes, { id: "a", shard: 1 }, { id: "a", shard: 2 }, { id: "b", shard: 2 }]

  it("are no repeated ids if there are as many as the manifest says, and the locator names one of their shards", async () => {
    expect(await check(stored, homes, [0, 1, 2], { copies: 3 })).toEqual([])
    const otherHome = homes.map((row) => (row.id === "a" ? { ...row, shard: 2 } : row))
    expect(await check(stored, otherHome, [0, 1, 2], { copies: 3 })).toEqual([])
    for (const copies of [2, 4])
      expect(await check(stored, homes, [0, 1, 2], { copies })).toEqual([
        `s: 3 rows repeat an id of another row, its manifest says ${copies}`,
      ])
  })

  it("must equal the row that they copy", async () => {
    const changed = stored.map((row) => (row.id === "b" && row.shard === 2 ? { ...row, payload: "x" } : row))
    expect(await check(changed, homes, [0, 1, 2], { copies: 3 })).toEqual([
      's: 1 copies differ from the row they copy, the first "b" in shards 1 and 2',
    ])
  })

  it("have one entry of the locator in all", async () => {
    const elsewhere = homes.map((row) => (row.id === "c" ? { ...row, shard: 1 } : row))
    const problems = await check(stored, elsewhere, [0, 1, 2], { copies: 3 })
    expect(problems[0]).toBe('routing/x/ids.bin does not lead to 1 ids, the first "c" of shard 0')
    expect(problems[1]).toContain("names 1 ids that are not in their shards")
    expect(problems).toHaveLength(2)
    const twice = [...homes, { id: "a", shard: 1 }]
    expect(await check(stored, twice, [0, 1, 2], { copies: 3 })).toEqual([
      expect.stringContaining("names 1 ids that are not in their shards"),
    ])
  })

  it("are not missed where a shard could not be read", async () => {
    for (const readable of [
      [0, 1],
      [1, 2],
      [0, 2],
    ]) {
      expect(await check(stored, homes, readable, { copies: 3, complete: false })).toEqual([])
    }
  })
})

describe("buckets", () => {
  it("are as many as keep each small, up to a limit", () => {
    expect([0, 1, 10, 11, 21, 1e9].map((rows) => bucketBits(rows, 10))).toEqual([0, 0, 0, 1, 2, 12])
  })

  it("give back what was added, by rising hash from bucket to bucket", async () => {
    await withTempDir(async (dir) => {
      const buckets = createBuckets(dir, "x", 3)
      const hashes = Array.from({ length: 500 }, (_, n) => hashOfId(String(n))!)
      await Promise.all(hashes.map((hash, n) => buckets.add(hash, Buffer.from(`entry ${n}`))))
      await buckets.finish()
      const read = await Promise.all(Array.from({ length: buckets.count }, (_, i) => buckets.read(i)))
      read.forEach((entries, bucket) => {
        expect(entries.length).toBeGreaterThan(20)
        for (const { hash } of entries) expect(Number(hash >> 61n)).toBe(bucket)
      })
      const texts = read.flat().map(({ bytes }) => bytes.toString())
      expect(texts.sort()).toEqual(hashes.map((_, n) => `entry ${n}`).sort())
    })
  })
})
