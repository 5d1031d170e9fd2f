/**
 * The commands that run unattended, as processes on a store that misbehaves: they end in time, with the exit code that
 * tells a monitor or an init container what to do.
 */
import { mkdtemp, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { setTimeout as delay } from "node:timers/promises"
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest"
import { buildSnapshot } from "../../src/index.js"
import { type Fault, type S3Server, startS3Server } from "../servers/s3-server.js"
import { finished, startCli } from "../support/cli.js"
import { FIELDS, makeRecords } from "../support/records.js"

const RECORDS = makeRecords(60, { dim: 4 })
const SHARDS = 3
const ROOT = "s3://monitored/words"
const POINTER = /\/_CURRENT$/
const MANIFEST = /\/manifests\//
const LOCATOR = /\/ids\.bin$/
const SHARD = /\/shards\//
const SILENT: Fault = { do: "delay", ms: 2 ** 31 - 1 }

let server: S3Server
let dir: string
let run: string
beforeAll(async () => {
  server = await startS3Server({ buckets: ["monitored"] })
  dir = await mkdtemp(join(tmpdir(), "vecsnap-test-"))
  const credentials = { accessKeyId: "test", secretAccessKey: "test" }
  const store = { s3: { endpoint: server.endpoint, region: "us-east-1", credentials } }
  const sharding = { strategy: "cluster", shards: SHARDS } as const
  ;({ run } = await buildSnapshot(RECORDS, { to: ROOT, store, fields: FIELDS, sharding }))
})
afterEach(() => server.clearFaults())
afterAll(async () => {
  await server.close()
  await rm(dir, { recursive: true, force: true })
})

let caches = 0
/** Starts a command with a cache of its own, unless it names one. */
const start = (...args: readonly string[]) =>
  startCli(args, { AWS_ENDPOINT_URL_S3: server.endpoint, XDG_CACHE_HOME: join(dir, `cache-${caches++}`) })
const vecsnap = (...args: readonly string[]) => finished(start(...args))

const requestsFor = (key: RegExp) => server.requests.filter((request) => key.test(request.key))
const silence = (key: RegExp) => server.fault({ operation: "GetObject", key }, SILENT, 99)

describe("a command ends with --timeout, exit code 7, whatever the store keeps it waiting for", () => {
  it.each([
    ["query", "the pointer", POINTER, ["query", ROOT, "--like", "id-3"]],
    ["query --like", "the locator", LOCATOR, ["query", ROOT, "--like", "id-3"]],
    ["query --vector", "a shard", SHARD, ["query", ROOT, "--vector", "[1,0,0,0]"]],
    ["warm", "a shard", SHARD, ["warm", ROOT]],
    ["health", "the manifest", MANIFEST, ["health", ROOT]],
  ])("%s, waiting for %s", async (_, __, key, args) => {
    silence(key)
    const before = requestsFor(key).length
    const { code, stdout, stderr } = await vecsnap(...args, "--timeout", "3", "--json")
    expect({ code, stderr }).toEqual({ code: 7, stderr: "error: no answer within 3 s (--timeout)\n" })
    expect(JSON.parse(stdout).error).toMatchObject({ tag: "Unavailable", details: { seconds: 3 } })
    expect(requestsFor(key).length).toBeGreaterThan(before)
  })
})

it.each([
  ["get", SHARD, ["get", ROOT, "id-3"]],
  ["query", LOCATOR, ["query", ROOT, "--like", "id-3"]],
  ["warm", SHARD, ["warm", ROOT]],
])("Ctrl-C ends %s while the store does not answer", async (_, key, args) => {
  silence(key)
  const before = requestsFor(key).length
  const child = start(...args)
  try {
    const ended = finished(child)
    while (requestsFor(key).length === before && child.exitCode === null) await delay(20)
    child.kill("SIGINT")
    const { code, stderr } = await ended
    expect({ code, stderr }).toEqual({ code: 130, stderr: "error: stopped by SIGINT\n" })
  } finally {
    child.kill("SIGKILL")
  }
})

describe("health", () => {
  it("exits with 0 while all is well; its JSON has dates as text", async () => {
    const { code, stdout, stderr } = await vecsnap("health", ROOT, "--max-age", "1d", "--json")
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" })
    expect(JSON.parse(stdout)).toEqual({
      status: "healthy",
      reasons: [],
      ageSeconds: expect.any(Number),
      snapshot: run,
      format: "vecsnap",
      pinned: false,
      pointerReadAt: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/),
      calls: { answered: 0, failed: 0, refused: 0 },
    })
  })

  it("exits with 10, degraded, when the snapshot is older than --max-age", async () => {
    await delay(1100)
    const { code, stdout, stderr } = await vecsnap("health", ROOT, "--max-age", "0.1s", "--json")
    expect({ code, stderr }).toEqual({ code: 10, stderr: "" })
    const reason = new RegExp(`^snapshot ${run} was published \\d+ s ago, more than maxAgeSeconds, 0.1$`)
    expect(JSON.parse(stdout)).toMatchObject({
      status: "degraded",
      reasons: [expect.stringMatching(reason)],
    })
  })

  it("exits with 11 where a query would fail: the store refuses shards, or there can be no cache", async () => {
    server.fault({ operation: "GetObject", key: SHARD }, { do: "status", status: 403 }, 1)
    const refused = await vecsnap("health", ROOT)
    expect(refused).toMatchObject({
      code: 11,
      stdout: expect.stringMatching(
        /^unhealthy: .*\n {2}a search of shard \d, made as a trial, has failed: .*403/,
      ),
    })
    const blocked = join(dir, "blocked")
    await writeFile(blocked, "")
    const cache = ["--cache-dir", blocked]
    expect((await vecsnap("query", ROOT, "--vector", "[1,0,0,0]", ...cache)).code).toBe(7)
    const sick = await vecsnap("health", ROOT, ...cache, "--json")
    expect(sick.code).toBe(11)
    expect(JSON.parse(sick.stdout)).toMatchObject({
      status: "unhealthy",
      reasons: [expect.stringContaining("blocked cannot be used")],
    })
  })

  it("exits with 11, unhealthy, when it is too old and its pointer cannot be read any more", async () => {
    // Reading the manifest takes so long that the pointer, which was read before it, is looked at again.
    server.fault({ operation: "GetObject", key: MANIFEST }, { do: "delay", ms: 5_500 })
    let reads = 0
    const again = ({ key }: { readonly key: string }) => POINTER.test(key) && ++reads > 1
    server.fault(again, { do: "status", status: 403 }, 99)
    const { code, stdout, stderr } = await vecsnap("health", ROOT, "--max-age", "1s")
    expect({ code, stderr }).toEqual({ code: 11, stderr: "" })
    expect(stdout).toMatch(/^unhealthy: .*\n {2}the pointer could not be read for \d+ s: .*\n {2}snapshot /)
  })

  it("exits with the code of the error when there is nothing to judge", async () => {
    expect((await vecsnap("health", "s3://monitored/nothing")).code).toBe(3)
    server.fault({ operation: "GetObject", key: MANIFEST }, { do: "truncate" }, 99)
    expect((await vecsnap("health", ROOT)).code).toBe(6)
  })
})

it("warm --json counts what it downloads; what is there is not downloaded again", async () => {
  const cache = ["--cache-dir", join(dir, "warm")]
  const warm = async (...args: readonly string[]) => {
    const before = requestsFor(SHARD).length
    const { code, stdout, stderr } = await vecsnap("warm", ROOT, ...cache, ...args, "--json")
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" })
    const requests = requestsFor(SHARD).slice(before)
    const bytesOut = requests.reduce((sum, request) => sum + request.bytesOut, 0)
    const { bytes, ...report } = JSON.parse(stdout)
    expect(bytes).toBe(bytesOut)
    return { ...report, shardsAsked: new Set(requests.map(({ key }) => key.split("/")[3])).size }
  }
  expect(await warm("--shards", "1")).toEqual({ snapshot: run, shards: 1, downloads: 1, shardsAsked: 1 })
  expect(await warm()).toEqual({ snapshot: run, shards: 3, downloads: 2, shardsAsked: 2 })
  expect(await warm()).toEqual({ snapshot: run, shards: 3, downloads: 0, shardsAsked: 0 })
})

it("get reads the locator, and of the shards only the one that has the record", async () => {
  const before = server.requests.length
  const { code, stdout, stderr } = await vecsnap("get", ROOT, "id-3", "--json")
  expect({ code, stderr }).toEqual({ code: 0, stderr: "" })
  const { snapshot, records, missing } = JSON.parse(stdout)
  expect({ snapshot, missing }).toEqual({ snapshot: run, missing: [] })
  expect(records).toMatchObject([{ id: "id-3", fields: { lang: "日本", year: 1993 } }])
  const requests = server.requests.slice(before)
  const located = requests.filter(({ key }) => LOCATOR.test(key))
  // The index, then the one block.
  expect(located.map(({ range }) => range)).toEqual([expect.any(String), expect.any(String)])
  const shards = requests.filter(({ key }) => SHARD.test(key)).map(({ key }) => Number(key.split("/")[3]))
  expect([...new Set(shards)]).toEqual([records[0].shard])

  const shardRequests = requestsFor(SHARD).length
  expect((await vecsnap("get", ROOT, "nobody")).code).toBe(3)
  expect(requestsFor(SHARD)).toHaveLength(shardRequests)
})
