/**
 * Parquet files, through DuckDB: only the columns that are needed, and no more of their rows at once than
 * there is memory for.
 */
import type { DuckDBConnection } from "@duckdb/node-api"
import { invalidInput } from "../../errors.js"
import { mib, quoted } from "../../wording.js"
import type { FileReadOptions, FileSchema } from "../columns.js"
import { LEAST_MEMORY, loadDuckdb, type Query, readQuery } from "../duckdb/query.js"
import { type DuckDB, isFloatList } from "../duckdb/values.js"
import type { FileFormat, LocalFile } from "../format.js"

export const parquet: FileFormat<"parquet"> = {
  name: "parquet",
  extensions: ["parquet", "pq"],
  magic: ["PAR1"],
  reads: "file",
  load: loadDuckdb,
  async open({ name, path, tempDir }) {
    const duckdb = await loadDuckdb()
    return {
      file: name,
      unit: "row",
      text: false,
      read(options) {
        const plan = (connection: DuckDBConnection) => planParquet(duckdb, connection, name, path, options)
        return readQuery(duckdb, name, plan, tempDir, options)
      },
    }
  },
  countRows: countParquetRows,
}

/** The number of rows of a local Parquet file, by its metadata. */
async function countParquetRows({
  name: file,
  path,
  tempDir,
}: Pick<LocalFile, "name" | "path" | "tempDir">): Promise<number> {
  const duckdb = await loadDuckdb()
  let rows = 0
  const statements = [`SELECT count(*) AS rows FROM ${parquetTable(path)}`]
  const options = {
    signal: undefined,
    onBadRow: () => {},
    select: ({ names }: FileSchema) => names,
    memoryLimit: LEAST_MEMORY,
  }
  for await (const counted of readQuery(duckdb, file, async () => ({ statements }), tempDir, options)) {
    rows = Number(counted.column("rows")(0))
  }
  return rows
}

/** A path as SQL, in which DuckDB must not find a glob. */
const pathLiteral = (path: string): string =>
  textLiteral(path.replace(/[*?[]/g, (character) => `[${character}]`))

const textLiteral = (text: string): string => `'${text.replaceAll("'", "''")}'`

/**
 * A file as a table of SQL: DuckDB takes names like "year=2024" in a path for columns, unless told otherwise.
 */
const parquetTable = (path: string): string => `read_parquet(${pathLiteral(path)}, hive_partitioning = false)`

const sqlName = (name: string): string => `"${name.replaceAll('"', '""')}"`

/** Of which DuckDB makes a chunk, at most. */
const CHUNK_ROWS = 2048
/** Chunks that are in memory for each thread: one that is decoded, one that waits, one that is dealt with. */
const CHUNKS_AT_ONCE = 3
/** Larger ones are read by one thread: what several have decoded waits, in whatever number, for its turn. */
const NARROW_CHUNK_BYTES = 32 * 2 ** 20
/** A chunk may take this share of the memory limit: there are up to four copies of it on its way. */
const CHUNK_SHARE = 1 / 16

/** Reads only the columns that are needed, and as much at once as the memory has room for. */
async function planParquet(
  duckdb: DuckDB,
  connection: DuckDBConnection,
  file: string,
  path: string,
  { select, memoryLimit }: FileReadOptions,
): Promise<Query> {
  const table = parquetTable(path)
  const schema = await connection.run(`SELECT * FROM ${table} LIMIT 0`)
  const duckdbNames = schema.columnNames()
  const names = await namesInFile(connection, path, duckdbNames)
  const types = schema.columnTypes()
  const vectorNames = names.filter((_, i) => isFloatList(duckdb, types[i]!))
  const selected = new Set(select({ names, vectorNames }))
  const columns = names.flatMap((name, i) =>
    selected.has(name) ? [{ name, sql: sqlName(duckdbNames[i]!) }] : [],
  )
  const sizes = (await columnSizes(connection, path)).filter(({ name }) => selected.has(name))
  const groups = await rowGroups(connection, path, sizes)
  const stored = Math.max(0, ...groups.map(chunkBytesOf))
  if (stored > memoryLimit) throw tooWide(file, sizes, stored, memoryLimit)

  const mostBytes = memoryLimit * CHUNK_SHARE
  const isWide = (bytes: number): boolean => bytes > Math.min(mostBytes, NARROW_CHUNK_BYTES)
  const texts = columns.filter(({ name }) =>
    sizes.some((size) => size.name === name && size.repeatedBytes > 0 && isWide(stored + size.repeatedBytes)),
  )
  const windows =
    texts.length === 0 && stored <= mostBytes
      ? undefined
      : windowsOf(groups, await textBytes(connection, table, texts))
  const chunkBytes = windows === undefined ? stored : mostChunkBytes(groups, windows)
  const selection = `SELECT ${columns.map(({ sql }) => sql).join(", ")} FROM ${table}`
  return {
    statements:
      windows === undefined || chunkBytes <= mostBytes
        ? [selection]
        : rangesOf(windows, mostBytes).map(
            ({ from, to }) => `${selection} WHERE file_row_number >= ${from} AND file_row_number < ${to}`,
          ),
    names: columns.map(({ name }) => name),
    threads: isWide(chunkBytes) ? 1 : Math.floor(memoryLimit / (Math.max(1, chunkBytes) * CHUNKS_AT_ONCE)),
  }
}

/** SQL takes "ID" and "id" for the same name, so that DuckDB calls the second one "id_1". */
async function namesInFile(
  connection: DuckDBConnection,
  path: string,
  duckdbNames: readonly string[],
): Promise<readonly string[]> {
  const taken = new Set(duckdbNames.map((name) => name.toLowerCase()))
  const mayBeRenamed = (name: string) =>
    /_\d+$/.test(name) && taken.has(name.replace(/_\d+$/, "").toLowerCase())
  if (!duckdbNames.some(mayBeRenamed)) return duckdbNames
  const result = await connection.runAndReadAll(
    `SELECT name, coalesce(num_children, 0) AS children FROM parquet_schema(${pathLiteral(path)})`,
  )
  const [, ...nodes] = result.getRowsJS() as [string, number | bigint][]
  const names: string[] = []
  // The tree is written down from its root on; what is within a column is left out.
  let inner = 0
  for (const [name, children] of nodes) {
    if (inner === 0) names.push(name)
    else inner--
    inner += Number(children)
  }
  const isUnique = new Set(names).size === names.length
  return isUnique && names.length === duckdbNames.length ? names : duckdbNames
}

interface ColumnSize {
  readonly name: string
  /** Of all its rows, by what the file says. */
  readonly bytes: number
  /**
   * A text that occurs often is stored once. Bytes of a chunk each of whose rows has the longest text there
   * may be; 0 if the column has no such texts.
   */
  readonly repeatedBytes: number
}

/** What the metadata says of the columns in each group of rows; of numbers, what they take in memory. */
const partsOf = (path: string): string =>
  `(SELECT row_group_id AS place, split_part(path_in_schema, ', ', 1) AS name, row_group_num_rows AS rows,
      type LIKE '%BYTE_ARRAY' AS is_text,
      if(is_text, total_uncompressed_size, greatest(total_uncompressed_size, 8 * num_values)) AS bytes,
      if(is_text AND encodings LIKE '%DICTIONARY%',
        total_uncompressed_size * least(rows, ${CHUNK_ROWS}) * (num_values / rows), 0) AS repeated
    FROM parquet_metadata(${pathLiteral(path)}) WHERE rows > 0)`

/** The largest first. */
async function columnSizes(connection: DuckDBConnection, path: string): Promise<readonly ColumnSize[]> {
  const result = await connection.runAndReadAll(
    `SELECT name, sum(bytes)::DOUBLE AS bytes, max(repeated)::DOUBLE FROM ${partsOf(path)} GROUP BY name ORDER BY bytes DESC`,
  )
  const rows = result.getRowsJS() as [string, number, number][]
  return rows.map(([name, bytes, repeatedBytes]) => ({ name, bytes, repeatedBytes }))
}

/** A group of rows of a file; a chunk holds rows of one. */
interface RowGroup {
  readonly rows: number
  /** Of some columns, by what the file says. */
  readonly bytes: number
}

async function rowGroups(
  connection: DuckDBConnection,
  path: string,
  columns: readonly { readonly name: string }[],
): Promise<readonly RowGroup[]> {
  const names = ["NULL", ...columns.map(({ name }) => textLiteral(name))].join(", ")
  const result = await connection.runAndReadAll(
    `SELECT any_value(rows)::DOUBLE, sum(if(name IN (${names}), bytes, 0))::DOUBLE FROM ${partsOf(path)}
     GROUP BY place ORDER BY place`,
  )
  return (result.getRowsJS() as [number, number][]).map(([rows, bytes]) => ({ rows, bytes }))
}

const chunkBytesOf = ({ rows, bytes }: RowGroup): number => (bytes / rows) * Math.min(rows, CHUNK_ROWS)

function tooWide(file: string, sizes: readonly ColumnSize[], bytes: number, memoryLimit: number): Error {
  const { name } = sizes[0]!
  return invalidInput(
    `${file}: ${CHUNK_ROWS} rows take ${mib(bytes)}, more than the memory limit of ${mib(memoryLimit)}; their largest column is ${quoted(name)}: name the payload columns without it, or raise the limit`,
    { file, column: name, bytes, memoryLimit },
  )
}

/** Rows whose sizes are not told apart. */
const WINDOW_ROWS = 32

/** Bytes of the texts in each window of rows. It takes little to look: there are few different ones. */
async function textBytes(
  connection: DuckDBConnection,
  table: string,
  texts: readonly { readonly sql: string }[],
): Promise<readonly number[]> {
  if (texts.length === 0) return []
  const lengths = texts.map(({ sql }) => `coalesce(strlen(${sql}::VARCHAR), 0)`)
  const result = await connection.runAndReadAll(
    `SELECT sum(${lengths.join(" + ")})::DOUBLE FROM ${table}
     GROUP BY file_row_number // ${WINDOW_ROWS} ORDER BY file_row_number // ${WINDOW_ROWS}`,
  )
  return (result.getRowsJS() as [number][]).map(([bytes]) => bytes)
}

/** Bytes of each window of rows, from the first row of the file on. */
export function windowsOf(groups: readonly RowGroup[], texts: readonly number[]): Float64Array {
  const rows = groups.reduce((sum, group) => sum + group.rows, 0)
  const windows = new Float64Array(Math.ceil(rows / WINDOW_ROWS))
  windows.set(texts)
  let from = 0
  for (const group of groups) {
    const to = from + group.rows
    while (from < to) {
      const window = Math.floor(from / WINDOW_ROWS)
      const end = Math.min(to, (window + 1) * WINDOW_ROWS)
      windows[window]! += (group.bytes / group.rows) * (end - from)
      from = end
    }
  }
  return windows
}

/** Bytes of the largest chunk, at most. */
export function mostChunkBytes(groups: readonly RowGroup[], windows: Float64Array): number {
  let most = 0
  let start = 0
  for (const { rows } of groups) {
    for (let from = start; from < start + rows; from += CHUNK_ROWS) {
      const to = Math.min(start + rows, from + CHUNK_ROWS)
      const chunk = windows.subarray(Math.floor(from / WINDOW_ROWS), Math.ceil(to / WINDOW_ROWS))
      most = Math.max(most, sumOf(chunk))
    }
    start += rows
  }
  return most
}

/** Rows that follow one another in a file, from 0; `to` is not among them. */
interface Range {
  readonly from: number
  readonly to: number
}

/** All rows in as few ranges as can be of `mostBytes`; a window that is larger is one by itself. */
export function rangesOf(windows: Float64Array, mostBytes: number): readonly Range[] {
  const ranges: Range[] = []
  let start = 0
  let bytes = 0
  const end = (window: number): void => {
    ranges.push({ from: start * WINDOW_ROWS, to: window * WINDOW_ROWS })
    start = window
    bytes = 0
  }
  for (const [window, windowBytes] of windows.entries()) {
    if (window > start && bytes + windowBytes > mostBytes) end(window)
    bytes += windowBytes
  }
  if (start < windows.length) end(windows.length)
  return ranges
}

const sumOf = (values: Float64Array): number => values.reduce((sum, value) => sum + value, 0)
