import fc from "fast-check"
import { describe, expect, it, vi } from "vitest"
import {
  createShardCache,
  type HeldShards,
  type OpenedShard,
} from "../../../../src/reader/shards/shard-cache.js"
import type { ShardReader } from "../../../../src/shards/backend.js"
import { prepareQuery } from "../../../../src/shards/query.js"

const QUERY = prepareQuery([0], 1, { dim: 1, metric: "l2" })

/** A shard that only knows whether it is closed, and a way to count how often it was opened. */
function fakeShards(bytes = 1) {
  const log: string[] = []
  const open = (key: string) => async (): Promise<OpenedShard> => {
    log.push(`open ${key}`)
    let closed = false
    const reader: ShardReader = {
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
    return { reader, close: () => reader.close() }
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
    const never = (signal: AbortSignal): Promise<OpenedShard> => {
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
    const slow = async (): Promise<OpenedShard> => {
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
        fc.array(
          fc.record({
            keys: fc.uniqueArray(fc.nat(5), { minLength: 1, maxLength: 3 }),
            steps: fc.nat(4),
            abort: fc.boolean(),
          }),
          { maxLength: 40 },
        ),
        async (maxOpen, uses) => {
          const places = new Set<symbol>()
          const openNow = new Set<ShardReader>()
          const cache = createShardCache({ maxOpen })
          const open = (key: string) => async (): Promise<OpenedShard> => {
            const place = Symbol(key)
            places.add(place)
            expect(places.size).toBeLessThanOrEqual(maxOpen)
            await settled()
            const { reader } = await fakeShards().open(key)()
            openNow.add(reader)
            return {
              reader,
              async close() {
                openNow.delete(reader)
                await settled()
                places.delete(place)
              },
            }
          }
          let ran = 0
          const outcomes = await Promise.allSettled(
            uses.map(async ({ keys, steps, abort }) => {
              const names = keys.slice(0, maxOpen).map(String)
              const controller = new AbortController()
              const holding = cache.hold(names, (place) => open(names[place]!)(), controller.signal)
              if (abort) queueMicrotask(() => controller.abort())
              const held = await holding
              ran++
              const readers = await Promise.all(held.openings)
              for (let step = 0; step < steps; step++) {
                await settled()
                expect(readers.every((reader) => openNow.has(reader))).toBe(true)
              }
              held.release()
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

  describe("shards that are wanted together", () => {
    const openAll = (open: (key: string) => () => Promise<OpenedShard>, keys: readonly string[]) => ({
      keys,
      open: (place: number) => open(keys[place]!)(),
    })

    it("are held at once where all are open, as the readers that opened them", async () => {
      const { log, open } = fakeShards()
      const cache = createShardCache({ maxOpen: 3 })
      const { keys, open: openPlace } = openAll(open, ["a", "b", "c"])
      const first = cache.hold(keys, openPlace) as HeldShards
      expect(first.readers).toBeUndefined()
      const readers = await Promise.all(first.openings)
      expect(first.readers).toEqual(readers)
      const second = cache.hold(["c", "a"], openPlace) as HeldShards
      expect(second.readers![0]).toBe(readers[2])
      expect(second.readers![1]).toBe(readers[0])
      expect(log).toEqual(["open a", "open b", "open c"])
      first.release()
      second.release()
      await cache.close()
    })

    it("are opened all, also if one of them fails", async () => {
      const { open } = fakeShards()
      const cache = createShardCache({ maxOpen: 3 })
      const openPlace = (place: number) =>
        place === 1 ? Promise.reject(new Error("no such shard")) : open(`${place}`)()
      const held = cache.hold(["a", "b", "c"], openPlace) as HeldShards
      const outcomes = await Promise.allSettled(held.openings)
      expect(outcomes.map(({ status }) => status)).toEqual(["fulfilled", "rejected", "fulfilled"])
      expect(held.readers).toBeUndefined()
      held.release()
      expect(cache.open).toBe(2)
    })

    it("are more than may be open: an error of the program", () => {
      const cache = createShardCache({ maxOpen: 1 })
      expect(() => cache.hold(["a", "b"], async () => Promise.reject())).toThrow("2 shards do not fit 1")
    })

    it("wait for places together, holding none, and keep those of them that are idle", async () => {
      const { log, open } = fakeShards()
      const cache = createShardCache({ maxOpen: 3 })
      for (const key of ["c", "b"]) await cache.use(key, open(key), search)
      const a = held()
      const user = cache.use("a", open("a"), a.work)
      await settled()
      const wanted = openAll(open, ["c", "d", "e"])
      const three = cache.hold(wanted.keys, wanted.open) as Promise<HeldShards>
      await settled()
      // One place is free when b is closed, which is not enough; c, which is older, is needed.
      expect(log).toEqual(["open c", "open b", "open a", "close b"])
      expect(cache.waiting).toBe(2)
      a.finish()
      await user
      const got = await three
      await Promise.all(got.openings)
      expect(log.slice(4)).toEqual(["close a", "open d", "open e"])
      got.release()
      await cache.close()
    })

    it("do not wait for each other's places for ever", async () => {
      const { open } = fakeShards()
      const cache = createShardCache({ maxOpen: 4, waitMs: 60_000 })
      let answered = 0
      await Promise.all(
        Array.from({ length: 40 }, async (_, n) => {
          const keys = Array.from({ length: 3 }, (_, i) => `${(n * 3 + i) % 10}`)
          const { open: openPlace } = openAll(open, keys)
          const got = await cache.hold(keys, openPlace)
          await Promise.all(got.openings)
          await settled()
          answered++
          got.release()
        }),
      )
      expect(answered).toBe(40)
      await cache.close()
    })
  })

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
