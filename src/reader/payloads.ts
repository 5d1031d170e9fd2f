/** Payloads as the caller wants them. */
import { invalidInput, messageOf } from "../errors.js"
import type { Id, Json } from "../records.js"
import type { PayloadSchema } from "./types.js"

interface WithPayload {
  readonly id: Id
  readonly shard: number
  readonly payload: Json
}

/**
 * A hit or record with its payload checked by `schema`, if there is one. No payload stays null. Throws
 * `InvalidInput` that names id and shard if the payload is not what the schema expects.
 */
export function typePayload<T extends WithPayload, Payload>(
  item: T,
  schema: PayloadSchema<Payload> | undefined,
): Omit<T, "payload"> & { readonly payload: Payload | null } {
  if (schema === undefined || item.payload === null) return item as typeof item & { payload: Payload | null }
  const { id, shard } = item
  try {
    return { ...item, payload: schema.parse(item.payload) }
  } catch (cause) {
    const reason = messageOf(cause)
    throw invalidInput(
      `the payload of record ${JSON.stringify(typeof id === "bigint" ? String(id) : id)} in shard ${shard} is not what payloadSchema expects: ${reason}`,
      { id, shard },
      cause,
    )
  }
}
