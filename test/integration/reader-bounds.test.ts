import { readdir, rm, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { afterEach, describe, expect, it, vi } from "vitest"
import { unavailable } from "../../src/errors.js"
import {
  buildSnapshot,
  type Health,
  type ObjectStore,
  type OpenOptions,
  openSnapshot,
  openStore,
  type Reader,
} from "../../src/index.js"
import { startS3Server } from "../servers/s3-server.js"
import { type GatedStore, gatedStore } from "../support/gate.js"
import { makeRecords } from "../support/records.js"
import { withTempDir } from "../support/stores.js"

const SHARDS = 3
const RECORDS = makeRecords(60, { dim: 4, shards: SHARDS }).map((record, n) => ({
  ...record,
  fields: {},
  payload: n % 5 === 0 ? null : { n },
}))
const QUERY = RECORDS[7]!.vector as Float32Array
const SHARD_FILE = /shard\.db$/
/** That a shard's download begins with. */
const FIRST_FILE = /cells\.bin$/
const POINTER = /^_CURRENT$/

let roots = 0

interface Given {
  readonly gate: GatedStore
  readonly cacheDir: string
  /** Publishes a snapshot with other contents than the ones before; returns its run. */
  readonly publish: () => Promise<string>
  readonly open: <Payload>(options?: OpenOptions<Payload>) => Promise<Reader<Payload>>
}

/** A root in memory with one snapshot, whose reads the test can hold. */
async function withRoot(work: (given: Given) => Promise<void>): Promise<void> {
  await withTempDir(async (dir) => {
    const to = `memory://reader-bounds-${process.pid}-${roots++}`
    const gate = gatedStore(openStore(to))
    const cacheDir = join(dir, "cache")
    let published = 0
    const publish = async () => {
      const vectors = makeRecords(RECORDS.length, { dim: 4, seed: ++published }).map(({ vector }) => vector)
      const records = RECORDS.map((record, n) => ({ ...record, vector: vectors[n]! }))
      const sharding = { strategy: "explicit", shards: SHARDS } as const
      return (await buildSnapshot(records, { to, sharding })).run
    }
    await publish()
    const open = <Payload>(options: OpenOptions<Payload> = {}) =>
      openSnapshot<Payload>(gate.store, { cacheDir, workers: 1, ...options })
    await work({ gate, cacheDir, publish, open })
  })
}

const one = (shard = 0) => ({ shards: [shard], k: 3 })
const ALL = { shards: "all", k: 3 } as const

/** Whether a promise has settled, after all that is ready to run has run. */
async function isSettled(promise: Promise<unknown>): Promise<boolean> {
  const pending = Symbol()
  await new Promise(setImmediate)
  const first = await Promise.race([promise.catch(() => {}), Promise.resolve(pending)])
  return first !== pending
}

describe("the time limit of a call", () => {
  it("ends its waiting for its turn, in which it has asked nothing of anybody", () =>
    withRoot(async ({ gate, open }) => {
      await using reader = await open({ concurrency: 1, timeoutMs: 600_000 })
      gate.hold(SHARD_FILE)
      const running = reader.search(QUERY, one(0))
      await gate.arrived(1)
      const queued = reader.search(QUERY, { ...one(1), timeoutMs: 5 })
      expect(reader.stats().calls).toMatchObject({ running: 1, queued: 1 })
      await expect(queued).rejects.toMatchObject({
        tag: "Aborted",
        message: "the search has not ended within 5 ms (timeoutMs)",
        details: { timeoutMs: 5 },
      })
      await expect(reader.get([RECORDS[1]!.id], { timeoutMs: 5 })).rejects.toThrow(
        /^the lookup has not ended/,
      )
      expect(reader.stats().calls).toEqual({ running: 1, queued: 0, refused: 0 })
      gate.release()
      expect((await running).complete).toBe(true)
      expect(reader.stats()).toMatchObject({ shardOpens: 1, shardDownloads: 1, calls: { running: 0 } })
    }))

  it("ends its downloads, which leave nothing behind", () =>
    withRoot(async ({ gate, cacheDir, open }) => {
      await using reader = await open({ timeoutMs: 200 })
      gate.hold(FIRST_FILE)
      const [late, [download]] = await Promise.all([
        reader.search(QUERY, one()).catch((error) => error),
        gate.arrived(1),
      ])
      expect(late).toMatchObject({ tag: "Aborted", details: { timeoutMs: 200 } })
      await vi.waitFor(() => expect(download!.signal?.aborted).toBe(true))
      await vi.waitFor(async () => expect(await readdir(join(cacheDir, ".partial"))).toEqual([]))
      expect(reader.stats()).toMatchObject({ openShards: 0, calls: { running: 0 } })
      gate.release()
      const again = await reader.search(QUERY, { ...one(), timeoutMs: 600_000 })
      expect(again.complete).toBe(true)
      const downloads = gate.calls.filter(({ key }) => FIRST_FILE.test(key))
      expect(downloads.map(({ operation }) => operation)).toEqual(["getFile", "getFile"])
    }))

  it("ends its searching, and the shard goes on answering others", () =>
    withRoot(async ({ open }) => {
      await using reader = await open()
      const before = await reader.search(QUERY, ALL)
      const { shardOpens } = reader.stats()
      const long = reader.searchMany(Array(5000).fill(QUERY), { ...ALL, timeoutMs: 1 })
      await expect(long).rejects.toMatchObject({ tag: "Aborted", details: { timeoutMs: 1 } })
      expect(await reader.search(QUERY, ALL)).toEqual(before)
      expect(reader.stats().shardOpens).toBe(shardOpens)
    }))
})

describe("calls that share a download", () => {
  it("go on when one of them is aborted, with one request a file", () =>
    withTempDir(async (cacheDir) => {
      const server = await startS3Server({ buckets: ["vectors"] })
      const credentials = { accessKeyId: "a", secretAccessKey: "b" }
      const s3 = { endpoint: server.endpoint, region: "us-east-1", credentials }
      const store = openStore("s3://vectors/shared", { s3 })
      try {
        await buildSnapshot(RECORDS, { to: store, sharding: { strategy: "explicit", shards: SHARDS } })
        const gate = gatedStore(store)
        await using reader = await openSnapshot(gate.store, { cacheDir })
        server.requests.length = 0
        gate.hold(SHARD_FILE)
        const controller = new AbortController()
        const leaves = reader.search(QUERY, { ...one(), signal: controller.signal })
        const stays = reader.search(QUERY, one())
        const [download] = await gate.arrived(1)
        controller.abort()
        await expect(leaves).rejects.toMatchObject({ tag: "Aborted" })
        expect(await isSettled(stays)).toBe(false)
        expect(download!.signal?.aborted).toBe(false)
        gate.release()
        expect((await stays).hits).toHaveLength(3)
        expect(server.requests).toMatchObject([
          { method: "GET", key: expect.stringMatching(FIRST_FILE), status: 200 },
          { method: "GET", key: expect.stringMatching(SHARD_FILE), status: 200 },
        ])
        expect(reader.stats()).toMatchObject({ shardOpens: 1, shardDownloads: 1 })
      } finally {
        store.close()
        await server.close()
      }
    }))

  it("end it together when the last of them is aborted", () =>
    withRoot(async ({ gate, open }) => {
      await using reader = await open()
      gate.hold(SHARD_FILE)
      const controllers = [new AbortController(), new AbortController()]
      const calls = controllers.map(({ signal }) => reader.search(QUERY, { ...one(), signal }))
      const ended = Promise.allSettled(calls)
      const [download] = await gate.arrived(1)
      controllers[0]!.abort()
      await expect(calls[0]).rejects.toMatchObject({ tag: "Aborted" })
      expect(download!.signal?.aborted).toBe(false)
      controllers[1]!.abort()
      await ended
      expect(download!.signal?.aborted).toBe(true)
    }))
})

describe("closing", () => {
  it("ends a refresh with Closed, which is no failure", () =>
    withRoot(async ({ gate, publish, open }) => {
      const reader = await open()
      let failures = 0
      reader.on("refresh-failed", () => failures++)
      await publish()
      gate.hold(POINTER)
      const refreshing = reader.refresh()
      const refused = expect(refreshing).rejects.toMatchObject({ tag: "Closed" })
      const [reading] = await gate.arrived(1)
      const closing = reader.close()
      await refused
      await closing
      expect(reading!.signal?.aborted).toBe(true)
      expect(failures).toBe(0)
      await expect(reader.refresh()).rejects.toMatchObject({ tag: "Closed" })
    }))

  it("waits for what runs and what is queued, until it is told to abort them", () =>
    withRoot(async ({ gate, open }) => {
      const reader = await open({ concurrency: 1 })
      gate.hold(SHARD_FILE)
      const calls = [reader.search(QUERY, one(0)), reader.get([RECORDS[1]!.id], { shards: [1] })]
      const ended = Promise.allSettled(calls)
      const [download] = await gate.arrived(1)
      const closing = reader.close()
      expect(await isSettled(closing)).toBe(false)
      expect(await isSettled(ended)).toBe(false)
      expect(reader.close({ abort: true })).toBe(closing)
      await closing
      for (const result of await ended) {
        expect(result).toMatchObject({ status: "rejected", reason: { tag: "Closed" } })
      }
      expect(download!.signal?.aborted).toBe(true)
      expect(reader.stats()).toMatchObject({ openShards: 0, calls: { running: 0, queued: 0 } })
    }))

  it("lets what runs finish if it is not told to abort", () =>
    withRoot(async ({ gate, open }) => {
      const reader = await open()
      gate.hold(SHARD_FILE)
      const running = reader.search(QUERY, one())
      await gate.arrived(1)
      const closing = reader.close()
      await expect(reader.search(QUERY, one())).rejects.toMatchObject({ tag: "Closed" })
      gate.release()
      expect((await running).hits).toHaveLength(3)
      await closing
      expect(reader.stats().openShards).toBe(0)
    }))
})

describe("a disk that is too small for all shards that are open", () => {
  /** A store whose downloads find no room while the reader has a shard open. */
  const crowded = (store: ObjectStore, reader: () => Reader): ObjectStore => ({
    ...store,
    getFile: async (key, path, options) => {
      if (SHARD_FILE.test(key) && reader().stats().openShards > 1) {
        throw unavailable("no space left on the device", { path, code: "ENOSPC" })
      }
      return store.getFile(key, path, options)
    },
  })

  it("is searched all the same: shards that nobody uses make way", () =>
    withRoot(async ({ gate, cacheDir }) => {
      const store = crowded(gate.store, () => reader)
      await using reader: Reader = await openSnapshot(store, { cacheDir, workers: 1 })
      for (const shard of [0, 1, 2]) {
        expect(await reader.search(QUERY, one(shard))).toMatchObject({ complete: true })
        expect(reader.stats().openShards).toBe(1)
      }
    }))
})

describe("a reader in a program without types", () => {
  it("says what is wrong with a query that is none, and with k as text", () =>
    withRoot(async ({ open }) => {
      // What a caller has not set is undefined: that compiles, and is as good as absent.
      await using reader = await open({ maxOpenShards: undefined, signal: undefined, autoRefresh: undefined })
      const unset = { k: undefined, partial: undefined, timeoutMs: undefined, signal: undefined }
      expect((await reader.search(QUERY, { ...unset, shards: [0] })).hits).toHaveLength(10)
      const search = (...args: unknown[]) =>
        (reader.search as (...all: unknown[]) => Promise<unknown>)(...args)
      for (const [query, kind] of [
        [null, "null"],
        [{ 0: 1 }, "an object"],
        [undefined, "undefined"],
      ]) {
        await expect(search(query)).rejects.toMatchObject({
          tag: "InvalidInput",
          message: `the query vector is ${kind}, expected 4 numbers`,
        })
      }
      await expect(reader.searchMany(null as never)).rejects.toMatchObject({ tag: "InvalidInput" })
      await expect(search(QUERY, { k: "5" })).rejects.toThrow('k is "5", expected a whole number from 1')
    }))
})

describe("a test runner that has replaced all timers", () => {
  afterEach(() => vi.useRealTimers())

  it("does not stop searches", () =>
    withRoot(async ({ open }) => {
      vi.useFakeTimers()
      await using reader = await open()
      expect(await reader.search(QUERY, ALL)).toMatchObject({ complete: true })
      expect(await reader.get([RECORDS[1]!.id])).toHaveLength(1)
    }))
})

describe("a refresh", () => {
  afterEach(() => vi.useRealTimers())

  it.each<[string, string, (store: ObjectStore, keys: string[]) => Promise<unknown>]>([
    ["are missing", "NotFound", (store, keys) => store.delete(keys)],
    [
      "are damaged",
      "Corrupt",
      (store, keys) => Promise.all(keys.map((key) => store.put(key, Buffer.from("half")))),
    ],
  ])("keeps the old snapshot, which answers, where shards that were in use %s", (_, tag, spoil) =>
    withRoot(async ({ gate, publish, open }) => {
      await using reader = await open()
      const first = reader.snapshot.run
      await reader.search(QUERY, ALL)
      const second = await publish()
      const { store } = gate
      const files: { key: string; body: Uint8Array }[] = []
      for await (const { key } of store.list(`shards/${second}/`)) {
        files.push({ key, body: (await store.get(key))!.body })
      }
      await spoil(
        store,
        files.map(({ key }) => key),
      )
      await expect(reader.refresh()).rejects.toMatchObject({
        tag,
        message: expect.stringMatching(
          new RegExp(`^snapshot ${second} is not opened: its shard \\d, which was in use, fails: `),
        ),
        details: { run: second, shard: expect.any(Number) },
      })
      const answers = await Promise.all(Array.from({ length: 10 }, () => reader.search(QUERY, ALL)))
      for (const answer of answers) expect(answer).toMatchObject({ snapshot: first, complete: true })
      expect(await reader.health()).toMatchObject({
        status: "degraded",
        reasons: [expect.stringContaining("which was in use, fails")],
      })
      for (const { key, body } of files) await store.put(key, body)
      expect(await reader.refresh()).toMatchObject({ changed: true, to: second })
      expect(await reader.search(QUERY, ALL)).toMatchObject({ snapshot: second, complete: true })
      expect(await reader.health()).toMatchObject({ status: "healthy" })
    }),
  )

  it("looks at the only shard that may be open as well", () =>
    withRoot(async ({ gate, publish, open }) => {
      await using reader = await open({ maxOpenShards: 1 })
      const first = reader.snapshot.run
      await reader.search(QUERY, one())
      const second = await publish()
      for await (const { key } of gate.store.list(`shards/${second}/`)) await gate.store.delete([key])
      await expect(reader.refresh()).rejects.toMatchObject({ tag: "NotFound" })
      expect((await reader.search(QUERY, one())).snapshot).toBe(first)
    }))

  it("does not stay for a shard that fails in the old snapshot as well", () =>
    withRoot(async ({ gate, publish, open }) => {
      await using reader = await open()
      const first = reader.snapshot.run
      const { store } = gate
      const removeFile = async (run: string) => {
        for await (const { key } of store.list(`shards/${run}/`)) {
          if (key.startsWith(`shards/${run}/00000/`)) await store.delete([key])
        }
      }
      await removeFile(first)
      await expect(reader.search(QUERY, one())).rejects.toMatchObject({ tag: "NotFound" })
      await reader.search(QUERY, one(1))
      const second = await publish()
      await removeFile(second)
      expect(await reader.refresh()).toMatchObject({ changed: true, to: second })
      expect(await reader.search(QUERY, one(1))).toMatchObject({ snapshot: second, complete: true })
    }))

  it("is not held up by shards that take too long before the swap", () =>
    withRoot(async ({ gate, publish, open }) => {
      const warnings: object[] = []
      const ignore = () => {}
      const warn = (facts: object) => warnings.push(facts)
      await using reader = await open({ logger: { debug: ignore, info: ignore, error: ignore, warn } })
      await reader.search(QUERY, ALL)
      const second = await publish()
      gate.hold(SHARD_FILE)
      vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] })
      const refreshing = reader.refresh()
      await gate.arrived(SHARDS)
      await vi.advanceTimersByTimeAsync(30_000)
      expect(await refreshing).toMatchObject({ changed: true, to: second })
      vi.useRealTimers()
      expect(warnings).toHaveLength(SHARDS)
      for (const warning of warnings) {
        expect(warning).toMatchObject({ err: { tag: "Aborted", details: { timeoutMs: 30_000 } } })
      }
      gate.release()
      expect(await reader.search(QUERY, ALL)).toMatchObject({ snapshot: second, complete: true })
    }))

  it("does nothing for a reader that is pinned to an older run, and says so", () =>
    withRoot(async ({ gate, publish, open }) => {
      const first = await publish()
      await publish()
      const live = await publish()
      await using reader = await open({ snapshot: first })
      expect(reader.snapshot.run).toBe(first)
      const before = await reader.search(QUERY, ALL)
      expect(before.snapshot).toBe(first)
      gate.calls.length = 0
      expect(await reader.refresh()).toEqual({
        changed: false,
        from: first,
        to: first,
        keptShards: SHARDS,
        pinned: true,
      })
      expect(await reader.health()).toMatchObject({ status: "healthy", snapshot: first, pinned: true })
      expect(gate.calls).toEqual([])
      expect(await reader.search(QUERY, ALL)).toEqual(before)
      await using follower = await open()
      expect(follower.snapshot.run).toBe(live)
      expect((await follower.search(QUERY, ALL)).hits).not.toEqual(before.hits)
      const both = open({ snapshot: first, autoRefresh: { everySeconds: 1 } })
      await expect(both).rejects.toMatchObject({ tag: "InvalidInput" })
    }))
})

describe("a reader that refreshes by itself", () => {
  afterEach(() => vi.useRealTimers())

  it("follows what is published, reports what fails, and stops when it is closed", () =>
    withRoot(async ({ gate, publish, open }) => {
      const { store } = gate
      const pointer = async () => (await store.get("_CURRENT"))!.body
      const first = await pointer()
      const run = await publish()
      const second = await pointer()
      await store.put("_CURRENT", first)
      vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] })
      await using reader = await open({ autoRefresh: { everySeconds: 60, jitter: 0 } })
      const from = reader.snapshot.run
      const told: object[] = []
      reader.on("refreshed", (result) => told.push(result))
      reader.on("refresh-failed", ({ error }) => told.push(error as Error))
      const next = async () => {
        gate.calls.length = 0
        const { lastRefresh } = await reader.health()
        await vi.advanceTimersByTimeAsync(59_999)
        expect(gate.calls).toEqual([])
        await vi.advanceTimersByTimeAsync(1)
        expect(gate.calls[0]).toMatchObject({ operation: "getIfChanged", key: "_CURRENT" })
        // Not by vi.waitFor, which moves the clock.
        const hasEnded = async () => (await reader.health()).lastRefresh !== lastRefresh
        while (!(await hasEnded()) || vi.getTimerCount() !== 1) await new Promise(setImmediate)
        return told.splice(0)
      }
      expect(await next()).toEqual([])
      await store.put("_CURRENT", Buffer.from("{}"))
      expect(await next()).toMatchObject([{ tag: "Corrupt" }])
      expect(reader.snapshot.run).toBe(from)
      await store.put("_CURRENT", second)
      expect(await next()).toMatchObject([{ changed: true, from, to: run }])
      expect(reader.snapshot.run).toBe(run)

      await store.put("_CURRENT", first)
      gate.calls.length = 0
      await reader.close()
      expect(vi.getTimerCount()).toBe(0)
      await vi.advanceTimersByTimeAsync(600_000)
      expect(gate.calls).toEqual([])
      expect(told).toEqual([])
    }))

  it("does not begin again when it is closed in the middle of a refresh", () =>
    withRoot(async ({ gate, open }) => {
      vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] })
      const reader = await open({ autoRefresh: { everySeconds: 60, jitter: 0 } })
      gate.hold(POINTER)
      await vi.advanceTimersByTimeAsync(60_000)
      await gate.arrived(1)
      await reader.close()
      gate.release()
      expect(vi.getTimerCount()).toBe(0)
    }))
})

describe("health", () => {
  afterEach(() => vi.useRealTimers())

  it("names the shards that the machine fails, also where partial answers are allowed, and forgets them", () =>
    withRoot(async ({ cacheDir, open }) => {
      vi.useFakeTimers({ toFake: ["Date"] })
      await using reader = await open()
      await reader.search(QUERY, one(0))
      // So that nothing more can be written, for root too, whom no permission stops.
      await rm(join(cacheDir, ".partial"), { recursive: true })
      await writeFile(join(cacheDir, ".partial"), "")
      const answer = await reader.search(QUERY, { ...ALL, partial: "allow" })
      expect(answer.shards).toMatchObject({ answered: [0], failed: [{ shard: 1 }, { shard: 2 }] })
      const fails = (shard: number) => expect.stringMatching(`^shard ${shard} fails: the cache directory `)
      const { status, reasons } = await reader.health()
      // Both fail at the same time, so that either may be first.
      expect([status, ...[...reasons].sort()]).toEqual(["degraded", fails(1), fails(2)])
      await expect(reader.search(QUERY, one(1))).rejects.toMatchObject({ tag: "Unavailable" })
      // Nobody asks them any more.
      vi.setSystemTime(Date.now() + 301_000)
      expect(await reader.health()).toMatchObject({ status: "healthy", reasons: [] })
    }))

  it("tries a shard where it is asked to, and tells what comes of it", () =>
    withRoot(async ({ gate, cacheDir, open }) => {
      await using reader = await open()
      expect(await reader.health({ trial: true })).toMatchObject({ status: "healthy", reasons: [] })
      expect(reader.stats()).toMatchObject({ shardOpens: 1, calls: { running: 0 } })
      await using other = await open({ cacheDir: join(cacheDir, "other") })
      await writeFile(join(cacheDir, "other"), "")
      expect(await other.health()).toMatchObject({ status: "healthy" })
      expect(await other.health({ trial: true })).toMatchObject({
        status: "unhealthy",
        reasons: [expect.stringContaining("made as a trial, has failed")],
      })
      await using third = await open({ cacheDir: join(cacheDir, "third") })
      gate.hold(SHARD_FILE)
      const controller = new AbortController()
      const asked = third.health({ trial: true, signal: controller.signal })
      await gate.arrived(1)
      controller.abort()
      await expect(asked).rejects.toMatchObject({ tag: "Aborted" })
      gate.release()
    }))

  it("looks for the pointer itself, at most every five seconds, and tells how long it is gone", () =>
    withRoot(async ({ gate, open }) => {
      vi.useFakeTimers({ toFake: ["Date"] })
      await using reader = await open()
      const { store } = gate
      const reads = () => gate.calls.filter(({ key }) => POINTER.test(key)).length
      const later = (seconds: number): Promise<Health> => {
        vi.setSystemTime(Date.now() + seconds * 1000)
        return reader.health()
      }
      const pointer = (await store.get("_CURRENT"))!.body
      gate.calls.length = 0

      await store.delete(["_CURRENT"])
      expect(await later(4)).toMatchObject({ status: "healthy", reasons: [] })
      expect(reads()).toBe(0)
      const gone = await later(2)
      expect(gone.status).toBe("degraded")
      expect(gone.reasons).toEqual([
        expect.stringMatching(/^the pointer could not be read for 0 s: no snapshot is published/),
      ])
      expect(reads()).toBe(1)
      expect((await later(299)).status).toBe("degraded")
      const stillGone = await later(1)
      expect(stillGone.status).toBe("unhealthy")
      expect(stillGone.reasons).toEqual([expect.stringMatching(/^the pointer could not be read for 300 s/)])
      expect((await reader.search(QUERY, ALL)).complete).toBe(true)

      await store.put("_CURRENT", pointer)
      expect(await later(1)).toMatchObject({ status: "healthy", reasons: [] })
      const readsSoFar = reads()
      expect(await later(1)).toMatchObject({ status: "healthy" })
      expect(reads()).toBe(readsSoFar)
    }))

  it("is unhealthy at once where the pointer is gone and the snapshot is too old", () =>
    withRoot(async ({ gate, open }) => {
      vi.useFakeTimers({ toFake: ["Date"] })
      await using reader = await open({ maxAgeSeconds: 3600 })
      vi.setSystemTime(Date.now() + 3_700_000)
      expect(await reader.health()).toMatchObject({
        status: "degraded",
        reasons: [expect.stringMatching(/more than maxAgeSeconds, 3600$/)],
      })
      await gate.store.delete(["_CURRENT"])
      vi.setSystemTime(Date.now() + 6000)
      const { status, reasons } = await reader.health()
      expect(status).toBe("unhealthy")
      expect(reasons).toEqual([
        expect.stringMatching(/^the pointer could not be read/),
        expect.stringMatching(/more than maxAgeSeconds, 3600$/),
      ])
    }))

  it("waits two seconds for a pointer that does not come, once for all who ask", () =>
    withRoot(async ({ gate, open }) => {
      await using reader = await open()
      vi.useFakeTimers({ toFake: ["Date", "setTimeout", "clearTimeout"] })
      vi.setSystemTime(Date.now() + 6000)
      gate.calls.length = 0
      gate.hold(POINTER)
      const asked = Promise.all([reader.health(), reader.health()])
      await gate.arrived(1)
      await vi.advanceTimersByTimeAsync(1999)
      expect(await isSettled(asked)).toBe(false)
      await vi.advanceTimersByTimeAsync(1)
      for (const { status, reasons } of await asked) {
        expect(status).toBe("degraded")
        expect(reasons).toEqual([expect.stringMatching(/^the pointer could not be read for 0 s/)])
      }
      expect(gate.calls).toHaveLength(1)
      expect(gate.calls[0]!.signal?.aborted).toBe(true)
      gate.release()
      expect((await reader.health()).status).toBe("healthy")
    }))
})

describe("a full queue", () => {
  it("turns calls away at once, with a hint when to come again", () =>
    withRoot(async ({ gate, open }) => {
      await using reader = await open({ concurrency: 1, maxQueued: 2 })
      gate.hold(SHARD_FILE)
      const running = reader.search(QUERY, one())
      await gate.arrived(1)
      const queued = [reader.search(QUERY, one()), reader.get([RECORDS[0]!.id], { shards: [0] })]
      // Nothing that runs or waits can end while the gate is shut.
      await expect(reader.search(QUERY, one())).rejects.toMatchObject({
        tag: "Unavailable",
        details: { retryAfterMs: 150, running: 1, queued: 2 },
      })
      expect(reader.stats().calls).toEqual({ running: 1, queued: 2, refused: 1 })
      gate.release()
      await Promise.all([running, ...queued])
      expect(reader.stats().calls).toEqual({ running: 0, queued: 0, refused: 1 })
      const { status, reasons } = await reader.health()
      expect({ status, reasons }).toEqual({
        status: "degraded",
        reasons: ["1 calls were turned away lately, since too many waited"],
      })
    }))

  it("turns a call away that has waited for queueTimeoutMs, and may have no places at all", () =>
    withRoot(async ({ gate, open }) => {
      const bounds = [
        { queueTimeoutMs: 5, shard: 0, message: /a call has waited for 5 ms behind 1 that run/ },
        { maxQueued: 0, shard: 1, message: /1 calls run and 0 wait, the most that may/ },
      ]
      for (const { shard, message, ...options } of bounds) {
        await using reader = await open({ concurrency: 1, ...options })
        gate.hold(SHARD_FILE)
        const running = reader.search(QUERY, one(shard))
        await gate.arrived(1)
        const refused = reader.search(QUERY, one(shard))
        await expect(refused).rejects.toThrow(message)
        await expect(refused).rejects.toMatchObject({
          tag: "Unavailable",
          details: { running: 1, queued: 0 },
        })
        gate.release()
        expect((await running).complete).toBe(true)
      }
    }))
})

describe("payloads and recall", () => {
  it("names record and shard of a payload that is not what the schema expects; no payload is no fault", () =>
    withRoot(async ({ open }) => {
      const parse = (value: unknown): number => {
        const { n } = value as { n: number }
        if (n === 7) throw new Error("expected a number but seven")
        return n
      }
      await using reader = await open({ payloadSchema: { parse } })
      const expected = {
        tag: "InvalidInput",
        message:
          'the payload of record "id-7" in shard 1 is not what payloadSchema expects: expected a number but seven',
        details: { id: "id-7", shard: 1 },
      }
      const k = RECORDS.length
      await expect(reader.search(QUERY, { shards: "all", k })).rejects.toMatchObject(expected)
      await expect(reader.get(["id-4", "id-7"])).rejects.toMatchObject(expected)
      const found = await reader.get(["id-8", "id-5", "nobody"])
      expect(found.map((record) => record?.payload)).toEqual([8, null, undefined])
      expect(await reader.health()).toMatchObject({ status: "healthy" })
    }))

  it("refuses targetRecall of a snapshot without a layout before it asks for anything", () =>
    withRoot(async ({ gate, open }) => {
      await using reader = await open()
      gate.calls.length = 0
      for (const targetRecall of [0.5, 1]) {
        await expect(reader.search(QUERY, { targetRecall })).rejects.toMatchObject({
          tag: "Unsupported",
          message: expect.stringContaining("targetRecall"),
        })
      }
      for (const targetRecall of [0, 1.01, Number.NaN]) {
        await expect(reader.search(QUERY, { ...ALL, targetRecall })).rejects.toMatchObject({
          tag: "InvalidInput",
        })
      }
      expect(gate.calls).toEqual([])
    }))
})
