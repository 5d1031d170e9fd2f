/**
 * From columns as a shard file holds them to values as users see them, the same for all backends.
 */
import { corrupt, messageOf } from "../errors.js"
import { parseJson } from "../json.js"
import type { FieldSpec, FieldValue, Id, Json, SnapshotIdType } from "../records.js"
import { quoted } from "../wording.js"
import type { ShardSpec } from "./backend.js"

/**
 * Values in a payload, about: far more than anybody wants of a hit, and some megabytes when it is parsed. For
 * builds as for readers.
 */
export const PAYLOAD_VALUES_MAX = 200_000

/** Records in columns. Integers are `bigint` whatever their size, payloads are JSON text. */
export interface StoredColumns {
  readonly ids: readonly (string | bigint)[]
  /** A column per declared field, in order. */
  readonly fields: readonly (readonly FieldValue[])[]
  readonly payloads: readonly (string | null)[]
}

/** What users see of a record, apart from its vector. */
export interface RecordView {
  readonly id: Id
  readonly fields: Readonly<Record<string, FieldValue>>
  readonly payload: Json
}

const parsePayloadText: PayloadParser = (text) => parseJson(text, PAYLOAD_VALUES_MAX)

/** What makes a value of the text of a payload; throws for what it does not understand. */
export type PayloadParser = (text: string) => Json

/** Record number `row` of the columns. Throws `Corrupt`, naming `file`, if its payload is not JSON. */
export function viewRecord(
  columns: StoredColumns,
  row: number,
  spec: ShardSpec,
  file: string,
  parse: PayloadParser = parsePayloadText,
): RecordView {
  const id = toPublicId(columns.ids[row]!, spec.id)
  // Not by assignment: a field may be named "__proto__".
  const fields = Object.fromEntries(
    spec.fields.map((field, column) => [
      field.name,
      toPublicInteger(columns.fields[column]![row]!, field.wide === true),
    ]),
  )
  return { id, fields, payload: parsePayload(columns.payloads[row]!, id, file, parse) }
}

/** Ids of mixed types tell of themselves whether a `number` is exact. */
export const toPublicId = (id: string | bigint, { type, wide }: ShardSpec["id"]): Id =>
  toPublicInteger(id, type === "mixed" ? !isSafe(id) : wide)

const isSafe = (id: string | bigint): boolean => Number.isSafeInteger(Number(id))

function toPublicInteger<T extends FieldValue>(value: T, wide: boolean): T | number {
  return typeof value === "bigint" && !wide ? Number(value) : value
}

function parsePayload(text: string | null, id: Id, file: string, parse: PayloadParser): Json {
  if (text === null) return null
  try {
    return parse(text)
  } catch (cause) {
    const reason = messageOf(cause)
    throw corrupt(
      `${file}: the payload of record ${quoted(String(id))} cannot be read as JSON: ${reason}`,
      { file, id },
      cause,
    )
  }
}

/** Declared fields as recorded in a shard file, to be compared with those of the snapshot. */
export function describeFields(fields: readonly FieldSpec[]): string {
  return JSON.stringify(fields.map(({ name, type }) => [name, type]))
}

/** Throws `Corrupt` unless the file has as many rows as the manifest says, where that is known. */
export function checkRowCount(file: string, got: number, expected: number | undefined): void {
  if (expected === undefined || got === expected) return
  throw corrupt(`${file} has ${got} rows, the manifest says ${expected}`, { file, got, expected })
}

/** What a shard file says of itself. */
export interface ShardFacts {
  readonly dim: string | number | undefined
  readonly metric: string | undefined
  readonly idType: SnapshotIdType | string | undefined
  readonly fields: string | undefined
}

/** Throws `Corrupt` if the file is not one of this snapshot. */
export function checkFacts(file: string, got: ShardFacts, spec: ShardSpec): void {
  const expected = [
    ["dimension", spec.dim, got.dim],
    ["metric", spec.metric, got.metric],
    ["id type", spec.id.type, got.idType],
    ["fields", describeFields(spec.fields), got.fields],
  ] as const
  for (const [what, want, found] of expected) {
    if (String(found) !== String(want)) {
      throw corrupt(`${file} has the wrong ${what}: expected ${want}, got ${found}`, { file, want, found })
    }
  }
}
