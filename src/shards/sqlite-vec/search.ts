import type { FieldValue } from "../../records.js"
import { scan } from "../../vectors/scan.js"
import { TopK } from "../../vectors/topk.js"
import type { StoredColumns } from "../stored.js"
import type { OpenShard } from "./open.js"

/** The answer to a search, in columns, nearest first. */
export interface Hits extends StoredColumns {
  readonly distances: Float64Array
}

/**
 * The nearest `k` rows by an exact scan. Rows are in order of id, so that ties by row are ties by id; whether the
 * vectors come from memory or from the file, the same arithmetic gives the same hits.
 */
export function searchShard(shard: OpenShard, query: Float32Array, k: number): Hits {
  const top = new TopK(k, shard.rows)
  for (const { firstRow, table } of shard.blocks()) {
    const nearest = scan(table, query, k)
    nearest.ranks.forEach((rank, i) => {
      top.push(nearest.distances[i]!, firstRow + rank)
    })
  }
  const { ranks, distances } = top.takeSorted()
  return { ...readColumns(shard, ranks), distances }
}

/** The records of these rows, apart from their vectors. */
export function readColumns(shard: OpenShard, rows: Iterable<number>): StoredColumns {
  const ids: (string | bigint)[] = []
  const fields: FieldValue[][] = shard.spec.fields.map(() => [])
  const payloads: (string | null)[] = []
  for (const row of rows) {
    const record = shard.readRecord(row)
    ids.push(record[0] as string | bigint)
    shard.spec.fields.forEach((field, i) => {
      const value = record[i + 1] as FieldValue
      fields[i]!.push(field.type === "bool" && value !== null ? value === 1n : value)
    })
    payloads.push(record[fields.length + 1] as string | null)
  }
  return { ids, fields, payloads }
}
