/**
 * JSON without loss: integers beyond 2^53 are `bigint`, both ways. `JSON.parse` would round them silently.
 */
import { isInteger, isSafeNumber, parse, stringify } from "lossless-json"
import type { Json } from "./records.js"
import { quoted } from "./wording.js"

// Only a run of 16 digits or more can be an integer that is not safe, and not one after a point, as vectors
// are full of; all other text takes the fast path.
const MAY_HOLD_BIG_INTEGER = /(?<![.\d])\d{16}/

/**
 * Levels of arrays and objects within one another, at most: in what is read, and in what is written, so that
 * whatever was stored can be read and printed again. Programs that walk through JSON by recursion, ours and
 * others, run out of stack at some thousand levels.
 */
const JSON_MAX_DEPTH = 500

/**
 * Levels of a value that is stored as its owner gave it, a payload or `custom`, at most: fewer than those of
 * the documents and answers that it becomes a part of.
 */
export const VALUE_MAX_DEPTH = 200

/**
 * Digits of an integer, at most, both ways: to turn a million of them into a number takes seconds.
 */
const JSON_MAX_DIGITS = 1000
const TOO_LARGE = 10n ** BigInt(JSON_MAX_DIGITS)

/**
 * Parses JSON text. Throws `SyntaxError` as `JSON.parse` does, and for more than 500 levels or 1000 digits,
 * and for an object that has one key twice: whichever value were taken, the other one would be lost.
 *
 * @param most values, about, or `SyntaxError`, before any is made: an empty object takes two bytes as text
 * and thirty times that in memory; default: no limit
 */
export function parseJson(text: string, most = Infinity): Json {
  const { isTooDeep, members, values } = shapeOf(text)
  if (values > most) throw new SyntaxError(`it has about ${values} values, expected at most ${most}`)
  if (isTooDeep) throw new SyntaxError(`it has more than ${JSON_MAX_DEPTH} levels`)
  const value = MAY_HOLD_BIG_INTEGER.test(text)
    ? (parse(text, undefined, { parseNumber, onDuplicateKey: () => undefined }) as Json)
    : (JSON.parse(text) as Json)
  if (members > 1 && membersOf(value) < members)
    throw new SyntaxError(`it has the key ${quoted(repeatedKey(text) ?? "")} twice in one object`)
  return value
}

/** Only integers that are written as such become `bigint`: who writes 1.5e16 means a number. */
function parseNumber(digits: string): number | bigint {
  if (digits.replace("-", "").length > JSON_MAX_DIGITS && isInteger(digits))
    throw new SyntaxError(`it has an integer of ${digits.length} digits, expected at most ${JSON_MAX_DIGITS}`)
  return isInteger(digits) && !isSafeNumber(digits) ? BigInt(digits) : Number(digits)
}

/** Members of all objects within a value, repeated keys once. */
function membersOf(value: Json): number {
  if (typeof value !== "object" || value === null) return 0
  const inner: readonly Json[] = Array.isArray(value) ? value : Object.values(value)
  let members = Array.isArray(value) ? 0 : inner.length
  for (const item of inner) if (typeof item === "object" && item !== null) members += membersOf(item)
  return members
}

/**
 * Writes JSON text; a `bigint` becomes plain digits, and a number beyond 2^53 has an exponent, so that both
 * come back as what they were. `undefined` properties are left out. Throws `TypeError` for what JSON cannot
 * express, and for more than 500 levels.
 */
export function stringifyJson(value: unknown, indent?: number): string {
  const text = stringifyDeep(value, indent)
  if (text === undefined) throw new TypeError(`${typeof value} cannot be written as JSON`)
  if (shapeOf(text).isTooDeep) throw tooDeep()
  return text
}

/**
 * JSON text of a number, which {@link parseJson} takes for that number again. Throws no error: NaN and
 * infinity become null.
 */
export function numberText(value: number): string {
  return isLargeInteger(value) ? value.toExponential() : JSON.stringify(value)
}

const isLargeInteger = (value: unknown): value is number =>
  Number.isInteger(value) && !Number.isSafeInteger(value)

const LARGE_NUMBERS = { test: isLargeInteger, stringify: (value: unknown) => numberText(value as number) }
const TOO_LARGE_NUMBERS = {
  test: (value: unknown) => typeof value === "bigint" && (value >= TOO_LARGE || value <= -TOO_LARGE),
  stringify(): never {
    throw new TypeError(`an integer of more than ${JSON_MAX_DIGITS} digits cannot be written as JSON`)
  },
}

function stringifyDeep(value: unknown, indent: number | undefined): string | undefined {
  try {
    return stringify(value, undefined, indent, [LARGE_NUMBERS, TOO_LARGE_NUMBERS])
  } catch (error) {
    if (error instanceof RangeError) throw tooDeep()
    throw error
  }
}

const tooDeep = (): TypeError =>
  new TypeError(`a value of more than ${JSON_MAX_DEPTH} levels cannot be written as JSON`)

/** Whether JSON text has more than {@link VALUE_MAX_DEPTH} levels. */
export const isTooDeepAsValue = (text: string): boolean =>
  // A level takes two brackets: most texts need not be looked at.
  text.length > 2 * VALUE_MAX_DEPTH && shapeOf(text, VALUE_MAX_DEPTH).isTooDeep

/**
 * Whether JSON text has more than so many values, about: one for each bracket that opens and for each comma.
 * Parses nothing.
 */
export const hasMoreValues = (text: string, most: number): boolean =>
  text.length > most && shapeOf(text).values > most

/** What can be told of JSON text without parsing it; if it is not JSON, whatever. */
interface Shape {
  /**
   * Whether it opens more brackets that are not closed yet than it may; nothing was looked at after these.
   */
  readonly isTooDeep: boolean
  /** Members of all objects, repeated keys as often as they are there. */
  readonly members: number
  /** Brackets that open, and commas. */
  readonly values: number
}

function shapeOf(text: string, maxDepth = JSON_MAX_DEPTH): Shape {
  let depth = 0
  let members = 0
  let values = 0
  for (let i = 0; i < text.length; i++) {
    switch (text.charCodeAt(i)) {
      case QUOTE:
        i = endOfString(text, i)
        break
      case COLON:
        members++
        break
      case COMMA:
        values++
        break
      case OPEN_BRACKET:
      case OPEN_BRACE:
        values++
        if (++depth > maxDepth) return { isTooDeep: true, members, values }
        break
      case CLOSE_BRACKET:
      case CLOSE_BRACE:
        depth--
    }
  }
  return { isTooDeep: false, members, values }
}

/** A key that valid JSON text has twice in one object; `undefined` if there is none. */
function repeatedKey(text: string): string | undefined {
  const keys: Set<string>[] = []
  let lastString = ""
  for (let i = 0; i < text.length; i++) {
    switch (text.charCodeAt(i)) {
      case QUOTE: {
        const end = endOfString(text, i)
        lastString = text.slice(i, end + 1)
        i = end
        break
      }
      case COLON: {
        const key = JSON.parse(lastString) as string
        if (keys.at(-1)!.has(key)) return key
        keys.at(-1)!.add(key)
        break
      }
      case OPEN_BRACE:
        keys.push(new Set())
        break
      case CLOSE_BRACE:
        keys.pop()
    }
  }
  return undefined
}

const [QUOTE, COMMA, COLON, BACKSLASH, OPEN_BRACKET, CLOSE_BRACKET, OPEN_BRACE, CLOSE_BRACE] = [
  34, 44, 58, 92, 91, 93, 123, 125,
]

/** Where the string that starts at `start` has its closing quote; the end of the text if it has none. */
function endOfString(text: string, start: number): number {
  for (let end = text.indexOf('"', start + 1); end >= 0; end = text.indexOf('"', end + 1)) {
    let backslashes = 0
    while (text.charCodeAt(end - 1 - backslashes) === BACKSLASH) backslashes++
    if (backslashes % 2 === 0) return end
  }
  return text.length
}
