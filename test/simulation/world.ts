/**
 * Virtual time, the actors that live in it, and what happens next: all that a seed decides.
 *
 * A discrete-event simulation: whatever an actor waits for (a request to arrive at the store, a timer) has the moment at
 * which it happens, the earliest comes next, and time jumps there. Actors race because these moments are random. Between two
 * events everything that is ready to run runs to its end, so nothing depends on the machine.
 */
import crypto from "node:crypto"
import { syncBuiltinESMExports } from "node:module"
import type { RetryClock } from "../../src/storage/retry.js"
import { seededRandom } from "../support/records.js"

const START_MS = Date.UTC(2026, 10, 21, 3)

/** A hundred times what a schedule takes: somebody goes round and round. */
const MOST_STEPS = 50_000

/** A process: what crashes, stalls, and has a clock that may be wrong, as one. */
export interface Actor {
  readonly name: string
  /** Its own clock minus the store's. */
  readonly skewMs: number
  /** Its requests take up to so long. */
  readonly latencyMs: number
  crashed: boolean
  stalledUntilMs: number
  /** Counts what it tried to publish, so that a write of the pointer is told apart from an earlier one. */
  publishCall: number
  stalls: number
}

interface Waiting {
  readonly atMs: number
  readonly actor: Actor | undefined
  readonly happen: () => void
}

/** Chance, by one seed. */
export class Chance {
  readonly #random: () => number

  constructor(seed: number) {
    this.#random = seededRandom(seed)
  }

  readonly number = (): number => this.#random()
  below = (limit: number): number => Math.floor(this.#random() * limit)
  happens = (probability: number): boolean => this.#random() < probability
  pick = <T>(items: readonly T[]): T => items[this.below(items.length)]!
  /** Between the limits, every order of magnitude as likely as the next. */
  magnitude = (least: number, most: number): number => least * (most / least) ** this.#random()
}

export class World {
  readonly chance: Chance
  nowMs = START_MS
  steps = 0
  crashes = 0
  /** The actor that runs at this moment: its clock is the one that `Date` shows. */
  current: Actor | undefined
  readonly #waiting = new Set<Waiting>()
  readonly #trace: ((line: string) => void) | undefined

  constructor(seed: number, trace?: (line: string) => void) {
    this.chance = new Chance(seed)
    this.#trace = trace
  }

  log(actor: Actor | undefined, what: () => string): void {
    this.#trace?.(
      `${((this.nowMs - START_MS) / 1000).toFixed(3).padStart(10)} ${(actor?.name ?? "").padEnd(12)} ${what()}`,
    )
  }

  /** Lets something happen after `ms`, unless the actor crashes before; not before it goes on, if it stalls. */
  after(ms: number, actor: Actor | undefined, happen: () => void): () => void {
    const waiting = { atMs: this.nowMs + ms, actor, happen }
    this.#waiting.add(waiting)
    return () => this.#waiting.delete(waiting)
  }

  sleep(actor: Actor, ms: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason)
      const cancel = this.after(ms, actor, () => {
        signal?.removeEventListener("abort", onAbort)
        resolve()
      })
      const onAbort = (): void => {
        cancel()
        reject(signal?.reason)
      }
      signal?.addEventListener("abort", onAbort, { once: true })
    })
  }

  /** The clock of an actor's process, in the forms that the protocol takes. */
  clockOf(actor: Actor): RetryClock & { date(): Date } {
    return {
      now: () => this.nowMs + actor.skewMs,
      sleep: (ms, signal) => this.sleep(actor, ms, signal),
      random: this.chance.number,
      date: () => new Date(this.nowMs + actor.skewMs),
    }
  }

  /** The process is gone: whatever it waits for never happens, and what it has sent may or may not have arrived. */
  crash(actor: Actor): void {
    actor.crashed = true
    this.crashes++
    for (const waiting of this.#waiting) if (waiting.actor === actor) this.#waiting.delete(waiting)
  }

  /** Lets things happen until nothing is left to happen, or for `ms`. `afterStep` runs after each. */
  async run(afterStep: () => void, ms = Number.POSITIVE_INFINITY): Promise<void> {
    const endMs = this.nowMs + ms
    for (;;) {
      const next = this.#next()
      if (next === undefined || momentOf(next) > endMs) break
      this.#waiting.delete(next)
      this.nowMs = Math.max(this.nowMs, momentOf(next))
      this.current = next.actor
      if (++this.steps > MOST_STEPS) throw new Error(`the schedule does not end within ${MOST_STEPS} steps`)
      next.happen()
      // Promises that are settled run on before an immediate does.
      await new Promise((resolve) => setImmediate(resolve))
      afterStep()
    }
    this.current = undefined
    if (Number.isFinite(endMs)) this.nowMs = endMs
  }

  #next(): Waiting | undefined {
    let next: Waiting | undefined
    for (const waiting of this.#waiting) {
      if (next === undefined || momentOf(waiting) < momentOf(next)) next = waiting
    }
    return next
  }
}

const momentOf = ({ atMs, actor }: Waiting): number => Math.max(atMs, actor?.stalledUntilMs ?? 0)

/**
 * Runs `work` with the ids of `newId` and the time of `Date` taken from the world, each actor with its own clock. So the
 * protocol's code is run as it is, and where it asked the wrong clock, it would show.
 */
export async function insideWorld<T>(world: World, work: () => Promise<T>): Promise<T> {
  const RealDate = globalThis.Date
  const realRandomInt = crypto.randomInt
  const actorsNow = (): number => world.nowMs + (world.current?.skewMs ?? 0)
  const WorldDate = class extends RealDate {
    constructor(...args: readonly [] | readonly [string | number | Date]) {
      super(...((args.length === 0 ? [actorsNow()] : args) as [number]))
    }
    static override now(): number {
      return actorsNow()
    }
  }
  globalThis.Date = WorldDate as DateConstructor
  crypto.randomInt = ((limit: number) => world.chance.below(limit)) as typeof crypto.randomInt
  syncBuiltinESMExports()
  try {
    return await work()
  } finally {
    globalThis.Date = RealDate
    crypto.randomInt = realRandomInt
    syncBuiltinESMExports()
  }
}
