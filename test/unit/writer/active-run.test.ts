import { randomUUID } from "node:crypto"
import { describe, expect, it } from "vitest"
import { isVecsnapError, unavailable } from "../../../src/errors.js"
import { silentLogger } from "../../../src/logger.js"
import { readPointer } from "../../../src/manifest/current.js"
import { runKey } from "../../../src/manifest/keys.js"
import { encodeRunRecord, type RunRecord, readRunRecord } from "../../../src/manifest/run-record.js"
import { openMemoryStore } from "../../../src/storage/memory.js"
import type { ObjectStore, PutOptions } from "../../../src/storage/store.js"
import { wrapStore } from "../../../src/storage/wrap-store.js"
import { type RunOptions, startRun } from "../../../src/writer/active-run.js"
import { publishTiny } from "../../support/tiny-snapshot.js"

const RUN = "aaaaaaaaaaaa"
const KEY = runKey(RUN)

/** Time that stands still until a test lets it pass: `beat` ends the sleep that is going on. */
function handClock(): { clock: NonNullable<RunOptions["clock"]>; beat(): Promise<void>; sleeps: number[] } {
  const sleeps: number[] = []
  let wake: (() => void) | undefined
  let ms = Date.parse("2026-11-21T03:00:00Z")
  return {
    sleeps,
    clock: {
      date: () => new Date(ms++),
      sleep: (delayMs, signal) =>
        new Promise((resolve, reject) => {
          sleeps.push(delayMs)
          wake = resolve
          signal?.addEventListener("abort", () => reject(signal.reason), { once: true })
        }),
    },
    beat: async () => {
      wake?.()
      for (let turn = 0; turn < 20; turn++) await new Promise(setImmediate)
    },
  }
}

const start = (store: ObjectStore, options: Partial<RunOptions> = {}) =>
  startRun(store, { logger: silentLogger, run: RUN, clock: handClock().clock, ...options })

const recordOf = async (store: ObjectStore): Promise<RunRecord> => (await readRunRecord(store, KEY))!.record!

async function overwrite(store: ObjectStore, changes: Partial<RunRecord>): Promise<void> {
  await store.put(KEY, encodeRunRecord({ ...(await recordOf(store)), ...changes }))
}

function withPut(
  store: ObjectStore,
  put: (
    key: string,
    write: () => Promise<{ readonly etag: string }>,
    options?: PutOptions,
  ) => Promise<{ readonly etag: string }>,
): ObjectStore {
  return {
    ...wrapStore(store, (_, call) => call()),
    put: (key, body, options) => put(key, () => store.put(key, body, options), options),
  }
}

function warnings() {
  const lines: string[] = []
  return { lines, logger: { ...silentLogger, warn: (_: object, text: string) => void lines.push(text) } }
}

describe("a run", () => {
  it("says what it is from the start to the end", async () => {
    const store = openMemoryStore(randomUUID())
    const run = await start(store, { configDigest: "d", leaseSeconds: 60 })
    expect(await recordOf(store)).toMatchObject({
      run: RUN,
      state: "running",
      pid: process.pid,
      configDigest: "d",
      leaseSeconds: 60,
      base: undefined,
      published: false,
    })
    run.note({ stage: "shards" })
    await run.renew()
    expect(await recordOf(store)).toMatchObject({ state: "running", stage: "shards" })
    const counts = { rows: 3, skippedRows: 0, duplicateRows: 0, shards: 1, bytes: 9 }
    await run.end({ published: true, counts })
    expect(await recordOf(store)).toMatchObject({
      state: "succeeded",
      published: true,
      counts,
      stage: "shards",
    })
  })

  it("tells how it failed, without more than the sentence", async () => {
    const store = openMemoryStore(randomUUID())
    await (await start(store)).end({ error: unavailable("the store is down", { secret: "x" }) })
    const { state, error } = await recordOf(store)
    expect({ state, error }).toEqual({
      state: "failed",
      error: { tag: "Unavailable", message: "the store is down" },
    })
  })

  it("renews its lease four times as often as needed, and stops when it ends", async () => {
    const store = openMemoryStore(randomUUID())
    const { clock, beat, sleeps } = handClock()
    const run = await start(store, { clock, leaseSeconds: 120 })
    expect(sleeps).toEqual([30_000])
    const before = await store.head(KEY)
    await beat()
    expect((await store.head(KEY))!.etag).not.toBe(before!.etag)
    expect(sleeps).toEqual([30_000, 30_000])
    await run.end({})
    const last = await store.head(KEY)
    await beat()
    expect(sleeps).toHaveLength(2)
    expect(await store.head(KEY)).toEqual(last)
  })

  it("goes on when a renewal fails, says so in the log, and renews at the next beat", async () => {
    const inner = openMemoryStore(randomUUID())
    let down = false
    const store = withPut(inner, (_, write) => (down ? Promise.reject(unavailable("down")) : write()))
    const { clock, beat } = handClock()
    const { lines, logger } = warnings()
    const run = await start(store, { clock, logger })
    down = true
    await beat()
    expect(lines).toEqual(["the lease of the run was not renewed"])
    await expect(run.renew()).rejects.toMatchObject({ tag: "Unavailable" })
    expect(run.lost.aborted).toBe(false)
    down = false
    await run.renew()
  })

  it.each<[string, (store: ObjectStore) => Promise<unknown>, RegExp]>([
    ["a collection took it for dead", (store) => overwrite(store, { state: "abandoned" }), /says abandoned/],
    ["its record is gone", (store) => store.delete([KEY]), /its record is gone/],
  ])("is lost when %s, and can't be renewed", async (_, happen, message) => {
    const store = openMemoryStore(randomUUID())
    const { clock, beat } = handClock()
    const run = await start(store, { clock })
    await happen(store)
    await beat()
    expect(run.lost.aborted).toBe(true)
    expect(isVecsnapError(run.lost.reason, "Conflict")).toBe(true)
    await expect(run.renew()).rejects.toThrow(message)
    const found = await readRunRecord(store, KEY)
    await run.end({ error: run.lost.reason })
    expect((await readRunRecord(store, KEY))?.record?.state).toBe(found?.record?.state)
  })

  it("keeps its lease when the reply to a renewal was lost", async () => {
    const inner = openMemoryStore(randomUUID())
    let lose = false
    const store = withPut(inner, async (_, write) => {
      const reply = await write()
      if (!lose) return reply
      lose = false
      throw unavailable("the connection was closed")
    })
    const run = await start(store)
    lose = true
    await expect(run.renew()).rejects.toMatchObject({ tag: "Unavailable" })
    await run.renew()
    await run.end({ published: true })
    expect(await recordOf(inner)).toMatchObject({ state: "succeeded" })
  })

  it("is based on what is live once its lease is written, so that a collection can't miss it", async () => {
    const inner = openMemoryStore(randomUUID())
    await publishTiny(inner, "bbbbbbbbbbbb")
    let once = true
    const store = withPut(inner, async (key, write) => {
      const reply = await write()
      // Between the first look at the pointer and the second.
      if (key === KEY && once) {
        once = false
        await publishTiny(inner, "cccccccccccc")
      }
      return reply
    })
    const run = await start(store)
    expect(run.base?.pointer).toMatchObject({ run: "cccccccccccc", number: 2 })
    expect(await recordOf(inner)).toMatchObject({ base: "cccccccccccc" })
    expect((await readPointer(inner))!.run).toBe("cccccccccccc")
    await run.end({})
  })

  it("warns where the store ignores preconditions", async () => {
    const inner = openMemoryStore(randomUUID())
    const { lines, logger } = warnings()
    await (await start(inner, { logger })).end({})
    expect(lines).toEqual([])
    const ignoring: ObjectStore = {
      ...wrapStore(inner, (_, call) => call()),
      put: (key, body) => inner.put(key, body),
    }
    await (await start(ignoring, { logger, run: "dddddddddddd" })).end({})
    expect(lines).toEqual([expect.stringMatching(/^the store ignores preconditions/)])
  })
})
