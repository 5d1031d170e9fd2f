import fc from "fast-check"
import { describe, expect, it } from "vitest"
import type { RecordBatch } from "../../../../src/records.js"
import { appendBlocks } from "../../../../src/writer/rows/batches.js"
import { idHashes } from "../../../../src/writer/rows/draw.js"
import { createIdLog, type Duplicates, findDuplicates } from "../../../../src/writer/rows/id-log.js"
import { spillName } from "../../../../src/writer/rows/partition.js"
import { openScratch } from "../../../../src/writer/scratch.js"
import { withTempDir } from "../../../support/stores.js"

interface Row {
  readonly id: string
  readonly shard: number
}

const batchOf = (rows: readonly Row[], from: number): RecordBatch => ({
  rows: rows.length,
  dim: 1,
  ids: { type: "string", values: rows.map(({ id }) => id) },
  vectors: new Float32Array(rows.length),
  fields: {},
  payloads: rows.map(() => null),
  origin: { file: "in.jsonl", unit: "line", rows: Float64Array.from(rows, (_, i) => from + i + 1) },
})

/** Spills the rows, noting their ids, and asks for the duplicates. */
async function duplicatesOf(
  dir: string,
  rows: readonly Row[],
  mode: "fail" | "first" | "last",
): Promise<Duplicates> {
  const scratch = openScratch({ directory: dir })
  const log = createIdLog(scratch)
  const filled = new Map<number, number>()
  for (const [order, row] of rows.entries()) {
    const batch = batchOf([row], order)
    const position = filled.get(row.shard) ?? 0
    filled.set(row.shard, position + 1)
    await log.add(
      idHashes(batch.ids),
      { rows: undefined, shards: Int32Array.of(row.shard) },
      Float64Array.of(position),
    )
    await appendBlocks(scratch, spillName(row.shard), [batch])
  }
  return findDuplicates(scratch, await log.finish(), mode)
}

describe("duplicate ids", () => {
  const rows = [
    { id: "a", shard: 0 },
    { id: "b", shard: 1 },
    { id: "a", shard: 1 },
    { id: "c", shard: 0 },
    { id: "a", shard: 0 },
  ]

  it("fail by default, naming the id and the rows where it first repeats", () =>
    withTempDir(async (dir) => {
      await expect(duplicatesOf(dir, rows, "fail")).rejects.toThrow(
        'id "a" occurs twice: in.jsonl, line 1 and in.jsonl, line 3 (2 duplicate rows in all)',
      )
    }))

  it("may lose against the first", () =>
    withTempDir(async (dir) => {
      expect(await duplicatesOf(dir, rows, "first")).toEqual({
        rows: 2,
        drop: new Map([
          [1, new Set([1])],
          [0, new Set([2])],
        ]),
      })
    }))

  it("may lose against the last", () =>
    withTempDir(async (dir) => {
      expect(await duplicatesOf(dir, rows, "last")).toEqual({
        rows: 2,
        drop: new Map([
          [0, new Set([0])],
          [1, new Set([1])],
        ]),
      })
    }))

  it("are found wherever they fall, and nothing else is", () =>
    fc.assert(
      fc.asyncProperty(
        fc.array(fc.record({ id: fc.constantFrom("a", "b", "c", "d", "e", "f"), shard: fc.nat(2) }), {
          maxLength: 12,
        }),
        (rows) =>
          withTempDir(async (dir) => {
            const { rows: dropped, drop } = await duplicatesOf(dir, rows, "first")
            const filled = new Map<number, number>()
            const kept: string[] = []
            for (const { id, shard } of rows) {
              const position = filled.get(shard) ?? 0
              filled.set(shard, position + 1)
              if (!drop.get(shard)?.has(position)) kept.push(id)
            }
            expect(kept).toEqual([...new Set(rows.map(({ id }) => id))])
            expect(dropped).toBe(rows.length - kept.length)
          }),
      ),
      { numRuns: 30 },
    ))
})
