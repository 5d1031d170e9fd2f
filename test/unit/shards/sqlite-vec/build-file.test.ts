import { copyFile, mkdir, mkdtemp, readdir, readFile, rm, stat } from "node:fs/promises"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"
import Sqlite from "better-sqlite3"
import * as sqliteVec from "sqlite-vec"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { buildShard } from "../../../../src/shards/sqlite-vec/build.js"
import { openShardFile } from "../../../../src/shards/sqlite-vec/open.js"
import { chunkRows } from "../../../../src/shards/sqlite-vec/schema.js"
import { searchShards } from "../../../../src/shards/sqlite-vec/search.js"
import type { Metric } from "../../../../src/vectors/metric.js"
import { noise, noiseRows, rowsOf, specOf } from "../../../contract/shard-rows.js"
import { inMemory } from "../../../support/in-memory.js"

let root: string
let built = 0

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), "vecsnap-sqlite-"))
})

afterAll(() => rm(root, { recursive: true }))

async function build(rows: number, dim: number, metric: Metric = "l2"): Promise<string> {
  const dir = join(root, String(built++))
  await mkdir(dir)
  const spec = specOf(dim, { metric, fields: [{ name: "n", type: "int64" }] })
  await buildShard(rowsOf(noiseRows(rows, dim), spec), dir, spec)
  return join(dir, "shard.db")
}

describe("a sqlite-vec shard file", () => {
  it("has its cells beside it, and both are the same for the same rows", async () => {
    const [a, b] = [dirname(await build(1500, 12)), dirname(await build(1500, 12))]
    expect(await readdir(a)).toEqual(["cells.bin", "shard.db"])
    for (const name of await readdir(a)) {
      expect((await readFile(join(a, name))).equals(await readFile(join(b, name)))).toBe(true)
    }
  })

  it("does not take room for 1,024 rows if it has few", async () => {
    expect((await stat(await build(1, 4096))).size).toBeLessThan(300_000)
    expect([1, 8, 9, 1024, 1025, 2048, 20_000].map(chunkRows)).toEqual([8, 8, 16, 1024, 520, 1024, 1000])
  })

  it.each(["cosine", "l2"] as const)("can be searched by sqlite-vec itself under %s", async (metric) => {
    const file = await build(1100, 8, metric)
    const db = new Sqlite(file, { readonly: true })
    sqliteVec.load(db)
    const query = noise(8, 99)
    const theirs = db
      .prepare(
        "SELECT records.id, distance FROM vec_index JOIN records ON records.position = vec_index.rowid " +
          "WHERE vector MATCH ? AND k = 20 ORDER BY distance",
      )
      .all(query) as { id: string; distance: number }[]
    db.close()
    const spec = specOf(8, { metric, fields: [{ name: "n", type: "int64" }] })
    const shard = openShardFile(Sqlite, file, spec)
    const ours = searchShards([shard], query, 20).hits
    shard.close()
    expect(ours.ids).toEqual(theirs.map(({ id }) => id))
    ours.distances.forEach((distance, i) => {
      expect(distance).toBeCloseTo(theirs[i]!.distance, 5)
    })
  })

  it.each([1, 8, 1100])("of %i rows is as sqlite-vec would have written it", async (rows) => {
    const db = new Sqlite(await build(rows, 8))
    sqliteVec.load(db)
    const tables = ["chunks", "vector_chunks00", "rowids"].map(
      (table) => `SELECT * FROM vec_index_${table} ORDER BY 1`,
    )
    const content = () =>
      [...tables, "SELECT name, seq FROM sqlite_sequence ORDER BY 1"].map((sql) =>
        db.prepare(sql).raw().safeIntegers().all(),
      )
    const ours = content()
    const vectors = db.prepare("SELECT rowid, vector FROM vec_index").safeIntegers().raw().all()
    expect(vectors).toHaveLength(rows)
    const { sql } = db.prepare("SELECT sql FROM sqlite_schema WHERE name = 'vec_index'").get() as {
      sql: string
    }
    db.exec(`DROP TABLE vec_index; ${sql}`)
    const insert = db.prepare("INSERT INTO vec_index (rowid, vector) VALUES (?, ?)")
    // In one transaction: each by itself would wait for the disk.
    db.transaction(() => {
      for (const row of vectors) insert.run(row)
    })()
    expect(content()).toEqual(ours)
    db.close()
  })

  it("gives the same hits to the last bit from memory and from the file", async () => {
    for (const metric of ["cosine", "l2", "dot"] as const) {
      const spec = specOf(33, { metric, fields: [{ name: "n", type: "int64" }] })
      const shard = openShardFile(Sqlite, await build(2100, 33, metric), spec)
      const query = noise(33, 5)
      const streamed = searchShards([shard], query, 50).hits
      expect(searchShards([inMemory(shard)], query, 50).hits).toEqual(streamed)
      shard.close()
    }
  })

  const spec = specOf(8, { fields: [{ name: "n", type: "int64" }] })
  // Statements that leave a sound database behind, of which something is wrong.
  it.each([
    ["another version", "UPDATE meta SET value = '3' WHERE key = 'version'", "wrong format"],
    ["no meta", "DROP TABLE meta", 'no table "meta"'],
    ["another row count", "UPDATE meta SET value = '1199' WHERE key = 'rows'", "1199 records"],
    ["no row count", "DELETE FROM meta WHERE key = 'rows'", "undefined records"],
    ["a record missing", "DELETE FROM records WHERE position = 7", "1200 records"],
    ["a record renumbered", "UPDATE records SET position = 5000 WHERE position = 7", "1200 records"],
    [
      "a vector missing",
      "UPDATE vec_index_chunks SET validity = zeroblob(length(validity))",
      "vector chunk 1",
    ],
    ["rows out of order", "UPDATE vec_index_chunks SET rowids = zeroblob(length(rowids))", "vector chunk 1"],
    ["a chunk missing", "DELETE FROM vec_index_chunks WHERE chunk_id = 2", "vectors of 1200 rows, got 600"],
    ["a chunk of another size", "UPDATE vec_index_chunks SET size = 608", "vector chunk 1"],
    [
      "a chunk too many",
      "INSERT INTO vec_index_chunks VALUES (3, 600, zeroblob(75), zeroblob(4800))",
      "chunk 3",
    ],
    ["vectors missing", "DELETE FROM vec_index_vector_chunks00 WHERE rowid = 2", "expected 19200 bytes, got"],
    [
      "vectors cut",
      "UPDATE vec_index_vector_chunks00 SET vectors = zeroblob(100)",
      "19200 bytes, got 100 bytes",
    ],
  ])("with %s is Corrupt", async (_, damage, message) => {
    const sound = await build(1200, 8)
    const file = join(dirname(sound), "damaged.db")
    await copyFile(sound, file)
    const db = new Sqlite(file)
    db.unsafeMode()
    db.exec(damage)
    db.close()
    const read = () => {
      const shard = openShardFile(Sqlite, file, spec)
      try {
        return searchShards([shard], noise(8), 3).hits
      } finally {
        shard.close()
      }
    }
    expect(read).toThrow(
      expect.objectContaining({ tag: "Corrupt", message: expect.stringContaining(message) }),
    )
    expect(read).toThrow(expect.objectContaining({ message: expect.stringContaining(file) }))
  })
})
