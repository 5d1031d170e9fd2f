/**
 * The reader: an open snapshot inside an application.
 */
import { homedir } from "node:os"
import { join } from "node:path"
import pLimit, { type LimitFunction } from "p-limit"
import { closed, invalidInput, throwIfAborted } from "../errors.js"
import { readLive, readPointer } from "../manifest/current.js"
import type { ShardEntry } from "../manifest/manifest.js"
import type { Id, Json } from "../records.js"
import type { BackendName, ShardPool, ShardReader } from "../shards/backend.js"
import { backendByName } from "../shards/backends.js"
import { openStore } from "../storage/open.js"
import type { ObjectStore } from "../storage/store.js"
import { createCounts, withCounting } from "../storage/with-counting.js"
import { getRecords } from "./get.js"
import { type QueryVector, searchState, type UseShard } from "./search.js"
import { createShardCache, type ShardCache } from "./shard-cache.js"
import { createShardFiles, type ShardFiles } from "./shard-files.js"
import { loadState, type SnapshotState } from "./state.js"
import { createTelemetry, type Telemetry } from "./telemetry.js"
import type {
  FoundRecord,
  GetOptions,
  OpenOptions,
  ReaderStats,
  RefreshResult,
  SearchOptions,
  SearchResult,
  SnapshotInfo,
} from "./types.js"

const DEFAULT_OPEN_SHARDS = 256
const DEFAULT_CONCURRENCY = 64

/**
 * Opens the live snapshot of a root: `s3://bucket/prefix`, a directory, `memory://name`, or an open store.
 *
 * Reads pointer, manifest and routing, no shard. Throws `NotFound` if nothing is published there, `Corrupt` if what is
 * there is damaged, `Unsupported` if it needs a newer vecsnap or a package that is not installed.
 */
export async function openSnapshot<Payload = Json>(
  from: string | ObjectStore,
  options: OpenOptions = {},
): Promise<Reader<Payload>> {
  const opened = typeof from === "string" ? openStore(from, options.store) : undefined
  const reader = new SnapshotReader(opened ?? (from as ObjectStore), options, () => opened?.close())
  try {
    await reader.open(options.signal)
    return reader as Reader<Json> as Reader<Payload>
  } catch (error) {
    await reader.close()
    throw error
  }
}

/** An open snapshot. All methods throw `Closed` after `close`. */
export interface Reader<Payload = Json> extends AsyncDisposable {
  /** The snapshot that answers now; another one after a refresh. */
  readonly snapshot: SnapshotInfo
  /** The nearest records to a vector of `dim` numbers. */
  search(vector: QueryVector, options?: SearchOptions): Promise<SearchResult<Payload>>
  /** Several queries at once, answered in order, all from one snapshot. */
  searchMany(
    vectors: readonly QueryVector[],
    options?: SearchOptions,
  ): Promise<readonly SearchResult<Payload>[]>
  /**
   * Records by id, in order; `undefined` for ids that are not there. Asks every shard, unless `shards` or `context`
   * says which.
   */
  get(ids: readonly Id[], options?: GetOptions): Promise<readonly (FoundRecord<Payload> | undefined)[]>
  /** Opens the snapshot that is live now, if it is another one. Searches under way finish on the old one. */
  refresh(): Promise<RefreshResult>
  stats(): ReaderStats
  /** Waits for what runs, then releases files, threads and connections. Idempotent. */
  close(): Promise<void>
}

/** A state with the number of searches that use it. */
interface HeldState {
  readonly state: SnapshotState
  users: number
}

class SnapshotReader implements Reader {
  readonly #store: ObjectStore
  readonly #counts = createCounts()
  readonly #options: OpenOptions
  readonly #releaseStore: () => void
  readonly #files: ShardFiles
  readonly #cache: ShardCache
  readonly #pools = new Map<BackendName, ShardPool>()
  readonly #limit: LimitFunction
  readonly #telemetry: Telemetry
  /** The current state, and older ones that searches still use. */
  readonly #held = new Set<HeldState>()
  #current: HeldState | undefined
  #refreshing: Promise<RefreshResult> | undefined
  #closing: Promise<void> | undefined

  constructor(store: ObjectStore, options: OpenOptions, releaseStore: () => void) {
    const { maxOpenShards = DEFAULT_OPEN_SHARDS, concurrency = DEFAULT_CONCURRENCY } = options
    for (const [option, value] of Object.entries({ maxOpenShards, concurrency })) {
      if (!Number.isSafeInteger(value) || value < 1) {
        throw invalidInput(`option ${option} is ${value}, expected a whole number from 1`, { option, value })
      }
    }
    this.#store = withCounting(store, this.#counts)
    this.#options = options
    this.#releaseStore = releaseStore
    this.#telemetry = createTelemetry(this, store.url, () => ({
      publishedAt: this.#current?.state.info.publishedAt,
      openShards: this.#cache.open,
      queueLength: this.#limit.pendingCount,
    }))
    this.#files = createShardFiles(this.#store, options.cacheDir ?? defaultCacheDir(), this.#telemetry)
    this.#cache = createShardCache(maxOpenShards)
    this.#limit = pLimit(concurrency)
  }

  async open(signal: AbortSignal | undefined): Promise<void> {
    this.#replaceState(await this.#loadLive(signal))
  }

  get snapshot(): SnapshotInfo {
    return this.#hold().state.info
  }

  async search(vector: QueryVector, options: SearchOptions = {}): Promise<SearchResult> {
    const [result] = await this.searchMany([vector], options)
    return result!
  }

  async searchMany(
    vectors: readonly QueryVector[],
    options: SearchOptions = {},
  ): Promise<readonly SearchResult[]> {
    return this.#telemetry.search(() =>
      this.#withState((state) => searchState(state, vectors, options, this.#useShard)),
    )
  }

  async get(ids: readonly Id[], options: GetOptions = {}): Promise<readonly (FoundRecord | undefined)[]> {
    return this.#telemetry.get(() =>
      this.#withState((state) => getRecords(state, ids, options, this.#useShard)),
    )
  }

  refresh(): Promise<RefreshResult> {
    this.#refreshing ??= this.#telemetry
      .refresh(() => this.#refresh())
      .finally(() => {
        this.#refreshing = undefined
      })
    return this.#refreshing
  }

  stats(): ReaderStats {
    return {
      openShards: this.#cache.open,
      shardOpens: this.#cache.opens,
      shardDownloads: this.#files.downloads,
      requests: { ...this.#counts },
    }
  }

  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  async #close(): Promise<void> {
    this.#telemetry.close()
    await this.#refreshing?.catch(() => {})
    await this.#cache.close()
    await Promise.all(Array.from(this.#pools.values(), (pool) => pool.close()))
    this.#releaseStore()
  }

  async #refresh(): Promise<RefreshResult> {
    const before = this.#hold().state
    const pointer = await readPointer(this.#store)
    if (pointer?.run === before.info.run) {
      return { changed: false, from: pointer.run, to: pointer.run, keptShards: before.shards.size }
    }
    const after = await this.#loadLive(undefined)
    this.#replaceState(after)
    const kept = new Set(before.contents.values())
    const keptShards = Array.from(after.contents.values()).filter((content) => kept.has(content)).length
    return { changed: true, from: before.info.run, to: after.info.run, keptShards }
  }

  async #loadLive(signal: AbortSignal | undefined): Promise<SnapshotState> {
    const live = await readLive(this.#store, { signal })
    await backendByName(live.manifest.backend).assertInstalled("open")
    return loadState(this.#store, live, { signal })
  }

  /** The swap: searches that start from now on use the new state. */
  #replaceState(state: SnapshotState): void {
    const previous = this.#current
    this.#current = { state, users: 0 }
    this.#held.add(this.#current)
    if (previous?.users === 0) this.#drop(previous)
  }

  #hold(): HeldState {
    if (this.#closing !== undefined || this.#current === undefined) throw closed("this reader is closed")
    return this.#current
  }

  async #withState<T>(work: (state: SnapshotState) => Promise<T>): Promise<T> {
    const held = this.#hold()
    held.users++
    try {
      return await work(held.state)
    } finally {
      held.users--
      if (held.users === 0 && held !== this.#current) this.#drop(held)
    }
  }

  /** Forgets a state that nothing uses any more, and closes the shards that no other state has. */
  #drop(held: HeldState): void {
    this.#held.delete(held)
    this.#cache.retain(new Set(Array.from(this.#held, ({ state }) => [...state.contents.values()]).flat()))
  }

  readonly #useShard: UseShard = (state, shard, work, signal) =>
    this.#limit(() => {
      throwIfAborted(signal)
      const entry = state.shards.get(shard)!
      return this.#cache.use(state.contents.get(shard)!, () => this.#openShard(state, entry), work)
    })

  async #openShard(state: SnapshotState, entry: ShardEntry): Promise<ShardReader> {
    // Not the searching caller's signal: the open is shared with whoever else needs the shard.
    const dir = await this.#files.locate(entry)
    return this.#telemetry.open(entry.shard, () =>
      this.#poolFor(state.manifest.backend).open(dir, state.spec, entry.index),
    )
  }

  #poolFor(name: BackendName): ShardPool {
    const existing = this.#pools.get(name)
    if (existing !== undefined) return existing
    const { workers, memoryBytes } = this.#options
    const pool = backendByName(name).createPool({ workers, memoryBytes })
    this.#pools.set(name, pool)
    return pool
  }
}

function defaultCacheDir(): string {
  return join(process.env.XDG_CACHE_HOME ?? join(homedir(), ".cache"), "vecsnap")
}
