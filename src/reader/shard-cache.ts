/**
 * Open shards: at most so many, least recently used ones closed first.
 *
 * One open is in flight per shard; a handle in use is never closed, and one that leaves the cache meanwhile is closed
 * by its last user; an open that failed is forgotten, so that the next search tries again.
 */
import { LRUCache } from "lru-cache"
import type { ShardReader } from "../shards/backend.js"

interface Handle {
  readonly opening: Promise<ShardReader>
  users: number
  /** No longer in the cache: to be closed by its last user. */
  evicted: boolean
}

export interface ShardCache {
  /** Runs `work` with the open shard, opened by `open` if it is not. */
  use<T>(key: string, open: () => Promise<ShardReader>, work: (reader: ShardReader) => Promise<T>): Promise<T>
  /** Closes this shard, as soon as it is not in use: the next one who asks opens it afresh. */
  drop(key: string): void
  /** Closes what is not among `keys`, as soon as it is not in use. */
  retain(keys: ReadonlySet<string>): void
  /** Closes all. Resolves when every handle is closed, those in use included. */
  close(): Promise<void>
  readonly open: number
  /** Shards opened so far. */
  readonly opens: number
}

export function createShardCache(maxOpen: number): ShardCache {
  const closing = new Set<Promise<void>>()
  let opens = 0
  let idle: (() => void) | undefined

  const handles = new LRUCache<string, Handle>({
    max: maxOpen,
    dispose: (handle) => {
      handle.evicted = true
      if (handle.users === 0) closeHandle(handle)
    },
  })
  const inUse = new Set<Handle>()

  function closeHandle(handle: Handle): void {
    const closed = handle.opening
      .then((reader) => reader.close())
      .catch(() => {
        // Never opened: nothing to close. Whoever asked for it was told.
      })
    closing.add(closed)
    void closed.finally(() => closing.delete(closed))
  }

  function acquire(key: string, open: () => Promise<ShardReader>): Handle {
    let handle = handles.get(key)
    if (handle === undefined) {
      opens++
      const created: Handle = { opening: open(), users: 0, evicted: false }
      created.opening.catch(() => {
        if (handles.peek(key) === created) handles.delete(key)
      })
      handles.set(key, created)
      handle = created
    }
    handle.users++
    inUse.add(handle)
    return handle
  }

  function release(handle: Handle): void {
    if (--handle.users > 0) return
    inUse.delete(handle)
    if (handle.evicted) closeHandle(handle)
    if (inUse.size === 0) idle?.()
  }

  return {
    async use(key, open, work) {
      const handle = acquire(key, open)
      try {
        return await work(await handle.opening)
      } finally {
        release(handle)
      }
    },
    drop: (key) => void handles.delete(key),
    retain(keys) {
      for (const key of [...handles.keys()]) if (!keys.has(key)) handles.delete(key)
    },
    async close() {
      handles.clear()
      if (inUse.size > 0) await new Promise<void>((resolve) => (idle = resolve))
      await Promise.all(closing)
    },
    get open() {
      return handles.size
    },
    get opens() {
      return opens
    },
  }
}
