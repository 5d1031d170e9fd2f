/**
 * Records: what goes into a snapshot and comes back from it.
 *
 * A user hands over {@link VectorRecord} objects or files; inside, everything flows in columnar
 * {@link RecordBatch}es.
 */

/**
 * A snapshot has one id type. Integers are 64-bit; they may be given as `number` (integral, safe) or
 * `bigint`.
 */
export type Id = string | number | bigint

export type IdType = "string" | "int64"

/**
 * Ids of a snapshot. "mixed" is found in snapshots of other formats only: strings and integers, or it is not
 * known which. Each integer then comes back as `number` where that is exact, else as `bigint`, and integers
 * come before strings in order.
 */
export type SnapshotIdType = IdType | "mixed"

export const FIELD_TYPES = ["string", "int64", "float64", "bool"] as const

/** Types of the columns that can be routed and filtered on. */
export type FieldType = (typeof FIELD_TYPES)[number]

/**
 * A value of a field. `int64` is a `bigint` inside batches; see {@link FieldSpec.wide} for what comes back.
 */
export type FieldValue = string | number | bigint | boolean | null

/** Any JSON value, kept as given and handed back with a hit. Integers beyond 2^53 are `bigint`. */
export type Json =
  | string
  | number
  | bigint
  | boolean
  | null
  | readonly Json[]
  | { readonly [key: string]: Json }

export interface VectorRecord {
  readonly id: Id
  /**
   * `dim` finite numbers; stored as float32. Bytes (`Buffer`, `Uint8Array`) are read by the `vectorEncoding`
   * of `recordsSource`, else refused, unless they are as many float32 values as the snapshot has that a build
   * replaces.
   */
  readonly vector: ArrayLike<number>
  /**
   * Values of the declared fields; a field that is absent or undefined is null. TypeScript wants an interface
   * spread: `fields: { ...document }`.
   */
  readonly fields?: Readonly<Record<string, FieldValue | undefined>> | undefined
  /**
   * Whatever JSON can hold; properties that are undefined are left out. An interface of yours fits, though
   * TypeScript does not know all its values to be JSON: building throws `InvalidInput` for what JSON cannot
   * hold (functions, dates, maps, NaN), naming its place.
   */
  readonly payload?: Json | object | undefined
  /** For the `explicit` strategy: the number of the shard. */
  readonly shard?: number | undefined
}

export interface FieldSpec {
  readonly name: string
  readonly type: FieldType
  /**
   * For `int64`: whether some value of the snapshot lies beyond ±(2^53 - 1). Then all values of the field
   * come back as `bigint`, else all as `number`; never mixed.
   */
  readonly wide?: boolean
}

/** Ids of a batch, all of one type. */
export type IdColumn =
  | { readonly type: "string"; readonly values: readonly string[] }
  | { readonly type: "int64"; readonly values: BigInt64Array }

/** How the rows of an input are counted, from 1: by lines of text, or by themselves. */
export type RowUnit = "row" | "line"

/** Where the rows of a batch come from, for messages that name file and row. */
export interface Origin {
  /** File, object or "records"; what the user would recognise. */
  readonly file: string
  readonly unit: RowUnit
  /** Number of each row of the batch in that file. */
  readonly rows: Float64Array
}

/** Columnar rows. All columns have `rows` entries; `vectors` is row-major, `rows × dim`. */
export interface RecordBatch {
  readonly rows: number
  readonly dim: number
  readonly ids: IdColumn
  readonly vectors: Float32Array
  /** A column per declared field, by name; `int64` values as `bigint`. */
  readonly fields: Readonly<Record<string, readonly FieldValue[]>>
  /** JSON text of each payload, or null for none. */
  readonly payloads: readonly (string | null)[]
  /** Shard of each row as given by the input; only for the `explicit` strategy. */
  readonly shards?: Int32Array
  readonly origin: Origin
}

/** Where a row of a batch came from, for messages: "words.parquet, row 17". */
export const rowPlace = ({ file, unit, rows }: Origin, row: number): string => `${file}, ${unit} ${rows[row]}`

/** A record as it is stored in a shard and handed back. */
export interface StoredRecord {
  readonly id: Id
  readonly vector: Float32Array
  readonly fields: Readonly<Record<string, FieldValue>>
  readonly payload: Json
}

/**
 * Order of ids wherever one is needed: integers by value, strings by UTF-16 code unit, as JavaScript's `<`;
 * integers before strings.
 */
export function compareIds(a: Id, b: Id): number {
  if (typeof a === "string" ? typeof b !== "string" : typeof b === "string")
    return typeof a === "string" ? 1 : -1
  return a < b ? -1 : a > b ? 1 : 0
}
