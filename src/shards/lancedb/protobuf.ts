/** A reader of the protobuf wire format that takes no field for granted. */

/** What is wrong with the bytes; the caller says where. */
export class WireProblem extends Error {}

/** One field of a message: a number, or bytes (a message, text, packed numbers). */
export interface Field {
  readonly number: number
  readonly value: bigint | Uint8Array
}

const VARINT = 0
const EIGHT_BYTES = 1
const LENGTH_DELIMITED = 2
const FOUR_BYTES = 5

/**
 * The fields of a message, in order. Throws for one whose number is not in `known`, and for bytes that are no
 * message.
 */
export function fieldsOf(bytes: Uint8Array, what: string, known: readonly number[]): readonly Field[] {
  const fields: Field[] = []
  let place = 0

  function varint(): bigint {
    let value = 0n
    for (let shift = 0n; shift < 70n; shift += 7n) {
      const byte = bytes[place++]
      if (byte === undefined) throw new WireProblem(`its ${what} ends within a number`)
      value |= BigInt(byte & 0x7f) << shift
      if (byte < 0x80) return BigInt.asUintN(64, value)
    }
    throw new WireProblem(`its ${what} has a number of more than ten bytes`)
  }

  function take(length: bigint): Uint8Array {
    if (length > BigInt(bytes.length - place)) throw new WireProblem(`its ${what} ends within a field`)
    const start = place
    place += Number(length)
    return bytes.subarray(start, place)
  }

  while (place < bytes.length) {
    const key = varint()
    const number = Number(key >> 3n)
    if (!known.includes(number)) throw new WireProblem(`its ${what} has an unknown field, number ${number}`)
    switch (Number(key & 7n)) {
      case VARINT:
        fields.push({ number, value: varint() })
        break
      case LENGTH_DELIMITED:
        fields.push({ number, value: take(varint()) })
        break
      case EIGHT_BYTES:
        fields.push({ number, value: take(8n) })
        break
      case FOUR_BYTES:
        fields.push({ number, value: take(4n) })
        break
      default:
        throw new WireProblem(`its ${what} has a field of an unknown kind, number ${number}`)
    }
  }
  return fields
}

export function numberOf({ value }: Field, what: string): bigint {
  if (typeof value === "bigint") return value
  throw new WireProblem(`its ${what} is not a number`)
}

export function messageOf({ value }: Field, what: string): Uint8Array {
  if (typeof value !== "bigint") return value
  throw new WireProblem(`its ${what} is a number`)
}

export const textOf = (field: Field, what: string): string =>
  Buffer.from(messageOf(field, what)).toString("utf8")

/** Numbers that are packed into one field. */
export function packedOf(field: Field, what: string): readonly bigint[] {
  const bytes = messageOf(field, what)
  const numbers: bigint[] = []
  let value = 0n
  let shift = 0n
  for (const byte of bytes) {
    if (shift > 63n) throw new WireProblem(`its ${what} has a number of more than ten bytes`)
    value |= BigInt(byte & 0x7f) << shift
    shift += 7n
    if (byte >= 0x80) continue
    numbers.push(BigInt.asUintN(64, value))
    value = 0n
    shift = 0n
  }
  if (shift > 0n) throw new WireProblem(`its ${what} ends within a number`)
  return numbers
}
