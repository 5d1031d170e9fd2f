import { mkdtemp, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import {
  type BuildOptions,
  buildSnapshot,
  type Logger,
  openSnapshot,
  openStore,
  readLive,
  type VectorRecord,
} from "../../src/index.js"
import { encodeManifest } from "../../src/manifest/codec.js"
import {
  blockChecksum,
  blockRange,
  decodeLocatorIndex,
  encodeLocatorIndex,
  hashOfId,
  type LocatorIndex,
} from "../../src/manifest/locator.js"
import type { LocatorEntry } from "../../src/manifest/manifest.js"
import { sha256OfBytes } from "../../src/storage/checksum.js"
import { s3Root, type TestRoot } from "../support/stores.js"

const SHARDS = 8
/** Two whole blocks of the locator and a third. */
const ROWS = 10_000
const RECORDS: readonly VectorRecord[] = Array.from({ length: ROWS }, (_, n) => ({
  id: `id-${n}`,
  vector: [Math.cos(n), Math.sin(n)],
  fields: { part: n % SHARDS },
  payload: n,
  shard: n % SHARDS,
}))
const EXPLICIT = { strategy: "explicit", shards: SHARDS } as const

let dir: string
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "vecsnap-test-"))
})
afterAll(() => rm(dir, { recursive: true, force: true }))

let names = 0
const ROOTS: Record<string, () => TestRoot> = {
  memory: () => ({ url: `memory://locator-it-${process.pid}-${names++}`, store: {} }),
  directory: () => ({ url: join(dir, `root-${names++}`), store: {} }),
  S3: () => s3Root("locator"),
}
const newCache = (): string => join(dir, `cache-${names++}`)

const build = (root: TestRoot, options: Partial<BuildOptions> = {}, records = RECORDS) =>
  buildSnapshot(records, {
    to: root.url,
    store: root.store,
    sharding: EXPLICIT,
    fields: { part: "int64" },
    ...options,
  })

/** The block of the locator that each of the records is in. */
async function blocksOf(root: TestRoot): Promise<readonly (readonly number[])[]> {
  const { entry, index } = await readLocator(root)
  expect(entry.size).toBe(ROWS * 12 + 24 + 3 * 24)
  const found: number[][] = index.blocks.map(() => [])
  for (let n = 0; n < ROWS; n++) {
    const hash = hashOfId(`id-${n}`)!
    found[index.blocks.findIndex(({ firstHash, lastHash }) => firstHash <= hash && hash <= lastHash)]!.push(n)
  }
  return found
}

async function readLocator(
  root: TestRoot,
): Promise<{ entry: LocatorEntry; index: LocatorIndex; body: Buffer }> {
  const store = openStore(root.url, root.store)
  try {
    const { manifest } = await readLive(store)
    const entry = manifest.locator!
    const body = Buffer.from((await store.get(entry.key))!.body)
    const index = decodeLocatorIndex(body.subarray(entry.size - entry.index.size), entry, manifest.rows)
    return { entry, index, body }
  } finally {
    store.close()
  }
}

describe.each(Object.entries(ROOTS))("lookup by id, %s", (place, makeRoot) => {
  it("reads index and blocks once, and opens the shards that hold the ids and no others", async () => {
    const root = makeRoot()
    await build(root)
    const [first, second, third] = await blocksOf(root)
    await using reader = await openSnapshot(root.url, { store: root.store, cacheDir: newCache() })
    const { requests } = reader.stats()
    expect(reader.snapshot.locator).toBe(true)
    /** Range reads and opened shards since the reader was opened. */
    const costs = (): [number, number] => [
      reader.stats().requests.get - requests.get,
      reader.stats().shardOpens,
    ]
    const inShard = (members: readonly number[], shard: number): number =>
      members.find((n) => n % SHARDS === shard)!

    const one = inShard(first!, 3)
    expect(await reader.get([`id-${one}`])).toMatchObject([
      { id: `id-${one}`, shard: 3, payload: one, fields: { part: 3 } },
    ])
    expect(costs()).toEqual([2, 1])

    // Not there: a block may have to be read, but no shard.
    expect(await reader.get(["nobody", "nothing", ""])).toEqual([undefined, undefined, undefined])
    expect(reader.stats().shardOpens).toBe(1)

    // Both other blocks are adjacent; those that the strangers were looked for in are there already.
    const two = inShard(second!, 5)
    const three = inShard(third!, 3)
    const ids = [`id-${three}`, "nobody", `id-${two}`, `id-${one}`, `id-${three}`]
    expect((await reader.get(ids)).map((record) => record?.payload)).toEqual([
      three,
      undefined,
      two,
      one,
      three,
    ])
    expect(reader.stats().shardOpens).toBe(2)
    const [reads] = costs()
    expect(reads).toBe(3)
    await reader.get(
      RECORDS.slice(0, 500)
        .filter(({ shard }) => shard === 3 || shard === 5)
        .map(({ id }) => id),
    )
    expect(costs()).toEqual([reads, 2])

    const all = await reader.get(RECORDS.map(({ id }) => id))
    expect(all.map((record) => record?.payload)).toEqual(RECORDS.map((_, n) => n))
    expect(costs()).toEqual([reads, SHARDS])
    // Shards of a directory are opened where they lie, after a look at each of their two files.
    const head = place === "directory" ? 2 * SHARDS : 0
    expect(reader.stats().requests).toMatchObject({ head, list: 0 })
  })

  it("of many ids at once reads the locator in two requests: index, and all blocks", async () => {
    const root = makeRoot()
    await build(root)
    await using reader = await openSnapshot(root.url, { store: root.store, cacheDir: newCache() })
    const { get } = reader.stats().requests
    const ids = RECORDS.slice(0, 1000).map(({ id }) => id)
    expect((await reader.get(ids)).map((record) => record?.id)).toEqual(ids)
    expect(reader.stats().requests.get - get).toBe(2)
  })

  it("asks every shard of a snapshot without a locator, and says so once", async () => {
    const root = makeRoot()
    await build(root, { locator: false }, RECORDS.slice(0, 100))
    const warnings: string[] = []
    const logger = { ...console, warn: (_: object, message: string) => warnings.push(message) } as Logger
    await using reader = await openSnapshot(root.url, { store: root.store, cacheDir: newCache(), logger })
    expect(reader.snapshot.locator).toBe(false)
    const { get } = reader.stats().requests
    expect(await reader.get(["id-9", "nobody"])).toMatchObject([{ id: "id-9", shard: 1 }, undefined])
    await reader.get(["id-8"])
    expect(reader.stats()).toMatchObject({ shardOpens: SHARDS, requests: { get } })
    expect(warnings).toEqual([
      `snapshot ${reader.snapshot.run} has no id locator: looking up ids asks all of its ${SHARDS} shards`,
    ])
  })
})

describe("lookup by id", () => {
  it("needs no locator where the caller says which shards", async () => {
    const root = ROOTS.memory!()
    const records = RECORDS.slice(0, 100)
    for (const [sharding, route] of [
      [EXPLICIT, { shards: [3] }],
      [{ strategy: "cel", expression: "part % 8", shards: SHARDS }, { context: { part: 3 } }],
    ] as const) {
      await build(root, { sharding }, records)
      await using reader = await openSnapshot(root.url, { cacheDir: newCache() })
      const { get } = reader.stats().requests
      expect(await reader.get(["id-3", "id-4", "id-3"], route)).toMatchObject([
        { id: "id-3", shard: 3 },
        undefined,
        { id: "id-3", shard: 3 },
      ])
      expect(reader.stats()).toMatchObject({ shardOpens: 1, requests: { get } })
      // Without the route, the locator leads to the same shard.
      expect(await reader.get(["id-3"])).toMatchObject([{ id: "id-3", shard: 3 }])
      expect(reader.stats()).toMatchObject({ shardOpens: 1, requests: { get: get + 2 } })
    }
  })

  it("finds the duplicate that won, in its shard, and does not ask that of the one that lost", async () => {
    const root = ROOTS.memory!()
    const twice = [
      { id: "a", vector: [1, 0], payload: "first", shard: 1 },
      { id: "a", vector: [0, 1], payload: "last", shard: 2 },
      { id: "b", vector: [1, 1], shard: 1 },
      { id: "c", vector: [1, 1], shard: 2 },
    ]
    for (const [onDuplicate, shard] of [
      ["first", 1],
      ["last", 2],
    ] as const) {
      await build(root, { onDuplicate }, twice)
      expect((await readLocator(root)).index.entries).toBe(3)
      await using reader = await openSnapshot(root.url, { cacheDir: newCache() })
      expect(await reader.get(["a"])).toMatchObject([{ id: "a", payload: onDuplicate, shard }])
      expect(reader.stats().shardOpens).toBe(1)
    }
  })

  it("asks a second shard when two ids have the same hash, and never gives the wrong record", async () => {
    const root = ROOTS.memory!()
    const run = await build(root, {}, RECORDS.slice(0, 16))
    // No two short strings with the same XXH3-64 are known. So the entry of id-2 is forged: as if it had the hash of id-1.
    const { entry, index, body } = await readLocator(root)
    const entries = Array.from({ length: 16 }, (_, i) => ({
      hash: body.readBigUInt64LE(i * 12),
      shard: body.readUInt32LE(i * 12 + 8),
    }))
    const forged = entries
      .map(({ hash, shard }) => ({ hash: hash === hashOfId("id-2") ? hashOfId("id-1")! : hash, shard }))
      .sort((a, b) => (a.hash < b.hash ? -1 : a.hash > b.hash ? 1 : a.shard - b.shard))
    const block = Buffer.alloc(16 * 12)
    for (const [i, { hash, shard }] of forged.entries()) {
      block.writeBigUInt64LE(hash, i * 12)
      block.writeUInt32LE(shard, i * 12 + 8)
    }
    expect(blockRange(index, 0)).toEqual({ start: 0, end: block.length })
    const forgedIndex = encodeLocatorIndex({
      ...index,
      blocks: [{ firstHash: forged[0]!.hash, lastHash: forged[15]!.hash, checksum: blockChecksum(block) }],
    })
    const forgedBody = Buffer.concat([block, forgedIndex])
    const store = openStore(root.url)
    const { manifest } = await readLive(store)
    await store.put(entry.key, forgedBody)
    const locator = {
      ...entry,
      sha256: sha256OfBytes(forgedBody),
      index: { size: forgedIndex.length, sha256: sha256OfBytes(forgedIndex) },
    }
    await store.put(run.manifest, encodeManifest({ ...manifest, locator }))

    await using reader = await openSnapshot(root.url, { cacheDir: newCache() })
    expect(await reader.get(["id-1"])).toMatchObject([{ id: "id-1", payload: 1, shard: 1 }])
    expect(reader.stats().shardOpens).toBe(2)
    expect(await reader.get(["id-2"])).toEqual([undefined])
  })

  it("reads the locator of the snapshot that it answers from, after a refresh", async () => {
    const root = ROOTS.memory!()
    await build(root, {}, RECORDS.slice(0, 20))
    await using reader = await openSnapshot(root.url, { cacheDir: newCache() })
    expect(await reader.get(["id-5", "id-25"])).toMatchObject([{ shard: 5 }, undefined])
    await build(
      root,
      {},
      RECORDS.slice(10, 30).map((record) => ({ ...record, shard: 0 })),
    )
    await reader.refresh()
    const { get } = reader.stats().requests
    expect(await reader.get(["id-5", "id-25"])).toMatchObject([undefined, { shard: 0 }])
    expect(reader.stats().requests.get - get).toBe(2)
  })
})
