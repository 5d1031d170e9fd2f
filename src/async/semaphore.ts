import { aborted, throwIfAborted } from "../errors.js"

/** Lets a bounded number of tasks run at a time; the others wait in the order in which they came. */
export interface Semaphore {
  /** Runs `task` when its turn comes. If `signal` fires before that, throws `Aborted` and never runs it. */
  run<T>(task: () => Promise<T>, signal?: AbortSignal): Promise<T>
}

/** A semaphore that lets `size` tasks run at a time, at least 1. */
export function createSemaphore(size: number): Semaphore {
  // A Set keeps the order of arrival and forgets an aborted waiter in constant time.
  const waiting = new Set<() => void>()
  let free = size

  function acquire(signal: AbortSignal | undefined): Promise<void> | undefined {
    throwIfAborted(signal)
    if (free > 0) {
      free--
      return undefined
    }
    return new Promise((resolve, reject) => {
      const onTurn = () => {
        signal?.removeEventListener("abort", onAbort)
        resolve()
      }
      const onAbort = () => {
        waiting.delete(onTurn)
        reject(aborted("the operation was aborted while it waited for its turn", {}, signal?.reason))
      }
      waiting.add(onTurn)
      signal?.addEventListener("abort", onAbort, { once: true })
    })
  }

  // A place goes straight to the first in line, so that no newcomer overtakes it.
  function release(): void {
    const [next] = waiting
    if (next === undefined) {
      free++
      return
    }
    waiting.delete(next)
    next()
  }

  return {
    async run(task, signal) {
      await acquire(signal)
      try {
        return await task()
      } finally {
        release()
      }
    },
  }
}
