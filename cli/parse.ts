/**
 * How the text of an argument becomes a value. Everything is strict: "12x" is not 12.
 */

import { InvalidArgumentError } from "commander"
import type { GateName, SnapshotInfo } from "../src/index.js"
import { parseJson } from "../src/json.js"
import { FIELD_TYPES, type FieldType, type FieldValue, type Id } from "../src/records.js"
import { GATE_NAMES } from "../src/release/gates/options.js"
import type { ContextType } from "../src/sharding/strategy.js"
import { indexSettings } from "../src/shards/registry.js"
import { listOf, shortened } from "../src/wording.js"
import { DURATION, durationSeconds } from "./duration.js"
import { nearest, usageError } from "./usage-error.js"

type Parser<T> = (text: string) => T

/** A parser of whole numbers from `least`. */
export const wholeNumber =
  (least: number): Parser<number> =>
  (text) => {
    const number = /^\d+$/.test(text) ? Number(text) : Number.NaN
    if (Number.isSafeInteger(number) && number >= least) return number
    throw new InvalidArgumentError(`Expected a whole number from ${least}.`)
  }

/** A number of shards, or "auto". */
export const shardCount: Parser<number | "auto"> = (text) => {
  if (text === "auto") return text
  const number = /^\d+$/.test(text) ? Number(text) : Number.NaN
  if (Number.isSafeInteger(number) && number >= 1) return number
  throw new InvalidArgumentError('Expected a whole number from 1, or "auto".')
}

const SECONDS_OF: Readonly<Record<string, number>> = { "": 1, s: 1, m: 60, h: 3600, d: 86_400 }

/** A time above 0, in seconds: "90", "1.5", or with a unit: "90s", "15m", "26h", "2d". */
export function parseSeconds(text: string): number {
  const [, digits, unit] = /^(\d+(?:\.\d+)?)([smhd]?)$/.exec(text) ?? []
  const seconds = Number(digits) * (SECONDS_OF[unit ?? ""] ?? Number.NaN)
  // The longest that a timer of Node takes.
  if (seconds > 0 && seconds * 1000 < 2 ** 31) return seconds
  throw new InvalidArgumentError(
    "Expected seconds above 0, at most 24 days, such as 90, 90s, 15m, 26h or 2d.",
  )
}

/** A time in seconds from a text with a unit: "30m", "6h", "2d". */
export function parseDuration(text: string): number {
  const seconds = durationSeconds(text)
  if (seconds === undefined) throw new InvalidArgumentError(`Expected ${DURATION}.`)
  return seconds
}

/** A number of days, 0 included: "7", "0.5". */
export function parseDays(text: string): number {
  const days = /^\d{1,9}(\.\d{1,9})?$/.test(text) ? Number(text) : Number.NaN
  if (days >= 0) return days
  throw new InvalidArgumentError("Expected a number of days from 0.")
}

/** A parser of numbers within bounds, 0 and above: "1.2". */
export const numberBetween =
  (least: number, most: number): Parser<number> =>
  (text) => {
    const number = /^\d{1,9}(\.\d{1,9})?$/.test(text) ? Number(text) : Number.NaN
    if (number >= least && number <= most) return number
    throw new InvalidArgumentError(`Expected a number from ${least} to ${most}.`)
  }

/** Names of gates: "rows,skew". */
export function parseGates(text: string): readonly GateName[] {
  return parseNames(text).map((name) => {
    const gate = GATE_NAMES.find((known) => known === name)
    if (gate !== undefined) return gate
    const near = nearest(name, GATE_NAMES)
    const hint = near === undefined ? "" : ` Did you mean ${near}?`
    throw new InvalidArgumentError(`Expected gates out of ${GATE_NAMES.join(", ")}, got ${name}.${hint}`)
  })
}

/** "all" or a whole number from 1. */
export function parseProbes(text: string): number | "all" {
  if (text === "all") return "all"
  try {
    return wholeNumber(1)(text)
  } catch {
    throw new InvalidArgumentError('Expected a whole number from 1, or "all".')
  }
}

/** A share above 0, at most 1: ".95". */
export function parseShare(text: string): number {
  const share = /^(\d+\.?\d*|\.\d+)$/.test(text) ? Number(text) : Number.NaN
  if (share > 0 && share <= 1) return share
  throw new InvalidArgumentError("Expected a number above 0, at most 1.")
}

/** Whole numbers from 1: "1,10,100". */
export const parseCounts = (text: string): readonly number[] =>
  text.split(",").map((part) => wholeNumber(1)(part.trim()))

/** Shares above 0, at most 1: ".9,.95". */
export const parseShareList = (text: string): readonly number[] =>
  text.split(",").map((part) => parseShare(part.trim()))

/** "all" or shard numbers: "1,2". */
export function parseShards(text: string): readonly number[] | "all" {
  if (text === "all") return "all"
  try {
    return text.split(",").map((part) => wholeNumber(0)(part.trim()))
  } catch {
    throw new InvalidArgumentError('Expected shard numbers such as 1,2, or "all".')
  }
}

/** Names parted by commas; an empty text is an empty list. */
export function parseNames(text: string): readonly string[] {
  if (text.trim() === "") return []
  const names = text.split(",").map((name) => name.trim())
  if (names.includes("")) throw new InvalidArgumentError("Expected names parted by single commas.")
  return names
}

/** "lang:string,year:int64". */
export function parseFields(text: string): Readonly<Record<string, FieldType>> {
  const fields = new Map<string, FieldType>()
  for (const part of parseNames(text)) {
    // The last colon parts name and type: a column's name may have colons itself.
    const colon = part.lastIndexOf(":")
    const name = part.slice(0, Math.max(0, colon))
    const type = FIELD_TYPES.find((known) => known === part.slice(colon + 1))
    if (name === "" || type === undefined) {
      const near = nearest(part.slice(colon + 1), FIELD_TYPES)
      const hint = name !== "" && near !== undefined ? ` Did you mean ${name}:${near}?` : ""
      throw new InvalidArgumentError(
        `Expected name:type, type one of ${FIELD_TYPES.join(", ")}, got ${part}.${hint}`,
      )
    }
    if (fields.has(name)) throw new InvalidArgumentError(`The field ${name} is there twice.`)
    fields.set(name, type)
  }
  return Object.fromEntries(fields)
}

/** Routing values: texts parted by commas, or a JSON list where some are numbers. */
export function parseRoutingValues(text: string): readonly (string | number | bigint)[] {
  if (!text.startsWith("[")) return parseNames(text)
  const list = parseJsonArgument(text)
  const isValue = (value: unknown): value is string | number | bigint =>
    ["string", "number", "bigint"].includes(typeof value)
  if (Array.isArray(list) && list.every(isValue)) return list
  throw new InvalidArgumentError('Expected a,b,c or a JSON list of texts and numbers such as ["a",2].')
}

function parseJsonArgument(text: string): unknown {
  try {
    return parseJson(text)
  } catch (error) {
    throw new InvalidArgumentError(`It is not valid JSON: ${(error as Error).message}.`)
  }
}

/** Collects a repeated "key=value" flag; the value may hold "=" itself. */
export function collectPair(
  text: string,
  earlier: Readonly<Record<string, string>> = {},
): Readonly<Record<string, string>> {
  const equals = text.indexOf("=")
  if (equals < 1) throw new InvalidArgumentError("Expected key=value.")
  const key = text.slice(0, equals)
  if (Object.hasOwn(earlier, key)) throw new InvalidArgumentError(`The key ${key} is there twice.`)
  return Object.fromEntries([...Object.entries(earlier), [key, text.slice(equals + 1)]])
}

/** Collects a repeated "name=number" flag: options of the shard index, by their names in `vecsnap.yaml`. */
export function collectIndexOption(
  text: string,
  earlier: Readonly<Record<string, number>> = {},
): Readonly<Record<string, number>> {
  const [name, value] = Object.entries(collectPair(text))[0]!
  if (Object.hasOwn(earlier, name)) throw new InvalidArgumentError(`The key ${name} is there twice.`)
  const names = indexSettings().map((setting) => setting.name)
  if (!names.includes(name)) {
    const near = nearest(name, names)
    const hint = near === undefined ? "" : ` Did you mean ${near}?`
    throw new InvalidArgumentError(`Expected one of ${names.join(", ")}, got ${name}.${hint}`)
  }
  return { ...earlier, [name]: wholeNumber(0)(value) }
}

/** An id as the snapshot has them: text, or an integer of 64 bits. */
export function parseId(text: string, idType: string): Id {
  if (idType === "mixed") return parseMixedId(text)
  if (idType !== "int64") return text
  const id = parseInt64(text)
  if (id !== undefined) return id
  throw usageError(`the snapshot's ids are 64-bit integers, got ${JSON.stringify(text)}`, { id: text })
}

function parseInt64(text: string): bigint | undefined {
  if (!/^-?\d{1,19}$/.test(text)) return undefined
  const value = BigInt(text)
  return BigInt.asIntN(64, value) === value ? value : undefined
}

/** Where ids are of both types: digits are an integer, anything else a string; one of digits is in quotes. */
function parseMixedId(text: string): Id {
  const integer = parseInt64(text)
  if (integer !== undefined) return integer
  return /^"-?\d+"$/.test(text) ? text.slice(1, -1) : text
}

/** Beyond the types of fields there are integers without sign, and bytes, which are given as text. */
function parseContextValue(text: string, type: ContextType): FieldValue | Uint8Array | undefined {
  if (type === "bytes") return new TextEncoder().encode(text)
  if (type !== "uint64") return parseFieldValue(text, type)
  const value = /^\d{1,20}$/.test(text) ? BigInt(text) : undefined
  return value !== undefined && BigInt.asUintN(64, value) === value ? value : undefined
}

/** Values of `--context`, typed by the snapshot's fields. */
export function parseContext(
  context: Readonly<Record<string, string>>,
  fields: SnapshotInfo["context"],
): Readonly<Record<string, FieldValue | Uint8Array>> {
  const typed = Object.entries(context).map(([name, text]) => {
    const field = fields.find((candidate) => candidate.name === name)
    if (field === undefined) {
      const known =
        fields.length === 0
          ? "it has none"
          : `it has ${listOf(
              fields.map(({ name }) => name),
              shortened,
            )}`
      throw usageError(`--context ${name}=…: the snapshot has no field ${name}: ${known}`, { field: name })
    }
    const value = parseContextValue(text, field.type)
    if (value === undefined) {
      throw usageError(
        `--context ${name}=…: expected a value of type ${field.type}, got ${JSON.stringify(text)}`,
        {
          field: name,
          value: text,
        },
      )
    }
    return [name, value] as const
  })
  return Object.fromEntries(typed)
}

function parseFieldValue(text: string, type: string): FieldValue | undefined {
  if (type === "int64") return parseInt64(text)
  if (type === "float64") return /^[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?$/i.test(text) ? Number(text) : undefined
  if (type === "bool") return text === "true" ? true : text === "false" ? false : undefined
  return text
}
