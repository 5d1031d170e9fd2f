/**
 * The shards of a reader, from storage to open handles: bounded in how many are in work, shared through the
 * caches, and fetched again from storage when a local copy is damaged.
 */

import { abortable } from "../../async/abortable.js"
import { createSemaphore, type Semaphore } from "../../async/semaphore.js"
import { settledWithin } from "../../async/settled-within.js"
import { isVecsnapError, throwIfAborted } from "../../errors.js"
import type { Logger } from "../../logger.js"
import type { ShardAnswer, ShardPool, ShardReader } from "../../shards/backend.js"
import type { ShardQuery } from "../../shards/query.js"
import { openerOf } from "../../shards/registry.js"
import type { ShardSource } from "../../shards/source.js"
import { type SnapshotShard, shardBytes } from "../../snapshot/snapshot.js"
import { errorCode } from "../../storage/files.js"
import type { ObjectStore } from "../../storage/store.js"
import type { PoolShare } from "../reader-pool.js"
import type { Telemetry } from "../report/telemetry.js"
import type { SnapshotState } from "../state.js"
import { createShardCache, type OpenedShard, type ShardCache } from "./shard-cache.js"
import { createShardFiles, type ShardFiles, type ShardFilesOptions } from "./shard-files.js"
import { type WarmOptions, type WarmResult, warmShards } from "./warm.js"

/** How long shards may take to be given back by calls that were aborted. */
const ABORTED_MS = 2000

export interface OpenShardsOptions extends ShardFilesOptions {
  readonly maxOpenShards: number
  readonly openShardBytes?: number | undefined
  readonly idleSeconds?: number | undefined
  /** Shards downloaded or opened at a time. */
  readonly concurrency: number
  /** How long a search waits for a place among the open shards. */
  readonly queueTimeoutMs: number
  /** Left when the shards are closed. */
  readonly pools: PoolShare
  readonly logger: Logger
  readonly telemetry: Pick<Telemetry, "open" | "download">
}

/** A query, the shards that it goes to, and what these answer. */
export interface Question {
  readonly query: ShardQuery
  /** Numbers, none twice. */
  readonly shards: readonly number[]
  /** Of each shard, as far as it has answered. */
  answers: (ShardAnswer | undefined)[]
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
  readonly #openings: Semaphore
  /** Latest repair of each shard content that was found damaged. */
  readonly #repairs = new Map<string, { readonly number: number; readonly done: Promise<void> }>()
  #repairsBegun = 0
  /** Contents that were opened from ranges, and whether they are being downloaded meanwhile. */
  readonly #ranged = new Map<string, "once" | "fetching">()
  readonly #fetches = new Set<Promise<void>>()
  /** Contents that are being opened ahead of time. */
  readonly #prepared = new Set<string>()
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
    this.#openings = createSemaphore(concurrency)
  }

  /**
   * Runs `work` with a shard, opened and before that downloaded if need be. Who is aborted leaves at once;
   * the shard is given back when the work has really ended.
   */
  use<T>(
    state: SnapshotState,
    shard: number,
    work: (reader: ShardReader) => Promise<T>,
    signal: AbortSignal | undefined,
  ): Promise<T> {
    return abortable(this.#useRepaired(state, shard, work, signal), signal)
  }

  /**
   * Opens a shard that will be used soon, from a copy that is downloaded if need be: nobody waits for it, so
   * that there is nothing to be gained by reading it in ranges.
   */
  async prepare(state: SnapshotState, shard: number, signal: AbortSignal | undefined): Promise<void> {
    const content = state.contents.get(shard)!
    this.#prepared.add(content)
    try {
      await this.use(state, shard, async () => {}, signal)
    } finally {
      this.#prepared.delete(content)
    }
  }

  /**
   * Asks queries of their shards: each query all of its shards at once, unless these are more than may be
   * open. Answers go into the questions. Throws for what is wrong with all of them; with `strict` also what
   * is wrong with one shard, as soon as it is known.
   */
  async ask(
    state: SnapshotState,
    questions: readonly Question[],
    signal: AbortSignal | undefined,
    strict: boolean,
  ): Promise<void> {
    const asked = questions.length === 1 ? questions[0]!.shards : allShardsOf(questions)
    const { maxOpenShards } = this.#options
    if (asked.length <= maxOpenShards) return this.#askRepaired(state, questions, asked, signal, strict)
    for (let first = 0; first < asked.length; first += maxOpenShards) {
      const part = asked.slice(first, first + maxOpenShards)
      await this.#askRepaired(state, questions, part, signal, strict)
    }
  }

  /** Whether a shard is open, or being opened. */
  isOpen(state: SnapshotState, shard: number): boolean {
    return this.#cache.has(state.contents.get(shard)!)
  }

  /** Closes a shard as soon as nobody uses it, for who was the only one to need it. */
  letGo(state: SnapshotState, shard: number): void {
    this.#cache.discard(state.contents.get(shard)!)
  }

  /** Whether all shards can lie on the disk together. */
  async fits(state: SnapshotState): Promise<boolean> {
    let bytes = 0
    for (const entry of state.shards.values()) bytes += shardBytes(entry)
    return bytes <= (await this.#files.maxBytes())
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
    const since = this.#repairsBegun
    try {
      return await this.#useWithRoom(state, shard, work, signal)
    } catch (error) {
      if (!isVecsnapError(error, "Corrupt")) throw error
      await this.#repair(state, shard, error, since)
    }
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
      if (!isForRoom(error) || !(await this.#makeRoom(shard, error))) throw error
    }
    return this.#useOpen(state, shard, work, signal)
  }

  #useOpen<T>(
    state: SnapshotState,
    shard: number,
    work: (reader: ShardReader) => Promise<T>,
    signal: AbortSignal | undefined,
  ): Promise<T> {
    const content = state.contents.get(shard)!
    this.#fetchIfUsedAgain(content, state.shards.get(shard)!)
    return this.#cache.use(
      content,
      (waiting) => this.#open(state, shard, waiting),
      (reader) => {
        throwIfAborted(signal)
        return work(reader)
      },
      signal,
    )
  }

  /** {@link #useRepaired} and {@link #useWithRoom}, for shards that are asked together. */
  async #askRepaired(
    state: SnapshotState,
    questions: readonly Question[],
    shards: readonly number[],
    signal: AbortSignal | undefined,
    strict: boolean,
  ): Promise<void> {
    const since = this.#repairsBegun
    const isFinal = (error: unknown): boolean =>
      strict && !isForRoom(error) && !isVecsnapError(error, "Corrupt")
    await this.#askOpen(state, questions, shards, signal, isFinal)
    let failed = failuresOf(questions, shards)
    if (failed === undefined) return

    const noRoom = [...failed].filter(([, error]) => isForRoom(error))
    if (noRoom.length > 0 && (await this.#makeRoom(...noRoom[0]!))) {
      const again = noRoom.map(([shard]) => shard)
      await this.#askOpen(state, questions, again, signal, isFinal)
      failed = failuresOf(questions, shards) ?? new Map<number, unknown>()
    }
    const damaged = [...failed].filter(([, error]) => isVecsnapError(error, "Corrupt"))
    if (damaged.length > 0) {
      await Promise.all(damaged.map(([shard, error]) => this.#repair(state, shard, error, since)))
      const again = damaged.map(([shard]) => shard)
      await this.#askOpen(state, questions, again, signal, isFinal)
      failed = failuresOf(questions, shards) ?? new Map<number, unknown>()
    }
    if (strict) for (const [, error] of failed) throw error
  }

  /**
   * Asks those of `shards` that have not answered a question yet. What they answer later than others still
   * merges with these: nobody leaves out hits for one that has failed.
   */
  async #askOpen(
    state: SnapshotState,
    questions: readonly Question[],
    shards: readonly number[],
    signal: AbortSignal | undefined,
    isFinal: (error: unknown) => boolean,
  ): Promise<void> {
    const pool = this.#options.pools.of(openerOf(state.snapshot))
    const all = shards.map((shard) => state.contents.get(shard)!)
    // Shards of equal content are open once.
    const keys = state.sharesContent ? [...new Set(all)] : all
    if (this.#ranged.size > 0)
      for (const [place, content] of all.entries())
        this.#fetchIfUsedAgain(content, state.shards.get(shards[place]!)!)
    const holding = this.#cache.hold(
      keys,
      (place, waiting) => {
        const shard = shards.find((shard) => state.contents.get(shard) === keys[place])!
        return this.#open(state, shard, waiting)
      },
      signal,
    )
    const held = holding instanceof Promise ? await holding : holding
    try {
      throwIfAborted(signal)
      const { readers } = held
      const [question] = questions
      if (readers !== undefined && questions.length === 1 && keys.length === question!.shards.length) {
        // By far the most frequent case, and the one that has to be fast.
        question!.answers = [...(await pool.search(readers, question!.query))]
        return
      }
      const byKey = new Map<string, ShardReader>()
      const opening = held.openings.map(async (opening, place) => {
        const key = keys[place]!
        try {
          byKey.set(key, await opening)
        } catch (error) {
          for (const shard of shards)
            if (state.contents.get(shard) === key) noteFailure(questions, shard, error)
          if (isFinal(error)) throw error
        }
      })
      await abortable(Promise.all(opening), signal)
      throwIfAborted(signal)
      const byShard = new Map<number, ShardReader>()
      for (const shard of shards) {
        const reader = byKey.get(state.contents.get(shard)!)
        if (reader !== undefined) byShard.set(shard, reader)
      }
      await Promise.all(questions.map((question) => askOne(pool, question, byShard)))
    } finally {
      held.release()
    }
  }

  /** Closes what is open for nobody. Returns whether there was any. */
  async #makeRoom(shard: number, error: unknown): Promise<boolean> {
    if (!(await this.#cache.closeIdle())) return false
    const message = "there is no room for a shard: closed those that nobody uses"
    this.#options.logger.warn({ err: error, shard }, message)
    return true
  }

  /** @param since how many repairs had begun when the damaged copy was asked for */
  async #repair(state: SnapshotState, shard: number, error: unknown, since: number): Promise<void> {
    this.#options.logger.warn({ err: error, shard }, "a shard is damaged: downloading it again")
    const key = state.contents.get(shard)!
    const latest = this.#repairs.get(key)
    // Of all who fail on the same copy, the first one drops it; the others must not drop what came in its
    // place.
    if (latest !== undefined && latest.number > since) return latest.done
    const done = this.#drop(key, state.shards.get(shard)!)
    this.#repairs.set(key, { number: ++this.#repairsBegun, done })
    return done
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

  /** @param waiting not the signal of one caller but that of all who wait for the shard */
  #open(state: SnapshotState, shard: number, waiting: AbortSignal): Promise<OpenedShard> {
    const entry = state.shards.get(shard)!
    const opener = openerOf(state.snapshot)
    const pool = this.#options.pools.of(opener)
    const content = state.contents.get(shard)!
    const open = (source: ShardSource) =>
      this.#options.telemetry.open(shard, () => pool.open(source, state.spec, entry.index, entry.rows))
    return this.#openings.run(
      () =>
        this.#files.openShard(entry, open, {
          signal: waiting,
          ranges: opener.traits.ranges && !this.#prepared.has(content),
          onRanges: (isRanged) => {
            if (isRanged) this.#ranged.set(content, "once")
            else this.#ranged.delete(content)
          },
        }),
      waiting,
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

/** All that are asked, each once. */
const allShardsOf = (questions: readonly Question[]): readonly number[] => [
  ...new Set(questions.flatMap(({ shards }) => shards)),
]

/** Shards that have failed a question, with what the first of these heard; undefined if there is none. */
function failuresOf(
  questions: readonly Question[],
  shards: readonly number[],
): Map<number, unknown> | undefined {
  let failures: Map<number, unknown> | undefined
  for (const { shards: asked, answers } of questions) {
    for (let place = 0; place < answers.length; place++) {
      const answer = answers[place]
      if (answer === undefined || !("error" in answer)) continue
      const shard = asked[place]!
      if (!shards.includes(shard)) continue
      failures ??= new Map()
      if (!failures.has(shard)) failures.set(shard, answer.error)
    }
  }
  return failures
}

/** One of the shards could not be opened. */
function noteFailure(questions: readonly Question[], shard: number, error: unknown): void {
  for (const { shards, answers } of questions) {
    const place = shards.indexOf(shard)
    if (place >= 0) answers[place] = { error }
  }
}

/** Asks those of a question's shards that are open and have not answered it yet. */
async function askOne(
  pool: ShardPool,
  { query, shards, answers }: Question,
  open: ReadonlyMap<number, ShardReader>,
): Promise<void> {
  const places: number[] = []
  const readers = new Set<ShardReader>()
  for (const [place, shard] of shards.entries()) {
    const reader = open.get(shard)
    const known = answers[place]
    if (reader === undefined || (known !== undefined && "hits" in known)) continue
    places.push(place)
    readers.add(reader)
  }
  if (places.length === 0) return
  const asked = [...readers]
  const found = await pool.search(asked, query)
  const byReader = new Map(asked.map((reader, i) => [reader, found[i]!]))
  for (const place of places) answers[place] = byReader.get(open.get(shards[place]!)!)
}
