/**
 * Admission: how many calls run at a time, how many may wait, and for how long. Beyond that a caller hears so at once,
 * with a hint when to come again: a queue without bounds only turns overload into timeouts.
 */
import { aborted, assertWholeNumber, throwIfAborted, unavailable } from "../../errors.js"

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
  assertWholeNumber("maxQueued", maxQueued, 0)
  // A Set keeps the order of arrival and forgets who leaves in constant time.
  const waiting = new Set<() => void>()
  let running = 0
  let refused = 0
  let averageMs = FIRST_GUESS_MS

  function refusal(why: string): Error {
    refused++
    // Those who wait now, and the new one, go through `size` at a time.
    const retryAfterMs = Math.ceil((averageMs * (waiting.size + 1)) / size)
    return unavailable(`this reader is busy: ${why}; try again in ${retryAfterMs} ms`, {
      retryAfterMs,
      running,
      queued: waiting.size,
    })
  }

  /** Resolves when a place is ours. It is taken before anyone else can look, so that bursts are counted right. */
  function waitForTurn(signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const leave = () => {
        waiting.delete(onTurn)
        clearTimeout(timer)
        signal.removeEventListener("abort", onAbort)
      }
      const onTurn = () => {
        leave()
        resolve()
      }
      const onAbort = () => {
        leave()
        reject(aborted("the call was aborted while it waited for its turn", {}, signal.reason))
      }
      const timer = setTimeout(() => {
        leave()
        reject(refusal(`a call has waited for ${queueTimeoutMs} ms behind ${running} that run`))
      }, queueTimeoutMs)
      waiting.add(onTurn)
      signal.addEventListener("abort", onAbort, { once: true })
    })
  }

  // A place goes straight to the first in line, so that no newcomer overtakes it.
  function giveUpPlace(): void {
    const [next] = waiting
    if (next === undefined) running--
    else next()
  }

  return {
    async run(task, signal) {
      throwIfAborted(signal)
      if (running < size) running++
      else if (waiting.size < maxQueued) await waitForTurn(signal)
      else throw refusal(`${running} calls run and ${waiting.size} wait, the most that may`)
      const startMs = nowMs()
      try {
        return await task()
      } finally {
        averageMs += LATEST_WEIGHT * (nowMs() - startMs - averageMs)
        giveUpPlace()
      }
    },
    get running() {
      return running
    },
    get queued() {
      return waiting.size
    },
    get refused() {
      return refused
    },
  }
}
