/**
 * Open shards: bounded in number, in bytes and in the time that they lie idle; least recently used ones
 * closed first.
 *
 * - One open is in flight per shard, shared by all who ask. When all of them have given up, the open is
 *   aborted; one that failed is forgotten, so that the next search tries again.
 * - A handle in use is never closed. One that has to go meanwhile is closed by its last user.
 * - Shards that are wanted together are taken together, all or none, so that nobody waits for a place while
 *   holding one. Where all are open, that takes no turn of the event loop.
 * - A place counts as taken until its shard is closed, so there are never more than `maxOpen`. Whoever finds
 *   too few waits, in order of arrival; those for whom the same shards are enough come along.
 * - While somebody waits for places that only users can free, newcomers queue up as well, even for open
 *   shards: otherwise a shard that is always in use would keep its place for ever.
 */
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
  /** How long a caller waits for places, at most. Default 30,000. */
  readonly waitMs?: number | undefined
}

/** An open shard, and how it is closed with all that was taken to open it. */
export interface OpenedShard {
  readonly reader: ShardReader
  close(): Promise<void>
}

/** Opens a shard. The signal fires when nobody waits for it any more. */
export type OpenShard = (signal: AbortSignal) => Promise<OpenedShard>

/** Opens one of the shards that are wanted together, by its place. */
export type OpenPlace = (place: number, signal: AbortSignal) => Promise<OpenedShard>

/** Shards that are not closed before they are given back. */
export interface HeldShards {
  /** In order; undefined while one of them is still being opened, or has failed to open. */
  readonly readers: readonly ShardReader[] | undefined
  /** The opening of each. */
  readonly openings: readonly Promise<ShardReader>[]
  /** Gives them back, once. */
  release(): void
}

export interface ShardCache {
  /**
   * Holds the shards of different keys together, `maxOpen` at most; those that are not open are being opened.
   * At once, if there are places for them. Rejects with `Unavailable` if they did not become free in time,
   * with `Aborted` if the signal fired before. Throws `Closed` after `close`.
   */
  hold(
    keys: readonly string[],
    open: OpenPlace,
    signal?: AbortSignal | undefined,
  ): HeldShards | Promise<HeldShards>
  /** Runs `work` with one open shard. Throws as {@link hold}, and what the opening throws. */
  use<T>(
    key: string,
    open: OpenShard,
    work: (reader: ShardReader) => Promise<T>,
    signal?: AbortSignal,
  ): Promise<T>
  /** Whether a shard is open, or being opened. */
  has(key: string): boolean
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
  readonly opening: Promise<OpenedShard>
  readonly abortOpening: AbortController
  /** Nobody uses it: it is idle. */
  users: number
  /** Undefined until it is open. */
  reader: ShardReader | undefined
  /** Not to be found any more: to be closed by its last user. */
  retired: boolean
  /** Counts the times that shards were given back, to tell which was used last. */
  lastUse: number
  /** Since when it is idle; kept where idle shards are closed. */
  idleSinceMs: number
}

/** Somebody who waits for places. */
interface Turn {
  readonly keys: readonly string[]
  readonly open: OpenPlace
  give(held: HeldShards): void
}

const DEFAULT_WAIT_MS = 30_000
/** Timers of more fire at once. */
const TIMER_MAX_MS = 2 ** 31 - 1

export function createShardCache(options: ShardCacheOptions): ShardCache {
  const { maxOpen, maxBytes = Number.POSITIVE_INFINITY, idleMs, waitMs = DEFAULT_WAIT_MS } = options
  /** What newcomers find: shards in use, idle, or being opened. */
  const current = new Map<string, Handle>()
  /** In order of arrival. */
  const turns = new Set<Turn>()
  /** What is open, also what is to be closed by its last user. */
  const opened = new Set<ShardReader>()
  let taken = 0
  let closing = 0
  let opens = 0
  let uses = 0
  let sweeping: NodeJS.Timeout | undefined
  let isClosed = false
  let drained: (() => void) | undefined

  const missingOf = (keys: readonly string[]): number => {
    let missing = 0
    for (const key of keys) if (!current.has(key)) missing++
    return missing
  }

  /** Whether the first who waits needs places that only users can free. */
  function isStarving(): boolean {
    const [first] = turns
    return first !== undefined && taken - closing + missingOf(first.keys) > maxOpen
  }

  function hold(
    keys: readonly string[],
    open: OpenPlace,
    signal: AbortSignal | undefined,
  ): HeldShards | Promise<HeldShards> {
    if (isClosed) throw closed("this reader is closed")
    if (keys.length > maxOpen) throw new Error(`${keys.length} shards do not fit ${maxOpen} places`)
    if (turns.size === 0 || !isStarving()) {
      const missing = missingOf(keys)
      if (missing === 0 || (turns.size === 0 && taken + missing <= maxOpen)) return take(keys, open)
    }
    return waitForTurn(keys, open, signal)
  }

  /** There are places for all of them. */
  function take(keys: readonly string[], open: OpenPlace): HeldShards {
    const handles = keys.map((key, place) => {
      const handle = current.get(key) ?? start(key, (signal) => open(place, signal))
      handle.users++
      return handle
    })
    return new Held(handles, release)
  }

  function start(key: string, open: OpenShard): Handle {
    opens++
    taken++
    const abortOpening = new AbortController()
    const opening = open(abortOpening.signal)
    const handle: Handle = {
      key,
      opening,
      abortOpening,
      users: 0,
      reader: undefined,
      retired: false,
      lastUse: 0,
      idleSinceMs: 0,
    }
    current.set(key, handle)
    opening.then(
      ({ reader }) => {
        // It may be on its way out already.
        if (handle.retired && handle.users === 0) return
        handle.reader = reader
        opened.add(reader)
        trim()
      },
      () => retire(handle),
    )
    return handle
  }

  async function waitForTurn(
    keys: readonly string[],
    open: OpenPlace,
    signal: AbortSignal | undefined,
  ): Promise<HeldShards> {
    let given: HeldShards | undefined
    let turn!: Turn
    let timer: NodeJS.Timeout | undefined
    const places = new Promise<HeldShards>((resolve, reject) => {
      turn = {
        keys,
        open,
        give(held) {
          given = held
          resolve(held)
        },
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
    turns.add(turn)
    serve()
    try {
      return await abortable(places, signal)
    } catch (error) {
      turns.delete(turn)
      // The signal may have fired just after the turn had come.
      given?.release()
      serve()
      throw error
    } finally {
      clearTimeout(timer)
    }
  }

  /**
   * Gives places to those who wait, in their order, and makes room for the next one as far as idle shards
   * allow.
   */
  function serve(): void {
    let hasServed = false
    for (const turn of turns) {
      const missing = missingOf(turn.keys)
      if (taken + missing > maxOpen) {
        makeRoom(taken - closing + missing - maxOpen, new Set(turn.keys))
        break
      }
      serveOne(turn)
      hasServed = true
    }
    if (hasServed) for (const turn of turns) if (missingOf(turn.keys) === 0) serveOne(turn)
    if (isClosed && taken === 0 && turns.size === 0) drained?.()
  }

  function serveOne(turn: Turn): void {
    turns.delete(turn)
    turn.give(take(turn.keys, turn.open))
  }

  function makeRoom(places: number, needed: ReadonlySet<string>): void {
    for (let i = 0; i < places; i++) {
      const oldest = oldestIdle(needed)
      if (oldest === undefined) return
      retire(oldest)
    }
  }

  /** All are looked at: a shard is closed less often than it is used. */
  function oldestIdle(needed?: ReadonlySet<string>): Handle | undefined {
    let oldest: Handle | undefined
    for (const handle of current.values()) {
      if (handle.users > 0 || needed?.has(handle.key)) continue
      if (oldest === undefined || handle.lastUse < oldest.lastUse) oldest = handle
    }
    return oldest
  }

  function release(handles: readonly Handle[]): void {
    uses++
    for (const handle of handles) {
      handle.lastUse = uses
      if (--handle.users > 0) continue
      if (handle.retired) closeHandle(handle)
      else if (handle.reader === undefined || isClosed) retire(handle)
      else if (idleMs !== undefined) handle.idleSinceMs = performance.now()
    }
    if (idleMs !== undefined) sweepLater(idleMs)
    trim()
    if (turns.size > 0) serve()
  }

  /** A shard's memory may grow with its first search, and shrink for the sake of others. */
  const bytesOf = (): number => {
    let bytes = 0
    for (const reader of opened) bytes += reader.bytes
    return bytes
  }

  function trim(): void {
    if (maxBytes === Number.POSITIVE_INFINITY) return
    while (bytesOf() > maxBytes) {
      const oldest = oldestIdle()
      if (oldest === undefined) return
      retire(oldest)
    }
  }

  /** Closes in a while what has been idle for too long by then. */
  function sweepLater(afterMs: number): void {
    if (isClosed) return
    sweeping ??= setTimeout(
      () => {
        sweeping = undefined
        const now = performance.now()
        let nextMs = Infinity
        for (const handle of [...current.values()]) {
          if (handle.users > 0) continue
          const leftMs = handle.idleSinceMs + idleMs! - now
          if (leftMs <= 0) retire(handle)
          else nextMs = Math.min(nextMs, leftMs)
        }
        if (nextMs < Infinity) sweepLater(nextMs)
      },
      Math.min(Math.ceil(afterMs), TIMER_MAX_MS),
    ).unref()
  }

  function retire(handle: Handle): Promise<void> | undefined {
    if (handle.retired) return undefined
    handle.retired = true
    current.delete(handle.key)
    return handle.users === 0 ? closeHandle(handle) : undefined
  }

  function closeHandle(handle: Handle): Promise<void> {
    closing++
    if (handle.reader !== undefined) opened.delete(handle.reader)
    // Without effect once it is open.
    handle.abortOpening.abort()
    const settled = (): void => {
      closing--
      taken--
      serve()
    }
    // An error on opening was told to those who asked; one on closing concerns nobody.
    return handle.opening.then((opened) => opened.close()).then(settled, settled)
  }

  const idleHandles = (): Handle[] => [...current.values()].filter(({ users }) => users === 0)

  return {
    hold,
    async use(key, open, work, signal) {
      const held = await hold([key], (_, opening) => open(opening), signal)
      try {
        return await work(held.readers?.[0] ?? (await abortable(held.openings[0]!, signal)))
      } finally {
        held.release()
      }
    },
    has: (key) => current.has(key),
    retain(keys) {
      for (const [key, handle] of [...current]) if (!keys.has(key)) retire(handle)
    },
    async closeIdle() {
      const idlers = idleHandles()
      await Promise.all(idlers.map(retire))
      return idlers.length > 0
    },
    discard(key) {
      const handle = current.get(key)
      if (handle !== undefined) retire(handle)
    },
    async close() {
      isClosed = true
      clearTimeout(sweeping)
      for (const handle of idleHandles()) retire(handle)
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
      return bytesOf()
    },
    get waiting() {
      const wanted = new Set(Array.from(turns, ({ keys }) => keys).flat())
      return [...wanted].filter((key) => !current.has(key)).length
    },
  }
}

class Held implements HeldShards {
  readonly #handles: readonly Handle[]
  readonly #release: (handles: readonly Handle[]) => void

  constructor(handles: readonly Handle[], release: (handles: readonly Handle[]) => void) {
    this.#handles = handles
    this.#release = release
  }

  get readers(): readonly ShardReader[] | undefined {
    const readers: ShardReader[] = []
    for (const { reader } of this.#handles) {
      if (reader === undefined) return undefined
      readers.push(reader)
    }
    return readers
  }

  get openings(): readonly Promise<ShardReader>[] {
    return this.#handles.map(({ opening }) => opening.then(({ reader }) => reader))
  }

  release(): void {
    this.#release(this.#handles)
  }
}
