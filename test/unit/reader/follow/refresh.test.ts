import { describe, expect, it } from "vitest"
import type { ShardEntry } from "../../../../src/manifest/manifest.js"
import { chooseShardsToWarm, startAutoRefresh } from "../../../../src/reader/follow/refresh.js"

/** A snapshot as far as the choice goes: content and size by shard. */
function snapshot(shards: Readonly<Record<number, readonly [content: string, size: number]>>) {
  const entries = Object.entries(shards).map(([shard, value]) => [Number(shard), value] as const)
  return {
    contents: new Map(entries.map(([shard, [content]]) => [shard, content])),
    shards: new Map(
      entries.map(([shard, [, size]]) => [shard, { files: [{ size }] } as unknown as ShardEntry]),
    ),
  }
}

describe("chooseShardsToWarm", () => {
  const before = snapshot({ 0: ["a", 1], 1: ["b", 1], 2: ["c", 1], 3: ["d", 1] })
  const after = snapshot({ 0: ["a", 10], 1: ["B", 10], 2: ["C", 90], 3: ["D", 10], 4: ["E", 10] })
  const plenty = { shards: 9, bytes: 1000 }

  it.each([
    ["the latest used first, of those that changed and that both have", [0, 4, 1, 2, 3], plenty, [3, 2, 1]],
    ["none that was not used", [2], plenty, [2]],
    ["no more than the budget of shards", [1, 2, 3], { shards: 2, bytes: 1000 }, [3, 2]],
    [
      "no more than the budget of bytes, passing over what does not fit",
      [1, 2, 3],
      { shards: 9, bytes: 20 },
      [3, 1],
    ],
    ["none without a budget", [1, 2, 3], { shards: 0, bytes: 1000 }, []],
    ["none that is not there any more", [7], plenty, []],
  ])("chooses %s", (_, recent, budget, expected) => {
    expect(chooseShardsToWarm(before, after, recent, budget)).toEqual(expected)
  })

  it("leaves out content that is open already under another number", () => {
    expect(chooseShardsToWarm(before, snapshot({ 0: ["b", 1] }), [0], plenty)).toEqual([])
  })
})

describe("startAutoRefresh", () => {
  function fakeClock(random = 0.5) {
    const waiting: { ms: number; callback: () => void }[] = []
    return {
      waiting,
      random: () => random,
      after(ms: number, callback: () => void) {
        const one = { ms, callback }
        waiting.push(one)
        return () => void waiting.splice(waiting.indexOf(one), 1)
      },
    }
  }
  const settled = () => new Promise((resolve) => setImmediate(resolve))

  it("waits anew when a refresh has ended, however it ended, and never overlaps", async () => {
    const clock = fakeClock()
    const ends: { resolve: () => void; reject: (error: Error) => void }[] = []
    const refresh = () => new Promise<void>((resolve, reject) => ends.push({ resolve, reject }))
    const stop = startAutoRefresh({ everySeconds: 30 }, refresh, clock)
    expect(clock.waiting.map(({ ms }) => ms)).toEqual([30_000])
    clock.waiting.shift()!.callback()
    await settled()
    expect(clock.waiting).toEqual([])
    ends.shift()!.reject(new Error("reported elsewhere"))
    await settled()
    expect(clock.waiting).toHaveLength(1)
    clock.waiting.shift()!.callback()
    stop()
    ends.shift()!.resolve()
    await settled()
    expect(clock.waiting).toEqual([])
  })

  it.each([
    [0, 9_000],
    [0.5, 10_000],
    [1, 11_000],
  ])("varies the time by the jitter (chance %s)", (random, ms) => {
    const clock = fakeClock(random)
    const stop = startAutoRefresh({ everySeconds: 10, jitter: 0.1 }, async () => {}, clock)
    expect(clock.waiting[0]!.ms).toBeCloseTo(ms)
    stop()
    expect(clock.waiting).toEqual([])
  })

  it.each([{ everySeconds: 0 }, { everySeconds: Number.NaN }, { everySeconds: 1, jitter: 2 }])(
    "refuses %o",
    (options) => {
      expect(() => startAutoRefresh(options, async () => {}, fakeClock())).toThrow(/option autoRefresh/)
    },
  )
})
