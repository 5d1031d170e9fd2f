/**
 * The reader: an open snapshot inside an application. What it does is done by its parts: `calls/` bounds
 * calls and runs them, `follow/` opens what is live, `shards/` opens shards, `report/` says how it goes.
 */
import { abortable } from "../async/abortable.js"
import { invalidInput } from "../errors.js"
import { silentLogger } from "../logger.js"
import type { Id, Json } from "../records.js"
import { loadTrustedKeys, type TrustedKey } from "../snapshot/signatures/keys.js"
import { openStore } from "../storage/open.js"
import { assertRoot } from "../storage/root.js"
import type { ObjectStore } from "../storage/store.js"
import { createCounts, type RequestCounts, withCounting } from "../storage/with-counting.js"
import { kindOf } from "../wording.js"
import { type Audits, createAudits } from "./audit/audits.js"
import { createCallScope } from "./calls/call-scope.js"
import { Calls } from "./calls/calls.js"

import { Follower } from "./follow/follower.js"
import { createSnapshotLease, type SnapshotLease } from "./follow/lease.js"
import { createPointerTrust } from "./follow/pointer-trust.js"
import { createSeenNumbers } from "./follow/seen-numbers.js"
import { getRecords } from "./get.js"
import { HeldStates } from "./held.js"
import { checkOptions } from "./options.js"
import { typePayload } from "./payloads.js"
import { joinPool } from "./reader-pool.js"
import { createEvents, type EventEmitter } from "./report/events.js"
import { reportHealth, reportStats } from "./report/report.js"
import { createTelemetry, type Telemetry } from "./report/telemetry.js"
import { tryShard } from "./report/trial.js"
import { searchState } from "./search.js"
import { OpenShards } from "./shards/open-shards.js"
import type { WarmOptions, WarmResult } from "./shards/warm.js"
import type {
  CloseOptions,
  FoundRecord,
  GetOptions,
  Health,
  HealthOptions,
  OpenOptions,
  QueryVector,
  Reader,
  ReaderEvents,
  ReaderListener,
  ReaderStats,
  RefreshResult,
  SearchOptions,
  SearchResult,
  SnapshotInfo,
} from "./types.js"

/**
 * Opens the live snapshot of a root, or the one of `options.snapshot`: `s3://bucket/prefix`, a directory,
 * `memory://name`, or an open store.
 *
 * Reads pointer, manifest and routing, no shard. Throws `NotFound` if nothing is published there, `Corrupt`
 * if what is there is damaged or none of `trustedKeys` has signed it, `Unsupported` if it needs a newer
 * vecsnap or a package that is not installed.
 */
export async function openSnapshot<Payload = Json>(
  from: string | ObjectStore,
  options: OpenOptions<Payload> = {},
): Promise<Reader<Payload>> {
  assertRoot(from)
  const { trustedKeys } = options
  const keys = trustedKeys === undefined ? undefined : await loadTrustedKeys("trustedKeys", trustedKeys)
  // Below the retries and the limits: what they do is counted here.
  const attempts = options.store?.counts ?? createCounts()
  const opened =
    typeof from === "string" ? openStore(from, { ...options.store, counts: attempts }) : undefined
  const reader = new SnapshotReader(opened ?? (from as ObjectStore), attempts, options, keys, () =>
    opened?.close(),
  )
  try {
    await reader.open()
    return reader
  } catch (error) {
    await reader.close()
    throw error
  }
}

/** Nobody has the reader before it is open, so that nobody can close it. */
const NEVER_CLOSED = new AbortController()

class SnapshotReader<Payload> implements Reader<Payload> {
  readonly #options: OpenOptions<Payload>
  readonly #counts = createCounts()
  readonly #attempts: Readonly<RequestCounts>
  readonly #releaseStore: () => void
  readonly #events: EventEmitter
  readonly #telemetry: Telemetry
  readonly #shards: OpenShards
  readonly #lease: SnapshotLease | undefined
  readonly #states: HeldStates
  readonly #follower: Follower
  readonly #calls: Calls
  readonly #audits: Audits | undefined
  readonly #openTimeoutMs: number
  #closing: Promise<void> | undefined

  constructor(
    store: ObjectStore,
    attempts: Readonly<RequestCounts>,
    options: OpenOptions<Payload>,
    keys: readonly TrustedKey[] | undefined,
    releaseStore: () => void,
  ) {
    const bounds = checkOptions(options)
    const { maxOpenShards, concurrency, maxQueued, queueTimeoutMs } = bounds
    const { snapshot, timeoutMs, logger = silentLogger } = options
    const counted = withCounting(store, this.#counts)
    this.#options = options
    this.#attempts = attempts
    this.#openTimeoutMs = bounds.openTimeoutMs
    this.#releaseStore = releaseStore
    this.#events = createEvents(logger)
    this.#telemetry = createTelemetry(this, store.url, () => ({
      publishedAt: this.#states.current?.state.info.publishedAt,
      openShards: this.#shards.stats().open,
      queueLength: this.#calls.admission.queued,
      unlikeShare: this.#states.current?.recentQueries.unlike()?.share,
      observedRecall: this.#states.current?.observedRecall.summary(),
    }))
    this.#shards = new OpenShards(counted, {
      ...options,
      ...bounds,
      pools: joinPool(options),
      logger,
      telemetry: this.#telemetry,
    })
    this.#lease = createSnapshotLease(counted, options.lease, logger)
    this.#states = new HeldStates(this.#shards, ({ info }) => this.#lease?.release(info.run))
    this.#follower = new Follower(counted, this.#states, this.#shards, {
      snapshot,
      maxOpenShards,
      trust:
        keys &&
        createPointerTrust({
          keys,
          seen: createSeenNumbers(bounds.cacheDir, store.url),
          seenMayFail: options.whenCacheFails === "temporary",
          logger,
        }),
      lease: this.#lease,
      events: this.#events,
      telemetry: this.#telemetry,
      logger,
    })
    const admission = { running: concurrency, maxQueued, queueTimeoutMs }
    this.#calls = new Calls(this.#states, this.#follower, { admission, timeoutMs, logger })
    const audited = { states: this.#states, shards: this.#shards, calls: this.#calls, maxOpenShards, logger }
    this.#audits = createAudits(audited, options)
  }

  async open(): Promise<void> {
    const { autoRefresh, signal } = this.#options
    const limits = { timeoutMs: this.#openTimeoutMs, option: "openTimeoutMs", closing: NEVER_CLOSED.signal }
    const scope = createCallScope({ what: "opening of the snapshot", signal, ...limits })
    try {
      // A store of the caller's own may overlook the signal.
      await abortable(this.#follower.open(autoRefresh, scope.signal), scope.signal)
    } catch (error) {
      throw scope.explain(error)
    } finally {
      scope.end()
    }
  }

  get snapshot(): SnapshotInfo {
    this.#calls.assertOpen()
    return this.#states.current!.state.info
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
    if (!Array.isArray(vectors))
      throw invalidInput(`the query vectors are ${kindOf(vectors)}, expected a list`)
    const queries = vectors.map((vector) => (isList(vector) ? vector.slice() : vector))
    const results = await this.#telemetry.search(() =>
      this.#calls.run("search", options, ({ state, askShards, recentQueries }, signal, failOnMissing) => {
        const noteUnlike = (unlike: boolean): void => recentQueries.note(unlike)
        return searchState(state, queries, { ...options, signal }, askShards, { failOnMissing, noteUnlike })
      }),
    )
    this.#audits?.offer(queries, options, results)
    if (this.#options.payloadSchema === undefined) return results as readonly SearchResult<Payload>[]
    return results.map((result) => ({ ...result, hits: result.hits.map((hit) => this.#typePayload(hit)) }))
  }

  async get(
    ids: readonly Id[],
    options: GetOptions = {},
  ): Promise<readonly (FoundRecord<Payload> | undefined)[]> {
    const records = await this.#telemetry.get(() =>
      this.#calls.run("lookup", options, ({ state, useShard }, signal) =>
        getRecords(state, ids, { ...options, signal }, useShard),
      ),
    )
    return records.map((record) => record && this.#typePayload(record))
  }

  async warm(options: WarmOptions = {}): Promise<WarmResult> {
    return this.#calls.bounded("warming", { signal: options.signal }, (signal) =>
      this.#states.use(({ state }) => this.#shards.warm(state, { ...options, signal })),
    )
  }

  async refresh(): Promise<RefreshResult> {
    this.#calls.assertOpen()
    return this.#follower.refresh()
  }

  async health({ trial = false, signal }: HealthOptions = {}): Promise<Health> {
    if (!this.#calls.ended) await this.#follower.probe()
    const tried = trial ? await this.#states.use((held) => tryShard(held, this.#calls, signal)) : undefined
    const held = this.#states.current!
    return reportHealth({
      held,
      calls: this.#calls,
      follower: this.#follower,
      lease: this.#lease,
      maxAgeSeconds: this.#options.maxAgeSeconds,
      trial: tried,
    })
  }

  on<Event extends keyof ReaderEvents>(event: Event, listener: ReaderListener<Event>): void {
    this.#events.on(event, listener)
  }

  off<Event extends keyof ReaderEvents>(event: Event, listener: ReaderListener<Event>): void {
    this.#events.off(event, listener)
  }

  stats(): ReaderStats {
    const { throttled, throttledMs } = this.#attempts
    const audit = this.#audits && {
      ...this.#audits.counts(),
      observedRecall: this.#states.current?.observedRecall.summary(),
    }
    return reportStats(this.#calls, this.#shards, { ...this.#counts, throttled, throttledMs }, audit)
  }

  close({ abort = false }: CloseOptions = {}): Promise<void> {
    this.#closing ??= this.#close()
    if (abort) this.#calls.abort()
    return this.#closing
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  async #close(): Promise<void> {
    this.#calls.end()
    this.#telemetry.close()
    await this.#follower.close()
    await this.#calls.settled()
    await this.#audits?.close()
    await this.#shards.close(this.#calls.aborted)
    await this.#lease?.end()
    this.#releaseStore()
  }

  #typePayload<T extends { readonly id: Id; readonly shard: number; readonly payload: Json }>(item: T) {
    return typePayload(item, this.#options.payloadSchema)
  }
}

const isList = (value: unknown): boolean => Array.isArray(value) || ArrayBuffer.isView(value)
