import { spawn } from "node:child_process"
import { mkdir, readdir, readFile, readlink, stat, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { text } from "node:stream/consumers"
import { setTimeout as sleep } from "node:timers/promises"
import { fileURLToPath } from "node:url"
import { gzipSync } from "node:zlib"
import * as arrow from "apache-arrow"
import { describe, expect, it } from "vitest"
import type { FieldType, IdType } from "../../../src/records.js"
import { queryReader } from "../../../src/sources/duckdb/query.js"
import { globPattern } from "../../../src/sources/inputs.js"
import { openSource, type SourceOptions } from "../../../src/sources/open.js"
import type { SourceFormat } from "../../../src/sources/registry.js"
import { openMemoryStore } from "../../../src/storage/memory.js"
import { encodeNpy } from "../../../src/vectors/npy.js"
import { failureOf, readAll, readInputs, readSkipping, runSql, useDirectory } from "./helpers.js"

const dir = useDirectory()

const line = (id: string | number, more: object = {}) =>
  `${JSON.stringify({ id, vector: [1, 2], ...more })}\n`

const readSql = (sql: string, options?: SourceOptions) => readInputs([], { ...options, sql })

/** Which files under the tests' directory this process has open. */
async function openFiles(): Promise<string[]> {
  const names = await readdir("/proc/self/fd")
  const paths = await Promise.all(names.map((name) => readlink(`/proc/self/fd/${name}`).catch(() => "")))
  return paths.filter((path) => path.startsWith(dir.path("")))
}

describe("values of Parquet and SQL", () => {
  it("become JSON", async () => {
    const { payloads } = await readSql(`SELECT 1 AS id, [0.5, 1.5] AS vector,
      DATE '2024-02-29' AS day, TIMESTAMP '2024-02-29 12:00:00.25' AS at, TIMESTAMP '1969-12-31 23:59:59.999999' AS early,
      TIMESTAMPTZ '2024-02-29 12:00:00+01' AS zoned, TIMESTAMP_NS '2024-02-29 12:00:00.123456789' AS nanos,
      'infinity'::TIMESTAMP AS never, TIME '12:34:56' AS clock, 19.99::DECIMAL(10, 2) AS price,
      -0.05::DECIMAL(4, 2) AS small, 12345678901234567.89::DECIMAL(20, 2) AS exact, 7::DECIMAL(18, 0) AS whole,
      18446744073709551615::UBIGINT AS unsigned, 170141183460469231731687303715884105727::HUGEINT AS huge,
      '\\x00\\xFF'::BLOB AS bytes, {'a': [1, NULL], 'b': {'c': DATE '2024-01-01', 'd': 'x'::BLOB}} AS nested,
      MAP {'k': 1} AS map, MAP {1: 2} AS pairs, '{"a": 9007199254740993}'::JSON AS json, 'nan'::DOUBLE AS nan,
      ['nan'::DOUBLE] AS nans, 'b'::ENUM ('a', 'b') AS enum, NULL AS nothing, true AS yes`)
    expect(payloads).toEqual([
      '{"day":"2024-02-29","at":"2024-02-29T12:00:00.25","early":"1969-12-31T23:59:59.999999",' +
        '"zoned":"2024-02-29T11:00:00Z","nanos":"2024-02-29T12:00:00.123456789","never":"infinity",' +
        '"clock":"12:34:56","price":19.99,"small":-0.05,"exact":"12345678901234567.89","whole":7,' +
        '"unsigned":18446744073709551615,"huge":170141183460469231731687303715884105727,"bytes":"AP8=",' +
        '"nested":{"a":[1,null],"b":{"c":"2024-01-01","d":"eA=="}},"map":{"k":1},"pairs":[{"key":1,"value":2}],' +
        '"json":{"a":9007199254740993},"nan":null,"nans":[null],"enum":"b","nothing":null,"yes":true}',
    ])
  })

  it("are told apart where NULL hides in lists", async () => {
    const path = dir.path("nulls.parquet")
    await runSql(`COPY (SELECT * FROM (VALUES
      (1, [1.5::FLOAT, 2], [1::FLOAT, 2]::FLOAT[2]), (2, NULL, NULL), (3, [3, NULL], [3, NULL]::FLOAT[2]), (4, [5], [5, 6]::FLOAT[2]),
      (NULL, [7, 8], [7, 8]::FLOAT[2]), (6, [9, 10], [9, 'nan'::FLOAT]::FLOAT[2])) t(id, list, fixed)) TO '${path}'`)
    const at = (row: number) => `${path}, row ${row}: column`
    const lists = await readSkipping(await openSource(path, { vectorColumn: "list", payloadColumns: [] }))
    expect(lists.ids).toEqual([1n, 6n])
    expect(lists.vectors).toEqual([
      [1.5, 2],
      [9, 10],
    ])
    expect(lists.rowNumbers).toEqual([1, 6])
    expect(lists.bad).toEqual([
      `${at(2)} "list" is missing, expected a vector`,
      `${at(3)} "list" has null at position 1, expected a number`,
      `${at(4)} "list" has 1 values, expected 2`,
      `${at(5)} "id" is missing, expected an id`,
    ])
    const fixed = await readSkipping(
      await openSource(path, { vectorColumn: "fixed", payloadColumns: ["list"] }),
    )
    expect(fixed.ids).toEqual([1n, 4n])
    expect(fixed.payloads).toEqual(['{"list":[1.5,2]}', '{"list":[5]}'])
    expect(fixed.bad).toEqual([
      `${at(2)} "fixed" is missing, expected a vector`,
      `${at(3)} "fixed" has null at position 1, expected a number`,
      `${at(5)} "id" is missing, expected an id`,
      `${at(6)} "fixed" has NaN at position 1, expected a finite number`,
    ])
  })

  it("may be decimals or integers in vectors, and must fit 64 bits in ids", async () => {
    const { vectors } = await readSql("SELECT 1 AS id, [1.12345678901234567890, 2] AS vector")
    expect(vectors).toEqual([[Math.fround(1.1234567890123457), 2]])
    expect((await readSql("SELECT 1 AS id, [1, 2]::BIGINT[] AS vector")).vectors).toEqual([[1, 2]])
    expect((await readSql("SELECT 5::DOUBLE AS id, [1.5] AS vector")).ids).toEqual([5n])
    await expect(readSql("SELECT 9223372036854775808::UBIGINT AS id, [1.5] AS vector")).rejects.toThrow(
      'SQL, row 1: column "id" is 9223372036854775808, expected a string or a 64-bit integer',
    )
    await expect(readSql("SELECT 'x'::BLOB AS id, [1.5] AS vector")).rejects.toThrow(
      "is binary data, expected a string",
    )
  })

  it("are shard numbers where asked", async () => {
    const sql = (shard: string) => `SELECT 1 AS id, [1.5] AS vector, ${shard} AS part`
    const { shards, payloads } = await readSql(sql("3"), { shardColumn: "part" })
    expect(shards).toEqual([3])
    expect(payloads).toEqual([null])
    for (const shard of ["-1", "1.5", "2147483648", "'1'"])
      await expect(readSql(sql(shard), { shardColumn: "part" })).rejects.toThrow(
        /"part" is .*, expected the number of a shard/,
      )
    await expect(readSql(sql("NULL"), { shardColumn: "part" })).rejects.toThrow('"part" is missing')
    const csv = await dir.write("shards.csv", "id,vector,part\n1,[1],7\n")
    expect((await readInputs(csv, { shardColumn: "part" })).shards).toEqual([7])
  })
})

describe("SQL", () => {
  it.each([
    ["INSTALL httpfs", "expected a SELECT statement, got LOAD"],
    ["COPY (SELECT 1) TO '/nowhere/x.csv'", "expected a SELECT statement, got COPY"],
    ["SELECT 1; SELECT 2", "expected one SQL statement, got 2"],
    [" ", "the SQL is empty"],
    ["SELEC 1", /SQL cannot be read: .*syntax error at or near "SELEC"/],
    ["SELECT * FROM 's3://bucket/x.parquet'", /SQL cannot be read: .*requires the extension httpfs/],
    ["SELECT * FROM 'nowhere/*.parquet'", /SQL cannot be read: .*No files found/],
    [
      "SELECT 1 AS id, [1.5] AS vector FROM system.main.enable_logging('QueryLog', storage = 'file', storage_path = '/nowhere')",
      "writes nothing, got one with enable_logging()",
    ],
    [
      "SELECT * FROM query('SELECT 1 AS id, [1.5] AS vector FROM enable' || '_profiling(save_location=''/nowhere/p'')')",
      "writes nothing, got one with enable_profiling()",
    ],
  ])("refuses %s", async (sql, message) => {
    const failure = await failureOf(readSql(sql))
    expect(failure.tag).toBe("InvalidInput")
    expect(failure.message).toMatch(message)
  })

  it("fails where a query fails on its way", async () => {
    // The client library just ends the rows then.
    const sql = `SELECT CASE WHEN range = 150000 THEN error('gone wrong') ELSE range END AS id, [1.5] AS vector FROM range(300000)`
    const failure = await failureOf(readSql(sql))
    expect(failure.message).toBe("SQL cannot be read: Invalid Input Error: gone wrong")
    const parquet = dir.path("damaged.parquet")
    await runSql(`COPY (SELECT range AS id, [random()] AS vector FROM range(300000)) TO '${parquet}'`)
    const bytes = await readFile(parquet)
    bytes.fill(0x55, bytes.length >> 1, (bytes.length >> 1) + 100_000)
    await writeFile(parquet, bytes)
    expect((await failureOf(readInputs(parquet))).message).toContain(`${parquet} cannot be read: `)
  })

  it.each([
    ["before the first row", "range % 17 = 3 AND hash(range) = 0"],
    ["between rows", "range < 10000 OR hash(range) = 0"],
  ])("ends at once when aborted %s", async (_, where) => {
    const controller = new AbortController()
    const sql = `SELECT range AS id, [1.5] AS vector FROM range(1000000000000) WHERE ${where}`
    const source = await openSource([], { sql })
    setTimeout(() => controller.abort(), 200)
    expect((await failureOf(readAll(source, { signal: controller.signal }))).tag).toBe("Aborted")
  })
})

describe("Arrow", () => {
  it("has values become JSON", async () => {
    const decimals = arrow.makeVector(
      arrow.makeData({
        type: new arrow.Decimal(2, 10, 128),
        length: 1,
        data: Uint32Array.of(2 ** 32 - 1999, 2 ** 32 - 1, 2 ** 32 - 1, 2 ** 32 - 1),
      }),
    )
    const column = (type: arrow.DataType, value: unknown) => arrow.vectorFromArray([value], type)
    const struct = new arrow.Struct([
      new arrow.Field("a", new arrow.DateDay()),
      new arrow.Field("b", new arrow.Binary()),
    ])
    const entries = new arrow.Struct([
      new arrow.Field("key", new arrow.Utf8()),
      new arrow.Field("value", new arrow.Int64()),
    ])
    const table = new arrow.Table({
      id: column(new arrow.Utf8(), "a"),
      vector: column(new arrow.List(new arrow.Field("item", new arrow.Float16())), [0.5, -2]),
      day: column(new arrow.DateDay(), new Date("2024-02-29")),
      at: column(new arrow.TimestampMicrosecond(), new Date("2024-02-29T12:00:00.25Z")),
      zoned: column(new arrow.TimestampMillisecond("UTC"), new Date("2024-02-29T12:00:00Z")),
      price: decimals,
      bytes: column(new arrow.Binary(), Uint8Array.of(0, 255)),
      struct: column(struct, { a: new Date("2024-01-01"), b: Uint8Array.of(120) }),
      map: column(new arrow.Map_(new arrow.Field("entries", entries)), new Map([["k", 2n ** 60n]])),
      ints: column(new arrow.List(new arrow.Field("item", new arrow.Int32())), [1, null]),
      nothing: column(new arrow.Utf8(), null),
    })
    const path = await dir.write("types.arrow", arrow.tableToIPC(table, "file"))
    const { vectors, payloads } = await readInputs(path)
    expect(vectors).toEqual([[0.5, -2]])
    expect(payloads).toEqual([
      '{"day":"2024-02-29","at":"2024-02-29T12:00:00.25","zoned":"2024-02-29T12:00:00Z","price":-19.99,"bytes":"AP8=",' +
        '"struct":{"a":"2024-01-01","b":"eA=="},"map":{"k":1152921504606846976},"ints":[1,null],"nothing":null}',
    ])
  })

  it("is told apart where null hides in lists", async () => {
    const table = new arrow.Table({
      id: arrow.vectorFromArray([1, 2, 3, 4], new arrow.Int32()),
      vector: arrow.vectorFromArray(
        [[1, 2], null, [3, null], [5]],
        new arrow.List(new arrow.Field("item", new arrow.Float32())),
      ),
    })
    const path = await dir.write("nulls.arrow", arrow.tableToIPC(table, "stream"))
    const { ids, bad } = await readSkipping(await openSource(path))
    expect(ids).toEqual([1n])
    expect(bad).toEqual([
      `${path}, row 2: column "vector" is missing, expected a vector`,
      `${path}, row 3: column "vector" has null at position 1, expected a number`,
      `${path}, row 4: column "vector" has 1 values, expected 2`,
    ])
  })

  it.each(["file", "stream"] as const)("finds that a %s is cut off", async (kind) => {
    const table = new arrow.Table({ id: arrow.vectorFromArray(["a", "b"]) })
    const bytes = arrow.tableToIPC(table, kind)
    for (const length of [0, 3, 20, bytes.length >> 1, bytes.length - (kind === "file" ? 1 : 30)]) {
      const path = await dir.write("cut.arrow", bytes.subarray(0, length))
      expect(await failureOf(readInputs(path))).toMatchObject({ tag: "Corrupt", details: { file: path } })
    }
  })
})

describe("columns", () => {
  const read = async (rows: object[], options?: SourceOptions) =>
    readInputs(await dir.write("columns.jsonl", rows.map((row) => JSON.stringify(row)).join("\n")), options)

  it("are found by name, then by type", async () => {
    const vector = [1, 2]
    expect((await read([{ id: 1, embedding: vector, other: [3] }])).payloads).toEqual(['{"other":[3]}'])
    expect(
      (
        await read(
          [
            { id: 1, emb: null, tags: ["a"] },
            { id: 2, emb: vector, tags: [] },
          ].slice(1),
        )
      ).vectors,
    ).toEqual([vector])
    expect((await readSql("SELECT 1 AS id, [1, 2] AS counts, [0.5, 1] AS emb")).vectors).toEqual([[0.5, 1]])
    await expect(read([{ id: 1, a: vector, b: vector }])).rejects.toThrow(
      'columns.jsonl has several columns that could be the vectors: "a", "b"; name the right one as the vector column',
    )
    await expect(read([{ id: 1, vector, embedding: vector }])).rejects.toThrow(
      'several columns that could be the vectors: "vector", "embedding"',
    )
    await expect(read([{ id: 1, a: "x" }])).rejects.toThrow(
      'has no column of vectors; its columns are "a"; name',
    )
    expect((await read([{ id: 1, a: vector, b: [3] }], { vectorColumn: "b" })).vectors).toEqual([[3]])
  })

  it("that are asked for must be there where a file has columns", async () => {
    const csv = await dir.write("columns.csv", "key,vector,n\n1,[1],2\n")
    const message = (name: string) => `${csv} has no column "${name}"; its columns are "key", "vector", "n"`
    const ask: readonly (readonly [SourceOptions, string])[] = [
      [{}, "id"],
      [{ idColumn: "key", vectorColumn: "emb" }, "emb"],
      [{ idColumn: "key", fields: { year: "int64" } }, "year"],
      [{ idColumn: "key", payloadColumns: ["title"] }, "title"],
      [{ idColumn: "key", shardColumn: "part" }, "part"],
    ]
    for (const [options, name] of ask)
      expect((await failureOf(readInputs(csv, options))).message).toBe(message(name))
  })

  it("make up the payload as asked", async () => {
    const rows = [
      { id: 1, vector: [1], lang: "de", a: 1, b: { c: 2 } },
      { id: 2, vector: [1] },
    ]
    const fields = { lang: "string" } as const
    expect((await read(rows, { fields })).payloads).toEqual(['{"a":1,"b":{"c":2}}', null])
    expect((await read(rows, { fields, payloadColumns: ["b", "lang"] })).payloads).toEqual([
      '{"b":{"c":2},"lang":"de"}',
      null,
    ])
    expect((await read(rows, { fields, payloadColumns: [] })).payloads).toEqual([null, null])
    expect((await read(rows, { fields: { id: "int64", lang: "string" } })).fields).toEqual([
      { id: 1n, lang: "de" },
      { id: 2n, lang: null },
    ])
  })
})

describe("inputs", () => {
  it("are paths, directories and globs, each file once, by name", async () => {
    const files = [
      "day/b.jsonl",
      "day/a.jsonl",
      "day/_SUCCESS",
      "day/.hidden.jsonl",
      "day/deep/er/c.jsonl",
      "day/x.txt",
    ]
    await mkdir(dir.path("day/deep/er"), { recursive: true })
    for (const file of files) await dir.write(file, line(file))
    await mkdir(dir.path("flat"))
    for (const file of ["flat/2.jsonl", "flat/1.jsonl", "flat/_SUCCESS", "flat/.crc"])
      await dir.write(file, line(file))
    const idsOf = async (...inputs: string[]) => (await readInputs(inputs.map(dir.path))).ids

    expect(await idsOf("day/*.jsonl")).toEqual(["day/a.jsonl", "day/b.jsonl"])
    expect(await idsOf("day/[!a].jsonl")).toEqual(["day/b.jsonl"])
    expect(await idsOf("day/**/*.jsonl")).toEqual(["day/a.jsonl", "day/b.jsonl", "day/deep/er/c.jsonl"])
    expect(await idsOf("d?y/**/er/*")).toEqual(["day/deep/er/c.jsonl"])
    expect(await idsOf("day/b.jsonl", "day/*.jsonl")).toEqual(["day/b.jsonl", "day/a.jsonl"])
    expect(await idsOf("flat")).toEqual(["flat/1.jsonl", "flat/2.jsonl"])
    expect((await readInputs(`file://${dir.path("day/a.jsonl")}`)).ids).toEqual(["day/a.jsonl"])
    await expect(idsOf("day/*.csv")).rejects.toMatchObject({ tag: "NotFound" })
    await expect(idsOf("none.jsonl")).rejects.toThrow(/there is no file .*none\.jsonl/)
    await expect(idsOf("day/x.txt")).resolves.toEqual(["day/x.txt"])
    await expect(readInputs(await dir.write("odd.dat", "?"))).rejects.toThrow(
      /format of .*odd\.dat cannot be told/,
    )
  })

  it.each([
    ["*.jsonl", "a.jsonl", "a/b.jsonl"],
    ["a/**", "a/b/c", "b/a"],
    ["**/x", "x", "x/y"],
    ["**/x", "a/b/x", "ax"],
    ["[a-c].+", "b.+", "d.+"],
    ["?", "é", "ab"],
    ["*", "a", ".a"],
    ["a*b", "ab", "a/b"],
    ["{a}(b)", "{a}(b)", "ab"],
  ])("match %s with %s, not with %s", (glob, good, bad) => {
    expect(globPattern(glob).test(good)).toBe(true)
    expect(globPattern(glob).test(bad)).toBe(false)
  })

  it("are objects of a store, downloaded while they are read", async () => {
    const store = openMemoryStore("sources")
    const parquet = dir.path("object.parquet")
    await runSql(`COPY (SELECT 'p' AS id, [1.5] AS vector) TO '${parquet}'`)
    await store.put("day/1.parquet", { file: parquet })
    await store.put("day/0.jsonl.gz", gzipSync('{"id": "g", "vector": [2]}'))
    await store.put("day/_SUCCESS", new Uint8Array(0))
    await store.put("day/deep/2.parquet", { file: parquet })
    await mkdir(dir.path("temp"))
    const tempDir = dir.path("temp")
    const read = (input: string) => readInputs(input, { tempDir })

    expect(await read("memory://sources/day/1.parquet")).toMatchObject({
      ids: ["p"],
      files: ["memory://sources/day/1.parquet"],
    })
    expect((await read("memory://sources/day/*.parquet")).files).toEqual(["memory://sources/day/1.parquet"])
    expect((await read("memory://sources/**/2.*")).files).toEqual(["memory://sources/day/deep/2.parquet"])
    expect((await read("memory://sources/day/")).files).toEqual([
      "memory://sources/day/0.jsonl.gz",
      "memory://sources/day/1.parquet",
      "memory://sources/day/deep/2.parquet",
    ])
    for await (const _ of (await openSource("memory://sources/day/", { tempDir })).read({})) {
      expect(await readdir(tempDir)).toHaveLength(1)
      break
    }
    expect(await readdir(tempDir)).toEqual([])
    await expect(read("memory://sources/none.parquet")).rejects.toMatchObject({ tag: "NotFound" })
    await expect(read("memory://sources/none/*")).rejects.toThrow("memory://sources/none/* matches no files")
    await expect(read("https://example.org/x.parquet")).rejects.toThrow(
      "inputs are paths, file:// and s3:// URLs",
    )
  })

  it("must not contradict the options", async () => {
    const path = await dir.write("one.jsonl", line(1))
    const npy = dir.path("one.npy")
    const open = (inputs: readonly string[], options?: object) => openSource(inputs, options)
    await expect(open([])).rejects.toThrow("nothing to read is named")
    await expect(open([path], { sql: "SELECT 1" })).rejects.toThrow("SQL names its files itself")
    await expect(open(["-", path], { format: "jsonl" })).rejects.toThrow(
      "standard input cannot be read together with other inputs",
    )
    await expect(open(["-"])).rejects.toThrow("standard input has no name to tell its format by")
    await expect(open([path], { format: "xml" as SourceFormat })).rejects.toThrow(
      'the format is "xml", expected one of parquet, csv',
    )
    await expect(open([path], { idType: "int32" as IdType })).rejects.toThrow(
      'the id type is "int32", expected "string" or "int64"',
    )
    await expect(open([path], { fields: { a: "text" as FieldType } })).rejects.toThrow(
      'field "a" has the type text',
    )
    await expect(open([path], { ids: path })).rejects.toThrow(
      "expected them for vectors that have none of their own",
    )
    await dir.write("one.npy", "")
    await expect(open([npy, path])).rejects.toThrow("one.npy must be the only input")
    await expect(open([npy], { ids: "-" })).rejects.toThrow("ids cannot be read from standard input")
  })
})

describe("standard input", () => {
  const child = fileURLToPath(new URL("read-stdin.js", import.meta.url))

  /** What the child prints; without input, its standard input stays open and silent. */
  async function pipe(input: Uint8Array | undefined, format: SourceFormat, mode = "once"): Promise<unknown> {
    const process = spawn(globalThis.process.execPath, [child, format, mode], {
      stdio: ["pipe", "pipe", "inherit"],
    })
    process.stdin.on("error", () => {})
    if (input !== undefined) process.stdin.end(input)
    return JSON.parse(await text(process.stdout))
  }

  it("is read in any format", async () => {
    const expected = { name: "standard input", repeatable: false, ids: ["a"], files: ["standard input"] }
    const parquet = dir.path("stdin.parquet")
    await runSql(`COPY (SELECT 'a' AS id, [1.5] AS vector) TO '${parquet}'`)
    const table = new arrow.Table({
      id: arrow.vectorFromArray(["a"]),
      vector: arrow.vectorFromArray([[1.5]], new arrow.List(new arrow.Field("item", new arrow.Float32()))),
    })
    expect(await pipe(Buffer.from('{"id": "a", "vector": [1.5]}'), "jsonl")).toEqual(expected)
    expect(await pipe(gzipSync("id,vector\na,[1.5]"), "csv")).toEqual(expected)
    expect(await pipe(await readFile(parquet), "parquet")).toEqual(expected)
    expect(await pipe(arrow.tableToIPC(table, "stream"), "arrow")).toEqual(expected)
  })

  it("is read once, and is not waited for after an abort", async () => {
    const input = Buffer.from('{"id": "a", "vector": [1.5]}')
    expect(await pipe(input, "jsonl", "twice")).toEqual({ error: "standard input can be read only once" })
    expect(await pipe(undefined, "jsonl", "abort")).toEqual({ error: "reading standard input was aborted" })
  })
})

describe("reading that ends early", () => {
  it.each(["jsonl", "jsonl.gz", "csv", "parquet", "arrow", "npy"])(
    "closes the files of %s",
    async (extension) => {
      const path = dir.path(`many.${extension}`)
      const sql = "SELECT range AS id, [range / 7, 1] AS vector, 'some text' AS text FROM range(400000)"
      if (extension === "parquet") await runSql(`COPY (${sql}) TO '${path}'`)
      else if (extension === "csv") await runSql(`COPY (${sql}) TO '${path}' (FORMAT csv)`)
      else if (extension.startsWith("jsonl"))
        await runSql(
          `COPY (${sql}) TO '${path}' (FORMAT json, COMPRESSION ${extension.endsWith("gz") ? "gzip" : "none"})`,
        )
      else if (extension === "npy") {
        await writeFile(path, encodeNpy({ shape: [1_500_000, 2], data: new Float32Array(3_000_000) }))
      } else {
        const type = new arrow.List(new arrow.Field("item", new arrow.Float32()))
        const table = new arrow.Table({
          id: arrow.vectorFromArray([1, 2], new arrow.Int32()),
          vector: arrow.vectorFromArray([[1], [2]], type),
        })
        await writeFile(
          path,
          arrow.tableToIPC(new arrow.Table(Array.from({ length: 3000 }, () => table.batches[0]!)), "file"),
        )
      }
      const source = await openSource(path)
      for await (const batch of source.read({})) {
        expect(batch.rows).toBe(2048)
        expect(await openFiles()).toContain(path)
        break
      }
      // Streams close on their own time.
      for (let i = 0; i < 100 && (await openFiles()).length > 0; i++) await sleep(20)
      expect(await openFiles()).toEqual([])

      const controller = new AbortController()
      const failure = await failureOf(
        (async () => {
          for await (const _ of source.read({ signal: controller.signal })) controller.abort()
        })(),
      )
      expect(failure).toMatchObject({ tag: "Aborted", message: `reading ${path} was aborted` })
      for (let i = 0; i < 100 && (await openFiles()).length > 0; i++) await sleep(20)
      expect(await openFiles()).toEqual([])
    },
  )
})

it("what DuckDB spills lies in a directory of its owner's", async () => {
  const duckdb = await import("@duckdb/node-api")
  const tempDir = dir.path("spill")
  const reader = queryReader(duckdb, "SQL", "SELECT range AS id FROM range(10)", tempDir)
  for await (const _ of reader.read({ memoryLimit: 2 ** 28 } as Parameters<typeof reader.read>[0])) {
    const [name] = await readdir(tempDir)
    expect((await stat(join(tempDir, name!))).mode & 0o777).toBe(0o700)
  }
  expect(await readdir(tempDir)).toEqual([])
})
