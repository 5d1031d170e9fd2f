/**
 * What readers of a process share: the threads that search, and the memory for vectors. Unless told
 * otherwise, all readers share one such pool, so that their number costs neither threads nor memory.
 */
import { assertWholeNumber, closed, invalidInput } from "../errors.js"
import type { PoolOptions, ShardOpener, ShardPool } from "../shards/backend.js"
import { createShardPool, type TrustOptions } from "../shards/pools.js"
import type { OpenOptions } from "./types.js"

export interface ReaderPoolOptions {
  /** Threads that search; default: the number of cores, at most 8, and one for each 128 MiB of memory. */
  readonly workers?: number | undefined
  /**
   * Vectors held in memory over all shards that readers of the pool have open, in bytes; default 1 GiB, or a
   * quarter of the memory of the container or machine if that is less. Beyond, shards are scanned from disk.
   */
  readonly memoryBytes?: number | undefined
}

/** Made by {@link createReaderPool}, for the option `pool` of `openSnapshot`. */
export interface ReaderPool extends AsyncDisposable {
  /** Ends its threads. Readers that still use it fail with `Closed`, so close these before. Idempotent. */
  close(): Promise<void>
}

/**
 * A pool for the readers that are opened with it: for those that shall not compete with others, or shall have
 * more. Throws `InvalidInput` for options that are no whole numbers from 1 (`memoryBytes`: 0).
 */
export function createReaderPool(options: ReaderPoolOptions = {}): ReaderPool {
  return new Pools(options)
}

class Pools implements ReaderPool {
  readonly #options: PoolOptions
  readonly #pools = new Map<ShardOpener, ShardPool>()
  #closed = false

  constructor({ workers, memoryBytes }: ReaderPoolOptions) {
    assertWholeNumber("workers", workers, 1)
    assertWholeNumber("memoryBytes", memoryBytes, 0)
    this.#options = { workers, memoryBytes }
  }

  /** The pool of one opener, made when it is first asked for. */
  of(opener: ShardOpener, make: (options: PoolOptions) => ShardPool): ShardPool {
    const known = this.#pools.get(opener)
    if (known !== undefined) return known
    const pool = make(this.#options)
    this.#pools.set(opener, pool)
    // What is opened after the end says `Closed` by itself.
    if (this.#closed) void pool.close()
    return pool
  }

  async close(): Promise<void> {
    this.#closed = true
    await Promise.all(Array.from(this.#pools.values(), (pool) => pool.close()))
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }
}

/** A reader's share in a pool. */
export interface PoolShare {
  of(opener: ShardOpener): ShardPool
  /** Ends the pool if nobody else can be using it. */
  leave(): Promise<void>
}

/** That of all readers that name none, while there are any. */
let common: { readonly pools: Pools; readers: number } | undefined

/**
 * The pool that a reader's options ask for: theirs, one of the reader's own where they set its size or the
 * root is untrusted, or the common one. Throws `InvalidInput` for options that contradict each other.
 */
export function joinPool(options: PoolChoice): PoolShare {
  const { pool, workers, memoryBytes, trust } = options
  if (pool !== undefined) {
    if (!(pool instanceof Pools))
      throw invalidInput("option pool is not one that createReaderPool has made", { option: "pool" })
    for (const [option, value] of Object.entries({ workers, memoryBytes })) {
      if (value !== undefined)
        throw invalidInput(`option ${option} does not go with option pool, which has it`, { option })
    }
  }
  const isOwn = pool === undefined && (workers !== undefined || memoryBytes !== undefined)
  // A process that reads shards of an untrusted root reads no others: they could alter each other's answers.
  if (isOwn || trust === "untrusted") {
    const own = new Pools({ workers, memoryBytes })
    return new Share(
      options,
      () => own,
      () => own.close(),
    )
  }
  if (pool !== undefined)
    return new Share(
      options,
      () => pool,
      async () => {},
    )
  return new Share(options, joinCommon, leaveCommon)
}

function joinCommon(): Pools {
  common ??= { pools: new Pools({}), readers: 0 }
  common.readers++
  return common.pools
}

/** It stays until the last of its readers has left, so that whoever leaves has joined this one. */
async function leaveCommon(): Promise<void> {
  const { pools } = common!
  if (--common!.readers > 0) return
  common = undefined
  await pools.close()
}

type PoolChoice = Pick<OpenOptions<unknown>, "pool" | "workers" | "memoryBytes" | "trust" | "isolation">

/** Joins when a pool is first needed, so that a reader that could not be opened has nothing to leave. */
class Share implements PoolShare {
  readonly #trust: TrustOptions
  readonly #join: () => Pools
  readonly #end: () => Promise<void>
  #joined: Pools | undefined
  #left = false

  constructor({ trust, isolation }: PoolChoice, join: () => Pools, end: () => Promise<void>) {
    this.#trust = { trust, isolation }
    this.#join = join
    this.#end = end
  }

  of(opener: ShardOpener): ShardPool {
    if (this.#left) throw closed("this reader is closed")
    this.#joined ??= this.#join()
    return this.#joined.of(opener, (options) => createShardPool(opener, options, this.#trust))
  }

  async leave(): Promise<void> {
    if (this.#left) return
    this.#left = true
    if (this.#joined !== undefined) await this.#end()
  }
}
