/** The codebook of a build, and the cells that shards have with it. */
import { join } from "node:path"
import { describe, expect, it } from "vitest"
import {
  type BuildOptions,
  buildSnapshot,
  openSnapshot,
  openStore,
  readLive,
  type VectorRecord,
  verifyRoot,
} from "../../src/index.js"
import { encodeManifest } from "../../src/manifest/codec.js"
import { sha256OfBytes } from "../../src/storage/checksum.js"
import { type CellsFile, decodeCells, encodeCells } from "../../src/vectors/cells/file.js"
import { naiveDistance, noise } from "../contract/shard-rows.js"
import { withTempDir } from "../support/stores.js"

const DIM = 8

function recordsOf(rows: number, seed = 1): VectorRecord[] {
  const vectors = noise(rows * DIM, seed)
  return Array.from({ length: rows }, (_, i) => ({
    id: `r${String(i).padStart(4, "0")}`,
    vector: vectors.subarray(i * DIM, (i + 1) * DIM),
    ...(i % 3 === 0 && { payload: { i } }),
  }))
}

const inShards = (records: readonly VectorRecord[], shards: number): VectorRecord[] =>
  records.map((record, i) => ({ ...record, shard: i % shards }))

let roots = 0
const newRoot = (): string => `memory://codes-${process.pid}-${roots++}`

async function liveOf(to: string) {
  const store = openStore(to)
  const { manifest } = await readLive(store)
  const files = await Promise.all(
    manifest.shards.map(async ({ folder, files }) => {
      const name = files.find((file) => file.name === "cells.bin")?.name
      const object = name && (await store.get(`${folder}/${name}`))
      return object ? decodeCells(object.body, `${folder}/${name}`) : undefined
    }),
  )
  return { manifest, cells: files }
}

const EXPLICIT = { strategy: "explicit", shards: 2 } as const
const CLUSTER = { strategy: "cluster", shards: 2, layout: "fast" } as const

describe("the codebook of a build", () => {
  it.each<[string, Partial<BuildOptions>]>([
    ["a layout", { sharding: CLUSTER }],
    ["a plain one", { sharding: { ...CLUSTER, layout: "plain" } }],
    ["shards that are named", { sharding: EXPLICIT }],
    ["hashes", { sharding: { strategy: "lsh", shards: 2, bits: 4 } }],
  ])("is there with %s, and searches find what is nearest", async (_, options) => {
    const to = newRoot()
    const records = recordsOf(3000)
    await buildSnapshot(inShards(records, 2), { to, metric: "cosine", ...options } as BuildOptions)
    const { manifest, cells } = await liveOf(to)
    expect(manifest.codes?.key).toBe(`routing/${manifest.run}/codes.npz`)
    for (const [i, { rows, index }] of manifest.shards.entries()) {
      expect(index).toEqual({ kind: "cells", cells: cells[i]!.starts.length - 1 })
      expect(cells[i]!.coded !== undefined).toBe(rows >= 1024)
      if (rows >= 1024) expect(Buffer.from(cells[i]!.codebook).toString("hex")).toBe(manifest.codes!.sha256)
    }
    expect(cells.some((one) => one?.coded !== undefined)).toBe(true)
    await using reader = await openSnapshot(to)
    // Pointer, manifest, routing if there is any, codebook.
    expect(reader.stats().requests.get).toBe(manifest.artifacts.length + 3)
    const query = noise(DIM, 77)
    const { hits } = await reader.search(query, {
      k: 7,
      ...(options.sharding?.strategy === "explicit" ? { shards: [0, 1] } : { probes: "all" }),
    })
    const nearest = records
      .map(({ id, vector }) => ({ id, distance: naiveDistance("cosine", query, vector as Float32Array) }))
      .sort((a, b) => a.distance - b.distance)
    expect(hits.map(({ id }) => id)).toEqual(nearest.slice(0, 7).map(({ id }) => id))
    expect(await verifyRoot(to, { deep: true })).toMatchObject({ intact: true })
  })

  it("is kept while the rows are as they were, so that shards are reused, and not when they are not", async () => {
    const to = newRoot()
    const records = inShards(recordsOf(3000), 2)
    const build = (rows: VectorRecord[], options: Partial<BuildOptions> = {}) =>
      buildSnapshot(rows, { to, sharding: EXPLICIT, ...options })
    await build(records)
    const { manifest: first } = await liveOf(to)
    // Another row in shard 1: its files are new, and nothing else is.
    const again = await build([...records, { ...recordsOf(3001)[3000]!, shard: 1 }])
    expect(again.shards).toMatchObject({ reused: 1 })
    const { manifest: second, cells } = await liveOf(to)
    expect(second.codes).toEqual(first.codes)
    expect(Buffer.from(cells[1]!.codebook).toString("hex")).toBe(first.codes!.sha256)
    expect(await verifyRoot(to, { deep: true })).toMatchObject({ intact: true })

    // Rows that spread in two dimensions are not what it was made for.
    const flat = records.map(({ vector, ...rest }) => ({
      ...rest,
      vector: Float32Array.from(vector as Float32Array, (x, e) => (e < 2 ? x : x / 1000)),
    }))
    expect((await build(flat)).shards).toMatchObject({ reused: 0 })
    const { manifest: third } = await liveOf(to)
    expect(third.codes!.key).toBe(`routing/${third.run}/codes.npz`)
    expect(third.codes!.sha256).not.toBe(first.codes!.sha256)
    await build(flat, { reuse: false })
    const { manifest: fourth } = await liveOf(to)
    expect(fourth.codes!.key).toBe(`routing/${fourth.run}/codes.npz`)
  })

  it("goes with the routing that is taken from another root", () =>
    withTempDir(async (dir) => {
      const [from, to] = [`file://${join(dir, "from")}`, `file://${join(dir, "to")}`]
      await buildSnapshot(recordsOf(3000), { to: from, sharding: CLUSTER })
      await buildSnapshot(recordsOf(2800, 5), { to, sharding: CLUSTER, routingFrom: from })
      const [source, copy] = [(await liveOf(from)).manifest, (await liveOf(to)).manifest]
      expect(copy.codes).toEqual({ ...source.codes, key: `routing/${copy.run}/codes.npz` })
      expect(await verifyRoot(to, { deep: true })).toMatchObject({ intact: true })
    }))

  it("is none where no shard has a use for it", async () => {
    for (const options of [
      { sharding: { strategy: "explicit", shards: 3 } },
      { sharding: EXPLICIT, backend: "lancedb" },
    ] as const) {
      const to = newRoot()
      await buildSnapshot(inShards(recordsOf(options.sharding.shards * 1000), options.sharding.shards), {
        to,
        ...options,
      })
      const { manifest, cells } = await liveOf(to)
      expect(manifest.codes).toBeUndefined()
      expect(cells.every((one) => one?.coded === undefined)).toBe(true)
    }
  })

  it("has copies of rows counted in their home alone", async () => {
    const to = newRoot()
    await buildSnapshot(recordsOf(2600), { to, sharding: { strategy: "cluster", shards: 2 } })
    const { manifest, cells } = await liveOf(to)
    expect(manifest.copies).toBeGreaterThan(0)
    const home = cells.map((one) =>
      Array.from({ length: one!.rows }, (_, row) => (one!.home[row >> 3]! >> (row & 7)) & 1),
    )
    expect(home.flat().reduce((sum, bit) => sum + bit, 0)).toBe(manifest.rows)
    expect(home.flat()).toHaveLength(manifest.rows + manifest.copies!)
  })
})

describe("a deep verification", () => {
  /** Replaces the cells of the only shard by others, with a manifest that fits them. */
  async function withCells(to: string, change: (cells: CellsFile) => CellsFile): Promise<void> {
    const store = openStore(to)
    const { manifest, pointer } = await readLive(store)
    const [shard] = manifest.shards
    const key = `${shard!.folder}/cells.bin`
    const bytes = encodeCells(change(decodeCells((await store.get(key))!.body, key)))
    await store.put(key, bytes)
    const files = shard!.files.map((file) =>
      file.name === "cells.bin" ? { ...file, size: bytes.length, sha256: sha256OfBytes(bytes) } : file,
    )
    await store.put(pointer.manifest, encodeManifest({ ...manifest, shards: [{ ...shard!, files }] }))
  }

  const altered = (bytes: Uint8Array, at: number): Uint8Array => {
    const copy = bytes.slice()
    copy[at]! ^= 1
    return copy
  }

  it.each<[string, (cells: CellsFile) => CellsFile, RegExp]>([
    [
      "a code",
      (cells) => ({ ...cells, coded: { ...cells.coded!, blocks: altered(cells.coded!.blocks, 3) } }),
      /has codes that are not those of its rows \(blocks\)/,
    ],
    [
      "the scale of a cell",
      (cells) => {
        const factorScales = cells.coded!.factorScales.slice().fill(1, 0, 1)
        return { ...cells, coded: { ...cells.coded!, factorScales } }
      },
      /has codes that are not those of its rows \(factorScales\)/,
    ],
    ["no codes", (cells) => ({ ...cells, coded: undefined }), /has no codes of its 1100 rows/],
    [
      "a checksum",
      (cells) => ({ ...cells, database: { ...cells.database, sums: altered(cells.database.sums, 40) } }),
      /has another checksum for the bytes from 16384 on/,
    ],
    [
      "a page",
      (cells) => ({ ...cells, database: { ...cells.database, pages: altered(cells.database.pages, 40) } }),
      /has a page table that is not that of shard.db/,
    ],
    [
      "a row at home",
      (cells) => ({ ...cells, home: altered(cells.home, 5) }),
      /has 1100 rows, but its shards say that they are the home of 1099/,
    ],
    [
      "the order of ids",
      (cells) => {
        const ranks = cells.ranks.slice()
        ;[ranks[0], ranks[1]] = [ranks[1]!, ranks[0]!]
        return { ...cells, ranks }
      },
      /follows .*: expected rising ids/,
    ],
    [
      "the codebook that codes were made with",
      (cells) => ({ ...cells, codebook: altered(cells.codebook, 0) }),
      /has codes that were made with another codebook/,
    ],
    [
      "the length of the database",
      (cells) => ({ ...cells, database: { ...cells.database, bytes: cells.database.bytes - 1 } }),
      /is for a database of \d+ bytes/,
    ],
  ])("finds another value for %s in a file of cells whose checksum fits", async (_, change, message) => {
    const to = newRoot()
    await buildSnapshot(inShards(recordsOf(1100), 1), { to, sharding: { strategy: "explicit", shards: 1 } })
    await withCells(to, change)
    const { faults } = await verifyRoot(to, { deep: true })
    expect(faults.map((fault) => fault.message).join("\n")).toMatch(message)
    expect(await verifyRoot(to)).toMatchObject({ intact: true })
  })

  it("finds a codebook that is damaged or missing, and tells of it alone", async () => {
    const to = newRoot()
    await buildSnapshot(inShards(recordsOf(1100), 1), { to, sharding: { strategy: "explicit", shards: 1 } })
    const store = openStore(to)
    const { key } = (await readLive(store)).manifest.codes!
    const { body } = (await store.get(key))!
    await store.put(key, altered(body, 100))
    for (const deep of [true, false]) {
      const { faults } = await verifyRoot(to, { deep })
      expect(faults.map((fault) => fault.key)).toEqual([key])
    }
    await expect(openSnapshot(to)).rejects.toMatchObject({ tag: "Corrupt" })
    await store.delete([key])
    const { faults } = await verifyRoot(to, { deep: true })
    expect(faults.map((fault) => fault.message)).toEqual([`${key} is missing`])
  })
})
