import { copyFile, readFile, writeFile } from "node:fs/promises"
import { gzipSync } from "node:zlib"
import * as arrow from "apache-arrow"
import { beforeAll, describe, expect, it } from "vitest"
import { stringifyJson } from "../../../src/json.js"
import type { FieldType } from "../../../src/records.js"
import type { SourceOptions } from "../../../src/sources/open.js"
import { openSource } from "../../../src/sources/open.js"
import type { SourceFormat } from "../../../src/sources/registry.js"
import { encodeNpy } from "../../../src/vectors/npy.js"
import { failureOf, type Rows, readAll, readInputs, runSql, useDirectory } from "./helpers.js"

const ROWS = 5000
const DIM = 6
const FIELDS: Readonly<Record<string, FieldType>> = {
  lang: "string",
  year: "int64",
  score: "float64",
  live: "bool",
}

// Every row has ids and years beyond 2^53, float32 values, unicode, and now and then a null.
const records = Array.from({ length: ROWS }, (_, i) => ({
  id: 2n ** 53n + 1n + BigInt(i),
  vector: Array.from({ length: DIM }, (_, j) => Math.fround(Math.sin(i * DIM + j))),
  lang: i % 7 === 0 ? null : ["de", "日本語", 'a "quoted", one', "two\nlines", "😀"][i % 5]!,
  year: i % 11 === 0 ? null : -(2n ** 60n) + BigInt(i),
  score: i % 13 === 0 ? null : i / 8,
  live: i % 17 === 0 ? null : i % 2 === 0,
  note: i % 3 === 0 ? null : `note ${i} – ü`,
}))

const expected: Rows = {
  ids: records.map(({ id }) => id),
  vectors: records.map(({ vector }) => vector),
  fields: records.map(({ lang, year, score, live }) => ({ lang, year, score, live })),
  payloads: records.map(({ note }) => JSON.stringify({ note })),
  rowNumbers: records.map((_, i) => i + 1),
  files: [],
  shards: undefined,
}

const dir = useDirectory()
const jsonl = records.map((record) => `${stringifyJson(record)}\n`).join("")

function csvCell(value: unknown): string {
  if (value === null) return ""
  const text = Array.isArray(value) ? JSON.stringify(value) : String(value)
  return /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text
}

const csvLines = (delimiter: string): string[] => [
  Object.keys(records[0]!).join(delimiter),
  ...records.map((record) => Object.values(record).map(csvCell).join(delimiter)),
]

function arrowTable(vectorType: arrow.DataType): arrow.Table {
  const column = (type: arrow.DataType, values: readonly unknown[]) => arrow.vectorFromArray(values, type)
  return new arrow.Table({
    id: column(new arrow.Int64(), expected.ids),
    vector: column(vectorType, expected.vectors),
    lang: column(
      new arrow.Dictionary(new arrow.Utf8(), new arrow.Int32()),
      records.map(({ lang }) => lang),
    ),
    year: column(
      new arrow.Int64(),
      records.map(({ year }) => year),
    ),
    score: column(
      new arrow.Float64(),
      records.map(({ score }) => score),
    ),
    live: column(
      new arrow.Bool(),
      records.map(({ live }) => live),
    ),
    note: column(
      new arrow.Utf8(),
      records.map(({ note }) => note),
    ),
  })
}

/** As a writer that flushes every 1,500 rows. */
function inBatches(table: arrow.Table): arrow.RecordBatch[] {
  const starts = Array.from({ length: Math.ceil(ROWS / 1500) }, (_, i) => i * 1500)
  return starts.flatMap((start) => table.slice(start, start + 1500).batches)
}

const listOf = (type: arrow.DataType) => new arrow.List(new arrow.Field("item", type))

const COLUMNS = `lang: 'VARCHAR', year: 'BIGINT', score: 'DOUBLE', live: 'BOOLEAN', note: 'VARCHAR'`

const copyParquet = (vectorType: string, options: string) => (path: string) =>
  runSql(
    `COPY (SELECT * FROM read_json('${dir.path("rows.jsonl")}', columns = { id: 'BIGINT', vector: '${vectorType}', ${COLUMNS} }))
     TO '${path}' (FORMAT parquet, ${options})`,
  )

// Files as their usual writers make them: name, how.
const FILES: readonly (readonly [string, (path: string) => Promise<void>])[] = [
  ["rows.jsonl", (path) => writeFile(path, jsonl)],
  ["crlf.ndjson", (path) => writeFile(path, `\ufeff${jsonl.replaceAll("\n", "\r\n").trimEnd()}`)],
  ["rows.jsonl.gz", (path) => writeFile(path, gzipSync(jsonl))],
  // Two gzip members, as `cat a.gz b.gz` makes them.
  [
    "members.jsonl.gz",
    (path) => writeFile(path, Buffer.concat([gzipSync(jsonl.slice(0, 1000)), gzipSync(jsonl.slice(1000))])),
  ],
  [
    "rows.jsonl.zst",
    (path) =>
      runSql(`COPY (FROM '${dir.path("floats.parquet")}') TO '${path}' (FORMAT json, COMPRESSION zstd)`),
  ],
  ["rows.csv", (path) => writeFile(path, `${csvLines(",").join("\n")}\n`)],
  ["rows.csv.gz", (path) => writeFile(path, gzipSync(csvLines(",").join("\r\n")))],
  [
    "rows.csv.zst",
    (path) =>
      runSql(`COPY (FROM '${dir.path("floats.parquet")}') TO '${path}' (FORMAT csv, COMPRESSION zstd)`),
  ],
  ["semicolon.csv", (path) => writeFile(path, csvLines(";").join("\n"))],
  ["rows.tsv", (path) => writeFile(path, csvLines("\t").join("\n"))],
  ["fixed.parquet", copyParquet(`FLOAT[${DIM}]`, "COMPRESSION snappy")],
  ["doubles.parquet", copyParquet("DOUBLE[]", "COMPRESSION gzip, ROW_GROUP_SIZE 2048")],
  ["year=2024 'q' [1]*.parquet", (path) => copyFile(dir.path("floats.parquet"), path)],
  [
    "stream.arrows",
    (path) =>
      writeFile(
        path,
        arrow.tableToIPC(new arrow.Table(inBatches(arrowTable(listOf(new arrow.Float32())))), "stream"),
      ),
  ],
  [
    "file.arrow",
    (path) =>
      writeFile(
        path,
        arrow.tableToIPC(new arrow.Table(inBatches(arrowTable(listOf(new arrow.Float64())))), "file"),
      ),
  ],
  [
    "fixed.feather",
    (path) => {
      const type = new arrow.FixedSizeList(DIM, new arrow.Field("item", new arrow.Float32()))
      return writeFile(path, arrow.tableToIPC(arrowTable(type), "file"))
    },
  ],
]

beforeAll(async () => {
  await writeFile(dir.path("rows.jsonl"), jsonl)
  await copyParquet("FLOAT[]", "COMPRESSION zstd")(dir.path("floats.parquet"))
  for (const [name, write] of FILES) await write(dir.path(name))
})

/** Lines where each record starts, given the records that hold a line break. */
function lineNumbers(firstLine: number): number[] {
  let line = firstLine
  return records.map(({ lang }) => {
    const start = line
    line += lang === "two\nlines" ? 2 : 1
    return start
  })
}

describe("the same rows in every format", () => {
  it.each(FILES.map(([name]) => name))("%s", async (name) => {
    const source = await openSource(dir.path(name), { fields: FIELDS })
    const rows = await readAll(source)
    const rowNumbers = /csv|tsv/.test(name) ? lineNumbers(2) : expected.rowNumbers
    expect(rows.ids).toEqual(expected.ids)
    expect(rows.vectors).toEqual(expected.vectors)
    expect(rows.fields).toEqual(expected.fields)
    expect(rows.payloads).toEqual(expected.payloads)
    expect(rows.rowNumbers).toEqual(rowNumbers)
    expect(rows.files).toEqual([dir.path(name)])
    expect(source.name).toBe(dir.path(name))
    expect(source.repeatable).toBe(true)
  })

  it("SQL", async () => {
    const sql = `SELECT * FROM '${dir.path("floats.parquet")}' WHERE year IS NOT NULL ORDER BY id DESC`
    const source = await openSource([], { sql, fields: FIELDS })
    const rows = await readAll(source)
    const kept = records.filter(({ year }) => year !== null).reverse()
    expect(rows.ids).toEqual(kept.map(({ id }) => id))
    expect(rows.vectors).toEqual(kept.map(({ vector }) => vector))
    expect(source.repeatable).toBe(false)
  })

  it("reads a source a second time", async () => {
    const source = await openSource(dir.path("rows.jsonl.gz"), { fields: FIELDS })
    expect(await readAll(source)).toEqual(await readAll(source))
  })

  it.each([
    ["rows.jsonl.gz", "jsonl"],
    ["rows.csv.zst", "csv"],
    ["floats.parquet", undefined],
    ["file.arrow", undefined],
    ["stream.arrows", undefined],
    ["rows.jsonl", undefined],
  ] as const)("tells %s without its extension (format %s)", async (name, format) => {
    const path = await dir.write("data", await readFile(dir.path(name)))
    const options: SourceOptions = { fields: FIELDS, format }
    expect((await readInputs(path, options)).ids).toEqual(expected.ids)
  })

  it("gives batches of bounded size, each of one file", async () => {
    const source = await openSource([dir.path("rows.jsonl"), dir.path("fixed.parquet")], { fields: FIELDS })
    const sizes: [string, number][] = []
    for await (const { rows, origin } of source.read({})) sizes.push([origin.file, rows])
    const sizesOf = (name: string) =>
      sizes.filter(([file]) => file === dir.path(name)).map(([, rows]) => rows)
    expect(sizesOf("rows.jsonl")).toEqual([2048, 2048, 904])
    expect(sizesOf("fixed.parquet")).toEqual([2048, 2048, 904])
    expect(source.name).toBe("2 files")
  })
})

describe(".npy", () => {
  const vectors = Float32Array.from(expected.vectors.flat())
  const shape = [ROWS, DIM]

  it("counts rows from 0 where there are no ids", async () => {
    const path = await dir.write("plain.npy", encodeNpy({ shape, data: vectors }))
    const rows = await readInputs(path)
    expect(rows.ids).toEqual(records.map((_, i) => BigInt(i)))
    expect(rows.vectors).toEqual(expected.vectors)
    expect(rows.payloads).toEqual(records.map(() => null))
    expect(rows.rowNumbers).toEqual(expected.rowNumbers)
  })

  it("takes ids line by line, as text or as integers", async () => {
    const path = await dir.write("doubles.npy", encodeNpy({ shape, data: Float64Array.from(vectors) }))
    const words = await dir.write("words.txt", records.map((_, i) => `wörd-${i}\r\n`).join(""))
    expect((await readInputs(path, { ids: words })).ids).toEqual(records.map((_, i) => `wörd-${i}`))
    const numbers = await dir.write("numbers.txt.gz", gzipSync(expected.ids.join("\n")))
    expect((await readInputs(path, { ids: numbers })).ids).toEqual(expected.ids)
    expect((await readInputs(path, { ids: numbers, idType: "string" })).ids).toEqual(expected.ids.map(String))
  })

  it("takes ids from an .npy file of 64-bit integers", async () => {
    // The header of an array of doubles of the same shape, with the other type.
    const ids = encodeNpy({ shape: [ROWS], data: new Float64Array(ROWS) })
    ids.set(Buffer.from("<i8"), Buffer.from(ids).indexOf("<f8"))
    ids.set(new Uint8Array(BigInt64Array.from(expected.ids as bigint[]).buffer), ids.length - ROWS * 8)
    const path = await dir.write("vectors.npy", encodeNpy({ shape, data: vectors }))
    expect((await readInputs(path, { ids: await dir.write("ids.npy", ids) })).ids).toEqual(expected.ids)
  })

  it("refuses ids of another number, and files that are not what their header says", async () => {
    const path = await dir.write("five.npy", encodeNpy({ shape: [5, 2], data: new Float32Array(10).fill(1) }))
    const ids = (count: number) => dir.write(`${count}.txt`, "x\n".repeat(count))
    await expect(readInputs(path, { ids: await ids(4) })).rejects.toThrow(
      /4\.txt has 4 ids, fewer than .*five\.npy has rows/,
    )
    await expect(readInputs(path, { ids: await ids(6) })).rejects.toThrow(
      /6\.txt has more ids than the 5 rows/,
    )
    const cut = await dir.write(
      "cut.npy",
      encodeNpy({ shape: [5, 2], data: new Float32Array(10) }).subarray(0, -1),
    )
    await expect(readInputs(cut)).rejects.toThrow(/cut\.npy has 167 bytes, expected 168/)
    const flat = await dir.write("flat.npy", encodeNpy({ shape: [5], data: new Float32Array(5) }))
    await expect(readInputs(flat)).rejects.toThrow(/has shape \(5\), expected \(rows, dimension\)/)
  })
})

describe("a file whose name says another format than its first bytes", () => {
  it.each([
    ["rows.csv", "PAR1", "csv", "parquet"],
    ["rows.jsonl", "ARROW1\0\0", "jsonl", "arrow"],
    ["rows.arrow", "\x93NUMPY", "arrow", "npy"],
    ["rows.parquet", '{"id": 1}', "parquet", "jsonl"],
  ])("is refused: %s beginning with %j", async (name, head, expected, found) => {
    const path = await dir.write(name, Buffer.from(head, "latin1"))
    expect(await failureOf(openSource(path))).toMatchObject({
      tag: "InvalidInput",
      message: `${path} should be ${expected} by its name, but begins as ${found}: rename it, or give the format`,
    })
    expect((await openSource(path, { format: found as SourceFormat })).name).toBe(path)
  })

  it.each([
    ["rows.csv", "[a],id\n"],
    ["rows.fvecs", "[\0\0\0"],
    ["rows.jsonl", "  {"],
    ["rows.parquet", ""],
  ])("may be right: %s beginning with %j", async (name, head) => {
    const path = await dir.write(name, head)
    expect((await openSource(path)).name).toBe(path)
  })
})
