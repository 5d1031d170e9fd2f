import type Database from "better-sqlite3"
import { invalidInput, unavailable, unsupported } from "../../errors.js"
import type { FieldValue } from "../../records.js"
import type { IndexDescription, ShardRows, ShardSpec } from "../backend.js"
import { checkEmptyDirectory, checkRows } from "../checks.js"
import { describeFields } from "../stored.js"
import {
  DIM_MAX,
  FORMAT,
  INSERT_META,
  INSERT_VECTOR,
  insertRecordSql,
  schemaSql,
  shardFile,
  VERSION,
} from "./layout.js"
import { loadSqlite, loadSqliteVec } from "./packages.js"

/**
 * Writes `shard.db` into `dir`. The same rows give the same bytes. SQLite is synchronous: the calling thread is busy
 * until the file is complete, so builds run in worker threads.
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
      // Without journal and syncs: a build that dies is begun anew in another directory. Nothing is left beside the file.
      db.pragma("journal_mode = OFF")
      db.pragma("synchronous = OFF")
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
  const insertVector = db.prepare(INSERT_VECTOR)
  for (let row = 0; row < rows.rows; row++) {
    // vec0 takes integers only as bigint: better-sqlite3 binds every number as a float.
    insertVector.run(BigInt(row + 1), rows.vectors.subarray(row * spec.dim, (row + 1) * spec.dim))
  }
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
