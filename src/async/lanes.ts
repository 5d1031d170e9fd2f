import { setMaxListeners } from "node:events"
import { throwIfAborted } from "../errors.js"

/**
 * Runs `work` on each item, at most `size` at a time, begun in the order of the items. Resolves with what
 * `work` returned, in that order too.
 *
 * After the first failure, or when `signal` fires, no other item is begun and the signal that `work` gets
 * fires. Whatever the outcome, it settles only when every `work` that was begun has ended, so that what they
 * use can be removed then. Throws `Aborted` if `signal` fired, else the first failure.
 */
export async function inLanes<T, R>(
  items: readonly T[],
  size: number,
  work: (item: T, signal: AbortSignal, index: number) => R | Promise<R>,
  signal?: AbortSignal | undefined,
): Promise<R[]> {
  throwIfAborted(signal)
  const stop = new AbortController()
  // Each lane may rightly wait for it; Node would warn of a leak beyond ten.
  setMaxListeners(0, stop.signal)
  // Not `AbortSignal.any`, which on Node 20 stays in memory as long as the caller's signal does.
  const onAbort = (): void => stop.abort(signal?.reason)
  signal?.addEventListener("abort", onAbort, { once: true })
  const results = new Array<R>(items.length)
  const queue = items.entries()
  let failure: { readonly error: unknown } | undefined
  const lane = async (): Promise<void> => {
    for (const [index, item] of queue) {
      try {
        results[index] = await work(item, stop.signal, index)
      } catch (error) {
        failure ??= { error }
        stop.abort(error)
      }
      if (stop.signal.aborted) return
    }
  }
  try {
    await Promise.all(Array.from({ length: Math.min(size, items.length) }, lane))
  } finally {
    signal?.removeEventListener("abort", onAbort)
  }
  throwIfAborted(signal)
  if (failure !== undefined) throw failure.error
  return results
}
