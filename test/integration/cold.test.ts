/** What a reader of a remote root asks of storage before it has any of its shards. */
import { mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises"
import { dirname, join } from "node:path"
import { setTimeout as sleep } from "node:timers/promises"
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest"
import {
  buildSnapshot,
  type ObjectStore,
  type OpenOptions,
  openSnapshot,
  openStore,
  type ShardingOptions,
} from "../../src/index.js"
import { registerStrategy } from "../../src/sharding/registry.js"
import { createCounts, withCounting } from "../../src/storage/with-counting.js"
import { seededRandom } from "../support/records.js"
import { roundRobin } from "../support/round-robin.js"
import { withTempDir } from "../support/stores.js"

const [ROWS, DIM, SHARDS] = [14_000, 64, 4]
const EFFORT = { cells: 40, best: 60 }

const random = seededRandom(9)
const centers = Array.from({ length: 120 }, () => Array.from({ length: DIM }, () => random() * 2 - 1))
const vectorNear = (n: number): Float32Array =>
  Float32Array.from(centers[n % centers.length]!, (x) => x + (random() - 0.5) * 0.7)

/** Deals rows to shards in turn, and looks at some cells of all of them. */
const dealt: typeof roundRobin = {
  ...roundRobin,
  async load() {
    const make = (await roundRobin.load()).restore
    const restore: typeof make = (...args) => {
      const strategy = make(...args)
      return {
        ...strategy,
        rank: (selection, present) => ({
          ...strategy.rank(selection, present),
          ...(selection.shards === undefined && { effort: EFFORT }),
        }),
      }
    }
    return { ...(await roundRobin.load()), restore }
  },
}

const url = `memory://cold-${process.pid}`
const objects = openStore(url)
let takeAway: () => void
beforeAll(async () => {
  takeAway = registerStrategy(dealt)
  const records = Array.from({ length: ROWS }, (_, n) => ({
    id: `row-${n}`,
    vector: vectorNear(n),
    payload: { n, text: `what row ${n} says, `.repeat(8) },
  }))
  const sharding = { strategy: "round-robin", shards: SHARDS, probes: SHARDS } as unknown as ShardingOptions
  await buildSnapshot(records, { to: objects, metric: "cosine", sharding })
})
afterAll(() => {
  takeAway()
  objects.close()
})

/** A store that counts, and in which requests go in waves: none is answered as long as more are coming. */
function counting() {
  const counts = createCounts()
  const counted = withCounting(objects, counts)
  let waves = 0
  let wave: Promise<unknown> | undefined
  const inWaves = (): Promise<unknown> => {
    if (wave === undefined) {
      waves++
      wave = sleep(100).then(() => {
        wave = undefined
      })
    }
    return wave
  }
  const store: ObjectStore = {
    ...counted,
    get: (key, options) => inWaves().then(() => counted.get(key, options)),
    getFile: (key, path, options) => inWaves().then(() => counted.getFile(key, path, options)),
  }
  return {
    store,
    /** What was asked for since the last time. */
    take() {
      const taken = { ...counts, waves }
      Object.assign(counts, createCounts())
      waves = 0
      return taken
    },
  }
}

async function opened(dir: string, options: OpenOptions = {}) {
  const { store, take } = counting()
  const reader = await openSnapshot(store, { cacheDir: join(dir, "cache"), workers: 1, ...options })
  take()
  return { reader, take }
}

const contentsOf = async (dir: string): Promise<string[]> =>
  (await readdir(join(dir, "cache"))).filter((name) => !name.startsWith(".")).map((name) => name.slice(40))

describe("a cold reader of a remote root", () => {
  it("answers a query in few requests, with the hits that it has with all shards at hand", () =>
    withTempDir(async (dir) => {
      const { reader: whole } = await opened(join(dir, "whole"), { fetch: "whole" })
      for (let i = 0; i < 5; i++) {
        const query = vectorNear(i)
        const own = join(dir, String(i))
        const { reader, take } = await opened(own, { fetch: "ranges" })
        const { hits, complete } = await reader.search(query, { k: 10 })
        const cost = take()
        expect(complete).toBe(true)
        expect(hits).toHaveLength(10)
        expect(hits).toEqual((await whole.search(query, { k: 10 })).hits)
        expect(cost).toMatchObject({ getFile: 0, list: 0, head: 0, put: 0 })
        // Cells of each shard, then vectors, then records.
        expect(cost.get).toBeLessThanOrEqual(60)
        expect(cost.waves).toBeLessThanOrEqual(6)
        expect(cost.bytesRead).toBeLessThan(2 ** 21)
        expect(cost.bytesRead).toBeLessThan(reader.snapshot.bytes / 3)
        // The same again takes nothing, here and by another one that has the same cache.
        await reader.search(query, { k: 10 })
        expect(take().get).toBe(0)
        await reader.close()
        const { reader: other, take: takeOther } = await opened(own, { fetch: "ranges" })
        expect((await other.search(query, { k: 10 })).hits).toEqual(hits)
        expect(takeOther().bytesRead).toBe(0)
        await other.close()
        expect(await contentsOf(own)).toEqual(Array(SHARDS).fill(".ranges"))
      }
      await whole.close()
    }))

  it("looks up ids without downloading their shards", () =>
    withTempDir(async (dir) => {
      const { reader, take } = await opened(dir, { fetch: "ranges" })
      const [found, none] = await reader.get(["row-77", "row-x"])
      expect(found).toMatchObject({ id: "row-77", payload: { n: 77 } })
      expect(none).toBeUndefined()
      const cost = take()
      // The locator's index and block, cells, schema, two levels of the index of ids, then the row.
      expect(cost).toMatchObject({ getFile: 0, list: 0 })
      expect(cost.get).toBeLessThanOrEqual(16)
      expect(cost.bytesRead).toBeLessThan(700_000)
      await reader.close()
    }))

  it("downloads shards that are asked for again, which then answer the same", () =>
    withTempDir(async (dir) => {
      const { reader, take } = await opened(dir)
      const query = vectorNear(11)
      const first = await reader.search(query)
      expect(take().getFile).toBe(0)
      expect(await reader.search(query)).toEqual(first)
      await vi.waitFor(() => expect(reader.stats().shardDownloads).toBe(SHARDS), { timeout: 30_000 })
      expect(await reader.search(query)).toEqual(first)
      // Two files each.
      expect(take()).toMatchObject({ getFile: 2 * SHARDS })
      await vi.waitFor(async () => expect(await contentsOf(dir)).toEqual(Array(SHARDS).fill("")), {
        timeout: 30_000,
      })
      await reader.close()
    }))

  it("downloads shards of which all rows are asked for", () =>
    withTempDir(async (dir) => {
      const { reader, take } = await opened(dir, { fetch: "ranges" })
      const { hits } = await reader.search(vectorNear(5), { shards: [1], k: 3 })
      expect(hits).toHaveLength(3)
      expect(take()).toMatchObject({ get: 1, getFile: 2 })
      await reader.close()
      // A shard that has a copy is not opened anew when it is used again.
      const { reader: auto } = await opened(join(dir, "auto"))
      for (let i = 0; i < 3; i++) await auto.search(vectorNear(5), { shards: [1], k: 3 })
      expect(auto.stats()).toMatchObject({ shardOpens: 1, shardDownloads: 1 })
      await auto.close()
    }))

  it("reads those of a local directory where they lie, and compares whole files when they are asked for again", () =>
    withTempDir(async (dir) => {
      const root = join(dir, "root")
      for await (const { key } of objects.list("")) {
        const path = join(root, key)
        await mkdir(dirname(path), { recursive: true })
        await writeFile(path, (await objects.get(key))!.body)
      }
      const counts = createCounts()
      const open = () =>
        openSnapshot(withCounting(openStore(root), counts), { cacheDir: join(dir, "cache"), workers: 1 })
      const reader = await open()
      const query = vectorNear(11)
      const first = await reader.search(query)
      expect(first.hits).toHaveLength(10)
      expect(counts).toMatchObject({ head: 0, getFile: 0 })
      await reader.search(query)
      await vi.waitFor(() => expect(counts.head).toBe(2 * SHARDS), { timeout: 30_000 })
      expect(await reader.search(query)).toEqual(first)
      await reader.close()
      // What is read of a damaged file is found to be so at once.
      const files = await readdir(join(root, "shards"), { recursive: true })
      const databases = files
        .filter((file) => file.endsWith("shard.db"))
        .map((file) => join(root, "shards", file))
      expect(databases).toHaveLength(SHARDS)
      // All of them, since not every query reads of every one.
      for (const path of databases) await writeFile(path, (await readFile(path)).fill(3, 4096))
      const again = await open()
      await expect(again.search(query)).rejects.toMatchObject({ tag: "Corrupt" })
      for (const path of databases) await rm(path)
      await expect(again.search(query)).rejects.toMatchObject({ tag: "NotFound" })
      await again.close()
    }))

  it("downloads whole shards at once if it is told to", () =>
    withTempDir(async (dir) => {
      const { reader, take } = await opened(dir, { fetch: "whole" })
      await reader.search(vectorNear(5))
      expect(take()).toMatchObject({ get: 0, getFile: 2 * SHARDS })
      await reader.close()
    }))
})
