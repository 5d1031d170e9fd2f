import { setMaxListeners } from "node:events"
import { aborted, unavailable } from "../../errors.js"

/**
 * Runs `work` for at most `limitMs`: then its signal fires, and `Unavailable` is thrown whether or not it
 * takes notice. Throws `Aborted` likewise when the caller's own signal fires.
 */
export async function withinLimit<T>(
  limitMs: number,
  callerSignal: AbortSignal | undefined,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const limit = new AbortController()
  const signal = callerSignal === undefined ? limit.signal : AbortSignal.any([callerSignal, limit.signal])
  // Many calls at a time may rightly wait for it; Node would print a warning from the eleventh on.
  setMaxListeners(0, signal)
  const timer = setTimeout(() => limit.abort(), limitMs)
  const ended = new Promise<never>((_, reject) => {
    const end = (): void =>
      reject(
        callerSignal?.aborted
          ? aborted("the operation was aborted", {}, callerSignal.reason)
          : unavailable(`no answer within ${limitMs / 1000} s`, { limitMs }),
      )
    if (signal.aborted) end()
    else signal.addEventListener("abort", end, { once: true })
  })
  try {
    // What the work throws because of the signal comes later than this, and is dropped.
    return await Promise.race([ended, work(signal)])
  } finally {
    clearTimeout(timer)
  }
}
