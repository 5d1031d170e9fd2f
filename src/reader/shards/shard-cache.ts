/**
 * Open shards: bounded in number, in bytes and in the time that they lie idle; least recently used ones
 * closed first.
 *
 * - One open is in flight per shard, shared by all who ask. When all of them have given up, the open is
 *   aborted; one that failed is forgotten, so that the next search tries again.
 * - A handle in use is never closed. One that has to go meanwhile is closed by its last user.
 * - A place counts as taken until its shard is closed, so there are never more than `maxOpen`. Whoever finds
 *   all taken waits, in order of arrival, all who need the same shard together. A use holds one place for its
 *   own work alone, so that a search of more shards than there are places ends too.
 * - While somebody waits for a place that only users can free, a shard's newcomers queue up as well:
 *   otherwise a shard that is always in use would keep its place for ever.
 */
import { LRUCache } from "lru-cache"
import { abortable } from "../../async/abortable.js"
import { closed, unavailable } from "../../errors.js"
import type { ShardReader } from "../../shards/backend.js"

export interface ShardCacheOptions {
  /** Shards open at the same time, at most; from 1. */
  readonly maxOpen: number
  /**
   * Closes idle shards while all open ones together hold more memory than this, in bytes. Default: no bound.
   */
  readonly maxBytes?: number | undefined
  /** Closes shards that nobody has used for so long. Default: never. */
  readonly idleMs?: number | undefined
  /** How long a caller waits for a place, at most. Default 30,000. */
  readonly waitMs?: number | undefined
}

/** Opens a shard. The signal fires when nobody waits for it any more. */
export type OpenShard = (signal: AbortSignal) => Promise<ShardReader>

export interface ShardCache {
  /**
   * Runs `work` with the open shard, opened by `open` if it is not. Throws `Unavailable` if no place became
   * free in time, `Aborted` if the signal fired before `work` began, `Closed` after `close`.
   */
  use<T>(
    key: string,
    open: OpenShard,
    work: (reader: ShardReader) => Promise<T>,
    signal?: AbortSignal,
  ): Promise<T>
  /** Closes what is not among `keys`, as soon as it is not in use. */
  retain(keys: ReadonlySet<string>): void
  /**
   * Closes all that nobody uses, and resolves when they are closed. Returns whether there were any. For who
   * finds no room on the disk, or no file left to open, since open shards hold both.
   */
  closeIdle(): Promise<boolean>
  /** Closes one shard as soon as it is not in use; who asks for it from now on opens it anew. */
  discard(key: string): void
  /** Closes all. Resolves when every handle is closed, those in use included. */
  close(): Promise<void>
  /** Shards that are open or being opened. */
  readonly open: number
  /** Shards opened so far. */
  readonly opens: number
  /** Memory that open shards hold, in bytes, as they say themselves. */
  readonly bytes: number
  /** Shards that somebody waits for because every place is taken. */
  readonly waiting: number
}

interface Handle {
  readonly key: string
  readonly opening: Promise<ShardReader>
  readonly abortOpening: AbortController
  users: number
  /** Undefined until it is open; then with the memory that it holds, in bytes. */
  opened: { readonly reader: ShardReader; bytes: number } | undefined
  /** Not to be found any more: to be closed by its last user. */
  retired: boolean
}

/** All who wait for a place for the same shard. */
interface Turn {
  readonly key: string
  readonly open: OpenShard
  readonly waiters: Set<(handle: Handle) => void>
}

const DEFAULT_WAIT_MS = 30_000

export function createShardCache(options: ShardCacheOptions): ShardCache {
  const { maxOpen, maxBytes = Number.POSITIVE_INFINITY, idleMs, waitMs = DEFAULT_WAIT_MS } = options
  /** What newcomers find: shards in use, idle, or being opened. */
  const current = new Map<string, Handle>()
  /** Those of them that nobody uses, in order of last use. */
  const idle = new LRUCache<string, Handle>({
    max: maxOpen,
    ...(idleMs !== undefined && { ttl: idleMs, ttlAutopurge: true }),
    // Not `dispose`, which is called while the entry is still being removed.
    disposeAfter: (handle, _key, reason) => {
      if (reason === "expire") retire(handle)
    },
  })
  const turns = new Map<string, Turn>()
  let taken = 0
  let closing = 0
  let opens = 0
  let bytes = 0
  let isClosed = false
  let drained: (() => void) | undefined

  async function acquire(key: string, open: OpenShard, signal: AbortSignal | undefined): Promise<Handle> {
    if (isClosed) throw closed("this reader is closed")
    const handle = current.get(key)
    if (handle !== undefined && !isStarving()) return join(handle)
    if (handle === undefined && taken < maxOpen && turns.size === 0) return join(start(key, open))
    return waitForTurn(key, open, signal)
  }

  /** Whether somebody waits for a place that only a user can free. */
  const isStarving = (): boolean => turns.size > closing

  function join(handle: Handle): Handle {
    idle.delete(handle.key)
    handle.users++
    return handle
  }

  function start(key: string, open: OpenShard): Handle {
    opens++
    taken++
    const abortOpening = new AbortController()
    const opening = open(abortOpening.signal)
    const handle: Handle = { key, opening, abortOpening, users: 0, opened: undefined, retired: false }
    current.set(key, handle)
    opening.then(
      (reader) => {
        // It may be on its way out already.
        if (handle.retired && handle.users === 0) return
        handle.opened = { reader, bytes: reader.bytes }
        bytes += reader.bytes
        trim()
      },
      () => retire(handle),
    )
    return handle
  }

  async function waitForTurn(key: string, open: OpenShard, signal: AbortSignal | undefined): Promise<Handle> {
    const turn: Turn = turns.get(key) ?? { key, open, waiters: new Set() }
    turns.set(key, turn)
    let given: Handle | undefined
    let onTurn!: (handle: Handle) => void
    let timer: NodeJS.Timeout | undefined
    const place = new Promise<Handle>((resolve, reject) => {
      onTurn = (handle) => {
        given = handle
        resolve(handle)
      }
      timer = setTimeout(() => {
        reject(
          unavailable(
            `all ${maxOpen} places for open shards are in use: none became free within ${waitMs} ms`,
            { maxOpenShards: maxOpen, waitedMs: waitMs },
          ),
        )
      }, waitMs)
    })
    turn.waiters.add(onTurn)
    serve()
    try {
      return await abortable(place, signal)
    } catch (error) {
      turn.waiters.delete(onTurn)
      if (turn.waiters.size === 0 && turns.get(key) === turn) turns.delete(key)
      // The signal may have fired just after the turn had come.
      if (given !== undefined) release(given)
      serve()
      throw error
    } finally {
      clearTimeout(timer)
    }
  }

  /**
   * Gives places to those who wait, in their order, and makes room for as many of them as idle shards allow.
   */
  function serve(): void {
    for (const turn of turns.values()) {
      const handle = current.get(turn.key)
      if (handle === undefined && taken >= maxOpen) break
      turns.delete(turn.key)
      const joined = handle ?? start(turn.key, turn.open)
      for (const onTurn of turn.waiters) onTurn(join(joined))
      turn.waiters.clear()
    }
    while (isStarving() && idle.size > 0) retire(idle.pop()!)
    if (isClosed && taken === 0 && turns.size === 0) drained?.()
  }

  function release(handle: Handle): void {
    note(handle)
    if (--handle.users > 0) return
    if (handle.retired) closeHandle(handle)
    else if (handle.opened === undefined || isClosed) retire(handle)
    else {
      idle.set(handle.key, handle)
      trim()
      serve()
    }
  }

  /** Its memory may have grown with the first search, and shrunk for the sake of others. */
  function note({ opened, retired }: Handle): void {
    if (opened === undefined || retired) return
    bytes += opened.reader.bytes - opened.bytes
    opened.bytes = opened.reader.bytes
  }

  function trim(): void {
    while (bytes > maxBytes && idle.size > 0) retire(idle.pop()!)
  }

  function retire(handle: Handle): Promise<void> | undefined {
    if (handle.retired) return undefined
    handle.retired = true
    current.delete(handle.key)
    idle.delete(handle.key)
    return handle.users === 0 ? closeHandle(handle) : undefined
  }

  function closeHandle(handle: Handle): Promise<void> {
    closing++
    bytes -= handle.opened?.bytes ?? 0
    // Without effect once it is open.
    handle.abortOpening.abort()
    const settled = (): void => {
      closing--
      taken--
      serve()
    }
    // An error on opening was told to those who asked; one on closing concerns nobody.
    return handle.opening.then((reader) => reader.close()).then(settled, settled)
  }

  return {
    async use(key, open, work, signal) {
      const handle = await acquire(key, open, signal)
      try {
        return await work(handle.opened?.reader ?? (await abortable(handle.opening, signal)))
      } finally {
        release(handle)
      }
    },
    retain(keys) {
      for (const [key, handle] of [...current]) if (!keys.has(key)) retire(handle)
    },
    async closeIdle() {
      const idlers = [...idle.values()]
      await Promise.all(idlers.map(retire))
      return idlers.length > 0
    },
    discard(key) {
      const handle = current.get(key)
      if (handle !== undefined) retire(handle)
    },
    async close() {
      isClosed = true
      for (const handle of [...idle.values()]) retire(handle)
      if (taken === 0 && turns.size === 0) return
      await new Promise<void>((resolve) => {
        const before = drained
        drained = () => {
          before?.()
          resolve()
        }
      })
    },
    get open() {
      return current.size
    },
    get opens() {
      return opens
    },
    get bytes() {
      return bytes
    },
    get waiting() {
      return turns.size
    },
  }
}
