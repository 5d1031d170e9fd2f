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
 * Texts may hold environment variables, `${NAME}`. There is no key for credentials: the AWS SDK takes them from the
 * environment or the AWS profile. docs/configuration.md explains every key.
 */
import { createReadStream } from "node:fs"
import { resolve } from "node:path"
import type { VecsnapError } from "../src/index.js"
import { describeIssue, describeVariableFault } from "./config/faults.js"
import { type Path, valueAt, withValueAt } from "./config/path.js"
import { type Config, schema } from "./config/schema.js"
import { type Environment, isVariable, scalarOf, substituteVariables } from "./config/variables.js"
import { parseYaml } from "./config/yaml.js"
import type { Io } from "./io.js"
import { usageError } from "./usage-error.js"

export type { Config }

export const CONFIG_FILE = "vecsnap.yaml"

/** Most bytes of a configuration; more is refused before anything is parsed. */
const MAX_CONFIG_BYTES = 1024 * 1024

/**
 * Reads the configuration: `path` if given, else `vecsnap.yaml` in the working directory if there is one, else nothing
 * is configured. Throws `InvalidInput`, naming file, key and the value found, for whatever is wrong with it.
 */
export async function loadConfig(path: string | undefined, io: Pick<Io, "cwd" | "env">): Promise<Config> {
  const content = await readConfig(path, io.cwd)
  return content === undefined ? {} : parseConfig(content, path ?? CONFIG_FILE, io.env)
}

/** Parses and checks the text of a configuration, as {@link loadConfig} does; `file` is for messages. */
export function parseConfig(content: string, file: string, env: Environment = {}): Config {
  const { config, faults } = checkConfig(content, file, env)
  if (config !== undefined) return config
  const [{ message, details, cause }, ...others] = faults as [VecsnapError, ...VecsnapError[]]
  if (others.length === 0) throw faults[0]
  const more = others.length === 1 ? "1 more fault" : `${others.length} more faults`
  throw usageError(`${message}; and ${more}, which \`vecsnap config check\` lists`, details, cause)
}

/** Text of the file; `undefined` if none is named and there is none. */
export async function readConfig(path: string | undefined, cwd: string): Promise<string | undefined> {
  const file = path ?? CONFIG_FILE
  const chunks: Buffer[] = []
  try {
    // One byte more than allowed tells that there is more, also of what has no size, such as a pipe.
    for await (const chunk of createReadStream(resolve(cwd, file), { end: MAX_CONFIG_BYTES }))
      chunks.push(chunk)
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code
    if (path === undefined && code === "ENOENT") return undefined
    throw usageError(`the configuration ${file} cannot be read (${code})`, { file }, error)
  }
  const bytes = Buffer.concat(chunks)
  if (bytes.length > MAX_CONFIG_BYTES) {
    throw usageError(
      `the configuration ${file} is too large: expected at most ${MAX_CONFIG_BYTES} bytes, found more`,
      {
        file,
        maxBytes: MAX_CONFIG_BYTES,
      },
    )
  }
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes)
  } catch (error) {
    throw usageError(`the configuration ${file} is not a text in UTF-8`, { file }, error)
  }
}

export interface CheckedConfig {
  /** Absent if there are faults. */
  readonly config?: Config
  /** What the file says, aliases replaced and variables not; absent if it is not YAML. */
  readonly settings?: unknown
  /** All that is wrong, one `InvalidInput` each. None holds the value of a variable. */
  readonly faults: readonly VecsnapError[]
}

/** Parses and checks the text of a configuration to its end. */
export function checkConfig(content: string, file: string, env: Environment): CheckedConfig {
  const yaml = parseYaml(content, file)
  if ("faults" in yaml) return yaml
  const settings = yaml.data
  const substituted = substituteVariables(settings, env)
  const parsed = parseSettings(substituted.data, settings)
  if (parsed.success && substituted.faults.length === 0) return { config: parsed.data, settings, faults: [] }
  // A text whose variables are not known is not checked either.
  const unknown = new Set(substituted.faults.map(({ path }) => JSON.stringify(path)))
  const issues = (parsed.error?.issues ?? []).filter(({ path }) => !unknown.has(JSON.stringify(path)))
  const faults = [
    ...substituted.faults.map((fault) => describeVariableFault(fault, file)),
    ...issues.flatMap((issue) => describeIssue(issue, settings, file)),
  ]
  // Two rules of one value, "whole" and "from 1", have one message.
  return { settings, faults: [...new Map(faults.map((fault) => [fault.message, fault])).values()] }
}

/** Checks data against the schema. Where the text of a variable is refused, the number or flag it spells is tried. */
function parseSettings(data: unknown, settings: unknown): ReturnType<typeof schema.safeParse> {
  const parsed = schema.safeParse(data)
  if (parsed.success) return parsed
  const scalars = parsed.error.issues.flatMap(({ path }) => {
    const text = isVariable(valueAt(settings, path as Path)) ? valueAt(data, path as Path) : undefined
    const scalar = typeof text === "string" ? scalarOf(text) : undefined
    return scalar === undefined ? [] : [{ path: path as Path, scalar }]
  })
  if (scalars.length === 0) return parsed
  return schema.safeParse(
    scalars.reduce((changed, { path, scalar }) => withValueAt(changed, path, scalar), data),
  )
}
