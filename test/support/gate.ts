import { abortable } from "../../src/async/abortable.js"
import type { ObjectStore } from "../../src/index.js"

export interface GatedCall {
  readonly operation: "get" | "getIfChanged" | "getFile"
  readonly key: string
  readonly signal: AbortSignal | undefined
}

export interface GatedStore {
  readonly store: ObjectStore
  /** All reads so far, held or not, by arrival. Set its length to 0 to start afresh. */
  readonly calls: GatedCall[]
  /** Holds reads of keys that match, from now on until `release`. */
  hold(keys: RegExp): void
  /** Resolves with the reads held, as soon as there are `count`. */
  arrived(count: number): Promise<readonly GatedCall[]>
  /** Lets through what is held, and holds nothing any more. */
  release(): void
}

/** A store whose reads a test can hold: what happens meanwhile is then up to the test, not to time. */
export function gatedStore(store: ObjectStore): GatedStore {
  const calls: GatedCall[] = []
  const held: GatedCall[] = []
  let keys: RegExp | undefined
  let opened = Promise.resolve()
  let open = (): void => {}
  let onArrival = (): void => {}

  async function pass(call: GatedCall): Promise<void> {
    calls.push(call)
    if (!keys?.test(call.key)) return
    held.push(call)
    onArrival()
    await abortable(opened, call.signal)
  }

  return {
    store: {
      url: store.url,
      async get(key, options) {
        await pass({ operation: "get", key, signal: options?.signal })
        return store.get(key, options)
      },
      async getIfChanged(key, etag, options) {
        await pass({ operation: "getIfChanged", key, signal: options?.signal })
        return store.getIfChanged(key, etag, options)
      },
      async getFile(key, path, options) {
        await pass({ operation: "getFile", key, signal: options?.signal })
        return store.getFile(key, path, options)
      },
      head: (key, options) => store.head(key, options),
      put: (key, body, options) => store.put(key, body, options),
      list: (prefix, options) => store.list(prefix, options),
      delete: (all, options) => store.delete(all, options),
      close: () => store.close(),
    },
    calls,
    hold(pattern) {
      keys = pattern
      held.length = 0
      opened = new Promise((resolve) => {
        open = resolve
      })
    },
    arrived: (count) =>
      new Promise((resolve) => {
        onArrival = () => {
          if (held.length >= count) resolve([...held])
        }
        onArrival()
      }),
    release() {
      keys = undefined
      open()
    },
  }
}
