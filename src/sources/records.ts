/** Records in memory, or from anywhere, as a source. */
import { invalidInput } from "../errors.js"
import { stringifyJson } from "../json.js"
import { assertJson } from "../json-check.js"
import type { FieldType, IdType, RecordBatch, VectorRecord } from "../records.js"
import type { VectorEncoding } from "../vectors/packed.js"
import { kindOf, listOf, shortened } from "../wording.js"
import { assertVectorEncoding, fieldList } from "./fields.js"
import { BadValue, BatchAssembler, type RawRows } from "./rows.js"
import type { ReadOptions, Source } from "./source.js"

export interface RecordsOptions {
  /** Types of the fields by name; records must not have others. Default none. */
  readonly fields?: Readonly<Record<string, FieldType>> | undefined
  /** Forces the type of ids; default that of the first record's. */
  readonly idType?: IdType | undefined
  /**
   * What the bytes of vectors are that come as `Buffer` or `Uint8Array`, little-endian. Default: float32
   * where a build replaces a snapshot of that dimension, else such vectors are refused.
   */
  readonly vectorEncoding?: VectorEncoding | undefined
  /** For messages; default "records". */
  readonly name?: string | undefined
}

/**
 * A source of records. An array may be read several times; any other iterable once, and is then spooled to
 * disk where a build needs it twice.
 *
 * Reading throws `InvalidInput` for a record whose id, vector, fields, payload or shard is not what
 * {@link VectorRecord} says, unlike the first record's id type or dimension, or has fields that are not
 * declared.
 */
export function recordsSource(
  records: Iterable<VectorRecord> | AsyncIterable<VectorRecord>,
  options: RecordsOptions = {},
): Source {
  const { idType, name = "records" } = options
  assertVectorEncoding(options.vectorEncoding)
  const fields = fieldList(options.fields ?? {})
  const repeatable = Array.isArray(records)
  let wasRead = false
  return {
    name,
    repeatable,
    fields,
    async *read({ onBadRow, dim }: ReadOptions): AsyncGenerator<RecordBatch> {
      if (wasRead && !repeatable) throw invalidInput(`${name} can be read only once`, { name })
      wasRead = true
      const report =
        onBadRow ??
        ((error: Error) => {
          throw error
        })
      const assembler = new BatchAssembler(
        { fields, idType, shardRequired: false, packed: { encoding: options.vectorEncoding, dim } },
        report,
      )
      let current: unknown
      const rows = recordRows(name, fields, () => current as VectorRecord)
      let row = 0
      for await (const record of records) {
        current = record
        assembler.add(rows, row++)
        if (assembler.isFull) yield assembler.take()!
      }
      const rest = assembler.take()
      if (rest !== undefined) yield rest
    },
  }
}

/** Accessors of the record that is at hand; the row's place only counts. */
function recordRows(
  name: string,
  fields: readonly { readonly name: string }[],
  current: () => VectorRecord,
): RawRows {
  const declared = new Set(fields.map((field) => field.name))
  return {
    file: name,
    unit: "row",
    text: false,
    columns: { id: "id", vector: "vector", shard: "shard" },
    rowNumber: (row) => row + 1,
    id() {
      const record: unknown = current()
      if (typeof record !== "object" || record === null)
        throw new BadValue(undefined, `the record is ${kindOf(record)}, expected an object`)
      assertDeclared(current().fields, declared)
      return current().id
    },
    vector: () => current().vector,
    fields: fields.map((field) => () => {
      const values = current().fields
      return values !== undefined && Object.hasOwn(values, field.name) ? values[field.name] : undefined
    }),
    payload() {
      const { payload } = current()
      if (payload === undefined || payload === null) return null
      assertJson(payload, "payload", (path, problem) => new BadValue(path, problem))
      return stringifyJson(payload)
    },
    shard: () => current().shard,
  }
}

function assertDeclared(fields: unknown, declared: ReadonlySet<string>): void {
  if (fields === undefined) return
  if (typeof fields !== "object" || fields === null)
    throw new BadValue("fields", `is ${kindOf(fields)}, expected an object`)
  const names = Object.keys(fields).filter((name) => !declared.has(name))
  if (names.length === 0) return
  const known = listOf([...declared], shortened)
  throw new BadValue(
    "fields",
    `has ${listOf(names, shortened)}, which is not declared; declared are ${known}`,
  )
}
