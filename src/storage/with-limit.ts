import { createSemaphore } from "../async/semaphore.js"
import { invalidInput } from "../errors.js"
import type { ObjectStore } from "./store.js"
import { wrapStore } from "./wrap-store.js"

/**
 * Lets at most `concurrency` calls of a store be in flight; the others wait in order, and can be aborted
 * while they do. A listing holds a place only while it fetches, not while its consumer works.
 */
export function withLimit(store: ObjectStore, concurrency: number): ObjectStore {
  if (!Number.isInteger(concurrency) || concurrency < 1) {
    throw invalidInput(`concurrency must be an integer of at least 1, got ${concurrency}`, { concurrency })
  }
  const places = createSemaphore(concurrency)
  return wrapStore(store, (_operation, call, signal) => places.run(call, signal))
}
