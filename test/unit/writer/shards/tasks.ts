/** Shard tasks for tests: rows in the scratch store, and the plan that they share. */
import { idKey } from "../../../../src/recall/id-key.js"
import type { RecordBatch } from "../../../../src/records.js"
import type { ShardSpec } from "../../../../src/shards/backend.js"
import type { BackendName } from "../../../../src/shards/registry.js"
import { appendBlocks } from "../../../../src/writer/rows/batches.js"
import { spillName } from "../../../../src/writer/rows/partition.js"
import type { Scratch } from "../../../../src/writer/scratch.js"
import type { ShardPlan, ShardTask } from "../../../../src/writer/shards/task.js"

export const SPEC: ShardSpec = { dim: 16, metric: "l2", id: { type: "string", wide: false }, fields: [] }

/** Rows that are the same whenever they are made, in the order of `numbers`. */
export const batchOf = (numbers: readonly number[]): RecordBatch => ({
  rows: numbers.length,
  dim: SPEC.dim,
  ids: { type: "string", values: numbers.map((row) => `r${row}`) },
  vectors: Float32Array.from({ length: numbers.length * SPEC.dim }, (_, i) =>
    Math.sin(numbers[Math.floor(i / SPEC.dim)]! * SPEC.dim + (i % SPEC.dim)),
  ),
  fields: {},
  payloads: numbers.map(() => null),
  origin: { file: "records", unit: "row", rows: Float64Array.from(numbers) },
})

/** Row numbers from `from` on. */
export const numbered = (count: number, from = 0): number[] =>
  Array.from({ length: count }, (_, i) => from + i)

export function planOf(backend: BackendName, queryRows: readonly number[] = []): ShardPlan {
  const { vectors } = batchOf(queryRows)
  const own = Float64Array.from(queryRows, (row) => idKey(`r${row}`))
  return {
    run: "k3v9x2m4q7ab",
    spec: SPEC,
    backend,
    queries: queryRows.length > 0 ? { vectors, own } : undefined,
  }
}

/** Spills the rows and returns the task of their shard. */
export async function taskOf(scratch: Scratch, shard: number, rows: readonly number[]): Promise<ShardTask> {
  await appendBlocks(scratch, spillName(shard), [batchOf(rows)])
  return { shard, attempt: 0, drop: [], reusable: undefined }
}
