import { corrupt } from "../../errors.js"
import type { FieldType, FieldValue, IdType } from "../../records.js"
import { NearestRows } from "../../vectors/scan.js"
import type { StoredColumns } from "../stored.js"
import type { OpenShard } from "./open.js"

// What SQLite hands back where the file is sound: integers as `bigint`, whatever their size.
const ID_VALUE: Readonly<Record<IdType, string>> = { string: "string", int64: "bigint" }
const FIELD_VALUE: Readonly<Record<FieldType, string>> = {
  string: "string",
  int64: "bigint",
  float64: "number",
  bool: "bigint",
}

/** The answer to a search, in columns, nearest first. */
export interface Hits extends StoredColumns {
  readonly distances: Float64Array
}

/**
 * The nearest `k` rows by an exact scan. Rows are in order of id, so that ties by row are ties by id; whether the
 * vectors come from memory or from the file, the same arithmetic gives the same hits.
 */
export function searchShard(shard: OpenShard, query: Float32Array, k: number): Hits {
  const { metric, dim } = shard.spec
  const nearest = new NearestRows(metric, query, dim, k, shard.rows)
  for (const { firstRow, table } of shard.blocks()) nearest.add(table, firstRow)
  const { ranks, distances } = nearest.takeSorted()[0]!
  return { ...readColumns(shard, ranks), distances }
}

/** The records of these rows, apart from their vectors. */
export function readColumns(shard: OpenShard, rows: Iterable<number>): StoredColumns {
  const ids: (string | bigint)[] = []
  const fields: FieldValue[][] = shard.spec.fields.map(() => [])
  const payloads: (string | null)[] = []
  for (const row of rows) {
    const record = shard.readRecord(row)
    const misfit = (what: string, value: unknown): Error =>
      corrupt(`${shard.file}: row ${row + 1} has a ${typeof value} for its ${what}`, { file: shard.file })
    const [id] = record
    if (typeof id !== ID_VALUE[shard.spec.id.type]) throw misfit("id", id)
    ids.push(id as string | bigint)
    shard.spec.fields.forEach((field, i) => {
      const value = record[i + 1]
      if (value !== null && typeof value !== FIELD_VALUE[field.type])
        throw misfit(`field "${field.name}"`, value)
      fields[i]!.push(field.type === "bool" && value !== null ? value === 1n : (value as FieldValue))
    })
    const payload = record[fields.length + 1]
    if (payload !== null && typeof payload !== "string") throw misfit("payload", payload)
    payloads.push(payload)
  }
  return { ids, fields, payloads }
}
