/**
 * Shards read in a process of their own, whatever their backend: for roots whose writers are not trusted.
 * Native parsers that are fed damaged files may then end, hang or fill that process, and not this one.
 */
import { abortable } from "../../async/abortable.js"
import { closed, corrupt, errorFromWire, throwIfAborted } from "../../errors.js"
import { machineLimits, readerDefaults } from "../../machine.js"
import type { Id, StoredRecord } from "../../records.js"
import type {
  IndexDescription,
  PoolOptions,
  ShardAnswer,
  ShardHit,
  ShardOpener,
  ShardPool,
  ShardReader,
  ShardSpec,
} from "../backend.js"
import { toStoredIds } from "../checks.js"
import type { ShardQuery } from "../query.js"
import { registeredModules } from "../registry.js"
import { searchAlone } from "../search-each.js"
import type { ShardSource } from "../source.js"
import { ChildSlot, ProcessEnded } from "./child-slot.js"
import { Suspects } from "./suspects.js"

/** What the process that reads shards may take. */
export interface IsolationOptions {
  /**
   * Memory in bytes; default 1 GiB and twice the pool's memory for vectors, at most three quarters of the
   * memory of the container or machine.
   */
  readonly memoryBytes?: number | undefined
  /** Time for each request, in milliseconds; default 30,000. */
  readonly timeoutMs?: number | undefined
}

const GIB = 2 ** 30
const TIMEOUT_MS = 30_000

/** Requests in the process at a time: enough to keep its threads busy; the others can still be dropped. */
const IN_FLIGHT = 16

/** What another process finds an opener by. */
type Named = Pick<ShardOpener, "name" | "module">

/** Makes a pool of what opens the shards in a process of its own, which starts when needed. */
export function createIsolatedPool(
  opener: Named,
  options: PoolOptions,
  isolation: IsolationOptions = {},
): ShardPool {
  return new IsolatedPool(opener, options, isolation)
}

/** What it takes to open a shard. */
interface Opening {
  readonly dir: string
  readonly spec: ShardSpec
  readonly index: IndexDescription
  readonly rows: number | undefined
}

/** Where a shard is open: a process that must not have ended since, and its number there. */
interface Home {
  readonly slot: ChildSlot
  readonly generation: number
  readonly shard: number
  readonly rows: number
  readonly bytes: number
}

class IsolatedPool implements ShardPool {
  readonly suspects = new Suspects()
  /** For all shards that nothing is held against. */
  readonly #common: ChildSlot
  /** For the others, one at a time. */
  readonly #aside: ChildSlot
  #nextNumber = 0
  #closed = false

  constructor({ name, module }: Named, options: PoolOptions, isolation: IsolationOptions) {
    const limits = machineLimits()
    const { memoryBytes: vectors = readerDefaults(limits).memoryBytes } = options
    const {
      memoryBytes = Math.min(GIB + 2 * vectors, Math.floor((limits.memoryBytes * 3) / 4)),
      timeoutMs = TIMEOUT_MS,
    } = isolation
    const start = { backend: name, opener: module, modules: registeredModules(), memoryBytes }
    this.#common = new ChildSlot({
      start: { ...start, pool: options },
      inFlight: IN_FLIGHT,
      timeoutMs,
      onEnd: (names, reason) => this.suspects.suspect(names, reason),
    })
    this.#aside = new ChildSlot({
      start: { ...start, pool: { workers: 1, memoryBytes: 0 } },
      inFlight: 1,
      timeoutMs,
      onEnd: (names, reason) => this.suspects.blame(names, reason),
    })
  }

  async open(
    source: ShardSource,
    spec: ShardSpec,
    index: IndexDescription,
    rows?: number | undefined,
  ): Promise<ShardReader> {
    const reader = new IsolatedReader(this, { dir: await source.localDir(), spec, index, rows })
    await reader.open()
    return reader
  }

  /** Where a shard is to be read now. */
  slotOf(name: string): ChildSlot {
    return this.suspects.isSuspect(name) ? this.#aside : this.#common
  }

  async settle(opening: Opening): Promise<Home> {
    if (this.#closed) throw closed("the shard pool is closed")
    const slot = this.slotOf(opening.dir)
    const { generation } = slot
    const shard = this.number()
    const opened = await slot.call("open", { shard, ...opening }, { names: [opening.dir] })
    return { slot, generation, shard, ...opened }
  }

  number(): number {
    return this.#nextNumber++
  }

  /** Shards that nothing is held against go in one request, the others each by itself. */
  async search(shards: readonly ShardReader[], query: ShardQuery): Promise<readonly ShardAnswer[]> {
    const readers = shards.map((reader) => {
      if (reader instanceof IsolatedReader && reader.pool === this) return reader
      throw new Error("a shard that is asked is not open in this pool")
    })
    throwIfAborted(query.signal)
    const together = readers.filter(({ home }) => home?.slot === this.#common)
    const answers = new Map<ShardReader, Promise<ShardAnswer>>()
    if (together.length > 1) {
      const found = this.#searchTogether(together, query)
      for (const [place, reader] of together.entries())
        answers.set(
          reader,
          found.then((all) => all?.[place] ?? searchAlone(reader, query)),
        )
    }
    const all = Promise.all(readers.map((reader) => answers.get(reader) ?? searchAlone(reader, query)))
    return abortable(all, query.signal)
  }

  /** Undefined if the process has ended. */
  async #searchTogether(
    readers: readonly IsolatedReader[],
    { vector, k, effort, signal }: ShardQuery,
  ): Promise<readonly ShardAnswer[] | undefined> {
    const names = readers.map(({ dir }) => dir)
    const request = { shards: readers.map(({ home }) => home!.shard), vector, k, effort }
    const running = this.#common.call("search", request, { names, signal })
    for (const reader of readers) reader.track(running)
    try {
      return (await running).map((answer) =>
        "error" in answer ? { error: errorFromWire(answer.error) } : { hits: answer.hits },
      )
    } catch (error) {
      if (error instanceof ProcessEnded) return undefined
      return readers.map(() => ({ error }))
    }
  }

  async close(): Promise<void> {
    this.#closed = true
    await Promise.all([this.#common.close(), this.#aside.close()])
  }
}

class IsolatedReader implements ShardReader {
  readonly pool: IsolatedPool
  readonly dir: string
  readonly #opening: Opening
  readonly #running = new Set<Promise<unknown>>()
  #home: Promise<Home> | undefined
  #opened: Home | undefined
  #closing: Promise<void> | undefined
  rows = 0
  bytes = 0

  constructor(pool: IsolatedPool, opening: Opening) {
    this.pool = pool
    this.dir = opening.dir
    this.#opening = opening
  }

  async open(): Promise<void> {
    // That it can be opened clears no suspect: it is yet to be read.
    const { rows, bytes } = await this.#run(async (home) => home, { clears: false })
    this.rows = rows
    this.bytes = bytes
  }

  /** Where it is open now; undefined if it has to be opened first, or is closed. */
  get home(): Home | undefined {
    const home = this.#closing === undefined ? this.#opened : undefined
    return home !== undefined && this.#isValid(home) ? home : undefined
  }

  /** Closing waits for it. */
  track(work: Promise<unknown>): void {
    this.#running.add(work)
    const forget = (): void => void this.#running.delete(work)
    work.then(forget, forget)
  }

  async search(query: ShardQuery): Promise<readonly ShardHit[]> {
    const { vector, k, effort, signal } = query
    throwIfAborted(signal)
    const work = this.#run(async ({ slot, shard }) => {
      const request = { shards: [shard], vector, k, effort }
      const [answer] = await slot.call("search", request, { names: [this.dir], signal })
      if ("error" in answer!) throw errorFromWire(answer.error)
      return answer!.hits
    })
    return abortable(work, query.signal)
  }

  async get(ids: readonly Id[]): Promise<readonly (StoredRecord | undefined)[]> {
    toStoredIds(ids, this.#opening.spec)
    const records = await this.#run(({ slot, shard }) =>
      slot.call("get", { shard, ids }, { names: [this.dir] }),
    )
    return records.map((record) => record && ownRecord(record))
  }

  async *records(): AsyncIterable<readonly StoredRecord[]> {
    const cursor = this.pool.number()
    let skip = 0
    let isOver = false
    try {
      for (;;) {
        const batch = await this.#run(({ slot, shard }) =>
          slot.call("next", { shard, cursor, skip }, { names: [this.dir] }),
        )
        if (batch === undefined) {
          isOver = true
          return
        }
        skip++
        yield batch.map(ownRecord)
      }
    } finally {
      if (!isOver) await this.#leave(cursor)
    }
  }

  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  async #close(): Promise<void> {
    await Promise.allSettled(this.#running)
    const home = await this.#home?.catch(() => undefined)
    if (home !== undefined) await leave(home)
  }

  async #leave(cursor: number): Promise<void> {
    const home = await this.#home?.catch(() => undefined)
    await home?.slot.call("leave", { cursor }, { names: [] }).catch(() => {})
  }

  async #run<T>(work: (home: Home) => Promise<T>, { clears = true } = {}): Promise<T> {
    if (this.#closing !== undefined) throw closed(`${this.dir} is closed`)
    const running = this.#attempt(work).then((value) => {
      if (clears) this.pool.suspects.answered(this.dir)
      return value
    })
    this.#running.add(running)
    try {
      return await running
    } finally {
      this.#running.delete(running)
    }
  }

  /** Works with the shard; if its process ends meanwhile, once more aside, where it is by itself. */
  async #attempt<T>(work: (home: Home) => Promise<T>): Promise<T> {
    for (;;) {
      const refusal = this.pool.suspects.refusal(this.dir)
      if (refusal !== undefined) throw this.#poison(refusal)
      try {
        return await work(await this.#findHome())
      } catch (error) {
        if (!(error instanceof ProcessEnded)) throw error
        // Of a process that all share the end says nothing yet, nor that of one that read another shard.
        if (error.isAside && error.names.includes(this.dir)) throw this.#poison(error.reason)
      }
    }
  }

  #poison(reason: string): Error {
    return corrupt(`${this.dir} cannot be read: of the process that was to read it by itself, ${reason}`, {
      dir: this.dir,
    })
  }

  /** Where the shard is open; opens it again if its process has ended since, or if it is to be read aside. */
  async #findHome(): Promise<Home> {
    const known = this.#home
    if (known !== undefined) {
      const home = await known
      if (this.#isValid(home)) return home
      // In the other process it stays open no longer.
      if (this.#home === known) void leave(home)
    }
    // Whoever noticed first has begun already.
    if (this.#home === known) {
      const opening = this.pool.settle(this.#opening)
      this.#home = opening
      this.#opened = undefined
      opening.then(
        (home) => {
          if (this.#home === opening) this.#opened = home
        },
        () => {
          if (this.#home === opening) this.#home = undefined
        },
      )
    }
    return this.#home!
  }

  #isValid({ slot, generation }: Home): boolean {
    return slot.generation === generation && slot === this.pool.slotOf(this.dir)
  }
}

/** Closes a shard where it is open. Whatever comes of it: with the process, or the pool, it is closed too. */
async function leave({ slot, generation, shard }: Home): Promise<void> {
  if (slot.generation === generation) await slot.call("close", { shard }, { names: [] }).catch(() => {})
}

/** A message's arrays share its memory: a vector gets memory of its own, as from any shard. */
const ownRecord = (record: StoredRecord): StoredRecord => ({ ...record, vector: record.vector.slice() })
