/**
 * `vecsnap.yaml`: what nightly jobs repeat. Keys are named like the flags of `vecsnap build`, and a flag overrides its
 * key. Relative paths are relative to the working directory, as they are in flags and in SQL.
 *
 * ```yaml
 * input: day/*.parquet            # or a list; or sql: select … from 'day/*.parquet'
 * to: s3://vectors/words
 * id-column: word
 * fields: { lang: string, year: int64 }
 * metric: cosine
 * sharding: { strategy: cluster, shards: 64 }
 * storage: { region: eu-central-1 }
 * ```
 *
 * There is no key for credentials: they come from the environment or the AWS profile, never from a file of ours.
 */
import { readFile } from "node:fs/promises"
import { resolve } from "node:path"
import { parse, YAMLParseError } from "yaml"
import { z } from "zod"
import {
  BACKEND_NAMES,
  FIELD_TYPES,
  type Json,
  METRICS,
  STRATEGY_NAMES,
  stringifyJson,
} from "../src/index.js"
import { nearest, usageError } from "./usage-error.js"

export const CONFIG_FILE = "vecsnap.yaml"

// The message of every leaf says what was expected; what was found is added when an issue is reported.
const text = z.string("a text").min(1, "a text that is not empty")
const flag = z.boolean("true or false")
const wholeNumber = (least: number): z.ZodNumber => {
  const expected = `a whole number from ${least}`
  return z.number(expected).int(expected).min(least, expected)
}
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

const schema = z.strictObject({
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
  storage: storage.optional(),
})

/** Settings of the file, checked; keys as in the file. */
export type Config = z.output<typeof schema>

const GROUPS: Readonly<Record<string, readonly string[]>> = {
  sharding: Object.keys(sharding.shape),
  storage: Object.keys(storage.shape),
}

/**
 * Reads the configuration: `path` if given, else `vecsnap.yaml` in `cwd` if there is one, else nothing is configured.
 * Throws `InvalidInput`, naming file, key and the value found, for whatever is wrong with it.
 */
export async function loadConfig(path: string | undefined, cwd: string): Promise<Config> {
  const file = path ?? CONFIG_FILE
  let content: string
  try {
    content = await readFile(resolve(cwd, file), "utf8")
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code
    if (path === undefined && code === "ENOENT") return {}
    throw usageError(`the configuration ${file} cannot be read (${code})`, { file }, error)
  }
  return parseConfig(content, file)
}

/** Parses and checks the text of a configuration; `file` is for messages. */
export function parseConfig(content: string, file: string): Config {
  const data = parseYaml(content, file)
  const parsed = schema.safeParse(data)
  if (parsed.success) return parsed.data
  throw describeIssue(parsed.error.issues[0]!, data, file)
}

function parseYaml(content: string, file: string): unknown {
  try {
    // Integers as bigint first, since a large one would be rounded; an empty file is an empty configuration.
    return narrowIntegers(parse(content, { intAsBigInt: true })) ?? {}
  } catch (error) {
    if (!(error instanceof YAMLParseError)) throw error
    const line = error.linePos?.[0].line
    const [problem] = error.message.split(/ at line|\n/)
    throw usageError(
      `${file}${line === undefined ? "" : `:${line}`} is not valid YAML: ${problem}`,
      { file, line },
      error,
    )
  }
}

function narrowIntegers(value: unknown): unknown {
  if (typeof value === "bigint") return Number.isSafeInteger(Number(value)) ? Number(value) : value
  if (Array.isArray(value)) return value.map(narrowIntegers)
  if (value === null || typeof value !== "object") return value
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, narrowIntegers(item)]))
}

function describeIssue(issue: z.core.$ZodIssue, data: unknown, file: string): Error {
  const path = issue.path.map(String)
  if (issue.code === "unrecognized_keys") return unknownKey(path, issue.keys[0]!, file)
  const found = path.reduce<unknown>((value, key) => (value as Record<string, unknown>)[key], data)
  const key = path.join(".")
  const expected = path.length === 0 ? "a map of settings" : issue.message
  return usageError(
    `${file}: ${key === "" ? "" : `${key}: `}expected ${expected}, found ${shownValue(found)}`,
    { file, key, found },
  )
}

function unknownKey(path: readonly string[], key: string, file: string): Error {
  const siblings = path.length === 0 ? Object.keys(schema.shape) : (GROUPS[path.join(".")] ?? [])
  const name = [...path, key].join(".")
  const suggestion = [nearest(key, siblings)]
    .filter((near) => near !== undefined)
    .map((near) => [...path, near].join("."))
  // "shards" at the top: right word, wrong place.
  for (const [group, keys] of Object.entries(GROUPS))
    if (keys.includes(key)) suggestion.unshift(`${group}.${key}`)
  const hint =
    suggestion.length > 0 ? `did you mean ${suggestion[0]}?` : `expected one of ${siblings.join(", ")}`
  return usageError(`${file}: unknown key ${name}: ${hint}`, { file, key: name })
}

function shownValue(value: unknown): string {
  if (value === undefined) return "nothing"
  if (typeof value === "number" || typeof value === "bigint") return String(value)
  return stringifyJson(value)
}
