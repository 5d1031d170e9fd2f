import { writeFile } from "node:fs/promises"
import { join } from "node:path"
import type Database from "better-sqlite3"
import { invalidInput, unavailable, unsupported } from "../../errors.js"
import type { FieldValue } from "../../records.js"
import type { IndexDescription, ShardRows, ShardSpec } from "../backend.js"
import { checkEmptyDirectory, checkRows } from "../checks.js"
import { describeFields } from "../stored.js"
import { cellsOf, encodeShardCells } from "./cells.js"
import { loadSqlite, loadSqliteVec } from "./packages.js"
import {
  CELLS,
  CELLS_FILE,
  chunkRows,
  DIM_MAX,
  FORMAT,
  INSERT_CHUNK,
  INSERT_CHUNK_VECTORS,
  INSERT_META,
  INSERT_ROWIDS,
  insertRecordSql,
  PAGE_BYTES,
  schemaSql,
  shardFile,
  VERSION_BY_CELL,
} from "./schema.js"

/**
 * Writes `shard.db` and `cells.bin` into `dir`. The same rows and codebook give the same bytes. SQLite is
 * synchronous: the calling thread is busy until the files are complete, so builds run in worker threads.
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
  const cells = cellsOf(rows, spec)
  try {
    const db = new Sqlite(file)
    try {
      sqliteVec.load(db)
      // What the file looks like is part of the format: see docs/format.md.
      db.pragma(`page_size = ${PAGE_BYTES}`)
      db.pragma("auto_vacuum = NONE")
      // Without journal and syncs: a build that dies is begun anew in another directory. Nothing is left
      // beside the file.
      db.pragma("journal_mode = OFF")
      db.pragma("synchronous = OFF")
      // Lets us write to shadow tables.
      db.unsafeMode()
      db.exec("BEGIN")
      writeShard(db, rows, spec, cells.order)
      db.exec("COMMIT")
    } finally {
      db.close()
    }
    await writeFile(join(dir, CELLS_FILE), encodeShardCells(rows, spec, cells, file))
  } catch (cause) {
    throw buildError(file, cause)
  }
  return { kind: CELLS, cells: cells.starts.length - 1 }
}

/** `order`: the row at each position. */
function writeShard(db: Database.Database, rows: ShardRows, spec: ShardSpec, order: Uint32Array): void {
  db.exec(schemaSql(spec, rows.rows))
  const insertMeta = db.prepare(INSERT_META)
  const meta = {
    format: FORMAT,
    version: VERSION_BY_CELL,
    dim: spec.dim,
    metric: spec.metric,
    rows: rows.rows,
    idType: spec.id.type,
    fields: describeFields(spec.fields),
  }
  for (const [key, value] of Object.entries(meta)) insertMeta.run(key, String(value))

  const insertRecord = db.prepare(insertRecordSql(spec))
  const columns = spec.fields.map((field) => rows.fields[field.name]!)
  for (const [position, row] of order.entries()) {
    const fields = columns.map((column) => toSqlite(column[row]!))
    insertRecord.run(BigInt(position + 1), rows.ids.values[row], ...fields, rows.payloads[row])
  }
  writeVectors(db, rows.vectors, spec.dim, order)
}

/**
 * Fills the vec0 table by way of its shadow tables, after the records: through the extension each row takes
 * many times as long.
 */
function writeVectors(db: Database.Database, vectors: Float32Array, dim: number, order: Uint32Array): void {
  const rows = order.length
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
    const own = new Float32Array(size * dim)
    for (let place = 0; place < used; place++) {
      const row = order[first + place]!
      own.set(vectors.subarray(row * dim, (row + 1) * dim), place * dim)
    }
    insertChunk.run(chunk, BigInt(size), validity, rowids)
    insertVectors.run(chunk, own)
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
