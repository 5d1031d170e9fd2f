/** The options of a reader: defaults, and what is refused. */
import { lstatSync, mkdirSync } from "node:fs"
import { homedir, tmpdir } from "node:os"
import { isAbsolute, join } from "node:path"
import { assertMilliseconds, assertWholeNumber, invalidInput, lastingFault } from "../errors.js"
import { machineLimits, readerDefaults } from "../machine.js"
import { assertTrust } from "../shards/pools.js"
import { assertLocalPath } from "../storage/location.js"
import { assertCacheOptions } from "./shards/shard-files.js"
import type { OpenOptions } from "./types.js"

const DEFAULT_QUEUED = 1000
const DEFAULT_QUEUE_TIMEOUT_MS = 10_000
const DEFAULT_OPEN_TIMEOUT_MS = 120_000
const PER_HOUR_MAX = 3600

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
  assertAudit(options)
  assertTrust(options)
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

function assertAudit({ audit, auditFile, auditFileBytes }: OpenOptions<unknown>): void {
  assertWholeNumber("auditFileBytes", auditFileBytes, 1)
  if (auditFile !== undefined) {
    assertLocalPath("auditFile", auditFile)
    if (!auditFile.endsWith(".fvecs"))
      throw invalidInput(`option auditFile is ${auditFile}, expected a name that ends in .fvecs`, {
        auditFile,
      })
    if (audit === undefined)
      throw invalidInput("option auditFile takes the option audit: without it no query is kept", {
        auditFile,
      })
  }
  const { share = 0, minPerHour = 0 } = audit ?? {}
  if (!(share >= 0 && share <= 1))
    throw invalidInput(`option audit.share is ${share}, expected a number from 0 to 1`, { share })
  if (!(minPerHour >= 0 && minPerHour <= PER_HOUR_MAX))
    throw invalidInput(
      `option audit.minPerHour is ${minPerHour}, expected a number from 0 to ${PER_HOUR_MAX}`,
      { minPerHour },
    )
}

/**
 * What is in the environment of a service or a container may be anything: a cache is never put where nobody
 * would look.
 */
function defaultCacheDir(): string {
  const { XDG_CACHE_HOME } = process.env
  if (XDG_CACHE_HOME !== undefined && isAbsolute(XDG_CACHE_HOME)) return join(XDG_CACHE_HOME, "vecsnap")
  const home = homeOfUser()
  return home === undefined ? cacheOfTheHomeless() : join(home, ".cache", "vecsnap")
}

/** In the directory for temporary files, where others may write: only if it is ours alone. */
function cacheOfTheHomeless(): string {
  const uid = process.getuid?.()
  const dir = join(tmpdir(), `vecsnap-cache-of-${uid ?? "user"}`)
  try {
    mkdirSync(dir, { mode: 0o700 })
  } catch {
    // It is there, or cannot be; then the first download says so.
  }
  const found = lstatSync(dir, { throwIfNoEntry: false })
  const isOurs = found === undefined || (found.isDirectory() && found.uid === (uid ?? found.uid))
  if (isOurs && ((found?.mode ?? 0) & 0o022) === 0) return dir
  throw lastingFault(
    `this user has no home directory for a cache, and ${dir} is not ours alone; choose one with cacheDir`,
    {
      path: dir,
    },
  )
}

/** Undefined for a user that has none, or who is not known to the system. */
function homeOfUser(): string | undefined {
  try {
    const home = homedir()
    return isAbsolute(home) ? home : undefined
  } catch {
    return undefined
  }
}
