/**
 * Values of DuckDB's vectors as the rest of vecsnap has them.
 *
 * Lists of FLOAT and DOUBLE can be read without a copy, from the child of their vector. Where a list or an
 * element is NULL, that memory holds stale values.
 */
import type {
  DuckDBArrayType,
  DuckDBArrayValue,
  DuckDBListType,
  DuckDBListValue,
  DuckDBType,
  DuckDBValue,
  DuckDBVector,
} from "@duckdb/node-api"
import { messageOf } from "../../errors.js"
import { parseJson } from "../../json.js"
import { shortened } from "../../wording.js"
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

export type DuckDB = typeof import("@duckdb/node-api")

export function isFloatList(duckdb: DuckDB, type: DuckDBType): type is DuckDBListType | DuckDBArrayType {
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

export function valueReader(
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
