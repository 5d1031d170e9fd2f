import { fileURLToPath } from "node:url"
import { invalidInput } from "../errors.js"
import { deferredStore } from "./deferred.js"
import { openLocalStore } from "./local.js"
import { openMemoryStore } from "./memory.js"
import { createRetry, type Retry, type RetrySettings } from "./retry.js"
import { assertPrefix, s3Url } from "./rules.js"
import type { S3Settings } from "./s3-client.js"
import type { ObjectStore } from "./store.js"
import { type RequestCounts, withCounting } from "./with-counting.js"
import { withLimit } from "./with-limit.js"
import { type RateSettings, withRateLimit } from "./with-rate-limit.js"
import { withRetry } from "./with-retry.js"

export interface StoreOptions {
  readonly s3?: S3Settings
  readonly retry?: RetrySettings
  /** Calls in flight at a time; the others wait. Default 32. */
  readonly concurrency?: number
  /** Requests and bytes per second, at most. Default: no limit. */
  readonly rate?: RateSettings
  /** Where to count the calls, each attempt for itself. */
  readonly counts?: RequestCounts
}

/** Where a store is. */
export type StoreLocation =
  | { readonly kind: "file"; readonly directory: string }
  | { readonly kind: "s3"; readonly bucket: string; readonly prefix: string }
  | { readonly kind: "memory"; readonly name: string }

/**
 * Opens a store by its URL: `s3://bucket/prefix`, `file:///directory`, a plain path, or `memory://name`.
 * Calls are limited in number and retried. Nothing is read or sent before the first call.
 *
 * Throws `InvalidInput` for any other URL, and for URLs with a user name, a password or a query.
 */
export function openStore(url: string, options: StoreOptions = {}): ObjectStore {
  const retry = createRetry(options.retry)
  const backend = openBackend(url, options.s3, retry)
  const counted = options.counts === undefined ? backend : withCounting(backend, options.counts)
  // Each attempt counts against the rate, and what was let through by it does not wait again.
  const paced = options.rate === undefined ? counted : withRateLimit(counted, options.rate, options)
  // The limit is inside the retry, so that who waits to try again keeps no place.
  return withRetry(withLimit(paced, options.concurrency ?? 32), retry)
}

function openBackend(url: string, s3: S3Settings | undefined, retry: Retry): ObjectStore {
  const location = parseStoreUrl(url)
  switch (location.kind) {
    case "file":
      return openLocalStore(location.directory, withoutTrailingSlash(url))
    case "memory":
      return openMemoryStore(location.name)
    case "s3": {
      const { bucket, prefix } = location
      return deferredStore(s3Url(bucket, prefix), async () => {
        const { openS3Store } = await import("./s3.js")
        return openS3Store(bucket, prefix, s3, retry)
      })
    }
  }
}

/**
 * Reads a store's URL. Throws `InvalidInput` as {@link openStore} does; a secret in the URL is not repeated.
 */
export function parseStoreUrl(url: string): StoreLocation {
  const [, scheme, rest] = /^(s3|file|memory):(.*)$/is.exec(url) ?? []
  if (scheme === undefined || rest === undefined) {
    if (/^([a-z][a-z0-9+.-]*:\/\/|https?:)/i.test(url)) {
      const shown = /^[^:]*:(\/\/)?/.exec(url)![0]
      throw invalidInput(`a store must be at s3://, file:// or memory://, or a path, got ${shown}...`, {
        got: shown,
      })
    }
    if (url === "" || url.includes("\0"))
      throw invalidInput("the path of a store must not be empty", { got: url })
    return { kind: "file", directory: url }
  }
  const authority = /^\/\/([^/]*)/.exec(rest)?.[1] ?? ""
  if (authority.includes("@") || /[?#]/.test(rest)) {
    throw invalidInput(
      `a ${scheme}:// URL must not have a user name, a password, "?" or "#"; use options for these`,
    )
  }
  switch (scheme.toLowerCase()) {
    case "s3":
      return parseS3(url, rest)
    case "file":
      return parseFile(url)
    default:
      return parseMemory(url, rest)
  }
}

function parseS3(url: string, rest: string): StoreLocation {
  const [, bucket, path] = /^\/\/([A-Za-z0-9][A-Za-z0-9._-]{1,254})(?:\/(.*))?$/s.exec(rest) ?? []
  if (bucket === undefined)
    throw invalidInput(`an S3 URL must look like s3://bucket/prefix, got ${shown(url)}`, { got: shown(url) })
  const prefix = path?.replace(/\/$/, "") ?? ""
  if (prefix !== "") assertPrefix(`${prefix}/`)
  return { kind: "s3", bucket, prefix }
}

function parseFile(url: string): StoreLocation {
  try {
    return { kind: "file", directory: fileURLToPath(url) }
  } catch {
    throw invalidInput(`a file URL must look like file:///directory, got ${shown(url)}`, { got: shown(url) })
  }
}

function parseMemory(url: string, rest: string): StoreLocation {
  const [, name] = /^\/\/(.+?)\/?$/s.exec(rest) ?? []
  if (name === undefined)
    throw invalidInput(`a memory URL must look like memory://name, got ${shown(url)}`, { got: shown(url) })
  return { kind: "memory", name }
}

/** A URL that is wrong, for a message; not what may be a password. */
const shown = (url: string): string => (url.includes("@") ? url.replace(/:.*@/s, ":…@") : url)

// The root directory keeps its slash.
function withoutTrailingSlash(text: string): string {
  return text.length > 1 && text.endsWith("/") ? text.slice(0, -1) : text
}
