import { describe, expect, it } from "vitest"
import { silentLogger } from "../../../../src/logger.js"
import { Audit, type AuditedQuery, type AuditOptions } from "../../../../src/reader/audit/audit.js"

const HOUR_MS = 3_600_000

/** A clock that goes when it is told to; chance says what the test lets it say. */
function fakeClock(chance: () => number = () => 0.999) {
  let now = 0
  let timers: { readonly atMs: number; readonly callback: () => void }[] = []
  return {
    nowMs: () => now,
    random: chance,
    after(ms: number, callback: () => void) {
      const timer = { atMs: now + ms, callback }
      timers.push(timer)
      return () => {
        timers = timers.filter((other) => other !== timer)
      }
    },
    /** Lets time pass without anything happening. */
    spend(ms: number) {
      now += ms
    },
    /** Runs what is due until then, in order, each at its time. */
    async go(ms: number) {
      const end = now + ms
      for (;;) {
        const [next] = timers.filter(({ atMs }) => atMs <= end).sort((a, b) => a.atMs - b.atMs)
        if (next === undefined) break
        timers = timers.filter((timer) => timer !== next)
        now = Math.max(now, next.atMs)
        next.callback()
        for (let i = 0; i < 5; i++) await Promise.resolve()
      }
      now = Math.max(now, end)
    },
    timers: () => timers.length,
  }
}

const query = (n: number): AuditedQuery => ({
  vector: [n],
  k: 1,
  snapshot: "run",
  distances: [],
  target: undefined,
})

interface Given {
  readonly clock?: ReturnType<typeof fakeClock>
  readonly options?: AuditOptions
  readonly ask?: (n: number) => Promise<void>
}

function createAudit({ clock = fakeClock(), options = {}, ask = async () => {} }: Given = {}) {
  const asked: number[] = []
  const state = { idle: true }
  const audit = new Audit({
    options,
    isIdle: () => state.idle,
    ask(audited) {
      asked.push(audited.vector[0]!)
      return ask(audited.vector[0]!)
    },
    logger: silentLogger,
    clock,
  })
  return { audit, clock, asked, state }
}

describe("which queries are asked again", () => {
  it("a share by chance", () => {
    const chances = [0.0009, 0.001, 0.5, 0]
    const { audit } = createAudit({
      clock: fakeClock(() => chances.shift()!),
      options: { minPerHour: 0 },
    })
    expect([audit.draw(), audit.draw(), audit.draw(), audit.draw()]).toEqual([true, false, false, true])
  })

  it("so many an hour at least, where there are so many", () => {
    const { audit, clock } = createAudit({ options: { share: 0, minPerHour: 20 } })
    let drawn = 0
    // A query every ten seconds for two hours.
    for (let n = 0; n < 720; n++) {
      clock.spend(10_000)
      if (audit.draw()) drawn++
    }
    expect(drawn).toBe(40)
    clock.spend(5 * HOUR_MS)
    expect([audit.draw(), audit.draw()]).toEqual([true, false])
  })

  it("by default one in a thousand, and 20 an hour", () => {
    const { audit, clock } = createAudit({ clock: fakeClock(() => 0.00099) })
    expect(audit.draw()).toBe(true)
    const { audit: other, clock: later } = createAudit({ clock: fakeClock(() => 0.001) })
    later.spend(HOUR_MS / 20 - 1)
    expect(other.draw()).toBe(false)
    later.spend(1)
    expect(other.draw()).toBe(true)
    expect(clock.timers()).toBe(0)
  })
})

describe("asking again", () => {
  it("waits until nobody else asks, in order", async () => {
    const { audit, clock, asked, state } = createAudit()
    state.idle = false
    for (const n of [1, 2]) audit.add(query(n))
    await clock.go(1000)
    expect(asked).toEqual([])
    state.idle = true
    await clock.go(1000)
    expect(asked).toEqual([1, 2])
    expect([audit.audited, audit.dropped, clock.timers()]).toEqual([2, 0, 0])
  })

  it("drops those for which there is no room, or no moment within a minute", async () => {
    const { audit, clock, asked, state } = createAudit()
    state.idle = false
    for (let n = 0; n < 10; n++) audit.add(query(n))
    expect(audit.dropped).toBe(2)
    await clock.go(61_000)
    expect([audit.dropped, clock.timers()]).toEqual([10, 0])
    state.idle = true
    audit.add(query(10))
    await clock.go(1000)
    expect(asked).toEqual([10])
  })

  it("rests 49 times as long as it took", async () => {
    const clock = fakeClock()
    const { audit, asked } = createAudit({ clock, ask: async () => clock.spend(100) })
    for (const n of [1, 2]) audit.add(query(n))
    await clock.go(50)
    expect(asked).toEqual([1])
    await clock.go(4898)
    expect(asked).toEqual([1])
    await clock.go(2)
    expect(asked).toEqual([1, 2])
  })

  it("goes on after one that fails, which is dropped", async () => {
    const { audit, clock, asked } = createAudit({
      ask: async (n) => {
        if (n === 1) throw new Error("no")
      },
    })
    for (const n of [1, 2]) audit.add(query(n))
    await clock.go(1000)
    expect([asked, audit.audited, audit.dropped]).toEqual([[1, 2], 1, 1])
  })

  it("ends with the reader", async () => {
    const { audit, clock, asked } = createAudit()
    audit.add(query(1))
    await audit.close()
    audit.add(query(2))
    await clock.go(1000)
    expect([asked, clock.timers()]).toEqual([[], 0])
  })
})
