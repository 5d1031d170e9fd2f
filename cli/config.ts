/**
 * `vecsnap.yaml`: what nightly jobs repeat. Keys are named like the flags of `vecsnap build`, and a flag
 * overrides its key. Relative paths are relative to the working directory, as they are in flags and in SQL.
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
 * Texts may hold environment variables, `${NAME}`. There is no key for credentials: the AWS SDK takes them
 * from the environment or the AWS profile. docs/configuration.md explains every key.
 */
import { createReadStream } from "node:fs"
import { resolve } from "node:path"
import { namedError } from "../src/storage/files.js"
import type { Config } from "./config/schema.js"
import type { Io } from "./io.js"
import { usageError } from "./usage-error.js"

export type { Config }

export const CONFIG_FILE = "vecsnap.yaml"

/** Most bytes of a configuration; more is refused before anything is parsed. */
const MAX_CONFIG_BYTES = 1024 * 1024

/**
 * Reads the configuration: `path` if given, else `vecsnap.yaml` in the working directory if there is one,
 * else nothing is configured. Throws `InvalidInput`, naming file, key and the value found, for whatever is
 * wrong with it.
 */
export async function loadConfig(path: string | undefined, io: Pick<Io, "cwd" | "env">): Promise<Config> {
  const content = await readConfig(path, io.cwd)
  if (content === undefined) return {}
  // Who has no configuration does not wait for what reads YAML and checks it.
  const { parseConfig } = await import("./config/check.js")
  return parseConfig(content, path ?? CONFIG_FILE, io.env)
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
    throw namedError("read the configuration", file, error)
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
