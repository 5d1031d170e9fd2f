import { mkdir, readdir, symlink } from "node:fs/promises"
import { join, relative } from "node:path"
import { describe, expect, it } from "vitest"
import { openSource, type SourceOptions } from "../../../src/sources/open.js"
import { partitionsOf } from "../../../src/sources/partitions.js"
import { openMemoryStore } from "../../../src/storage/memory.js"
import { failureOf, inputFixture, readAll, readInputs, useDirectory } from "./helpers.js"

const dir = useDirectory()

/** The URL of a store that has all files of a directory. */
async function stored(name: string): Promise<string> {
  const from = inputFixture(`directories/${name}`)
  const store = openMemoryStore(`dir-${name}`)
  for (const entry of await readdir(from, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name)
    if (entry.isFile()) await store.put(`in/${relative(from, path)}`, { file: path })
  }
  return `memory://dir-${name}/in/`
}

describe.each([
  ["a local directory", async (name: string) => `${inputFixture(`directories/${name}`)}/`],
  ["a store", stored],
])("in %s", (_, place) => {
  const open = async (name: string, options?: SourceOptions) => openSource(await place(name), options)

  it("folders are looked into", async () => {
    const url = await place("nest")
    const { ids, files } = await readInputs(url)
    expect(ids).toEqual([1n, 2n])
    expect(files).toEqual([`${url}a.jsonl`, `${url}sub/b.jsonl`])
  })

  it("folders like dt=2026-01-01 are columns, of payload or fields of any type", async () => {
    const source = await open("hive")
    expect(await readAll(source)).toMatchObject({
      ids: [1n, 2n, 3n, 4n],
      payloads: [
        '{"dt":"2026-01-01","lang":"en"}',
        '{"dt":"2026-01-01","lang":"en"}',
        '{"dt":"2026-01-02","lang":"de"}',
        '{"dt":"2026-01-02","lang":"de"}',
      ],
    })
    const fields = await readAll(await open("hive", { fields: { dt: "string", lang: "string" } }))
    expect(fields.fields[0]).toEqual({ dt: "2026-01-01", lang: "en" })
    expect(fields.fields[3]).toEqual({ dt: "2026-01-02", lang: "de" })
    expect((await readAll(await open("hive", { payloadColumns: ["lang"] }))).payloads).toEqual([
      '{"lang":"en"}',
      '{"lang":"en"}',
      '{"lang":"de"}',
      '{"lang":"de"}',
    ])
  })

  it("files that are left out are said", async () => {
    const url = await place("hive")
    expect((await openSource(url)).notes).toEqual([
      `left out, since hidden, beginning with "_" or of a data set's own: ${url}_SUCCESS`,
    ])
    expect((await open("nest")).notes).toEqual([])
  })

  it("what Hugging Face puts beside its files is left out", async () => {
    const source = await open("hf")
    expect((await readAll(source)).files).toEqual([`${await place("hf")}data-00000-of-00001.arrow`])
    expect(source.notes?.[0]).toMatch(/dataset_info\.json, .*state\.json$/)
  })

  it.each(["", "*.parquet", "**/*.parquet"])(
    "a Delta Lake table is refused, as a directory and by %j",
    async (glob) => {
      const url = await place("delta")
      const table = url.replace(/\/$/, "")
      expect(await failureOf(readInputs(`${url}${glob}`))).toMatchObject({
        tag: "InvalidInput",
        message: `${table} is a table of Delta Lake, whose log says which of its files hold rows that are not deleted; expected plain files: export the table, for example in DuckDB: COPY (FROM delta_scan('${table}')) TO 'rows.parquet'`,
      })
    },
  )
})

describe("tables of other kinds", () => {
  it.each([
    ["Iceberg", "t/metadata/v1.metadata.json"],
    ["Hudi", "t/.hoodie/hoodie.properties"],
    ["Delta Lake", "t/_delta_log/0.json"],
  ])("are refused wherever they are: %s", async (kind, marker) => {
    const store = openMemoryStore(`table-${kind.length}`)
    await store.put(`deep/${marker}`, Buffer.from("{}"))
    await store.put("deep/t/data/a.jsonl", Buffer.from('{"id":1,"vector":[1]}'))
    const { message } = await failureOf(readInputs(`memory://table-${kind.length}/`))
    expect(message).toContain(`memory://table-${kind.length}/deep/t is a table of ${kind}`)
  })
})

describe("folders as columns", () => {
  it("may be numbers, shards, nothing, or escaped", async () => {
    const store = openMemoryStore("typed")
    await store.put("year=2025/part=3/a.jsonl", Buffer.from('{"id":1,"vector":[1],"own":1}'))
    await store.put(
      "year=__HIVE_DEFAULT_PARTITION__/part=4/b%2F.csv",
      Buffer.from("id,vector,year\n2,[1],1999\n"),
    )
    const read = await readInputs("memory://typed/", { fields: { year: "int64" }, shardColumn: "part" })
    // The column of the file itself is nearer than that of a folder.
    expect(read.fields).toEqual([{ year: 2025n }, { year: 1999n }])
    expect(read.shards).toEqual([3, 4])
    expect(read.payloads).toEqual(['{"own":1}', null])
    expect(partitionsOf("x/a=b%2Fc=d/e=__HIVE_DEFAULT_PARTITION__/f=%/=x/g=h.parquet")).toEqual({
      a: "b/c=d",
      e: null,
      f: "%",
    })
  })
})

describe("a directory", () => {
  it("has no files, if all are left out", async () => {
    const store = openMemoryStore("markers")
    await store.put("x/_SUCCESS", new Uint8Array(0))
    await expect(readInputs("memory://markers/x/")).rejects.toThrow(
      "memory://markers/x/ matches no files; left out are memory://markers/x/_SUCCESS",
    )
  })

  it("may have links to files, while those to folders are not followed", async () => {
    const path = dir.path("links")
    await dir.write("linked.jsonl", '{"id":1,"vector":[1]}')
    await mkdir(join(path, "sub"), { recursive: true })
    await symlink(dir.path("linked.jsonl"), join(path, "sub/a.jsonl"))
    await symlink(path, join(path, "sub/circle"))
    expect((await readInputs(path)).files).toEqual([join(path, "sub/a.jsonl")])
  })
})
