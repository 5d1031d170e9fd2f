/**
 * Recall as users see it: some live queries are asked again over all rows, when nobody else asks, and the
 * answers compared.
 */
import { messageOf } from "../../errors.js"
import type { Logger } from "../../logger.js"

export interface AuditOptions {
  /** Share of the queries that are asked again, from 0 to 1. Default .001. */
  readonly share?: number | undefined
  /** As many an hour at least, where there are so many queries. Default 20; 0 for no such bound. */
  readonly minPerHour?: number | undefined
}

/** A live query and how it was answered. */
export interface AuditedQuery {
  /** Never changes. */
  readonly vector: ArrayLike<number>
  readonly k: number
  /** Run of the snapshot that has answered. */
  readonly snapshot: string
  /** Of its hits, in order. */
  readonly distances: readonly number[]
  /** The recall that was asked for; undefined if none was. */
  readonly target: number | undefined
}

/** Time and chance, which tests replace. */
export interface AuditClock {
  /** Rising, in milliseconds. */
  nowMs(): number
  /** At least 0, less than 1. */
  random(): number
  /**
   * Calls back once, after `ms`, without keeping the process alive. Returns a function that takes this back.
   */
  after(ms: number, callback: () => void): () => void
}

const SYSTEM_CLOCK: AuditClock = {
  nowMs: () => performance.now(),
  random: Math.random,
  after(ms, callback) {
    const timer = setTimeout(callback, ms).unref()
    return () => clearTimeout(timer)
  },
}

const DEFAULT_SHARE = 0.001
const DEFAULT_PER_HOUR = 20
const HOUR_MS = 3_600_000
/** Queries that wait to be asked again; others are dropped. */
const WAITING_MAX = 8
/** How long one waits for a moment in which nobody else asks. */
const PATIENCE_MS = 60_000
/** Share of the time that audits take at most. */
const BUDGET = 0.02
/** How often it is looked whether somebody asks. */
const LOOK_MS = 50

export interface AuditParts {
  readonly options: AuditOptions
  /** Whether nobody asks now. */
  readonly isIdle: () => boolean
  /** Asks a query again, and notes what comes of it. */
  readonly ask: (query: AuditedQuery, signal: AbortSignal) => Promise<void>
  readonly logger: Logger
  readonly clock?: AuditClock | undefined
}

export class Audit {
  readonly #share: number
  readonly #intervalMs: number
  readonly #parts: AuditParts
  readonly #clock: AuditClock
  readonly #closing = new AbortController()
  #waiting: { readonly query: AuditedQuery; readonly sinceMs: number }[] = []
  #running: Promise<void> | undefined
  #stopLooking: (() => void) | undefined
  /** From when on the next query is drawn, whatever chance says. */
  #dueMs: number
  /** Before that nothing is asked again. */
  #restedMs = 0
  /** Queries that were asked again. */
  audited = 0
  /** Queries that were drawn and not asked again: too many waited, or for too long, or it failed. */
  dropped = 0

  constructor(parts: AuditParts) {
    const { share = DEFAULT_SHARE, minPerHour = DEFAULT_PER_HOUR } = parts.options
    this.#parts = parts
    this.#clock = parts.clock ?? SYSTEM_CLOCK
    this.#share = share
    this.#intervalMs = HOUR_MS / minPerHour
    this.#dueMs = this.#clock.nowMs() + this.#intervalMs
  }

  /** Whether a query that was just answered is to be asked again. */
  draw(): boolean {
    if (this.#clock.nowMs() < this.#dueMs && this.#clock.random() >= this.#share) return false
    this.#dueMs = this.#clock.nowMs() + this.#intervalMs
    return true
  }

  /** Asks a query that was drawn again, in a while. */
  add(query: AuditedQuery): void {
    if (this.#closing.signal.aborted || this.#waiting.length >= WAITING_MAX) {
      this.dropped++
      return
    }
    this.#waiting.push({ query, sinceMs: this.#clock.nowMs() })
    this.#lookLater()
  }

  /** Stops what runs, and resolves when it has ended. Idempotent. */
  async close(): Promise<void> {
    this.#closing.abort()
    this.#stopLooking?.()
    this.#waiting = []
    await this.#running
  }

  #lookLater(): void {
    if (this.#stopLooking !== undefined || this.#running !== undefined || this.#waiting.length === 0) return
    const restMs = this.#restedMs - this.#clock.nowMs()
    this.#stopLooking = this.#clock.after(Math.max(LOOK_MS, restMs), () => {
      this.#stopLooking = undefined
      this.#look()
    })
  }

  #look(): void {
    if (this.#closing.signal.aborted) return
    const since = this.#clock.nowMs() - PATIENCE_MS
    const patient = this.#waiting.filter(({ sinceMs }) => sinceMs >= since)
    this.dropped += this.#waiting.length - patient.length
    this.#waiting = patient
    if (patient.length > 0 && this.#parts.isIdle()) {
      this.#running = this.#run(this.#waiting.shift()!.query).finally(() => {
        this.#running = undefined
        this.#lookLater()
      })
    } else this.#lookLater()
  }

  async #run(query: AuditedQuery): Promise<void> {
    const startMs = this.#clock.nowMs()
    try {
      await this.#parts.ask(query, this.#closing.signal)
      this.audited++
    } catch (error) {
      this.dropped++
      if (!this.#closing.signal.aborted)
        this.#parts.logger.warn({ err: error }, `a query could not be asked again: ${messageOf(error)}`)
    }
    const endMs = this.#clock.nowMs()
    this.#restedMs = endMs + (endMs - startMs) * (1 / BUDGET - 1)
  }
}
