import type { ListedObject, ObjectStore } from "./store.js"

/** Runs one call of a store. What is called can be told from `operation`. */
export type Around = <T>(
  operation: "get" | "getFile" | "head" | "put" | "list" | "delete",
  call: () => Promise<T>,
  signal: AbortSignal | undefined,
) => Promise<T>

/** A store that makes each call of `inner` through `around`; a listing makes one call per step. */
export function wrapStore(inner: ObjectStore, around: Around): ObjectStore {
  return {
    url: inner.url,
    get: (key, options) => around("get", () => inner.get(key, options), options?.signal),
    getIfChanged: (key, etag, options) =>
      around("get", () => inner.getIfChanged(key, etag, options), options?.signal),
    getFile: (key, path, options) =>
      around("getFile", () => inner.getFile(key, path, options), options?.signal),
    head: (key, options) => around("head", () => inner.head(key, options), options?.signal),
    put: (key, body, options) => around("put", () => inner.put(key, body, options), options?.signal),
    async *list(prefix, options): AsyncGenerator<ListedObject> {
      const listing = inner.list(prefix, options)[Symbol.asyncIterator]()
      try {
        for (;;) {
          const step = await around("list", () => listing.next(), options?.signal)
          if (step.done) return
          yield step.value
        }
      } finally {
        await listing.return?.()
      }
    },
    delete: (keys, options) => around("delete", () => inner.delete(keys, options), options?.signal),
    ...(inner.filePath && { filePath: (key) => inner.filePath!(key) }),
    close: () => inner.close(),
  }
}
