/**
 * Following the pointer: opens what is live, and the next snapshot beside it when the pointer has moved.
 */
import { inLanes } from "../../async/lanes.js"
import {
  closed,
  isVecsnapError,
  messageOf,
  throwIfAborted,
  unavailable,
  unsupported,
  VecsnapError,
} from "../../errors.js"
import type { Logger } from "../../logger.js"
import { type FoundSnapshot, findSnapshot, type RootPointer, readPointed } from "../../manifest/formats.js"
import { openerOf } from "../../shards/registry.js"
import type { SnapshotFormat } from "../../snapshot/format.js"
import type { ObjectStore } from "../../storage/store.js"
import { asTagged } from "../../storage/system-fault.js"
import { createCallScope } from "../calls/call-scope.js"
import type { HeldState, HeldStates } from "../held.js"
import type { EventEmitter } from "../report/events.js"
import type { Telemetry } from "../report/telemetry.js"
import type { OpenShards } from "../shards/open-shards.js"
import { loadState, type SnapshotState } from "../state.js"
import type { AutoRefresh, RefreshReport, RefreshResult } from "../types.js"
import type { SnapshotLease } from "./lease.js"
import { KnownPointer } from "./pointer.js"
import type { PointerTrust } from "./pointer-trust.js"
import { chooseShardsToWarm, startAutoRefresh } from "./refresh.js"

/**
 * What a refresh opens before the swap, at most, and how long it may take: the new snapshot is not to be held
 * up.
 */
const WARM_BUDGET = { shards: 64, bytes: 2 ** 30 }
const WARM_MS = 30_000
const WARM_CONCURRENCY = 4

export interface FollowerOptions {
  /** Run to stay with; `undefined` to follow the pointer. */
  readonly snapshot: string | undefined
  readonly maxOpenShards: number
  /** What pointers and snapshots are believed by; `undefined` to believe all. */
  readonly trust?: PointerTrust | undefined
  readonly lease: SnapshotLease | undefined
  readonly events: EventEmitter
  readonly telemetry: Pick<Telemetry, "refresh">
  readonly logger: Logger
}

export class Follower {
  readonly #store: ObjectStore
  readonly #states: HeldStates
  readonly #shards: Pick<OpenShards, "prepare">
  readonly #options: FollowerOptions
  readonly pointer: KnownPointer
  readonly #closing = new AbortController()
  #refreshing: Promise<RefreshResult> | undefined
  #lastRefresh: RefreshReport | undefined
  #stopAutoRefresh = (): void => {}

  constructor(
    store: ObjectStore,
    states: HeldStates,
    shards: Pick<OpenShards, "prepare">,
    options: FollowerOptions,
  ) {
    this.#store = store
    this.#states = states
    this.#shards = shards
    this.#options = options
    this.pointer = new KnownPointer(store, options.trust)
  }

  /** Whether it stays with one snapshot. */
  get pinned(): boolean {
    return this.#options.snapshot !== undefined
  }

  get lastRefresh(): RefreshReport | undefined {
    return this.#lastRefresh
  }

  /** Loads the first state. */
  async open(autoRefresh: AutoRefresh | undefined, signal: AbortSignal | undefined): Promise<void> {
    const { snapshot } = this.#options
    this.#states.begin(
      snapshot === undefined
        ? await this.#loadLive(await this.pointer.read(signal), signal)
        : await this.#loadPinned(snapshot, signal),
    )
    if (autoRefresh !== undefined) this.#stopAutoRefresh = startAutoRefresh(autoRefresh, () => this.refresh())
  }

  /** Opens what is live now, if it is another snapshot. Calls at the same time share one refresh. */
  refresh(): Promise<RefreshResult> {
    this.#refreshing ??= this.#options.telemetry
      .refresh(() => this.#refresh())
      .finally(() => {
        this.#refreshing = undefined
      })
    return this.#refreshing
  }

  /** Reads the pointer for `health`, unless the snapshot is pinned. */
  async probe(): Promise<void> {
    if (!this.pinned) await this.pointer.probe(this.#closing.signal)
  }

  /** Stops a refresh that is under way, and resolves when it has ended. */
  async close(): Promise<void> {
    this.#stopAutoRefresh()
    this.#closing.abort()
    await Promise.allSettled([this.#refreshing, this.pointer.settled()])
  }

  async #refresh(): Promise<RefreshResult> {
    const { logger, events } = this.#options
    try {
      const result = await this.#follow(this.#closing.signal)
      this.#lastRefresh = { at: new Date(), changed: result.changed, error: undefined }
      if (result.changed) {
        logger.info(result, "another snapshot is open")
        events.emit("refreshed", result)
      }
      return result
    } catch (thrown) {
      if (this.#closing.signal.aborted) throw closed("this reader was closed while it refreshed", {}, thrown)
      const error = asTagged(thrown, "a refresh")
      this.#lastRefresh = { at: new Date(), changed: false, error: messageOf(error) }
      logger.warn({ err: error }, "refresh failed, the old snapshot stays open")
      events.emit("refresh-failed", { error })
      throw error
    }
  }

  async #follow(signal: AbortSignal): Promise<RefreshResult> {
    const held = this.#states.current!
    const { state: before } = held
    const { run } = before.info
    const { pinned } = this
    const stay = { changed: false, from: run, to: run, keptShards: before.shards.size, pinned }
    if (pinned) return stay
    const pointer = await this.pointer.read(signal)
    if (pointer.run === run) return stay
    const after = await this.#loadLive(pointer, signal)
    // What the pointer names cannot be opened, and what answers in its place is open already.
    if (after.info.run === run) return stay
    await this.#states.replace(after, async () => {
      await this.#warmUp(before, after, held)
      throwIfAborted(signal)
    })
    const kept = new Set(before.contents.values())
    const keptShards = Array.from(after.contents.values()).filter((content) => kept.has(content)).length
    return { changed: true, from: run, to: after.info.run, keptShards, pinned: false }
  }

  /**
   * Opens the shards of the next state that were in use in this one, so that no search waits for them after
   * the swap. Throws if one of them cannot be opened: then the old state goes on, since the next one would
   * fail where this one answers. Time is no such reason: what is not open in time is opened by the searches
   * that need it.
   */
  async #warmUp(before: SnapshotState, after: SnapshotState, held: HeldState): Promise<void> {
    const { maxOpenShards, logger } = this.#options
    // Half of the places, since the old state goes on answering meanwhile.
    const places = Math.max(1, Math.floor(maxOpenShards / 2))
    const budget = { shards: Math.min(WARM_BUDGET.shards, places), bytes: WARM_BUDGET.bytes }
    // What fails in this state as well is nothing to be lost.
    const inUse = Array.from(held.recentShards).filter((shard) => !held.failingShards.has(shard))
    const shards = chooseShardsToWarm(before, after, inUse, budget)
    const what = "opening of shards before a swap"
    const scope = createCallScope({ what, timeoutMs: WARM_MS, closing: this.#closing.signal })
    const warmOne = async (shard: number) => {
      try {
        await this.#shards.prepare(after, shard, scope.signal)
      } catch (thrown) {
        const error = scope.explain(thrown)
        if (!isForTime(error)) {
          // The others need not go on.
          scope.end()
          throw cannotReplace(after.info.run, shard, error)
        }
        logger.warn({ err: error, shard }, "a shard could not be opened in time before the swap")
      }
    }
    try {
      await inLanes(shards, WARM_CONCURRENCY, warmOne)
    } finally {
      scope.end()
    }
  }

  async #loadPinned(run: string, signal: AbortSignal | undefined): Promise<SnapshotState> {
    await this.#options.lease?.protect(run, signal)
    const found = await findSnapshot(this.#store, run, { trusted: this.#options.trust?.keys, signal })
    this.#assertLease(found.format)
    if (found.pointer !== undefined) this.pointer.note(found.pointer)
    return this.#load(found, signal)
  }

  async #loadLive(pointer: RootPointer, signal: AbortSignal | undefined): Promise<SnapshotState> {
    const { lease, trust } = this.#options
    this.#assertLease(pointer.format)
    // Before the manifest is read: if that is there, all of the snapshot is, and stays.
    await lease?.protect(pointer.run, signal)
    try {
      const found = await readPointed(this.#store, pointer, { trusted: trust?.keys, signal })
      return await this.#load(found, signal)
    } catch (error) {
      lease?.release(pointer.run)
      throw error
    }
  }

  /** Throws `Unsupported` where a lease would protect nothing. */
  #assertLease({ name, leases }: SnapshotFormat): void {
    if (this.#options.lease !== undefined && !leases)
      throw unsupported(`option lease: nobody heeds leases of snapshots of the format ${name}; leave it out`)
  }

  async #load(found: FoundSnapshot, signal: AbortSignal | undefined): Promise<SnapshotState> {
    await openerOf(found.snapshot).assertInstalled("open")
    return loadState(this.#store, found, { signal, logger: this.#options.logger })
  }
}

/**
 * Whether nothing is wrong but that time was up: that of the whole, or that of the wait for a place among the
 * open shards.
 */
const isForTime = (error: unknown): boolean =>
  isVecsnapError(error) &&
  (error.tag === "Closed" || error.details.timeoutMs !== undefined || error.details.waitedMs !== undefined)

function cannotReplace(run: string, shard: number, error: unknown): VecsnapError {
  const message = `snapshot ${run} is not opened: its shard ${shard}, which was in use, fails: ${messageOf(error)}`
  const details = { run, shard }
  return isVecsnapError(error)
    ? new VecsnapError(error.tag, message, { ...error.details, ...details }, error)
    : unavailable(message, details, error)
}
