/**
 * The rules for rows, the same for every kind of input: which ids, vectors, field values and shard numbers
 * are good, and the words for those that are not. Rows are copied out of their input at once, so inputs may
 * reuse their memory.
 */
import { invalidInput, isVecsnapError, messageOf, type VecsnapError } from "../errors.js"
import { isTooDeepAsValue, VALUE_MAX_DEPTH } from "../json.js"
import type { FieldType, FieldValue, IdColumn, IdType, RecordBatch, RowUnit } from "../records.js"
import { type PackedReading, unpackVector } from "../vectors/packed.js"
import { vectorProblem } from "../vectors/validate.js"
import { quoted, shortened } from "../wording.js"
import { WrittenValue } from "./plain.js"
import { parseTextVector } from "./text-vectors.js"

/** Rows in reach, whose values are not checked yet. All accessors take the row's place, from 0. */
export interface RawRows {
  /** What the user would recognise. */
  readonly file: string
  /** What `rowNumber` counts. */
  readonly unit: RowUnit
  /** Whether values are text (CSV), so that numbers, truth values and integer ids are read from it. */
  readonly text: boolean
  /** Names for messages. */
  readonly columns: { readonly id: string; readonly vector: string; readonly shard: string }
  /** 1-based number of the row in `file`. */
  rowNumber(row: number): number
  id(row: number): unknown
  vector(row: number): unknown
  /** Value of each declared field, in order of the declaration. */
  readonly fields: readonly ((row: number) => unknown)[]
  /**
   * JSON text, or null for none. Whatever an accessor throws, but for an error of ours, is the fault of this
   * row; {@link BadValue} says of which column.
   */
  payload(row: number): string | null
  shard(row: number): unknown
}

export interface RowRules {
  readonly fields: readonly { readonly name: string; readonly type: FieldType }[]
  /** Forced type of ids; else that of the first good row. */
  readonly idType: IdType | undefined
  /** How vectors that come as bytes are read. */
  readonly packed: PackedReading
  /** Whether rows must have a shard number; else the first good row decides for all. */
  readonly shardRequired: boolean
}

/**
 * What is wrong with one value of a row, in words that follow the name of its column: "is null, expected
 * ...".
 */
export class BadValue extends Error {
  readonly column: string | undefined

  constructor(column: string | undefined, problem: string) {
    super(problem)
    this.column = column
  }
}

/**
 * What `read` gives. If it fails, that is the fault of `column` of the row at hand, and no more than that.
 */
export function readValue<T>(column: string | undefined, read: () => T): T {
  try {
    return read()
  } catch (error) {
    if (error instanceof BadValue || isVecsnapError(error)) throw error
    throw new BadValue(column, `cannot be read: ${shortened(messageOf(error), 200)}`)
  }
}

/** The error for a bad row: names file, row and column, what was found there and what was expected. */
export function badRow(
  file: string,
  unit: RowUnit,
  row: number,
  { column, message }: BadValue,
): VecsnapError {
  const subject = column === undefined ? "" : `column ${quoted(column)} `
  const details = { file, row, ...(column !== undefined && { column }) }
  return invalidInput(`${file}, ${unit} ${row}: ${subject}${message}`, details)
}

// Batches are bounded in rows and in bytes, of vectors and of text.
const MAX_BATCH_ROWS = 2048
const MIN_BATCH_ROWS = 64
const MAX_BATCH_BYTES = 16 * 2 ** 20

/**
 * Puts good rows into batches. The first good row of all decides the dimension and, unless forced, the id
 * type. Lives for one reading of one source.
 */
export class BatchAssembler {
  readonly #rules: RowRules
  readonly #onBadRow: (error: Error) => void
  #dim: number | undefined
  #idType: IdType | undefined
  #hasShards: boolean | undefined
  #batch: OpenBatch | undefined

  /** `onBadRow` is called for each bad row, which is then left out, unless it throws. */
  constructor(rules: RowRules, onBadRow: (error: Error) => void) {
    this.#rules = rules
    this.#onBadRow = onBadRow
    this.#idType = rules.idType
    this.#hasShards = rules.shardRequired ? true : undefined
  }

  /** Adds a row if it is good. A batch holds rows of one file: {@link take} it before those of the next. */
  add(rows: RawRows, row: number): void {
    try {
      this.#addGood(rows, row)
    } catch (error) {
      if (!(error instanceof BadValue)) throw error
      this.#onBadRow(badRow(rows.file, rows.unit, rows.rowNumber(row), error))
    }
  }

  /** Whether the batch must be taken before more rows are added. */
  get isFull(): boolean {
    const batch = this.#batch
    return batch !== undefined && (batch.rows === batch.capacity || batch.textLength > MAX_BATCH_BYTES)
  }

  /** The rows added since the last call; `undefined` if there are none. */
  take(): RecordBatch | undefined {
    const batch = this.#batch
    this.#batch = undefined
    if (batch === undefined || batch.rows === 0) return undefined
    const { rows, dim } = batch
    return {
      rows,
      dim,
      ids: idColumn(batch.ids, this.#idType!),
      vectors: rows === batch.capacity ? batch.vectors : batch.vectors.slice(0, rows * dim),
      fields: Object.fromEntries(this.#rules.fields.map(({ name }, i) => [name, batch.fields[i]!])),
      payloads: batch.payloads,
      ...(this.#hasShards && { shards: Int32Array.from(batch.shards) }),
      origin: { file: batch.file, unit: batch.unit, rows: Float64Array.from(batch.rowNumbers) },
    }
  }

  // Nothing is kept of a row until all of it has been found good; the place of its vector may be overwritten.
  #addGood(rows: RawRows, row: number): void {
    const { columns, text } = rows
    const givenId = readValue(columns.id, () => rows.id(row))
    const id = idFrom(givenId, this.#idType, this.#rules.idType !== undefined, text, columns.id)

    const vector = readValue(columns.vector, () =>
      numbersFrom(rows.vector(row), this.#rules.packed, columns.vector),
    )
    const dim = this.#dim ?? vector.length
    if (dim === 0) throw new BadValue(columns.vector, "has no values, expected at least 1")
    const batch = this.#batch ?? openBatch(rows, dim, this.#rules.fields.length)
    readValue(columns.vector, () => {
      copyVector(vector, batch.vectors, batch.rows * dim, dim, columns.vector)
    })

    const values = this.#rules.fields.map(({ name, type }, i) =>
      fieldFrom(
        readValue(name, () => rows.fields[i]!(row)),
        type,
        text,
        name,
      ),
    )
    const givenShard = readValue(columns.shard, () => rows.shard(row))
    const hasShards = this.#hasShards ?? givenShard !== undefined
    const shard = hasShards ? shardFrom(givenShard, text, columns.shard) : undefined
    if (!hasShards && givenShard !== undefined)
      throw new BadValue(columns.shard, `is ${show(givenShard)}, expected none as in the rows before`)
    const payload = readValue("payload", () => rows.payload(row))
    if (payload !== null && isTooDeepAsValue(payload))
      throw new BadValue("payload", `is nested deeper than ${VALUE_MAX_DEPTH} levels`)

    this.#dim = dim
    this.#idType ??= typeof id === "string" ? "string" : "int64"
    this.#hasShards = hasShards
    this.#batch = batch
    batch.rows++
    batch.ids.push(id)
    for (let i = 0; i < values.length; i++) batch.fields[i]!.push(values[i]!)
    batch.payloads.push(payload)
    batch.textLength += payload?.length ?? 0
    if (shard !== undefined) batch.shards.push(shard)
    batch.rowNumbers.push(rows.rowNumber(row))
  }
}

interface OpenBatch {
  readonly file: string
  readonly unit: RowUnit
  readonly dim: number
  readonly capacity: number
  readonly vectors: Float32Array
  readonly ids: (string | bigint)[]
  readonly fields: readonly FieldValue[][]
  readonly payloads: (string | null)[]
  readonly shards: number[]
  readonly rowNumbers: number[]
  rows: number
  textLength: number
}

function openBatch({ file, unit }: RawRows, dim: number, fields: number): OpenBatch {
  const rowsThatFit = Math.floor(MAX_BATCH_BYTES / (dim * Float32Array.BYTES_PER_ELEMENT))
  const capacity = Math.min(MAX_BATCH_ROWS, Math.max(MIN_BATCH_ROWS, rowsThatFit))
  return {
    file,
    unit,
    dim,
    capacity,
    vectors: new Float32Array(capacity * dim),
    ids: [],
    fields: Array.from({ length: fields }, () => []),
    payloads: [],
    shards: [],
    rowNumbers: [],
    rows: 0,
    textLength: 0,
  }
}

function idColumn(ids: readonly (string | bigint)[], type: IdType): IdColumn {
  return type === "string"
    ? { type, values: ids as readonly string[] }
    : { type, values: BigInt64Array.from(ids as readonly bigint[]) }
}

const INT64_MIN = -(2n ** 63n)
const INT64_MAX = 2n ** 63n - 1n

// Digits that come back as they were: no sign +, no leading zero, so that "007" stays a string.
const PLAIN_INTEGER = /^(?:0|-?[1-9]\d{0,18})$/
const INTEGER = /^\s*[+-]?\d+\s*$/
const DECIMAL = /^\s*[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?\s*$/i

/**
 * An id of the type that is `known` from the rows before or `forced` by the user. Digits are taken for an
 * integer where the input has nothing but text, or on the user's word.
 */
function idFrom(
  value: unknown,
  known: IdType | undefined,
  forced: boolean,
  text: boolean,
  column: string,
): string | bigint {
  if (value === null || value === undefined) throw new BadValue(column, "is missing, expected an id")
  const isDigits = (text || forced) && typeof value === "string" && PLAIN_INTEGER.test(value)
  const integer = toInt64(isDigits ? BigInt(value) : value)
  const type = known ?? (integer === undefined ? "string" : "int64")
  if (type === "int64" && integer !== undefined) return integer
  if (type === "string" && value === "") throw new BadValue(column, "is empty, expected an id")
  if (type === "string" && typeof value === "string") return storableText(value, column)
  if (type === "string" && forced && isInteger(value)) return BigInt(value).toString()
  throw new BadValue(
    column,
    `is ${show(value)}, expected ${expectedId(known, forced)}${idAdvice(value, known, forced)}`,
  )
}

/** Whether a value is written as an integer, of whatever size. */
const isInteger = (value: unknown): value is number | bigint =>
  typeof value === "bigint" || Number.isInteger(value)

function expectedId(known: IdType | undefined, forced: boolean): string {
  if (known === undefined) return "a string or a 64-bit integer"
  const expected = known === "string" ? "a string" : "a 64-bit integer"
  return forced ? expected : `${expected} as in the rows before`
}

/** What to do about ids that differ in type, or are integers of more than 64 bits. */
function idAdvice(value: unknown, known: IdType | undefined, forced: boolean): string {
  if (known !== undefined && !forced) return '; set the id type to "string" to take both'
  const isLarger = known !== "string" && isInteger(value)
  return isLarger ? '; set the id type to "string" to take larger integers as text' : ""
}

/** The value as a 64-bit integer; `undefined` if it is none, or a number that may have lost digits. */
function toInt64(value: unknown): bigint | undefined {
  if (typeof value === "bigint") return value >= INT64_MIN && value <= INT64_MAX ? value : undefined
  return Number.isSafeInteger(value) ? BigInt(value as number) : undefined
}

// UTF-8 has no form for half a surrogate pair, and SQL functions end a text at NUL.
const NOT_STORABLE = /[\0\p{Surrogate}]/u

function storableText(text: string, column: string): string {
  if (!NOT_STORABLE.test(text)) return text
  const found = text.includes("\0") ? "a NUL character" : "half a surrogate pair"
  throw new BadValue(column, `is ${show(text)}, which holds ${found}, expected text that UTF-8 can hold`)
}

function numbersFrom(value: unknown, packed: PackedReading, column: string): ArrayLike<number> {
  if (Array.isArray(value) || value instanceof Float32Array || value instanceof Float64Array) return value
  if (value === null || value === undefined) throw new BadValue(column, "is missing, expected a vector")
  if (value instanceof Uint8Array) return numbersOr(unpackVector(value, packed), column)
  if (typeof value === "string") return numbersOr(parseTextVector(value), column)
  if (typeof value === "object" && "length" in value && Number.isSafeInteger(value.length))
    return value as ArrayLike<number>
  throw new BadValue(column, `is ${show(value)}, expected a list of numbers`)
}

function numbersOr(read: ArrayLike<number> | string, column: string): ArrayLike<number> {
  if (typeof read === "string") throw new BadValue(column, read)
  return read
}

function copyVector(
  vector: ArrayLike<number>,
  to: Float32Array,
  offset: number,
  dim: number,
  column: string,
): void {
  // A sum of squares of float32 values is finite exactly if all are: one test per row, not per value.
  let squares = 0
  if (vector.length === dim) {
    for (let i = 0; i < dim; i++) {
      const given: unknown = vector[i]
      const value = typeof given === "bigint" ? Number(given) : given
      if (typeof value !== "number") {
        squares = Number.NaN
        break
      }
      to[offset + i] = value
      const stored = to[offset + i]!
      squares += stored * stored
    }
    if (Number.isFinite(squares)) return
  }
  // The metric decides on zero vectors, and is not known here: l2 allows them.
  throw new BadValue(column, vectorProblem(vector, dim, "l2") ?? "is not a vector")
}

function fieldFrom(value: unknown, type: FieldType, text: boolean, column: string): FieldValue {
  if (value === null || value === undefined) return null
  const field =
    value instanceof WrittenValue
      ? fieldFromText(value.text, type)
      : text && typeof value === "string"
        ? fieldFromText(value, type)
        : fieldFromValue(value, type)
  if (field === undefined) throw new BadValue(column, `is ${show(value)}, expected ${EXPECTED_FIELD[type]}`)
  return typeof field === "string" ? storableText(field, column) : field
}

const EXPECTED_FIELD: Readonly<Record<FieldType, string>> = {
  string: "a string",
  int64: "a 64-bit integer",
  float64: "a finite number",
  bool: "true or false",
}

function fieldFromValue(value: unknown, type: FieldType): FieldValue | undefined {
  switch (type) {
    case "string":
      return typeof value === "string" ? value : undefined
    case "bool":
      return typeof value === "boolean" ? value : undefined
    case "int64":
      return toInt64(value)
    case "float64": {
      const number = typeof value === "bigint" ? Number(value) : value
      if (typeof number !== "number" || !Number.isFinite(number)) return undefined
      return typeof value === "bigint" && BigInt(number) !== value ? undefined : number
    }
  }
}

function fieldFromText(text: string, type: FieldType): FieldValue | undefined {
  switch (type) {
    case "string":
      return text
    case "bool":
      return /^\s*(?:true|t|1)\s*$/i.test(text) || (/^\s*(?:false|f|0)\s*$/i.test(text) ? false : undefined)
    case "int64":
      return INTEGER.test(text) ? toInt64(BigInt(text.trim().replace(/^\+/, ""))) : undefined
    case "float64":
      return DECIMAL.test(text) ? fieldFromValue(Number(text), type) : undefined
  }
}

const MAX_SHARD = 2n ** 31n - 1n

function shardFrom(value: unknown, text: boolean, column: string): number {
  if (value === null || value === undefined)
    throw new BadValue(column, "is missing, expected the number of a shard")
  const written = value instanceof WrittenValue ? value.text : text ? value : undefined
  const shard = typeof written === "string" ? fieldFromText(written, "int64") : toInt64(value)
  if (typeof shard !== "bigint" || shard < 0n || shard > MAX_SHARD)
    throw new BadValue(column, `is ${show(value)}, expected the number of a shard`)
  return Number(shard)
}

/** A value as it appears in messages: short, and never throwing. */
function show(value: unknown): string {
  if (typeof value === "string") return quoted(value)
  if (value instanceof WrittenValue) return value.text
  if (value instanceof Uint8Array) return "binary data"
  if (Array.isArray(value) || ArrayBuffer.isView(value)) return "a list"
  if (typeof value === "object" && value !== null) return "an object"
  return shortened(String(value))
}
