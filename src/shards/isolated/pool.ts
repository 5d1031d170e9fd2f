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
  ShardHit,
  ShardOpener,
  ShardPool,
  ShardReader,
  ShardSpec,
} from "../backend.js"
import { toStoredIds } from "../checks.js"
import type { ShardQuery } from "../query.js"
import { registeredModules } from "../registry.js"
import type { ShardSource } from "../source.js"
import { ChildSlot, ProcessEnded } from "./child-slot.js"
import type { ShardAnswer } from "./protocol.js"
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

/** What the process is asked of one query: one request, which shards join until it is sent. */
interface Gathering {
  readonly slot: ChildSlot
  readonly shards: number[]
  readonly names: string[]
  readonly answers: Promise<readonly ShardAnswer[]>
  isSent: boolean
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

  /** What a shard answers, with its place in the answers. Shards of one query go in one request. */
  search(
    { slot, shard }: Home,
    name: string,
    query: ShardQuery,
  ): { readonly place: number; readonly answers: Promise<readonly ShardAnswer[]> } {
    const gatherings = query.shared(this, (): Gathering[] => [])
    let gathering = gatherings.find((open) => open.slot === slot && !open.isSent)
    // Aside each is asked by itself.
    if (gathering === undefined || slot === this.#aside) {
      gathering = gather(slot, query)
      gatherings.push(gathering)
    }
    gathering.names.push(name)
    return { place: gathering.shards.push(shard) - 1, answers: gathering.answers }
  }

  async close(): Promise<void> {
    this.#closed = true
    await Promise.all([this.#common.close(), this.#aside.close()])
  }
}

class IsolatedReader implements ShardReader {
  readonly #pool: IsolatedPool
  readonly #opening: Opening
  readonly #dir: string
  readonly #running = new Set<Promise<unknown>>()
  #home: Promise<Home> | undefined
  #closing: Promise<void> | undefined
  rows = 0
  bytes = 0

  constructor(pool: IsolatedPool, opening: Opening) {
    this.#pool = pool
    this.#opening = opening
    this.#dir = opening.dir
  }

  async open(): Promise<void> {
    // That it can be opened clears no suspect: it is yet to be read.
    const { rows, bytes } = await this.#run(async (home) => home, { clears: false })
    this.rows = rows
    this.bytes = bytes
  }

  async search(query: ShardQuery): Promise<readonly ShardHit[]> {
    throwIfAborted(query.signal)
    const work = this.#run(async (home) => {
      const { place, answers } = this.#pool.search(home, this.#dir, query)
      const answer = (await answers)[place]!
      if ("error" in answer) throw errorFromWire(answer.error)
      return answer.hits
    })
    return abortable(work, query.signal)
  }

  async get(ids: readonly Id[]): Promise<readonly (StoredRecord | undefined)[]> {
    toStoredIds(ids, this.#opening.spec)
    const records = await this.#run(({ slot, shard }) =>
      slot.call("get", { shard, ids }, { names: [this.#dir] }),
    )
    return records.map((record) => record && ownRecord(record))
  }

  async *records(): AsyncIterable<readonly StoredRecord[]> {
    const cursor = this.#pool.number()
    let skip = 0
    let isOver = false
    try {
      for (;;) {
        const batch = await this.#run(({ slot, shard }) =>
          slot.call("next", { shard, cursor, skip }, { names: [this.#dir] }),
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
    if (this.#closing !== undefined) throw closed(`${this.#dir} is closed`)
    const running = this.#attempt(work).then((value) => {
      if (clears) this.#pool.suspects.answered(this.#dir)
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
      const refusal = this.#pool.suspects.refusal(this.#dir)
      if (refusal !== undefined) throw this.#poison(refusal)
      try {
        return await work(await this.#findHome())
      } catch (error) {
        if (!(error instanceof ProcessEnded)) throw error
        // Of a process that all share the end says nothing yet, nor that of one that read another shard.
        if (error.isAside && error.names.includes(this.#dir)) throw this.#poison(error.reason)
      }
    }
  }

  #poison(reason: string): Error {
    return corrupt(`${this.#dir} cannot be read: of the process that was to read it by itself, ${reason}`, {
      dir: this.#dir,
    })
  }

  /** Where the shard is open; opens it again if its process has ended since, or if it is to be read aside. */
  async #findHome(): Promise<Home> {
    const known = this.#home
    if (known !== undefined) {
      const home = await known
      if (home.slot.generation === home.generation && home.slot === this.#pool.slotOf(this.#dir)) return home
      // In the other process it stays open no longer.
      if (this.#home === known) void leave(home)
    }
    // Whoever noticed first has begun already.
    if (this.#home === known) {
      const opening = this.#pool.settle(this.#opening)
      this.#home = opening
      opening.catch(() => {
        if (this.#home === opening) this.#home = undefined
      })
    }
    return this.#home!
  }
}

/** Closes a shard where it is open. Whatever comes of it: with the process, or the pool, it is closed too. */
async function leave({ slot, generation, shard }: Home): Promise<void> {
  if (slot.generation === generation) await slot.call("close", { shard }, { names: [] }).catch(() => {})
}

function gather(slot: ChildSlot, { vector, k, signal }: ShardQuery): Gathering {
  const shards: number[] = []
  const names: string[] = []
  const onSend = (): void => {
    gathering.isSent = true
  }
  const answers = slot.call("search", { shards, vector, k }, { names, signal, onSend })
  const gathering: Gathering = { slot, shards, names, answers, isSent: false }
  // Nor may anyone join a request that fails before it is sent.
  answers.catch(onSend)
  return gathering
}

/** A message's arrays share its memory: a vector gets memory of its own, as from any shard. */
const ownRecord = (record: StoredRecord): StoredRecord => ({ ...record, vector: record.vector.slice() })
