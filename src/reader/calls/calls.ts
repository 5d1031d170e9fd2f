/**
 * The calls of a reader: each runs within its bounds, in its turn, on the state that is current then, and
 * once more on a newer one if files of its snapshot are gone.
 */
import { abortable } from "../../async/abortable.js"
import { closed, isVecsnapError, messageOf, throwIfAborted } from "../../errors.js"
import type { Logger } from "../../logger.js"
import type { Follower } from "../follow/follower.js"
import type { HeldState, HeldStates } from "../held.js"
import { createRecentCalls, outcomeOf } from "../report/health.js"
import { type AdmissionSettings, createAdmission } from "./admission.js"
import { createCallScope } from "./call-scope.js"

/** What ends a call before its work has ended. */
export interface CallBounds {
  readonly signal?: AbortSignal | undefined
  readonly timeoutMs?: number | undefined
}

/**
 * Work of a call on one state. With `failOnMissing`, files that storage does not have must fail it with
 * `NotFound`.
 */
export type StateWork<T> = (held: HeldState, signal: AbortSignal, failOnMissing: boolean) => Promise<T>

export interface CallsOptions {
  readonly admission: AdmissionSettings
  /** Time limit of calls that give none of their own. */
  readonly timeoutMs: number | undefined
  readonly logger: Logger
}

export class Calls {
  readonly #states: HeldStates
  readonly #follower: Pick<Follower, "pinned" | "refresh">
  readonly #options: CallsOptions
  readonly #pinned: boolean
  readonly #running = new Set<Promise<unknown>>()
  readonly #endOfCalls = new AbortController()
  readonly admission
  readonly recent = createRecentCalls()
  #ended = false

  constructor(states: HeldStates, follower: Pick<Follower, "pinned" | "refresh">, options: CallsOptions) {
    this.#states = states
    this.#follower = follower
    this.#options = options
    this.#pinned = follower.pinned
    this.admission = createAdmission(options.admission)
  }

  /** Runs a call named `what` in its turn. How it went is remembered for `health`. */
  async run<T>(what: string, { signal, timeoutMs }: CallBounds, work: StateWork<T>): Promise<T> {
    try {
      const result = await this.bounded(
        what,
        { signal, timeoutMs: timeoutMs ?? this.#options.timeoutMs },
        (bound) => this.admission.run(() => this.#answer(bound, work), bound),
      )
      this.recent.note("answered")
      return result
    } catch (error) {
      const outcome = outcomeOf(error)
      if (outcome !== undefined) this.recent.note(outcome, messageOf(error))
      throw error
    }
  }

  /**
   * Runs `work` at once, until the caller, the time limit or the end of the calls ends it; {@link end} waits
   * for it. What it has begun has ended when it resolves, not so when it rejects: the signal fires then.
   */
  async bounded<T>(what: string, bounds: CallBounds, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
    this.assertOpen()
    const scope = createCallScope({ what, ...bounds, closing: this.#endOfCalls.signal })
    const running = work(scope.signal)
    this.#running.add(running)
    let complete = false
    try {
      const result = await running
      complete = true
      return result
    } catch (cause) {
      throw scope.explain(cause)
    } finally {
      scope.end(complete)
      this.#running.delete(running)
    }
  }

  /**
   * Runs `work`, and once more after a refresh if files of its snapshot are gone: then they were collected.
   */
  async #answer<T>(signal: AbortSignal, work: StateWork<T>): Promise<T> {
    try {
      return await this.#states.use((held) => work(held, signal, !this.#pinned))
    } catch (error) {
      if (this.#pinned || !isVecsnapError(error, "NotFound")) throw error
      this.#options.logger.warn({ err: error }, "files of the snapshot are gone: looking for another one")
    }
    // A refresh that fails is reported by itself; then the old snapshot answers what it can.
    await abortable(this.#refresh(), signal).catch(() => throwIfAborted(signal))
    return this.#states.use((held) => work(held, signal, false))
  }

  async #refresh(): Promise<unknown> {
    this.assertOpen()
    return this.#follower.refresh()
  }

  /** Whether no call may begin any more. */
  get ended(): boolean {
    return this.#ended
  }

  assertOpen(): void {
    if (this.#ended) throw closed("this reader is closed")
  }

  /** From now on no call begins. */
  end(): void {
    this.#ended = true
  }

  /** Fires when what runs is to stop. */
  get aborted(): AbortSignal {
    return this.#endOfCalls.signal
  }

  /** Stops what runs. */
  abort(): void {
    this.#endOfCalls.abort()
  }

  /** Resolves when what ran at the end has ended. */
  async settled(): Promise<void> {
    // No call begins any more, so that this set only shrinks.
    await Promise.allSettled(this.#running)
  }
}
