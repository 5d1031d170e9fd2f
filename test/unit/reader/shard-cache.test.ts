import { describe, expect, it } from "vitest"
import { createShardCache } from "../../../src/reader/shard-cache.js"
import type { ShardReader } from "../../../src/shards/backend.js"

/** A shard that only knows whether it is closed, and a way to count how often it was opened. */
function fakeShards() {
  const log: string[] = []
  const open = (key: string) => async (): Promise<ShardReader> => {
    log.push(`open ${key}`)
    let closed = false
    return {
      rows: 1,
      bytes: 1,
      async search() {
        if (closed) throw new Error(`${key} is closed`)
        return []
      },
      get: async () => [],
      async close() {
        closed = true
        log.push(`close ${key}`)
      },
    }
  }
  return { log, open }
}

const search = (reader: ShardReader) => reader.search(new Float32Array(1), 1)

describe("shard cache", () => {
  it("opens a shard once for all who ask at the same time", async () => {
    const { log, open } = fakeShards()
    const cache = createShardCache(4)
    await Promise.all([1, 2, 3].map(() => cache.use("a", open("a"), search)))
    await cache.use("a", open("a"), search)
    expect(log).toEqual(["open a"])
    expect(cache.opens).toBe(1)
  })

  it("closes the least recently used beyond its size", async () => {
    const { log, open } = fakeShards()
    const cache = createShardCache(2)
    for (const key of ["a", "b", "a", "c"]) await cache.use(key, open(key), search)
    expect(log).toEqual(["open a", "open b", "open c", "close b"])
    await cache.close()
    expect(log.slice(4).sort()).toEqual(["close a", "close c"])
  })

  it("never closes a shard in use: its last user does", async () => {
    const { log, open } = fakeShards()
    const cache = createShardCache(1)
    let finish!: () => void
    const blocked = new Promise<void>((resolve) => (finish = resolve))
    const user = cache.use("a", open("a"), async (reader) => {
      await blocked
      return search(reader)
    })
    await cache.use("b", open("b"), search)
    expect(log).toEqual(["open a", "open b"])
    finish()
    await user
    await cache.close()
    expect(log).toEqual(["open a", "open b", "close a", "close b"])
  })

  it("forgets an open that failed", async () => {
    const { log, open } = fakeShards()
    const cache = createShardCache(2)
    const fail = () => Promise.reject(new Error("no such shard"))
    await expect(cache.use("a", fail, search)).rejects.toThrow("no such shard")
    await cache.use("a", open("a"), search)
    expect(log).toEqual(["open a"])
    expect(cache.open).toBe(1)
  })

  it("keeps what it is told to retain, and closes the rest", async () => {
    const { log, open } = fakeShards()
    const cache = createShardCache(4)
    for (const key of ["a", "b", "c"]) await cache.use(key, open(key), search)
    cache.retain(new Set(["b"]))
    await cache.use("b", open("b"), search)
    expect(log.slice(3).sort()).toEqual(["close a", "close c"])
  })

  it("waits for users when it is closed", async () => {
    const { log, open } = fakeShards()
    const cache = createShardCache(1)
    const user = cache.use("a", open("a"), search)
    await cache.close()
    await user
    expect(log).toEqual(["open a", "close a"])
  })
})
