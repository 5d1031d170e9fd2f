import { closeSync, openSync, readFileSync, truncateSync, writeFileSync } from "node:fs"
import { mkdir, mkdtemp, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import Sqlite from "better-sqlite3"
import fc from "fast-check"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { buildShard } from "../../../../src/shards/sqlite-vec/build.js"
import {
  chainPages,
  checkChain,
  LOCK_PAGE,
  PAGE_BYTES,
  readVarint,
} from "../../../../src/shards/sqlite-vec/pages/btree.js"
import {
  openRows,
  readRecords,
  vectorRanges,
  vectorsFrom,
} from "../../../../src/shards/sqlite-vec/pages/rows.js"
import {
  decodePageTable,
  encodePageTable,
  type PageTable,
} from "../../../../src/shards/sqlite-vec/pages/table.js"
import { pageTable } from "../../../../src/shards/sqlite-vec/pages/walk.js"
import type { ByteRange } from "../../../../src/shards/stretches.js"
import { rowsOf, specOf } from "../../../contract/shard-rows.js"
import { seededRandom } from "../../../support/records.js"

let root: string
let made = 0
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), "vecsnap-pages-"))
})
afterAll(() => rm(root, { recursive: true }))

/** A shard of random rows, whose payloads have up to so many characters. */
async function shard(rows: number, dim: number, payload = 40) {
  const random = seededRandom(rows * 1000 + dim)
  const spec = specOf(dim, { fields: [{ name: "n", type: "int64" }] })
  const given = rowsOf(
    Array.from({ length: rows }, (_, i) => ({
      id: `r${String(i).padStart(6, "0")}`,
      vector: Float32Array.from({ length: dim }, () => random() - 0.5),
      fields: { n: i },
      payload: JSON.stringify("x".repeat(Math.floor(random() * payload))),
    })),
    spec,
  )
  const dir = join(root, String(made++))
  await mkdir(dir)
  await buildShard(given, dir, spec)
  const path = join(dir, "shard.db")
  const bytes = readFileSync(path)
  const facts = { bytes: bytes.length, rows, rowBytes: 4 * dim }
  return { given, path, bytes, facts, dim, table: decodePageTable(pageTable(path), facts, path) }
}

/** Without a list of what differs, which takes minutes for millions of numbers. */
const areEqual = (a: Float32Array, b: Float32Array): boolean =>
  Buffer.compare(new Uint8Array(a.buffer), new Uint8Array(b.buffer)) === 0

const from =
  (bytes: Uint8Array) =>
  async (ranges: readonly ByteRange[]): Promise<readonly Uint8Array[]> =>
    ranges.map(({ start, end }) => bytes.subarray(start, end))

describe("a page table", () => {
  it.each([
    [1, 1],
    [7, 3],
    [8, 2],
    [300, 100],
    [1025, 5],
    [1500, 384],
    [2100, 201],
  ])("leads to the vectors of %i rows of %i dimensions, from a file and in ranges", async (rows, dim) => {
    const { path, bytes, table, given } = await shard(rows, dim)
    const random = seededRandom(3)
    const all = Array.from({ length: rows }, (_, i) => i)
    const some = Array.from({ length: 20 }, () => Math.floor(random() * rows))
    const descriptor = openSync(path, "r")
    try {
      const reader = openRows(descriptor, table, dim, path)
      for (const positions of [all, some, [...all].reverse(), []]) {
        const expected = new Float32Array(positions.length * dim)
        for (const [i, at] of positions.entries())
          expected.set(given.vectors.subarray(at * dim, (at + 1) * dim), i * dim)
        const out = new Float32Array(positions.length * dim)
        reader.read(positions, out)
        expect(areEqual(out, expected)).toBe(true)
        const ranges = vectorRanges(table, dim, positions)
        const contents = ranges.map(({ start, end }) => bytes.subarray(start, end))
        const apart = vectorsFrom(table, dim, positions, ranges, contents)
        expect(areEqual(apart, expected)).toBe(true)
      }
    } finally {
      closeSync(descriptor)
    }
  })

  it("is as docs/format.md says", async () => {
    const [rows, dim] = [1100, 100]
    const { path, bytes, given } = await shard(rows, dim)
    const pages = Buffer.from(pageTable(path))
    const [room, chunks, runs] = [0, 4, 8].map((at) => pages.readUInt32LE(at)) as [number, number, number]
    let taken = 0
    const placed = Array.from({ length: chunks }, (_, chunk) => {
      const at = 16 + 12 * chunk
      const [page, offset, length] = [
        pages.readUInt32LE(at),
        pages.readUInt16LE(at + 4),
        pages.readUInt16LE(at + 6),
      ]
      const numbers: number[] = []
      for (let run = 0; run < pages.readUInt32LE(at + 8); run++, taken++) {
        const place = 16 + 12 * chunks + 8 * taken
        for (let i = 0; i < pages.readUInt32LE(place + 4); i++) numbers.push(pages.readUInt32LE(place) + i)
      }
      return { page, offset, length, numbers }
    })
    expect(taken).toBe(runs)
    for (const position of [0, 7, 8, 549, 550, 1099]) {
      const { page, offset, length, numbers } = placed[Math.floor(position / room)]!
      const vector = Buffer.alloc(4 * dim)
      for (let k = 0; k < vector.length; k++) {
        const j = (position % room) * dim * 4 + k
        const i = j - length
        const at =
          j < length
            ? (page - 1) * 4096 + offset + j
            : (numbers[Math.floor(i / 4092)]! - 1) * 4096 + 4 + (i % 4092)
        vector[k] = bytes[at]!
      }
      const expected = given.vectors.slice(position * dim, (position + 1) * dim)
      expect(vector.equals(Buffer.from(expected.buffer))).toBe(true)
    }
  })

  it("reads neighbours at once, and no more than is needed of what is far apart", async () => {
    const { table, dim } = await shard(2000, 100)
    const all = vectorRanges(
      table,
      dim,
      Array.from({ length: 1000 }, (_, i) => i),
    )
    expect(all.length).toBeLessThanOrEqual(2)
    const far = vectorRanges(table, dim, [0, 500, 1400])
    const sum = far.reduce((total, { start, end }) => total + end - start, 0)
    // Of SQLite's pointers one a vector at most.
    expect(sum).toBeLessThanOrEqual(3 * (dim * 4 + 4))
  })

  it("leads to records with payloads on one page and on many", async () => {
    for (const payload of [10, 3000, 60_000]) {
      const { path, bytes, table, given, facts } = await shard(120, 4, payload)
      const file = { name: path, pages: facts.bytes / PAGE_BYTES }
      let rounds = 0
      const read = (ranges: readonly ByteRange[]) => {
        rounds++
        return from(bytes)(ranges)
      }
      const rowids = [120, 1, 57, 58, 57]
      const records = await readRecords(file, table, rowids, read)
      const ids = given.ids.values as readonly string[]
      expect(records).toEqual(
        rowids.map((rowid) => [ids[rowid - 1], BigInt(rowid - 1), given.payloads[rowid - 1]]),
      )
      expect(rounds).toBe(payload === 60_000 ? 2 : 1)
      await expect(readRecords(file, table, [121], read)).rejects.toMatchObject({ tag: "Corrupt" })
    }
  })

  it("is the same after it was decoded, and Corrupt if any part of it is off", async () => {
    const { path, facts, table } = await shard(1100, 20)
    const encoded = encodePageTable(table)
    expect(encoded).toEqual(pageTable(path))
    const decode = (bytes: Uint8Array, other = facts) => decodePageTable(bytes, other, "cells.bin")
    for (const length of [0, 15, 16, encoded.length - 1]) {
      expect(() => decode(encoded.subarray(0, length))).toThrow(expect.objectContaining({ tag: "Corrupt" }))
    }
    for (const other of [
      { ...facts, rows: 5000 },
      { ...facts, rowBytes: 400 },
      { ...facts, bytes: 4096 },
      { ...facts, bytes: facts.bytes + 1 },
    ]) {
      expect(() => decode(encoded, other)).toThrow(expect.objectContaining({ tag: "Corrupt" }))
    }
  })

  it("of any bytes is Corrupt or leads to nothing beyond the file", async () => {
    const { facts, table, dim } = await shard(1100, 20)
    const encoded = encodePageTable(table)
    let sound = 0
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.nat(encoded.length - 1), fc.nat(255)), { minLength: 1, maxLength: 3 }),
        (changes) => {
          const bytes = encoded.slice()
          for (const [at, value] of changes) bytes[at] = value
          let decoded: PageTable
          try {
            decoded = decodePageTable(bytes, facts, "cells.bin")
          } catch (error) {
            expect(error).toMatchObject({ tag: "Corrupt" })
            return
          }
          sound++
          for (const { start, end } of vectorRanges(decoded, dim, [0, 5, 560, 1099])) {
            expect(start >= 0 && end > start && end <= facts.bytes).toBe(true)
          }
        },
      ),
      { numRuns: 2000 },
    )
    expect(sound).toBeGreaterThan(0)
  })

  it("skips the page of the lock, which no chain has", () => {
    const file = { name: "shard.db", pages: LOCK_PAGE + 10 }
    const overflow = LOCK_PAGE - 2
    const cell = {
      rowid: 1,
      child: 0,
      bytes: 100 + 4 * 4092,
      local: new Uint8Array(100),
      offset: 0,
      overflow,
    }
    const pages = chainPages(file, cell)
    expect(pages).toEqual([LOCK_PAGE - 2, LOCK_PAGE - 1, LOCK_PAGE + 1, LOCK_PAGE + 2])
    const chain = pages.map((_, i) => {
      const page = new Uint8Array(PAGE_BYTES)
      new DataView(page.buffer).setUint32(0, pages[i + 1] ?? 0)
      return page
    })
    expect(() => checkChain(file, pages, chain)).not.toThrow()
    const facts = { bytes: file.pages * PAGE_BYTES, rows: 8, rowBytes: 1024 }
    const table = (runs: readonly { first: number; pages: number }[]): PageTable => ({
      room: 8,
      chunks: [{ head: { page: 5, offset: 100, bytes: 2048 }, runs }],
      leaves: { firstRowids: Uint32Array.of(1), pages: Uint32Array.of(2) },
    })
    const decode = (runs: readonly { first: number; pages: number }[]) =>
      decodePageTable(encodePageTable(table(runs)), facts, "cells.bin")
    expect(
      decode([
        { first: LOCK_PAGE - 1, pages: 1 },
        { first: LOCK_PAGE + 1, pages: 1 },
      ]).room,
    ).toBe(8)
    expect(() => decode([{ first: LOCK_PAGE - 1, pages: 2 }])).not.toThrow(RangeError)
    expect(() => decode([{ first: LOCK_PAGE - 1, pages: 2 }])).toThrow(/not those of a chunk/)
  })
})

describe("the walk over a database", () => {
  it("refuses what a build does not write", async () => {
    const { path } = await shard(600, 10, 6000)
    const change = (sql: string): void => {
      const db = new Sqlite(path)
      db.unsafeMode()
      db.exec(sql)
      db.close()
    }
    // Pages become free.
    change("DELETE FROM records WHERE position < 100")
    expect(() => pageTable(path)).toThrow(/free pages/)
  })

  it("ends on any damage, with Corrupt or with the table of what is sound", async () => {
    const { bytes, facts } = await shard(900, 6, 300)
    const damagedPath = join(root, "damaged.db")
    const random = seededRandom(11)
    let corrupt = 0
    for (let i = 0; i < 400; i++) {
      const copy = Buffer.from(bytes)
      // Heads of pages, where what leads on is.
      const page = Math.floor((random() * facts.bytes) / PAGE_BYTES) * PAGE_BYTES
      copy[page + Math.floor(random() * 16)] = Math.floor(random() * 256)
      writeFileSync(damagedPath, copy)
      try {
        pageTable(damagedPath)
      } catch (error) {
        expect(error).toMatchObject({ tag: "Corrupt", message: expect.stringContaining(damagedPath) })
        corrupt++
      }
    }
    expect(corrupt).toBeGreaterThan(50)
    truncateSync(damagedPath, bytes.length - 100)
    expect(() => pageTable(damagedPath)).toThrow(/expected whole pages/)
  })
})

const value = fc.oneof(
  { arbitrary: fc.constant(null), weight: 1 },
  { arbitrary: fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }), weight: 2 },
  { arbitrary: fc.bigInt({ min: -300n, max: 300n }), weight: 2 },
  { arbitrary: fc.double({ noNaN: true }), weight: 2 },
  { arbitrary: fc.string({ unit: "grapheme", maxLength: 60 }), weight: 2 },
  { arbitrary: fc.nat(30_000).map((length) => "é".repeat(length)), weight: 1 },
  { arbitrary: fc.uint8Array({ maxLength: 80 }).map((bytes) => Buffer.from(bytes)), weight: 1 },
  { arbitrary: fc.nat(20_000).map((length) => Buffer.alloc(length, 7)), weight: 1 },
)

describe("records of any types", () => {
  it("are those that SQLite reads", async () => {
    let files = 0
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 4 }).chain((columns) =>
          fc.array(fc.array(value, { minLength: columns, maxLength: columns }), {
            minLength: 1,
            maxLength: 80,
          }),
        ),
        async (rows) => {
          const path = join(root, `random-${files++}.db`)
          const db = new Sqlite(path)
          db.defaultSafeIntegers(true)
          const names = rows[0]!.map((_, i) => `c${i}`)
          db.exec(`BEGIN;
            CREATE TABLE vec_index_chunks(chunk_id INTEGER PRIMARY KEY, size INTEGER);
            CREATE TABLE vec_index_vector_chunks00(rowid PRIMARY KEY, vectors BLOB);
            CREATE TABLE records (position INTEGER PRIMARY KEY, ${names.join(", ")})`)
          const size = Math.ceil(rows.length / 8) * 8
          db.prepare("INSERT INTO vec_index_chunks VALUES (1, ?)").run(BigInt(size))
          const insert = db.prepare(`INSERT INTO records VALUES (?, ${names.map(() => "?").join(", ")})`)
          for (const [i, row] of rows.entries()) insert.run(BigInt(i + 1), ...row)
          db.prepare("INSERT INTO vec_index_vector_chunks00 VALUES (1, ?)").run(Buffer.alloc(size * 4))
          db.exec("COMMIT")
          const expected = db
            .prepare(`SELECT ${names.join(", ")} FROM records ORDER BY position`)
            .raw()
            .all()
          db.close()
          const bytes = readFileSync(path)
          const facts = { bytes: bytes.length, rows: rows.length, rowBytes: 4 }
          const table = decodePageTable(pageTable(path), facts, path)
          const file = { name: path, pages: bytes.length / PAGE_BYTES }
          const rowids = rows.map((_, i) => i + 1)
          const records = await readRecords(file, table, rowids, from(bytes))
          expect(records.map((record) => record.map(plain))).toEqual(
            (expected as unknown[][]).map((record) => record.map(plain)),
          )
        },
      ),
      { numRuns: 60 },
    )
  })

  it("of integers of all lengths", () => {
    for (const [bytes, expected] of [
      [[0x7f], 127],
      [[0x81, 0x00], 128],
      [[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f], 2 ** 49 - 1],
      [[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f], 2n ** 56n - 1n],
      [[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], -1n],
    ] as const) {
      expect(readVarint(Uint8Array.from(bytes), 0)).toEqual({ value: expected, end: bytes.length })
      expect(readVarint(Uint8Array.from(bytes.slice(0, -1)), 0)).toBeUndefined()
    }
  })
})

/** Blobs as hex, so that a buffer and an array compare. */
const plain = (value: unknown): unknown =>
  value instanceof Uint8Array ? Buffer.from(value).toString("hex") : value
