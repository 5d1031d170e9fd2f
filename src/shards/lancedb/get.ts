import { corrupt } from "../../errors.js"
import type { StoredRecord } from "../../records.js"
import { viewRecord } from "../stored.js"
import { type OpenTable, reading } from "./open.js"
import { recordColumns } from "./schema.js"
import { readColumns, readVectors } from "./search.js"

// Each query scans the column of ids; the list must not make its SQL unwieldy.
const IDS_PER_QUERY = 1000

/** Records by stored id; an id that is not there is not in the map. */
export async function getRecords(
  shard: OpenTable,
  ids: readonly (string | bigint)[],
): Promise<Map<string | bigint, StoredRecord>> {
  const { table, spec, file } = shard
  const wanted = [...new Set(ids)]
  const records = new Map<string | bigint, StoredRecord>()
  for (let start = 0; start < wanted.length; start += IDS_PER_QUERY) {
    const list = wanted.slice(start, start + IDS_PER_QUERY).map(toSql)
    const found = await reading(file, () =>
      table
        .query()
        .where(`id IN (${list.join(", ")})`)
        .select([...recordColumns(spec), "vector"])
        .toArrow(),
    )
    const columns = readColumns(found, shard)
    readVectors(found).forEach((vector, row) => {
      records.set(columns.ids[row]!, { ...viewRecord(columns, row, spec, file), vector })
    })
  }
  return records
}

/** The `count` rows from `first` on, in the order in which they lie in the table. */
export async function readRows(
  shard: OpenTable,
  first: number,
  count: number,
): Promise<readonly StoredRecord[]> {
  const { table, spec, file } = shard
  const found = await reading(file, () =>
    table
      .query()
      .select([...recordColumns(spec), "vector"])
      .offset(first)
      .limit(count)
      .toArrow(),
  )
  if (found.numRows !== count) {
    throw corrupt(`${file}: ${count} rows from row ${first} on were read, found ${found.numRows}`, { file })
  }
  const columns = readColumns(found, shard)
  return readVectors(found).map((vector, row) => ({ ...viewRecord(columns, row, spec, file), vector }))
}

/** An id as a literal of LanceDB's SQL, in which only the quote is special. */
function toSql(id: string | bigint): string {
  // The lowest integer, written plainly, would be read as a float.
  return typeof id === "string" ? `'${id.replaceAll("'", "''")}'` : `CAST('${id}' AS BIGINT)`
}
