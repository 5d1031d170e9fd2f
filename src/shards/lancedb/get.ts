import { corrupt } from "../../errors.js"
import { compareIds, type StoredRecord } from "../../records.js"
import { viewRecord } from "../stored.js"
import { type OpenTable, reading } from "./open.js"
import { readVectors } from "./search.js"

// Each query scans the column of ids; the list must not make its SQL unwieldy.
const IDS_PER_QUERY = 1000

/** Records by stored id; an id that is not there is not in the map. */
export async function getRecords(
  shard: OpenTable,
  ids: readonly (string | bigint)[],
): Promise<Map<string | bigint, StoredRecord>> {
  const { table, spec, file, layout } = shard
  const wanted = [...new Set(ids)]
  const records = new Map<string | bigint, StoredRecord>()
  for (let start = 0; start < wanted.length; start += IDS_PER_QUERY) {
    const list = wanted.slice(start, start + IDS_PER_QUERY)
    const found = await reading(file, () =>
      table
        .query()
        .where(layout.where(list))
        .select([...layout.columns, "vector"])
        .toArrow(),
    )
    const columns = layout.readColumns(found)
    readVectors(found).forEach((vector, row) => {
      records.set(columns.ids[row]!, { ...viewRecord(columns, row, spec, file, layout.parsePayload), vector })
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
  const { table, spec, file, layout } = shard
  const places = (await layout.order?.())?.slice(first, first + count)
  const found = await reading(file, () => {
    const query =
      places === undefined ? table.query().offset(first).limit(count) : table.takeOffsets([...places])
    return query.select([...layout.columns, "vector"]).toArrow()
  })
  if (found.numRows !== count) {
    throw corrupt(`${file}: ${count} rows from row ${first} on were read, found ${found.numRows}`, { file })
  }
  const columns = layout.readColumns(found)
  const vectors = readVectors(found)
  const rows = Array.from(vectors.keys())
  if (places !== undefined) rows.sort((a, b) => compareIds(columns.ids[a]!, columns.ids[b]!))
  return rows.map((row) => ({
    ...viewRecord(columns, row, spec, file, layout.parsePayload),
    vector: vectors[row]!,
  }))
}
