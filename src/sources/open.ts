/** Opens files, objects, standard input or SQL as a source. */

import { createReadStream, createWriteStream } from "node:fs"
import { open, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { addAbortSignal } from "node:stream"
import { pipeline } from "node:stream/promises"
import { aborted, invalidInput, notFound, unsupported } from "../errors.js"
import { buildMemoryDefault, machineLimits } from "../machine.js"
import type { FieldType, IdType, RecordBatch } from "../records.js"
import { openStore, type StoreOptions } from "../storage/open.js"
import type { ObjectStore } from "../storage/store.js"
import { asTagged } from "../storage/system-fault.js"
import { asTempFault, makeTempDir } from "../storage/temp-dir.js"
import type { VectorEncoding } from "../vectors/packed.js"
import { listOf, shortened } from "../wording.js"
import { compressionProblem } from "./bytes.js"
import { type ColumnMapping, type FileReader, readBatches } from "./columns.js"
import { loadDuckdb, queryReader } from "./duckdb/query.js"
import { assertVectorEncoding, fieldList } from "./fields.js"
import { foreignFormat } from "./foreign.js"
import { type Format, MAGIC_BYTES } from "./format.js"
import { idsOfNpy } from "./formats/npy.js"
import { countedIds, idsFrom, idsOfColumn, idsOfLines, type RowIds } from "./ids.js"
import { expandInputs, type Input } from "./inputs.js"
import { partitionsOf, withPartitions } from "./partitions.js"
import {
  formatBegunBy,
  formatByContent,
  formatByName,
  formatBySharedName,
  formatNamed,
  isSourceFormat,
  SOURCE_FORMATS,
  type SourceFormat,
} from "./registry.js"
import type { ReadOptions, Source } from "./source.js"

export interface SourceOptions {
  /**
   * A SELECT over local files, `select … from 'day/*.parquet' where …`, in DuckDB's dialect; instead of
   * inputs.
   */
  readonly sql?: string | undefined
  /** Default: by the extension of each file, else by its first bytes. Standard input needs it. */
  readonly format?: SourceFormat | undefined
  /** Column of the ids; default "id". */
  readonly idColumn?: string | undefined
  /**
   * Forces the type of ids; default that of the first row. In CSV and in a text file of ids, where all is
   * text, ids are integers if the first is one, written without leading zeros.
   */
  readonly idType?: IdType | undefined
  /**
   * Column of the vectors; default "vector" or "embedding", else the only column that is a list of numbers. A
   * name that ends with `*` stands for a column per dimension: "emb_*" for emb_0, emb_1 and so on.
   */
  readonly vectorColumn?: string | undefined
  /**
   * What the bytes of vectors are that come as binary data (Parquet BLOB, Arrow binary), little-endian:
   * "float32", "int8" or "uint8". Default: float32 where a build replaces a snapshot of that dimension, else
   * such vectors are refused.
   */
  readonly vectorEncoding?: VectorEncoding | undefined
  /**
   * Takes binary data in all columns but the vectors for UTF-8 text, as some writers of Parquet store text
   * (Impala, old Spark, ClickHouse); default: it is base64 in payloads, and no id or field.
   */
  readonly binaryAsString?: boolean | undefined
  /** Types of the columns to route and filter on, by name; default none. */
  readonly fields?: Readonly<Record<string, FieldType>> | undefined
  /** Columns whose values make up the payload, an object; default all that are nothing else. */
  readonly payloadColumns?: readonly string[] | undefined
  /** Column of shard numbers, for the `explicit` strategy. */
  readonly shardColumn?: string | undefined
  /**
   * For vectors that have no ids of their own (`.npy`, `.npz`, `.fvecs` …): a file with their ids in the same
   * order, one per line, an `.npy` file of integers or texts, or a Parquet or Arrow file with a column
   * `idColumn` or a single one. Default: the place of each row, from 0, over all files.
   */
  readonly ids?: string | undefined
  /** Settings of the stores that objects are read from. */
  readonly store?: StoreOptions | undefined
  /**
   * Bytes of rows that may be in memory at once; default as for a build. Parquet whose rows are too wide for
   * it is refused, with the name of its largest column.
   */
  readonly memoryLimit?: number | undefined
  /** Directory for objects while they are read, and for what DuckDB spills; default: the system's. */
  readonly tempDir?: string | undefined
}

/**
 * A source that reads `inputs` one after another: paths of files and directories, globs, `s3://` objects and
 * globs of them, or "-" for standard input; or the result of `options.sql`. Formats are those of
 * {@link SOURCE_FORMATS}: Parquet, CSV, JSON Lines (these two also in gzip or zstd), Arrow IPC and Feather,
 * NumPy's `.npy` and `.npz`, `.fvecs`, `.bvecs`, `.fbin`, `.u8bin`, `.i8bin`, and word vectors as text. All
 * stream; objects are downloaded one at a time. docs/inputs.md has the rules.
 *
 * A row's number in messages is its line in CSV and JSON Lines, else its place from 1. CSV cells are text: a
 * cell in the payload stays text, a declared field is read by its type. JSON integers keep all their digits.
 * Dates and times become ISO 8601 text, NaN in a payload null.
 *
 * Throws `InvalidInput` for options or inputs that contradict each other, `NotFound` for inputs that are not
 * there, and `Unsupported` if a package that a format needs is not installed. Reading throws `InvalidInput`
 * for a bad row, `Corrupt` for a file that is damaged.
 */
export async function openSource(
  inputs: string | readonly string[],
  options: SourceOptions = {},
): Promise<Source> {
  const names = typeof inputs === "string" ? [inputs] : inputs
  return openNamed(names, options).catch((error) => {
    throw asTagged(error, `opening ${listOf(names, (name) => shortened(name, 200))}`)
  })
}

async function openNamed(names: readonly string[], options: SourceOptions): Promise<Source> {
  assertOptions(names, options)
  assertVectorEncoding(options.vectorEncoding)
  const mapping: ColumnMapping = Object.freeze({
    idColumn: options.idColumn ?? "id",
    idType: options.idType,
    vectorColumn: options.vectorColumn,
    vectorEncoding: options.vectorEncoding,
    binaryAsString: options.binaryAsString ?? false,
    fields: fieldList(options.fields ?? {}),
    payloadColumns: options.payloadColumns && [...options.payloadColumns],
    shardColumn: options.shardColumn,
  })
  const { tempDir = tmpdir(), memoryLimit = buildMemoryDefault(machineLimits()) } = options
  const { sql } = options
  if (sql !== undefined) {
    const reader = queryReader(await loadDuckdb(), "SQL", sql, tempDir)
    // The rows of a query may come in another order the next time, or be others: random(), now().
    return sourceOf("SQL", false, mapping, memoryLimit, () => [reader])
  }

  const openInputStore = (url: string) => openStore(url, options.store)
  const { inputs: found, leftOut } = await expandInputs(names, openInputStore)
  const ids =
    options.ids === undefined ? undefined : (await expandInputs([options.ids], openInputStore)).inputs[0]
  const given = options.format === undefined ? undefined : formatNamed(options.format)
  const files = await Promise.all(
    found.map(async (input) => ({ input, format: given ?? (await formatOf(input)) })),
  )
  assertFormats(files, ids)
  for (const { format } of files) await format.load?.()
  const [first] = files
  const name = files.length === 1 ? first!.input.name : `${files.length} files`
  // What comes through a pipe is gone once it is read.
  const once = [...files.map(({ input }) => input), ...(ids === undefined ? [] : [ids])].find(isPipe)
  let wasRead = false
  const source = sourceOf(name, once === undefined, mapping, memoryLimit, (signal) => {
    if (once !== undefined && wasRead) throw invalidInput(`${once.name} can be read only once`, { name })
    wasRead = true
    return readersOf(name, files, ids, mapping.idColumn, { openInputStore, tempDir, memoryLimit, signal })
  })
  return { ...source, notes: notesOn(leftOut), countRows: () => countRows(files, tempDir) }
}

const isPipe = ({ kind }: Input): boolean => kind === "stdin" || kind === "pipe"

function notesOn(leftOut: readonly string[]): readonly string[] {
  if (leftOut.length === 0) return []
  const names = listOf(leftOut, (name) => shortened(name, 200))
  return [`left out, since hidden, beginning with "_" or of a data set's own: ${names}`]
}

/** The rows of local files whose metadata tells; of others it does not, or is not at hand. */
async function countRows(files: readonly FormattedInput[], tempDir: string): Promise<number | undefined> {
  let rows = 0
  for (const { input, format } of files) {
    if (input.kind !== "file" || format.reads !== "file" || format.countRows === undefined) return undefined
    rows += await format.countRows({ name: input.name, path: input.path, tempDir })
  }
  return rows
}

function sourceOf(
  name: string,
  repeatable: boolean,
  mapping: ColumnMapping,
  memoryLimit: number,
  openReaders: (signal: AbortSignal | undefined) => Iterable<FileReader> | AsyncIterable<FileReader>,
): Source {
  return {
    name,
    repeatable,
    fields: mapping.fields,
    async *read({ signal, onBadRow, onColumns, dim }: ReadOptions): AsyncGenerator<RecordBatch> {
      try {
        for await (const batch of readBatches(openReaders(signal), mapping, {
          signal,
          onBadRow,
          dim,
          onColumns,
          memoryLimit,
        })) {
          yield batch
          if (signal?.aborted) break
        }
      } catch (error) {
        if (!signal?.aborted) throw asTagged(error, `reading ${name}`)
      }
      if (signal?.aborted) throw aborted(`reading ${name} was aborted`, {}, signal.reason)
    },
  }
}

function assertOptions(names: readonly string[], { sql, format, ids, idType }: SourceOptions): void {
  if (sql === undefined && names.length === 0)
    throw invalidInput("nothing to read is named: expected inputs or SQL", { inputs: names })
  if (sql?.trim() === "") throw invalidInput("the SQL is empty, expected a SELECT statement", { sql })
  if (sql !== undefined && (names.length > 0 || format !== undefined || ids !== undefined))
    throw invalidInput("SQL names its files itself: expected no inputs, format or ids beside it", {
      sql,
      inputs: names,
    })
  if (format !== undefined && !isSourceFormat(format)) {
    const expected = SOURCE_FORMATS.join(", ")
    throw invalidInput(`the format is ${JSON.stringify(format)}, expected one of ${expected}`, { format })
  }
  if (idType !== undefined && idType !== "string" && idType !== "int64")
    throw invalidInput(`the id type is ${JSON.stringify(idType)}, expected "string" or "int64"`, { idType })
}

interface FormattedInput {
  readonly input: Input
  readonly format: Format
}

const hasIdsBeside = (format: Format): boolean => format.reads === "file" && format.idsBeside === true

function assertFormats(files: readonly FormattedInput[], ids: Input | undefined): void {
  const arrays = files.filter(({ format }) => hasIdsBeside(format))
  if (arrays.length > 0 && arrays.length < files.length)
    throw invalidInput(
      `${arrays[0]!.input.name} must be the only input, or one of several that have no ids of their own`,
    )
  if (ids !== undefined && arrays.length === 0)
    throw invalidInput(
      `ids are given for ${files[0]!.input.name}, expected them for vectors that have none of their own`,
      {
        ids: ids.name,
      },
    )
  if (ids?.kind === "stdin") throw invalidInput("ids cannot be read from standard input; expected a file")
}

async function formatOf(input: Input): Promise<Format> {
  if (input.kind === "stdin")
    throw invalidInput("standard input has no name to tell its format by: expected a format", { input: "-" })
  const named = formatByName(input.name)
  const head = input.kind === "file" ? await readHead(input.path) : undefined
  if (named !== undefined) {
    const begun = head && formatBegunBy(head, named)
    if (begun === undefined) return named
    throw invalidInput(
      `${input.name} should be ${named.name} by its name, but begins as ${begun.name}: rename it, or give the format`,
      { input: input.name },
    )
  }
  const problem = compressionProblem(input.name, head)
  const foreign = foreignFormat(input.name, head ?? new Uint8Array(0))
  if (foreign !== undefined) {
    const message = `${input.name} is ${foreign.name}, which is not read: ${foreign.advice}`
    throw unsupported(message, { input: input.name })
  }
  if (problem !== undefined) throw unsupported(problem, { file: input.name })
  const format = (head && formatByContent(head)) ?? formatBySharedName(input.name)
  if (format !== undefined) return format
  const expected = SOURCE_FORMATS.join(", ")
  throw invalidInput(`the format of ${input.name} cannot be told: expected one of ${expected} to be given`, {
    input: input.name,
  })
}

async function readHead(path: string): Promise<Uint8Array> {
  const handle = await open(path)
  try {
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(MAGIC_BYTES), 0, MAGIC_BYTES, 0)
    return buffer.subarray(0, bytesRead)
  } finally {
    await handle.close()
  }
}

interface ReadContext {
  readonly openInputStore: (url: string) => ObjectStore
  readonly tempDir: string
  readonly memoryLimit: number
  readonly signal: AbortSignal | undefined
}

/** A reader per file. What is not in a local file is put into one while its reader is in use. */
async function* readersOf(
  name: string,
  files: readonly FormattedInput[],
  idsInput: Input | undefined,
  idColumn: string,
  context: ReadContext,
): AsyncGenerator<FileReader> {
  const { tempDir, signal } = context
  const localIds = idsInput && (await toLocalFile(idsInput, context))
  const ids =
    idsInput === undefined ? countedIds() : await openIds(idsInput.name, localIds!.path, idColumn, context)
  try {
    for (const { input, format } of files) {
      if (isPipe(input) && format.reads === "bytes") {
        yield format.open({ name: input.name, openBytes: () => openPipe(input, signal) })
        continue
      }
      const { path, remove } = await toLocalFile(input, context)
      try {
        const reader = await format.open({
          name: input.name,
          path,
          tempDir,
          ids,
          openBytes: () => openFile(path, signal),
        })
        yield withPartitions(reader, partitionsOf(input.name))
      } finally {
        await remove()
      }
    }
    await ids.end(name)
  } finally {
    await ids.close()
    await localIds?.remove()
  }
}

/** By the name of the file: an array, a column of a format that has types, else the lines of a text. */
async function openIds(
  name: string,
  path: string,
  idColumn: string,
  { tempDir, signal, memoryLimit }: ReadContext,
): Promise<RowIds> {
  const format = formatByName(name)
  const openBytes = () => openFile(path, signal)
  if (format === undefined || format.reads === "bytes")
    return idsFrom(idsOfLines(name, openBytes), name, true)
  if (format.name === "npy") return idsFrom(idsOfNpy(name, path), name, false)
  if (format.idsBeside) throw invalidInput(`${name} holds vectors, expected ids`, { ids: name })
  const reader = await format.open({ name, path, tempDir, ids: countedIds(), openBytes })
  return idsFrom(idsOfColumn(reader, idColumn, { signal, memoryLimit }), name, false)
}

const CHUNK_BYTES = 2 ** 20

const openFile = (path: string, signal: AbortSignal | undefined): AsyncIterable<Uint8Array> =>
  createReadStream(path, { highWaterMark: CHUNK_BYTES, signal })

// Waiting for input that does not come must end when the signal fires.
const openStdin = (signal: AbortSignal | undefined): AsyncIterable<Uint8Array> =>
  signal === undefined ? process.stdin : addAbortSignal(signal, process.stdin)

const openPipe = (input: Input, signal: AbortSignal | undefined): AsyncIterable<Uint8Array> =>
  input.kind === "pipe" ? openFile(input.path, signal) : openStdin(signal)

interface LocalFile {
  readonly path: string
  remove(): Promise<void>
}

async function toLocalFile(
  input: Input,
  { tempDir, openInputStore, signal }: ReadContext,
): Promise<LocalFile> {
  if (input.kind === "file") return { path: input.path, remove: async () => {} }
  const dir = await makeTempDir(tempDir, "vecsnap-input")
  const remove = () => rm(dir, { recursive: true, force: true })
  const path = join(dir, "input")
  try {
    if (input.kind === "stdin" || input.kind === "pipe")
      await pipeline(openPipe(input, signal), createWriteStream(path))
    else await download(input.store, input.key, path, openInputStore, signal)
  } catch (error) {
    await remove()
    throw asTempFault(tempDir, dir, error)
  }
  return { path, remove }
}

async function download(
  storeUrl: string,
  key: string,
  path: string,
  openInputStore: (url: string) => ObjectStore,
  signal: AbortSignal | undefined,
): Promise<void> {
  const store = openInputStore(storeUrl)
  try {
    const found = await store.getFile(key, path, { signal })
    if (found === undefined) throw notFound(`there is no object ${storeUrl}/${key}`, { store: storeUrl, key })
  } finally {
    store.close()
  }
}
