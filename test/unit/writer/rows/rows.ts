/** Batches of numbered rows, and what reads them, for tests of the writer's rows. */
import type { RecordBatch } from "../../../../src/records.js"

/** Rows of these vectors, `count × dim`, with ids "r0", "r1", … from `from` on. */
export function batchOf(vectors: readonly number[], dim: number, from = 0): RecordBatch {
  const rows = vectors.length / dim
  return {
    rows,
    dim,
    ids: { type: "string", values: Array.from({ length: rows }, (_, row) => `r${from + row}`) },
    vectors: Float32Array.from(vectors),
    fields: {},
    payloads: Array<null>(rows).fill(null),
    origin: {
      file: "in.jsonl",
      unit: "line",
      rows: Float64Array.from({ length: rows }, (_, row) => from + row + 1),
    },
  }
}

export async function* streamOf(batches: readonly RecordBatch[]): AsyncGenerator<RecordBatch> {
  yield* batches
}

export async function collected(batches: AsyncIterable<RecordBatch>): Promise<RecordBatch[]> {
  const all: RecordBatch[] = []
  for await (const batch of batches) all.push(batch)
  return all
}
