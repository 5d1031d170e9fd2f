/**
 * What a LanceDB shard looks like inside: the one place that knows its table and column names.
 *
 * One LanceDB database with one table, `vectors`, in `vectors.lance/`. Rows are in order of id, so that
 * LanceDB's row ids are too. Columns: `id` (utf8 or int64), `vector` (fixed-size list of float32), one per
 * field (`c0`, `c1`, … in order of declaration), `payload` (JSON text). The schema's metadata says what else
 * tells that the table belongs to a snapshot. One IVF_FLAT index on `vector`.
 */
import { join } from "node:path"
import type { Table as ArrowTable, Data, RecordBatch, Schema } from "apache-arrow"
import type { FieldType, FieldValue } from "../../records.js"
import type { ShardRows, ShardSpec } from "../backend.js"
import { describeFields, type PayloadParser, type StoredColumns } from "../stored.js"
import type { Arrow } from "./packages.js"

export const TABLE = "vectors"
export const INDEX = "vector_idx"
export const FORMAT = "vecsnap-lancedb"
export const VERSION = "1"

/**
 * Lengths of vectors that LanceDB can handle: it computes in single precision, where squares of very large
 * lengths are Infinity and those of very small ones 0, and leaves out such rows in silence. The lower limit
 * is for cosine only.
 */
export const LENGTH_MIN = 1e-15
export const LENGTH_MAX = 1e15

export function tableDir(dir: string, table = TABLE): string {
  return join(dir, `${table}.lance`)
}

/** Names of the columns that hold a record, apart from its vector. */
function recordColumns(spec: ShardSpec): string[] {
  return ["id", ...spec.fields.map((_, i) => `c${i}`), "payload"]
}

export function arrowSchema(arrow: Arrow, spec: ShardSpec): Schema {
  const id = spec.id.type === "string" ? new arrow.Utf8() : new arrow.Int64()
  const metadata = new Map([
    ["format", FORMAT],
    ["version", VERSION],
    ["metric", spec.metric],
    ["fields", describeFields(spec.fields)],
  ])
  return new arrow.Schema(
    [
      new arrow.Field("id", id, false),
      new arrow.Field("vector", vectorType(arrow, spec.dim), false),
      ...spec.fields.map((field, i) => new arrow.Field(`c${i}`, columnType(arrow, field.type), true)),
      new arrow.Field("payload", new arrow.Utf8(), true),
    ],
    metadata,
  )
}

function vectorType(arrow: Arrow, dim: number) {
  return new arrow.FixedSizeList(dim, new arrow.Field("item", new arrow.Float32(), true))
}

function columnType(arrow: Arrow, type: FieldType) {
  switch (type) {
    case "string":
      return new arrow.Utf8()
    case "int64":
      return new arrow.Int64()
    case "float64":
      return new arrow.Float64()
    case "bool":
      return new arrow.Bool()
  }
}

/** How records are laid out in a table, and how it is searched. */
export interface TableLayout {
  /** Names of the columns that hold a record, apart from its vector. */
  readonly columns: readonly string[]
  readColumns(found: ArrowTable): StoredColumns
  /** A condition in LanceDB's SQL that holds for the records with these ids. */
  where(ids: readonly (string | bigint)[]): string
  /** Whether searches go by the index, in which then all rows are. Else all vectors are compared. */
  readonly indexed: boolean
  /** Places of the rows in order of id, where they do not lie in that order. */
  order?(): Promise<readonly number[]>
  readonly parsePayload?: PayloadParser
}

/** The layout of the tables that this backend builds. */
export function ownLayout(spec: ShardSpec): TableLayout {
  return {
    columns: recordColumns(spec),
    readColumns(found) {
      // An answer without rows has no columns either.
      const column = (name: string): FieldValue[] => [...(found.getChild(name) ?? [])]
      return {
        ids: column("id") as (string | bigint)[],
        fields: spec.fields.map((_, i) => column(`c${i}`)),
        payloads: column("payload") as (string | null)[],
      }
    },
    where: (ids) => `id IN (${ids.map(toSql).join(", ")})`,
    indexed: true,
  }
}

/** An id as a literal of LanceDB's SQL, in which only the quote is special. */
export function toSql(id: string | bigint): string {
  // The lowest integer, written plainly, would be read as a float.
  return typeof id === "string" ? `'${id.replaceAll("'", "''")}'` : `CAST('${id}' AS BIGINT)`
}

/** Rows from `start` up to `end` as one Arrow batch. The vectors are not copied. */
export function arrowBatch(
  arrow: Arrow,
  schema: Schema,
  rows: ShardRows,
  spec: ShardSpec,
  start: number,
  end: number,
): RecordBatch {
  const length = end - start
  const column = (values: readonly FieldValue[], index: number): Data =>
    arrow.vectorFromArray(values.slice(start, end), schema.fields[index]!.type).data[0]!
  const floats = arrow.makeData({
    type: new arrow.Float32(),
    length: length * spec.dim,
    nullCount: 0,
    data: rows.vectors.subarray(start * spec.dim, end * spec.dim),
  })
  const children = [
    rows.ids.type === "string"
      ? column(rows.ids.values, 0)
      : arrow.makeData({
          type: new arrow.Int64(),
          length,
          nullCount: 0,
          data: rows.ids.values.subarray(start, end),
        }),
    arrow.makeData({ type: vectorType(arrow, spec.dim), length, nullCount: 0, child: floats }),
    ...spec.fields.map((field, i) => column(rows.fields[field.name]!, i + 2)),
    column(rows.payloads, spec.fields.length + 2),
  ]
  const struct = arrow.makeData({ type: new arrow.Struct(schema.fields), length, nullCount: 0, children })
  return new arrow.RecordBatch(schema, struct)
}
