import { createSemaphore } from "../async/semaphore.js"
import { aborted, invalidInput } from "../errors.js"
import { SYSTEM_CLOCK } from "./retry.js"
import type { ListedObject, ObjectStore } from "./store.js"
import { type RequestCounts, sizeOf } from "./with-counting.js"

/** Limits on what is asked of a store. One that is left out does not limit. */
export interface RateSettings {
  /**
   * Requests started per second on average, with bursts of one second's worth (at least 1). May be a
   * fraction.
   */
  readonly requestsPerSecond?: number | undefined
  /** Bytes read and written per second on average, with bursts of one second's worth. */
  readonly bytesPerSecond?: number | undefined
}

/** Time, which tests replace. */
export interface RateClock {
  /** Milliseconds. */
  now(): number
  /** Rejects when the signal fires. */
  sleep(ms: number, signal: AbortSignal | undefined): Promise<void>
}

// Objects per request of a listing or a removal on S3.
const PAGE = 1000

// Passing through takes some microseconds, which are no wait.
const COUNTED_WAIT_MS = 1

/**
 * Holds the calls of a store to a rate, by token buckets (one for requests, one for bytes) that fill evenly
 * up to one second's worth: over any time of T seconds at most (1 + T) × the limit is started. Calls that
 * must wait do so in the order in which they came, and can be aborted.
 *
 * Bytes are taken before a call where their number is known (writes, ranges, `expectedBytes`), else after it.
 * A call for more bytes than the bucket holds starts when it is full; the calls after it then wait until that
 * is paid off.
 *
 * A listing takes one request for each 1,000 objects, a removal for each 1,000 keys, an upload one however
 * large. Throws `InvalidInput` for a limit that is not a positive number.
 */
export function withRateLimit(
  store: ObjectStore,
  { requestsPerSecond, bytesPerSecond }: RateSettings,
  {
    counts,
    clock = SYSTEM_CLOCK,
  }: { readonly counts?: RequestCounts | undefined; readonly clock?: RateClock } = {},
): ObjectStore {
  const requests = createBucket("requestsPerSecond", requestsPerSecond, clock)
  const bytes = createBucket("bytesPerSecond", bytesPerSecond, clock)
  // Only the first in line waits for the buckets; so no small call overtakes a large one.
  const line = createSemaphore(1)

  async function take(requestCount: number, byteCount: number, signal?: AbortSignal): Promise<void> {
    const startMs = clock.now()
    await line.run(async () => {
      for (;;) {
        const waitMs = Math.max(requests.waitMs(requestCount), bytes.waitMs(byteCount))
        if (waitMs <= 0) break
        // Rounded up, as a timer that fires early would only be set again.
        await clock.sleep(Math.ceil(waitMs), signal).catch((cause) => {
          throw aborted("the operation was aborted while it waited for the rate limit", {}, cause)
        })
      }
      requests.take(requestCount)
      bytes.take(byteCount)
    }, signal)
    const waitedMs = clock.now() - startMs
    if (waitedMs >= COUNTED_WAIT_MS && counts !== undefined) {
      counts.throttled++
      counts.throttledMs += waitedMs
    }
  }

  return {
    url: store.url,
    async get(key, options) {
      const knownBytes = options?.range && options.range.end - options.range.start
      await take(1, knownBytes ?? 0, options?.signal)
      const object = await store.get(key, options)
      if (knownBytes === undefined) bytes.take(object?.body.length ?? 0)
      return object
    },
    async getIfChanged(key, etag, options) {
      await take(1, 0, options?.signal)
      const object = await store.getIfChanged(key, etag, options)
      if (object !== undefined && object !== "unchanged") bytes.take(object.body.length)
      return object
    },
    async getFile(key, path, options) {
      const knownBytes = options?.expectedBytes
      await take(1, knownBytes ?? 0, options?.signal)
      const info = await store.getFile(key, path, options)
      if (knownBytes === undefined) bytes.take(info?.size ?? 0)
      return info
    },
    async head(key, options) {
      await take(1, 0, options?.signal)
      return store.head(key, options)
    },
    async put(key, body, options) {
      await take(1, await sizeOf(body), options?.signal)
      return store.put(key, body, options)
    },
    async *list(prefix, options): AsyncGenerator<ListedObject> {
      await take(1, 0, options?.signal)
      let listed = 0
      for await (const object of store.list(prefix, options)) {
        yield object
        if (++listed % PAGE === 0) await take(1, 0, options?.signal)
      }
    },
    async delete(keys, options) {
      await take(Math.max(1, Math.ceil(keys.length / PAGE)), 0, options?.signal)
      return store.delete(keys, options)
    },
    close: () => store.close(),
  }
}

interface Bucket {
  /** How long until `amount` may be taken; not positive if it may now. */
  waitMs(amount: number): number
  /** Takes `amount`, also more than there is: the bucket is then in debt. */
  take(amount: number): void
}

const UNLIMITED: Bucket = { waitMs: () => 0, take: () => {} }

function createBucket(setting: string, perSecond: number | undefined, clock: RateClock): Bucket {
  if (perSecond === undefined) return UNLIMITED
  if (!Number.isFinite(perSecond) || perSecond <= 0) {
    throw invalidInput(`the limit ${setting} must be a number above 0, got ${perSecond}`, {
      setting,
      value: perSecond,
    })
  }
  const capacity = Math.max(1, perSecond)
  let level = capacity
  let filledMs = clock.now()

  function fill(): void {
    const nowMs = clock.now()
    level = Math.min(capacity, level + ((nowMs - filledMs) / 1000) * perSecond!)
    filledMs = nowMs
  }
  return {
    waitMs(amount) {
      fill()
      // What is more than the bucket ever holds may go when it is full.
      return ((Math.min(amount, capacity) - level) / perSecond) * 1000
    },
    take(amount) {
      fill()
      level -= amount
    },
  }
}
