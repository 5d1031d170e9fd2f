import { chmod, readdir, rm, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { describe, expect, it } from "vitest"
import { type BuildOptions, buildSnapshot, openSnapshot, openStore, type Reader } from "../../src/index.js"
import { FIELDS, makeRecords } from "../support/records.js"
import { ALL } from "../support/scope.js"
import { withTempDir } from "../support/stores.js"

const RECORDS = makeRecords(200, { dim: 8 })
const QUERY = RECORDS[5]!.vector as Float32Array

let roots = 0
async function withSnapshot(
  work: (given: {
    to: string
    dir: string
    cacheDir: string
    build: (options?: Partial<BuildOptions>) => Promise<string>
  }) => Promise<void>,
  options: Partial<BuildOptions> = {},
): Promise<void> {
  await withTempDir(async (dir) => {
    const to = `memory://reader-${process.pid}-${roots++}`
    const build = async (more: Partial<BuildOptions> = {}): Promise<string> =>
      (
        await buildSnapshot(RECORDS, {
          to,
          fields: FIELDS,
          sharding: { strategy: "cluster", shards: 5 },
          ...options,
          ...more,
        })
      ).run
    await build()
    await work({ to, dir, cacheDir: join(dir, "cache"), build })
  })
}

const search = (reader: Reader, probes: number | "all" = "all") => reader.search(QUERY, { k: 3, probes })

describe("a reader", () => {
  it("reads three objects when it opens, two per shard that it searches, and lists nothing", () =>
    withSnapshot(async ({ to, cacheDir }) => {
      await using reader = await openSnapshot(to, { cacheDir })
      expect(reader.stats().requests).toMatchObject({ get: 3, getFile: 0, head: 0, list: 0 })
      await search(reader, 2)
      expect(reader.stats()).toMatchObject({ shardOpens: 2, shardDownloads: 2, openShards: 2 })
      expect(reader.stats().requests).toMatchObject({ get: 3, getFile: 4, head: 0, list: 0 })
      await search(reader, 2)
      expect(reader.stats()).toMatchObject({ shardOpens: 2, shardDownloads: 2 })
    }))

  it("tells how often the rate limit held it up", () =>
    withSnapshot(async ({ to, cacheDir }) => {
      // Three requests to open: two are in the bucket, the third waits for half a second.
      await using reader = await openSnapshot(to, { cacheDir, store: { rate: { requestsPerSecond: 2 } } })
      expect(reader.stats().requests).toMatchObject({ get: 3, throttled: 1 })
    }))

  it("keeps downloaded shards on disk for the next one", () =>
    withSnapshot(async ({ to, cacheDir }) => {
      for (const downloads of [5, 0]) {
        await using reader = await openSnapshot(to, { cacheDir })
        await search(reader)
        expect(reader.stats().shardDownloads).toBe(downloads)
      }
      expect((await readdir(join(cacheDir, ".partial"))).length).toBe(0)
    }))

  it("replaces a directory of its cache that lacks a file or has a short one", () =>
    withSnapshot(async ({ to, cacheDir }) => {
      {
        await using reader = await openSnapshot(to, { cacheDir })
        await search(reader)
      }
      const [one, two] = (await readdir(cacheDir)).filter((name) => !name.startsWith("."))
      await rm(join(cacheDir, one!, "shard.db"))
      await writeFile(join(cacheDir, two!, "shard.db"), "short")
      await using reader = await openSnapshot(to, { cacheDir })
      expect((await search(reader)).complete).toBe(true)
      expect(reader.stats().shardDownloads).toBe(2)
    }))

  it("answers the same with one shard open at a time as with all", () =>
    withSnapshot(async ({ to, cacheDir }) => {
      await using wide = await openSnapshot(to, { cacheDir })
      await using narrow = await openSnapshot(to, { cacheDir, maxOpenShards: 1, concurrency: 2 })
      const answers = await Promise.all(
        RECORDS.slice(0, 30).map(({ vector }) => narrow.search(vector as Float32Array, { probes: "all" })),
      )
      for (const [i, answer] of answers.entries()) {
        expect(answer).toEqual(await wide.search(RECORDS[i]!.vector as Float32Array, { probes: "all" }))
      }
      expect(narrow.stats().openShards).toBe(1)
      expect(narrow.stats().shardOpens).toBeGreaterThan(5)
    }))

  it("answers a batch as it answers each query alone, opening each shard once", () =>
    withSnapshot(async ({ to, cacheDir }) => {
      await using reader = await openSnapshot(to, { cacheDir })
      const queries = RECORDS.slice(0, 20).map(({ vector }) => vector as Float32Array)
      const batch = await reader.searchMany(queries, { k: 4, probes: 2 })
      expect(reader.stats().shardOpens).toBeLessThanOrEqual(5)
      for (const [i, query] of queries.entries())
        expect(batch[i]).toEqual(await reader.search(query, { k: 4, probes: 2 }))
      expect(await reader.searchMany([])).toEqual([])
    }))

  it("refreshes to the live snapshot, and keeps shards open whose content did not change", () =>
    withSnapshot(async ({ to, cacheDir, build }) => {
      await using reader = await openSnapshot(to, { cacheDir })
      const first = reader.snapshot.run
      await search(reader)
      expect(await reader.refresh()).toEqual({
        changed: false,
        from: first,
        to: first,
        keptShards: 5,
        pinned: false,
      })

      const second = await build({ routingFrom: to })
      expect((await search(reader)).snapshot).toBe(first)
      const { getFile } = reader.stats().requests
      expect(await reader.refresh()).toEqual({
        changed: true,
        from: first,
        to: second,
        keptShards: 5,
        pinned: false,
      })
      expect((await search(reader)).snapshot).toBe(second)
      expect(reader.stats()).toMatchObject({ shardOpens: 5, shardDownloads: 5 })
      expect(reader.stats().requests.getFile).toBe(getFile)

      const third = await build({ sharding: { strategy: "lsh", shards: 3 } })
      await reader.refresh()
      expect(reader.snapshot).toMatchObject({ run: third, strategy: "lsh", shards: 3 })
      expect((await search(reader)).snapshot).toBe(third)
      expect(reader.stats().openShards).toBe(3)
    }))

  it.runIf(ALL)("answers every search from one snapshot while others are published", () =>
    withSnapshot(async ({ to, cacheDir, build }) => {
      await using reader = await openSnapshot(to, { cacheDir, maxOpenShards: 3 })
      const runs = new Set([reader.snapshot.run])
      let publishing = true
      const searchers = Array.from({ length: 4 }, async () => {
        let answers = 0
        while (publishing) {
          const answer = await search(reader)
          expect(runs).toContain(answer.snapshot)
          expect(answer.hits[0]!.id).toBe(RECORDS[5]!.id)
          expect(answer.complete).toBe(true)
          answers++
        }
        return answers
      })
      for (const shards of [2, 6, 3]) {
        runs.add(await build({ sharding: { strategy: "cluster", shards } }))
        await reader.refresh()
      }
      publishing = false
      expect(Math.min(...(await Promise.all(searchers)))).toBeGreaterThan(0)
    }),
  )

  it("keeps the old snapshot when a refresh fails, and refreshes later", () =>
    withSnapshot(async ({ to, cacheDir, build }) => {
      await using reader = await openSnapshot(to, { cacheDir })
      const first = reader.snapshot.run
      const second = await build()
      const store = openStore(to)
      const pointer = (await store.get("_CURRENT"))!.body
      await store.put("_CURRENT", Buffer.from("{}"))
      await expect(reader.refresh()).rejects.toMatchObject({ tag: "Corrupt" })
      expect((await search(reader)).snapshot).toBe(first)
      await store.put("_CURRENT", pointer)
      expect((await reader.refresh()).to).toBe(second)
    }))

  it("leaves a shard that fails out of the answer if allowed to, and says which and why", () =>
    withSnapshot(async ({ to, cacheDir }) => {
      const store = openStore(to)
      let damaged: string | undefined
      for await (const { key } of store.list("shards/")) damaged ??= key
      await store.put(damaged!, Buffer.from("not a shard"))
      await using reader = await openSnapshot(to, { cacheDir })
      await expect(search(reader)).rejects.toMatchObject({ tag: "Corrupt" })
      const answer = await reader.search(QUERY, { probes: "all", partial: "allow" })
      expect(answer.complete).toBe(false)
      expect(answer.shards.failed).toHaveLength(1)
      expect(answer.shards.failed[0]!.reason).toContain(damaged)
      expect(answer.shards.answered).toEqual(
        answer.shards.asked.filter((shard) => shard !== answer.shards.failed[0]!.shard),
      )
      expect(answer.hits.length).toBe(10)
    }))

  it.each<[string, Parameters<Reader["search"]>, RegExp]>([
    ["dimension", [[1, 2, 3]], /the query vector has 3 values, expected 8/],
    ["number", [[1, 2, 3, 4, 5, 6, 7, Number.NaN]], /NaN at position 7/],
    ["zero vector", [new Float64Array(8)], /is zero/],
    ["k", [QUERY, { k: 0 }], /k is 0, expected a whole number from 1/],
    ["probes", [QUERY, { probes: 0 }], /probes/],
    ["shard", [QUERY, { shards: [9] }], /9/],
  ])("refuses a query with a wrong %s", (_, args, message) =>
    withSnapshot(async ({ to, cacheDir }) => {
      await using reader = await openSnapshot(to, { cacheDir })
      const refused = reader.search(...args)
      await expect(refused).rejects.toThrow(message)
      await expect(refused).rejects.toMatchObject({ tag: "InvalidInput" })
    }),
  )

  it("finds records by id, in order, whatever shard they are in", () =>
    withSnapshot(async ({ to, cacheDir }) => {
      await using reader = await openSnapshot(to, { cacheDir })
      const found = await reader.get(["id-7", "nobody", "id-3", "id-7"])
      expect(found.map((record) => record?.id)).toEqual(["id-7", undefined, "id-3", "id-7"])
      expect(found[0]).toMatchObject({
        vector: RECORDS[7]!.vector,
        payload: RECORDS[7]!.payload,
        fields: RECORDS[7]!.fields,
      })
      await expect(reader.get([7])).rejects.toThrow(/this snapshot's ids are strings/)
    }))

  it("is aborted by a signal before or during a search, and goes on working", () =>
    withSnapshot(async ({ to, cacheDir }) => {
      await using reader = await openSnapshot(to, { cacheDir })
      await expect(reader.search(QUERY, { signal: AbortSignal.abort() })).rejects.toMatchObject({
        tag: "Aborted",
      })
      const controller = new AbortController()
      const aborted = reader.search(QUERY, { probes: "all", signal: controller.signal })
      controller.abort()
      await expect(aborted).rejects.toMatchObject({ tag: "Aborted" })
      expect((await search(reader)).complete).toBe(true)
    }))

  it("waits for what runs when it is closed, may be closed twice, and then is Closed", () =>
    withSnapshot(async ({ to, cacheDir }) => {
      const reader = await openSnapshot(to, { cacheDir })
      const running = search(reader)
      await Promise.all([reader.close(), reader.close()])
      expect((await running).complete).toBe(true)
      for (const use of [() => search(reader), () => reader.get(["id-1"]), () => reader.refresh()]) {
        await expect(use()).rejects.toMatchObject({ tag: "Closed" })
      }
    }))

  it("says clearly what is not there", async () => {
    await expect(openSnapshot("memory://nothing-here")).rejects.toThrow(
      /no snapshot is published at memory:\/\/nothing-here/,
    )
    await expect(openSnapshot("memory://nothing-here")).rejects.toMatchObject({ tag: "NotFound" })
  })

  it("names the cache directory if it cannot be written", () =>
    withSnapshot(async ({ to, dir }) => {
      const blocked = join(dir, "blocked")
      await writeFile(blocked, "a file, not a directory")
      await chmod(blocked, 0o400)
      await using reader = await openSnapshot(to, { cacheDir: blocked })
      await expect(search(reader)).rejects.toThrow(blocked)
    }))
})
