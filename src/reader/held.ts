/**
 * The states of a reader: the current one, one that is being made ready, and older ones that calls still use.
 * Each remembers for itself what it was asked, so that nothing of one snapshot is told of another.
 */
import { messageOf } from "../errors.js"
import type { ShardReader } from "../shards/backend.js"
import { createRecentQueries, type FailingShard, outcomeOf } from "./report/health.js"
import { createRecallNotes } from "./report/observed-recall.js"
import type { OpenShards, Question } from "./shards/open-shards.js"
import type { SnapshotState } from "./state.js"

/** Runs `work` with an open shard of a state, within the reader's bounds on open shards. */
export type UseShard = <T>(
  shard: number,
  work: (reader: ShardReader) => Promise<T>,
  signal: AbortSignal | undefined,
) => Promise<T>

/** Asks shards of a state; see `ask` of {@link OpenShards}. */
export type AskShards = (
  questions: readonly Question[],
  signal: AbortSignal | undefined,
  strict: boolean,
) => Promise<void>

/** A state in use, with what calls have learnt of it. */
export class HeldState {
  readonly state: SnapshotState
  readonly #shards: Pick<OpenShards, "use" | "ask">
  /** Calls that use it. */
  users = 0
  readonly recentShards = new RecentShards()
  /** Shards that failed when they were last asked. */
  readonly failingShards = new Map<number, FailingShard>()
  readonly recentQueries = createRecentQueries()
  /** Of queries that were asked again. */
  readonly observedRecall = createRecallNotes()

  constructor(state: SnapshotState, shards: Pick<OpenShards, "use" | "ask">) {
    this.state = state
    this.#shards = shards
  }

  /** Runs work of a call with one of the shards, and remembers how that went. */
  readonly useShard: UseShard = async (shard, work, signal) => {
    this.recentShards.add(shard)
    try {
      const result = await this.#shards.use(this.state, shard, work, signal)
      this.failingShards.delete(shard)
      return result
    } catch (error) {
      this.#noteFailure(shard, error)
      throw error
    }
  }

  /** Asks questions of the shards, and remembers how that went. */
  readonly askShards: AskShards = async (questions, signal, strict) => {
    for (const { shards } of questions) for (const shard of shards) this.recentShards.add(shard)
    try {
      await this.#shards.ask(this.state, questions, signal, strict)
    } finally {
      for (const { shards, answers } of questions) {
        for (let place = 0; place < answers.length; place++) {
          const answer = answers[place]
          if (answer === undefined) continue
          if ("error" in answer) this.#noteFailure(shards[place]!, answer.error)
          else if (this.failingShards.size > 0) this.failingShards.delete(shards[place]!)
        }
      }
    }
  }

  #noteFailure(shard: number, error: unknown): void {
    if (outcomeOf(error) === "failed") {
      this.failingShards.set(shard, { reason: messageOf(error), atMs: Date.now() })
    }
  }
}

/** Numbers of the shards used, latest last. */
class RecentShards implements Iterable<number> {
  /** Of each shard when it was used last, counted in uses: cheaper than to keep them in order. */
  readonly #uses = new Map<number, number>()
  #count = 0

  add(shard: number): this {
    this.#uses.set(shard, this.#count++)
    return this
  }

  *[Symbol.iterator](): Iterator<number> {
    for (const [shard] of [...this.#uses].sort(([, a], [, b]) => a - b)) yield shard
  }
}

export class HeldStates {
  readonly #shards: Pick<OpenShards, "use" | "ask" | "retain">
  readonly #forget: (state: SnapshotState) => void
  readonly #held = new Set<HeldState>()
  #current: HeldState | undefined

  /** @param forget is told of each state that nothing uses any more, once it has been replaced */
  constructor(shards: Pick<OpenShards, "use" | "ask" | "retain">, forget: (state: SnapshotState) => void) {
    this.#shards = shards
    this.#forget = forget
  }

  /** The state that answers calls which begin now; `undefined` until the first one is loaded. */
  get current(): HeldState | undefined {
    return this.#current
  }

  /** Makes the first state current. */
  begin(state: SnapshotState): void {
    this.#current = new HeldState(state, this.#shards)
    this.#held.add(this.#current)
  }

  /** Runs `work` on the current state, which stays until the work has ended. */
  async use<T>(work: (held: HeldState) => Promise<T>): Promise<T> {
    const held = this.#current!
    held.users++
    try {
      return await work(held)
    } finally {
      this.#leave(held)
    }
  }

  /**
   * The swap: calls that begin after `prepare` use `state`. It is held while it is prepared, so that shards
   * opened for it are kept; if that fails, all stays as it was.
   */
  async replace(state: SnapshotState, prepare: () => Promise<void>): Promise<void> {
    const next = new HeldState(state, this.#shards)
    next.users++
    this.#held.add(next)
    try {
      await prepare()
      const previous = this.#current!
      for (const shard of previous.recentShards) next.recentShards.add(shard)
      this.#current = next
      if (previous.users === 0) this.#drop(previous)
    } finally {
      this.#leave(next)
    }
  }

  #leave(held: HeldState): void {
    held.users--
    if (held.users === 0 && held !== this.#current) this.#drop(held)
  }

  /** Forgets a state that nothing uses any more, and closes the shards that no other state has. */
  #drop(held: HeldState): void {
    this.#held.delete(held)
    this.#forget(held.state)
    this.#shards.retain(new Set(Array.from(this.#held, ({ state }) => [...state.contents.values()]).flat()))
  }
}
