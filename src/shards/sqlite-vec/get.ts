import type { StoredColumns } from "../stored.js"
import type { OpenShard } from "./open.js"
import { readColumns } from "./search.js"

/** Records with their vectors, in columns. */
export interface StoredRows extends StoredColumns {
  /** Row-major, a row per record. */
  readonly vectors: Float32Array
}

/** Records that were found, in the order asked for. */
export interface FoundRecords extends StoredRows {
  /** For each record its place in the list of ids asked for. */
  readonly places: readonly number[]
}

/** A shard as these see it. */
type ReadShard = Pick<
  OpenShard,
  "file" | "spec" | "rows" | "blocks" | "readRecord" | "findRow" | "readVector" | "readVectors"
>

export function getRecords(shard: ReadShard, ids: readonly (string | bigint)[]): FoundRecords {
  const { dim } = shard.spec
  const found: { readonly place: number; readonly row: number }[] = []
  ids.forEach((id, place) => {
    const row = shard.findRow(id)
    if (row !== undefined) found.push({ place, row })
  })
  const vectors = new Float32Array(found.length * dim)
  found.forEach(({ row }, i) => {
    vectors.set(shard.readVector(row), i * dim)
  })
  const columns = readColumns(
    shard,
    found.map(({ row }) => row),
  )
  return { ...columns, places: found.map(({ place }) => place), vectors }
}

/** The `count` rows from `first` on. */
export function readRows(shard: ReadShard, first: number, count: number): StoredRows {
  const rows = Array.from({ length: count }, (_, i) => first + i)
  return { ...readColumns(shard, rows), vectors: shard.readVectors(first, count) }
}
