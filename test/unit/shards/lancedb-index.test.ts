import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { connect } from "@lancedb/lancedb"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import type { ShardSpec } from "../../../src/shards/backend.js"
import { buildShard } from "../../../src/shards/lancedb/build.js"
import { createPool } from "../../../src/shards/lancedb/pool.js"
import { localDirectory } from "../../../src/shards/source.js"
import { METRICS } from "../../../src/vectors/metric.js"
import { naiveDistance, noise, noiseRows, openShard, rowsOf, specOf } from "../../contract/shard-rows.js"

let root: string
let built = 0

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), "vecsnap-lance-"))
})

afterAll(() => rm(root, { recursive: true }))

async function emptyDir(): Promise<string> {
  const dir = join(root, String(built++))
  await mkdir(dir)
  return dir
}

describe("the index of a lancedb shard", () => {
  it("is one partition, exact, for a shard of usual size", async () => {
    const spec = specOf(4, { metric: "cosine" })
    expect(await buildShard(rowsOf(noiseRows(300, 4), spec), await emptyDir(), spec)).toEqual({
      kind: "ivf_flat",
      partitions: 1,
      probes: 1,
    })
  })

  it("records the longest vector under dot, which bounds LanceDB's rounding", async () => {
    const spec = specOf(2, { metric: "dot" })
    const rows = [
      { id: "a", vector: [3, 4] },
      { id: "b", vector: [0, 0] },
    ]
    const index = await buildShard(rowsOf(rows, spec), await emptyDir(), spec)
    expect(index).toEqual({ kind: "ivf_flat", partitions: 1, probes: 1, maxNorm: 5 })
  })

  it.each(METRICS)(
    "has partitions in a large shard, and probes for a measured recall under %s",
    async (metric) => {
      // Well separated groups: the neighbours of a row are in its own group.
      const groups = noise(32 * 4, 9)
      const spec = specOf(4, { metric })
      const rows = noiseRows(2048, 4).map(({ id, vector }, i) => ({
        id,
        vector: Array.from(vector, (value, j) => groups[(i % 32) * 4 + j]! + value / 1000),
      }))
      const dir = await emptyDir()
      const plan = { exactRowsMax: 2047, rowsPerPartition: 64 }
      const index = await buildShard(rowsOf(rows, spec), dir, spec, plan)
      expect(index).toMatchObject({ kind: "ivf_flat", partitions: 32 })
      expect(index.recall).toBeGreaterThanOrEqual(0.98)
      const pool = createPool({})
      const query = Float32Array.from(rows[5]!.vector)
      const search = async (probes: number, k: number) => {
        const reader = await openShard(pool, dir, spec, { ...index, probes })
        const hits = await reader.search(query, k)
        await reader.close()
        return hits.map(({ id }) => id)
      }
      const truth = rows
        .map(({ id, vector }) => ({ id, distance: naiveDistance(metric, query, Float32Array.from(vector)) }))
        .sort((a, b) => a.distance - b.distance)
        .map(({ id }) => id)
      // All partitions are exact; k beyond the rows of the probed ones is answered from all.
      expect(await search(32, 10)).toEqual(truth.slice(0, 10))
      expect(new Set(await search(1, 5000))).toEqual(new Set(truth))
      await pool.close()
    },
  )

  it("is searched in as many partitions as it says, no more", async () => {
    // Evenly spread rows, of which one small partition cannot hold all neighbours.
    const spec = specOf(8)
    const rows = rowsOf(noiseRows(2000, 8), spec)
    const dir = await emptyDir()
    const index = await buildShard(rows, dir, spec, { exactRowsMax: 100, rowsPerPartition: 50 })
    expect(index.probes).toBeGreaterThan(1)
    const pool = createPool({})
    const one = await openShard(pool, dir, spec, { ...index, probes: 1 })
    const all = await openShard(pool, dir, spec, { ...index, probes: 40 })
    let missed = 0
    for (let i = 0; i < 20; i++) {
      const [some, truth] = await Promise.all([one.search(noise(8, i), 10), all.search(noise(8, i), 10)])
      const ids = new Set(some.map(({ id }) => id))
      missed += truth.filter(({ id }) => !ids.has(id)).length
    }
    expect(missed).toBeGreaterThan(0)
    await pool.close()
  })

  it("comes with the table's newest version only, and no log", async () => {
    const spec = specOf(4)
    const dir = await emptyDir()
    await buildShard(rowsOf(noiseRows(300, 4), spec), dir, spec)
    expect(await readdir(dir)).toEqual(["vectors.lance"])
    expect((await readdir(join(dir, "vectors.lance"))).sort()).toEqual(["_indices", "_versions", "data"])
    expect(await readdir(join(dir, "vectors.lance", "_versions"))).toHaveLength(1)
    expect(await readdir(join(dir, "vectors.lance", "_indices"))).toHaveLength(1)
  })

  it("refuses vectors that LanceDB would leave out in silence, and leaves nothing behind", async () => {
    for (const [metric, value] of [
      ["cosine", 1e-20],
      ["cosine", 1e20],
      ["l2", 1e20],
      ["dot", 1e20],
    ] as const) {
      const dir = await emptyDir()
      const spec = specOf(1, { metric })
      const rows = rowsOf([{ id: "word", vector: [value] }], spec)
      await expect(buildShard(rows, dir, spec)).rejects.toMatchObject({
        tag: "Unsupported",
        message: expect.stringContaining('"word"'),
      })
      expect(await readdir(dir)).toEqual([])
    }
  })

  it("whose table has a vector that is not finite is Corrupt when a search meets it", async () => {
    const spec = specOf(4)
    for (const value of [Number.NaN, Number.NEGATIVE_INFINITY]) {
      const dir = await emptyDir()
      const rows = noiseRows(40, 4)
      const index = await buildShard(rowsOf(rows, spec), dir, spec)
      const data = join(dir, "vectors.lance", "data")
      const file = join(data, (await readdir(data))[0]!)
      const bytes = await readFile(file)
      const { buffer } = Float32Array.from(rows[7]!.vector)
      const place = bytes.indexOf(Buffer.from(buffer))
      expect(place).toBeGreaterThan(0)
      bytes.writeFloatLE(value, place + 4)
      await writeFile(file, bytes)
      const pool = createPool({})
      const reader = await openShard(pool, dir, spec, index)
      await expect(reader.search(noise(4), 40)).rejects.toMatchObject({
        tag: "Corrupt",
        message: expect.stringMatching(/vector of record r0007 is at distance (NaN|Infinity)/),
      })
      await pool.close()
    }
  })

  it("whose table has other columns than it says, or another number of rows, is Corrupt when it is opened", async () => {
    const spec = specOf(4, { fields: [{ name: "n", type: "int64" }] })
    const told = specOf(4, { fields: [{ name: "n", type: "string" }] })
    const dir = await emptyDir()
    const rows = noiseRows(40, 4).map((row) => ({ ...row, fields: { n: "text" } }))
    const index = await buildShard(rowsOf(rows, told), dir, told)
    // What the table says of its fields lies in the metadata of its schema, in its manifest.
    const versions = join(dir, "vectors.lance", "_versions")
    const [name] = await readdir(versions)
    const bytes = await readFile(join(versions, name!), "latin1")
    expect(bytes).toContain('[["n","string"]]')
    await writeFile(join(versions, name!), bytes.replace('[["n","string"]]', '[["n","int64" ]]'), "latin1")
    const pool = createPool({})
    const open = (file: ShardSpec, count: number) => pool.open(localDirectory(dir), file, index, count)
    await expect(open(told, 41)).rejects.toMatchObject({ tag: "Corrupt" })
    await expect(open(spec, 40)).rejects.toMatchObject({
      tag: "Corrupt",
      message: expect.stringMatching(/wrong (fields|columns)/),
    })
    await pool.close()
  })

  it("that lacks rows, or is missing, is Corrupt", async () => {
    const spec = specOf(4)
    const damages = [
      async (table: Awaited<ReturnType<typeof openTable>>) => {
        const [row] = await table.query().limit(1).toArray()
        await table.add([{ id: "new", vector: Array.from(row.vector as Iterable<number>), payload: null }])
      },
      (table: Awaited<ReturnType<typeof openTable>>) => table.dropIndex("vector_idx"),
    ]
    for (const damage of damages) {
      const dir = await emptyDir()
      const index = await buildShard(rowsOf(noiseRows(300, 4), spec), dir, spec)
      await damage(await openTable(dir))
      const pool = createPool({})
      await expect(openShard(pool, dir, spec, index)).rejects.toMatchObject({
        tag: "Corrupt",
        message: expect.stringMatching(/wrong index|rows: 300, expected 301/),
      })
      await pool.close()
    }
  })
})

async function openTable(dir: string) {
  const connection = await connect(dir)
  return connection.openTable("vectors")
}
