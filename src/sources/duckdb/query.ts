/**
 * SQL over files, through DuckDB, which is optional. Nothing is downloaded: extensions are off, so SQL reads
 * local files only.
 *
 * Things to know of `@duckdb/node-api` 1.5.6, all found by trial:
 *
 * - When a streaming query fails on its way, `fetchChunk` says nothing and the rows just end. Only
 *   {@link DuckDBResult.isStreaming} turns false. See {@link assertComplete}.
 * - The files of a result stay open until it is collected, unless the connection runs something else.
 * - A streaming query is decoded ahead until `streaming_buffer_size` is full, in which texts do not count:
 *   all of a file of long texts may wait there. See {@link STREAMING_BUFFER}.
 * - The memory of a chunk is let go when the garbage collector comes to it, which knows nothing of its size;
 *   `reset` lets it go at once.
 */
import { randomUUID } from "node:crypto"
import { mkdir, rm } from "node:fs/promises"
import { availableParallelism } from "node:os"
import { join } from "node:path"
import type { DuckDBConnection, DuckDBDataChunk, DuckDBResult, DuckDBType } from "@duckdb/node-api"
import { aborted, invalidInput, isVecsnapError, throwIfAborted } from "../../errors.js"
import { withPackage } from "../../packages.js"
import { fileError, OWNER_ONLY_DIRECTORY } from "../../storage/files.js"
import { mib, shortened } from "../../wording.js"
import type { FileReader, FileReadOptions, RawColumns } from "../columns.js"
import { type DuckDB, isFloatList, valueReader } from "./values.js"

/** Throws `Unsupported`, naming the package to install, if DuckDB is absent. */
export function loadDuckdb(): Promise<DuckDB> {
  return withPackage("@duckdb/node-api", "Parquet and SQL input", () => import("@duckdb/node-api"))
}
/** Reads the result of one SELECT. `name` is for messages. */
export function queryReader(duckdb: DuckDB, name: string, sql: string, tempDir: string): FileReader {
  return {
    file: name,
    unit: "row",
    text: false,
    read: (options) =>
      readQuery(duckdb, name, async () => ({ statements: [sql], isGiven: true }), tempDir, options),
  }
}

/** What is asked of the database, by statements whose rows follow one another. */
export interface Query {
  readonly statements: readonly string[]
  /** Names of the columns of their results, if others than SQL has for them. */
  readonly names?: readonly string[]
  /** At most. */
  readonly threads?: number
  /** Whether users wrote them. */
  readonly isGiven?: boolean
}

const INTERRUPT_MS = 20
const MOST_THREADS = 4
/** Small, so that no more than a chunk waits: one more is fetched ahead anyway. */
const STREAMING_BUFFER = "1KB"
// DuckDB needs some for itself.
export const LEAST_MEMORY = 128 * 2 ** 20

/**
 * The rows of the query that `plan` makes; it may ask the database first. What is yielded holds until the
 * next is asked for.
 */
export async function* readQuery(
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
    const { statements, names: given, threads = MOST_THREADS, isGiven } = await plan(connection)
    const most = Math.min(threads, MOST_THREADS, availableParallelism())
    await connection.run(`SET threads = ${Math.max(1, most)}`)
    await connection.run(`SET streaming_buffer_size = '${STREAMING_BUFFER}'`)
    await connection.run("SET lock_configuration = true")
    let rowsBefore = 0
    for (const sql of statements) {
      throwIfAborted(signal)
      const statement = await prepareSelect(duckdb, connection, sql)
      if (isGiven) await assertReadsOnly(connection, sql)
      const result = await statement.stream()
      const names = given ?? result.deduplicatedColumnNames()
      const types = result.columnTypes()
      const wasStreaming = result.isStreaming
      next = fetchAhead(result)
      for (;;) {
        const chunk = await next
        const rows = chunk?.rowCount ?? 0
        if (chunk === null || rows === 0) break
        next = fetchAhead(result)
        yield columnsOf(duckdb, chunk, names, types, rowsBefore)
        chunk.reset()
        rowsBefore += rows
      }
      // An interrupted query ends in the same way, and must not run again.
      throwIfAborted(signal)
      if (wasStreaming) await assertComplete(connection, result, sql)
    }
  } catch (cause) {
    if (signal?.aborted) throw aborted(`reading ${name} was aborted`, {}, signal.reason)
    throw describeFailure(cause, name, memoryLimit)
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

function describeFailure(cause: unknown, name: string, memoryLimit: number): unknown {
  if (!(cause instanceof Error) || isVecsnapError(cause)) return cause
  // What follows an empty line are hints and the statement, which name settings that nobody can set here.
  const [sentence] = cause.message.split("\n\n")
  if (/^Out of Memory Error/.test(sentence!))
    return invalidInput(
      `${name} cannot be read within the memory limit of ${mib(memoryLimit)}: ask for fewer columns, or raise the limit`,
      { file: name, memoryLimit },
      cause,
    )
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
