/**
 * Which parts of open shards lie in the memories of some threads, and where. On the main thread.
 */
import { recordBytes } from "../../../vectors/cells/records.js"
import { placedBytes } from "../../../vectors/scan-table.js"
import type { Address, Loaded, LoadedCells, LoadPlaces, ShardPlaces } from "../protocol.js"
import { type Arena, Arenas, type Place, type Sharing } from "./arenas.js"
import { aligned } from "./ranges.js"
import { type PoolShard, toGiveWay } from "./shard.js"

/** What of a shard a query wants in memory. */
export interface Wanted {
  readonly vectors: boolean
  /** What whole scans need besides. */
  readonly table: boolean
  readonly cells: boolean
}

/** A request to a thread to load, and the end of that thread if it is about to end. */
export interface Loading {
  readonly loaded: Promise<Loaded | false>
  readonly gone: () => Promise<void>
}

interface Held {
  vectors?: { readonly place: Place; readonly bitmapAt: number | undefined } | undefined
  table?: { readonly place: Place; readonly facts: NonNullable<Loaded["facts"]> } | undefined
  cells?: { readonly place: Place; readonly loaded: LoadedCells } | undefined
  /** Counts the changes of what is above. */
  version: number
  loading: Promise<void> | undefined
  /** The threads do not get such memory. */
  isRefused: boolean
}

/** Places that were taken for what is about to be loaded. */
interface Taken {
  vectors?: Place | undefined
  table?: Place | undefined
  cells?: Place | undefined
}

const bitmapBytes = (rows: number): number => Math.ceil(rows / 8)

export class Store {
  readonly arenas: Arenas
  #held = new Map<PoolShard, Held>()
  #scratches = new Map<object, Map<number, Place>>()

  constructor(sharing: Sharing, budgetBytes: number) {
    this.arenas = new Arenas(sharing, budgetBytes)
  }

  /** Bytes of a shard that lie here. */
  bytesOf(shard: PoolShard): number {
    const { vectors, table, cells } = this.#held.get(shard) ?? {}
    return [vectors, table, cells].reduce((sum, part) => sum + aligned(part?.place.bytes ?? 0), 0)
  }

  hasCells(shard: PoolShard): boolean {
    return this.#held.get(shard)?.cells !== undefined
  }

  arenaOfCells(shard: PoolShard): Arena | undefined {
    return this.#held.get(shard)?.cells?.place.arena
  }

  arenaOfVectors(shard: PoolShard): Arena | undefined {
    return this.#held.get(shard)?.vectors?.place.arena
  }

  versionOf(shard: PoolShard): number {
    return this.#held.get(shard)?.version ?? 0
  }

  placesOf(shard: PoolShard): ShardPlaces {
    const { vectors, table, cells } = this.#held.get(shard) ?? {}
    return {
      ...(vectors && { vectors: { ...addressOf(vectors.place), bitmapAt: vectors.bitmapAt } }),
      ...(table && { table: { ...addressOf(table.place), facts: table.facts } }),
      ...(cells && { cells: { ...cells.loaded, arena: cells.place.arena.id } }),
    }
  }

  /**
   * Brings into memory what is wanted of a shard and not there, as far as the budget allows. Undefined if
   * nothing is to be done. Rejects with what is wrong with the shard. It must be in use.
   */
  prepare(
    shard: PoolShard,
    wanted: Wanted,
    load: (shard: PoolShard, places: LoadPlaces) => Loading,
  ): Promise<void> | undefined {
    const held = this.#heldOf(shard)
    if (isThere(held, shard, wanted)) return undefined
    if (held.loading !== undefined)
      return held.loading.catch(() => {}).then(() => this.prepare(shard, wanted, load))
    const taken = this.#take(shard, held, wanted)
    if (taken === undefined) return undefined
    const work = this.#load(shard, held, taken, load).finally(() => {
      held.loading = undefined
    })
    held.loading = work
    return work
  }

  /** Forgets a shard that nobody uses. */
  release(shard: PoolShard): void {
    const held = this.#held.get(shard)
    if (held === undefined) return
    this.#held.delete(shard)
    this.#giveBack(held)
  }

  /**
   * A place of a thread in an arena, at least so large, and the one that it takes the place of: that is to be
   * given back when the thread has done all that it was sent.
   */
  scratch(thread: object, arena: Arena, bytes: number): { readonly address: Address; readonly old?: Place } {
    const own = this.#scratches.get(thread) ?? new Map<number, Place>()
    this.#scratches.set(thread, own)
    const known = own.get(arena.id)
    if (known !== undefined && known.bytes >= bytes) return { address: addressOf(known) }
    const rounded = 2 ** Math.ceil(Math.log2(bytes))
    const place = this.arenas.take(arena.kind, rounded, { within: arena, counts: false })
    if (place === undefined)
      throw new RangeError(`no ${rounded} bytes are left in a memory for what a search works with`)
    own.set(arena.id, place)
    return { address: addressOf(place), ...(known !== undefined && { old: known }) }
  }

  giveScratch(place: Place): void {
    this.arenas.give(place, { counts: false })
  }

  /** Forgets the places of a thread, which may use them until it is gone. */
  async leave(thread: object, gone: Promise<void>): Promise<void> {
    const own = this.#scratches.get(thread)
    this.#scratches.delete(thread)
    await gone
    for (const place of own?.values() ?? []) this.giveScratch(place)
  }

  /** Forgets all: for threads that are gone with their memories. */
  clear(): void {
    this.#held = new Map()
    this.#scratches = new Map()
    this.arenas.clear()
  }

  #heldOf(shard: PoolShard): Held {
    const known = this.#held.get(shard)
    if (known !== undefined) return known
    const held: Held = { version: 1, loading: undefined, isRefused: false }
    this.#held.set(shard, held)
    return held
  }

  /** Places for what is wanted, missing and allowed. Undefined if that is nothing. */
  #take(shard: PoolShard, held: Held, wanted: Wanted): Taken | undefined {
    if (held.isRefused) return undefined
    const { rows, spec, cells } = shard
    const taken: Taken = {}
    if (wanted.cells && held.cells === undefined && cells !== undefined)
      taken.cells = this.arenas.take("cells", aligned(cells.bytes) + recordBytes(cells.count), {
        mustHave: true,
      })
    const needsVectors = wanted.vectors && held.vectors === undefined
    const needsTable = wanted.table && held.table === undefined
    if (needsVectors) {
      const vectorBytes = aligned(rows * spec.dim * 4) + bitmapBytes(rows)
      taken.vectors = this.#takeRows(shard, vectorBytes)
    }
    const arena = (held.vectors?.place ?? taken.vectors)?.arena
    if (needsTable && arena !== undefined) {
      taken.table = this.#takeRows(shard, placedBytes(spec.metric, rows, spec.dim), arena)
      // Whole scans are of no use without it.
      if (taken.table === undefined && taken.vectors !== undefined) {
        this.arenas.give(taken.vectors)
        taken.vectors = undefined
      }
    }
    return Object.values(taken).some((place) => place !== undefined) ? taken : undefined
  }

  #takeRows(shard: PoolShard, bytes: number, within?: Arena): Place | undefined {
    for (;;) {
      const place = this.arenas.take("rows", bytes, { within })
      if (place !== undefined) return place
      const holders = Array.from(this.#held.keys()).filter((other) => {
        const { vectors, loading } = this.#held.get(other)!
        return vectors !== undefined && loading === undefined && other !== shard
      })
      const loser = toGiveWay(holders, shard.askedBefore)
      if (loser === undefined) return undefined
      this.#dropRows(this.#held.get(loser)!)
    }
  }

  #dropRows(held: Held): void {
    if (held.vectors !== undefined) this.arenas.give(held.vectors.place)
    if (held.table !== undefined) this.arenas.give(held.table.place)
    held.vectors = undefined
    held.table = undefined
    held.version++
  }

  async #load(
    shard: PoolShard,
    held: Held,
    taken: Taken,
    load: (shard: PoolShard, places: LoadPlaces) => Loading,
  ): Promise<void> {
    const { loaded, gone } = load(shard, placesFor(shard, taken))
    let reply: Loaded | false
    try {
      reply = await loaded
    } catch (error) {
      // The thread may write there until it has ended.
      void gone().then(() => this.#giveTaken(taken))
      throw error
    }
    if (reply === false) {
      held.isRefused = true
      this.#giveTaken(taken)
      return
    }
    const { vectors, table, cells } = taken
    if (vectors !== undefined) {
      const bitmapAt = reply.isPartial ? bitmapOf(shard, vectors) : undefined
      held.vectors = { place: vectors, bitmapAt }
    }
    if (table !== undefined) held.table = { place: table, facts: reply.facts! }
    if (cells !== undefined) held.cells = { place: cells, loaded: reply.cells! }
    held.version++
  }

  #giveTaken({ vectors, table, cells }: Taken): void {
    for (const place of [vectors, table, cells]) if (place !== undefined) this.arenas.give(place)
  }

  #giveBack(held: Held): void {
    this.#dropRows(held)
    if (held.cells !== undefined) this.arenas.give(held.cells.place)
    held.cells = undefined
  }
}

/** Whether nothing that is wanted is missing. */
const isThere = ({ vectors, table, cells }: Held, shard: PoolShard, wanted: Wanted): boolean =>
  (!wanted.vectors || vectors !== undefined) &&
  (!wanted.table || table !== undefined) &&
  (!wanted.cells || cells !== undefined || shard.cells === undefined)

const addressOf = ({ arena, at }: Place): Address => ({ arena: arena.id, at })

const bitmapOf = ({ rows, spec }: PoolShard, { at }: Place): number => at + aligned(rows * spec.dim * 4)

function placesFor(shard: PoolShard, { vectors, table, cells }: Taken): LoadPlaces {
  return {
    ...(vectors && { vectors: { ...addressOf(vectors), bitmapAt: bitmapOf(shard, vectors) } }),
    ...(table && { table: addressOf(table) }),
    ...(cells && {
      cells: { ...addressOf(cells), recordsAt: cells.at + aligned(shard.cells!.bytes) },
    }),
  }
}
