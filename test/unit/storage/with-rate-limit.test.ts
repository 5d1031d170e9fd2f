import { randomUUID } from "node:crypto"
import { mkdtemp, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import fc from "fast-check"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { openMemoryStore } from "../../../src/storage/memory.js"
import type { ObjectStore } from "../../../src/storage/store.js"
import { createCounts } from "../../../src/storage/with-counting.js"
import { type RateClock, type RateSettings, withRateLimit } from "../../../src/storage/with-rate-limit.js"
import { wrapStore } from "../../../src/storage/wrap-store.js"

let directory: string
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "vecsnap-rate-"))
})
afterAll(() => rm(directory, { recursive: true, force: true }))

const settled = () => new Promise((resolve) => setImmediate(resolve))

/** Time that stands still until it is moved; sleepers wake in order. */
function fakeClock() {
  let nowMs = 0
  const sleepers = new Set<{ readonly atMs: number; readonly wake: () => void }>()
  const clock: RateClock = {
    now: () => nowMs,
    sleep: (ms, signal) =>
      new Promise((resolve, reject) => {
        const sleeper = { atMs: nowMs + ms, wake: resolve }
        sleepers.add(sleeper)
        signal?.addEventListener("abort", () => {
          sleepers.delete(sleeper)
          reject(signal.reason)
        })
      }),
  }
  return {
    clock,
    now: () => nowMs,
    async moveTo(untilMs: number): Promise<void> {
      await settled()
      for (;;) {
        const [next] = [...sleepers].filter(({ atMs }) => atMs <= untilMs).sort((a, b) => a.atMs - b.atMs)
        if (next === undefined) break
        sleepers.delete(next)
        nowMs = next.atMs
        next.wake()
        await settled()
      }
      nowMs = untilMs
    },
  }
}

interface Started {
  readonly key: string
  readonly atMs: number
}

/**
 * A limited store with an object of `objectBytes` under every key asked for, and the log of what it let
 * through.
 */
async function limited(rate: RateSettings, objectBytes = 1) {
  const time = fakeClock()
  const started: Started[] = []
  const inner = openMemoryStore(randomUUID())
  await inner.put("object", new Uint8Array(objectBytes))
  const logging: ObjectStore = {
    ...wrapStore(inner, (_operation, call) => call()),
    get: (key, options) => {
      started.push({ key, atMs: time.now() })
      return inner.get("object", options)
    },
    head: (key) => {
      started.push({ key, atMs: time.now() })
      return inner.head("object")
    },
    getFile: (key, path, options) => {
      started.push({ key, atMs: time.now() })
      return inner.getFile("object", path, options)
    },
  }
  const counts = createCounts()
  return { time, started, counts, store: withRateLimit(logging, rate, { counts, clock: time.clock }) }
}

const keysOf = (started: readonly Started[]) => started.map(({ key }) => key)

describe("withRateLimit", () => {
  it("lets one second's worth of requests through at once, then as many as the rate says", async () => {
    const { store, time, started, counts } = await limited({ requestsPerSecond: 4 })
    const calls = Array.from({ length: 10 }, (_, i) => store.get(`${i}`))
    await time.moveTo(10_000)
    await Promise.all(calls)
    expect(started.map(({ atMs }) => atMs)).toEqual([0, 0, 0, 0, 250, 500, 750, 1000, 1250, 1500])
    expect(keysOf(started)).toEqual(calls.map((_, i) => `${i}`))
    expect(counts).toMatchObject({ throttled: 6, throttledMs: 250 + 500 + 750 + 1000 + 1250 + 1500 })
  })

  it("never lets more through than the bucket, over any time, whatever the arrivals; in their order", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.double({ min: 0.4, max: 60, noNaN: true }),
        fc.array(fc.nat({ max: 900 }), { minLength: 1, maxLength: 60 }),
        async (requestsPerSecond, gapsMs) => {
          const { store, time, started } = await limited({ requestsPerSecond })
          const calls: Promise<unknown>[] = []
          for (const gapMs of gapsMs) {
            // Half of them come together with the one before.
            await time.moveTo(time.now() + (gapMs % 2 === 0 ? 0 : gapMs))
            calls.push(store.head(`${calls.length}`))
          }
          await time.moveTo(time.now() + 1000 * (gapsMs.length / requestsPerSecond + 1) + gapsMs.length)
          await Promise.all(calls)
          expect(keysOf(started)).toEqual(calls.map((_, i) => `${i}`))
          const capacity = Math.max(1, requestsPerSecond)
          for (let first = 0; first < started.length; first++) {
            for (let last = first; last < started.length; last++) {
              const seconds = (started[last]!.atMs - started[first]!.atMs) / 1000
              expect(last - first + 1).toBeLessThanOrEqual(capacity + seconds * requestsPerSecond + 1e-6)
            }
          }
        },
      ),
      { numRuns: 60, seed: 5 },
    )
  })

  it("takes bytes that it knows of before the call, and others after it", async () => {
    const known = await limited({ bytesPerSecond: 100 }, 50)
    const path = (i: number) => join(directory, `known-${i}`)
    const reads = [0, 1, 2, 3].map((i) => known.store.getFile(`${i}`, path(i), { expectedBytes: 50 }))
    await known.time.moveTo(5_000)
    await Promise.all(reads)
    expect(known.started.map(({ atMs }) => atMs)).toEqual([0, 0, 500, 1000])

    // All of these find a full bucket; whoever comes later pays for them.
    const unknown = await limited({ bytesPerSecond: 100 }, 50)
    await Promise.all([0, 1, 2, 3].map((i) => unknown.store.get(`${i}`)))
    const late = unknown.store.get("late")
    await unknown.time.moveTo(5_000)
    await late
    expect(unknown.started.map(({ atMs }) => atMs)).toEqual([0, 0, 0, 0, 1000])
  })

  it("counts ranges, and writes, by their size", async () => {
    const { store, time, started } = await limited({ bytesPerSecond: 10 }, 100)
    const first = store.get("a", { range: { start: 0, end: 10 } })
    const written = store.put("other", new Uint8Array(5))
    await settled()
    const third = store.get("b", { range: { start: 0, end: 10 } })
    await time.moveTo(9_000)
    await Promise.all([first, written, third])
    expect(started).toEqual([
      { key: "a", atMs: 0 },
      { key: "b", atMs: 1500 },
    ])
  })

  it("starts a call for more than the bucket holds when it is full, and makes the next ones pay", async () => {
    const { store, time, started } = await limited({ bytesPerSecond: 10 }, 100)
    const large = store.get("large", { range: { start: 0, end: 40 } })
    const small = store.get("small", { range: { start: 0, end: 1 } })
    await time.moveTo(9_000)
    await Promise.all([large, small])
    expect(started).toEqual([
      { key: "large", atMs: 0 },
      { key: "small", atMs: 3100 },
    ])
  })

  it("does not let a small call overtake a large one that waits", async () => {
    const { store, time, started } = await limited({ bytesPerSecond: 10 }, 100)
    const calls = [10, 10, 1].map((end) => store.get(`${end}`, { range: { start: 0, end } }))
    await time.moveTo(9_000)
    await Promise.all(calls)
    expect(started).toEqual([
      { key: "10", atMs: 0 },
      { key: "10", atMs: 1000 },
      { key: "1", atMs: 1100 },
    ])
  })

  it("lets who waits leave at once, first in line or not, without their share", async () => {
    const { store, time, started } = await limited({ requestsPerSecond: 1 })
    await store.get("0")
    const head = new AbortController()
    const behind = new AbortController()
    const calls = [
      store.get("1", { signal: head.signal }),
      store.get("2", { signal: behind.signal }),
      store.get("3"),
    ]
    await settled()
    behind.abort()
    await expect(calls[1]).rejects.toMatchObject({ tag: "Aborted" })
    head.abort()
    await expect(calls[0]).rejects.toMatchObject({ tag: "Aborted" })
    await time.moveTo(1_000)
    await calls[2]
    expect(started).toEqual([
      { key: "0", atMs: 0 },
      { key: "3", atMs: 1000 },
    ])
    await expect(store.get("4", { signal: AbortSignal.abort() })).rejects.toMatchObject({ tag: "Aborted" })
  })

  it("takes one request for each thousand objects listed or removed", async () => {
    const time = fakeClock()
    const inner = openMemoryStore(randomUUID())
    for (let i = 0; i < 1500; i++) await inner.put(`${i}`, new Uint8Array(0))
    const store = withRateLimit(inner, { requestsPerSecond: 4 }, { clock: time.clock })
    const keys: string[] = []
    for await (const { key } of store.list("")) keys.push(key)
    expect(await store.delete(keys)).toEqual([])
    let fifth = false
    const call = store.head("x").then(() => (fifth = true))
    await settled()
    expect({ listed: keys.length, fifth }).toEqual({ listed: 1500, fifth: false })
    await time.moveTo(250)
    await call
  })

  it.each([0, -1, Number.NaN, Number.POSITIVE_INFINITY])("refuses a limit of %d", (bytesPerSecond) => {
    expect(() => withRateLimit(openMemoryStore(randomUUID()), { bytesPerSecond })).toThrow(
      `the limit bytesPerSecond must be a number above 0, got ${bytesPerSecond}`,
    )
  })
})
