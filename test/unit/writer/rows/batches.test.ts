import { appendFile, stat, truncate } from "node:fs/promises"
import { join } from "node:path"
import fc from "fast-check"
import { describe, expect, it } from "vitest"
import type { RecordBatch } from "../../../../src/records.js"
import {
  appendBlocks,
  concatBatches,
  joinBatches,
  readBlocks,
  takeRows,
} from "../../../../src/writer/rows/batches.js"
import { openScratch, type Scratch } from "../../../../src/writer/scratch.js"
import { withTempDir } from "../../../support/stores.js"

const batch = (rows: readonly number[], idType: "string" | "int64" = "string"): RecordBatch => ({
  rows: rows.length,
  dim: 2,
  ids:
    idType === "string"
      ? { type: "string", values: rows.map((n) => `é${n}`) }
      : { type: "int64", values: BigInt64Array.from(rows, (n) => 2n ** 62n + BigInt(n)) },
  vectors: Float32Array.from(rows.flatMap((n) => [n, n + 0.5])),
  fields: { year: rows.map((n) => BigInt(n)), lang: rows.map((n) => (n % 2 === 0 ? null : `l${n}`)) },
  payloads: rows.map((n) => (n % 3 === 0 ? null : `{"n":${n}}`)),
  origin: { file: "a.jsonl", unit: "line", rows: Float64Array.from(rows, (n) => n + 1) },
})

async function collect(scratch: Scratch, name: string): Promise<RecordBatch[]> {
  const batches: RecordBatch[] = []
  for await (const each of readBlocks(scratch, name)) batches.push(each)
  return batches
}

describe("record batches", () => {
  it("give the rows asked for, in the order asked for", () => {
    for (const idType of ["string", "int64"] as const) {
      expect(takeRows(batch([10, 11, 12, 13], idType), [3, 0, 0])).toEqual(batch([13, 10, 10], idType))
    }
    expect(takeRows({ ...batch([1, 2]), shards: Int32Array.of(7, 8) }, [1]).shards).toEqual(Int32Array.of(8))
  })

  it("cut anywhere and joined again are what they were", () => {
    fc.assert(
      fc.property(
        fc.array(fc.nat(1000), { minLength: 1 }),
        fc.nat(),
        fc.constantFrom("string", "int64"),
        (rows, cut, idType) => {
          const at = cut % rows.length
          const parts = [rows.slice(0, at), rows.slice(at)].filter((part) => part.length > 0)
          const { origin: _, ...whole } = batch(rows, idType as "string")
          expect(concatBatches(parts.map((part) => batch(part, idType as "string")))).toEqual(whole)
        },
      ),
    )
  })

  it("joined are few, of one file each, with the same rows", () => {
    const elsewhere = { file: "b.jsonl", unit: "line", rows: Float64Array.of(1) } as const
    const other = { ...batch([4]), origin: elsewhere }
    const joined = [...joinBatches([batch([1, 2]), batch([3]), other, batch([5]), batch([6])])]
    expect(joined).toEqual([batch([1, 2, 3]), other, batch([5, 6])])
    const large = { ...batch([1]), payloads: ["x".repeat(3 * 2 ** 20)] }
    expect([...joinBatches([large, large])]).toEqual([large, large])
    expect([...joinBatches([])]).toEqual([])
  })

  it("survive the disk", () =>
    withTempDir(async (dir) => {
      const scratch = openScratch({ directory: dir })
      await appendBlocks(scratch, "spill", [batch([1, 2], "int64"), batch([3], "int64")])
      await appendBlocks(scratch, "spill", [batch([4, 5, 6], "int64")])
      expect(await collect(scratch, "spill")).toEqual([
        batch([1, 2], "int64"),
        batch([3], "int64"),
        batch([4, 5, 6], "int64"),
      ])
    }))

  it("of a file that ends early are Corrupt", () =>
    withTempDir(async (dir) => {
      const scratch = openScratch({ directory: dir })
      await appendBlocks(scratch, "spill", [batch([1, 2])])
      const path = join(dir, "spill")
      await appendFile(path, Buffer.of(9, 0))
      await expect(collect(scratch, "spill")).rejects.toMatchObject({ tag: "Corrupt" })
      const { size } = await stat(path)
      // In the row itself, in its vectors, before them, in the lengths.
      for (const left of [size - 4, size - 18, 40, 8]) {
        await truncate(path, left)
        await expect(collect(scratch, "spill")).rejects.toMatchObject({ tag: "Corrupt" })
      }
    }))
})
