import { setMaxListeners } from "node:events"
import { setTimeout as sleepFor } from "node:timers/promises"
import { withoutUndefined } from "../defined.js"
import { aborted, invalidInput, isLasting, isVecsnapError, throwIfAborted, VecsnapError } from "../errors.js"

/** How often and for how long to try again. */
export interface RetrySettings {
  /** Attempts in all, the first included. Default 5; 1 turns retries off. */
  readonly attempts?: number | undefined
  /** No attempt starts later than this after the first one, in milliseconds. Default 60,000. */
  readonly totalMs?: number | undefined
  /** The longest wait before the second attempt; it doubles from attempt to attempt. Default 200 ms. */
  readonly firstDelayMs?: number | undefined
  /** The longest wait before any attempt. Default 10,000 ms. */
  readonly maxDelayMs?: number | undefined
}

/** Time and chance, which tests replace. */
export interface RetryClock {
  now(): number
  /** Rejects when the signal fires. */
  sleep(ms: number, signal: AbortSignal | undefined): Promise<void>
  /** At least 0, less than 1. */
  random(): number
}

/** Runs `attempt` until it succeeds, fails for good, or the settings say that it is enough. */
export type Retry = <T>(attempt: () => Promise<T>, signal?: AbortSignal) => Promise<T>

const DEFAULTS = { attempts: 5, totalMs: 60_000, firstDelayMs: 200, maxDelayMs: 10_000 }

/** Real time and chance. */
export const SYSTEM_CLOCK: RetryClock = {
  now: () => performance.now(),
  sleep: (ms, signal) => sleepFor(ms, undefined, { signal }),
  random: Math.random,
}

/**
 * The one place that tries again. Only `Unavailable` is worth it, unless it is lasting; and once, whatever
 * the settings, what the store itself could put right (`details.recovery`: the clock that requests are signed
 * by, credentials that had expired). Waits are random between zero and a limit that doubles ("full jitter",
 * so that clients that failed together do not come back together).
 *
 * When it gives up, it throws the last error with the number of `attempts` in its details. Such an error is
 * not retried again, so that an operation made of retried steps does not multiply the attempts.
 */
export function createRetry(settings: RetrySettings = {}, clock: RetryClock = SYSTEM_CLOCK): Retry {
  const { attempts, totalMs, firstDelayMs, maxDelayMs } = { ...DEFAULTS, ...withoutUndefined(settings) }
  if (!Number.isInteger(attempts) || attempts < 1) {
    throw invalidInput(`retry attempts must be an integer of at least 1, got ${attempts}`, { attempts })
  }

  return async (attempt, signal) => {
    // Many calls at a time may rightly wait for one signal; Node would print a warning from the eleventh on.
    if (signal !== undefined) setMaxListeners(0, signal)
    const startMs = clock.now()
    let recovered = false
    for (let made = 1; ; made++) {
      throwIfAborted(signal)
      try {
        return await attempt()
      } catch (error) {
        if (isVecsnapError(error) && "recovery" in error.details && !recovered) {
          recovered = true
          continue
        }
        if (!isVecsnapError(error, "Unavailable") || isLasting(error)) throw error
        if ("attempts" in error.details) throw error
        const delayMs = clock.random() * Math.min(maxDelayMs, firstDelayMs * 2 ** (made - 1))
        const elapsedMs = clock.now() - startMs
        if (made >= attempts || elapsedMs + delayMs > totalMs) throw givenUp(error, made, elapsedMs)
        await clock.sleep(delayMs, signal).catch((cause) => {
          throw aborted(
            `the operation was aborted while it waited to try again after: ${error.message}`,
            {},
            cause,
          )
        })
      }
    }
  }
}

function givenUp(error: VecsnapError, attempts: number, elapsedMs: number): VecsnapError {
  if (attempts === 1) return error
  const seconds = (elapsedMs / 1000).toFixed(1)
  const message = `${error.message} (given up after ${attempts} attempts in ${seconds} s)`
  return new VecsnapError(error.tag, message, { ...error.details, attempts }, error)
}
