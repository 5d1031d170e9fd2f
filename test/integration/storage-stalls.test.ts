/** Requests that get no byte: given up soon, and tried again on a fresh connection. Counted, not timed. */
import { randomUUID } from "node:crypto"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { openSnapshot } from "../../src/reader/reader.js"
import { buildSnapshot } from "../../src/release/build-snapshot.js"
import { openStore, type StoreOptions } from "../../src/storage/open.js"
import type { ObjectStore } from "../../src/storage/store.js"
import { createCounts } from "../../src/storage/with-counting.js"
import { type S3Server, startS3Server } from "../servers/s3-server.js"
import { startTcpProxy } from "../servers/tcp-proxy.js"
import { FIELDS, makeRecords } from "../support/records.js"
import { ALL } from "../support/scope.js"
import { withTempDir } from "../support/stores.js"

let server: S3Server
beforeAll(async () => {
  server = await startS3Server({ buckets: ["stalls"] })
})
afterAll(() => server.close())

const optionsOf = (endpoint: string, s3: StoreOptions["s3"] = {}): StoreOptions => ({
  s3: {
    endpoint,
    region: "us-east-1",
    credentials: { accessKeyId: "test", secretAccessKey: "test" },
    ...s3,
  },
  retry: { attempts: 2, firstDelayMs: 1 },
})
/** Far below what a test may take, which no other limit is. */
const SHORT_MS = 150
const BODY = Buffer.from("0123456789")

describe("one request that stalls", () => {
  const reads: Readonly<Record<string, (store: ObjectStore) => Promise<unknown>>> = {
    get: async (store) => (await store.get("key"))?.body.length,
    "get of a range": async (store) =>
      (await store.get("key", { range: { start: 0, end: 10 } }))?.body.length,
    getIfChanged: async (store) => ((await store.getIfChanged("key", "other")) as { size: number }).size,
    getFile: (store) =>
      withTempDir(async (directory) => (await store.getFile("key", `${directory}/file`))?.size),
    head: async (store) => (await store.head("key"))?.size,
    list: async (store) => {
      for await (const { size } of store.list("")) return size
      return "nothing"
    },
  }

  it.each(
    Object.entries(reads).flatMap(([name, read]) =>
      (["answer", "body"] as const).map((at) => ({ name, read, at })),
    ),
  )("$name, before its $at: the next attempt gets it", async ({ name, read, at }) => {
    if (name === "head" && at === "body") return
    const limits = { firstByteTimeoutMs: at === "answer" && name !== "list" ? SHORT_MS : 60_000 }
    const idle = { idleTimeoutMs: at === "body" || name === "list" ? SHORT_MS : 60_000 }
    const store = openStore(`s3://stalls/${randomUUID()}`, optionsOf(server.endpoint, { ...limits, ...idle }))
    await store.put("key", BODY)
    const before = server.requests.length
    server.fault({ method: name === "head" ? "HEAD" : "GET" }, { do: "stall", at })
    expect(await read(store)).toBe(10)
    expect(server.requests.slice(before).map(({ fault }) => fault)).toEqual(["stall", undefined])
    store.close()
  })

  it("names the limit that passed, when all attempts stall", async () => {
    const store = openStore(
      `s3://stalls/${randomUUID()}`,
      optionsOf(server.endpoint, { firstByteTimeoutMs: SHORT_MS }),
    )
    server.fault({ operation: "GetObject" }, { do: "stall", at: "answer" }, 2)
    await expect(store.get("key")).rejects.toMatchObject({
      tag: "Unavailable",
      message: expect.stringContaining(`no answer within ${SHORT_MS} ms (firstByteTimeoutMs`),
    })
    store.close()
  })

  it("a write has longer than a read to be answered", async () => {
    const store = openStore(
      `s3://stalls/${randomUUID()}`,
      optionsOf(server.endpoint, { firstByteTimeoutMs: 20 }),
    )
    const before = server.requests.length
    server.fault({ operation: "PutObject" }, { do: "delay", ms: 400 })
    await store.put("key", BODY)
    expect(server.requests.slice(before)).toHaveLength(1)
    store.close()
  })
})

it("a gateway that forgot the connections at rest costs one attempt, not one for each of them", async () => {
  const proxy = await startTcpProxy(server.endpoint)
  const counts = createCounts()
  const options = optionsOf(proxy.endpoint, { firstByteTimeoutMs: 1_000 })
  const store = openStore(`s3://stalls/${randomUUID()}`, { ...options, counts })
  await store.put("key", BODY)
  // All at a time, so that each has a connection of its own, which rests afterwards.
  server.fault({ operation: "GetObject" }, { do: "delay", ms: 200 }, 6)
  await Promise.all(Array.from({ length: 6 }, () => store.get("key")))
  const { connections } = proxy
  expect(connections).toBeGreaterThanOrEqual(6)
  proxy.swallow()
  counts.get = 0
  expect((await store.get("key"))?.body.length).toBe(10)
  expect(counts.get).toBe(2)
  expect(proxy.connections).toBe(connections + 1)
  store.close()
  await proxy.close()
})

describe("through a proxy", () => {
  const LARGE = Buffer.alloc(1_000_000, "x")
  const EARLIER = [
    ["before its first byte", 0],
    ["in the middle of its head", 100],
  ] as const

  it.each([["in the middle of its body", 500_000], ...(ALL ? EARLIER : [])] as const)(
    "an answer that stalls %s costs one request and one connection",
    async (_, bytes) => {
      const root = `s3://stalls/${randomUUID()}`
      const direct = openStore(root, optionsOf(server.endpoint))
      await direct.put("key", LARGE)
      const proxy = await startTcpProxy(server.endpoint)
      const counts = createCounts()
      const limits = { firstByteTimeoutMs: 2_000, idleTimeoutMs: 2_000 }
      const store = openStore(root, { ...optionsOf(proxy.endpoint, limits), counts })
      // Opens the connection that then stalls.
      await store.head("key")
      const before = { connections: proxy.connections, requests: server.requests.length }
      proxy.stallAfter(bytes)
      expect(LARGE.equals((await store.get("key"))!.body)).toBe(true)
      expect(counts.get).toBe(2)
      expect(server.requests.length - before.requests).toBe(2)
      expect(proxy.connections - before.connections).toBe(1)
      store.close()
      direct.close()
      await proxy.close()
    },
  )
})

describe("openTimeoutMs", () => {
  it("bounds the opening of a snapshot as a whole, however many attempts a request has", async () => {
    const root = `s3://stalls/${randomUUID()}`
    const store = {
      ...optionsOf(server.endpoint),
      retry: { attempts: 1_000, firstDelayMs: 1, maxDelayMs: 1 },
    }
    await buildSnapshot(makeRecords(20, { dim: 4 }), {
      to: root,
      store,
      fields: FIELDS,
      sharding: { strategy: "lsh", bits: 1, shards: 1 },
    })
    server.fault({ operation: "GetObject" }, { do: "status", status: 503 }, 1_000)
    await withTempDir(async (cacheDir) => {
      const opening = openSnapshot(root, { store, cacheDir, openTimeoutMs: SHORT_MS })
      await expect(opening).rejects.toMatchObject({
        tag: "Aborted",
        message: expect.stringContaining(`within ${SHORT_MS} ms (openTimeoutMs)`),
        details: { openTimeoutMs: SHORT_MS },
      })
      server.clearFaults()
      await using reader = await openSnapshot(root, { store, cacheDir })
      expect(reader.snapshot.rows).toBe(20)
    })
  })

  it("also where a store of the caller's own overlooks the signal", async () => {
    const silent = { ...openStore(`memory://${randomUUID()}`), get: () => new Promise<never>(() => {}) }
    await expect(openSnapshot(silent, { openTimeoutMs: SHORT_MS })).rejects.toMatchObject({ tag: "Aborted" })
  })

  it("must be a time", async () => {
    await expect(openSnapshot("memory://none", { openTimeoutMs: 0 })).rejects.toMatchObject({
      tag: "InvalidInput",
      message: expect.stringContaining("option openTimeoutMs is 0"),
    })
  })
})
