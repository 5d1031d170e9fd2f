import type Database from "better-sqlite3"
import { withPackage } from "../../packages.js"

type SqliteConstructor = typeof Database

/** The constructor of better-sqlite3, tried out: its native part loads only with the first database. */
export function loadSqlite(): Promise<SqliteConstructor> {
  return withPackage("better-sqlite3", "the sqlite-vec backend", async () => {
    const { default: Sqlite } = await import("better-sqlite3")
    new Sqlite(":memory:").close()
    return Sqlite
  })
}

/** The sqlite-vec extension, whose library file is in a package of its own per platform. */
export function loadSqliteVec(): Promise<typeof import("sqlite-vec")> {
  return withPackage("sqlite-vec", "the sqlite-vec backend", async () => {
    const sqliteVec = await import("sqlite-vec")
    sqliteVec.getLoadablePath()
    return sqliteVec
  })
}
