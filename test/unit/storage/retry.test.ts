import { describe, expect, it } from "vitest"
import { conflict, unavailable } from "../../../src/errors.js"
import { createRetry, type RetryClock } from "../../../src/storage/retry.js"

/** A clock that jumps where it should sleep, and notes how long that was. */
function fakeClock(random = 1, costMs = 0): RetryClock & { readonly sleeps: number[] } {
  let nowMs = 1_000
  const sleeps: number[] = []
  return {
    sleeps,
    now: () => {
      nowMs += costMs
      return nowMs
    },
    sleep: async (ms, signal) => {
      signal?.throwIfAborted()
      sleeps.push(ms)
      nowMs += ms
    },
    random: () => random,
  }
}

function failing(times: number, error: () => Error = () => unavailable("busy", { status: 503 })) {
  let calls = 0
  const attempt = async () => {
    calls++
    if (calls <= times) throw error()
    return "done"
  }
  return { attempt, calls: () => calls }
}

describe("createRetry", () => {
  it("takes a setting that is undefined for one that is not there", async () => {
    const clock = fakeClock()
    const { attempt, calls } = failing(99)
    const settings = {
      attempts: undefined,
      totalMs: undefined,
      firstDelayMs: undefined,
      maxDelayMs: undefined,
    }
    await expect(createRetry(settings, clock)(attempt)).rejects.toMatchObject({ tag: "Unavailable" })
    expect([calls(), clock.sleeps]).toEqual([5, [200, 400, 800, 1_600]])
  })

  it("waits at most twice as long each time, up to the limit", async () => {
    const clock = fakeClock()
    const { attempt, calls } = failing(6)
    const retry = createRetry({ attempts: 7, firstDelayMs: 100, maxDelayMs: 1_000 }, clock)
    expect(await retry(attempt)).toBe("done")
    expect(calls()).toBe(7)
    expect(clock.sleeps).toEqual([100, 200, 400, 800, 1_000, 1_000])
  })

  it("takes a random part of that", async () => {
    const clock = fakeClock(0.25)
    await createRetry({ firstDelayMs: 100 }, clock)(failing(2).attempt)
    expect(clock.sleeps).toEqual([25, 50])
  })

  it("gives up after the attempts, with the last error and their number", async () => {
    const { attempt, calls } = failing(99)
    const retry = createRetry({ attempts: 3 }, fakeClock())
    await expect(retry(attempt)).rejects.toMatchObject({
      tag: "Unavailable",
      message: "busy (given up after 3 attempts in 0.6 s)",
      details: { status: 503, attempts: 3 },
    })
    expect(calls()).toBe(3)
  })

  it("gives up when the next attempt would start too late", async () => {
    const { attempt, calls } = failing(99)
    const retry = createRetry({ attempts: 99, totalMs: 1_000, firstDelayMs: 300 }, fakeClock())
    await expect(retry(attempt)).rejects.toMatchObject({ details: { attempts: 3 } })
    expect(calls()).toBe(3)
  })

  it("does not retry what is not Unavailable", async () => {
    for (const error of [conflict("taken"), new TypeError("bug")]) {
      const { attempt, calls } = failing(1, () => error)
      await expect(createRetry({}, fakeClock())(attempt)).rejects.toBe(error)
      expect(calls()).toBe(1)
    }
  })

  it("does not multiply: what a retried step gave up on is not retried", async () => {
    const { attempt, calls } = failing(99)
    const retry = createRetry({ attempts: 3 }, fakeClock())
    await expect(retry(() => retry(attempt))).rejects.toMatchObject({ details: { attempts: 3 } })
    expect(calls()).toBe(3)
  })

  it("stops waiting when the signal fires, and tells what it was waiting for", async () => {
    const controller = new AbortController()
    const retry = createRetry({ firstDelayMs: 1e9, maxDelayMs: 1e9, totalMs: 1e12 })
    const { attempt, calls } = failing(99)
    const call = retry(attempt, controller.signal)
    setImmediate(() => controller.abort())
    await expect(call).rejects.toMatchObject({ tag: "Aborted", message: expect.stringContaining("busy") })
    expect(calls()).toBe(1)
  })

  it("refuses settings without an attempt", () => {
    for (const attempts of [0, -1, 1.5, Number.NaN]) {
      expect(() => createRetry({ attempts })).toThrow("retry attempts must be")
    }
  })
})
