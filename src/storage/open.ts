import { deferredStore } from "./deferred.js"
import { openLocalStore } from "./local.js"
import { parseStoreUrl } from "./location.js"
import { openMemoryStore } from "./memory.js"
import { createRetry, type Retry, type RetrySettings } from "./retry.js"
import { s3Url } from "./rules.js"
import type { S3Settings } from "./s3-client.js"
import type { ObjectStore } from "./store.js"
import { type RequestCounts, withCounting } from "./with-counting.js"
import { withLimit } from "./with-limit.js"
import { type RateSettings, withRateLimit } from "./with-rate-limit.js"
import { withRetry } from "./with-retry.js"

export interface StoreOptions {
  readonly s3?: S3Settings | undefined
  readonly retry?: RetrySettings | undefined
  /** Calls in flight at a time; the others wait. Default 32. */
  readonly concurrency?: number | undefined
  /** Requests and bytes per second, at most. Default: no limit. */
  readonly rate?: RateSettings | undefined
  /** Where to count the calls, each attempt for itself. */
  readonly counts?: RequestCounts | undefined
}

/**
 * Opens a store by its URL: `s3://bucket/prefix`, `file:///directory`, a plain path, or `memory://name`.
 * Calls are limited in number and retried. Nothing is read or sent before the first call.
 *
 * Throws `InvalidInput` for any other URL, for URLs with a user name, a password or a query, and for a path
 * that looks like something else: `~/x` (only shells replace it), `arn:…`, a text in quotation marks or white
 * space. A directory that really is called so is written `./~`.
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

// The root directory keeps its slash.
function withoutTrailingSlash(text: string): string {
  return text.length > 1 && text.endsWith("/") ? text.slice(0, -1) : text
}
