import { randomUUID } from "node:crypto"
import { describe, expect, it } from "vitest"
import { aborted, invalidInput } from "../../../src/errors.js"
import { parseKey } from "../../../src/manifest/keys.js"
import { storeTime } from "../../../src/manifest/store-time.js"
import { openMemoryStore } from "../../../src/storage/memory.js"
import type { ObjectStore } from "../../../src/storage/store.js"

const BY_ITS_CLOCK = new Date("2020-02-02T02:02:02.000Z")

/** A store with a clock of its own that keeps what it was asked to write. */
function withOwnClock(inner: ObjectStore): { store: ObjectStore; written: string[] } {
  const written: string[] = []
  const store: ObjectStore = {
    ...bound(inner),
    put: (key, body, options) => {
      written.push(key)
      return inner.put(key, body, options)
    },
    head: async (key, options) => {
      const info = await inner.head(key, options)
      return info && { ...info, lastModified: BY_ITS_CLOCK }
    },
  }
  return { store, written }
}

const bound = (store: ObjectStore): ObjectStore => ({
  url: store.url,
  get: store.get.bind(store),
  getIfChanged: store.getIfChanged.bind(store),
  getFile: store.getFile.bind(store),
  head: store.head.bind(store),
  put: store.put.bind(store),
  list: store.list.bind(store),
  delete: store.delete.bind(store),
  close: store.close.bind(store),
})

async function keysIn(store: ObjectStore): Promise<string[]> {
  const keys: string[] = []
  for await (const { key } of store.list("")) keys.push(key)
  return keys
}

describe("storeTime", () => {
  it("is the store's own, asked of a probe that does not stay", async () => {
    const inner = openMemoryStore(randomUUID())
    const { store, written } = withOwnClock(inner)
    expect(await storeTime(store)).toEqual(BY_ITS_CLOCK)
    expect(written).toHaveLength(1)
    expect(parseKey(written[0]!)).toMatchObject({ kind: "probe", file: "time" })
    expect(await keysIn(inner)).toEqual([])
  })

  it("leaves no probe when looking at it fails, and throws what the store throws", async () => {
    const inner = openMemoryStore(randomUUID())
    const refusal = invalidInput("head is refused")
    const store: ObjectStore = { ...bound(inner), head: () => Promise.reject(refusal) }
    await expect(storeTime(store)).rejects.toBe(refusal)
    expect(await keysIn(inner)).toEqual([])
  })

  it("removes the probe also after the caller gave up", async () => {
    const inner = openMemoryStore(randomUUID())
    const stop = new AbortController()
    const store: ObjectStore = {
      ...bound(inner),
      head: () => {
        stop.abort()
        return Promise.reject(aborted("stopped"))
      },
    }
    await expect(storeTime(store, { signal: stop.signal })).rejects.toMatchObject({ tag: "Aborted" })
    expect(await keysIn(inner)).toEqual([])
  })

  it("is told also to who may not delete", async () => {
    const { store } = withOwnClock(openMemoryStore(randomUUID()))
    const refusing: ObjectStore = { ...store, delete: () => Promise.reject(invalidInput("not allowed")) }
    expect(await storeTime(refusing)).toEqual(BY_ITS_CLOCK)
  })
})
