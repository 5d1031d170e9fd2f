/**
 * Checks of what callers hand to a backend, the same for all of them. All throw `InvalidInput`.
 */
import { access, constants, readdir } from "node:fs/promises"
import { invalidInput } from "../errors.js"
import { hasMoreValues } from "../json.js"
import { compareIds, type FieldSpec, type FieldValue, type Id } from "../records.js"
import type { ShardRows, ShardSpec } from "./backend.js"
import { PAYLOAD_VALUES_MAX } from "./stored.js"

const INT64_MIN = -(2n ** 63n)
const INT64_MAX = 2n ** 63n - 1n
// UTF-8 has no form for half of a surrogate pair: two such strings could not be told apart once stored.
const LONE_SURROGATE = /\p{Surrogate}/u

/** The directory a shard is built into exists, is empty and can be written. */
export async function checkEmptyDirectory(dir: string): Promise<void> {
  let names: string[]
  try {
    names = await readdir(dir)
    await access(dir, constants.W_OK)
  } catch (cause) {
    throw invalidInput(`a shard cannot be built into ${dir}: expected a writable directory`, { dir }, cause)
  }
  if (names.length > 0) {
    throw invalidInput(`a shard cannot be built into ${dir}: expected it to be empty, found ${names[0]}`, {
      dir,
    })
  }
}

/** Columns are complete, of the declared types, and sorted by id without duplicates. */
export function checkRows(rows: ShardRows, spec: ShardSpec): void {
  const count = rows.rows
  if (!Number.isSafeInteger(count) || count < 1) {
    throw invalidInput(`a shard must have at least one row, got ${count}`)
  }
  if (rows.ids.type !== spec.id.type) {
    throw invalidInput(`the ids of a shard must be of type ${spec.id.type}, got ${rows.ids.type}`)
  }
  checkLength("ids", rows.ids.values.length, count)
  checkLength("vectors", rows.vectors.length, count * spec.dim)
  checkLength("payloads", rows.payloads.length, count)
  checkIds(rows.ids.values)
  checkPayloads(rows)
  for (const field of spec.fields) {
    const column = rows.fields[field.name]
    if (column === undefined) throw invalidInput(`the column of field "${field.name}" is missing`)
    checkLength(`field "${field.name}"`, column.length, count)
    for (let row = 0; row < count; row++) checkFieldValue(column[row]!, field, rows.ids.values[row]!)
  }
}

function checkPayloads({ payloads, ids }: ShardRows): void {
  for (const [row, text] of payloads.entries()) {
    if (text === null || !hasMoreValues(text, PAYLOAD_VALUES_MAX)) continue
    const id = ids.values[row]
    throw invalidInput(
      `the payload of record ${id} has more than ${PAYLOAD_VALUES_MAX} values, which no reader takes`,
      { id, row },
    )
  }
}

function checkLength(column: string, got: number, expected: number): void {
  if (got !== expected) {
    throw invalidInput(`the column of ${column} has the wrong length: expected ${expected}, got ${got}`)
  }
}

function checkIds(ids: readonly string[] | BigInt64Array): void {
  for (let row = 0; row < ids.length; row++) {
    const id = ids[row]!
    if (typeof id === "string") checkText(id, "the id")
    if (row > 0 && compareIds(ids[row - 1]!, id) >= 0) {
      throw invalidInput(
        `rows of a shard must be sorted by id without duplicates: ${ids[row - 1]} is followed by ${id}`,
        { id, row },
      )
    }
  }
}

function checkText(text: string, what: string): void {
  if (LONE_SURROGATE.test(text)) {
    throw invalidInput(
      `${what} ${JSON.stringify(text)} is not valid Unicode: it has half of a surrogate pair`,
    )
  }
}

function checkFieldValue(value: FieldValue, field: FieldSpec, id: Id): void {
  if (value === null) return
  if (!isOfType(value, field)) {
    throw invalidInput(
      `field "${field.name}" of record ${id}: expected ${field.type}, got ${typeof value} ${value}`,
      { id, field: field.name },
    )
  }
  if (typeof value === "string") checkText(value, `field "${field.name}" of record ${id}:`)
}

function isOfType(value: FieldValue, field: FieldSpec): boolean {
  switch (field.type) {
    case "string":
      return typeof value === "string"
    case "bool":
      return typeof value === "boolean"
    case "float64":
      return typeof value === "number" && !Number.isNaN(value)
    case "int64":
      return typeof value === "bigint" && value >= INT64_MIN && value <= INT64_MAX
  }
}

/** The ids as they are stored: strings, or 64-bit integers as `bigint`. */
export function toStoredIds(ids: readonly Id[], spec: ShardSpec): (string | bigint)[] {
  return ids.map((id) => {
    if (typeof id === "string") {
      if (spec.id.type !== "int64") return id
    } else if (spec.id.type === "string") {
      // Told below.
    } else if (typeof id === "bigint" ? id >= INT64_MIN && id <= INT64_MAX : Number.isSafeInteger(id)) {
      return BigInt(id)
    }
    throw invalidInput(`ids of this snapshot are of type ${spec.id.type}, got ${typeof id} ${id}`, { id })
  })
}
