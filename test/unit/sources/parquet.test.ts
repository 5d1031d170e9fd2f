import { readFile } from "node:fs/promises"
import { beforeAll, describe, expect, it } from "vitest"
import { openSource } from "../../../src/sources/open.js"
import { failureOf, inputFixture, readInputs, readSkipping, runSql, useDirectory } from "./helpers.js"

const dir = useDirectory()

describe("columns that differ only in case", () => {
  it.each(["parquet", "arrow"])("keep their names, and are found by them, in %s", async (format) => {
    const { ids, payloads } = await readInputs(inputFixture(`parquet/case-titles.${format}`))
    expect(ids).toEqual([1n, 2n])
    expect(payloads).toEqual(['{"Title":"a","title":"c"}', '{"Title":"b","title":"d"}'])
  })

  it("may be ids", async () => {
    const path = inputFixture("parquet/case-ids.parquet")
    expect(await readInputs(path)).toMatchObject({ ids: [1n, 2n], payloads: ['{"ID":7}', '{"ID":8}'] })
    expect(await readInputs(path, { idColumn: "ID", payloadColumns: ["id"] })).toMatchObject({
      ids: [7n, 8n],
      payloads: ['{"id":1}', '{"id":2}'],
    })
  })

  it("are told from columns that are called so, next to nested ones", async () => {
    const path = dir.path("named.parquet")
    await runSql(
      `COPY (SELECT 1 AS id, [0.5, 1] AS vector, {'id': 2, 'b': [1]} AS a, 3 AS id_1, 4 AS b_2) TO '${path}'`,
    )
    expect((await readInputs(path)).payloads).toEqual(['{"a":{"id":2,"b":[1]},"id_1":3,"b_2":4}'])
  })
})

describe("decimals", () => {
  const path = inputFixture("parquet/decimal.parquet")

  it("may be fields of numbers, the nearest there is, or of text with all digits", async () => {
    expect((await readInputs(path, { fields: { price: "float64" } })).fields).toEqual([
      { price: 1.5 },
      { price: 123456789012345.67 },
    ])
    expect((await readInputs(path, { fields: { price: "string" } })).fields).toEqual([
      { price: "1.5000" },
      { price: "123456789012345.6789" },
    ])
    expect((await readInputs(path)).payloads).toEqual(['{"price":1.5}', '{"price":"123456789012345.6789"}'])
  })

  it("are no integers, no truth values and no ids", async () => {
    const { bad } = await readSkipping(await openSource(path, { fields: { price: "int64" } }))
    expect(bad[1]).toBe(`${path}, row 2: column "price" is 123456789012345.6789, expected a 64-bit integer`)
    expect((await readSkipping(await openSource(path, { idColumn: "price" }))).bad[0]).toBe(
      `${path}, row 1: column "price" is 1.5000, expected a string or a 64-bit integer`,
    )
  })
})

describe("columns that nobody asked for", () => {
  // The directory is there only when tests run.
  let path: string
  let damaged: string

  beforeAll(async () => {
    path = dir.path("wide.parquet")
    damaged = dir.path("damaged.parquet")
    await runSql(`COPY (SELECT range AS id, [range % 7 + 0.5, 1] AS vector, 'MARKER' || repeat(range::VARCHAR, 2000) AS text,
      [1.5, 2] AS other FROM range(3000)) TO '${path}' (FORMAT parquet, COMPRESSION uncompressed)`)
    const bytes = await readFile(path)
    bytes[bytes.indexOf("MARKER") + 1] = 0xff
    await dir.write("damaged.parquet", bytes)
  })

  it("are not decoded: what is damaged in them is not met", async () => {
    await expect(readInputs(damaged)).rejects.toMatchObject({ tag: "InvalidInput" })
    expect((await readInputs(damaged, { payloadColumns: [] })).ids).toHaveLength(3000)
    const options = { vectorColumn: "vector", payloadColumns: ["other"], fields: { id: "int64" } } as const
    expect(await readInputs(damaged, options)).toMatchObject({
      fields: { 2999: { id: 2999n } },
      payloads: { 2999: '{"other":[1.5,2]}' },
    })
  })

  it("take no memory, and those that do are refused by the name of the largest", async () => {
    const memoryLimit = 2 ** 20
    const failure = await failureOf(readInputs(path, { memoryLimit }))
    expect(failure).toMatchObject({ tag: "InvalidInput", details: { file: path, column: "text" } })
    expect(failure.message).toMatch(
      /2048 rows take \d+ MiB, more than the memory limit of 1 MiB; their largest column is "text": name the payload columns without it, or raise the limit$/,
    )
    expect((await readInputs(path, { memoryLimit, payloadColumns: ["other"] })).ids).toHaveLength(3000)
  })

  it("are all named where one that is asked for is not there", async () => {
    const { message } = await failureOf(readInputs(path, { payloadColumns: ["title"] }))
    expect(message).toBe(`${path} has no column "title"; its columns are "id", "vector", "text", "other"`)
  })
})

describe("encrypted Parquet", () => {
  it.each(["encrypted", "encrypted-plain-footer"])("is called that: %s", async (name) => {
    const path = inputFixture(`parquet/${name}.parquet`)
    expect((await failureOf(readInputs(path))).message).toMatch(/encrypted/)
  })

  it("with a plain footer is told what to do", async () => {
    const path = inputFixture("parquet/encrypted-plain-footer.parquet")
    expect((await failureOf(readInputs(path))).message).toBe(
      `${path} cannot be read: its pages are encrypted or damaged; if encrypted, decrypt it first`,
    )
  })
})
