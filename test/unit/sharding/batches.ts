import type { FieldValue, RecordBatch } from "../../../src/records.js"
import { createRandom } from "../../../src/vectors/random.js"

/**
 * A batch of rows with these vectors, from rows 1, 2, … of "test.parquet"; ids are of no concern to
 * strategies.
 */
export function batchOf(
  vectors: Float32Array,
  dim: number,
  columns: { fields?: Record<string, FieldValue[]>; shards?: Int32Array } = {},
): RecordBatch {
  const rows = vectors.length / dim
  return {
    rows,
    dim,
    ids: { type: "int64", values: BigInt64Array.from({ length: rows }, (_, row) => BigInt(row)) },
    vectors,
    fields: columns.fields ?? {},
    payloads: new Array<null>(rows).fill(null),
    ...(columns.shards === undefined ? {} : { shards: columns.shards }),
    origin: {
      file: "test.parquet",
      unit: "row",
      rows: Float64Array.from({ length: rows }, (_, row) => row + 1),
    },
  }
}

/** `rows × dim` standard normal numbers. */
export function gaussians(rows: number, dim: number, seed: number): Float32Array {
  return Float32Array.from({ length: rows * dim }, createRandom(seed).gaussian)
}

export const everyShard = () => true
