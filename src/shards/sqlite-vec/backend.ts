import type { ShardBackend } from "../backend.js"
import { buildShard } from "./build.js"
import { loadSqlite, loadSqliteVec } from "./packages.js"
import { createPool } from "./pool.js"

/**
 * Shards as SQLite databases with a sqlite-vec table; exact. Building needs better-sqlite3 and sqlite-vec, opening needs
 * better-sqlite3 only.
 */
export const sqliteVecBackend: ShardBackend = {
  name: "sqlite-vec",
  async assertInstalled(purpose) {
    await loadSqlite()
    if (purpose === "build") await loadSqliteVec()
  },
  build: buildShard,
  createPool,
}
