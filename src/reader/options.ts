/** The options of a reader: defaults, and what is refused. */
import { homedir } from "node:os"
import { join } from "node:path"
import { assertWholeNumber, invalidInput } from "../errors.js"
import { assertLocalPath } from "../storage/location.js"
import { checkTimeoutMs } from "./calls/call-scope.js"
import { assertCacheOptions } from "./shards/shard-files.js"
import type { OpenOptions } from "./types.js"

const DEFAULT_OPEN_SHARDS = 256
const DEFAULT_CONCURRENCY = 64
const DEFAULT_QUEUED = 1000
const DEFAULT_QUEUE_TIMEOUT_MS = 10_000

/** The bounds of a reader, defaults filled in. */
export interface ReaderBounds {
  readonly cacheDir: string
  readonly maxOpenShards: number
  readonly concurrency: number
  readonly maxQueued: number
  readonly queueTimeoutMs: number
}

/** Throws `InvalidInput` naming the option that is wrong. */
export function checkOptions(options: OpenOptions<unknown>): ReaderBounds {
  const { maxOpenShards = DEFAULT_OPEN_SHARDS, concurrency = DEFAULT_CONCURRENCY } = options
  const { maxQueued = DEFAULT_QUEUED, queueTimeoutMs = DEFAULT_QUEUE_TIMEOUT_MS } = options
  const { cacheDir = defaultCacheDir(), timeoutMs, maxAgeSeconds, snapshot, autoRefresh } = options
  assertLocalPath("cacheDir", cacheDir)
  assertWholeNumber("maxOpenShards", maxOpenShards, 1)
  assertWholeNumber("concurrency", concurrency, 1)
  assertCacheOptions(options)
  checkTimeoutMs("queueTimeoutMs", queueTimeoutMs)
  if (timeoutMs !== undefined) checkTimeoutMs("timeoutMs", timeoutMs)
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
  return { cacheDir, maxOpenShards, concurrency, maxQueued, queueTimeoutMs }
}

function defaultCacheDir(): string {
  return join(process.env.XDG_CACHE_HOME ?? join(homedir(), ".cache"), "vecsnap")
}
