/**
 * The shards of a reader, from storage to open handles: bounded in how many are in work, shared through the
 * caches, and fetched again from storage when a local copy is damaged.
 */

import { abortable } from "../../async/abortable.js"
import { createSemaphore, type Semaphore } from "../../async/semaphore.js"
import { settledWithin } from "../../async/settled-within.js"
import { isVecsnapError, throwIfAborted } from "../../errors.js"
import type { Logger } from "../../logger.js"
import type { ShardReader } from "../../shards/backend.js"
import { openerOf } from "../../shards/registry.js"
import type { ShardSource } from "../../shards/source.js"
import type { SnapshotShard } from "../../snapshot/snapshot.js"
import { errorCode } from "../../storage/files.js"
import type { ObjectStore } from "../../storage/store.js"
import type { PoolShare } from "../reader-pool.js"
import type { Telemetry } from "../report/telemetry.js"
import type { SnapshotState } from "../state.js"
import { createShardCache, type ShardCache } from "./shard-cache.js"
import { createShardFiles, type ShardFiles, type ShardFilesOptions } from "./shard-files.js"
import { type WarmOptions, type WarmResult, warmShards } from "./warm.js"

/** How long shards may take to be given back by calls that were aborted. */
const ABORTED_MS = 2000

export interface OpenShardsOptions extends ShardFilesOptions {
  readonly maxOpenShards: number
  readonly openShardBytes?: number | undefined
  readonly idleSeconds?: number | undefined
  /** Shards in work at a time, by searches or by warming. */
  readonly concurrency: number
  /** How long a search waits for a place among the open shards. */
  readonly queueTimeoutMs: number
  /** Left when the shards are closed. */
  readonly pools: PoolShare
  readonly logger: Logger
  readonly telemetry: Pick<Telemetry, "open" | "download">
}

/** What open shards may be the cause of, since their files stay on the disk and are open. */
const CODES_OF_ROOM = new Set<unknown>(["ENOSPC", "EDQUOT", "EMFILE", "ENFILE"])

const isForRoom = (error: unknown): boolean => {
  if (isVecsnapError(error)) return CODES_OF_ROOM.has(error.details.code)
  return CODES_OF_ROOM.has(errorCode(error))
}

export class OpenShards {
  readonly #options: OpenShardsOptions
  readonly #files: ShardFiles
  readonly #cache: ShardCache
  readonly #slots: Semaphore
  /** Latest repair of each shard content that was found damaged. */
  readonly #repairs = new Map<string, Promise<void>>()
  /** Contents that were opened from ranges, and whether they are being downloaded meanwhile. */
  readonly #ranged = new Map<string, "once" | "fetching">()
  readonly #fetches = new Set<Promise<void>>()
  readonly #ending = new AbortController()

  constructor(store: ObjectStore, options: OpenShardsOptions) {
    const { maxOpenShards, openShardBytes, idleSeconds, concurrency, queueTimeoutMs } = options
    this.#options = options
    this.#files = createShardFiles(store, options)
    this.#cache = createShardCache({
      maxOpen: maxOpenShards,
      maxBytes: openShardBytes,
      idleMs: idleSeconds && idleSeconds * 1000,
      waitMs: queueTimeoutMs,
    })
    this.#slots = createSemaphore(concurrency)
  }

  /**
   * Runs `work` with a shard, opened and before that downloaded if need be. Who is aborted leaves at once;
   * the place and the shard are given back when the work has really ended.
   */
  use<T>(
    state: SnapshotState,
    shard: number,
    work: (reader: ShardReader) => Promise<T>,
    signal: AbortSignal | undefined,
  ): Promise<T> {
    return abortable(
      this.#slots.run(() => this.#useRepaired(state, shard, work, signal), signal),
      signal,
    )
  }

  warm(state: SnapshotState, options: WarmOptions): Promise<WarmResult> {
    return warmShards(state, this.#files, this.#options.concurrency, options)
  }

  /** Closes the shards whose content is not among `contents`, as soon as they are not in use. */
  retain(contents: ReadonlySet<string>): void {
    this.#cache.retain(contents)
  }

  stats() {
    const { open, opens, bytes, waiting } = this.#cache
    const { downloads, problem } = this.#files
    return { open, opens, bytes, waiting, downloads, cacheProblem: problem }
  }

  /**
   * Waits for the shards that are in use; once `signal` has fired only for a moment more: a damaged one may
   * keep a search worker busy for ever.
   */
  async close(signal: AbortSignal): Promise<void> {
    this.#ending.abort()
    await Promise.all(this.#fetches)
    const drained = this.#cache.close()
    await abortable(drained, signal).catch(() => settledWithin(drained, ABORTED_MS))
    await this.#options.pools.leave()
    await this.#files.close()
  }

  /** Uses a shard; if its files are damaged, once more with files fresh from storage. */
  async #useRepaired<T>(
    state: SnapshotState,
    shard: number,
    work: (reader: ShardReader) => Promise<T>,
    signal: AbortSignal | undefined,
  ): Promise<T> {
    const key = state.contents.get(shard)!
    const repairBefore = this.#repairs.get(key)
    try {
      return await this.#useWithRoom(state, shard, work, signal)
    } catch (error) {
      if (!isVecsnapError(error, "Corrupt")) throw error
      this.#options.logger.warn({ err: error, shard }, "a shard is damaged: downloading it again")
    }
    // Of all who fail on the same copy, the first one drops it; the others must not drop what came in its
    // place.
    if (this.#repairs.get(key) === repairBefore) {
      this.#repairs.set(key, this.#drop(key, state.shards.get(shard)!))
    }
    await this.#repairs.get(key)
    return this.#useOpen(state, shard, work, signal)
  }

  /**
   * Uses a shard; if the disk is full or files run out, once more without the shards that are open for
   * nobody.
   */
  async #useWithRoom<T>(
    state: SnapshotState,
    shard: number,
    work: (reader: ShardReader) => Promise<T>,
    signal: AbortSignal | undefined,
  ): Promise<T> {
    try {
      return await this.#useOpen(state, shard, work, signal)
    } catch (error) {
      if (!isForRoom(error) || !(await this.#cache.closeIdle())) throw error
      this.#options.logger.warn(
        { err: error, shard },
        "there is no room for a shard: closed those that nobody uses",
      )
    }
    return this.#useOpen(state, shard, work, signal)
  }

  async #drop(key: string, entry: SnapshotShard): Promise<void> {
    // Files first: whoever opens them before they are gone is dropped as well.
    await this.#files.drop(entry).catch((error) => {
      this.#options.logger.warn(
        { err: error, shard: entry.shard },
        "a damaged shard could not be removed from the cache",
      )
    })
    this.#cache.discard(key)
  }

  #useOpen<T>(
    state: SnapshotState,
    shard: number,
    work: (reader: ShardReader) => Promise<T>,
    signal: AbortSignal | undefined,
  ): Promise<T> {
    const entry = state.shards.get(shard)!
    const opener = openerOf(state.snapshot)
    const pool = this.#options.pools.of(opener)
    const content = state.contents.get(shard)!
    this.#fetchIfUsedAgain(content, entry)
    const open = (source: ShardSource) =>
      this.#options.telemetry.open(shard, () => pool.open(source, state.spec, entry.index, entry.rows))
    return this.#cache.use(
      content,
      // Not the caller's signal but that of all who wait for the shard.
      (waiting) =>
        this.#files.openShard(entry, open, {
          signal: waiting,
          ranges: opener.traits.ranges,
          onRanges: () => this.#ranged.set(content, "once"),
        }),
      (reader) => {
        throwIfAborted(signal)
        return work(reader)
      },
      signal,
    )
  }

  /** Downloads a shard that was opened from ranges, when it is used again; its next use opens the copy. */
  #fetchIfUsedAgain(content: string, entry: SnapshotShard): void {
    if (this.#options.fetch === "ranges" || this.#ranged.get(content) !== "once") return
    this.#ranged.set(content, "fetching")
    const fetching = this.#files.fetch(entry, this.#ending.signal).then(
      () => {
        this.#ranged.delete(content)
        this.#cache.discard(content)
      },
      (error) => {
        this.#ranged.set(content, "once")
        if (this.#ending.signal.aborted) return
        this.#options.logger.warn({ err: error, shard: entry.shard }, "a shard could not be downloaded")
      },
    )
    this.#fetches.add(fetching)
    fetching.then(() => this.#fetches.delete(fetching))
  }
}
