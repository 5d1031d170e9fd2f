/** Rows as the format can hold them: fields go into the payload under their names. Pure. */
import { invalidInput } from "../../../errors.js"
import { parseJson, stringifyJson } from "../../../json.js"
import type { FieldValue, Json } from "../../../records.js"
import type { ShardRows } from "../../../shards/backend.js"
import { kindOf } from "../../../wording.js"

export interface RowOptions {
  /** Fields by which rows are routed. */
  readonly routedBy: readonly string[]
}

/**
 * The rows with their fields in the payloads. Throws `InvalidInput`, naming the record, for a payload that is
 * no object, a field that it has already, and values that Python would read otherwise.
 */
export function withFieldsInPayload(rows: ShardRows, { routedBy }: RowOptions): ShardRows {
  const fields = Object.entries(rows.fields)
  const payloads = rows.payloads.map((text, row) => {
    const fail = (problem: string): Error => {
      const id = rows.ids.values[row]!
      const shown = typeof id === "string" ? JSON.stringify(id) : String(id)
      return invalidInput(`record ${shown} ${problem}`, { id })
    }
    for (const name of routedBy) {
      // Its reader cuts text there, and would look for the row in another shard.
      if (String(rows.fields[name]?.[row]).includes("\0"))
        throw fail(
          `has a NUL in the field "${name}", by which it is routed: shardyfusion cannot route by that`,
        )
    }
    const payload = text === null ? null : parseJson(text)
    if (payload !== null && (typeof payload !== "object" || Array.isArray(payload)))
      throw fail(`has ${kindOf(payload)} as payload: shardyfusion takes objects only`)
    if (fields.length === 0) return text
    const own: Readonly<Record<string, Json>> = (payload ?? {}) as Readonly<Record<string, Json>>
    const values = fields.map(([name, column]): [string, Json] => {
      if (Object.hasOwn(own, name))
        throw fail(`has "${name}" in its payload, which is also one of its fields`)
      return [name, checked(column[row]!, name, fail)]
    })
    return stringifyJson(Object.fromEntries([...values, ...Object.entries(own)]))
  })
  return { ...rows, fields: {}, payloads }
}

function checked(value: FieldValue, name: string, fail: (problem: string) => Error): Json {
  if (typeof value === "number" && !Number.isFinite(value))
    throw fail(`has ${value} in the field "${name}", for which JSON has no form`)
  return value
}
