import { aborted, throwIfAborted } from "../errors.js"

/** Lets a bounded number of tasks run at a time; the others wait in the order in which they came. */
export interface Semaphore {
  /** Runs `task` when its turn comes. If it does not wait for it any more, throws and never runs it. */
  run<T>(task: () => Promise<T>, signal?: AbortSignal, patience?: Patience): Promise<T>
  /** Tasks that run. */
  readonly running: number
  /** Tasks that wait for their turn. */
  readonly waiting: number
}

/** How long a task waits for its turn. */
export interface Patience {
  readonly ms: number
  /** What is thrown when the time has passed; called when the task has left the line. */
  error(): Error
}

/**
 * A semaphore that lets `size` tasks run at a time, at least 1.
 *
 * @param what a task is called in the message of `Aborted`, which is thrown if the signal of one fires before
 * its turn
 */
export function createSemaphore(size: number, what = "operation"): Semaphore {
  // A Set keeps the order of arrival and forgets who leaves in constant time.
  const line = new Set<() => void>()
  let running = 0

  /** A place is taken before anyone else can look, so that bursts are counted right. */
  function acquire(
    signal: AbortSignal | undefined,
    patience: Patience | undefined,
  ): Promise<void> | undefined {
    throwIfAborted(signal)
    if (running < size) {
      running++
      return undefined
    }
    return new Promise((resolve, reject) => {
      const leave = () => {
        line.delete(onTurn)
        clearTimeout(timer)
        signal?.removeEventListener("abort", onAbort)
      }
      const onTurn = () => {
        leave()
        resolve()
      }
      const onAbort = () => {
        leave()
        reject(aborted(`the ${what} was aborted while it waited for its turn`, {}, signal?.reason))
      }
      const onTimeout = () => {
        leave()
        reject(patience!.error())
      }
      const timer = patience && setTimeout(onTimeout, patience.ms)
      line.add(onTurn)
      signal?.addEventListener("abort", onAbort, { once: true })
    })
  }

  // A place goes straight to the first in line, so that no newcomer overtakes it.
  function release(): void {
    const [next] = line
    if (next === undefined) running--
    else next()
  }

  return {
    async run(task, signal, patience) {
      await acquire(signal, patience)
      try {
        return await task()
      } finally {
        release()
      }
    },
    get running() {
      return running
    },
    get waiting() {
      return line.size
    },
  }
}
