/**
 * Admission: how many calls run at a time, how many may wait, and for how long. Beyond that a caller hears so
 * at once, with a hint when to come again: a queue without bounds only turns overload into timeouts.
 */
import { createSemaphore } from "../../async/semaphore.js"
import { assertWholeNumber, throwIfAborted, unavailable } from "../../errors.js"

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
   * Runs `task` when its turn comes, in order of arrival. Throws `Unavailable` with `details.retryAfterMs`:
   * at once if the queue is full, else when `queueTimeoutMs` have passed before its turn. Throws `Aborted` if
   * `signal` fires before its turn. In all these cases `task` never runs.
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
  const places = createSemaphore(size, "call")
  let refused = 0
  let averageMs = FIRST_GUESS_MS

  function refusal(why: string): Error {
    refused++
    const { running, waiting } = places
    // Those who wait now, and the new one, go through `size` at a time.
    const retryAfterMs = Math.ceil((averageMs * (waiting + 1)) / size)
    return unavailable(`this reader is busy: ${why}; try again in ${retryAfterMs} ms`, {
      retryAfterMs,
      running,
      queued: waiting,
    })
  }

  const patience = {
    ms: queueTimeoutMs,
    error: () => refusal(`a call has waited for ${queueTimeoutMs} ms behind ${places.running} that run`),
  }

  async function timed<T>(task: () => Promise<T>): Promise<T> {
    const startMs = nowMs()
    try {
      return await task()
    } finally {
      averageMs += LATEST_WEIGHT * (nowMs() - startMs - averageMs)
    }
  }

  return {
    async run(task, signal) {
      throwIfAborted(signal)
      const { running, waiting } = places
      if (running >= size && waiting >= maxQueued)
        throw refusal(`${running} calls run and ${waiting} wait, the most that may`)
      return places.run(() => timed(task), signal, patience)
    },
    get running() {
      return places.running
    },
    get queued() {
      return places.waiting
    },
    get refused() {
      return refused
    },
  }
}
