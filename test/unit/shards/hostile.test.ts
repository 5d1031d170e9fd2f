/**
 * Shard files whose checksums are right, by somebody who means harm: an error or right hits, and nothing
 * else.
 */
import { existsSync } from "node:fs"
import { copyFile, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"
import Sqlite from "better-sqlite3"
import fc from "fast-check"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { isVecsnapError } from "../../../src/errors.js"
import { createPool as createLancePool } from "../../../src/shards/lancedb/pool.js"
import { buildShard } from "../../../src/shards/sqlite-vec/build.js"
import { openShardFile } from "../../../src/shards/sqlite-vec/open.js"
import { searchShards } from "../../../src/shards/sqlite-vec/search.js"
import { noise, noiseRows, openShard, rowsOf, specOf } from "../../contract/shard-rows.js"
import { fitCells } from "../../support/fit-cells.js"

const SPEC = specOf(8, { fields: [{ name: "n", type: "int64" }] })
const QUERY = noise(8, 99)
const ENDLESS = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c)"

let root: string
let sound: string
let copies = 0

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), "vecsnap-hostile-"))
  await mkdir(join(root, "sound"))
  await buildShard(rowsOf(noiseRows(40, 8), SPEC), join(root, "sound"), SPEC)
  sound = join(root, "sound", "shard.db")
})

afterAll(() => rm(root, { recursive: true }))

function read(file: string) {
  const shard = openShardFile(Sqlite, file, SPEC)
  try {
    const hits = searchShards([shard], QUERY, 50).hits
    shard.findRow("r0003")
    return hits
  } finally {
    shard.close()
  }
}

/** A copy of the sound file, changed by SQL that needs no permission. */
async function changed(sql: string): Promise<string> {
  const file = join(root, `${copies++}`, "shard.db")
  await mkdir(dirname(file))
  await copyFile(sound, file)
  const db = new Sqlite(file)
  db.unsafeMode()
  db.exec(sql)
  db.close()
  await fitCells(sound, file)
  return file
}

/**
 * A shard of some rows with equally long payloads, of which only the first one's is in the file: the cells of
 * the others lead to the same overflow pages.
 */
async function sharingOneText(rows: number): Promise<string> {
  const dir = join(root, `${copies++}`)
  await mkdir(dir)
  await buildShard(rowsOf(noiseRows(rows, 8), SPEC), dir, SPEC)
  const file = join(dir, "shard.db")
  const db = new Sqlite(file)
  const pageBytes = db.pragma("page_size", { simple: true }) as number
  // What a cell of a table keeps of a long payload, at least; the rest is in pages of their own.
  const least = Math.floor(((pageBytes - 12) * 32) / 255) - 23
  const text = JSON.stringify("x".repeat(least + (pageBytes - 4) * 24))
  for (let position = 1; position <= rows; position++)
    db.prepare("UPDATE records SET payload = ? WHERE position = ?").run(text, position)
  db.close()
  const bytes = await readFile(file)

  const overflows: number[] = []
  let overflowPages = 0
  for (let page = pageBytes; page < bytes.length; page += pageBytes) {
    if (bytes[page] !== 0x0d || bytes.readUInt16BE(page + 3) !== rows) continue
    for (let cell = 0; cell < rows; cell++) {
      const start = page + bytes.readUInt16BE(page + 8 + 2 * cell)
      // Its size, in three bytes if it is long, and then the row's number in one.
      if (bytes[start]! < 128 || bytes[start + 1]! < 128) continue
      const size = ((bytes[start]! & 127) << 14) | ((bytes[start + 1]! & 127) << 7) | bytes[start + 2]!
      if (size < text.length) continue
      const kept = least + ((size - least) % (pageBytes - 4))
      const local = kept <= pageBytes - 35 ? kept : least
      overflows.push(start + 4 + local)
      overflowPages = Math.ceil((size - local) / (pageBytes - 4))
    }
  }
  expect(overflows).toHaveLength(rows)
  const firsts = overflows.map((at) => bytes.readUInt32BE(at))
  const first = Math.min(...firsts)
  for (const at of overflows) bytes.writeUInt32BE(first, at)
  const pages = first + overflowPages - 1
  bytes.writeUInt32BE(pages, 28)
  await writeFile(file, bytes.subarray(0, pages * pageBytes))
  await fitCells(file, file)
  return file
}

/** A number of SQLite's, in three groups of seven bits. */
const varint = (value: number): Buffer =>
  Buffer.from([0x80 | (value >> 14), 0x80 | ((value >> 7) & 0x7f), value & 0x7f])
const readVarint = (bytes: Buffer, at: number): number =>
  ((bytes[at]! & 0x7f) << 14) | ((bytes[at + 1]! & 0x7f) << 7) | bytes[at + 2]!

const REPLACE_RECORDS = "DROP TABLE records"

describe("a hostile SQLite file", () => {
  it.each([
    [
      "a view without end in place of a table",
      `${REPLACE_RECORDS}; CREATE VIEW records AS ${ENDLESS} SELECT x AS position, 'a' AS id, 1 AS c0, NULL AS payload FROM c`,
      /the view "records"/,
    ],
    [
      "a view in place of the vectors",
      `DROP TABLE vec_index_vector_chunks00; CREATE VIEW vec_index_vector_chunks00 AS ${ENDLESS} SELECT x AS vectors FROM c`,
      /the view "vec_index_vector_chunks00"/,
    ],
    [
      "a view that loads an extension",
      "DROP TABLE meta; CREATE VIEW meta AS SELECT load_extension('/tmp/x') AS key, 1 AS value",
      /the view "meta"/,
    ],
    [
      "a virtual table in place of a table",
      `${REPLACE_RECORDS}; CREATE VIRTUAL TABLE records USING fts5(id, c0, payload)`,
      /records/,
    ],
    [
      "generated columns",
      `${REPLACE_RECORDS}; CREATE TABLE records (position INTEGER PRIMARY KEY, id TEXT AS (upper(hex(position))), c0 INTEGER, payload TEXT)`,
      /the table "records"/,
    ],
    [
      "a table without its index",
      `${REPLACE_RECORDS}; CREATE TABLE records (position INTEGER PRIMARY KEY, id TEXT, c0, payload)`,
      /the table "records"/,
    ],
    ["a trigger", "CREATE TRIGGER t AFTER INSERT ON meta BEGIN DELETE FROM records; END", /the trigger "t"/],
    ["statistics for the planner", "ANALYZE", /the table "sqlite_stat/],
    ["one table more", "CREATE TABLE more (x)", /the table "more"/],
    [
      "a view under a name of sqlite-vec",
      `DROP TABLE vec_index_info; CREATE VIEW vec_index_info AS ${ENDLESS} SELECT x AS key, 1 AS value FROM c`,
      /the view "vec_index_info"/,
    ],
    [
      "a table of another kind under a name of sqlite-vec",
      "DROP TABLE vec_index_rowids; CREATE TABLE vec_index_rowids (rowid INTEGER PRIMARY KEY)",
      /the table "vec_index_rowids"/,
    ],
    [
      "another virtual table",
      "PRAGMA writable_schema = ON; UPDATE sqlite_schema SET sql = replace(sql, 'float[8]', 'float[9]') WHERE name = 'vec_index'",
      /the table "vec_index"/,
    ],
    ["a table less", "DROP TABLE vec_index_info", /no table/],
    [
      "a hundred objects",
      Array.from({ length: 100 }, (_, i) => `CREATE TABLE t${i} (x)`).join(";"),
      /schema that no shard has/,
    ],
    [
      "a vector that is not a number",
      "UPDATE vec_index_vector_chunks00 SET vectors = CAST(substr(vectors, 1, 36) || x'0000c07f' || substr(vectors, 41) AS BLOB)",
      /the vector of row 2 has NaN at position 1/,
    ],
    [
      "an infinite vector",
      "UPDATE vec_index_vector_chunks00 SET vectors = CAST(substr(vectors, 1, 36) || x'000080ff' || substr(vectors, 41) AS BLOB)",
      /the vector of row 2 has -Infinity at position 1/,
    ],
    ["a write-ahead log", "PRAGMA journal_mode = WAL", /file format 2\/2/],
    ["a number for a size", "UPDATE vec_index_chunks SET validity = 5", /vector chunk 1/],
    ["a text for a blob", "UPDATE vec_index_vector_chunks00 SET vectors = 'x'", /vector chunk 1/],
    ["a giant blob", "UPDATE vec_index_vector_chunks00 SET vectors = zeroblob(50000000)", /vector chunk 1/],
    ["a negative row count", "UPDATE meta SET value = '-1' WHERE key = 'rows'", /records numbered from 1/],
    ["an absurd row count", "UPDATE meta SET value = '1e300' WHERE key = 'rows'", /records numbered from 1/],
  ])("with %s is Corrupt", async (_, sql, message) => {
    const file = await changed(sql)
    expect(() => read(file)).toThrow(
      expect.objectContaining({ tag: "Corrupt", message: expect.stringMatching(message) }),
    )
  })

  it.each(["-journal", "-wal", "-shm"])(
    "with a %s beside it is Corrupt, and nothing is played back",
    async (suffix) => {
      const file = await changed("SELECT 1")
      await writeFile(file + suffix, "hostile")
      expect(() => read(file)).toThrow(expect.objectContaining({ tag: "Corrupt" }))
      expect(await readFile(file + suffix, "utf8")).toBe("hostile")
    },
  )

  it("is not written to, nor beside", async () => {
    const file = await changed("SELECT 1")
    const before = await readFile(file)
    const shard = openShardFile(Sqlite, file, SPEC)
    searchShards([shard], QUERY, 5).hits
    expect(existsSync(`${file}-wal`) || existsSync(`${file}-shm`) || existsSync(`${file}-journal`)).toBe(
      false,
    )
    shard.close()
    expect((await readFile(file)).equals(before)).toBe(true)
  })

  it("with values of other types in its columns is Corrupt", async () => {
    // Written through a schema that is not strict, which is then put back as it was.
    const strict = "replace(sql, ') STRICT', ')')"
    const file = await changed(
      `PRAGMA writable_schema = ON; UPDATE sqlite_schema SET sql = ${strict} WHERE name = 'records'; PRAGMA writable_schema = RESET`,
    )
    const db = new Sqlite(file)
    db.unsafeMode()
    db.exec("UPDATE records SET c0 = 'text' WHERE position = 3; PRAGMA writable_schema = ON")
    db.exec("UPDATE sqlite_schema SET sql = sql || ' STRICT' WHERE name = 'records'")
    db.close()
    expect(() => read(file)).toThrow(
      expect.objectContaining({
        tag: "Corrupt",
        message: expect.stringMatching(/a string for its field "n"/),
      }),
    )
  })

  it("whose rows share the pages of one text is Corrupt, however small it is", async () => {
    const file = await sharingOneText(6)
    expect(() => read(file)).toThrow(
      expect.objectContaining({ tag: "Corrupt", message: expect.stringMatching(/they share pages/) }),
    )
  })

  it("with more rows than it has room for is Corrupt before they are counted", async () => {
    const file = await changed("UPDATE meta SET value = '9007199254740000' WHERE key = 'rows'")
    expect(() => read(file)).toThrow(
      expect.objectContaining({
        tag: "Corrupt",
        message: expect.stringMatching(/no room for their vectors/),
      }),
    )
  })

  it("with a schema whose pages lead back to themselves is Corrupt before SQLite reads it", async () => {
    const bytes = await readFile(sound)
    const file = join(root, "loop.db")
    const page = bytes.length / bytes.readUInt32BE(28)
    // Of the first page: an interior one, without cells but with a last child.
    const loops = [
      [1, /page 1 is not there, or there twice/],
      [2 ** 31, /page 2147483648 is not there/],
      [3, /page 3 is of type/],
    ] as const
    for (const [child, message] of loops) {
      const damaged = Buffer.from(bytes)
      damaged[100] = 5
      damaged.writeUInt16BE(0, 103)
      damaged.writeUInt32BE(child, 108)
      if (child === 3) damaged[2 * page] = 10
      await writeFile(file, damaged)
      expect(() => read(file)).toThrow(
        expect.objectContaining({ tag: "Corrupt", message: expect.stringMatching(message) }),
      )
    }
  })

  it("that says of a text that it is longer than the file is Corrupt before it is read", async () => {
    const dir = join(root, `${copies++}`)
    await mkdir(dir)
    const payload = JSON.stringify("x".repeat(20_000))
    await buildShard(rowsOf([{ ...noiseRows(1, 8)[0]!, payload }], SPEC), dir, SPEC)
    const file = join(dir, "shard.db")
    const damaged = await readFile(file)
    // A record's header has a serial type for each column, 2 n + 13 for a text of n bytes; before it come its
    // own length and the types of position, id and field, the row's number, and the length of all of it.
    const serial = (bytes: number): Buffer => varint(2 * bytes + 13)
    const at = damaged.indexOf(serial(payload.length))
    const whole = at - 4 - 1 - 3
    expect(varint(readVarint(damaged, whole))).toEqual(damaged.subarray(whole, whole + 3))
    // By whole pages, so that the part of it that is in the row's own page stays as long as it is.
    const more = 240 * ((damaged.readUInt16BE(16) || 65_536) - 4)
    varint(readVarint(damaged, whole) + more).copy(damaged, whole)
    serial(payload.length + more).copy(damaged, at)
    await writeFile(file, damaged)
    expect(() => read(file)).toThrow(
      expect.objectContaining({
        tag: "Corrupt",
        message: expect.stringMatching(/longer than the file/),
      }),
    )
  })

  it("with another number of rows than the manifest says is Corrupt before they are counted", () => {
    expect(() => openShardFile(Sqlite, sound, SPEC, 41)).toThrow(
      expect.objectContaining({ tag: "Corrupt", message: `${sound} has 40 rows, the manifest says 41` }),
    )
    openShardFile(Sqlite, sound, SPEC, 40).close()
  })

  it("with any bytes changed gives right hits or an error that names it", async () => {
    const bytes = await readFile(sound)
    const file = join(root, "sound", "flipped.db")
    const expected = read(sound)
    const known = new Set(expected.ids)
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(fc.nat(bytes.length - 1), fc.integer({ min: 1, max: 255 })), {
          minLength: 1,
          maxLength: 8,
        }),
        async (flips) => {
          const damaged = Buffer.from(bytes)
          for (const [at, mask] of flips) damaged[at]! ^= mask
          await writeFile(file, damaged)
          try {
            const hits = read(file)
            expect(hits.ids).toHaveLength(known.size)
          } catch (error) {
            if (!isVecsnapError(error)) throw error
            expect(["Corrupt", "Unavailable"]).toContain(error.tag)
            expect(error.message).toContain(file)
          }
        },
      ),
      { numRuns: 300, seed: 11 },
    )
  })
})

describe("a hostile LanceDB index description", () => {
  it.each([
    { partitions: 0, probes: 1 },
    { partitions: 4, probes: 0 },
    { partitions: 4, probes: 5 },
    { partitions: 4, probes: 1.5 },
    { partitions: 2 ** 40, probes: 1 },
    { partitions: 4, probes: 1e300 },
    { partitions: 4, probes: 1, maxNorm: -1 },
  ])("of %j does not reach native code", async (index) => {
    const pool = createLancePool({})
    await expect(openShard(pool, root, SPEC, { kind: "ivf_flat", ...index })).rejects.toMatchObject({
      tag: "Corrupt",
    })
    await pool.close()
  })
})
