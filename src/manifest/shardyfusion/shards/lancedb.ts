/**
 * Shards of LanceDB as shardyfusion writes them: a table `vector_index` in order of insertion, with or
 * without an index, which may be of another metric, over no rows, or so coarse that it finds one neighbour in
 * ten. So none is used: all vectors are compared, and distances are computed from them, as elsewhere.
 */
import type { Table as ArrowTable } from "apache-arrow"
import { corrupt } from "../../../errors.js"
import { compareIds } from "../../../records.js"
import type { ShardOpener, ShardSpec } from "../../../shards/backend.js"
import { lancedbBackend } from "../../../shards/lancedb/backend.js"
import { checkVersions, closeTable, type OpenTable, reading } from "../../../shards/lancedb/open.js"
import { createPool, type TableOpener } from "../../../shards/lancedb/pool.js"
import { type TableLayout, tableDir, toSql } from "../../../shards/lancedb/schema.js"

import { checkRowCount } from "../../../shards/stored.js"
import type { SnapshotShardFile } from "../../../snapshot/snapshot.js"
import { inverseNorm } from "../../../vectors/distance.js"
import { quoted } from "../../../wording.js"
import { parsePythonJson } from "../json.js"

export const TABLE = "vector_index"
/** The table's directory in the shard's folder. */
export const TABLE_DIR = `${TABLE}.lance`

export const opener: ShardOpener = {
  name: lancedbBackend.name,
  module: import.meta.url,
  traits: { ...lancedbBackend.traits, exact: true },
  assertInstalled: (purpose) => lancedbBackend.assertInstalled(purpose),
  createPool: (options) => createPool(options, openForeignTable),
}

/** Versions, rows, and which rows were deleted: without them there is no table. */
const NEEDED =
  /^vector_index\.lance\/(_versions\/\d{20}\.manifest|data\/[0-9A-Za-z][0-9A-Za-z_-]*\.lance|_deletions\/[0-9-]+\.(arrow|bin))$/
/** Indexes, which are not used, and what later changes of the table would need. */
const OPTIONAL =
  /^vector_index\.lance\/(_versions\/latest_version_hint\.json|_transactions\/[0-9A-Za-z-]+\.txn|_indices\/[0-9a-f-]{36}\/[a-z][a-z_]*\.(idx|lance))$/

/** The files of a shard among those that lie in its folder. */
export function lanceFiles(
  listed: readonly { readonly name: string; readonly size: number }[],
): readonly SnapshotShardFile[] {
  const files = listed.flatMap(({ name, size }): SnapshotShardFile[] => {
    if (NEEDED.test(name)) return [{ name, size, sha256: undefined }]
    return OPTIONAL.test(name) ? [{ name, size, sha256: undefined, optional: true }] : []
  })
  // What is not there is asked for all the same, and missed: a shard that is listed must not look empty.
  if (files.some(({ name }) => name.includes("/_versions/") && name.endsWith(".manifest"))) return files
  return [{ name: TABLE_DIR, size: 0, sha256: undefined }]
}

const openForeignTable: TableOpener = async (lancedb, session, dir, spec, _index, expectedRows) => {
  const file = tableDir(dir, TABLE)
  return reading(file, async (): Promise<OpenTable> => {
    // Before LanceDB, which would follow a manifest wherever it leads.
    await checkVersions(file, undefined)
    const connection = await lancedb.connect(dir, { session })
    try {
      const table = await connection.openTable(TABLE)
      const layout = await readLayout(table, file, spec)
      const rows = await table.countRows()
      if (rows < 1) throw corrupt(`${file} has no rows`, { file })
      checkRowCount(file, rows, expectedRows)
      // The manifest alone has been read so far. This fails now, not in a query, if others are missing.
      await table
        .query()
        .select([...layout.columns])
        .limit(1)
        .toArrow()
      const maxNorm = spec.metric === "dot" ? await longestVector(table) : 0
      const index = { partitions: 1, probes: 1, maxNorm }
      return { table, file, spec, rows, index, layout, close: () => closeTable(connection, table) }
    } catch (error) {
      connection.close()
      throw error
    }
  })
}

type Table = OpenTable["table"]

/** Throws `Corrupt` unless the table is one of the format, with vectors of the snapshot's dimension. */
async function readLayout(table: Table, file: string, spec: ShardSpec): Promise<TableLayout> {
  const schema = await table.schema()
  const typeOf = (name: string): string =>
    String(schema.fields.find((field) => field.name === name)?.type ?? "none")
  const check = (name: string, expected: string): void => {
    if (typeOf(name) === expected) return
    throw corrupt(`${file}: column ${name} is ${typeOf(name)}, expected ${expected}`, { file })
  }
  check("id", "Utf8")
  check("vector", `FixedSizeList[${spec.dim}]<Float32>`)
  check("payload", "Utf8")
  const hasTypes = schema.fields.some(({ name }) => name === ID_TYPE)
  if (hasTypes) check(ID_TYPE, "Utf8")
  if (!hasTypes && spec.id.type === "int64")
    throw corrupt(`${file} has no column ${ID_TYPE}, by which ids of a snapshot of integers are told`, {
      file,
    })
  let order: Promise<readonly number[]> | undefined
  const layout: TableLayout = {
    columns: hasTypes ? ["id", ID_TYPE, "payload"] : ["id", "payload"],
    readColumns(found) {
      const ids = texts(found, "id")
      const types = hasTypes ? texts(found, ID_TYPE) : undefined
      return {
        ids: ids.map((id, row) => restoreId(id, types?.[row], file)),
        fields: [],
        payloads: texts(found, "payload"),
      }
    },
    where: (ids) => whereId(ids, hasTypes),
    indexed: false,
    order: () => (order ??= orderOf(table, layout)),
    parsePayload: parsePythonJson,
  }
  return layout
}

/** The column with which writers other than the reference keep the type of an id: "int" or "str". */
export const ID_TYPE = "id_type"

const texts = (found: ArrowTable, name: string): (string | null)[] => [...(found.getChild(name) ?? [])]

function restoreId(text: string | null, type: string | null | undefined, file: string): string | bigint {
  if (text === null) throw corrupt(`${file} has a row without id`, { file })
  if (type === undefined || type === "str") return text
  if (type !== "int") throw corrupt(`${file}: the id ${quoted(text)} is of the type ${type}`, { file })
  const integer = /^-?\d{1,19}$/.test(text) ? BigInt(text) : undefined
  if (integer !== undefined && BigInt.asIntN(64, integer) === integer) return integer
  throw corrupt(`${file}: the id ${quoted(text)} is no 64-bit integer`, { file })
}

function whereId(ids: readonly (string | bigint)[], hasTypes: boolean): string {
  const among = (list: readonly (string | bigint)[], type: string): string => {
    const condition = `id IN (${list.map((id) => toSql(String(id))).join(", ")})`
    return hasTypes ? `(${condition} AND ${ID_TYPE} = '${type}')` : condition
  }
  const strings = ids.filter((id) => typeof id === "string")
  // Without types all ids are text.
  const integers = hasTypes ? ids.filter((id) => typeof id === "bigint") : []
  const conditions = [
    ...(strings.length > 0 ? [among(strings, "str")] : []),
    ...(integers.length > 0 ? [among(integers, "int")] : []),
  ]
  return conditions.length === 0 ? "false" : conditions.join(" OR ")
}

/** Places of the rows, in order of id; of rows with one id in the order in which they lie. */
async function orderOf(table: Table, layout: TableLayout): Promise<readonly number[]> {
  const { ids } = layout.readColumns(
    await table
      .query()
      .select([...layout.columns])
      .toArrow(),
  )
  return Array.from(ids.keys()).sort((a, b) => compareIds(ids[a]!, ids[b]!) || a - b)
}

/** Length of the longest vector, which bounds how far LanceDB's inner products may be off. */
async function longestVector(table: Table): Promise<number> {
  let longest = 0
  for await (const batch of table.query().select(["vector"])) {
    const vectors = batch.getChild("vector")
    for (const vector of vectors ?? []) {
      const inverse = vector === null ? 0 : inverseNorm(vector.toArray())
      if (inverse > 0) longest = Math.max(longest, 1 / inverse)
    }
  }
  return longest
}
