/**
 * The threads of a pool and the memories that they search in. Any thread answers a whole query over any of
 * the pool's shards: the least busy one gets it.
 */
// Not the global ones, which test runners replace.
import { clearTimeout, setTimeout } from "node:timers"
import { closed } from "../../errors.js"
import type { ShardQuery } from "../query.js"
import type { FoundRecords, StoredRows } from "./get.js"
import { type Arena, sharingHere } from "./memory/arenas.js"
import { candidatesFor, cellScratch, limitsFor, rowScratch } from "./memory/scratch.js"
import type { PoolShard } from "./memory/shard.js"
import { type Loading, Store, type Wanted } from "./memory/store.js"
import type { Address, LoadPlaces, News, SearchRequest } from "./protocol.js"
import type { Answers } from "./search.js"
import { type Knowledge, WorkerSlot } from "./worker-slot.js"

export interface WorkersOptions {
  readonly workers: number
  /** Of all memories; where threads have their own, each gets its share. */
  readonly memoryBytes: number
  /** See `WorkerData`. */
  readonly files: URL
  /** How long a worker may take for a batch of requests. */
  readonly batchMs: number
  /** Files that each has open, at most. */
  readonly openMax: number
  /** How long they stay when no shard is open. */
  readonly restMs: number
}

/** A thread, and the memories that it sees: undefined where there can be none. */
interface Lane {
  readonly slot: WorkerSlot
  readonly store: Store | undefined
}

/** Memories in which a query finds its shards, and shards of which something is wrong. */
export interface Prepared {
  readonly store: Store | undefined
  readonly failures: ReadonlyMap<PoolShard, unknown>
}

/** What whole scans need. */
const WHOLE: Wanted = { vectors: true, table: true, cells: false }
/** Searches through cells read the rows that they need where these are not in memory. */
const CELLS_ONLY: Wanted = { vectors: false, table: false, cells: true }
const VECTORS_ONLY: Wanted = { vectors: true, table: false, cells: false }

/** Places that were replaced by larger ones while a request was made. */
type Replaced = Parameters<Store["giveScratch"]>[0][]

export class Workers {
  readonly #lanes: readonly Lane[]
  /** Where a shard was opened: `get` and reads go there, so that not all threads open the files for them. */
  readonly #homes = new WeakMap<PoolShard, Lane>()
  readonly #restMs: number
  #queries = 0
  #open = 0
  #resting: NodeJS.Timeout | undefined
  #closed = false

  constructor({ workers, memoryBytes, files, batchMs, openMax, restMs }: WorkersOptions) {
    this.#restMs = restMs
    const sharing = sharingHere()
    const common = sharing === "shared" ? new Store(sharing, memoryBytes) : undefined
    this.#lanes = Array.from({ length: workers }, (): Lane => {
      const store = sharing === "private" ? new Store(sharing, Math.floor(memoryBytes / workers)) : common
      const slot = new WorkerSlot({
        script: new URL("./worker.js", import.meta.url),
        workerData: { files: files.href, openMax },
        batchMs,
        newsFor: (shards, known) => newsFor(store, shards, known),
        onEnd: (gone) => {
          if (sharing === "private") store?.clear()
          else void store?.leave(slot, gone)
        },
      })
      return { slot, store }
    })
  }

  /** Memory that a shard takes. */
  bytesOf(shard: PoolShard): number {
    return this.#stores().reduce((sum, store) => sum + store.bytesOf(shard), 0)
  }

  /** Opens a shard in a thread, so that its file is checked. */
  async open(shard: PoolShard): Promise<void> {
    if (this.#closed) throw closed("the shard pool is closed")
    this.#open++
    const lane = leastBusy(this.#lanes)
    try {
      const { rows, cells } = await lane.slot.call("open", {
        shards: [shard],
        fields: () => ({ handle: shard.handle }),
      })
      shard.rows = rows
      shard.cells = cells
      this.#homes.set(shard, lane)
    } catch (error) {
      this.#forget(lane, shard)
        .catch(() => {})
        .finally(() => this.#noteClosed())
      throw error
    }
  }

  /** Resolves when nobody uses the shard, and nothing of it is left. Nobody may begin to use it. */
  async leave(shard: PoolShard): Promise<void> {
    if (this.#closed) return
    await shard.drained()
    for (const store of this.#stores()) store.release(shard)
    const knowing = this.#lanes.filter(({ slot }) => slot.knows(shard))
    // A thread that ends meanwhile has closed it, too.
    await Promise.allSettled(knowing.map((lane) => this.#forget(lane, shard)))
    this.#noteClosed()
  }

  /** Threads without shards end after a while: each has a heap of its own, which is some 50 MiB. */
  #noteClosed(): void {
    this.#open--
    clearTimeout(this.#resting)
    if (this.#open > 0 || this.#closed) return
    this.#resting = setTimeout(() => {
      if (this.#open === 0) for (const { slot } of this.#lanes) slot.rest()
    }, this.#restMs).unref()
  }

  /**
   * Brings into memory what a query needs of some shards, as far as it fits. Shards of which something is
   * wrong are returned with that. All must be in use.
   */
  async prepare(shards: readonly PoolShard[], query: ShardQuery): Promise<Prepared> {
    this.#queries++
    const failures = new Map<PoolShard, unknown>()
    const store = leastBusy(this.#lanes).store
    for (const shard of shards) shard.noteAsked(this.#queries)
    if (store === undefined) return { store, failures }
    const loads: Promise<void>[] = []
    for (const shard of shards) {
      const isThroughCells = query.effort !== undefined && shard.cells !== undefined
      const wanted = isThroughCells ? CELLS_ONLY : WHOLE
      const load = store.prepare(shard, wanted, (asked, places) => this.#load(store, asked, places))
      if (load !== undefined) loads.push(load.catch((error: unknown) => void failures.set(shard, error)))
      // The first query reads the few rows that it needs; who is asked again shall have them at hand.
      if (isThroughCells && shard.askedBefore >= 0) this.#loadVectors(store, shard)
    }
    if (loads.length > 0) await Promise.all(loads)
    return { store, failures }
  }

  /**
   * One query in one of the threads that see what was prepared for it; `each`: of every shard by itself.
   */
  async search(
    { store }: Prepared,
    shards: readonly PoolShard[],
    query: ShardQuery,
    each: boolean,
  ): Promise<Answers> {
    const { slot } = leastBusy(this.#lanes.filter((lane) => lane.store === store))
    const replaced: Replaced = []
    try {
      return await slot.call("search", {
        shards,
        signal: query.signal,
        fields: () => searchRequest(slot, store, shards, query, each, replaced),
      })
    } finally {
      // What was sent to the thread before has been answered as well, unless it is about to end.
      for (const place of replaced) void slot.gone.then(() => store?.giveScratch(place))
    }
  }

  get(shard: PoolShard, ids: readonly (string | bigint)[]): Promise<FoundRecords> {
    const { handle } = shard
    return this.#homeOf(shard).call("get", { shards: [shard], fields: () => ({ handle, ids }) })
  }

  read(shard: PoolShard, first: number, count: number): Promise<StoredRows> {
    const { handle } = shard
    return this.#homeOf(shard).call("read", { shards: [shard], fields: () => ({ handle, first, count }) })
  }

  /** Ends the threads; what still waits fails with `Closed`. Idempotent. */
  async close(): Promise<void> {
    this.#closed = true
    clearTimeout(this.#resting)
    await Promise.all(this.#lanes.map(({ slot }) => slot.close()))
    for (const store of this.#stores()) store.clear()
  }

  /** Loads rows while queries go on without them. */
  #loadVectors(store: Store, shard: PoolShard): void {
    const load = store.prepare(shard, VECTORS_ONLY, (asked, places) => this.#load(store, asked, places))
    if (load === undefined) return
    shard.begin()
    // What is wrong with the shard is found by who reads it next.
    load.catch(() => {}).finally(() => shard.end())
  }

  #homeOf(shard: PoolShard): WorkerSlot {
    return (this.#homes.get(shard) ?? leastBusy(this.#lanes)).slot
  }

  #stores(): readonly Store[] {
    return Array.from(new Set(this.#lanes.map(({ store }) => store))).filter((store) => store !== undefined)
  }

  #load(store: Store, shard: PoolShard, places: LoadPlaces): Loading {
    const { slot } = leastBusy(this.#lanes.filter((lane) => lane.store === store))
    const { handle } = shard
    const loaded = slot.call("load", { shards: [shard], fields: () => ({ handle, ...places }) })
    return { loaded, gone: () => slot.gone }
  }

  async #forget({ slot }: Lane, shard: PoolShard): Promise<void> {
    slot.forget(shard)
    await slot.call("close", { shards: [], fields: () => ({ handle: shard.handle }) })
  }
}

function leastBusy(lanes: readonly Lane[]): Lane {
  return lanes.reduce((a, b) => (b.slot.pending < a.slot.pending ? b : a))
}

function searchRequest(
  slot: WorkerSlot,
  store: Store | undefined,
  shards: readonly PoolShard[],
  { vector, k, effort }: ShardQuery,
  each: boolean,
  replaced: Replaced,
): SearchRequest {
  const [{ spec }] = shards as [PoolShard]
  const coded = effort === undefined ? [] : shards.filter((shard) => store?.hasCells(shard))
  const cells = coded.reduce((sum, shard) => sum + shard.cells!.count, 0)
  const limits = limitsFor(coded.length, cells, effort === undefined ? 1 : candidatesFor(k, effort))
  const bytes = new Map<Arena, number>()
  const codedArenas = new Set(coded.map((shard) => store!.arenaOfCells(shard)!))
  if (codedArenas.size > 0) {
    const { bytes: wanted } = cellScratch(spec.codes!, limits)
    for (const arena of codedArenas) bytes.set(arena, wanted)
  }
  const { bytes: rowBytes } = rowScratch(spec.dim)
  for (const shard of shards) {
    const arena = store?.arenaOfVectors(shard)
    if (arena !== undefined) bytes.set(arena, rowBytes)
  }
  const scratches = Array.from(bytes, ([arena, wanted]): Address => {
    const { address, old } = store!.scratch(slot, arena, wanted)
    if (old !== undefined) replaced.push(old)
    return address
  })
  const handles = shards.map(({ handle }) => handle)
  return { handles, query: vector, k, each, effort, scratches, limits }
}

/** Undefined if there are none. */
function newsFor(store: Store | undefined, asked: readonly PoolShard[], known: Knowledge): News | undefined {
  const all = store?.arenas.all ?? []
  const arenas = all.filter(({ id, sizeBytes }) => known.arenas.get(id) !== sizeBytes)
  const goneArenas =
    known.arenas.size + arenas.length > all.length
      ? Array.from(known.arenas.keys()).filter((id) => !all.some((arena) => arena.id === id))
      : []
  const shards = new Set(
    asked.filter((shard) => known.shards.get(shard.handle) !== (store?.versionOf(shard) ?? 0)),
  )
  if (arenas.length + goneArenas.length + shards.size === 0) return undefined
  for (const { id, sizeBytes } of arenas) known.arenas.set(id, sizeBytes)
  for (const id of goneArenas) known.arenas.delete(id)
  return {
    arenas: arenas.map(({ id, sizeBytes, memory }) => ({ id, sizeBytes, memory })),
    goneArenas,
    shards: Array.from(shards, (shard) => {
      known.shards.set(shard.handle, store?.versionOf(shard) ?? 0)
      const { handle, file, spec, expected, rows } = shard
      return {
        handle,
        file,
        spec,
        rows: expected ?? (rows || undefined),
        places: store?.placesOf(shard) ?? {},
      }
    }),
  }
}
