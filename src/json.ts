/**
 * JSON without loss: integers beyond 2^53 are `bigint`, both ways. `JSON.parse` would round them silently.
 */
import { isInteger, isSafeNumber, parse, stringify } from "lossless-json"
import type { Json } from "./records.js"

// Only a run of 16 digits or more can be an integer that is not safe, and not one after a point, as vectors are full of;
// all other text takes the fast path.
const MAY_HOLD_BIG_INTEGER = /(?<![.\d])\d{16}/

/**
 * Levels of arrays and objects within one another, at most: in what is read, and in what is written, so that whatever
 * was stored can be read and printed again. Programs that walk through JSON by recursion, ours and others, run out of stack
 * at some thousand levels.
 */
const JSON_MAX_DEPTH = 500

/** Parses JSON text. Throws `SyntaxError` as `JSON.parse` does, and for more than 500 levels. */
export function parseJson(text: string): Json {
  if (isTooDeep(text)) throw new SyntaxError(`it has more than ${JSON_MAX_DEPTH} levels`)
  if (!MAY_HOLD_BIG_INTEGER.test(text)) return JSON.parse(text)
  return parse(text, undefined, { parseNumber }) as Json
}

function parseNumber(digits: string): number | bigint {
  return isInteger(digits) && !isSafeNumber(digits) ? BigInt(digits) : Number(digits)
}

/**
 * Writes JSON text; a `bigint` becomes plain digits. `undefined` properties are left out. Throws `TypeError` for what
 * JSON cannot express, and for more than 500 levels.
 */
export function stringifyJson(value: unknown, indent?: number): string {
  const text = stringifyDeep(value, indent)
  if (text === undefined) throw new TypeError(`${typeof value} cannot be written as JSON`)
  if (isTooDeep(text)) throw tooDeep()
  return text
}

function stringifyDeep(value: unknown, indent: number | undefined): string | undefined {
  try {
    return stringify(value, undefined, indent)
  } catch (error) {
    if (error instanceof RangeError) throw tooDeep()
    throw error
  }
}

const tooDeep = (): TypeError =>
  new TypeError(`a value of more than ${JSON_MAX_DEPTH} levels cannot be written as JSON`)

/** Whether JSON text opens more than {@link JSON_MAX_DEPTH} brackets that are not closed yet. */
function isTooDeep(text: string): boolean {
  if (text.length <= JSON_MAX_DEPTH) return false
  let depth = 0
  for (let i = 0; i < text.length; i++) {
    switch (text.charCodeAt(i)) {
      case QUOTE:
        i = endOfString(text, i)
        break
      case OPEN_BRACKET:
      case OPEN_BRACE:
        if (++depth > JSON_MAX_DEPTH) return true
        break
      case CLOSE_BRACKET:
      case CLOSE_BRACE:
        depth--
    }
  }
  return false
}

const [QUOTE, BACKSLASH, OPEN_BRACKET, CLOSE_BRACKET, OPEN_BRACE, CLOSE_BRACE] = [34, 92, 91, 93, 123, 125]

/** Where the string that starts at `start` has its closing quote; the end of the text if it has none. */
function endOfString(text: string, start: number): number {
  for (let end = text.indexOf('"', start + 1); end >= 0; end = text.indexOf('"', end + 1)) {
    let backslashes = 0
    while (text.charCodeAt(end - 1 - backslashes) === BACKSLASH) backslashes++
    if (backslashes % 2 === 0) return end
  }
  return text.length
}
