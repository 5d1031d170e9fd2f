/**
 * The reader: an open snapshot inside an application.
 */
import { homedir } from "node:os"
import { join } from "node:path"
import { abortable } from "../async/abortable.js"
import { inLanes } from "../async/lanes.js"
import {
  assertWholeNumber,
  closed,
  invalidInput,
  isVecsnapError,
  messageOf,
  throwIfAborted,
} from "../errors.js"
import { type Logger, silentLogger } from "../logger.js"
import { nothingPublished } from "../manifest/current.js"
import {
  type FoundSnapshot,
  findSnapshot,
  type RootPointer,
  readPointed,
  readRootPointer,
  readRootPointerIfChanged,
} from "../manifest/formats.js"
import type { Id, Json } from "../records.js"
import { backendByName } from "../shards/registry.js"
import { openStore } from "../storage/open.js"
import type { ObjectStore } from "../storage/store.js"
import { createCounts, type RequestCounts, withCounting } from "../storage/with-counting.js"
import { type Admission, createAdmission } from "./calls/admission.js"
import { checkTimeoutMs, createCallScope } from "./calls/call-scope.js"
import { createSnapshotLease, type SnapshotLease } from "./follow/lease.js"
import { chooseShardsToWarm, startAutoRefresh } from "./follow/refresh.js"
import { getRecords } from "./get.js"
import { typePayload } from "./payloads.js"
import { createEvents, type EventEmitter, type ReaderListener } from "./report/events.js"
import {
  createRecentCalls,
  createRecentQueries,
  type HealthFacts,
  judgeHealth,
  outcomeOf,
} from "./report/health.js"
import { createTelemetry, type Telemetry } from "./report/telemetry.js"
import { type QueryVector, searchState, type UseShard } from "./search.js"
import { OpenShards } from "./shards/open-shards.js"
import { assertCacheOptions } from "./shards/shard-files.js"
import type { WarmOptions, WarmResult } from "./shards/warm.js"
import { loadState, recallAtDefault, type SnapshotState } from "./state.js"
import type {
  CloseOptions,
  FoundRecord,
  GetOptions,
  Health,
  OpenOptions,
  ReaderEvents,
  ReaderStats,
  RefreshReport,
  RefreshResult,
  SearchOptions,
  SearchResult,
  SnapshotInfo,
} from "./types.js"

const DEFAULT_OPEN_SHARDS = 256
const DEFAULT_CONCURRENCY = 64
const DEFAULT_QUEUED = 1000
const DEFAULT_QUEUE_TIMEOUT_MS = 10_000
/** A pointer read so recently is not read again for `health`. */
const POINTER_FRESH_MS = 5000
/** The longest that `health` waits for the pointer. */
const PROBE_MS = 2000
/** What a refresh opens before the swap, at most, and how long it may take: the new snapshot is not to be held up. */
const WARM_BUDGET = { shards: 64, bytes: 2 ** 30 }
const WARM_MS = 30_000
const WARM_CONCURRENCY = 4

/**
 * Opens the live snapshot of a root, or the one of `options.snapshot`: `s3://bucket/prefix`, a directory, `memory://name`, or an open store.
 *
 * Reads pointer, manifest and routing, no shard. Throws `NotFound` if nothing is published there, `Corrupt` if what is
 * there is damaged, `Unsupported` if it needs a newer vecsnap or a package that is not installed.
 */
export async function openSnapshot<Payload = Json>(
  from: string | ObjectStore,
  options: OpenOptions<Payload> = {},
): Promise<Reader<Payload>> {
  // Below the retries and the limits: what they do is counted here.
  const attempts = options.store?.counts ?? createCounts()
  const opened =
    typeof from === "string" ? openStore(from, { ...options.store, counts: attempts }) : undefined
  const reader = new SnapshotReader(opened ?? (from as ObjectStore), attempts, options, () => opened?.close())
  try {
    await reader.open(options.signal)
    return reader
  } catch (error) {
    await reader.close()
    throw error
  }
}

/**
 * An open snapshot. After `close`, all that asks the snapshot throws `Closed`.
 *
 * A call throws `Unavailable` with `details.retryAfterMs` if too many wait already (`maxQueued`, `queueTimeoutMs`), and
 * `Aborted` when its signal fires or its `timeoutMs` have passed, wherever it is: waiting, downloading or searching.
 */
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
   * Records by id, in order; `undefined` for ids that are not there. Opens the shards that hold them, which the
   * snapshot's id locator knows, or else those that `shards` or `context` name. A snapshot that was built without a
   * locator is asked in every shard, with a warning.
   */
  get(ids: readonly Id[], options?: GetOptions): Promise<readonly (FoundRecord<Payload> | undefined)[]>
  /**
   * Opens the snapshot that is live now, if it is another one: completely, shards that were in use included, before it
   * answers. Searches under way finish on the old one. If it fails, the old one stays. Calls at the same time share one
   * refresh. A pinned reader stays as it is, and says so.
   */
  refresh(): Promise<RefreshResult>
  /**
   * How the reader does; works after `close`, too. Reads the pointer if that was not done in the last 5 seconds, waits
   * 2 seconds for it at most, and does no other I/O.
   */
  health(): Promise<Health>
  /** Calls `listener` whenever `event` happens, until `off`. What it throws is logged. */
  on<Event extends keyof ReaderEvents>(event: Event, listener: ReaderListener<Event>): void
  off<Event extends keyof ReaderEvents>(event: Event, listener: ReaderListener<Event>): void
  /** Downloads shards of this snapshot into the disk cache, without opening them. */
  warm(options?: WarmOptions): Promise<WarmResult>
  stats(): ReaderStats
  /** Waits for what runs, or aborts it, then releases files, threads and connections. Idempotent. */
  close(options?: CloseOptions): Promise<void>
}

/** A state with the number of calls that use it. */
interface HeldState {
  readonly state: SnapshotState
  users: number
}

class SnapshotReader<Payload> implements Reader<Payload> {
  readonly #store: ObjectStore
  readonly #counts = createCounts()
  readonly #attempts: Readonly<RequestCounts>
  readonly #options: OpenOptions<Payload>
  readonly #logger: Logger
  readonly #events: EventEmitter
  readonly #releaseStore: () => void
  readonly #telemetry: Telemetry
  readonly #shards: OpenShards
  readonly #admission: Admission
  readonly #lease: SnapshotLease | undefined

  /** The current state, one that is being made ready, and older ones that calls still use. */
  readonly #held = new Set<HeldState>()
  #current: HeldState | undefined
  /** Numbers of the shards used, latest last. */
  readonly #recent = new Set<number>()

  #pointer: RootPointer | undefined
  #pointerReadAt: Date | undefined
  #pointerFailure: HealthFacts["pointerFailure"]
  #probing: Promise<unknown> | undefined
  #refreshing: Promise<RefreshResult> | undefined
  #lastRefresh: RefreshReport | undefined
  #stopAutoRefresh = (): void => {}

  readonly #recentCalls = createRecentCalls()
  /** Of the current snapshot. */
  #recentQueries = createRecentQueries()
  readonly #failingShards = new Map<number, string>()
  readonly #running = new Set<Promise<unknown>>()
  readonly #endOfRefresh = new AbortController()
  readonly #endOfCalls = new AbortController()
  #closing: Promise<void> | undefined

  constructor(
    store: ObjectStore,
    attempts: Readonly<RequestCounts>,
    options: OpenOptions<Payload>,
    releaseStore: () => void,
  ) {
    this.#attempts = attempts
    const { maxOpenShards, concurrency, maxQueued, queueTimeoutMs } = checkOptions(options)
    this.#store = withCounting(store, this.#counts)
    this.#options = options
    this.#logger = options.logger ?? silentLogger
    this.#events = createEvents(this.#logger)
    this.#releaseStore = releaseStore
    this.#telemetry = createTelemetry(this, store.url, () => ({
      publishedAt: this.#current?.state.info.publishedAt,
      openShards: this.#shards.stats().open,
      queueLength: this.#admission.queued,
      unlikeShare: this.#recentQueries.unlike()?.share,
    }))
    this.#shards = new OpenShards(this.#store, {
      ...options,
      cacheDir: options.cacheDir ?? defaultCacheDir(),
      maxOpenShards,
      concurrency,
      queueTimeoutMs,
      logger: this.#logger,
      telemetry: this.#telemetry,
    })
    this.#admission = createAdmission({ running: concurrency, maxQueued, queueTimeoutMs })
    this.#lease = createSnapshotLease(this.#store, options.lease, this.#logger)
  }

  async open(signal: AbortSignal | undefined): Promise<void> {
    const { snapshot, autoRefresh } = this.#options
    if (snapshot === undefined) {
      const pointer = await this.#readPointer(signal)
      this.#current = { state: await this.#loadLive(pointer, signal), users: 0 }
    } else {
      await this.#lease?.protect(snapshot, signal)
      const found = await findSnapshot(this.#store, snapshot, { signal })
      if (found.pointer !== undefined) this.#notePointer(found.pointer)
      this.#current = { state: await this.#load(found, signal), users: 0 }
    }
    this.#held.add(this.#current)
    if (autoRefresh !== undefined) this.#stopAutoRefresh = startAutoRefresh(autoRefresh, () => this.refresh())
  }

  get snapshot(): SnapshotInfo {
    this.#assertOpen()
    return this.#state.info
  }

  async search(vector: QueryVector, options: SearchOptions = {}): Promise<SearchResult<Payload>> {
    const [result] = await this.searchMany([vector], options)
    return result!
  }

  async searchMany(
    vectors: readonly QueryVector[],
    options: SearchOptions = {},
  ): Promise<readonly SearchResult<Payload>[]> {
    // A copy, because the search may begin later and the caller may reuse the array.
    const queries = vectors.map((vector) => (isList(vector) ? vector.slice() : vector))
    const results = await this.#telemetry.search(() =>
      this.#call("search", options, (state, bounded, failOnMissing) =>
        searchState(state, queries, bounded, this.#useShard, { failOnMissing, noteUnlike: this.#noteUnlike }),
      ),
    )
    if (this.#options.payloadSchema === undefined) return results as readonly SearchResult<Payload>[]
    return results.map((result) => ({ ...result, hits: result.hits.map((hit) => this.#typePayload(hit)) }))
  }

  async get(
    ids: readonly Id[],
    options: GetOptions = {},
  ): Promise<readonly (FoundRecord<Payload> | undefined)[]> {
    const records = await this.#telemetry.get(() =>
      this.#call("lookup", options, (state, bounded) => getRecords(state, ids, bounded, this.#useShard)),
    )
    return records.map((record) => record && this.#typePayload(record))
  }

  async warm(options: WarmOptions = {}): Promise<WarmResult> {
    return this.#bounded("warming", { signal: options.signal }, (signal) =>
      this.#withState((state) => this.#shards.warm(state, { ...options, signal })),
    )
  }

  async refresh(): Promise<RefreshResult> {
    this.#assertOpen()
    this.#refreshing ??= this.#telemetry
      .refresh(() => this.#refresh())
      .finally(() => {
        this.#refreshing = undefined
      })
    return this.#refreshing
  }

  async health(): Promise<Health> {
    const { info } = this.#state
    const pinned = this.#isPinned
    const { maxAgeSeconds } = this.#options
    const readAgoMs = Date.now() - (this.#pointerReadAt?.getTime() ?? 0)
    if (!pinned && this.#closing === undefined && readAgoMs > POINTER_FRESH_MS) {
      this.#probing ??= this.#probePointer().finally(() => {
        this.#probing = undefined
      })
      await this.#probing
    }
    const calls = this.#recentCalls.counts()
    const unlikeQueries = this.#recentQueries.unlike()
    const verdict = judgeHealth({
      nowMs: Date.now(),
      closed: this.#closing !== undefined,
      pinned,
      snapshot: info.run,
      // The pointer may have been moved away and back since this snapshot was opened.
      publishedAtMs: (this.#pointer?.run === info.run ? this.#pointer : info).publishedAt.getTime(),
      maxAgeSeconds,
      lastRefresh: this.#lastRefresh,
      pointerFailure: this.#pointerFailure,
      calls,
      lastFailure: this.#recentCalls.lastFailure,
      failingShards: this.#failingShards,
      leaseOver: this.#lease?.over(),
      unlikeQueries,
    })
    const facts = {
      recall: recallAtDefault(this.#state.snapshot),
      lastRefresh: this.#lastRefresh,
      pointerReadAt: this.#pointerReadAt,
      calls,
      unlikeQueries,
    }
    return { ...verdict, snapshot: info.run, pinned, ...facts }
  }

  on<Event extends keyof ReaderEvents>(event: Event, listener: ReaderListener<Event>): void {
    this.#events.on(event, listener)
  }

  off<Event extends keyof ReaderEvents>(event: Event, listener: ReaderListener<Event>): void {
    this.#events.off(event, listener)
  }

  stats(): ReaderStats {
    const { running, queued, refused } = this.#admission
    const { open, opens, bytes, waiting, downloads } = this.#shards.stats()
    return {
      openShards: open,
      openShardBytes: bytes,
      waitingForShards: waiting,
      shardOpens: opens,
      shardDownloads: downloads,
      requests: {
        ...this.#counts,
        throttled: this.#attempts.throttled,
        throttledMs: this.#attempts.throttledMs,
      },
      calls: { running, queued, refused },
    }
  }

  close({ abort = false }: CloseOptions = {}): Promise<void> {
    this.#closing ??= this.#close()
    if (abort) this.#endOfCalls.abort()
    return this.#closing
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  // --- Calls -------------------------------------------------------------------------------------------------------

  /** Runs one call: within its bounds, in its turn, on the state that is current then. */
  async #call<Bounds extends { readonly signal?: AbortSignal; readonly timeoutMs?: number }, T>(
    what: string,
    options: Bounds,
    work: StateWork<Bounds, T>,
  ): Promise<T> {
    const { signal, timeoutMs = this.#options.timeoutMs } = options
    try {
      const result = await this.#bounded(what, { signal, timeoutMs }, (bound) =>
        this.#admission.run(() => this.#answer({ ...options, signal: bound }, bound, work), bound),
      )
      this.#recentCalls.note("answered")
      return result
    } catch (error) {
      const outcome = outcomeOf(error)
      if (outcome !== undefined) this.#recentCalls.note(outcome, messageOf(error))
      throw error
    }
  }

  /** Runs `work` until the caller, the time limit or `close` ends it; `close` waits for it. */
  async #bounded<T>(
    what: string,
    bounds: { readonly signal?: AbortSignal | undefined; readonly timeoutMs?: number | undefined },
    work: (signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    this.#assertOpen()
    const scope = createCallScope({ what, ...bounds, closing: this.#endOfCalls.signal })
    const running = work(scope.signal)
    this.#running.add(running)
    try {
      return await running
    } catch (cause) {
      throw scope.explain(cause)
    } finally {
      scope.end()
      this.#running.delete(running)
    }
  }

  /** Runs `work`, and once more after a refresh if files of its snapshot are gone: then they were collected. */
  async #answer<Bounds, T>(bounds: Bounds, signal: AbortSignal, work: StateWork<Bounds, T>): Promise<T> {
    try {
      return await this.#withState((state) => work(state, bounds, !this.#isPinned))
    } catch (error) {
      if (this.#isPinned || !isVecsnapError(error, "NotFound")) throw error
      this.#logger.warn({ err: error }, "files of the snapshot are gone: looking for another one")
    }
    // A refresh that fails is reported by itself; then the old snapshot answers what it can.
    await abortable(this.refresh(), signal).catch(() => throwIfAborted(signal))
    return this.#withState((state) => work(state, bounds, false))
  }

  async #withState<T>(work: (state: SnapshotState) => Promise<T>): Promise<T> {
    const held = this.#current!
    held.users++
    try {
      return await work(held.state)
    } finally {
      this.#leave(held)
    }
  }

  #typePayload<T extends { readonly id: Id; readonly shard: number; readonly payload: Json }>(item: T) {
    return typePayload(item, this.#options.payloadSchema)
  }

  get #state(): SnapshotState {
    if (this.#current === undefined) throw closed("this reader is closed")
    return this.#current.state
  }

  get #isPinned(): boolean {
    return this.#options.snapshot !== undefined
  }

  #assertOpen(): void {
    if (this.#closing !== undefined) throw closed("this reader is closed")
  }

  // --- Shards ------------------------------------------------------------------------------------------------------

  readonly #noteUnlike = (state: SnapshotState, unlike: boolean): void => {
    if (state === this.#current?.state) this.#recentQueries.note(unlike)
  }

  readonly #useShard: UseShard = async (state, shard, work, signal) => {
    const isCurrent = () => state === this.#current?.state
    if (isCurrent()) {
      this.#recent.delete(shard)
      this.#recent.add(shard)
    }
    try {
      const result = await this.#shards.use(state, shard, work, signal)
      if (isCurrent()) this.#failingShards.delete(shard)
      return result
    } catch (error) {
      if (isCurrent() && outcomeOf(error) === "failed") this.#failingShards.set(shard, messageOf(error))
      throw error
    }
  }

  // --- States ------------------------------------------------------------------------------------------------------

  async #refresh(): Promise<RefreshResult> {
    try {
      const result = await this.#follow(this.#endOfRefresh.signal)
      this.#lastRefresh = { at: new Date(), changed: result.changed, error: undefined }
      if (result.changed) {
        this.#logger.info(result, "another snapshot is open")
        this.#events.emit("refreshed", result)
      }
      return result
    } catch (error) {
      if (this.#closing !== undefined) throw closed("this reader was closed while it refreshed", {}, error)
      this.#lastRefresh = { at: new Date(), changed: false, error: messageOf(error) }
      this.#logger.warn({ err: error }, "refresh failed, the old snapshot stays open")
      this.#events.emit("refresh-failed", { error })
      throw error
    }
  }

  /** Opens what is live now, if it is another snapshot. */
  async #follow(signal: AbortSignal): Promise<RefreshResult> {
    const before = this.#state
    const { run } = before.info
    const stay = {
      changed: false,
      from: run,
      to: run,
      keptShards: before.shards.size,
      pinned: this.#isPinned,
    }
    if (stay.pinned) return stay
    const pointer = await this.#readPointer(signal)
    if (pointer.run === run) return stay
    const next: HeldState = { state: await this.#loadLive(pointer, signal), users: 1 }
    // Held from here on, so that the shards opened for it are kept.
    this.#held.add(next)
    try {
      await this.#warmUp(before, next.state)
      throwIfAborted(signal)
      this.#replace(next)
    } finally {
      this.#leave(next)
    }
    const kept = new Set(before.contents.values())
    const keptShards = Array.from(next.state.contents.values()).filter((content) => kept.has(content)).length
    return { changed: true, from: run, to: next.state.info.run, keptShards, pinned: false }
  }

  /** The swap: calls that start from now on use the new state. */
  #replace(next: HeldState): void {
    const previous = this.#current!
    this.#current = next
    this.#failingShards.clear()
    this.#recentQueries = createRecentQueries()
    if (previous.users === 0) this.#drop(previous)
  }

  /** Opens the shards of the next state that were in use in this one, so that no search waits for them after the swap. */
  async #warmUp(before: SnapshotState, after: SnapshotState): Promise<void> {
    // Half of the places, since the old state goes on answering meanwhile.
    const places = Math.floor((this.#options.maxOpenShards ?? DEFAULT_OPEN_SHARDS) / 2)
    const budget = { shards: Math.min(WARM_BUDGET.shards, places), bytes: WARM_BUDGET.bytes }
    const shards = chooseShardsToWarm(before, after, this.#recent, budget)
    const what = "opening of shards before a swap"
    const scope = createCallScope({ what, timeoutMs: WARM_MS, closing: this.#endOfRefresh.signal })
    const warmOne = (shard: number) =>
      this.#useShard(after, shard, async () => {}, scope.signal).catch((error) => {
        this.#logger.warn({ err: scope.explain(error), shard }, "a shard could not be opened before the swap")
      })
    try {
      await inLanes(shards, WARM_CONCURRENCY, warmOne)
    } finally {
      scope.end()
    }
  }

  #leave(held: HeldState): void {
    held.users--
    if (held.users === 0 && held !== this.#current) this.#drop(held)
  }

  /** Forgets a state that nothing uses any more, and closes the shards that no other state has. */
  #drop(held: HeldState): void {
    this.#held.delete(held)
    this.#lease?.release(held.state.info.run)
    this.#shards.retain(new Set(Array.from(this.#held, ({ state }) => [...state.contents.values()]).flat()))
  }

  async #loadLive(pointer: RootPointer, signal: AbortSignal | undefined): Promise<SnapshotState> {
    // Before the manifest is read: if that is there, all of the snapshot is, and stays.
    await this.#lease?.protect(pointer.run, signal)
    try {
      return await this.#load(await readPointed(this.#store, pointer, { signal }), signal)
    } catch (error) {
      this.#lease?.release(pointer.run)
      throw error
    }
  }

  async #load(found: FoundSnapshot, signal: AbortSignal | undefined): Promise<SnapshotState> {
    await backendByName(found.snapshot.backend).assertInstalled("open")
    return loadState(this.#store, found, { signal, logger: this.#logger })
  }

  // --- The pointer -------------------------------------------------------------------------------------------------

  /** The pointer as it is now; costs no body if it is the one we know. Notes whether it could be read. */
  async #readPointer(signal: AbortSignal | undefined): Promise<RootPointer> {
    const known = this.#pointer
    try {
      const read =
        known === undefined
          ? await readRootPointer(this.#store, { signal })
          : await readRootPointerIfChanged(this.#store, known.etag, { signal })
      if (read === undefined) throw nothingPublished(this.#store)
      return this.#notePointer(read === "unchanged" ? known! : read)
    } catch (error) {
      const sinceMs = this.#pointerFailure?.sinceMs ?? Date.now()
      this.#pointerFailure = { sinceMs, reason: messageOf(error) }
      throw error
    }
  }

  #notePointer(pointer: RootPointer): RootPointer {
    this.#pointer = pointer
    this.#pointerReadAt = new Date()
    this.#pointerFailure = undefined
    return pointer
  }

  /** Reads the pointer for `health`, in bounded time. What goes wrong is noted, not thrown. */
  async #probePointer(): Promise<void> {
    const what = "reading of the pointer"
    const scope = createCallScope({ what, timeoutMs: PROBE_MS, closing: this.#endOfRefresh.signal })
    try {
      await this.#readPointer(scope.signal)
    } catch {
      // Noted as `#pointerFailure`.
    } finally {
      scope.end()
    }
  }

  async #close(): Promise<void> {
    this.#telemetry.close()
    this.#stopAutoRefresh()
    this.#endOfRefresh.abort()
    await Promise.allSettled([this.#refreshing, this.#probing])
    // No call begins any more, so that this set only shrinks.
    await Promise.allSettled(this.#running)
    await this.#shards.close()
    await this.#lease?.end()
    this.#releaseStore()
  }
}

/** Work on one state. With `failOnMissing`, files that storage does not have must fail it with `NotFound`. */
type StateWork<Bounds, T> = (state: SnapshotState, bounds: Bounds, failOnMissing: boolean) => Promise<T>

/** The bounds of a reader, defaults filled in. Throws `InvalidInput` naming the option that is wrong. */
function checkOptions(options: OpenOptions<unknown>) {
  const { maxOpenShards = DEFAULT_OPEN_SHARDS, concurrency = DEFAULT_CONCURRENCY } = options
  const { maxQueued = DEFAULT_QUEUED, queueTimeoutMs = DEFAULT_QUEUE_TIMEOUT_MS } = options
  const { timeoutMs, maxAgeSeconds, snapshot, autoRefresh } = options
  assertWholeNumber("maxOpenShards", maxOpenShards, 1)
  assertWholeNumber("concurrency", concurrency, 1)
  assertCacheOptions(options)
  checkTimeoutMs("queueTimeoutMs", queueTimeoutMs)
  if (timeoutMs !== undefined) checkTimeoutMs("timeoutMs", timeoutMs)
  if (maxAgeSeconds !== undefined && !(maxAgeSeconds > 0)) {
    throw invalidInput(`option maxAgeSeconds is ${maxAgeSeconds}, expected a number above 0`, {
      maxAgeSeconds,
    })
  }
  if (snapshot !== undefined && autoRefresh !== undefined) {
    throw invalidInput(`option autoRefresh does not go with option snapshot, which pins run ${snapshot}`, {
      snapshot,
    })
  }
  return { maxOpenShards, concurrency, maxQueued, queueTimeoutMs }
}

const isList = (value: unknown): boolean => Array.isArray(value) || ArrayBuffer.isView(value)

function defaultCacheDir(): string {
  return join(process.env.XDG_CACHE_HOME ?? join(homedir(), ".cache"), "vecsnap")
}
