/**
 * Finds the shards of ids, so that a lookup opens those and no others.
 *
 * The index of the id locator is read at the first lookup, in one request; then each batch of ids reads the
 * blocks that it needs and that are not in memory, adjacent ones in one request. All of it is verified by
 * checksums.
 */
import { LRUCache } from "lru-cache"
import { abortable } from "../async/abortable.js"
import { createSemaphore } from "../async/semaphore.js"
import { corrupt, notFound, throwIfAborted } from "../errors.js"
import type { Logger } from "../logger.js"
import {
  blockChecksum,
  blockRange,
  blocksWith,
  decodeLocatorIndex,
  hashOfId,
  type LocatorIndex,
  shardsWith,
} from "../manifest/locator.js"
import type { Id } from "../records.js"
import type { LocatorEntry, Snapshot } from "../snapshot/snapshot.js"
import { sha256OfBytes } from "../storage/checksum.js"
import type { ObjectStore } from "../storage/store.js"

/** Blocks kept in memory, in bytes. */
const CACHE_BYTES = 16 * 2 ** 20
/** Requests in flight at a time. */
const CONCURRENCY = 8
/** Adjacent blocks in one request, at most: 3 MiB. */
const BLOCKS_PER_REQUEST = 64

export interface IdLocator {
  /**
   * Shards that may hold each id, in order of the ids. For an id of the snapshot its shard is among them; for
   * any other there are almost always none.
   */
  locate(ids: readonly Id[], signal?: AbortSignal): Promise<readonly (readonly number[])[]>
}

/**
 * The locator of a snapshot, or what does without one: every shard may hold every id, and a warning says so
 * once.
 */
export function createIdLocator(store: ObjectStore, snapshot: Snapshot, logger: Logger): IdLocator {
  const { locator, run, rows } = snapshot
  const shards = snapshot.shards.map(({ shard }) => shard)
  if (locator !== undefined) return createStoredLocator(store, locator, rows, new Set(shards))
  let warned = false
  return {
    async locate(ids) {
      if (!warned) {
        logger.warn(
          { run, shards: shards.length },
          `snapshot ${run} has no id locator: looking up ids asks all of its ${shards.length} shards`,
        )
      }
      warned = true
      return ids.map(() => shards)
    },
  }
}

/** The index or a block: in memory, or on its way. */
interface Cached<T> {
  readonly content: Promise<T>
  readonly request: SharedRequest
}

/** One request that several lookups wait for. */
interface SharedRequest {
  waiting: number
  /** Ends the request unless it has ended; called when all who waited have left. */
  abandon(): void
}

/**
 * @param rows of the snapshot
 * @param present shards that hold rows
 */
function createStoredLocator(
  store: ObjectStore,
  locator: LocatorEntry,
  rows: number,
  present: ReadonlySet<number>,
): IdLocator {
  const { key } = locator
  const limit = createSemaphore(CONCURRENCY)
  const blocks = new LRUCache<number, Cached<Uint8Array>>({ maxSize: CACHE_BYTES })
  let cachedIndex: Cached<LocatorIndex> | undefined

  return {
    async locate(ids, signal) {
      const hashes = ids.map(hashOfId)
      const index = await arrival(requireIndex(), signal)
      const placesByBlock = new Map<number, number[]>()
      for (const [place, hash] of hashes.entries()) {
        if (hash === undefined) continue
        for (const block of blocksWith(index, hash)) {
          const places = placesByBlock.get(block)
          if (places === undefined) placesByBlock.set(block, [place])
          else places.push(place)
        }
      }
      const found = ids.map((): readonly number[] => [])
      await Promise.all(
        requireBlocks(index, [...placesByBlock.keys()]).map(async ({ block, cached }) => {
          const bytes = await arrival(cached, signal)
          for (const place of placesByBlock.get(block)!) {
            const shards = shardsWith(bytes, hashes[place]!)
            if (shards.length > 0) found[place] = [...new Set([...found[place]!, ...shards])]
          }
        }),
      )
      for (const shard of found.flat()) {
        if (!present.has(shard))
          throw corrupt(`${key} names shard ${shard}, which holds no rows`, { key, shard })
      }
      return found
    },
  }

  function requireIndex(): Cached<LocatorIndex> {
    if (cachedIndex !== undefined) return cachedIndex
    const forget = (): void => {
      if (cachedIndex === begun) cachedIndex = undefined
    }
    const { result, request } = shareRequest(fetchIndex, forget)
    const begun: Cached<LocatorIndex> = { content: result, request }
    cachedIndex = begun
    return begun
  }

  async function fetchIndex(signal: AbortSignal): Promise<LocatorIndex> {
    const { size, index } = locator
    const bytes = await fetchRange(size - index.size, size, signal)
    const actual = sha256OfBytes(bytes)
    if (actual !== index.sha256) {
      throw corrupt(
        `the index of ${key} is damaged: its SHA-256 is ${actual}, its manifest says ${index.sha256}`,
        {
          key,
          expected: index.sha256,
          actual,
        },
      )
    }
    return decodeLocatorIndex(bytes, locator, rows)
  }

  /** The blocks, from memory or from requests that are under way when this returns. */
  function requireBlocks(
    index: LocatorIndex,
    needed: readonly number[],
  ): readonly { readonly block: number; readonly cached: Cached<Uint8Array> }[] {
    const held = new Map<number, Cached<Uint8Array>>()
    const missing: number[] = []
    for (const block of needed) {
      const cached = blocks.get(block)
      if (cached === undefined) missing.push(block)
      else held.set(block, cached)
    }
    for (const [first, end] of adjacentRuns(missing, BLOCKS_PER_REQUEST)) {
      for (const [block, cached] of request(index, first, end)) held.set(block, cached)
    }
    return needed.map((block) => ({ block, cached: held.get(block)! }))
  }

  /** Begins to fetch the blocks from `first` up to but not including `end`. */
  function request(
    index: LocatorIndex,
    first: number,
    end: number,
  ): readonly (readonly [number, Cached<Uint8Array>])[] {
    const forget = (): void => {
      for (const [block, cached] of begun) if (blocks.peek(block) === cached) blocks.delete(block)
    }
    const fetch = (signal: AbortSignal) =>
      limit.run(async () => {
        throwIfAborted(signal)
        return fetchBlocks(index, first, end, signal)
      })
    const { result, request } = shareRequest(fetch, forget)
    const begun = Array.from({ length: end - first }, (_, i): readonly [number, Cached<Uint8Array>] => {
      const content = result.then((arrived) => arrived[i]!)
      // Whoever waits hears of it; that nobody does any more is no fault.
      content.catch(() => {})
      return [first + i, { content, request }]
    })
    for (const [block, cached] of begun) {
      const { start, end } = blockRange(index, block)
      blocks.set(block, cached, { size: end - start })
    }
    return begun
  }

  async function fetchBlocks(
    index: LocatorIndex,
    first: number,
    end: number,
    signal: AbortSignal,
  ): Promise<readonly Uint8Array[]> {
    const { start } = blockRange(index, first)
    const bytes = await fetchRange(start, blockRange(index, end - 1).end, signal)
    return Array.from({ length: end - first }, (_, i) => {
      const block = first + i
      const range = blockRange(index, block)
      // A copy: a view of one block would keep the bytes of all in memory.
      const content = bytes.slice(range.start - start, range.end - start)
      const expected = index.blocks[block]!.checksum
      const actual = blockChecksum(content)
      if (actual !== expected) {
        const hex = (checksum: bigint): string => checksum.toString(16).padStart(16, "0")
        throw corrupt(
          `block ${block} of ${key} is damaged: its XXH3-64 is ${hex(actual)}, the index says ${hex(expected)}`,
          { key, block, expected: hex(expected), actual: hex(actual) },
        )
      }
      return content
    })
  }

  async function fetchRange(start: number, end: number, signal: AbortSignal): Promise<Uint8Array> {
    const object = await store.get(key, { range: { start, end }, signal })
    if (object === undefined)
      throw notFound(`${store.url} has no ${key}, which its manifest lists`, { url: store.url, key })
    if (object.size !== locator.size) {
      throw corrupt(`${key} has ${object.size} bytes, its manifest says ${locator.size}`, {
        key,
        expected: locator.size,
        actual: object.size,
      })
    }
    return object.body
  }
}

/**
 * Begins a request that several may wait for, and that ends when the last of them leaves.
 *
 * @param forget called at once when it fails or is abandoned, so that nobody waits for it from then on
 */
function shareRequest<T>(
  fetch: (signal: AbortSignal) => Promise<T>,
  forget: () => void,
): { readonly result: Promise<T>; readonly request: SharedRequest } {
  const stop = new AbortController()
  let pending = true
  const settle = (): void => {
    pending = false
  }
  const result = fetch(stop.signal)
  result.then(settle, () => {
    settle()
    forget()
  })
  const abandon = (): void => {
    if (!pending) return
    forget()
    stop.abort()
  }
  return { result, request: { waiting: 0, abandon } }
}

// The request is shared with other lookups, so a signal ends the waiting, and the request only if nobody else
// waits.
async function arrival<T>({ content, request }: Cached<T>, signal: AbortSignal | undefined): Promise<T> {
  request.waiting++
  try {
    return await abortable(content, signal)
  } finally {
    request.waiting--
    if (request.waiting === 0) request.abandon()
  }
}

/**
 * Runs `[first, end)` of successive numbers, at most `longest` each, that cover `numbers`, which are in any
 * order.
 */
export function adjacentRuns(
  numbers: readonly number[],
  longest: number,
): readonly (readonly [first: number, end: number])[] {
  const runs: [first: number, end: number][] = []
  for (const number of numbers.toSorted((a, b) => a - b)) {
    const last = runs.at(-1)
    if (last?.[1] === number && number - last[0] < longest) last[1]++
    else runs.push([number, number + 1])
  }
  return runs
}
