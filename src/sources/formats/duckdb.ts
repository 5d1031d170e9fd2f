/**
 * Parquet files and SQL over files, through DuckDB, which is optional. Nothing is downloaded: extensions are
 * off, so SQL reads local files only.
 *
 * Things to know of `@duckdb/node-api` 1.5.6, all found by trial:
 *
 * - When a streaming query fails on its way, `fetchChunk` says nothing and the rows just end. Only
 *   {@link DuckDBResult.isStreaming} turns false. See {@link assertComplete}.
 * - Lists of FLOAT and DOUBLE can be read without a copy, from the child of their vector. Where a list or an
 * element is
 *   NULL, that memory holds stale values.
 * - The files of a result stay open until it is collected, unless the connection runs something else.
 */
import { randomUUID } from "node:crypto"
import { mkdir, rm } from "node:fs/promises"
import { availableParallelism } from "node:os"
import { join } from "node:path"
import type {
  DuckDBArrayType,
  DuckDBArrayValue,
  DuckDBConnection,
  DuckDBDataChunk,
  DuckDBListType,
  DuckDBListValue,
  DuckDBResult,
  DuckDBType,
  DuckDBValue,
  DuckDBVector,
} from "@duckdb/node-api"
import { aborted, invalidInput, isVecsnapError, messageOf, throwIfAborted } from "../../errors.js"
import { parseJson } from "../../json.js"
import { withPackage } from "../../packages.js"
import { fileError, OWNER_ONLY_DIRECTORY } from "../../storage/files.js"
import { quoted, shortened } from "../../wording.js"
import type { FileReader, FileReadOptions, FileSchema, RawColumns } from "../columns.js"
import type { FileFormat, LocalFile } from "../format.js"
import {
  decimalOf,
  plainDate,
  plainDecimal,
  plainInterval,
  plainMap,
  plainTime,
  plainTimestamp,
  UNITS,
} from "../plain.js"
import { BadValue } from "../rows.js"

type DuckDB = typeof import("@duckdb/node-api")

/** Throws `Unsupported`, naming the package to install, if DuckDB is absent. */
export function loadDuckdb(): Promise<DuckDB> {
  return withPackage("@duckdb/node-api", "Parquet and SQL input", () => import("@duckdb/node-api"))
}

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
  const sql = `SELECT count(*) AS rows FROM ${parquetTable(path)}`
  const options = {
    signal: undefined,
    onBadRow: () => {},
    select: ({ names }: FileSchema) => names,
    memoryLimit: LEAST_MEMORY,
  }
  for await (const counted of readQuery(duckdb, file, async () => ({ sql }), tempDir, options)) {
    rows = Number(counted.column("rows")(0))
  }
  return rows
}

/** A path as SQL, in which DuckDB must not find a glob. */
const pathLiteral = (path: string): string =>
  `'${path.replace(/[*?[]/g, (character) => `[${character}]`).replaceAll("'", "''")}'`

/**
 * A file as a table of SQL: DuckDB takes names like "year=2024" in a path for columns, unless told otherwise.
 */
const parquetTable = (path: string): string => `read_parquet(${pathLiteral(path)}, hive_partitioning = false)`

/** Of which DuckDB makes a chunk, at most. */
const CHUNK_ROWS = 2048
/** Chunks that are in memory for each thread: one that is decoded, one that waits, one that is dealt with. */
const CHUNKS_AT_ONCE = 3

/** Reads only the columns that are needed, and as many at once as the memory has room for. */
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
  const places = names.flatMap((name, i) => (selected.has(name) ? [i] : []))
  const columns = places.map((place) => `"${duckdbNames[place]!.replaceAll('"', '""')}"`)
  const chunkBytes = await bytesOfChunk(connection, file, path, selected, memoryLimit)
  return {
    sql: `SELECT ${columns.join(", ")} FROM ${table}`,
    names: places.map((place) => names[place]!),
    threads: Math.max(1, Math.floor(memoryLimit / (chunkBytes * CHUNKS_AT_ONCE))),
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

/**
 * What a chunk of rows takes, by the sizes that the file says its columns have. Throws `InvalidInput` if that
 * is more than may be in memory.
 */
async function bytesOfChunk(
  connection: DuckDBConnection,
  file: string,
  path: string,
  selected: ReadonlySet<string>,
  memoryLimit: number,
): Promise<number> {
  const result = await connection.runAndReadAll(
    `SELECT split_part(path_in_schema, ', ', 1) AS name, sum(total_uncompressed_size)::DOUBLE AS bytes
     FROM parquet_metadata(${pathLiteral(path)}) GROUP BY 1 ORDER BY bytes DESC`,
  )
  const sizes = (result.getRowsJS() as [string, number][]).filter(([name]) => selected.has(name))
  const groups = await connection.runAndReadAll(
    `SELECT max(row_group_num_rows)::DOUBLE, sum(row_group_num_rows)::DOUBLE
     FROM (SELECT DISTINCT row_group_id, row_group_num_rows FROM parquet_metadata(${pathLiteral(path)}))`,
  )
  const [[mostRows, rows] = [null, null]] = groups.getRowsJS() as [number | null, number | null][]
  if (mostRows === null || rows === null || rows === 0 || sizes.length === 0) return 1
  const chunkRows = Math.min(CHUNK_ROWS, mostRows)
  const bytes = (sizes.reduce((sum, [, size]) => sum + size, 0) / rows) * chunkRows
  if (bytes <= memoryLimit) return bytes
  const mib = (size: number) => `${Math.ceil(size / 2 ** 20)} MiB`
  const [largest] = sizes[0]!
  throw invalidInput(
    `${file}: ${chunkRows} rows take ${mib(bytes)}, more than the memory limit of ${mib(memoryLimit)}; their largest column is ${quoted(largest)}: name the payload columns without it, or raise the limit`,
    { file, column: largest, bytes, memoryLimit },
  )
}

/** Reads the result of one SELECT. `name` is for messages. */
export function queryReader(duckdb: DuckDB, name: string, sql: string, tempDir: string): FileReader {
  return {
    file: name,
    unit: "row",
    text: false,
    read: (options) => readQuery(duckdb, name, async () => ({ sql, isGiven: true }), tempDir, options),
  }
}

interface Query {
  readonly sql: string
  /** Names of the columns of its result, if others than SQL has for them. */
  readonly names?: readonly string[]
  /** At most. */
  readonly threads?: number
  /** Whether users wrote it. */
  readonly isGiven?: boolean
}

const INTERRUPT_MS = 20
const MOST_THREADS = 4
// DuckDB needs some for itself.
const LEAST_MEMORY = 128 * 2 ** 20

/** The rows of the query that `plan` makes; it may ask the database first. */
async function* readQuery(
  duckdb: DuckDB,
  name: string,
  plan: (connection: DuckDBConnection) => Promise<Query>,
  tempDir: string,
  { signal, memoryLimit }: FileReadOptions,
): AsyncGenerator<RawColumns> {
  const spill = join(tempDir, `vecsnap-duckdb-${randomUUID()}`)
  // DuckDB would make it for everybody to read.
  await mkdir(spill, { recursive: true, mode: OWNER_ONLY_DIRECTORY }).catch((error) => {
    throw fileError("make", spill, error)
  })
  const instance = await duckdb.DuckDBInstance.create(":memory:", {
    memory_limit: `${Math.ceil(Math.max(LEAST_MEMORY, memoryLimit) / 2 ** 20)}MiB`,
    temp_directory: spill,
    preserve_insertion_order: "true",
    autoinstall_known_extensions: "false",
    autoload_known_extensions: "false",
    allow_community_extensions: "false",
  })
  const connection = await instance.connect()
  let interrupting: NodeJS.Timeout | undefined
  // An interrupt that comes before the query has started is lost, so it is said until there is nothing left
  // to end.
  const interrupt = () => {
    connection.interrupt()
    interrupting ??= setInterval(() => connection.interrupt(), INTERRUPT_MS)
  }
  signal?.addEventListener("abort", interrupt)
  let next: ReturnType<typeof fetchAhead> | undefined
  try {
    throwIfAborted(signal)
    const { sql, names: given, threads = MOST_THREADS, isGiven } = await plan(connection)
    await connection.run(`SET threads = ${Math.min(threads, MOST_THREADS, availableParallelism())}`)
    await connection.run("SET lock_configuration = true")
    throwIfAborted(signal)
    const statement = await prepareSelect(duckdb, connection, sql)
    if (isGiven) await assertReadsOnly(connection, sql)
    const result = await statement.stream()
    const names = given ?? result.deduplicatedColumnNames()
    const types = result.columnTypes()
    const wasStreaming = result.isStreaming
    let rowsBefore = 0
    next = fetchAhead(result)
    for (;;) {
      const chunk = await next
      if (chunk === null || chunk.rowCount === 0) break
      next = fetchAhead(result)
      yield columnsOf(duckdb, chunk, names, types, rowsBefore)
      rowsBefore += chunk.rowCount
    }
    // An interrupted query ends in the same way, and must not run again.
    throwIfAborted(signal)
    if (wasStreaming) await assertComplete(connection, result, sql)
  } catch (cause) {
    if (signal?.aborted) throw aborted(`reading ${name} was aborted`, {}, signal.reason)
    throw describeFailure(cause, name)
  } finally {
    signal?.removeEventListener("abort", interrupt)
    // Whoever wants no more rows need not wait for the next ones.
    interrupt()
    await next?.catch(() => {})
    clearInterval(interrupting)
    // Ends a query that is still streaming, so that its files are closed now.
    await connection.run("SELECT 1").catch(() => {})
    connection.closeSync()
    instance.closeSync()
    await rm(spill, { recursive: true, force: true })
  }
}

/**
 * The next rows, which DuckDB decodes while those before are dealt with. Its failure is that of whoever
 * awaits it.
 */
function fetchAhead(result: DuckDBResult): Promise<DuckDBDataChunk | null> {
  const chunk = result.fetchChunk()
  chunk.catch(() => {})
  return chunk
}

async function prepareSelect(duckdb: DuckDB, connection: DuckDBConnection, sql: string) {
  const statements = await connection.extractStatements(sql)
  if (statements.count !== 1)
    throw invalidInput(`expected one SQL statement, got ${statements.count}`, {
      sql,
      count: statements.count,
    })
  const statement = await statements.prepare(0)
  if (statement.statementType === duckdb.StatementType.SELECT) return statement
  const got = duckdb.StatementType[statement.statementType]
  throw invalidInput(`expected a SELECT statement, got ${got}`, { sql, got })
}

/** Functions that a SELECT can call to have DuckDB write files of its own, where they say. */
const WRITING = new Set(["ENABLE_LOGGING", "ENABLE_PROFILING"])

/** A step of a plan, as EXPLAIN has it. */
interface Step {
  readonly name: string
  readonly children: readonly Step[]
}

/**
 * Throws for a SELECT that would write files. It is looked for in its plan, since text may be put together.
 */
async function assertReadsOnly(connection: DuckDBConnection, sql: string): Promise<void> {
  const [row] = (await connection.runAndReadAll(`EXPLAIN (FORMAT json) ${sql}`)).getRows()
  const steps = JSON.parse(String(row?.[1])) as Step[]
  for (let step = steps.pop(); step !== undefined; step = steps.pop()) {
    if (WRITING.has(step.name.trim()))
      throw invalidInput(
        `expected a SELECT that writes nothing, got one with ${step.name.trim().toLowerCase()}()`,
        {
          sql,
        },
      )
    steps.push(...step.children)
  }
}

/**
 * Throws if the rows ended by a failure. Its message is not at hand, so the query runs once more without its
 * rows.
 */
async function assertComplete(
  connection: DuckDBConnection,
  result: DuckDBResult,
  sql: string,
): Promise<void> {
  if (result.isStreaming) return
  await connection.run(`EXPLAIN ANALYZE ${sql}`)
  throw new Error("the rows ended early for a reason that DuckDB does not tell; is the file being written?")
}

function describeFailure(cause: unknown, name: string): unknown {
  if (!(cause instanceof Error) || isVecsnapError(cause)) return cause
  // What follows an empty line are hints and the statement.
  const [sentence] = cause.message.split("\n\n")
  // What DuckDB says of pages of which it can make nothing, while the metadata is in plain.
  const problem = /TProtocolException/.test(sentence!)
    ? "its pages are encrypted or damaged; if encrypted, decrypt it first"
    : shortened(sentence!, 500)
  return invalidInput(`${name} cannot be read: ${problem}`, { file: name }, cause)
}

function columnsOf(
  duckdb: DuckDB,
  chunk: DuckDBDataChunk,
  names: readonly string[],
  types: readonly DuckDBType[],
  rowsBefore: number,
): RawColumns {
  return {
    rows: chunk.rowCount,
    rowNumber: (row) => rowsBefore + row + 1,
    names,
    vectorNames: names.filter((_, i) => isFloatList(duckdb, types[i]!)),
    namesOf: () => names,
    column(name) {
      const place = names.indexOf(name)
      if (place === -1) return () => undefined
      return valueReader(duckdb, chunk.getColumnVector(place), types[place]!, name)
    },
  }
}

function isFloatList(duckdb: DuckDB, type: DuckDBType): type is DuckDBListType | DuckDBArrayType {
  const { LIST, ARRAY, FLOAT, DOUBLE, DECIMAL } = duckdb.DuckDBTypeId
  if (type.typeId !== LIST && type.typeId !== ARRAY) return false
  return [FLOAT, DOUBLE, DECIMAL].includes((type as DuckDBListType | DuckDBArrayType).valueType.typeId)
}

/** Nobody has checked that a column of JSON holds some: Python writes NaN into it. */
function jsonOf(text: string, column: string): unknown {
  try {
    return parseJson(text)
  } catch (error) {
    throw new BadValue(column, `is not JSON: ${shortened(messageOf(error), 200)}`)
  }
}

function valueReader(
  duckdb: DuckDB,
  vector: DuckDBVector,
  type: DuckDBType,
  name: string,
): (row: number) => unknown {
  const view = isFloatList(duckdb, type) ? floatViews(duckdb, vector, type) : undefined
  if (view !== undefined) return view
  if (isFloatList(duckdb, type) && type.valueType.typeId === duckdb.DuckDBTypeId.DECIMAL) {
    // SQL takes literals like [0.25, 1.5] for decimals.
    return (row) => decimalsAsNumbers(vector.getItem(row))
  }
  if (type.alias === "JSON") {
    return (row) => {
      const text = vector.getItem(row)
      return typeof text === "string" ? jsonOf(text, name) : null
    }
  }
  return (row) => {
    const value = vector.getItem(row)
    return value instanceof duckdb.DuckDBDecimalValue
      ? decimalOf(value.value, value.scale)
      : plain(duckdb, value)
  }
}

// The parts of DuckDB's vectors that hold the values of lists; some are private in its types.
interface ListParts {
  readonly validity: { itemValid(row: number): boolean }
  readonly childData: {
    readonly items: Float32Array | Float64Array
    readonly validity: { readonly data: BigUint64Array | null }
  }
  getEntryOffset(row: number): number
  getEntryLength(row: number): number
}

/**
 * Lists as views, without a copy; `undefined` where an element may be NULL, or has a type without such
 * memory.
 */
function floatViews(
  duckdb: DuckDB,
  vector: DuckDBVector,
  type: DuckDBListType | DuckDBArrayType,
): ((row: number) => Float32Array | Float64Array | null) | undefined {
  const { FLOAT, DOUBLE } = duckdb.DuckDBTypeId
  if (type.valueType.typeId !== FLOAT && type.valueType.typeId !== DOUBLE) return undefined
  const parts = vector as unknown as ListParts
  const { items, validity } = parts.childData
  if (validity.data !== null) return undefined
  if ("length" in type) {
    const { length } = type
    return (row) => (parts.validity.itemValid(row) ? items.subarray(row * length, (row + 1) * length) : null)
  }
  return (row) => {
    if (!parts.validity.itemValid(row)) return null
    const start = parts.getEntryOffset(row)
    return items.subarray(start, start + parts.getEntryLength(row))
  }
}

function decimalsAsNumbers(value: DuckDBValue): (number | null)[] | null {
  const list = value as DuckDBListValue | DuckDBArrayValue | null
  return list?.items.map((item) => (item === null ? null : Number(String(item)))) ?? null
}

/**
 * A value as JSON would have it. Dates and times become ISO 8601 text; binary data stays as it is at the top.
 */
function plain(duckdb: DuckDB, value: DuckDBValue): unknown {
  if (value === null || typeof value !== "object") return value
  if (value instanceof duckdb.DuckDBListValue || value instanceof duckdb.DuckDBArrayValue)
    return value.items.map((item) => nested(duckdb, item))
  if (value instanceof duckdb.DuckDBStructValue) return plainObject(duckdb, Object.entries(value.entries))
  if (value instanceof duckdb.DuckDBMapValue)
    return plainMap(value.entries.map((entry) => [nested(duckdb, entry.key), nested(duckdb, entry.value)]))
  if (value instanceof duckdb.DuckDBUnionValue) return plain(duckdb, value.value)
  if (value instanceof duckdb.DuckDBVariantValue) return plain(duckdb, value.value)
  if (value instanceof duckdb.DuckDBDecimalValue) return plainDecimal(value.value, value.scale)
  if (value instanceof duckdb.DuckDBBlobValue) return value.bytes
  return timeText(duckdb, value) ?? String(value)
}

function timeText(duckdb: DuckDB, value: DuckDBValue): string | undefined {
  if (value instanceof duckdb.DuckDBIntervalValue)
    return plainInterval(value.months, value.days, value.micros, UNITS.micro)
  if (value instanceof duckdb.DuckDBTimeValue) return plainTime(value.micros, UNITS.micro)
  if (value instanceof duckdb.DuckDBTimeNSValue) return plainTime(value.nanos, UNITS.nano)
  // "infinity" has no other form.
  if (typeof value === "object" && value !== null && "isFinite" in value && !value.isFinite) return undefined
  if (value instanceof duckdb.DuckDBDateValue) return plainDate(value.days)
  if (value instanceof duckdb.DuckDBTimestampTZValue) return plainTimestamp(value.micros, UNITS.micro, "Z")
  if (value instanceof duckdb.DuckDBTimestampValue) return plainTimestamp(value.micros, UNITS.micro, "")
  if (value instanceof duckdb.DuckDBTimestampSecondsValue)
    return plainTimestamp(value.seconds, UNITS.second, "")
  if (value instanceof duckdb.DuckDBTimestampMillisecondsValue)
    return plainTimestamp(value.millis, UNITS.milli, "")
  if (value instanceof duckdb.DuckDBTimestampNanosecondsValue)
    return plainTimestamp(value.nanos, UNITS.nano, "")
  return undefined
}

/** A value within another: binary data becomes base64, since JSON has no other form. */
function nested(duckdb: DuckDB, value: DuckDBValue): unknown {
  const inner = plain(duckdb, value)
  return inner instanceof Uint8Array ? Buffer.from(inner).toString("base64") : inner
}

// Not by assignment, which would give "__proto__" a meaning.
const plainObject = (duckdb: DuckDB, entries: readonly (readonly [string, DuckDBValue])[]): object =>
  Object.fromEntries(entries.map(([key, value]) => [key, nested(duckdb, value)]))
