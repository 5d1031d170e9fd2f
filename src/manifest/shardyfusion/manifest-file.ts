/**
 * A manifest as it is stored: a SQLite database in one object, with a row about the snapshot in `build_meta`
 * and one per shard in `shards`.
 */
import type Database from "better-sqlite3"
import { corrupt, isVecsnapError, messageOf } from "../../errors.js"
import { MAX_SHARDS } from "../../sharding/options.js"
import { loadSqlite } from "../../shards/sqlite-vec/packages.js"
import { decodeManifest, type ForeignManifest, META_COLUMNS, type Row, SHARD_COLUMNS } from "./documents.js"
import { checkTable } from "./sqlite.js"

/** The longest that is read, into memory: some 10 KB for each of the most shards there may be. */
export const MANIFEST_MOST_BYTES = 512 * 2 ** 20

const MAGIC = "SQLite format 3\0"

/**
 * Reads a manifest from its bytes. Throws `Corrupt`, naming `key`, if it is none or damaged, `Unsupported`
 * for another version of it, or if better-sqlite3 is not installed.
 */
export async function readManifestFile(bytes: Uint8Array, key: string): Promise<ForeignManifest> {
  return withDatabase(bytes, key, (db) => {
    checkTable(db, key, "build_meta", META_COLUMNS)
    checkTable(db, key, "shards", SHARD_COLUMNS)
    const select = (table: string, columns: readonly string[], limit: number): Row[] =>
      db.prepare(`SELECT ${columns.join(", ")} FROM ${table} LIMIT ${limit}`).all() as Row[]
    const [meta] = select("build_meta", META_COLUMNS, 1)
    // One more than there may be, so that it is noticed.
    return decodeManifest(key, meta, select("shards", SHARD_COLUMNS, MAX_SHARDS + 1))
  })
}

/** Runs `use` with a database in memory. What SQLite throws is `Corrupt`, naming `key`. */
export async function withDatabase<T>(
  bytes: Uint8Array,
  key: string,
  use: (db: Database.Database) => T,
): Promise<T> {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  if (buffer.subarray(0, MAGIC.length).toString("latin1") !== MAGIC)
    throw corrupt(`${key} is no SQLite database`, { key })
  // "File format write version" and "read version": 1 for rollback journals, 2 for a write-ahead log, which a
  // database in memory cannot have.
  const [write, read] = [buffer[18], buffer[19]]
  if (write !== 1 || read !== 1)
    throw corrupt(`${key} has the file format ${write}/${read}, expected 1/1`, { key })
  const Sqlite = await loadSqlite()
  try {
    const db = new Sqlite(buffer)
    try {
      // It comes from elsewhere: see what is done for shards.
      db.pragma("trusted_schema = OFF")
      db.pragma("query_only = ON")
      db.pragma("cell_size_check = ON")
      db.defaultSafeIntegers(true)
      return use(db)
    } finally {
      db.close()
    }
  } catch (error) {
    if (isVecsnapError(error)) throw error
    throw corrupt(`${key} is damaged: ${messageOf(error)}`, { key }, error)
  }
}
