import { aborted } from "../errors.js"

// A query asks many shards with one signal. One listener serves them all: Node warns of a leak beyond ten.
const waitingFor = new WeakMap<AbortSignal, Set<() => void>>()

/**
 * Rejects with `Aborted` as soon as the signal fires, though `work` may go on; else settles as `work` does.
 */
export function abortable<T>(work: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return work
  return new Promise((resolve, reject) => {
    const abort = (): void => reject(aborted("the operation was aborted", {}, signal.reason))
    if (signal.aborted) abort()
    const forget = onAbort(signal, abort)
    work.then(
      (value) => {
        forget()
        resolve(value)
      },
      (error: unknown) => {
        forget()
        reject(error)
      },
    )
  })
}

/**
 * Calls `callback` when the signal fires. Returns a function that takes this back. A signal has one listener,
 * however many callbacks.
 */
export function onAbort(signal: AbortSignal, callback: () => void): () => void {
  const known = waitingFor.get(signal)
  const callbacks = known ?? new Set()
  callbacks.add(callback)
  if (known === undefined) {
    waitingFor.set(signal, callbacks)
    signal.addEventListener("abort", callAll, { once: true })
  }
  return () => {
    callbacks.delete(callback)
    if (callbacks.size > 0 || waitingFor.get(signal) !== callbacks) return
    waitingFor.delete(signal)
    signal.removeEventListener("abort", callAll)
  }
}

function callAll(event: Event): void {
  for (const callback of waitingFor.get(event.target as AbortSignal) ?? []) callback()
}
