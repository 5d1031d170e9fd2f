import { isVecsnapError } from "../errors.js"
import { withBody } from "./files.js"
import type { Retry } from "./retry.js"
import { compareKeys } from "./rules.js"
import type { CallOptions, ListedObject, ObjectStore, PutBody, PutOptions } from "./store.js"
import { wrapStore } from "./wrap-store.js"

const COMPARED_PIECE_BYTES = 8 * 1024 * 1024

/**
 * Repeats what failed with `Unavailable`, as `retry` decides.
 *
 * - A conditional put may have landed although its reply was lost; the next attempt then fails with
 *   `Conflict` against our own object. So a `Conflict` after an `Unavailable` is settled by reading: if the
 *   object holds our bytes, ours has landed. (What vecsnap writes with a condition carries the id of its run:
 *   equal bytes mean ours.)
 * - A listing goes on behind the last key that it gave.
 */
export function withRetry(store: ObjectStore, retry: Retry): ObjectStore {
  return {
    ...wrapStore(store, (_operation, call, signal) => retry(call, signal)),
    put: (key, body, options) => put(store, retry, key, body, options),
    list: (prefix, options) => list(store, retry, prefix, options),
  }
}

async function put(
  store: ObjectStore,
  retry: Retry,
  key: string,
  body: PutBody,
  options: PutOptions = {},
): Promise<{ readonly etag: string }> {
  const conditional = options.ifAbsent === true || options.ifMatch !== undefined
  let mayHaveLanded = false
  return retry(async () => {
    try {
      return await store.put(key, body, options)
    } catch (error) {
      if (isVecsnapError(error, "Unavailable")) mayHaveLanded = true
      if (conditional && mayHaveLanded && isVecsnapError(error, "Conflict")) {
        const etag = await etagIfEqual(store, key, body, options)
        if (etag !== undefined) return { etag }
      }
      throw error
    }
  }, options.signal)
}

/** The ETag of the object at `key` if it holds exactly the bytes of `body`. */
async function etagIfEqual(
  store: ObjectStore,
  key: string,
  body: PutBody,
  { signal }: CallOptions,
): Promise<string | undefined> {
  const found = await store.head(key, { signal })
  if (found === undefined) return undefined
  return withBody(body, async (source) => {
    if (found.size !== source.sizeBytes) return undefined
    for (let start = 0; start < source.sizeBytes; start += COMPARED_PIECE_BYTES) {
      const end = Math.min(start + COMPARED_PIECE_BYTES, source.sizeBytes)
      const piece = await store.get(key, { range: { start, end }, signal }).catch((error) => {
        // Shorter than a moment ago.
        if (isVecsnapError(error, "Corrupt")) return undefined
        throw error
      })
      // Another ETag: it was replaced while we compared.
      if (piece?.etag !== found.etag) return undefined
      if (Buffer.compare(piece.body, await source.read(start, end)) !== 0) return undefined
    }
    return found.etag
  })
}

async function* list(
  store: ObjectStore,
  retry: Retry,
  prefix: string,
  options: CallOptions = {},
): AsyncGenerator<ListedObject> {
  let listing: AsyncIterator<ListedObject> | undefined
  let last: string | undefined

  async function next(): Promise<IteratorResult<ListedObject>> {
    listing ??= store.list(prefix, options)[Symbol.asyncIterator]()
    try {
      for (;;) {
        const step = await listing.next()
        // A listing that was begun again gives once more what its consumer has already.
        if (step.done || last === undefined || compareKeys(step.value.key, last) > 0) return step
      }
    } catch (error) {
      listing = undefined
      throw error
    }
  }

  try {
    for (;;) {
      const step = await retry(next, options.signal)
      if (step.done) return
      last = step.value.key
      yield step.value
    }
  } finally {
    await listing?.return?.()
  }
}
