import fc from "fast-check"
import { describe, expect, it } from "vitest"
import type { FieldValue, RecordBatch } from "../../../../src/records.js"
import type { Strategy } from "../../../../src/sharding/strategy.js"
import { readBlocks } from "../../../../src/writer/rows/batches.js"
import {
  type Assignment,
  assignmentBy,
  type PartitionOptions,
  partition,
  type RowShards,
  spillName,
} from "../../../../src/writer/rows/partition.js"
import { openScratch, type Scratch } from "../../../../src/writer/scratch.js"
import { withTempDir } from "../../../support/stores.js"
import { batchOf, collected, streamOf } from "./rows.js"

const SHARDS = 3
/** Partitioning asks for no more of a strategy. */
const strategyOf = (assign: Strategy["assign"]): Strategy =>
  ({ name: "drawn", shards: SHARDS, assign }) as unknown as Strategy

const optionsOf = (
  scratch: Scratch,
  assignment: Assignment,
  more: Partial<PartitionOptions> = {},
): PartitionOptions => ({
  assignmentFor: async () => assignment,
  metric: "l2",
  fields: [],
  scratch,
  onAssigned: async () => {},
  onRows: () => {},
  signal: undefined,
  ...more,
})

/** Ids in the spill of each shard that has one, in order. */
async function spilled(scratch: Scratch): Promise<Record<number, string[]>> {
  const ids: Record<number, string[]> = {}
  for (let shard = 0; shard < SHARDS; shard++) {
    const batches = await collected(readBlocks(scratch, spillName(shard))).catch(() => undefined)
    if (batches) ids[shard] = batches.flatMap((batch) => [...batch.ids.values]).map(String)
  }
  return ids
}

describe("partition", () => {
  it("spills each row to all of its shards in reading order, and tells the position that it has there", () => {
    // For each batch, the shards of each of its rows: the home, then copies.
    const placed = fc.array(
      fc.array(fc.uniqueArray(fc.nat(SHARDS - 1), { minLength: 1 }), { minLength: 1, maxLength: 4 }),
      { minLength: 1, maxLength: 4 },
    )
    return fc.assert(
      fc.asyncProperty(placed, (batchShards) =>
        withTempDir(async (dir) => {
          const scratch = openScratch({ directory: dir })
          const expected: Record<number, string[]> = {}
          const positions: number[] = []
          let from = 0
          const batches = batchShards.map((rowShards) => {
            const batch = batchOf(
              rowShards.map(() => 1),
              1,
              from,
            )
            for (const shards of rowShards) {
              for (const shard of shards) {
                expected[shard] ??= []
                positions.push(expected[shard].push(`r${from}`) - 1)
              }
              from++
            }
            return batch
          })
          let next = 0
          const assignment: Assignment = {
            strategy: strategyOf(() => new Int32Array()),
            assign(): RowShards {
              const rowShards = batchShards[next++]!
              return {
                rows: Int32Array.from(rowShards.flatMap((shards, row) => shards.map(() => row))),
                shards: Int32Array.from(rowShards.flat()),
              }
            },
          }
          const told: number[] = []
          const done: number[] = []
          const result = await partition(
            streamOf(batches),
            optionsOf(scratch, assignment, {
              onAssigned: async (_, __, given) => void told.push(...given),
              onRows: (rows) => done.push(rows),
            }),
          )
          expect(await spilled(scratch)).toEqual(expected)
          expect(told).toEqual(positions)
          expect(done.at(-1)).toBe(from)
          expect(result).toMatchObject({ rows: from, strategy: assignment.strategy })
          expect([...result!.rowsByShard]).toEqual([0, 1, 2].map((shard) => expected[shard]?.length ?? 0))
        }),
      ),
      { numRuns: 30 },
    )
  })

  it("by a strategy sends each row to the one shard that it assigns", () =>
    withTempDir(async (dir) => {
      const scratch = openScratch({ directory: dir })
      const strategy = strategyOf(({ rows }) => Int32Array.from({ length: rows }, (_, row) => row % 2))
      const rows = streamOf([batchOf([1, 2, 3], 1), batchOf([4], 1, 3)])
      await partition(rows, optionsOf(scratch, assignmentBy(strategy)))
      expect(await spilled(scratch)).toEqual({ 0: ["r0", "r2", "r3"], 1: ["r1"] })
    }))

  it("says of ids and of each integer field whether it has values beyond ±(2^53 - 1)", () =>
    withTempDir(async (dir) => {
      const most = 2n ** 53n - 1n
      const batch = (ids: readonly bigint[], fields: Record<string, FieldValue[]>): RecordBatch => ({
        ...batchOf(
          ids.map(() => 1),
          1,
        ),
        ids: { type: "int64", values: BigInt64Array.from(ids) },
        fields,
      })
      const strategy = strategyOf(({ rows }) => new Int32Array(rows))
      const fields = [
        { name: "narrow", type: "int64" },
        { name: "low", type: "int64" },
        { name: "late", type: "int64" },
        { name: "text", type: "string" },
      ] as const
      const text: FieldValue[] = ["a", "b"]
      const scratch = openScratch({ directory: dir })
      const schemaOf = async (batches: readonly RecordBatch[]) =>
        (await partition(streamOf(batches), optionsOf(scratch, assignmentBy(strategy), { fields })))!.schema
      const first = batch([1n, -most], {
        narrow: [most, -most],
        low: [null, -most - 1n],
        late: [1n, 2n],
        text,
      })
      const second = batch([2n, most + 1n], { narrow: [0n, 0n], low: [0n, 0n], late: [0n, most + 1n], text })
      expect(await schemaOf([first])).toEqual({
        dim: 1,
        metric: "l2",
        id: { type: "int64", wide: false },
        fields: fields.map((field) => ({ ...field, wide: field.name === "low" })),
      })
      expect(await schemaOf([first, second])).toMatchObject({
        id: { type: "int64", wide: true },
        fields: fields.map((field) => ({ ...field, wide: field.name === "low" || field.name === "late" })),
      })
    }))

  it("of no rows is nothing, and asks for no strategy", () =>
    withTempDir(async (dir) => {
      const assignmentFor = () => Promise.reject(new Error("asked"))
      const options = optionsOf(
        openScratch({ directory: dir }),
        assignmentBy(strategyOf(() => new Int32Array())),
      )
      expect(await partition(streamOf([]), { ...options, assignmentFor })).toBeUndefined()
    }))

  it("ends at the next batch when it is aborted", () =>
    withTempDir(async (dir) => {
      const strategy = strategyOf(({ rows }) => new Int32Array(rows))
      const options = optionsOf(openScratch({ directory: dir }), assignmentBy(strategy))
      await expect(
        partition(streamOf([batchOf([1], 1)]), { ...options, signal: AbortSignal.abort() }),
      ).rejects.toMatchObject({ tag: "Aborted" })
    }))
})
