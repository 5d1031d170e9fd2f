/**
 * The keys of `vecsnap.yaml`, their types and what they mean. Keys are named like the flags of `vecsnap build`.
 *
 * Defaults are not applied here: an absent key is absent, so that a flag and then the library decide. Those in the
 * descriptions are for people and for editors.
 */
import { z } from "zod"
import { BACKEND_NAMES, FIELD_TYPES, type Json, METRICS, STRATEGY_NAMES } from "../../src/index.js"
import { DURATION, durationSeconds } from "../duration.js"

/** The gates, as `gates.allow` and `--allow` name them. */
export const GATE_NAMES = [
  "rows",
  "dim",
  "metric",
  "model",
  "skipped-rows",
  "duplicates",
  "skew",
  "norms",
  "zero-norms",
  "centroid-drift",
  "overlap",
] as const
export type GateName = (typeof GATE_NAMES)[number]

// The message of every leaf says what was expected; what was found is added when a fault is reported.
const text = z.string("a text").min(1, "a text that is not empty")
const flag = z.boolean("true or false")
const wholeNumber = (least: number): z.ZodNumber => {
  const expected = `a whole number from ${least}`
  return z.number(expected).int(expected).min(least, expected)
}
const numberFrom = (least: number): z.ZodNumber => {
  const expected = `a number from ${least}`
  return z.number(expected).min(least, expected)
}
const numberAbove = (limit: number): z.ZodNumber => {
  const expected = `a number above ${limit}`
  return z.number(expected).gt(limit, expected)
}
const numberBetween = (least: number, most: number): z.ZodNumber => {
  const expected = `a number from ${least} to ${most}`
  return z.number(expected).min(least, expected).max(most, expected)
}
const percent = numberBetween(0, 100)
const duration = z.string(DURATION).refine((value) => durationSeconds(value) !== undefined, DURATION)
const oneOf = <const T extends readonly string[]>(names: T) => z.enum(names, `one of ${names.join(", ")}`)
const oneOrMoreTexts = z.union([text, z.array(text).min(1, "at least one text")], "a text or a list of texts")

const json: z.ZodType<Json> = z.lazy(() =>
  z.union(
    [z.string(), z.number(), z.bigint(), z.boolean(), z.null(), z.array(json), z.record(z.string(), json)],
    "a JSON value",
  ),
)

const sharding = z.strictObject({
  strategy: oneOf(STRATEGY_NAMES).optional(),
  shards: wholeNumber(1).optional(),
  probes: wholeNumber(1).optional(),
  bits: wholeNumber(1).optional(),
  seed: wholeNumber(0).optional(),
  iterations: wholeNumber(1).optional(),
  "sample-rows": wholeNumber(1).optional(),
  cel: text.optional(),
  values: z
    .array(z.union([z.string(), z.number(), z.bigint()]), "a list of texts or whole numbers")
    .min(1, "at least one value")
    .optional(),
})

const storage = z.strictObject({
  endpoint: text.optional(),
  region: text.optional(),
  "path-style": flag.optional(),
})

// A gate with one limit needs it: `skew: {}` would look like a gate and be none.
const gates = z.strictObject({
  allow: z.array(oneOf(GATE_NAMES), "a list of gate names").optional(),
  rows: z
    .strictObject({
      min: wholeNumber(0).optional(),
      "max-drop-percent": percent.optional(),
      "max-grow-percent": numberFrom(0).optional(),
    })
    .optional(),
  "skipped-rows": z.strictObject({ "max-percent": percent }).optional(),
  duplicates: z.strictObject({ "max-percent": percent }).optional(),
  skew: z.strictObject({ max: numberFrom(1) }).optional(),
  norms: z.strictObject({ "max-drift-percent": numberFrom(0) }).optional(),
  "zero-norms": z.strictObject({ "max-percent": percent }).optional(),
  "centroid-drift": z.strictObject({ max: numberFrom(0) }).optional(),
  overlap: z
    .strictObject({
      min: numberBetween(0, 1),
      queries: wholeNumber(1).optional(),
      k: wholeNumber(1).optional(),
      probes: z.union([wholeNumber(1), z.literal("all")], 'a whole number from 1, or "all"').optional(),
    })
    .optional(),
})

const retention = z.strictObject({
  "keep-last": wholeNumber(1).optional(),
  "keep-days": numberAbove(0).optional(),
  "keep-unpublished-days": numberAbove(0).optional(),
  grace: duration.optional(),
})

export const schema = z.strictObject({
  input: oneOrMoreTexts.transform((input) => (typeof input === "string" ? [input] : input)).optional(),
  sql: text.optional(),
  format: text.optional(),
  ids: text.optional(),
  "id-column": text.optional(),
  "id-type": oneOf(["string", "int64"]).optional(),
  "vector-column": text.optional(),
  fields: z.record(z.string(), oneOf(FIELD_TYPES), "a map of field names to types").optional(),
  "payload-columns": z.array(text, "a list of column names").optional(),
  "shard-column": text.optional(),
  to: text.optional(),
  metric: oneOf(METRICS).optional(),
  backend: oneOf(BACKEND_NAMES).optional(),
  sharding: sharding.optional(),
  "routing-from": text.optional(),
  "on-bad-row": oneOf(["fail", "skip"]).optional(),
  "max-bad-rows": wholeNumber(0).optional(),
  "on-duplicate": oneOf(["fail", "first", "last"]).optional(),
  parallelism: wholeNumber(1).optional(),
  "temp-dir": text.optional(),
  model: text.optional(),
  custom: z.record(z.string(), json, "a map").optional(),
  gates: gates.optional(),
  retention: retention.optional(),
  publish: flag.optional(),
  "lease-seconds": wholeNumber(30).optional(),
  "summary-file": text.optional(),
  storage: storage.optional(),
})

/** Settings of the file, checked; keys as in the file. */
export type Config = z.output<typeof schema>

/** Keys of each map of settings, by its path: "" is the file itself, "gates.rows" a group in a group. */
export const KEYS_OF_GROUPS: ReadonlyMap<string, readonly string[]> = new Map(groupsOf("", schema))

function groupsOf(path: string, group: z.ZodObject): [path: string, keys: readonly string[]][] {
  const nested = Object.entries(group.shape).flatMap(([key, value]) => {
    const inner = value instanceof z.ZodOptional ? value.unwrap() : value
    return inner instanceof z.ZodObject ? groupsOf(path === "" ? key : `${path}.${key}`, inner) : []
  })
  return [[path, Object.keys(group.shape)], ...nested]
}
