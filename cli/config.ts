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
import type { z } from "zod"
import { stringifyJson } from "../src/index.js"
import { type Config, KEYS_OF_GROUPS, schema } from "./config/schema.js"
import { nearest, usageError } from "./usage-error.js"

export type { Config }

export const CONFIG_FILE = "vecsnap.yaml"

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
  const siblings = KEYS_OF_GROUPS.get(path.join(".")) ?? []
  const near = nearest(key, siblings)
  // "shards" at the top: right word, wrong place.
  const elsewhere = path.length > 0 ? undefined : groupWith(key)
  const name = [...path, key].join(".")
  const suggestion = elsewhere ?? (near === undefined ? undefined : [...path, near].join("."))
  const hint =
    suggestion !== undefined ? `did you mean ${suggestion}?` : `expected one of ${siblings.join(", ")}`
  return usageError(`${file}: unknown key ${name}: ${hint}`, { file, key: name })
}

/** The key of that name in the first group that has one. */
function groupWith(key: string): string | undefined {
  for (const [group, keys] of KEYS_OF_GROUPS) if (group !== "" && keys.includes(key)) return `${group}.${key}`
  return undefined
}

function shownValue(value: unknown): string {
  if (value === undefined) return "nothing"
  if (typeof value === "number" || typeof value === "bigint") return String(value)
  return stringifyJson(value)
}
