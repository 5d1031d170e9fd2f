/** Shards of sqlite-vec as shardyfusion writes them: searched in the threads of our own backend. */
import type { ShardOpener } from "../../../shards/backend.js"
import { sqliteVecBackend } from "../../../shards/sqlite-vec/backend.js"
import { createPool } from "../../../shards/sqlite-vec/pool.js"
import { parsePythonJson } from "../json.js"
import { withDatabase } from "../manifest-file.js"
import { parseDeclaration, SELECT_DECLARATION, type VectorDeclaration } from "./declaration.js"

/** As it is called in the shard's folder. */
export const FILE = "shard.db"

export const opener: ShardOpener = {
  name: sqliteVecBackend.name,
  module: import.meta.url,
  traits: { ...sqliteVecBackend.traits, ranges: false },
  assertInstalled: (purpose) => sqliteVecBackend.assertInstalled(purpose),
  createPool: (options) =>
    createPool(options, {
      files: new URL("./sqlite-vec-file.js", import.meta.url),
      parsePayload: parsePythonJson,
    }),
}

/**
 * What a shard's file says of its vectors, from the first pages of it. Throws `Corrupt`, naming `file`, if
 * they do not say it.
 */
export async function readDeclaration(start: Uint8Array, file: string): Promise<VectorDeclaration> {
  const buffer = Buffer.from(start)
  const size = buffer.length < 100 ? 0 : buffer.readUInt16BE(16)
  const pageBytes = size === 1 ? 65_536 : size
  const pages = Math.floor(buffer.length / Math.max(1, pageBytes))
  // A database of the pages that are there: the schema is in the first ones.
  if (buffer.length >= 100) buffer.writeUInt32BE(pages, 28)
  return withDatabase(buffer.subarray(0, pages * pageBytes), file, (db) =>
    parseDeclaration(db.prepare(SELECT_DECLARATION).pluck().get(), file),
  )
}
