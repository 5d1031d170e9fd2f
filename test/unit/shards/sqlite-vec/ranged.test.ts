import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import Sqlite from "better-sqlite3"
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest"
import type { ShardPool, ShardReader, ShardRows, ShardSpec } from "../../../../src/shards/backend.js"
import { prepareQuery } from "../../../../src/shards/query.js"
import { localDirectory, type ShardSource } from "../../../../src/shards/source.js"
import { sqliteVecBackend } from "../../../../src/shards/sqlite-vec/backend.js"
import { buildShard } from "../../../../src/shards/sqlite-vec/build.js"
import { trainCodebook } from "../../../../src/vectors/cells/codebook.js"
import type { CellEffort } from "../../../../src/vectors/cells/effort.js"
import { decodeCells } from "../../../../src/vectors/cells/file.js"
import { prepareCells, searchCells } from "../../../../src/vectors/cells/search.js"
import type { Metric } from "../../../../src/vectors/metric.js"
import { rowsOf, specOf, type TestRow } from "../../../contract/shard-rows.js"
import { seededRandom } from "../../../support/records.js"

const DIM = 12
const ROWS = 1300
const INDEX = { kind: "cells" }

interface Built {
  readonly dir: string
  readonly spec: ShardSpec
  readonly rows: ShardRows
}

let root: string
let pool: ShardPool
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), "vecsnap-ranged-"))
})
afterAll(() => rm(root, { recursive: true }))
beforeEach(() => {
  pool = sqliteVecBackend.createPool({ workers: 1 })
})
afterEach(() => pool.close())

const random = seededRandom(77)
const centers = Array.from({ length: 9 }, () => Array.from({ length: DIM }, () => random() * 2 - 1))
const vectorNear = (n: number): Float32Array =>
  Float32Array.from(centers[n % centers.length]!, (x) => x + (random() - 0.5) * 0.8)

let made = 0
async function build(metric: Metric, shards: readonly (readonly TestRow[])[], idType: "string" | "int64") {
  const plain = specOf(DIM, { metric, idType, fields: [{ name: "n", type: "int64" }] })
  const all = shards.map((rows) => rowsOf(rows, plain))
  const sample = new Float32Array(all.reduce((sum, { vectors }) => sum + vectors.length, 0))
  let end = 0
  for (const { vectors } of all) {
    sample.set(vectors, end)
    end += vectors.length
  }
  const codes = { codebook: trainCodebook(metric, sample, DIM), sha256: new Uint8Array(32).fill(7) }
  const spec: ShardSpec = { ...plain, codes }
  return Promise.all(
    all.map(async (rows): Promise<Built> => {
      const dir = join(root, String(made++))
      await mkdir(dir)
      await buildShard(rows, dir, spec)
      return { dir, spec, rows }
    }),
  )
}

/** Rows of three shards, ids apart; every tenth has a payload longer than a page. */
const threeShards = (id: (n: number) => string | bigint): TestRow[][] =>
  [0, 1, 2].map((shard) =>
    Array.from({ length: ROWS }, (_, i) => {
      const n = shard * ROWS + i
      return {
        id: id(n),
        vector: vectorNear(n),
        fields: { n },
        payload: JSON.stringify(n % 10 === 0 ? "long ".repeat(1500) : { n }),
      }
    }),
  )

/** A source without a local copy, which counts. */
function away({ dir }: Pick<Built, "dir">) {
  const counts = { reads: 0, bytes: 0, files: 0, copies: 0 }
  const local = localDirectory(dir)
  const source: ShardSource = {
    ...local,
    isLocal: false,
    async localDir() {
      counts.copies++
      return dir
    },
    async read(file, ranges, options) {
      counts.reads++
      expect(options?.sums).toBeDefined()
      const pieces = await local.read(file, ranges, options)
      counts.bytes += pieces.reduce((sum, { length }) => sum + length, 0)
      return pieces
    },
    readFile(file, options) {
      counts.files++
      return local.readFile(file, options)
    },
  }
  return { source, counts }
}

async function openAll(built: readonly Built[]) {
  const aways = built.map(away)
  const readers = await Promise.all(
    built.map(({ spec, rows }, i) => pool.open(aways[i]!.source, spec, INDEX, rows.rows)),
  )
  return { readers, counts: aways.map(({ counts }) => counts) }
}

const closeAll = (readers: readonly ShardReader[]) => Promise.all(readers.map((reader) => reader.close()))

const EFFORT: CellEffort = { cells: 12, best: 60 }

describe.each(["cosine", "l2", "dot"] as const)("shards that are read in ranges under %s", (metric) => {
  let built: readonly Built[]
  beforeAll(async () => {
    built = await build(
      metric,
      threeShards((n) => `id-${n}`),
      "string",
    )
  })

  it("have the hits of the plain search through cells, in two waves of reads", async () => {
    const { space, books } = built[0]!.spec.codes!.codebook
    const files = await Promise.all(built.map(({ dir }) => readFile(join(dir, "cells.bin"))))
    const prepared = prepareCells(
      space,
      books,
      built.map(({ rows }, i) => {
        const { ranks } = decodeCells(files[i]!, "cells.bin")
        const vectors = new Float32Array(rows.vectors.length)
        for (const [position, rank] of ranks.entries())
          vectors.set(rows.vectors.subarray(rank * DIM, (rank + 1) * DIM), position * DIM)
        return { cells: files[i]!, vectors }
      }),
    )!
    const { readers, counts } = await openAll(built)
    expect(counts.map(({ files, reads }) => [files, reads])).toEqual(Array(3).fill([1, 0]))
    for (let i = 0; i < 30; i++) {
      const vector = vectorNear(i)
      for (const count of counts) count.reads = 0
      const query = prepareQuery(vector, 10, built[0]!.spec, { effort: EFFORT })
      const answers = await pool.search(readers, query)
      const expected = searchCells(prepared, vector, { k: 10, ...EFFORT })
      const ranks = prepared.shards.map(({ file }) => file.ranks)
      for (const [shard, answer] of answers.entries()) {
        const own = expected.filter((hit) => hit.shard === shard)
        expect("hits" in answer && answer.hits.map(({ id, distance }) => [id, distance])).toEqual(
          own.map(({ position, distance }) => {
            const ids = built[shard]!.rows.ids.values as readonly string[]
            return [ids[ranks[shard]![position]!], distance]
          }),
        )
        for (const hit of "hits" in answer ? answer.hits : []) {
          const n = Number(String(hit.id).slice(3))
          expect(hit.fields).toEqual({ n })
          expect(hit.payload).toEqual(n % 10 === 0 ? "long ".repeat(1500) : { n })
        }
        // Vectors, leaves of records, and the rest of those that are longer.
        expect(counts[shard]!.reads).toBeLessThanOrEqual(own.length === 0 ? 1 : 3)
      }
    }
    expect(counts.map(({ copies }) => copies)).toEqual([0, 0, 0])
    await closeAll(readers)
  })

  it("have all rows looked at in a local copy, where no effort is given", async () => {
    const { readers, counts } = await openAll(built)
    const whole = await Promise.all(
      built.map(({ dir, spec, rows }) => pool.open(localDirectory(dir), spec, INDEX, rows.rows)),
    )
    const query = prepareQuery(vectorNear(4), 25, built[0]!.spec)
    expect(await pool.search([...readers, ...whole], query)).toHaveLength(6)
    expect(await pool.search(readers, query)).toEqual(await pool.search(whole, query))
    expect(counts.map(({ copies, reads }) => [copies, reads])).toEqual(Array(3).fill([1, 0]))
    // What is there is used from now on.
    const tried = prepareQuery(query.vector, 25, built[0]!.spec, { effort: { cells: 400, best: 2000 } })
    expect(await pool.search(readers, tried)).toEqual(await pool.search(whole, query))
    expect(counts.map(({ reads }) => reads)).toEqual([0, 0, 0])
    await closeAll([...readers, ...whole])
  })

  it("find the true nearest where every cell is looked at", async () => {
    const { readers } = await openAll(built)
    const whole = await pool.open(localDirectory(built[1]!.dir), built[1]!.spec, INDEX)
    const effort = { cells: 1000, best: 4000 }
    for (let i = 0; i < 5; i++) {
      const vector = vectorNear(i)
      const all = await whole.search(prepareQuery(vector, 40, built[1]!.spec))
      expect(await readers[1]!.search(prepareQuery(vector, 40, built[1]!.spec, { effort }))).toEqual(all)
    }
    await closeAll([...readers, whole])
  })
})

describe("shards that are read in ranges", () => {
  const integer = (n: number): bigint => BigInt(n) * 7_000_000_000_000n - 10_000_000_000_000_000n
  const text = (n: number): string => `${n % 7 === 0 ? "é".repeat(900) : "ü"}-${n}`

  it.each([
    ["texts, some of them long", "string", text],
    ["integers", "int64", integer],
  ] as const)("give records by ids that are %s", async (_, idType, id) => {
    const built = await build("l2", threeShards(id), idType)
    const { readers, counts } = await openAll(built)
    const idOf: (n: number) => string | bigint = id
    const wanted = [0, 10, 11, 700, 1299, 5000].map(idOf)
    const whole = await pool.open(localDirectory(built[0]!.dir), built[0]!.spec, INDEX)
    const found = await readers[0]!.get(wanted)
    expect(found).toEqual(await whole.get(wanted))
    expect(found.map((record) => record?.fields.n)).toEqual([0, 10, 11, 700, 1299, undefined])
    // Each level of the index once, then rows: far fewer bytes than the shard has.
    expect(counts[0]).toMatchObject({ copies: 0, files: 1 })
    expect(counts[0]!.reads).toBeLessThanOrEqual(40)
    expect(counts[0]!.bytes).toBeLessThan(300_000)
    const none = await readers[1]!.get([id(9999)])
    expect(none).toEqual([undefined])
    const every = Array.from({ length: ROWS }, (_, n) => idOf(n))
    expect(await readers[0]!.get(every)).toEqual(await whole.get(every))
    expect(counts[0]!.copies).toBe(1)
    const records = []
    for await (const some of readers[2]!.records()) records.push(...some)
    expect(records).toHaveLength(ROWS)
    expect(counts[2]!.copies).toBe(1)
    await closeAll([...readers, whole])
  })

  it("answer beside one that is damaged, and then lack nothing", async () => {
    const built = await build(
      "l2",
      threeShards((n) => `id-${n}`),
      "string",
    )
    const path = join(built[1]!.dir, "shard.db")
    const bytes = await readFile(path)
    const { readers } = await openAll(built)
    const query = prepareQuery(vectorNear(3), 10, built[0]!.spec, { effort: EFFORT })
    const alone = await pool.search([readers[0]!, readers[2]!], query)
    await writeFile(path, Buffer.from(bytes).fill(1, 8192))
    const answers = await pool.search(readers, query)
    expect([answers[0], answers[2]]).toEqual(alone)
    expect(answers[1]).toMatchObject({ error: { tag: "Corrupt" } })
    await expect(readers[1]!.search(query)).rejects.toMatchObject({ tag: "Corrupt" })
    await closeAll(readers)
  })

  it("return copies besides k records", async () => {
    const rows = threeShards((n) => `id-${n}`)
    // The nearest records of the query lie in all shards.
    const near = Array.from({ length: 20 }, (_, i) => ({ ...rows[0]![i]!, vector: vectorNear(0) }))
    const shards = rows.map((own, shard) => (shard === 0 ? [...near, ...own.slice(20)] : [...near, ...own]))
    const plain = await build("l2", shards, "string")
    // Say of those in other shards that they are copies.
    const built = await Promise.all(
      plain.map(async ({ spec, rows: own, dir }, shard) => {
        if (shard === 0) return { spec, rows: own, dir }
        const copy = `${dir}-copies`
        await mkdir(copy)
        const ids = own.ids.values as readonly string[]
        const home = new Uint8Array(Math.ceil(own.rows / 8))
        for (const [row, id] of ids.entries())
          if (Number(id.slice(3)) >= shard * ROWS) home[row >> 3]! |= 1 << (row & 7)
        await buildShard({ ...own, home }, copy, spec)
        return { spec, rows: own, dir: copy }
      }),
    )
    const { readers } = await openAll(built)
    const query = prepareQuery(vectorNear(0), 10, built[0]!.spec, { effort: { cells: 400, best: 300 } })
    const answers = await pool.search(readers, query)
    const hits = answers.flatMap((answer) => ("hits" in answer ? answer.hits : []))
    expect(new Set(hits.map(({ id }) => id)).size).toBeGreaterThanOrEqual(10)
    const whole = await Promise.all(built.map(({ dir, spec }) => pool.open(localDirectory(dir), spec, INDEX)))
    const exact = (await pool.search(whole, prepareQuery(query.vector, 10, built[0]!.spec))).flatMap(
      (answer) => ("hits" in answer ? answer.hits : []),
    )
    const best = (all: typeof hits) => {
      const distances = new Map(all.map(({ id, distance }) => [id, distance]))
      return [...distances].sort((a, b) => a[1] - b[1]).slice(0, 10)
    }
    expect(best(hits)).toEqual(best(exact))
    await closeAll([...readers, ...whole])
  })

  it("are refused if they are not those of their snapshot", async () => {
    const [one] = await build("l2", [threeShards((n) => `id-${n}`)[0]!], "string")
    const open = (spec: ShardSpec, rows: number) => pool.open(away(one!).source, spec, INDEX, rows)
    const corrupt = { tag: "Corrupt" }
    await expect(open(one!.spec, ROWS + 1)).rejects.toMatchObject(corrupt)
    const codes = { ...one!.spec.codes!, sha256: new Uint8Array(32) }
    await expect(open({ ...one!.spec, codes }, ROWS)).rejects.toMatchObject(corrupt)
    await expect(open({ ...one!.spec, dim: DIM + 1 }, ROWS)).rejects.toMatchObject(corrupt)
    const other = sqliteVecBackend.createPool({ workers: 1 })
    const reader = await other.open(away(one!).source, one!.spec, INDEX, ROWS)
    const query = prepareQuery(vectorNear(0), 3, one!.spec, { effort: EFFORT })
    await expect(pool.search([reader], query)).rejects.toThrow(/not open in this pool/)
    await reader.close()
    const [answer] = await other.search([reader], query)
    expect(answer).toMatchObject({ error: { tag: "Closed" } })
    await expect(reader.get(["id-1"])).rejects.toMatchObject({ tag: "Closed" })
    await other.close()
  })

  it("say of a changed database where it is damaged", async () => {
    const [one] = await build("l2", [threeShards((n) => `id-${n}`)[0]!], "string")
    const db = new Sqlite(join(one!.dir, "shard.db"))
    db.exec("UPDATE records SET payload = '\"changed\"' WHERE position = 40")
    db.close()
    const reader = await pool.open(away(one!).source, one!.spec, INDEX, ROWS)
    await expect(reader.get(["id-0"])).rejects.toMatchObject({
      tag: "Corrupt",
      message: expect.stringContaining("shard.db is damaged in its bytes from 0 on"),
    })
    await reader.close()
  })
})
