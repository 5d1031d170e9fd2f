/** The options of a reader: defaults, and what is refused. */
import { homedir } from "node:os"
import { join } from "node:path"
import { assertMilliseconds, assertWholeNumber, invalidInput } from "../errors.js"
import { machineLimits, readerDefaults } from "../machine.js"
import { assertLocalPath } from "../storage/location.js"
import { assertCacheOptions } from "./shards/shard-files.js"
import type { OpenOptions } from "./types.js"

const DEFAULT_QUEUED = 1000
const DEFAULT_QUEUE_TIMEOUT_MS = 10_000
const DEFAULT_OPEN_TIMEOUT_MS = 120_000

/** The bounds of a reader, defaults filled in. */
export interface ReaderBounds {
  readonly cacheDir: string
  readonly maxOpenShards: number
  readonly concurrency: number
  readonly maxQueued: number
  readonly queueTimeoutMs: number
  readonly openTimeoutMs: number
}

/** Throws `InvalidInput` naming the option that is wrong. */
export function checkOptions(options: OpenOptions<unknown>): ReaderBounds {
  const defaults = readerDefaults(machineLimits())
  const { maxOpenShards = defaults.maxOpenShards, concurrency = defaults.concurrency } = options
  const { maxQueued = DEFAULT_QUEUED, queueTimeoutMs = DEFAULT_QUEUE_TIMEOUT_MS } = options
  const { openTimeoutMs = DEFAULT_OPEN_TIMEOUT_MS } = options
  const { cacheDir = defaultCacheDir(), timeoutMs, maxAgeSeconds, snapshot, autoRefresh } = options
  assertLocalPath("cacheDir", cacheDir)
  assertWholeNumber("maxOpenShards", maxOpenShards, 1)
  assertWholeNumber("concurrency", concurrency, 1)
  assertCacheOptions(options)
  assertMilliseconds("queueTimeoutMs", queueTimeoutMs)
  assertMilliseconds("openTimeoutMs", openTimeoutMs)
  if (timeoutMs !== undefined) assertMilliseconds("timeoutMs", timeoutMs)
  if (maxAgeSeconds !== undefined && !(maxAgeSeconds > 0)) {
    throw invalidInput(`option maxAgeSeconds is ${maxAgeSeconds}, expected a number above 0`, {
      maxAgeSeconds,
    })
  }
  if (snapshot !== undefined && autoRefresh !== undefined) {
    throw invalidInput(`option autoRefresh does not go with option snapshot, which pins run ${snapshot}`, {
      snapshot,
    })
  }
  return { cacheDir, maxOpenShards, concurrency, maxQueued, queueTimeoutMs, openTimeoutMs }
}

function defaultCacheDir(): string {
  return join(process.env.XDG_CACHE_HOME ?? join(homedir(), ".cache"), "vecsnap")
}
