/**
 * The lease of a reader: says below `readers/` which snapshots are open, again and again, so that no
 * collection removes them. Off unless asked for.
 */
import { hostname } from "node:os"
import { invalidInput, messageOf } from "../../errors.js"
import type { Logger } from "../../logger.js"
import { beingRemoved } from "../../manifest/current.js"
import { readRootPointer } from "../../manifest/formats.js"
import { newId, readerKey } from "../../manifest/keys.js"
import { encodeReaderLease, MAX_LEASE_SECONDS } from "../../manifest/reader-lease.js"
import type { ObjectStore } from "../../storage/store.js"
import type { OpenOptions } from "../types.js"

const DEFAULT_LEASE_SECONDS = 300
/** The lease is renewed so many times before it would end, so that a few failures do no harm. */
const BEATS_PER_LEASE = 4
/** For removing the lease on close; if that takes longer, it lapses by itself. */
const END_TIMEOUT_MS = 10_000

export interface SnapshotLease {
  /**
   * Adds a snapshot to those that are protected, and makes sure that it was not too late. Call it before the
   * manifest is read.
   *
   * Throws `NotFound` if a collection is removing the snapshot, and what the store throws if the lease can't
   * be written.
   */
  protect(run: string, signal: AbortSignal | undefined): Promise<void>
  /** Takes back one `protect`, with the next renewal. */
  release(run: string): void
  /** A sentence if the lease is over, because it could not be renewed. */
  over(): string | undefined
  /** Removes the lease. Best effort. */
  end(): Promise<void>
}

/** Time, which tests replace. */
export interface LeaseClock {
  nowMs(): number
  /** Calls back every `ms`, without keeping the process alive. Returns a function that stops it. */
  every(ms: number, callback: () => void): () => void
}

const SYSTEM_CLOCK: LeaseClock = {
  // Goes on while the machine sleeps, unlike the monotonic one.
  nowMs: Date.now,
  every(ms, callback) {
    const timer = setInterval(callback, ms).unref()
    return () => clearInterval(timer)
  },
}

/** Throws `InvalidInput` for a bad option. Writes nothing before the first `protect`. */
export function createSnapshotLease(
  store: ObjectStore,
  option: OpenOptions["lease"],
  logger: Logger,
  clock: LeaseClock = SYSTEM_CLOCK,
): SnapshotLease | undefined {
  if (option === undefined || option === false) return undefined
  const leaseSeconds = option === true ? DEFAULT_LEASE_SECONDS : option.seconds
  if (!(leaseSeconds >= 1 && leaseSeconds <= MAX_LEASE_SECONDS)) {
    throw invalidInput(
      `option lease.seconds is ${leaseSeconds}, expected a number from 1 to ${MAX_LEASE_SECONDS}`,
      { seconds: leaseSeconds },
    )
  }
  const key = readerKey(newId())
  const facts = { leaseSeconds, host: hostname(), pid: process.pid }
  /** How often each run is protected: a snapshot may be open twice while refreshes go back and forth. */
  const uses = new Map<string, number>()
  let writtenAtMs: number | undefined
  let lastError = ""
  let stopBeat: (() => void) | undefined
  let ended = false

  // One write at a time, in order, each of what is open by then.
  let last: Promise<unknown> = Promise.resolve()
  function write(signal?: AbortSignal): Promise<void> {
    const result = last.then(async () => {
      if (ended) return
      // From before the write: the store's clock may already have been ahead of the reply.
      const startedAtMs = clock.nowMs()
      const body = encodeReaderLease({ runs: [...uses.keys()], ...facts })
      await store.put(key, body, { contentType: "application/json", signal })
      writtenAtMs = startedAtMs
    })
    last = result.catch(() => {})
    return result
  }

  function beat(): void {
    write().catch((error) => {
      lastError = messageOf(error)
      logger.warn({ lease: key, error: lastError }, "the lease of the reader was not renewed")
    })
  }

  function release(run: string): void {
    const left = uses.get(run)! - 1
    if (left === 0) uses.delete(run)
    else uses.set(run, left)
  }

  return {
    async protect(run, signal) {
      uses.set(run, (uses.get(run) ?? 0) + 1)
      try {
        await write(signal)
        // A collection condemns first and looks for leases then: either it sees this one, or we see that it
        // has begun.
        const live = await readRootPointer(store, { signal })
        if (live?.condemned.includes(run)) throw beingRemoved(store, run)
      } catch (error) {
        release(run)
        throw error
      }
      stopBeat ??= clock.every((leaseSeconds * 1000) / BEATS_PER_LEASE, beat)
    },
    release,
    over() {
      if (writtenAtMs === undefined || clock.nowMs() - writtenAtMs <= leaseSeconds * 1000) return undefined
      const why = lastError === "" ? "" : `: ${lastError}`
      return `the lease of this reader is over, since it was not renewed for ${leaseSeconds} s${why}`
    },
    async end() {
      stopBeat?.()
      ended = true
      await last
      if (writtenAtMs === undefined) return
      const signal = AbortSignal.timeout(END_TIMEOUT_MS)
      const failures = await store.delete([key], { signal }).catch((error) => [{ reason: messageOf(error) }])
      for (const { reason } of failures)
        logger.warn(
          { lease: key, error: reason },
          "the lease of the reader was not removed; it lapses by itself",
        )
    },
  }
}
