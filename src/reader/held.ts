/**
 * The states of a reader: the current one, one that is being made ready, and older ones that calls still use.
 * Each remembers for itself what it was asked, so that nothing of one snapshot is told of another.
 */
import { messageOf } from "../errors.js"
import { createRecentQueries, type FailingShard, outcomeOf } from "./report/health.js"
import type { UseShard } from "./search.js"
import type { OpenShards } from "./shards/open-shards.js"
import type { SnapshotState } from "./state.js"

/** A state in use, with what calls have learnt of it. */
export class HeldState {
  readonly state: SnapshotState
  readonly #shards: Pick<OpenShards, "use">
  /** Calls that use it. */
  users = 0
  /** Numbers of the shards used, latest last. */
  readonly recentShards = new Set<number>()
  /** Shards that failed when they were last asked. */
  readonly failingShards = new Map<number, FailingShard>()
  readonly recentQueries = createRecentQueries()

  constructor(state: SnapshotState, shards: Pick<OpenShards, "use">) {
    this.state = state
    this.#shards = shards
  }

  /** Runs work of a call with one of the shards, and remembers how that went. */
  readonly useShard: UseShard = async (shard, work, signal) => {
    this.recentShards.delete(shard)
    this.recentShards.add(shard)
    try {
      const result = await this.#shards.use(this.state, shard, work, signal)
      this.failingShards.delete(shard)
      return result
    } catch (error) {
      if (outcomeOf(error) === "failed") {
        this.failingShards.set(shard, { reason: messageOf(error), atMs: Date.now() })
      }
      throw error
    }
  }
}

export class HeldStates {
  readonly #shards: Pick<OpenShards, "use" | "retain">
  readonly #forget: (state: SnapshotState) => void
  readonly #held = new Set<HeldState>()
  #current: HeldState | undefined

  /** @param forget is told of each state that nothing uses any more, once it has been replaced */
  constructor(shards: Pick<OpenShards, "use" | "retain">, forget: (state: SnapshotState) => void) {
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
