/** Databases of the format: what must hold before anything of one is queried. */
import type Database from "better-sqlite3"
import { corrupt } from "../../errors.js"

/**
 * Throws `Corrupt`, naming `file`, unless there is a plain table with these columns. A view or a generated
 * column under a name that is queried could compute whatever its author likes.
 */
export function checkTable(
  db: Database.Database,
  file: string,
  table: string,
  columns: readonly string[],
): void {
  const found = db.prepare("SELECT type, rootpage FROM sqlite_schema WHERE name = ?").raw().all(table)
  const [type, rootPage] = (found[0] ?? []) as [string?, bigint?]
  if (found.length !== 1 || type !== "table" || !rootPage)
    throw corrupt(`${file} has no table ${table}`, { file, table })
  const listed = db.prepare(`SELECT name, hidden FROM pragma_table_xinfo('${table}')`).raw().all()
  const known = new Map(listed as [string, bigint][])
  const missing = columns.find((column) => known.get(column) !== 0n)
  if (missing !== undefined)
    throw corrupt(`${file}: table ${table} has no column ${missing}`, { file, table, column: missing })
}
