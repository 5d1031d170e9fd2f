/**
 * Values of Arrow columns, read from their buffers by rules of our own: text is checked to be UTF-8, integers
 * and times keep all digits, and every value becomes what JSON has for it. Offsets are checked, since they
 * come from the file.
 */
import { isUtf8 } from "node:buffer"
import {
  type Batch,
  type DataType,
  DateUnit,
  type Field,
  IntervalUnit,
  Precision,
  TimeUnit,
  Type,
  UnionMode,
} from "@uwdata/flechette"
import { parseJson } from "../../json.js"
import { float16 } from "../../vectors/npy.js"
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

/** The value of a row, from 0; null where there is none. */
export type ReadValue = (row: number) => unknown

/** What is known of a column beyond its type. */
interface Context {
  /** Column of the file, for messages. */
  readonly column: string
  /** Whether the value is within another, where binary data becomes base64, since JSON has no other form. */
  readonly nested: boolean
}

/** Reads the values of one batch of a column. They throw {@link BadValue}, as accessors of rows may. */
export function columnValues(field: Field, batch: Batch<unknown>): ReadValue {
  return fieldValues(field, batch, { column: field.name, nested: false })
}

/** Whether a column is a list of floating-point numbers, as vectors are. */
export function isFloatList(type: DataType): boolean {
  return isList(type) && type.children[0]!.type.typeId === Type.Float
}

type AnyList = Extract<DataType, { typeId: (typeof LIST_TYPES)[number] }>
const LIST_TYPES = [Type.List, Type.LargeList, Type.FixedSizeList, Type.ListView, Type.LargeListView] as const
const isList = (type: DataType): type is AnyList => LIST_TYPES.some((id) => id === type.typeId)

function fieldValues(field: Field, batch: Batch<unknown>, context: Context): ReadValue {
  const read = withoutNulls(batch, valuesOf(batch, context))
  switch (field.metadata?.get("ARROW:extension:name")) {
    case "arrow.uuid":
      return (row) => uuid(read(row))
    case "arrow.json":
      return (row) => json(read(row), context.column)
    case "arrow.bool8":
      return (row) => {
        const value = read(row)
        return typeof value === "number" ? value !== 0 : value
      }
    default:
      return context.nested ? (row) => base64(read(row)) : read
  }
}

function withoutNulls(batch: Batch<unknown>, read: ReadValue): ReadValue {
  const { validity, nullCount } = batch
  if (nullCount === 0 || validity === undefined || validity.length === 0) return read
  return (row) => (batch.isValid(row) ? read(row) : null)
}

/** Values of rows that are not null. */
function valuesOf(batch: Batch<unknown>, context: Context): ReadValue {
  const { type } = batch
  const { column } = context
  switch (type.typeId) {
    case Type.Null:
      return () => null
    case Type.Bool: {
      const bits = batch.values as Uint8Array
      return (row) => (bits[row >> 3]! & (1 << (row & 7))) !== 0
    }
    case Type.Int:
    case Type.Duration:
      return numbersOf(batch)
    case Type.Float:
      return type.precision === Precision.HALF ? mapped(numbersOf(batch), float16) : numbersOf(batch)
    case Type.Decimal:
      return decimals(batch, type.bitWidth, type.scale, context.nested ? plainDecimal : decimalOf)
    case Type.Date: {
      const numbers = numbersOf(batch)
      if (type.unit === DateUnit.DAY) return (row) => plainDate(Number(numbers(row)))
      return (row) => plainDate(Math.floor(Number(numbers(row)) / 86_400_000))
    }
    case Type.Time: {
      const perSecond = unitsPerSecond(type.unit)
      return mapped(numbersOf(batch), (count) => plainTime(BigInt(count), perSecond))
    }
    case Type.Timestamp: {
      const perSecond = unitsPerSecond(type.unit)
      const zone = type.timezone ? "Z" : ""
      return mapped(numbersOf(batch), (count) => plainTimestamp(BigInt(count), perSecond, zone))
    }
    case Type.Interval:
      return intervals(batch, type.unit)
    case Type.Binary:
    case Type.LargeBinary:
      return variableBytes(batch)
    case Type.FixedSizeBinary: {
      const { stride } = type
      return (row) => slice(batch.values as Uint8Array, row * stride, (row + 1) * stride)
    }
    case Type.BinaryView:
      return viewedBytes(batch)
    case Type.Utf8:
    case Type.LargeUtf8:
      return mapped(variableBytes(batch), (bytes) => text(bytes, column))
    case Type.Utf8View:
      return mapped(viewedBytes(batch), (bytes) => text(bytes, column))
    case Type.List:
    case Type.LargeList:
    case Type.ListView:
    case Type.LargeListView:
    case Type.FixedSizeList:
      return lists(batch, type, context)
    case Type.Map: {
      const entries = batch.children[0]!
      const [key, value] = childValues(entries, type.children[0].type, context)
      const range = rangeOf(batch, type, entries.length)
      return (row) => plainMap(range(row, (i) => [key!(i), value!(i)] as const))
    }
    case Type.Struct: {
      const members = childValues(batch, type, context)
      const names = type.children.map(({ name }) => name)
      // Not by assignment, which would give "__proto__" a meaning.
      return (row) => Object.fromEntries(names.map((name, i) => [name, members[i]!(row)]))
    }
    case Type.Union:
      return unions(batch, type, context)
    case Type.RunEndEncoded:
      return runs(batch, type.children[1], context)
    case Type.Dictionary:
      return dictionaryValues(batch, context)
    default:
      throw new Error(`unsupported type ${type.typeId}`)
  }
}

/** Values as they are stored: 64-bit integers as `bigint`. */
function numbersOf(batch: Batch<unknown>): (row: number) => number & bigint {
  const values = batch.values as unknown as ArrayLike<number & bigint>
  if (values.length < batch.length) throw outOfRange()
  return (row) => values[row]!
}

const mapped =
  <T, R>(read: (row: number) => T, map: (value: T) => R) =>
  (row: number): R =>
    map(read(row))

const UNITS_PER_SECOND: Readonly<Record<number, bigint>> = {
  [TimeUnit.SECOND]: UNITS.second,
  [TimeUnit.MILLISECOND]: UNITS.milli,
  [TimeUnit.MICROSECOND]: UNITS.micro,
  [TimeUnit.NANOSECOND]: UNITS.nano,
}
const unitsPerSecond = (unit: number): bigint => UNITS_PER_SECOND[unit]!

function decimals(
  batch: Batch<unknown>,
  bitWidth: number,
  scale: number,
  toValue: (unscaled: bigint, scale: number) => unknown,
): ReadValue {
  const values = batch.values as Int32Array | BigUint64Array
  const words = Math.max(1, bitWidth / 64)
  if (values.length < batch.length * words) throw outOfRange()
  return (row) => {
    let bits = 0n
    for (let i = words - 1; i >= 0; i--) bits = (bits << 64n) | BigInt(values[row * words + i]!)
    return toValue(BigInt.asIntN(bitWidth, bits), scale)
  }
}

function intervals(batch: Batch<unknown>, unit: number): ReadValue {
  const { buffer, byteOffset, byteLength } = batch.values
  const view = new DataView(buffer, byteOffset, byteLength)
  if (unit === IntervalUnit.YEAR_MONTH)
    return (row) => plainInterval(view.getInt32(row * 4, true), 0, 0n, UNITS.milli)
  if (unit === IntervalUnit.DAY_TIME)
    return (row) =>
      plainInterval(0, view.getInt32(row * 8, true), BigInt(view.getInt32(row * 8 + 4, true)), UNITS.milli)
  return (row) =>
    plainInterval(
      view.getInt32(row * 16, true),
      view.getInt32(row * 16 + 4, true),
      view.getBigInt64(row * 16 + 8, true),
      UNITS.nano,
    )
}

const outOfRange = (): Error => new RangeError("a value lies outside of its buffer")

function slice(bytes: Uint8Array, start: number, end: number): Uint8Array {
  if (!(start >= 0 && start <= end && end <= bytes.length)) throw outOfRange()
  return bytes.subarray(start, end)
}

function variableBytes(batch: Batch<unknown>): (row: number) => Uint8Array {
  const { offsets } = batch
  const values = batch.values as Uint8Array
  return (row) => slice(values, Number(offsets[row]), Number(offsets[row + 1]))
}

const VIEW_BYTES = 16
const INLINE_BYTES = 12

/** Short values stand in their view, long ones in one of several buffers. */
function viewedBytes(batch: Batch<unknown>): (row: number) => Uint8Array {
  const views = batch.values as Uint8Array
  const { data } = batch as unknown as { readonly data: readonly Uint8Array[] }
  const view = new DataView(views.buffer, views.byteOffset, views.byteLength)
  return (row) => {
    const start = row * VIEW_BYTES
    const length = view.getInt32(start, true)
    if (length <= INLINE_BYTES) return slice(views, start + 4, start + 4 + length)
    const buffer = data[view.getInt32(start + 8, true)]
    if (buffer === undefined) throw outOfRange()
    const offset = view.getInt32(start + 12, true)
    return slice(buffer, offset, offset + length)
  }
}

function text(bytes: Uint8Array, column: string): string {
  if (!isUtf8(bytes)) throw new BadValue(column, "is not UTF-8")
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("utf8")
}

function uuid(value: unknown): unknown {
  if (!(value instanceof Uint8Array)) return value
  const digits = Buffer.from(value).toString("hex")
  return digits.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-")
}

function json(value: unknown, column: string): unknown {
  if (typeof value !== "string") return value
  try {
    return parseJson(value)
  } catch (error) {
    throw new BadValue(column, `is not JSON: ${(error as Error).message}`)
  }
}

const base64 = (value: unknown): unknown =>
  value instanceof Uint8Array ? Buffer.from(value).toString("base64") : value

const childValues = (batch: Batch<unknown>, type: DataType, context: Context): ReadValue[] =>
  (type as { readonly children: readonly Field[] }).children.map((field, i) =>
    fieldValues(field, batch.children[i]!, { ...context, nested: true }),
  )

/** Calls a function for every place of a row's list in the child, which has `childLength` values. */
function rangeOf(batch: Batch<unknown>, type: DataType, childLength: number) {
  const bounds = boundsOf(batch, type)
  return <T>(row: number, at: (i: number) => T): T[] => {
    const [start, end] = bounds(row)
    if (!(start >= 0 && start <= end && end <= childLength)) throw outOfRange()
    const items: T[] = []
    for (let i = start; i < end; i++) items.push(at(i))
    return items
  }
}

function boundsOf(batch: Batch<unknown>, type: DataType): (row: number) => readonly [number, number] {
  const { offsets, sizes } = batch
  if (type.typeId === Type.FixedSizeList) {
    const { stride } = type
    return (row) => [row * stride, (row + 1) * stride]
  }
  if (type.typeId === Type.ListView || type.typeId === Type.LargeListView)
    return (row) => [Number(offsets[row]), Number(offsets[row]) + Number(sizes[row])]
  return (row) => [Number(offsets[row]), Number(offsets[row + 1])]
}

/**
 * Lists of floating-point numbers without nulls come as typed arrays, without a copy where that is possible.
 */
function lists(batch: Batch<unknown>, type: AnyList, context: Context): ReadValue {
  const child = batch.children[0]!
  if (isFloatList(type) && child.nullCount === 0 && !context.nested) {
    const values = child.values as Float32Array | Float64Array | Uint16Array
    const bounds = boundsOf(batch, type)
    const view = (row: number) => {
      const [start, end] = bounds(row)
      if (!(start >= 0 && start <= end && end <= values.length)) throw outOfRange()
      return values.subarray(start, end)
    }
    return values instanceof Uint16Array
      ? (row) => Float32Array.from(view(row) as Uint16Array, float16)
      : view
  }
  const [item] = childValues(batch, type, context)
  const range = rangeOf(batch, type, child.length)
  return (row) => range(row, item!)
}

function unions(
  batch: Batch<unknown>,
  type: Extract<DataType, { typeId: typeof Type.Union }>,
  context: Context,
): ReadValue {
  const { typeIds } = batch as unknown as { readonly typeIds: Int8Array }
  const members = childValues(batch, type, context)
  const isDense = type.mode === UnionMode.Dense
  return (row) => {
    const member = members[type.typeIds.indexOf(typeIds[row]!)]
    if (member === undefined) throw outOfRange()
    return member(isDense ? Number(batch.offsets[row]) : row)
  }
}

/** Values that stand for several rows; the first child says at which row each ends. */
function runs(batch: Batch<unknown>, field: Field, context: Context): ReadValue {
  const [ends, values] = batch.children as [Batch<unknown>, Batch<unknown>]
  const endOf = numbersOf(ends)
  const read = fieldValues(field, values, context)
  let run = 0
  return (row) => {
    // Rows are mostly read in order.
    if (run > 0 && Number(endOf(run - 1)) > row) run = 0
    while (run < ends.length && Number(endOf(run)) <= row) run++
    if (run >= values.length) throw outOfRange()
    return read(run)
  }
}

/** Values that stand once in a dictionary, which may have come in several pieces. */
function dictionaryValues(batch: Batch<unknown>, context: Context): ReadValue {
  const { dictionary } = batch as unknown as {
    readonly dictionary: { readonly data: readonly Batch<unknown>[] } | undefined
  }
  const pieces = (dictionary?.data ?? []).map((piece) => ({
    length: piece.length,
    read: withoutNulls(piece, valuesOf(piece, context)),
  }))
  const indices = numbersOf(batch)
  return (row) => {
    let index = Number(indices(row))
    for (const { length, read } of pieces) {
      if (index < length) return read(index)
      index -= length
    }
    throw outOfRange()
  }
}
