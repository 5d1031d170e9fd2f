/**
 * The memories that vectors and cells of open shards lie in, as the main thread sees them: it alone divides
 * them, so there is no lock that a thread could die with. Threads get them by messages.
 *
 * A memory cannot shrink. What is given back is used again, and counts until then; a memory of which nothing
 * is in use is dropped, unless it is the last of its kind.
 */
import { RANGE_ALIGNMENT, Ranges } from "./ranges.js"

const PAGE_BYTES = 2 ** 16
const GROWTH_BYTES = 2 ** 22
/** One memory takes so much, and more only for a single shard that needs it. */
const ARENA_BYTES_MAX = 2 ** 30
const MEMORY_BYTES_MAX = 2 ** 32 - PAGE_BYTES
/** Left to what searches work with, which comes when the shards are there already. */
const HEADROOM_BYTES = 2 ** 24

/** Codes lie apart from rows, so that all shards can be compared in one scan. */
export type ArenaKind = "cells" | "rows"

/** How threads come by the memories: all see the same ones, or each makes its own. */
export type Sharing = "shared" | "private"

export interface Arena {
  readonly id: number
  readonly kind: ArenaKind
  /** Absent where threads make their own. */
  readonly memory: WebAssembly.Memory | undefined
  /** What it has to hold at least. */
  readonly sizeBytes: number
}

/** A part of an arena. */
export interface Place {
  readonly arena: Arena
  readonly at: number
  readonly bytes: number
}

export interface TakeOptions {
  /** The arena that it must be in. Default: any. */
  readonly within?: Arena | undefined
  /** Whether it may exceed the budget. Default false. */
  readonly mustHave?: boolean | undefined
  /** Whether the budget knows of it. Default true. */
  readonly counts?: boolean | undefined
}

class OwnArena implements Arena {
  readonly ranges: Ranges
  sizeBytes: number
  /** Bytes in use that the budget does not know of. */
  uncounted = 0

  constructor(
    readonly id: number,
    readonly kind: ArenaKind,
    readonly memory: WebAssembly.Memory | undefined,
    most: number,
    sizeBytes: number,
  ) {
    // Kernels may read some bytes before what they are given.
    this.ranges = new Ranges(RANGE_ALIGNMENT, most)
    this.sizeBytes = sizeBytes
  }

  get isEmpty(): boolean {
    return this.ranges.taken === this.uncounted
  }

  /** Makes it large enough for what was taken. False where the system refuses. */
  grow(): boolean {
    const missing = this.ranges.end - this.sizeBytes
    if (missing <= 0) return true
    const bytes = Math.ceil(missing / PAGE_BYTES) * PAGE_BYTES
    const more = Math.max(bytes, Math.min(GROWTH_BYTES, this.ranges.most - this.sizeBytes))
    try {
      this.memory?.grow(more / PAGE_BYTES)
    } catch (error) {
      if (error instanceof RangeError) return false
      throw error
    }
    this.sizeBytes += more
    return true
  }
}

/** The arenas of one set of threads. */
export class Arenas {
  readonly sharing: Sharing
  readonly #budgetBytes: number
  #all: OwnArena[] = []
  #nextId = 0

  constructor(sharing: Sharing, budgetBytes: number) {
    this.sharing = sharing
    this.#budgetBytes = budgetBytes
  }

  get all(): readonly Arena[] {
    return this.#all
  }

  /** Bytes that count: in use, or to be used again. */
  get bytes(): number {
    return this.#all.reduce((sum, { ranges, uncounted }) => sum + ranges.touched - uncounted, 0)
  }

  /** Undefined where it would exceed the budget, and where the system gives no more memory. */
  take(kind: ArenaKind, bytes: number, options: TakeOptions = {}): Place | undefined {
    const { within, mustHave = false, counts = true } = options
    const left = mustHave || !counts ? Infinity : this.#budgetBytes - this.bytes
    const arenas = this.#all.filter(
      (arena) => arena.kind === kind && (within === undefined || arena === within),
    )
    for (const arena of arenas) {
      const growth = arena.ranges.growthFor(bytes)
      if (growth === undefined || growth > left) continue
      if (counts && arena.ranges.end + growth > arena.ranges.most - HEADROOM_BYTES) continue
      const place = this.#takeIn(arena, bytes, counts)
      if (place !== undefined) return place
    }
    if (within !== undefined || bytes > left) return undefined
    const arena = this.#create(kind, bytes)
    return arena && this.#takeIn(arena, bytes, counts)
  }

  give({ arena, at, bytes }: Place, { counts = true }: Pick<TakeOptions, "counts"> = {}): void {
    const own = this.#all.find(({ id }) => id === arena.id)
    if (own === undefined) return
    const before = own.ranges.taken
    own.ranges.give(at, bytes)
    if (!counts) own.uncounted -= before - own.ranges.taken
    if (own.isEmpty && this.#all.some((other) => other !== own && other.kind === own.kind))
      this.#all = this.#all.filter((other) => other !== own)
  }

  /** Forgets all: for threads that are gone with their memories. */
  clear(): void {
    this.#all = []
  }

  #takeIn(arena: OwnArena, bytes: number, counts: boolean): Place | undefined {
    const before = arena.ranges.taken
    const at = arena.ranges.take(bytes)
    if (at === undefined) return undefined
    if (!counts) arena.uncounted += arena.ranges.taken - before
    const place = { arena, at, bytes }
    if (arena.grow()) return place
    this.give(place, { counts })
    return undefined
  }

  #create(kind: ArenaKind, bytes: number): OwnArena | undefined {
    const wanted = Math.ceil((bytes + HEADROOM_BYTES + 2 * RANGE_ALIGNMENT) / PAGE_BYTES) * PAGE_BYTES
    if (wanted > MEMORY_BYTES_MAX) return undefined
    const most = Math.max(wanted, ARENA_BYTES_MAX)
    const memory = this.sharing === "shared" ? sharedMemory(most) : undefined
    if (this.sharing === "shared" && memory === undefined) return undefined
    const arena = new OwnArena(this.#nextId++, kind, memory, most, PAGE_BYTES)
    this.#all.push(arena)
    return arena
  }
}

/** Undefined where the system refuses: a memory reserves 10 GiB of addresses. */
function sharedMemory(mostBytes: number): WebAssembly.Memory | undefined {
  try {
    return new WebAssembly.Memory({ initial: 1, maximum: mostBytes / PAGE_BYTES, shared: true })
  } catch (error) {
    if (error instanceof RangeError) return undefined
    throw error
  }
}

/** Found out once: to try reserves 10 GiB of addresses until it is collected. */
let canShare: boolean | undefined

/**
 * Whether threads can see one memory: `VECSNAP_SHARED_MEMORY=off` in the environment says no. Undefined where
 * there is no WebAssembly, so that nothing can be kept in such memories at all.
 */
export function sharingHere(): Sharing | undefined {
  if (typeof WebAssembly === "undefined") return undefined
  if (process.env.VECSNAP_SHARED_MEMORY === "off" || typeof SharedArrayBuffer === "undefined")
    return "private"
  canShare ??= sharedMemory(PAGE_BYTES) !== undefined
  return canShare ? "shared" : "private"
}
