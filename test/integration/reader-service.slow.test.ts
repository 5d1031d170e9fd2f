import { readdir, readFile, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { Worker } from "node:worker_threads"
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from "vitest"
import {
  type BuildOptions,
  buildSnapshot,
  type OpenOptions,
  openSnapshot,
  openStore,
  type RefreshResult,
  readPointer,
} from "../../src/index.js"
import { encodePointer } from "../../src/manifest/pointer.js"
import { type S3Server, startS3Server } from "../servers/s3-server.js"
import { FIELDS, makeRecords } from "../support/records.js"
import { withTempDir } from "../support/stores.js"

const RECORDS = makeRecords(120, { dim: 8 })
const QUERY = RECORDS[5]!.vector as Float32Array
const ALL = { probes: "all", k: 5 } as const

let server: S3Server
let roots = 0
beforeAll(async () => {
  server = await startS3Server({ buckets: ["vectors"] })
})
afterAll(() => server.close())
beforeEach(() => server.clearFaults())
afterEach(() => vi.restoreAllMocks())

/** A root with one snapshot on a server that can be asked to misbehave. */
async function withRoot(
  work: (given: {
    url: string
    store: NonNullable<OpenOptions["store"]>
    open: (options?: OpenOptions) => ReturnType<typeof openSnapshot>
    build: (options?: Partial<BuildOptions>) => Promise<string>
    cacheDir: string
  }) => Promise<void>,
): Promise<void> {
  await withTempDir(async (dir) => {
    const url = `s3://vectors/root-${roots++}`
    const store = {
      s3: {
        endpoint: server.endpoint,
        region: "us-east-1",
        credentials: { accessKeyId: "a", secretAccessKey: "b" },
      },
      retry: { attempts: 2, firstDelayMs: 1 },
    }
    const cacheDir = join(dir, "cache")
    const build = async (more: Partial<BuildOptions> = {}) =>
      (
        await buildSnapshot(RECORDS, {
          to: url,
          store,
          fields: FIELDS,
          sharding: { strategy: "cluster", shards: 4 },
          ...more,
        })
      ).run
    await build()
    const open = (options: OpenOptions = {}) => openSnapshot(url, { store, cacheDir, ...options })
    await work({ url, store, open, build, cacheDir })
  })
}

describe("a reader in a service", () => {
  it("asks for the pointer conditionally: nothing new costs no body", () =>
    withRoot(async ({ open }) => {
      await using reader = await open()
      server.requests.length = 0
      expect(await reader.refresh()).toMatchObject({ changed: false })
      expect(server.requests).toMatchObject([{ status: 304, bytesOut: 0 }])
    }))

  it("opens the shards in use before the swap, shares one refresh, and tells its listeners", () =>
    withRoot(async ({ open, build }) => {
      await using reader = await open()
      await reader.search(QUERY, ALL)
      const told: RefreshResult[] = []
      reader.on("refreshed", (result) => told.push(result))
      reader.on("refreshed", () => {
        throw new Error("a listener's own fault")
      })
      const second = await build({ metric: "l2", allow: ["metric"] })
      const [a, b] = await Promise.all([reader.refresh(), reader.refresh()])
      expect(a).toBe(b)
      expect(told).toEqual([a])
      const { shardDownloads } = reader.stats()
      expect(shardDownloads).toBe(8)
      expect((await reader.search(QUERY, ALL)).snapshot).toBe(second)
      expect(reader.stats().shardDownloads).toBe(shardDownloads)
    }))

  it("refreshes in the background, through failures, until it is closed", () =>
    withRoot(async ({ open, build }) => {
      await using reader = await open({ autoRefresh: { everySeconds: 0.01 } })
      const failed = new Promise((resolve) => reader.on("refresh-failed", resolve))
      server.fault({ key: /_CURRENT$/, method: "GET" }, { do: "status", status: 503 }, 2)
      expect(await failed).toMatchObject({ error: { tag: "Unavailable" } })
      const refreshed = new Promise((resolve) => reader.on("refreshed", resolve))
      const second = await build()
      expect(await refreshed).toMatchObject({ to: second })
    }))

  it("stays with the snapshot it is pinned to, and says so", () =>
    withRoot(async ({ open, build }) => {
      const first = await build()
      const second = await build()
      await using reader = await open({ snapshot: first })
      expect(reader.snapshot.run).toBe(first)
      expect(await reader.refresh()).toMatchObject({ changed: false, pinned: true, to: first })
      expect((await reader.search(QUERY)).snapshot).toBe(first)
      await using live = await open({ snapshot: second })
      expect(live.stats().requests.list).toBe(0)
      await expect(open({ snapshot: "000000000000" })).rejects.toMatchObject({ tag: "NotFound" })
      await expect(open({ snapshot: "../x" })).rejects.toMatchObject({ tag: "InvalidInput" })
    }))

  it("repairs a shard whose local copy is damaged, once", () =>
    withRoot(async ({ open, cacheDir }) => {
      {
        await using filling = await open()
        await filling.search(QUERY, ALL)
      }
      for (const name of (await readdir(cacheDir)).filter((one) => !one.startsWith("."))) {
        const file = join(cacheDir, name, "shard.db")
        await writeFile(file, Buffer.alloc((await readFile(file)).length, 7))
      }
      await using reader = await open()
      const answers = await Promise.all([1, 2, 3].map(() => reader.search(QUERY, ALL)))
      expect(answers.map(({ complete }) => complete)).toEqual([true, true, true])
      expect(reader.stats().shardDownloads).toBe(4)
    }))

  it("looks for another snapshot once if files of its own were collected", () =>
    withRoot(async ({ url, store, open, build }) => {
      await using reader = await open()
      const first = reader.snapshot.run
      const second = await build({ metric: "l2", allow: ["metric"] })
      const direct = openStore(url, store)
      for await (const { key } of direct.list(`shards/${first}/`)) await direct.delete([key])
      const answers = await Promise.all([
        reader.search(QUERY, ALL),
        reader.search(QUERY, { ...ALL, partial: "allow" }),
      ])
      for (const answer of answers) expect(answer).toMatchObject({ snapshot: second, complete: true })
      await using pinned = await open({ snapshot: first })
      await expect(pinned.search(QUERY, ALL)).rejects.toMatchObject({ tag: "NotFound" })
    }))

  it("cuts a download by timeoutMs, and leaves nothing of it when nobody waits any more", () =>
    withRoot(async ({ open, cacheDir }) => {
      await using reader = await open()
      server.fault({ key: /shard\.db$/ }, { do: "delay", ms: 600_000 }, 4)
      await expect(reader.search(QUERY, { ...ALL, timeoutMs: 50 })).rejects.toMatchObject({
        tag: "Aborted",
        details: { timeoutMs: 50 },
      })
      server.clearFaults()
      expect((await reader.search(QUERY, ALL)).complete).toBe(true)
      expect(await readdir(join(cacheDir, ".partial"))).toEqual([])
    }))

  it("turns calls away at once when too many wait", () =>
    withRoot(async ({ open }) => {
      await using reader = await open({ concurrency: 1, maxQueued: 1 })
      const calls = [1, 2, 3].map(() => reader.search(QUERY, ALL))
      await expect(calls[2]).rejects.toMatchObject({
        tag: "Unavailable",
        details: { retryAfterMs: expect.any(Number) },
      })
      expect(reader.stats().calls).toMatchObject({ refused: 1 })
      await Promise.all(calls.slice(0, 2))
    }))

  it("aborts what runs when it is closed so, and is unhealthy then", () =>
    withRoot(async ({ open }) => {
      const reader = await open()
      server.fault({ key: /shard\.db$/ }, { do: "delay", ms: 600_000 }, 4)
      const running = reader.search(QUERY, ALL)
      const refused = expect(running).rejects.toMatchObject({ tag: "Closed" })
      await reader.close({ abort: true })
      await refused
      expect(await reader.health()).toMatchObject({ status: "unhealthy", reasons: ["this reader is closed"] })
    }))

  it.each([0, 1])(
    "ends when it is closed so, though its search workers neither answer nor end, %i opened",
    (opened) =>
      withRoot(async ({ open }) => {
        const reader = await open({ workers: 1 })
        if (opened > 0) await reader.search(QUERY, ALL)
        // As a worker within a statement that has no end.
        vi.spyOn(Worker.prototype, "postMessage").mockImplementation(() => {})
        vi.spyOn(Worker.prototype, "terminate").mockImplementation(() => new Promise(() => {}))
        const asked = vi.mocked(Worker.prototype.postMessage)
        const refused = expect(reader.search(QUERY, ALL)).rejects.toMatchObject({ tag: "Closed" })
        await vi.waitFor(() => expect(asked).toHaveBeenCalled())
        const closing = reader.close()
        await reader.close({ abort: true })
        await Promise.all([refused, closing])
      }),
  )

  it("goes degraded, unhealthy and healthy again with its pointer and its age", () =>
    withRoot(async ({ url, store, open, build }) => {
      const direct = openStore(url, store)
      const { run, ...pointer } = (await readPointer(direct))!
      const publishedAt = new Date(Date.now() - 7_200_000)
      await direct.put("_CURRENT", encodePointer({ ...pointer, run, publishedAt }))
      await using reader = await open({ maxAgeSeconds: 3600 })
      expect(await reader.health()).toMatchObject({ status: "degraded", snapshot: run })
      server.fault({ key: /_CURRENT$/, method: "GET" }, { do: "status", status: 503 }, 2)
      await expect(reader.refresh()).rejects.toMatchObject({ tag: "Unavailable" })
      const sick = await reader.health()
      expect(sick.status).toBe("unhealthy")
      expect(sick.reasons.join("\n")).toMatch(/pointer could not be read.*maxAgeSeconds.*last refresh/s)
      await build()
      await reader.refresh()
      expect(await reader.health()).toMatchObject({ status: "healthy", reasons: [] })
    }))

  it.each(["truncate", "flip-byte", "missing"] as const)(
    "keeps its snapshot when the routing of the next one is bad: %s",
    (fault) =>
      withRoot(async ({ url, store, open, build }) => {
        await using reader = await open()
        const first = reader.snapshot.run
        const second = await build()
        const key = `routing/${second}/centroids.npy`
        const direct = openStore(url, store)
        const body = (await direct.get(key))!.body
        if (fault === "missing") await direct.delete([key])
        else server.fault({ key: new RegExp(`${key}$`) }, { do: fault }, 2)
        await expect(reader.refresh()).rejects.toThrow(key)
        expect((await reader.search(QUERY)).snapshot).toBe(first)
        await expect(open()).rejects.toThrow(key)
        await direct.put(key, body)
        server.fault({ key: new RegExp(`${key}$`) }, { do: "status", status: 500 }, 1)
        expect(await reader.refresh()).toMatchObject({ changed: true, to: second })
      }),
  )

  it("checks payloads, and refuses targetRecall where nothing was measured", () =>
    withRoot(async ({ open, url, store, cacheDir }) => {
      const parse = (value: unknown) => (value as { n: number }).n
      await using typed = await openSnapshot(url, { store, cacheDir, payloadSchema: { parse } })
      const [hit] = (await typed.search(RECORDS[6]!.vector as Float32Array, { ...ALL, k: 1 })).hits
      const n: number | null = hit!.payload
      expect(n).toBe(6)
      const refuse = (): never => {
        throw new Error("expected a cat")
      }
      await using strict = await open({ payloadSchema: { parse: refuse } })
      await expect(strict.get(["id-6"])).rejects.toThrow(/record "id-6" in shard \d .*expected a cat/)
      await expect(strict.search(QUERY, { targetRecall: 0.9 })).rejects.toMatchObject({ tag: "Unsupported" })
      await expect(strict.search(QUERY, { targetRecall: 2 })).rejects.toMatchObject({ tag: "InvalidInput" })
    }))
})
