import { stat } from "node:fs/promises"
import { isVecsnapError } from "../errors.js"
import type { ObjectStore, PutBody } from "./store.js"
import { wrapStore } from "./wrap-store.js"

/**
 * Calls made of a store since the counts were created, failed ones included, and bytes of the successful
 * ones.
 */
export interface RequestCounts {
  get: number
  getFile: number
  head: number
  put: number
  /** Whole listings, however many pages they took. */
  list: number
  delete: number
  /** Calls that threw, except those whose precondition did not hold. */
  failed: number
  /** Bytes of objects read. */
  bytesRead: number
  /** Bytes of objects written. */
  bytesWritten: number
  /** Calls that the rate limit made wait, and for how long in all. */
  throttled: number
  throttledMs: number
}

/** Counts at zero. One may be shared by several stores. */
export function createCounts(): RequestCounts {
  return {
    get: 0,
    getFile: 0,
    head: 0,
    put: 0,
    list: 0,
    delete: 0,
    failed: 0,
    bytesRead: 0,
    bytesWritten: 0,
    throttled: 0,
    throttledMs: 0,
  }
}

/**
 * Adds each call of a store to `counts`. Below {@link withRetry} it counts every attempt, above it every
 * operation.
 */
export function withCounting(store: ObjectStore, counts: RequestCounts): ObjectStore {
  async function failing<T>(call: () => Promise<T>): Promise<T> {
    try {
      return await call()
    } catch (error) {
      // A precondition that does not hold is an answer.
      if (!isVecsnapError(error, "Conflict")) counts.failed++
      throw error
    }
  }

  const counted = wrapStore(store, (operation, call) => {
    // A listing is called once per step, and counted where it starts.
    if (operation !== "list") counts[operation]++
    return failing(call)
  })

  return {
    ...counted,
    async get(key, options) {
      const object = await counted.get(key, options)
      counts.bytesRead += object?.body.length ?? 0
      return object
    },
    async getIfChanged(key, etag, options) {
      const object = await counted.getIfChanged(key, etag, options)
      if (object !== "unchanged") counts.bytesRead += object?.body.length ?? 0
      return object
    },
    async getFile(key, path, options) {
      const info = await counted.getFile(key, path, options)
      counts.bytesRead += info?.size ?? 0
      return info
    },
    async put(key, body, options) {
      const sizeBytes = await sizeOf(body)
      const result = await counted.put(key, body, options)
      counts.bytesWritten += sizeBytes
      return result
    },
    list(prefix, options) {
      counts.list++
      return counted.list(prefix, options)
    },
  }
}

/** Bytes of a body; 0 for a file that cannot be read, which the put then reports. */
export async function sizeOf(body: PutBody): Promise<number> {
  if (body instanceof Uint8Array) return body.length
  return stat(body.file).then(
    ({ size }) => size,
    () => 0,
  )
}
