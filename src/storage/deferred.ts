/**
 * A store whose code is loaded at its first call, so that a program that never calls it does not pay for
 * loading: the AWS SDK takes a third of a second.
 */
import type { ListedObject, ObjectStore } from "./store.js"

/** The store at `url` that `open` gives at the first call; later calls use the same one. */
export function deferredStore(url: string, open: () => Promise<ObjectStore>): ObjectStore {
  let opened: Promise<ObjectStore> | undefined
  const store = (): Promise<ObjectStore> => {
    opened ??= open()
    return opened
  }
  return {
    url,
    get: async (...call) => (await store()).get(...call),
    getIfChanged: async (...call) => (await store()).getIfChanged(...call),
    getFile: async (...call) => (await store()).getFile(...call),
    head: async (...call) => (await store()).head(...call),
    put: async (...call) => (await store()).put(...call),
    async *list(...call): AsyncGenerator<ListedObject> {
      yield* (await store()).list(...call)
    },
    delete: async (...call) => (await store()).delete(...call),
    // What was never opened has no connection.
    close: () =>
      void opened?.then(
        (inner) => inner.close(),
        () => undefined,
      ),
  }
}
