import type Database from "better-sqlite3"
import { invalidInput, unavailable, unsupported } from "../../errors.js"
import type { FieldValue } from "../../records.js"
import type { IndexDescription, ShardRows, ShardSpec } from "../backend.js"
import { checkEmptyDirectory, checkRows } from "../checks.js"
import { describeFields } from "../stored.js"
import { loadSqlite, loadSqliteVec } from "./packages.js"
import {
  chunkRows,
  DIM_MAX,
  FORMAT,
  INSERT_CHUNK,
  INSERT_CHUNK_VECTORS,
  INSERT_META,
  INSERT_ROWIDS,
  insertRecordSql,
  schemaSql,
  shardFile,
  VERSION,
} from "./schema.js"

/**
 * Writes `shard.db` into `dir`. The same rows give the same bytes. SQLite is synchronous: the calling thread
 * is busy until the file is complete, so builds run in worker threads.
 */
export async function buildShard(rows: ShardRows, dir: string, spec: ShardSpec): Promise<IndexDescription> {
  const Sqlite = await loadSqlite()
  const sqliteVec = await loadSqliteVec()
  if (spec.dim > DIM_MAX) {
    throw unsupported(`sqlite-vec shards have at most ${DIM_MAX} dimensions, got ${spec.dim}: use lancedb`)
  }
  await checkEmptyDirectory(dir)
  checkRows(rows, spec)
  const file = shardFile(dir)
  try {
    const db = new Sqlite(file)
    try {
      sqliteVec.load(db)
      // Without journal and syncs: a build that dies is begun anew in another directory. Nothing is left
      // beside the file.
      db.pragma("journal_mode = OFF")
      db.pragma("synchronous = OFF")
      // Lets us write to shadow tables.
      db.unsafeMode()
      db.exec("BEGIN")
      writeShard(db, rows, spec)
      db.exec("COMMIT")
    } finally {
      db.close()
    }
  } catch (cause) {
    throw buildError(file, cause)
  }
  return { kind: "flat" }
}

function writeShard(db: Database.Database, rows: ShardRows, spec: ShardSpec): void {
  db.exec(schemaSql(spec, rows.rows))
  const insertMeta = db.prepare(INSERT_META)
  const meta = {
    format: FORMAT,
    version: VERSION,
    dim: spec.dim,
    metric: spec.metric,
    rows: rows.rows,
    idType: spec.id.type,
    fields: describeFields(spec.fields),
  }
  for (const [key, value] of Object.entries(meta)) insertMeta.run(key, String(value))

  const insertRecord = db.prepare(insertRecordSql(spec))
  const columns = spec.fields.map((field) => rows.fields[field.name]!)
  for (let row = 0; row < rows.rows; row++) {
    const fields = columns.map((column) => toSqlite(column[row]!))
    insertRecord.run(BigInt(row + 1), rows.ids.values[row], ...fields, rows.payloads[row])
  }
  writeVectors(db, rows, spec.dim)
}

/**
 * Fills the vec0 table by way of its shadow tables, after the records: through the extension each row takes
 * many times as long.
 */
function writeVectors(db: Database.Database, { rows, vectors }: ShardRows, dim: number): void {
  const size = chunkRows(rows)
  const insertChunk = db.prepare(INSERT_CHUNK)
  const insertVectors = db.prepare(INSERT_CHUNK_VECTORS)
  for (let first = 0, chunk = 1n; first < rows; first += size, chunk++) {
    const used = Math.min(size, rows - first)
    const validity = new Uint8Array(size / 8)
    const rowids = new BigInt64Array(size)
    for (let place = 0; place < used; place++) {
      validity[place >> 3]! |= 1 << (place & 7)
      rowids[place] = BigInt(first + place + 1)
    }
    const own = vectors.subarray(first * dim, (first + used) * dim)
    let whole = own
    if (used < size) {
      whole = new Float32Array(size * dim)
      whole.set(own)
    }
    insertChunk.run(chunk, BigInt(size), validity, rowids)
    insertVectors.run(chunk, whole)
  }
  db.prepare(INSERT_ROWIDS).run(BigInt(size), BigInt(size))
}

function toSqlite(value: FieldValue): string | number | bigint | null {
  return typeof value === "boolean" ? BigInt(value) : value
}

function buildError(file: string, cause: unknown): unknown {
  if (!(cause instanceof Error) || !("code" in cause)) return cause
  const message = `${file} could not be written: ${cause.message}`
  return cause.code === "SQLITE_CANTOPEN"
    ? invalidInput(message, { file }, cause)
    : unavailable(message, { file }, cause)
}
