import fc from "fast-check"
import { describe, expect, it, vi } from "vitest"
import { createShardCache } from "../../../../src/reader/shards/shard-cache.js"
import type { ShardReader } from "../../../../src/shards/backend.js"
import { prepareQuery } from "../../../../src/shards/query.js"

const QUERY = prepareQuery([0], 1, { dim: 1, metric: "l2" })

/** A shard that only knows whether it is closed, and a way to count how often it was opened. */
function fakeShards(bytes = 1) {
  const log: string[] = []
  const open = (key: string) => async (): Promise<ShardReader> => {
    log.push(`open ${key}`)
    let closed = false
    return {
      rows: 1,
      bytes,
      async search() {
        if (closed) throw new Error(`${key} is closed`)
        return []
      },
      get: async () => [],
      records: async function* () {},
      async close() {
        closed = true
        log.push(`close ${key}`)
      },
    }
  }
  return { log, open }
}

/** Work that goes on until it is told to finish. */
function held() {
  let finish!: () => void
  const blocked = new Promise<void>((resolve) => (finish = resolve))
  return { finish, work: (reader: ShardReader) => blocked.then(() => search(reader)) }
}

/** Lets everything run that can. */
const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

const search = (reader: ShardReader) => reader.search(QUERY)

describe("shard cache", () => {
  it("opens a shard once for all who ask at the same time", async () => {
    const { log, open } = fakeShards()
    const cache = createShardCache({ maxOpen: 4 })
    await Promise.all([1, 2, 3].map(() => cache.use("a", open("a"), search)))
    await cache.use("a", open("a"), search)
    expect(log).toEqual(["open a"])
    expect(cache.opens).toBe(1)
  })

  it("closes the least recently used beyond its size", async () => {
    const { log, open } = fakeShards()
    const cache = createShardCache({ maxOpen: 2 })
    for (const key of ["a", "b", "a", "c"]) await cache.use(key, open(key), search)
    expect(log).toEqual(["open a", "open b", "close b", "open c"])
    await cache.close()
    expect(log.slice(4).sort()).toEqual(["close a", "close c"])
  })

  it("never closes a shard in use: who needs another one waits for its place", async () => {
    const { log, open } = fakeShards()
    const cache = createShardCache({ maxOpen: 1 })
    const a = held()
    const user = cache.use("a", open("a"), a.work)
    const next = cache.use("b", open("b"), search)
    await settled()
    expect(log).toEqual(["open a"])
    expect(cache.waiting).toBe(1)
    a.finish()
    await Promise.all([user, next])
    await cache.close()
    expect(log).toEqual(["open a", "close a", "open b", "close b"])
  })

  it("gives places in order of arrival, to all who wait for a shard together", async () => {
    const { log, open } = fakeShards()
    const cache = createShardCache({ maxOpen: 1 })
    const order: string[] = []
    const a = held()
    const users: Promise<unknown>[] = [cache.use("a", open("a"), a.work)]
    for (const key of ["b", "c", "b", "a", "c"]) {
      users.push(cache.use(key, open(key), async () => void order.push(key)))
    }
    await settled()
    // The newcomer for the open shard does not prolong its stay.
    expect(order).toEqual([])
    a.finish()
    await Promise.all(users)
    expect(order).toEqual(["b", "b", "c", "c", "a"])
    expect(log.filter((line) => line.startsWith("open"))).toEqual(["open a", "open b", "open c", "open a"])
  })

  it("lets newcomers share an open shard while idle ones make room for others", async () => {
    const { open } = fakeShards()
    const cache = createShardCache({ maxOpen: 2 })
    await cache.use("idle", open("idle"), search)
    const a = held()
    const user = cache.use("a", open("a"), a.work)
    const b = cache.use("b", open("b"), search)
    await cache.use("a", open("a"), search)
    await b
    a.finish()
    await user
    expect(cache.opens).toBe(3)
  })

  it("gives up waiting in time, says what is full, and lets the others go on", async () => {
    const { open } = fakeShards()
    const cache = createShardCache({ maxOpen: 1, waitMs: 20 })
    const a = held()
    const user = cache.use("a", open("a"), a.work)
    const refused = cache.use("b", open("b"), search)
    await expect(refused).rejects.toMatchObject({
      tag: "Unavailable",
      details: { maxOpenShards: 1, waitedMs: 20 },
    })
    await expect(refused).rejects.toThrow(
      "all 1 places for open shards are in use: none became free within 20 ms",
    )
    // Nobody waits any more, so that the open shard can be shared again.
    await cache.use("a", open("a"), search)
    a.finish()
    await user
    await cache.use("b", open("b"), search)
    expect(cache.opens).toBe(2)
  })

  it("lets who waits for a place be aborted", async () => {
    const { open } = fakeShards()
    const cache = createShardCache({ maxOpen: 1 })
    const a = held()
    const user = cache.use("a", open("a"), a.work)
    const controller = new AbortController()
    const waiting = cache.use("b", open("b"), search, controller.signal)
    controller.abort()
    await expect(waiting).rejects.toMatchObject({ tag: "Aborted" })
    expect(cache.waiting).toBe(0)
    a.finish()
    await user
    expect(cache.opens).toBe(1)
  })

  it("aborts an open when all who wait for it have given up, not before", async () => {
    const { open } = fakeShards()
    const cache = createShardCache({ maxOpen: 1 })
    let opening!: AbortSignal
    const never = (signal: AbortSignal): Promise<ShardReader> => {
      opening = signal
      return new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)))
    }
    const [one, two] = [new AbortController(), new AbortController()]
    const users = [one, two].map(({ signal }) => cache.use("a", never, search, signal))
    one.abort()
    await expect(users[0]).rejects.toMatchObject({ tag: "Aborted" })
    expect(opening.aborted).toBe(false)
    two.abort()
    await expect(users[1]).rejects.toMatchObject({ tag: "Aborted" })
    expect(opening.aborted).toBe(true)
    await cache.use("a", open("a"), search)
    expect(cache.opens).toBe(2)
  })

  it("closes a shard that opened although nobody waits for it any more", async () => {
    const { log, open } = fakeShards()
    const cache = createShardCache({ maxOpen: 1 })
    const controller = new AbortController()
    const slow = async (): Promise<ShardReader> => {
      await settled()
      return open("a")()
    }
    const user = cache.use("a", slow, search, controller.signal)
    controller.abort()
    await expect(user).rejects.toMatchObject({ tag: "Aborted" })
    await cache.use("b", open("b"), search)
    expect(log).toEqual(["open a", "close a", "open b"])
    expect(cache.bytes).toBe(1)
  })

  it("closes idle shards beyond its bound in bytes", async () => {
    const { log, open } = fakeShards(10)
    const cache = createShardCache({ maxOpen: 9, maxBytes: 25 })
    for (const key of ["a", "b", "a", "c"]) await cache.use(key, open(key), search)
    await settled()
    expect(log).toEqual(["open a", "open b", "open c", "close b"])
    expect(cache.bytes).toBe(20)
  })

  it("closes shards that lay idle for too long, not those in use", async () => {
    const { log, open } = fakeShards()
    const cache = createShardCache({ maxOpen: 9, idleMs: 20 })
    const a = held()
    const user = cache.use("a", open("a"), a.work)
    for (const key of ["b", "c"]) await cache.use(key, open(key), search)
    await vi.waitFor(() => expect(cache.open).toBe(1))
    expect(log.slice(3).sort()).toEqual(["close b", "close c"])
    a.finish()
    await user
    await vi.waitFor(() => expect(log).toContain("close a"))
    await cache.use("b", open("b"), search)
    expect(cache.opens).toBe(4)
  })

  it("discards a shard: its users go on, the next one opens it anew", async () => {
    const { log, open } = fakeShards()
    const cache = createShardCache({ maxOpen: 2 })
    const a = held()
    const user = cache.use("a", open("a"), a.work)
    cache.discard("a")
    await cache.use("a", open("a"), search)
    expect(log).toEqual(["open a", "open a"])
    a.finish()
    await user
    await settled()
    expect(log).toEqual(["open a", "open a", "close a"])
  })

  it("never opens more than its bound nor uses a closed shard, and always ends", () =>
    fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 3 }),
        fc.array(fc.record({ key: fc.nat(5), steps: fc.nat(4), abort: fc.boolean() }), { maxLength: 40 }),
        async (maxOpen, uses) => {
          const places = new Set<symbol>()
          const openNow = new Set<ShardReader>()
          const cache = createShardCache({ maxOpen })
          const open = (key: string) => async (): Promise<ShardReader> => {
            const place = Symbol(key)
            places.add(place)
            expect(places.size).toBeLessThanOrEqual(maxOpen)
            await settled()
            const reader: ShardReader = {
              ...(await fakeShards().open(key)()),
              close: async () => {
                openNow.delete(reader)
                await settled()
                places.delete(place)
              },
            }
            openNow.add(reader)
            return reader
          }
          let ran = 0
          const outcomes = await Promise.allSettled(
            uses.map(async ({ key, steps, abort }) => {
              const controller = new AbortController()
              const use = cache.use(
                `${key}`,
                open(`${key}`),
                async (reader) => {
                  ran++
                  for (let step = 0; step < steps; step++) {
                    await settled()
                    expect(openNow.has(reader)).toBe(true)
                  }
                },
                controller.signal,
              )
              if (abort) queueMicrotask(() => controller.abort())
              await use
            }),
          )
          const fulfilled = outcomes.filter(({ status }) => status === "fulfilled").length
          expect(fulfilled).toBeGreaterThanOrEqual(uses.filter(({ abort }) => !abort).length)
          expect(ran).toBe(fulfilled)
          await cache.close()
          expect([openNow.size, places.size]).toEqual([0, 0])
          expect([cache.open, cache.bytes, cache.waiting]).toEqual([0, 0, 0])
        },
      ),
      { numRuns: 60 },
    ))

  it("forgets an open that failed", async () => {
    const { log, open } = fakeShards()
    const cache = createShardCache({ maxOpen: 2 })
    const fail = () => Promise.reject(new Error("no such shard"))
    await expect(cache.use("a", fail, search)).rejects.toThrow("no such shard")
    await cache.use("a", open("a"), search)
    expect(log).toEqual(["open a"])
    expect(cache.open).toBe(1)
  })

  it("keeps what it is told to retain, and closes the rest", async () => {
    const { log, open } = fakeShards()
    const cache = createShardCache({ maxOpen: 4 })
    for (const key of ["a", "b", "c"]) await cache.use(key, open(key), search)
    cache.retain(new Set(["b"]))
    await cache.use("b", open("b"), search)
    expect(log.slice(3).sort()).toEqual(["close a", "close c"])
  })

  it("waits for users when it is closed", async () => {
    const { log, open } = fakeShards()
    const cache = createShardCache({ maxOpen: 1 })
    const user = cache.use("a", open("a"), search)
    await cache.close()
    await user
    expect(log).toEqual(["open a", "close a"])
    await expect(cache.use("a", open("a"), search)).rejects.toMatchObject({ tag: "Closed" })
  })
})
