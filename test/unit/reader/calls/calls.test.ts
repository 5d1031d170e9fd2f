import { describe, expect, it } from "vitest"
import { abortable } from "../../../../src/async/abortable.js"
import { invalidInput, notFound, unavailable } from "../../../../src/errors.js"
import { silentLogger } from "../../../../src/logger.js"
import { Calls } from "../../../../src/reader/calls/calls.js"
import { HeldStates } from "../../../../src/reader/held.js"
import type { SnapshotState } from "../../../../src/reader/state.js"

const stateOf = (run: string) => ({ info: { run }, contents: new Map() }) as unknown as SnapshotState

interface Given {
  readonly pinned?: boolean
  /** What a refresh does, besides being counted. */
  readonly refresh?: (states: HeldStates) => Promise<unknown>
  readonly running?: number
  readonly maxQueued?: number
  readonly timeoutMs?: number
}

function createCalls(given: Given = {}) {
  const { pinned = false, refresh = async () => {}, running = 4, maxQueued = 4, timeoutMs } = given
  const unused = () => Promise.reject(new Error("no shard is used here"))
  const shards = { use: unused, ask: unused, retain: () => {} }
  const states = new HeldStates(shards, () => {})
  states.begin(stateOf("one"))
  let refreshes = 0
  const follower = {
    pinned,
    refresh: async () => {
      refreshes++
      await refresh(states)
      return { changed: true, from: "one", to: "two", keptShards: 0, pinned }
    },
  }
  const admission = { running, maxQueued, queueTimeoutMs: 600_000 }
  const calls = new Calls(states, follower, { admission, timeoutMs, logger: silentLogger })
  return { calls, states, refreshes: () => refreshes }
}

const moveOn = (states: HeldStates) => states.replace(stateOf("two"), async () => {})

/** Work that goes on until its signal fires. */
const endless = (_: unknown, signal: AbortSignal) => abortable(new Promise<never>(() => {}), signal)

describe("calls of a reader", () => {
  it("run on the current state, and how they went is remembered", async () => {
    const { calls } = createCalls()
    expect(await calls.run("search", {}, async ({ state }) => state.info.run)).toBe("one")
    await expect(calls.run("search", {}, () => Promise.reject(new Error("it fails")))).rejects.toThrow(
      "it fails",
    )
    await expect(calls.run("search", {}, () => Promise.reject(invalidInput("k is 0")))).rejects.toThrow(
      "k is 0",
    )
    expect(calls.recent.counts()).toEqual({ answered: 1, failed: 1, refused: 0 })
    expect(calls.recent.lastFailure).toBe("it fails")
  })

  it("run once more on a newer state if files of theirs are gone", async () => {
    const { calls, refreshes } = createCalls({ refresh: moveOn })
    const tried: [run: string, failOnMissing: boolean][] = []
    const answer = await calls.run("search", {}, async ({ state }, _signal, failOnMissing) => {
      tried.push([state.info.run, failOnMissing])
      if (tried.length === 1) throw notFound("shard.db is gone")
      return "found"
    })
    expect(answer).toBe("found")
    expect(tried).toEqual([
      ["one", true],
      ["two", false],
    ])
    expect(refreshes()).toBe(1)
    expect(calls.recent.counts()).toEqual({ answered: 1, failed: 0, refused: 0 })
  })

  it("run once more, and no oftener, where the refresh fails or brings nothing", async () => {
    const { calls, refreshes } = createCalls({ refresh: () => Promise.reject(unavailable("HTTP 503")) })
    let tries = 0
    const work = () => {
      tries++
      return Promise.reject(notFound("shard.db is gone"))
    }
    await expect(calls.run("search", {}, work)).rejects.toThrow("shard.db is gone")
    expect({ tries, refreshes: refreshes() }).toEqual({ tries: 2, refreshes: 1 })
  })

  it("do not look for a newer state for any other error, nor where the reader is pinned", async () => {
    const { calls, refreshes } = createCalls()
    await expect(calls.run("search", {}, () => Promise.reject(unavailable("HTTP 503")))).rejects.toThrow(
      "503",
    )
    expect(refreshes()).toBe(0)

    const pinned = createCalls({ pinned: true })
    const asked: boolean[] = []
    const work = async (_held: unknown, _signal: AbortSignal, failOnMissing: boolean) => {
      asked.push(failOnMissing)
      throw notFound("shard.db is gone")
    }
    await expect(pinned.calls.run("search", {}, work)).rejects.toThrow("shard.db is gone")
    expect(asked).toEqual([false])
    expect(pinned.refreshes()).toBe(0)
  })

  it("do not wait for a refresh when they are aborted", async () => {
    const abort = new AbortController()
    const { calls } = createCalls({
      refresh: () => {
        abort.abort()
        return new Promise(() => {})
      },
    })
    const work = () => Promise.reject(notFound("shard.db is gone"))
    await expect(calls.run("search", { signal: abort.signal }, work)).rejects.toMatchObject({
      tag: "Aborted",
    })
  })

  it("end after their own time limit, or else the reader's", async () => {
    const { calls } = createCalls({ timeoutMs: 2 })
    const late = (timeoutMs: number) => ({ tag: "Aborted", details: { timeoutMs } })
    await expect(calls.run("search", {}, endless)).rejects.toMatchObject(late(2))
    await expect(calls.run("search", { timeoutMs: 1 }, endless)).rejects.toMatchObject(late(1))
    expect(calls.recent.counts()).toMatchObject({ failed: 2 })
  })

  it("are turned away when too many wait, which counts as no failure", async () => {
    const { calls } = createCalls({ running: 1, maxQueued: 0 })
    const abort = new AbortController()
    const running = calls.run("search", { signal: abort.signal }, endless)
    await expect(calls.run("search", {}, async () => "found")).rejects.toMatchObject({ tag: "Unavailable" })
    abort.abort()
    await expect(running).rejects.toMatchObject({ tag: "Aborted" })
    expect(calls.recent.counts()).toEqual({ answered: 0, failed: 0, refused: 1 })
  })

  it("begin no more after the end; those that run are waited for, or stopped", async () => {
    const { calls } = createCalls()
    let finish = (): void => {}
    const until = new Promise<void>((resolve) => {
      finish = resolve
    })
    const patient = calls.bounded("warming", {}, () => until)
    const stopped = calls.run("search", {}, endless)
    calls.end()
    expect(calls.ended).toBe(true)
    await expect(calls.run("search", {}, async () => "found")).rejects.toMatchObject({ tag: "Closed" })
    const order: string[] = []
    const settled = calls.settled().then(() => order.push("settled"))
    calls.abort()
    await expect(stopped).rejects.toMatchObject({
      tag: "Closed",
      message: "this reader was closed while a search ran",
    })
    order.push("finished")
    finish()
    await Promise.all([patient, settled])
    expect(order).toEqual(["finished", "settled"])
  })
})
