import { mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { describe, expect, it } from "vitest"
import { buildSnapshot, type OpenOptions, openSnapshot, openStore, type Reader } from "../../src/index.js"
import { readLive } from "../../src/manifest/current.js"
import { createShardFiles } from "../../src/reader/shards/shard-files.js"
import { fileError } from "../../src/storage/files.js"
import { startS3Server } from "../servers/s3-server.js"
import { FIELDS, makeRecords } from "../support/records.js"
import { withTempDir } from "../support/stores.js"

const RECORDS = makeRecords(200, { dim: 8, shards: 5 })
const SHARDING = { strategy: "explicit", shards: 5 } as const

let roots = 0
async function withSnapshot(work: (given: { to: string; dir: string; cacheDir: string }) => Promise<void>) {
  await withTempDir(async (dir) => {
    const to = `memory://cache-disk-${process.pid}-${roots++}`
    await buildSnapshot(RECORDS, { to, fields: FIELDS, sharding: SHARDING })
    await work({ to, dir, cacheDir: join(dir, "cache") })
  })
}

const searchAll = (reader: Reader) =>
  reader.search(RECORDS[5]!.vector as Float32Array, { k: 3, shards: "all" })

const contentsOf = async (dir: string): Promise<string[]> =>
  (await readdir(dir)).filter((name) => !name.startsWith("."))

const temporaryCaches = async (): Promise<string[]> =>
  (await readdir(tmpdir())).filter((name) => name.startsWith("vecsnap-cache-"))

/** Tells nobody of downloads. */
const UNOBSERVED = {
  download: <T>(_shard: number, _bytes: number, work: () => Promise<T>): Promise<T> => work(),
}

describe("the disk cache of a reader", () => {
  it("stays within its bound, by removing what no reader has open", () =>
    withSnapshot(async ({ to, cacheDir }) => {
      await using measure = await openSnapshot(to, { cacheDir })
      const { bytes } = measure.snapshot
      await using reader = await openSnapshot(to, {
        cacheDir,
        maxOpenShards: 1,
        concurrency: 1,
        cacheBytes: bytes / 2,
      })
      for (let round = 0; round < 2; round++) expect((await searchAll(reader)).complete).toBe(true)
      const kept = await contentsOf(cacheDir)
      expect(kept.length).toBeGreaterThan(0)
      expect(kept.length).toBeLessThan(4)
      expect(reader.stats().shardDownloads).toBeGreaterThan(5)

      // All five are open, so that none can go.
      await using all = await openSnapshot(to, { cacheDir, cacheBytes: 1 })
      await searchAll(all)
      expect((await contentsOf(cacheDir)).length).toBe(5)
      await searchAll(all)
      expect(all.stats().shardOpens).toBe(5)
    }))

  it("is an error that says what to do where it cannot be written, or makes way for a temporary one", () =>
    withSnapshot(async ({ to, dir }) => {
      const cacheDir = join(dir, "blocked")
      await writeFile(cacheDir, "a file, not a directory")
      const before = await temporaryCaches()
      {
        await using reader = await openSnapshot(to, { cacheDir })
        await expect(searchAll(reader)).rejects.toThrow(
          /blocked cannot be used: .*choose another with cacheDir/,
        )
      }
      {
        await using reader = await openSnapshot(to, { cacheDir, whenCacheFails: "temporary" })
        expect((await searchAll(reader)).complete).toBe(true)
        expect((await temporaryCaches()).length).toBe(before.length + 1)
        await searchAll(reader)
        expect(reader.stats().shardDownloads).toBe(5)
      }
      expect(await temporaryCaches()).toEqual(before)
    }))

  it("serves what it holds even where nothing can be added", () =>
    withSnapshot(async ({ to, cacheDir }) => {
      {
        await using reader = await openSnapshot(to, { cacheDir })
        await reader.warm({ shards: [0, 1] })
      }
      await rm(join(cacheDir, ".partial"), { recursive: true })
      await writeFile(join(cacheDir, ".partial"), "in the way")
      await using reader = await openSnapshot(to, { cacheDir, whenCacheFails: "temporary" })
      const query = RECORDS[5]!.vector as Float32Array
      expect((await reader.search(query, { shards: [0, 1] })).complete).toBe(true)
      expect(reader.stats().shardDownloads).toBe(0)
      expect((await searchAll(reader)).complete).toBe(true)
      expect(reader.stats().shardDownloads).toBe(3)
    }))

  it.each<[string, OpenOptions]>([
    ["cacheBytes", { cacheBytes: 0 }],
    ["openShardBytes", { openShardBytes: -1 }],
    ["idleSeconds", { idleSeconds: Number.NaN }],
    ["whenCacheFails", { whenCacheFails: "shrug" as "fail" }],
  ])("refuses a wrong %s", (option, options) =>
    withSnapshot(async ({ to, cacheDir }) => {
      const refused = openSnapshot(to, { cacheDir, ...options })
      await expect(refused).rejects.toMatchObject({ tag: "InvalidInput", details: { option } })
    }),
  )

  it("does not blame itself for a store that fails", () =>
    withSnapshot(async ({ to, cacheDir }) => {
      const store = openStore(to)
      for await (const { key } of store.list("shards/")) await store.delete([key])
      await using reader = await openSnapshot(to, { cacheDir, whenCacheFails: "temporary" })
      const before = await temporaryCaches()
      await expect(searchAll(reader)).rejects.toMatchObject({ tag: "NotFound" })
      expect(await temporaryCaches()).toEqual(before)
    }))

  it("drops a copy that is damaged, and no other", () =>
    withSnapshot(async ({ to, cacheDir }) => {
      const store = openStore(to)
      const [entry] = (await readLive(store)).manifest.shards
      const files = createShardFiles(store, { cacheDir, telemetry: UNOBSERVED })
      const claim = await files.locate(entry!)
      expect(await files.drop(entry!)).toBe(false)
      const path = join(claim.dir, entry!.files[0]!.name)
      const bytes = await readFile(path)
      const intact = Buffer.from(bytes)
      bytes[bytes.length >> 1]! ^= 1
      await writeFile(path, bytes)
      expect(await files.drop(entry!)).toBe(true)
      expect(await files.drop(entry!)).toBe(false)
      const again = await files.locate(entry!)
      expect((await readFile(join(again.dir, entry!.files[0]!.name))).equals(intact)).toBe(true)
      expect(files.downloads).toBe(2)
      await files.close()
    }))
})

describe("warming", () => {
  it("downloads what is asked for, once, and opens nothing", () =>
    withSnapshot(async ({ to, cacheDir }) => {
      await using reader = await openSnapshot(to, { cacheDir })
      expect(await reader.warm({ shards: [1, 3, 3] })).toMatchObject({ shards: 2, downloads: 2 })
      const rest = await reader.warm()
      expect(rest).toMatchObject({ shards: 5, downloads: 3 })
      expect(rest.bytes).toBeGreaterThan(0)
      expect(await reader.warm({ shards: "all" })).toEqual({ shards: 5, downloads: 0, bytes: 0 })
      expect(reader.stats()).toMatchObject({ shardOpens: 0, shardDownloads: 5 })
      await searchAll(reader)
      expect(reader.stats().shardDownloads).toBe(5)
    }))

  it("shares its downloads with searches, and with other readers of the process", () =>
    withSnapshot(async ({ to, cacheDir }) => {
      await using one = await openSnapshot(to, { cacheDir })
      await using two = await openSnapshot(to, { cacheDir })
      await Promise.all([one.warm(), searchAll(one), two.warm()])
      expect(one.stats().shardDownloads + two.stats().shardDownloads).toBe(5)
    }))

  it("reads copies again if it is told to verify, and replaces damaged ones", () =>
    withSnapshot(async ({ to, cacheDir }) => {
      await using reader = await openSnapshot(to, { cacheDir })
      await reader.warm()
      const path = join(cacheDir, (await contentsOf(cacheDir))[0]!, "shard.db")
      const bytes = await readFile(path)
      bytes[bytes.length >> 1]! ^= 1
      await writeFile(path, bytes)
      expect((await reader.warm()).downloads).toBe(0)
      expect((await reader.warm({ verify: true })).downloads).toBe(1)
    }))

  it("refuses shards that do not exist, and more than the cache may hold", () =>
    withSnapshot(async ({ to, cacheDir }) => {
      await using reader = await openSnapshot(to, { cacheDir, cacheBytes: 1000 })
      await expect(reader.warm({ shards: [7] })).rejects.toThrow(
        "shard 7 does not exist: this snapshot has shards 0 to 4",
      )
      await expect(reader.warm()).rejects.toThrow(/but the disk cache holds at most 1000; raise cacheBytes/)
    }))

  it("is aborted by a signal, and so is an open that nobody waits for any more", () =>
    withTempDir(async (dir) => {
      const server = await startS3Server({ buckets: ["cache"] })
      try {
        const store = {
          s3: { endpoint: server.endpoint, credentials: { accessKeyId: "a", secretAccessKey: "b" } },
        }
        const to = "s3://cache/root"
        await buildSnapshot(RECORDS, { to, store, fields: FIELDS, sharding: SHARDING })
        await using reader = await openSnapshot(to, { store, cacheDir: dir })
        for (const start of [
          (signal: AbortSignal) => reader.warm({ shards: [0], signal }),
          (signal: AbortSignal) => reader.search(RECORDS[0]!.vector as Float32Array, { shards: [0], signal }),
        ]) {
          server.requests.length = 0
          server.fault({ operation: "GetObject", key: /shards/ }, { do: "delay", ms: 30_000 })
          const controller = new AbortController()
          const aborted = start(controller.signal)
          await expect.poll(() => server.requests.length).toBe(1)
          controller.abort()
          await expect(aborted).rejects.toMatchObject({ tag: "Aborted" })
          await expect.poll(() => readdir(join(dir, ".partial"))).toEqual([])
          server.clearFaults()
        }
        expect((await reader.search(RECORDS[0]!.vector as Float32Array, { shards: [0] })).complete).toBe(true)
      } finally {
        await server.close()
      }
    }))
})

describe("a full disk", () => {
  it("is named", () =>
    withSnapshot(async ({ to, cacheDir }) => {
      await mkdir(cacheDir)
      const store = openStore(to)
      const [entry] = (await readLive(store)).manifest.shards
      const files = createShardFiles(
        {
          ...store,
          url: store.url,
          getFile: async (_key, path) => {
            throw fileError("write", path, Object.assign(new Error("full"), { code: "ENOSPC" }))
          },
        },
        { cacheDir, telemetry: UNOBSERVED },
      )
      const refused = files.fetch(entry!)
      await expect(refused).rejects.toMatchObject({ tag: "Unavailable", details: { code: "ENOSPC" } })
      await expect(refused).rejects.toThrow(/cache cannot be used: .*no space left on the device/)
      expect(files.problem).toContain("no space left on the device")
      await files.close()
    }))
})
