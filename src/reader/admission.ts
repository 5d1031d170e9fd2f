/**
 * Admission: how many calls run at a time, how many may wait, and for how long. Beyond that a caller hears so at once,
 * with a hint when to come again: a queue without bounds only turns overload into timeouts.
 */
import { invalidInput, isVecsnapError, unavailable } from "../errors.js"
import { createSemaphore } from "../storage/semaphore.js"

export interface AdmissionSettings {
  /** Calls that run at a time. */
  readonly running: number
  /** Calls that may wait; 0 for none. */
  readonly maxQueued: number
  /** The longest that a call waits. */
  readonly queueTimeoutMs: number
}

export interface Admission {
  /**
   * Runs `task` when its turn comes, in order of arrival. Throws `Unavailable` with `details.retryAfterMs`: at once if
   * the queue is full, else when `queueTimeoutMs` have passed before its turn. Throws `Aborted` if `signal` fires
   * before its turn. In all these cases `task` never runs.
   */
  run<T>(task: () => Promise<T>, signal: AbortSignal): Promise<T>
  readonly running: number
  readonly queued: number
  /** Calls turned away so far. */
  readonly refused: number
}

/** Before any call has ended, this is taken for how long one takes. */
const FIRST_GUESS_MS = 50
/** Weight of the latest call in the moving average of how long calls take. */
const LATEST_WEIGHT = 0.1

export function createAdmission(
  settings: AdmissionSettings,
  nowMs: () => number = () => performance.now(),
): Admission {
  const { running: size, maxQueued, queueTimeoutMs } = settings
  if (!Number.isSafeInteger(maxQueued) || maxQueued < 0) {
    throw invalidInput(`option maxQueued is ${maxQueued}, expected a whole number from 0`, { maxQueued })
  }
  const semaphore = createSemaphore(size)
  let running = 0
  let queued = 0
  let refused = 0
  let averageMs = FIRST_GUESS_MS

  function refusal(why: string): Error {
    refused++
    // Those who wait now, and the new one, go through `size` at a time.
    const retryAfterMs = Math.ceil((averageMs * (queued + 1)) / size)
    return unavailable(`this reader is busy: ${why}; try again in ${retryAfterMs} ms`, {
      retryAfterMs,
      running,
      queued,
    })
  }

  async function runNow<T>(task: () => Promise<T>): Promise<T> {
    running++
    const startMs = nowMs()
    try {
      return await task()
    } finally {
      running--
      averageMs += LATEST_WEIGHT * (nowMs() - startMs - averageMs)
    }
  }

  async function runLater<T>(task: () => Promise<T>, signal: AbortSignal): Promise<T> {
    const patience = new AbortController()
    const giveUp = () => patience.abort(signal.reason)
    const timer = setTimeout(giveUp, queueTimeoutMs)
    signal.addEventListener("abort", giveUp, { once: true })
    let isWaiting = true
    const stopWaiting = () => {
      if (!isWaiting) return
      isWaiting = false
      queued--
      clearTimeout(timer)
      signal.removeEventListener("abort", giveUp)
    }
    queued++
    try {
      return await semaphore.run(() => {
        stopWaiting()
        return runNow(task)
      }, patience.signal)
    } catch (error) {
      // Still waiting, and not because the caller gave up: then it was the clock.
      if (isWaiting && isVecsnapError(error, "Aborted") && !signal.aborted) {
        stopWaiting()
        throw refusal(`a call has waited for ${queueTimeoutMs} ms behind ${running} that run`)
      }
      throw error
    } finally {
      stopWaiting()
    }
  }

  return {
    async run(task, signal) {
      if (running + queued < size) return semaphore.run(() => runNow(task), signal)
      if (queued >= maxQueued) throw refusal(`${running} calls run and ${queued} wait, the most that may`)
      return runLater(task, signal)
    },
    get running() {
      return running
    },
    get queued() {
      return queued
    },
    get refused() {
      return refused
    },
  }
}
