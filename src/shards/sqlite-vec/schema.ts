/**
 * What a sqlite-vec shard looks like inside: the one place that knows its table and column names.
 *
 * One SQLite database, `shard.db`. Rows are numbered from 1, in order of cells, or in the first version of
 * id; that number is the rowid everywhere. What cells there are is in a file beside it (`cells.ts`).
 *
 * - `vec_index`: a `vec0` virtual table, so that any SQLite with the sqlite-vec extension can search it. Its
 *   vectors lie in its shadow tables, in chunks of equal size: `vec_index_chunks` (how many rows a chunk has
 *   room for, which of them are in use, their rowids) and `vec_index_vector_chunks00` (one blob of float32
 *   per chunk). We read and write those as what they are, a file format: it is much faster, and reading needs
 *   no extension.
 * - `records`: id, one column per field (`c0`, `c1`, … in order of declaration) and the payload as JSON text.
 * - `meta`: format, version and what else tells that the file belongs to a snapshot.
 */
import { join } from "node:path"
import type { FieldType } from "../../records.js"
import type { Metric } from "../../vectors/metric.js"
import type { ShardSpec } from "../backend.js"

export const FORMAT = "vecsnap-sqlite-vec"
/** Rows in order of id. */
export const VERSION_BY_ID = "1"
/** Rows in order of cells, which a file of their own describes. */
export const VERSION_BY_CELL = "2"

export function shardFile(dir: string): string {
  return join(dir, "shard.db")
}

/** The file of the shard's cells, beside its database; see vectors/cells/file.ts. */
export const CELLS_FILE = "cells.bin"

/** Kinds of index: of all rows in order of id; of cells, whose rows lie together. */
export const FLAT = "flat"
export const CELLS = "cells"

// sqlite-vec has no inner product. Under `dot` its table says l2: the vectors are the same, and only we rank
// them.
const VEC0_METRIC: Readonly<Record<Metric, string>> = { cosine: "cosine", l2: "l2", dot: "l2" }

// STRICT, so that a value of another type is an error and not a silent conversion. ANY for floats, because a
// REAL column turns -0 into 0.
const COLUMN_TYPE: Readonly<Record<FieldType, string>> = {
  string: "TEXT",
  int64: "INTEGER",
  float64: "ANY",
  bool: "INTEGER",
}

/** sqlite-vec's own limit (`SQLITE_VEC_VEC0_MAX_DIMENSIONS`). */
export const DIM_MAX = 8192

/** Pages of the databases that we build. */
export const PAGE_BYTES = 4096

const CHUNK_ROWS_MAX = 1024

/**
 * Rows per chunk of the vec0 table. Every chunk takes its full size on disk, used or not, so that the rows
 * are spread evenly over as few chunks as hold them. sqlite-vec wants a multiple of 8.
 */
export function chunkRows(rows: number): number {
  const chunks = Math.ceil(rows / CHUNK_ROWS_MAX)
  return Math.ceil(rows / chunks / 8) * 8
}

export function schemaSql(spec: ShardSpec, rows: number): string {
  return `
    ${META_SQL};
    ${recordsSql(spec)};
    ${vecIndexSql(spec, chunkRows(rows))};`
}

const vecIndexSql = (spec: ShardSpec, chunkSize: number): string =>
  `CREATE VIRTUAL TABLE vec_index USING vec0(
      vector float[${spec.dim}] distance_metric=${VEC0_METRIC[spec.metric]}, chunk_size=${chunkSize}
    )`

const META_SQL =
  "CREATE TABLE meta (key TEXT NOT NULL PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID"

function recordsSql(spec: ShardSpec): string {
  const idType = spec.id.type === "string" ? "TEXT" : "INTEGER"
  const columns = [
    "position INTEGER PRIMARY KEY",
    `id ${idType} NOT NULL UNIQUE`,
    ...spec.fields.map((field, i) => `c${i} ${COLUMN_TYPE[field.type]}`),
    "payload TEXT",
  ]
  return `CREATE TABLE records (${columns.join(", ")}) STRICT`
}

/**
 * The tables that we read, by name, each with the statement that must have made it: sqlite-vec's own for its
 * shadow tables. Anything else under these names (a view, a generated column, a table without its index)
 * could make a plain SELECT compute whatever its author likes, for as long as they like.
 */
function tablesRead(spec: ShardSpec): ReadonlyMap<string, string> {
  return new Map([
    ["meta", META_SQL],
    ["records", recordsSql(spec)],
    [
      "vec_index_chunks",
      'CREATE TABLE "vec_index_chunks"(chunk_id INTEGER PRIMARY KEY AUTOINCREMENT,size INTEGER NOT NULL,validity BLOB NOT NULL,rowids BLOB NOT NULL)',
    ],
    [
      "vec_index_vector_chunks00",
      'CREATE TABLE "vec_index_vector_chunks00"(rowid PRIMARY KEY,vectors BLOB NOT NULL)',
    ],
  ])
}

/** What sqlite-vec and SQLite make for themselves besides {@link tablesRead}. Indexes have no statement. */
const OBJECTS_BESIDE = [
  ["vec_index_info", 'CREATE TABLE "vec_index_info" (key text primary key, value any)'],
  [
    "vec_index_rowids",
    'CREATE TABLE "vec_index_rowids"(rowid INTEGER PRIMARY KEY AUTOINCREMENT,id,chunk_id INTEGER,chunk_offset INTEGER)',
  ],
  ["sqlite_sequence", "CREATE TABLE sqlite_sequence(name,seq)"],
  ["sqlite_autoindex_records_1", null],
  ["sqlite_autoindex_vec_index_info_1", null],
  ["sqlite_autoindex_vec_index_vector_chunks00_1", null],
] as const

/**
 * All that a shard's database has, by name, each with the statement that must have made it. That of
 * `vec_index` is as {@link plainSql} has it.
 */
export function schemaObjects(spec: ShardSpec): ReadonlyMap<string, string | null> {
  return new Map([...tablesRead(spec), ...OBJECTS_BESIDE, ["vec_index", plainSql(vecIndexSql(spec, 0))]])
}

/** The statement of `vec_index` without the number of rows that a chunk has, and without its layout. */
export const plainSql = (sql: string): string =>
  sql.replace(/\s+/g, " ").replace(/chunk_size=\d{1,9} /, "chunk_size=0 ")

export const INSERT_META = "INSERT INTO meta (key, value) VALUES (?, ?)"
// What sqlite-vec itself writes for rows inserted in order, but one statement a chunk instead of several a
// row.
export const INSERT_CHUNK =
  "INSERT INTO vec_index_chunks (chunk_id, size, validity, rowids) VALUES (?, ?, ?, ?)"
export const INSERT_CHUNK_VECTORS = "INSERT INTO vec_index_vector_chunks00 (rowid, vectors) VALUES (?, ?)"
/** Says of every record which chunk has its vector and where. Parameters: rows per chunk, twice. */
export const INSERT_ROWIDS =
  "INSERT INTO vec_index_rowids (rowid, chunk_id, chunk_offset) " +
  "SELECT position, (position - 1) / ? + 1, (position - 1) % ? FROM records ORDER BY position"

export function insertRecordSql(spec: ShardSpec): string {
  const names = ["position", ...recordColumns(spec)]
  return `INSERT INTO records (${names.join(", ")}) VALUES (${names.map(() => "?").join(", ")})`
}

export const SELECT_SCHEMA = "SELECT type, name, sql FROM sqlite_schema"
// Nothing is read without a bound: pages of a hostile file may lead to one another without end.
// Nor is anything longer than it may be: its length is known before it is read, and one short chain of pages
// could be read over and over for it.
export const SELECT_META =
  "SELECT key, value FROM meta WHERE octet_length(key) + octet_length(value) <= ? LIMIT 100"
/** How many records there are, counted up to the bound given, and the range of their positions. */
export const SELECT_EXTENT =
  "SELECT (SELECT count(*) FROM (SELECT 1 FROM records LIMIT ?)), " +
  "(SELECT min(position) FROM records), (SELECT max(position) FROM records)"
export const SELECT_CHUNKS =
  "SELECT chunk_id, size, iif(octet_length(validity) <= ?, validity, NULL) AS validity, " +
  "iif(octet_length(rowids) <= ?, rowids, NULL) AS rowids FROM vec_index_chunks ORDER BY chunk_id"
/** The vectors of a chunk, or how many bytes they have. Parameters: the bytes expected, the chunk. */
export const SELECT_CHUNK_VECTORS =
  "SELECT iif(octet_length(vectors) = ?, vectors, octet_length(vectors)) FROM vec_index_vector_chunks00 WHERE rowid = ?"
export const SELECT_POSITION = "SELECT position FROM records WHERE id = ?"

/** Columns: id, fields in order, payload. Parameters: the position, and the most bytes that it may have. */
export function selectRecordSql(spec: ShardSpec): string {
  const columns = recordColumns(spec)
  const bytes = columns.map((column) => `ifnull(octet_length(${column}), 0)`).join(" + ")
  return `SELECT ${columns.join(", ")} FROM records WHERE position = ? AND ${bytes} <= ?`
}

function recordColumns(spec: ShardSpec): string[] {
  return ["id", ...spec.fields.map((_, i) => `c${i}`), "payload"]
}
