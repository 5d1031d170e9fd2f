/**
 * From named columns, as all file formats have them, to rows: which column is the id, which the vector, which
 * are fields, and that everything else becomes the payload.
 */
import { isUtf8 } from "node:buffer"
import { invalidInput } from "../errors.js"
import { numberText, stringifyJson } from "../json.js"
import type { FieldType, IdType, RecordBatch, RowUnit } from "../records.js"
import type { VectorEncoding } from "../vectors/packed.js"
import { listOf, quoted } from "../wording.js"
import { isJoinedName, joinableNames, joinColumns, joinedNames } from "./joined-columns.js"
import { isPath, rootOfPath } from "./json-values.js"
import { WrittenValue } from "./plain.js"
import { BadValue, BatchAssembler, badRow, type RawRows, readValue } from "./rows.js"
import type { SourceColumns } from "./source.js"
import { parseTextVector } from "./text-vectors.js"

/** A piece of a file, some thousand rows at most. */
export interface RawColumns {
  readonly rows: number
  rowNumber(row: number): number
  /** Names of the columns; absent where each row has its own (JSON Lines). */
  readonly names?: readonly string[]
  /** The columns that are lists of floating-point numbers by their type; absent where there are no types. */
  readonly vectorNames?: readonly string[]
  /** Names of the columns that a row has. */
  namesOf(row: number): readonly string[]
  /**
   * Values of a column: JSON values, `undefined` where the row has no such column, `Float32Array` or
   * `Float64Array` for lists of numbers, `Uint8Array` for binary data. Views into memory of the file's reader
   * are fine.
   */
  column(name: string): (row: number) => unknown
}

/** Reads one file. */
export interface FileReader {
  readonly file: string
  readonly unit: RowUnit
  readonly text: boolean
  read(options: FileReadOptions): AsyncIterable<RawColumns>
}

/** What the columns of a file are, as far as it says so without being read. */
export interface FileSchema {
  readonly names: readonly string[]
  /** As those of {@link RawColumns}. */
  readonly vectorNames: readonly string[]
}

export interface FileReadOptions {
  readonly signal: AbortSignal | undefined
  /** Takes rows that cannot even be told apart into columns; throws to end the reading. */
  onBadRow(row: number, problem: string): void
  /**
   * The columns that are needed, of those there are. A reader that can leaves the others unread; it may give
   * them all the same.
   */
  select(schema: FileSchema): readonly string[]
  /** Bytes of rows that may be in memory at once. */
  readonly memoryLimit: number
}

/** Which column is what. */
export interface ColumnMapping {
  readonly idColumn: string
  readonly idType: IdType | undefined
  /** Found by name or type if absent. */
  readonly vectorColumn: string | undefined
  /** What the bytes of vectors are that come as binary data. */
  readonly vectorEncoding: VectorEncoding | undefined
  /** Whether binary data in the other columns is UTF-8 text. */
  readonly binaryAsString: boolean
  readonly fields: readonly { readonly name: string; readonly type: FieldType }[]
  /** All that are nothing else, if absent. */
  readonly payloadColumns: readonly string[] | undefined
  readonly shardColumn: string | undefined
}

/** Reads files one after another and puts their rows into batches, each of one file. */
export async function* readBatches(
  files: Iterable<FileReader> | AsyncIterable<FileReader>,
  mapping: ColumnMapping,
  options: {
    readonly signal: AbortSignal | undefined
    readonly dim?: number | undefined
    readonly onBadRow: ((error: Error) => void) | undefined
    readonly onColumns: ((columns: SourceColumns) => void) | undefined
    readonly memoryLimit: number
  },
): AsyncGenerator<RecordBatch> {
  const { signal, onBadRow, onColumns, dim, memoryLimit } = options
  const report =
    onBadRow ??
    ((error: Error) => {
      throw error
    })
  const { fields, idType, shardColumn } = mapping
  const packed = { encoding: mapping.vectorEncoding, dim }
  const assembler = new BatchAssembler(
    { fields, idType, shardRequired: shardColumn !== undefined, packed },
    report,
  )
  let vectorColumn = mapping.vectorColumn
  let areTold = false
  for await (const file of files) {
    const onBadFileRow = (row: number, problem: string) =>
      report(badRow(file.file, file.unit, row, new BadValue(undefined, problem)))
    const select = (schema: FileSchema) => neededColumns(schema, mapping, vectorColumn)
    for await (const read of file.read({ signal, onBadRow: onBadFileRow, select, memoryLimit })) {
      const columns =
        vectorColumn !== undefined && isJoinedName(vectorColumn) ? joinColumns(read, vectorColumn) : read
      vectorColumn ??= findVectorColumn(columns, mapping, file.file)
      if (vectorColumn === undefined) continue
      if (!areTold) onColumns?.(describeColumns(columns, mapping, vectorColumn))
      areTold = true
      const texts = mapping.binaryAsString ? withTexts(columns, vectorColumn) : columns
      const rows = mapRows(texts, { ...mapping, vectorColumn }, file)
      for (let row = 0; row < columns.rows; row++) {
        assembler.add(rows, row)
        if (assembler.isFull) yield assembler.take()!
      }
    }
    const rest = assembler.take()
    if (rest !== undefined) yield rest
  }
}

/**
 * The columns that are read: all, if all that are nothing else make up the payload, or if one of those asked
 * for is not there.
 */
function neededColumns(
  { names, vectorNames }: FileSchema,
  mapping: ColumnMapping,
  vectorColumn: string | undefined,
): readonly string[] {
  const { payloadColumns } = mapping
  const candidates =
    vectorColumn === undefined ? vectorCandidates(untaken(names, mapping), () => vectorNames) : [vectorColumn]
  if (payloadColumns === undefined || candidates.length !== 1) return names
  const [vector] = candidates as [string]
  const vectors = isJoinedName(vector) ? joinedNames(names, vector) : [vector]
  const needed = new Set([...usedColumns(mapping, undefined), ...vectors, ...payloadColumns])
  return [...needed].every((name) => names.includes(name)) ? names.filter((name) => needed.has(name)) : names
}

/** The columns that are something else than payload. */
const usedColumns = (
  { idColumn, shardColumn, fields }: ColumnMapping,
  vectorColumn: string | undefined,
): readonly string[] => [
  idColumn,
  ...(vectorColumn === undefined ? [] : [vectorColumn]),
  ...(shardColumn === undefined ? [] : [shardColumn]),
  ...fields.map(({ name }) => name),
]

/** The columns that may be the vectors, since they are nothing else. */
function untaken(names: readonly string[], mapping: ColumnMapping): readonly string[] {
  const taken = new Set(usedColumns(mapping, undefined))
  return names.filter((name) => !taken.has(name))
}

/** Columns whose binary data is text, but for the vectors. */
function withTexts(columns: RawColumns, vectorColumn: string): RawColumns {
  return {
    ...columns,
    column(name) {
      const value = columns.column(name)
      return name === vectorColumn ? value : (row) => textOf(value(row), name)
    },
  }
}

function textOf(value: unknown, column: string): unknown {
  if (!(value instanceof Uint8Array)) return value
  if (!isUtf8(value)) throw new BadValue(column, "is binary data that is not UTF-8, so it is no text")
  return Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString("utf8")
}

const VECTOR_NAMES = ["vector", "embedding"]

function vectorCandidates(names: readonly string[], byType: () => readonly string[]): readonly string[] {
  const named = names.filter((name) => VECTOR_NAMES.includes(name))
  return named.length > 0 ? named : byType().filter((name) => names.includes(name))
}

/**
 * The column that holds the vectors: the one named so, else the only one that is a list of numbers.
 * `undefined` if there are no rows to tell by. Throws `InvalidInput` that lists the columns if none or
 * several could be it.
 */
function findVectorColumn(columns: RawColumns, mapping: ColumnMapping, file: string): string | undefined {
  if (columns.rows === 0) return undefined
  const names = untaken(columns.names ?? namesOfAnyRow(columns), mapping)
  const candidates = vectorCandidates(
    names,
    () => columns.vectorNames ?? names.filter(looksLikeVectors(columns)),
  )
  if (candidates.length === 1) return candidates[0]
  const found =
    candidates.length === 0
      ? `has no column of vectors; its columns are ${listOf(names)}`
      : `has several columns that could be the vectors: ${listOf(candidates)}`
  const joinable = candidates.length === 0 ? joinableNames(columns, names) : []
  const [vectors, ...others] = columnsOfRows(columns, names)
  const advice =
    vectors !== undefined
      ? `${quoted(vectors)} holds the vectors of many rows, expected a row for each: --sql "select ${others.map((name) => `unnest(${name}) as ${name.replace(/s$/, "")}, `).join("")}unnest(${vectors}) as vector from '${file}'"`
      : joinable.length === 0
        ? `name the right one as the vector column${candidates.length === 0 ? ", or make rows with such a column by SQL" : ""}`
        : `if it has a column for each dimension, name them together as the vector column: ${listOf(joinable)}`
  throw invalidInput(`${file} ${found}; ${advice}`, {
    file,
    columns: names,
    candidates,
  })
}

function namesOfAnyRow(columns: RawColumns): string[] {
  const names = new Set<string>()
  for (let row = 0; row < columns.rows; row++) for (const name of columns.namesOf(row)) names.add(name)
  return [...names]
}

/**
 * Names of the columns that hold a list of all rows, as where a file is one object with a list for each
 * column; first that of the vectors. None if there is none.
 */
function columnsOfRows(columns: RawColumns, names: readonly string[]): readonly string[] {
  const listOfRow = (name: string): readonly unknown[] | undefined => {
    const value = columns.column(name)(0)
    return Array.isArray(value) ? value : undefined
  }
  const vectors = names.find((name) => {
    const first = listOfRow(name)?.[0]
    return Array.isArray(first) && typeof first[0] === "number"
  })
  if (vectors === undefined) return []
  const rows = listOfRow(vectors)!.length
  return [vectors, ...names.filter((name) => name !== vectors && listOfRow(name)?.length === rows)]
}

/** Without types, a column is taken for vectors by the first value that it has. */
function looksLikeVectors(columns: RawColumns): (name: string) => boolean {
  return (name) => {
    const value = columns.column(name)
    for (let row = 0; row < columns.rows; row++) {
      const first = value(row)
      if (first === null || first === undefined) continue
      const numbers = typeof first === "string" ? parseTextVector(first) : first
      return Array.isArray(numbers) && numbers.length > 0 && numbers.every((item) => typeof item === "number")
    }
    return false
  }
}

function describeColumns(columns: RawColumns, mapping: ColumnMapping, vector: string): SourceColumns {
  const used = new Set(usedColumns(mapping, vector))
  const others = (columns.names ?? namesOfAnyRow(columns)).filter((name) => !used.has(name))
  const vectors = columns.vectorNames ?? others.filter(looksLikeVectors(columns))
  return {
    id: mapping.idColumn,
    vector,
    payload: mapping.payloadColumns ?? others,
    payloadVectors:
      mapping.payloadColumns === undefined ? others.filter((name) => vectors.includes(name)) : [],
  }
}

/** Throws `InvalidInput` if the file lacks a column that is asked for by name. */
function mapRows(
  columns: RawColumns,
  mapping: ColumnMapping & { readonly vectorColumn: string },
  { file, unit, text }: FileReader,
): RawRows {
  const { idColumn, vectorColumn, shardColumn, fields, payloadColumns } = mapping
  const used = usedColumns(mapping, vectorColumn)
  if (columns.names !== undefined) assertColumns(columns.names, [...used, ...(payloadColumns ?? [])], file)

  return {
    file,
    unit,
    text,
    columns: { id: idColumn, vector: vectorColumn, shard: shardColumn ?? "" },
    rowNumber: columns.rowNumber,
    id: columns.column(idColumn),
    vector: columns.column(vectorColumn),
    fields: fields.map(({ name }) => columns.column(name)),
    payload: payloadOf(columns, payloadColumns, new Set(used)),
    shard: shardColumn === undefined ? () => undefined : columns.column(shardColumn),
  }
}

function assertColumns(names: readonly string[], asked: readonly string[], file: string): void {
  const missing = asked.find((name) => !names.includes(name))
  if (missing === undefined) return
  const message = `${file} has no column ${quoted(missing)}; its columns are ${listOf(names)}`
  throw invalidInput(message, { file, column: missing, columns: names })
}

function payloadOf(
  columns: RawColumns,
  payloadColumns: readonly string[] | undefined,
  used: ReadonlySet<string>,
): (row: number) => string | null {
  const names = payloadColumns ?? columns.names?.filter((name) => !used.has(name))
  if (names !== undefined) {
    const values = names.map((name) => columns.column(name))
    return (row) => objectText(names, (i) => values[i]!(row))
  }
  // What a path leads into would hold its value once more.
  const paths = [...used].filter(isPath)
  return (row) => {
    const own = columns.namesOf(row)
    const roots = new Set(paths.filter((path) => !own.includes(path)).map(rootOfPath))
    const rest = own.filter((name) => !used.has(name) && !roots.has(name))
    return objectText(rest, (i) => columns.column(rest[i]!)(row))
  }
}

/** JSON text of an object, from the values that are there; null if none is. */
function objectText(names: readonly string[], value: (i: number) => unknown): string | null {
  let text = ""
  for (let i = 0; i < names.length; i++) {
    const member = readValue(names[i]!, () => valueText(value(i)))
    if (member !== undefined) text += `${text === "" ? "{" : ","}${JSON.stringify(names[i])}:${member}`
  }
  return text === "" ? null : `${text}}`
}

/** JSON text of a value; `undefined` for one that is not there. */
function valueText(value: unknown): string | undefined {
  if (value === undefined) return undefined
  if (value instanceof WrittenValue) return JSON.stringify(value.plain)
  if (typeof value === "string" || typeof value === "boolean") return JSON.stringify(value)
  // JSON has no NaN and no infinity; data frames use them for values that are missing.
  if (typeof value === "number") return numberText(value)
  if (typeof value === "bigint") return value.toString()
  if (value instanceof Uint8Array) return JSON.stringify(Buffer.from(value).toString("base64"))
  return stringifyJson(value instanceof Float32Array || value instanceof Float64Array ? [...value] : value)
}
