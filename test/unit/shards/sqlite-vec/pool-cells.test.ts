import { copyFile, mkdir, mkdtemp, readdir, readlink, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import Sqlite from "better-sqlite3"
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from "vitest"
import type { ShardPool, ShardReader, ShardSpec } from "../../../../src/shards/backend.js"
import { prepareQuery } from "../../../../src/shards/query.js"
import { localDirectory } from "../../../../src/shards/source.js"
import { buildShard } from "../../../../src/shards/sqlite-vec/build.js"
import { createPool } from "../../../../src/shards/sqlite-vec/pool.js"
import { trainCodebook } from "../../../../src/vectors/cells/codebook.js"
import { createRandom } from "../../../../src/vectors/random.js"
import { mergeTopK } from "../../../../src/vectors/topk.js"
import { noise, noiseRows, rowsOf, specOf } from "../../../contract/shard-rows.js"
import { fitCells } from "../../../support/fit-cells.js"

const DIM = 8
/** The last one is too small for codes; the second has the first's ids, some with its vectors. */
const SIZES = [1500, 1100, 1300, 200]
const COPIES = 50
/** All of every shard. */
const ALL = { cells: 10_000, best: 5000 }

let root: string
let spec: ShardSpec

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), "vecsnap-pool-cells-"))
  const rows = SIZES.map((size, i) =>
    noiseRows(size, DIM, i + 1).map((row) => (i < 2 ? row : { ...row, id: `${i}-${row.id}` })),
  )
  rows[1] = rows[1]!.map((row, i) => (i < COPIES ? rows[0]![i]! : { ...row, id: `1-${row.id}` }))
  const sample = Float32Array.from(rows.flatMap((some) => some.flatMap(({ vector }) => Array.from(vector))))
  const codebook = trainCodebook("cosine", sample, DIM, { width: 1 })
  spec = { ...specOf(DIM, { metric: "cosine" }), codes: { codebook, sha256: new Uint8Array(32).fill(7) } }
  for (const [i, some] of rows.entries()) {
    await mkdir(join(root, String(i)))
    await buildShard(rowsOf(some, spec), join(root, String(i)), spec)
  }
})

afterAll(() => rm(root, { recursive: true }))
afterEach(() => {
  vi.restoreAllMocks()
  vi.unstubAllEnvs()
})

const openAll = (pool: ShardPool, dirs = SIZES.map((_, i) => String(i))): Promise<ShardReader[]> =>
  Promise.all(
    dirs.map((dir) => pool.open(localDirectory(join(root, dir)), spec, { kind: "cells" }, undefined)),
  )

const query = (i: number) => noise(DIM, 100 + i)

async function ask(
  pool: ShardPool,
  readers: readonly ShardReader[],
  vector: Float32Array,
  options: { readonly k?: number; readonly effort?: typeof ALL } = {},
) {
  const { k = 10, effort } = options
  const answers = await pool.search(readers, prepareQuery(vector, k, spec, { effort }))
  const lists = answers.map((answer, shard) => ({ shard, hits: "error" in answer ? [] : answer.hits }))
  const hits = mergeTopK(lists, k).map(({ shard, hit }) => [shard, hit.id, hit.distance])
  return { hits, answers }
}

describe("a pool of shards with cells", () => {
  it.each([
    ["in memory that threads share", {}, {}],
    ["in memory of each thread", { VECSNAP_SHARED_MEMORY: "off" }, {}],
    ["with cells in memory and rows on the disk", {}, { memoryBytes: 0 }],
    ["with some rows in memory", {}, { memoryBytes: 200_000 }],
    ["without compiled kernels", { VECSNAP_KERNEL: "plain" }, {}],
  ])("%s finds all that an exact search finds where all cells are looked at", async (_name, env, options) => {
    const exactPool = createPool({ workers: 1 })
    const exactReaders = await openAll(exactPool)
    for (const [name, value] of Object.entries(env)) vi.stubEnv(name, value)
    const pool = createPool({ workers: 2, ...options })
    const readers = await openAll(pool)
    for (let i = 0; i < 4; i++) {
      for (const k of [1, 10, 1000]) {
        const { hits } = await ask(exactPool, exactReaders, query(i), { k })
        expect(hits).toHaveLength(k)
        expect((await ask(pool, readers, query(i), { k, effort: ALL })).hits).toEqual(hits)
        expect((await ask(pool, readers, query(i), { k })).hits).toEqual(hits)
      }
    }
    await Promise.all(readers.map((reader) => reader.close()))
    expect(readers.map(({ bytes }) => bytes)).toEqual([0, 0, 0, 0])
    await pool.close()
    await exactPool.close()
  })

  it("looks at few rows with little effort, and finds some of the nearest", async () => {
    const pool = createPool({ workers: 2 })
    const readers = await openAll(pool)
    let found = 0
    for (let i = 0; i < 20; i++) {
      const exact = (await ask(pool, readers, query(i))).hits.map(String)
      const few = (await ask(pool, readers, query(i), { effort: { cells: 20, best: 60 } })).hits.map(String)
      expect(few).toHaveLength(10)
      found += few.filter((hit) => exact.includes(hit)).length
    }
    expect(found).toBeGreaterThan(100)
    expect(found).toBeLessThan(200)
    await pool.close()
  })

  it("gives as many rows as are asked for, also where the cells looked at have fewer", async () => {
    const pool = createPool({ workers: 1 })
    const readers = await openAll(pool, ["0", "2"])
    const exact = await ask(pool, readers, query(1), { k: 2000 })
    expect(exact.hits).toHaveLength(2000)
    expect(await ask(pool, readers, query(1), { k: 2000, effort: { cells: 1, best: 60 } })).toEqual(exact)
    const { hits } = await ask(pool, readers, query(1), { k: 5000, effort: { cells: 1, best: 60 } })
    expect(hits).toHaveLength(2800)
    await pool.close()
  })

  it("loads cells for a search with an effort, rows for the next, and what whole scans need for one", async () => {
    const pool = createPool({ workers: 1 })
    const [reader] = await openAll(pool, ["0"])
    expect(reader!.bytes).toBe(0)
    await ask(pool, [reader!], query(0), { effort: ALL })
    const cells = reader!.bytes
    expect(cells).toBeGreaterThan(0)
    expect(cells).toBeLessThan(SIZES[0]! * DIM * 4)
    await ask(pool, [reader!], query(0), { effort: ALL })
    await vi.waitFor(() => expect(reader!.bytes).toBeGreaterThan(cells + SIZES[0]! * DIM * 4))
    const { bytes } = reader!
    await ask(pool, [reader!], query(0))
    expect(reader!.bytes).toBeGreaterThan(bytes + SIZES[0]! * DIM)
    await pool.close()
  })

  it.runIf(process.platform === "linux")("has few files open, however many shards it searches", async () => {
    const pool = createPool({ workers: 2, memoryBytes: 0 }, undefined, { openMax: 1 })
    const readers = await openAll(pool)
    const asked = Array.from({ length: 8 }, (_, i) =>
      ask(pool, readers, query(i), i % 2 ? { effort: ALL } : {}),
    )
    for (const { hits } of await Promise.all(asked)) expect(hits).toHaveLength(10)
    const names = await readdir("/proc/self/fd")
    const files = await Promise.all(
      names.map((name) => readlink(join("/proc/self/fd", name)).catch(() => "")),
    )
    // SQLite keeps one that it has closed as long as another thread has a lock on it.
    expect(files.filter((file) => file.startsWith(root)).length).toBeLessThanOrEqual(4)
    await pool.close()
  })

  it("loses no hit of sound shards for those of one whose payloads are damaged", async () => {
    const dir = join(root, "damaged")
    await mkdir(dir)
    await copyFile(join(root, "0", "shard.db"), join(dir, "shard.db"))
    const db = new Sqlite(join(dir, "shard.db"))
    db.prepare("UPDATE records SET payload = '{'").run()
    db.close()
    await fitCells(join(root, "0", "shard.db"), join(dir, "shard.db"))
    const pool = createPool({ workers: 2 })
    const readers = await openAll(pool, ["damaged", "1", "2"])
    const { answers } = await ask(pool, readers, query(1), { effort: ALL })
    expect(answers.map((answer) => ("error" in answer ? "error" : answer.hits.length))).toEqual([
      "error",
      10,
      10,
    ])
    expect(answers[0]).toMatchObject({ error: { tag: "Corrupt" } })
    await pool.close()
  })

  it.each([
    ["memory that threads share", {}],
    ["memory of each thread", { VECSNAP_SHARED_MEMORY: "off" }],
  ])("answers rightly from %s, whatever is opened, closed and dropped meanwhile", async (_name, env) => {
    const random = createRandom(3)
    const exactPool = createPool({ workers: 1, memoryBytes: 0 })
    const exactReaders = await openAll(exactPool)
    const expected = await Promise.all(
      exactReaders.flatMap((reader, shard) =>
        [0, 1, 2].map(
          async (i) => [`${shard} ${i}`, (await ask(exactPool, [reader], query(i))).hits] as const,
        ),
      ),
    )
    const answers = new Map(expected)
    for (const [name, value] of Object.entries(env)) vi.stubEnv(name, value)
    // Room for the rows of one shard or two.
    const pool = createPool({ workers: 2, memoryBytes: 250_000 })
    const running = new Set<Promise<void>>()
    async function useOne(): Promise<void> {
      const shard = random.below(SIZES.length)
      const [reader] = await openAll(pool, [String(shard)])
      for (let turn = random.below(4); turn >= 0; turn--) {
        const i = random.below(3)
        const { hits } = await ask(pool, [reader!], query(i), random.below(2) === 0 ? { effort: ALL } : {})
        expect(hits).toEqual(answers.get(`${shard} ${i}`))
      }
      await reader!.close()
      expect(reader!.bytes).toBe(0)
    }
    for (let step = 0; step < 120; step++) {
      const run = useOne()
      running.add(run)
      void run.finally(() => running.delete(run)).catch(() => {})
      if (running.size >= 6) await Promise.race(running)
    }
    await Promise.all(running)
    await pool.close()
    await exactPool.close()
  })

  it("answers with the others when one is closed meanwhile", async () => {
    const pool = createPool({ workers: 2 })
    const readers = await openAll(pool)
    const before = ask(pool, readers, query(2), { effort: ALL })
    const closing = readers[1]!.close()
    const after = ask(pool, readers, query(2), { effort: ALL })
    expect((await before).answers.every((answer) => "hits" in answer)).toBe(true)
    expect((await after).answers.map((answer) => "hits" in answer)).toEqual([true, false, true, true])
    await closing
    await pool.close()
  })
})
