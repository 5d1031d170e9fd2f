/**
 * JSON as Python's `json` module writes and reads it: bare `NaN` and `Infinity`, the last of two equal keys.
 * Lossless: integers beyond 2^53 are `bigint`.
 */
import { stringifyJson } from "../../json.js"
import type { Json } from "../../records.js"

/** As in our own JSON: what walks through it by recursion must not run out of stack, nor of time. */
const MAX_DEPTH = 500
const MAX_DIGITS = 1000

const SPACE = /[ \t\n\r]*/y
// What is between the quotes is for `JSON.parse` to judge.
const TEXT = /"[^"\\]*(?:\\[\s\S][^"\\]*)*"/y
const NUMBER = /-?(?:0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?/y
const WORD = /null|true|false|NaN|-?Infinity/y
const WORDS: Readonly<Record<string, Json>> = {
  null: null,
  true: true,
  false: false,
  NaN: Number.NaN,
  Infinity: Number.POSITIVE_INFINITY,
  "-Infinity": Number.NEGATIVE_INFINITY,
}

/**
 * Parses JSON text as Python does. Throws `SyntaxError`, also for more than 500 levels or integers of more
 * than 1000 digits.
 */
export function parsePythonJson(text: string): Json {
  let at = 0
  const fail = (): SyntaxError => new SyntaxError(`it is no JSON at position ${at}`)
  const take = (pattern: RegExp): RegExpExecArray | null => {
    pattern.lastIndex = at
    const match = pattern.exec(text)
    if (match !== null) at = pattern.lastIndex
    return match
  }
  /** Whether the next sign, after white space, is this one, which is then passed. */
  const passes = (sign: string): boolean => {
    take(SPACE)
    if (text[at] !== sign) return false
    at++
    return true
  }

  function value(depth: number): Json {
    if (depth > MAX_DEPTH) throw new SyntaxError(`it has more than ${MAX_DEPTH} levels`)
    if (passes("{")) return object(depth)
    if (passes("[")) return array(depth)
    if (text[at] === '"') return string()
    const word = take(WORD)
    if (word !== null) return WORDS[word[0]]!
    const number = take(NUMBER)
    if (number === null) throw fail()
    return toNumber(number[0], number[1] === undefined && number[2] === undefined)
  }

  function string(): string {
    const match = take(TEXT)
    if (match === null) throw fail()
    return JSON.parse(match[0]) as string
  }

  function object(depth: number): Json {
    // Pairs: a key may be "__proto__".
    const entries = new Map<string, Json>()
    if (passes("}")) return {}
    do {
      take(SPACE)
      const key = string()
      if (!passes(":")) throw fail()
      entries.set(key, value(depth + 1))
    } while (passes(","))
    if (!passes("}")) throw fail()
    return Object.fromEntries(entries)
  }

  function array(depth: number): Json {
    const values: Json[] = []
    if (passes("]")) return values
    do values.push(value(depth + 1))
    while (passes(","))
    if (!passes("]")) throw fail()
    return values
  }

  const parsed = value(1)
  take(SPACE)
  if (at !== text.length) throw fail()
  return parsed
}

function toNumber(text: string, isInteger: boolean): number | bigint {
  const number = Number(text)
  if (!isInteger || Number.isSafeInteger(number)) return number
  if (text.length > MAX_DIGITS) throw new SyntaxError(`it has an integer of more than ${MAX_DIGITS} digits`)
  return BigInt(text)
}

/** Python's default separators, and those that it is asked for where space matters. */
const SPACED = [", ", ": "] as const
const COMPACT = [",", ":"] as const

/**
 * JSON text as Python's `json.dumps(value, sort_keys=True)` has it: keys sorted by code point at every level,
 * a space after "," and ":" unless `compact`, all but ASCII escaped.
 */
export function pythonJson(value: Json, { compact = false }: { readonly compact?: boolean } = {}): string {
  const [comma, colon] = compact ? COMPACT : SPACED
  const write = (each: Json): string => {
    if (typeof each !== "object" || each === null) return inAscii(stringifyJson(each))
    if (Array.isArray(each)) return `[${each.map(write).join(comma)}]`
    const entries = Object.entries(each).sort(([a], [b]) => compareCodePoints(a, b))
    return `{${entries.map(([key, item]) => `${inAscii(JSON.stringify(key))}${colon}${write(item)}`).join(comma)}}`
  }
  return write(value)
}

const inAscii = (text: string): string =>
  text.replace(/[\u007f-\uffff]/g, (sign) => `\\u${sign.charCodeAt(0).toString(16).padStart(4, "0")}`)

function compareCodePoints(a: string, b: string): number {
  const [left, right] = [[...a], [...b]]
  for (let i = 0; i < Math.min(left.length, right.length); i++) {
    const order = left[i]!.codePointAt(0)! - right[i]!.codePointAt(0)!
    if (order !== 0) return order
  }
  return left.length - right.length
}
