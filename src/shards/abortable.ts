import { aborted } from "../errors.js"

/**
 * Rejects with `Aborted` as soon as the signal fires, though `work` may go on; else settles as `work` does.
 */
export function abortable<T>(work: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return work
  return new Promise((resolve, reject) => {
    const abort = (): void => reject(aborted("the search was aborted", {}, signal.reason))
    if (signal.aborted) abort()
    signal.addEventListener("abort", abort, { once: true })
    work.then(resolve, reject).finally(() => signal.removeEventListener("abort", abort))
  })
}
