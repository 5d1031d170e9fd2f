/**
 * JSON without loss: integers beyond 2^53 are `bigint`, both ways. `JSON.parse` would round them silently.
 */
import { isInteger, isSafeNumber, parse, stringify } from "lossless-json"
import type { Json } from "./records.js"

// Only a run of 16 digits or more can be an integer that is not safe, and not one after a point, as vectors are full of;
// all other text takes the fast path.
const MAY_HOLD_BIG_INTEGER = /(?<![.\d])\d{16}/

/** Parses JSON text. Throws `SyntaxError` as `JSON.parse` does. */
export function parseJson(text: string): Json {
  if (!MAY_HOLD_BIG_INTEGER.test(text)) return JSON.parse(text)
  return parse(text, undefined, { parseNumber }) as Json
}

function parseNumber(digits: string): number | bigint {
  return isInteger(digits) && !isSafeNumber(digits) ? BigInt(digits) : Number(digits)
}

/** Writes JSON text; a `bigint` becomes plain digits. `undefined` properties are left out. */
export function stringifyJson(value: unknown, indent?: number): string {
  const text = stringify(value, undefined, indent)
  if (text === undefined) throw new TypeError(`${typeof value} cannot be written as JSON`)
  return text
}
