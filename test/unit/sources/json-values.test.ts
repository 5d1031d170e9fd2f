import { gzipSync } from "node:zlib"
import fc from "fast-check"
import { describe, expect, it } from "vitest"
import { shapeOfJson, splitValues, valueAtPath } from "../../../src/sources/json-values.js"
import { openSource, type SourceOptions } from "../../../src/sources/open.js"
import { failureOf, inputFixture, readInputs, readSkipping, useDirectory } from "./helpers.js"

const dir = useDirectory()

const read = async (text: string | Uint8Array, options?: SourceOptions) =>
  readSkipping(await openSource(await dir.write("x.json", text), options))

describe("JSON that is not one object a line", () => {
  it.each([
    ["array.json", [1n, 2n], [1, 2]],
    ["arraylines.json", [1n, 2n], [1, 2]],
    ["pretty.json", [1n], [1]],
    ["milvus.json", [1n], [1]],
  ])("is read: %s", async (name, ids, rows) => {
    const found = await readInputs(inputFixture(`json/${name}`))
    expect(found).toMatchObject({ ids, rowNumbers: rows })
    expect(found.vectors[0]).toEqual([1, 0])
  })

  it("with a list for each column is told how to make rows of it, which works", async () => {
    const path = inputFixture("json/columnar.json")
    const { message } = await failureOf(readInputs(path))
    expect(message).toMatch(/"embeddings" holds the vectors of many rows, expected a row for each: --sql "/)
    const sql = /--sql "(.*)"$/.exec(message)![1]!
    const { ids, vectors } = await readInputs([], { sql })
    expect([ids, vectors]).toEqual([
      ["a", "b"],
      [
        [1, 0],
        [0, 1],
      ],
    ])
  })

  it("as Milvus imports it is found to be cut off, or to go on after its end", async () => {
    const rows = '{ "rows": [{"id":1,"vector":[1]}, {"id":2,"vector":[2]}] }\n'
    expect((await read(rows)).ids).toEqual([1n, 2n])
    expect((await read('{"rows":[]}')).ids).toEqual([])
    for (const end of ["}", "]", "{"]) {
      const cut = await dir.write("cut.json", rows.slice(0, rows.lastIndexOf(end)))
      expect(await failureOf(readInputs(cut))).toMatchObject({ tag: "Corrupt" })
    }
    await expect(read(`${rows}{}`)).rejects.toThrow(
      "x.json, line 2: something follows the array, expected its end",
    )
    // A row may have a column of that name.
    expect((await read('{"rows":[1,2],"id":7,"vector":[1]}\n')).ids).toEqual([7n])
  })

  it("is told by its rows, since an array may be all on one line", async () => {
    const text =
      '\ufeff [ {"id":1,"vector":[1]},\n{"id":2,"vector":[NaN]} , 3, {"id":4,"vector":["]"]},\n{"id":5,"vector":[2]}\n]\n'
    const { ids, rowNumbers, bad } = await read(gzipSync(text))
    expect(ids).toEqual([1n, 5n])
    expect(rowNumbers).toEqual([1, 5])
    expect(bad.map((message) => message.replace(/^.*x\.json, /, ""))).toEqual([
      expect.stringMatching(/^row 2: is not JSON: /),
      "row 3: is 3, expected an object",
      'row 4: column "vector" has a string at position 0, expected a number',
    ])
  })

  it("spread over lines is told by the line on which it begins", async () => {
    const { rowNumbers, bad } = await read('{\n"id":1,\n"vector":[1]}\n\n{\n "id": 2, "vector": 3\n}\n')
    expect(rowNumbers).toEqual([1])
    expect(bad).toEqual([expect.stringMatching(/x\.json, line 5: column "vector" is 3/)])
  })

  it("is found to be cut off, or to go on after its end", async () => {
    const path = await dir.write("cut.json", '[{"id":1,"vector":[1]},{"id":2,"vec')
    expect(await failureOf(readInputs(path))).toMatchObject({
      tag: "Corrupt",
      message: `${path} is cut off: its last value has no end`,
    })
    await expect(read('[{"id":1,"vector":[1]}')).rejects.toMatchObject({ tag: "Corrupt" })
    await expect(read('[{"id":1,"vector":[1]}]\n[]')).rejects.toThrow(
      "x.json, line 2: something follows the array, expected its end",
    )
    expect((await read("[]")).ids).toEqual([])
  })

  it("gives its values however the bytes are cut", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.dictionary(fc.string(), fc.jsonValue()), { maxLength: 5 }),
        fc.boolean(),
        fc.integer({ min: 1, max: 50 }),
        async (objects, isPretty, size) => {
          const bytes = Buffer.from(JSON.stringify(objects, undefined, isPretty ? 2 : 0))
          async function* chunks() {
            for (let i = 0; i < bytes.length; i += size) yield bytes.subarray(i, i + size)
          }
          expect(shapeOfJson(bytes)).toBe("array")
          const found: unknown[] = []
          for await (const values of splitValues(chunks(), "array", "x"))
            for (const value of values) found.push(JSON.parse(value.bytes.toString("utf8")))
          expect(found).toEqual(JSON.parse(bytes.toString("utf8")))
        },
      ),
    )
  })
})

describe("columns that are paths", () => {
  const openAi = (id: string, vector: number[]) =>
    `${JSON.stringify({ custom_id: id, response: { body: { data: [{ index: 0, embedding: vector }], model: "m" } }, error: null })}\n`

  it("lead into objects, and leave what they lead into out of the payload", async () => {
    const { ids, vectors, payloads } = await read(openAi("a", [1, 2]) + openAi("b", [3, 4]), {
      idColumn: "custom_id",
      vectorColumn: "response.body.data[0].embedding",
    })
    expect(ids).toEqual(["a", "b"])
    expect(vectors).toEqual([
      [1, 2],
      [3, 4],
    ])
    expect(payloads).toEqual(['{"error":null}', '{"error":null}'])
  })

  it("may be ids, fields and payload", async () => {
    const { ids, fields, payloads } = await read(
      '{"a":{"id":7,"b":[{"c":"x"}]},"vector":[1],"d":{"e":true}}',
      {
        idColumn: "a.id",
        fields: { "a.b[0].c": "string" },
        payloadColumns: ["d.e", "d.f"],
      },
    )
    expect(ids).toEqual([7n])
    expect(fields).toEqual([{ "a.b[0].c": "x" }])
    expect(payloads).toEqual(['{"d.e":true}'])
  })

  it("that lead nowhere are missing, in that row alone", async () => {
    const { ids, bad } = await read(
      '{"id":1,"data":[]}\n{"id":2,"data":[{"embedding":[1]}]}\n{"id":3,"data":null}\n',
      {
        vectorColumn: "data[0].embedding",
      },
    )
    expect(ids).toEqual([2n])
    expect(bad.map((message) => message.replace(/^.*x\.json, /, ""))).toEqual([
      'line 1: column "data[0].embedding" is missing, expected a vector',
      'line 3: column "data[0].embedding" is missing, expected a vector',
    ])
  })

  it("give way to a column that is called so, and find nothing that objects have by nature", () => {
    expect(valueAtPath({ "a.b": 1, a: { b: 2 } }, "a.b")).toBe(1)
    expect(valueAtPath({ a: {} }, "a.constructor")).toBeUndefined()
    expect(valueAtPath({ a: "text" }, "a.length")).toBeUndefined()
    expect(valueAtPath({ a: [[1, 2]] }, "a[0][1]")).toBe(2)
  })
})

describe("other compressions", () => {
  it.each([
    ["bz2", "bzip2", "bzcat"],
    ["xz", "xz", "xzcat"],
    ["zip", "zip", "unzip -p"],
  ])("are called by their name: %s", async (ending, kind, unpack) => {
    const path = inputFixture(`compression/x.jsonl.${ending}`)
    const expected = {
      tag: "Unsupported",
      message: `${path} is compressed with ${kind}, expected gzip, zstd or no compression; unpack it, for example: ${unpack} ${path} | vecsnap build - --format jsonl`,
    }
    expect(await failureOf(readInputs(path))).toMatchObject(expected)
    expect(await failureOf(readInputs(path, { format: "jsonl" }))).toMatchObject(expected)
  })

  it("of gzip and zstd may have their long endings", async () => {
    expect((await readInputs(inputFixture("compression/x.jsonl.gzip"))).ids).toEqual([1n])
  })
})
