import { readFile } from "node:fs/promises"
import { Readable } from "node:stream"
import { gzipSync } from "node:zlib"
import fc from "fast-check"
import { describe, expect, it } from "vitest"
import { decompressed, splitLines } from "../../../src/sources/bytes.js"
import { openSource, type SourceOptions } from "../../../src/sources/open.js"
import { failureOf, readInputs, readSkipping, runSql, useDirectory } from "./helpers.js"

const dir = useDirectory()

async function* chunksOf(bytes: Uint8Array, cuts: readonly number[]): AsyncGenerator<Uint8Array> {
  const ends = [...cuts.map((cut) => cut % (bytes.length + 1)), bytes.length].sort((a, b) => a - b)
  let start = 0
  for (const end of ends) {
    yield bytes.subarray(start, end)
    start = end
  }
}

async function linesOf(bytes: AsyncIterable<Uint8Array>, maxLineBytes?: number): Promise<string[]> {
  const lines: string[] = []
  for await (const some of splitLines(bytes, "file", maxLineBytes))
    lines.push(...some.map((line) => line.toString("utf8")))
  return lines
}

describe("splitLines", () => {
  it("gives the same lines however the bytes are cut", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(
          fc.string({ unit: "grapheme" }).map((text) => text.replaceAll("\n", "").replace(/^\ufeff/, "")),
        ),
        fc.boolean(),
        fc.boolean(),
        fc.array(fc.nat()),
        async (lines, hasMark, endsLine, cuts) => {
          const text = lines.join("\n") + (endsLine ? "\n" : "")
          const bytes = Buffer.from(`${hasMark ? "\ufeff" : ""}${text}`)
          const expected = text.split("\n")
          // What follows the last line feed is a line only if there is something.
          if (expected.at(-1) === "") expected.pop()
          expect(await linesOf(chunksOf(bytes, cuts))).toEqual(expected)
        },
      ),
    )
  })

  it("gives the same lines from gzip, however the bytes are cut", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.nat(), { maxLength: 5 }), async (cuts) => {
        const packed = gzipSync("eins\nzwei\n\ndrei")
        expect(await linesOf(decompressed(chunksOf(packed, cuts), "file"))).toEqual([
          "eins",
          "zwei",
          "",
          "drei",
        ])
      }),
      { numRuns: 30 },
    )
  })

  it("refuses a line beyond the limit before it is all read", async () => {
    let chunks = 0
    async function* endless() {
      for (;;) {
        chunks++
        yield Buffer.alloc(10, "x")
      }
    }
    await expect(linesOf(endless(), 95)).rejects.toThrow(
      "file, line 1 has more than 95 bytes; is this a file of lines?",
    )
    expect(chunks).toBe(10)
    expect(await linesOf(Readable.from([Buffer.from("12345\n12345")]), 5)).toEqual(["12345", "12345"])
    await expect(linesOf(Readable.from([Buffer.from("12345\n123456\n")]), 5)).rejects.toThrow(
      "line 2 has more than 5",
    )
  })
})

describe("JSON Lines", () => {
  const read = async (text: string | Uint8Array, options?: SourceOptions) =>
    readSkipping(await openSource(await dir.write("x.jsonl", text), options))

  it("keeps all digits of integers, and counts blank lines", async () => {
    const { ids, fields, payloads, rowNumbers, bad } = await read(
      `{"id": 9007199254740993, "vector": [1], "n": -9223372036854775808, "big": 123456789012345678901, "x": 0.1234567890123456789}

  \t
{"id": 9223372036854775807, "vector": [1], "nested": {"deep": [9007199254740993, null, "ü"]}, "no": null}
{"id": 9223372036854775808, "vector": [1]}
{"id": 1.5, "vector": [1]}`,
      { fields: { n: "int64" } },
    )
    expect(ids).toEqual([9007199254740993n, 9223372036854775807n])
    expect(fields).toEqual([{ n: -9223372036854775808n }, { n: null }])
    expect(payloads).toEqual([
      '{"big":123456789012345678901,"x":0.12345678901234568}',
      '{"nested":{"deep":[9007199254740993,null,"ü"]},"no":null}',
    ])
    expect(rowNumbers).toEqual([1, 4])
    expect(bad.map((message) => message.replace(/^.*x\.jsonl/, "x.jsonl"))).toEqual([
      'x.jsonl, line 5: column "id" is 9223372036854775808, expected a 64-bit integer as in the rows before; set the id type to "string" to take both',
      'x.jsonl, line 6: column "id" is 1.5, expected a 64-bit integer as in the rows before; set the id type to "string" to take both',
    ])
  })

  it("tells what is wrong with a line", async () => {
    const { ids, bad } = await read(
      Buffer.concat([
        Buffer.from('{"id": "a", "vector": [1]}\n{"id": "b", "vector": [1}\n[1, 2]\n"text"\n'),
        Buffer.from([0x22, 0xff, 0x22, 0x0a]),
        Buffer.from(
          '{"vector": [1]}\n{"id": "c"}\n{"id": "d", "vector": [1, 2]}\n{"id": "e", "vector": [2]}',
        ),
      ]),
    )
    expect(ids).toEqual(["a", "e"])
    expect(bad.map((message) => message.replace(/^.*x\.jsonl, /, ""))).toEqual([
      expect.stringMatching(/^line 2: is not JSON: /),
      "line 3: is a list, expected an object",
      'line 4: is "text", expected an object',
      "line 5: is not UTF-8",
      'line 6: column "id" is missing, expected an id',
      'line 7: column "vector" is missing, expected a vector',
      'line 8: column "vector" has 2 values, expected 1',
    ])
  })

  it("is safe from names that objects have by nature", async () => {
    const { payloads } = await read('{"id": 1, "vector": [1], "constructor": 2, "__proto__": {"a": 1}}')
    expect(payloads).toEqual(['{"constructor":2,"__proto__":{"a":1}}'])
    const fields = { constructor: "string" } as const
    const missing = await read('{"id": 1, "vector": [1]}', { fields })
    expect(missing.fields).toEqual([{ constructor: null }])
  })

  it("ends the build at the first bad row unless asked otherwise", async () => {
    const path = await dir.write("bad.jsonl", '{"id": 1, "vector": [1]}\n{"id": 2, "vector": []}\n')
    const failure = await failureOf(readInputs(path))
    expect(failure.message).toBe(`${path}, line 2: column "vector" has 0 values, expected 1`)
    expect(failure).toMatchObject({ tag: "InvalidInput", details: { file: path, row: 2, column: "vector" } })
  })

  it.each(["", "\n", "\ufeff"])("takes %o for a file without rows", async (text) => {
    expect((await read(text)).ids).toEqual([])
    expect((await readInputs(await dir.write("empty.jsonl.gz", gzipSync(text)))).ids).toEqual([])
  })

  it.each(["gzip", "zstd"])("finds that %s data is cut off", async (compression) => {
    const path = dir.path(`whole.jsonl.${compression}`)
    await runSql(
      `COPY (SELECT range AS id, [hash(range) / 1e19] AS vector FROM range(20000))
       TO '${path}' (FORMAT json, COMPRESSION ${compression})`,
    )
    expect((await readInputs(path, { format: "jsonl" })).ids).toHaveLength(20_000)
    const whole = await readFile(path)
    for (const length of [whole.length - 1, whole.length >> 1, 20]) {
      const cut = await dir.write("cut.jsonl", whole.subarray(0, length))
      const failure = await failureOf(readInputs(cut))
      expect(failure.tag).toBe("Corrupt")
      expect(failure.message).toContain(
        `${cut} is damaged or cut off: its ${compression} data cannot be read`,
      )
    }
  })

  it("finds by the checksum of gzip that data is damaged", async () => {
    const damaged = gzipSync('{"id": 1, "vector": [1]}')
    damaged[damaged.length - 8]! ^= 1
    const failure = await failureOf(readInputs(await dir.write("damaged.jsonl.gz", damaged)))
    expect(failure.message).toMatch(
      /damaged or cut off: its gzip data cannot be read \(incorrect data check\)/,
    )
  })
})

describe("CSV", () => {
  const read = async (text: string | Uint8Array, options?: SourceOptions) =>
    readSkipping(await openSource(await dir.write("x.csv", text), options))

  it("reads cells as text, fields by their type", async () => {
    const { ids, vectors, fields, payloads, rowNumbers } = await read(
      `id,embedding,n,x,ok,zip,empty
10,"[0.5, 1e2]",+7,.5,TRUE,00123,""

-11,"[1,2]",,-1e3,f,"a ""b""
c",
`,
      { fields: { n: "int64", x: "float64", ok: "bool" } },
    )
    expect(ids).toEqual([10n, -11n])
    expect(vectors).toEqual([
      [0.5, 100],
      [1, 2],
    ])
    expect(fields).toEqual([
      { n: 7n, x: 0.5, ok: true },
      { n: null, x: -1000, ok: false },
    ])
    expect(payloads).toEqual(['{"zip":"00123","empty":""}', '{"zip":"a \\"b\\"\\nc","empty":null}'])
    expect(rowNumbers).toEqual([2, 4])
  })

  it("takes ids for integers only if no digit is lost by it", async () => {
    expect((await read("id,vector\n007,[1]\n8,[1]\n")).ids).toEqual(["007", "8"])
    expect((await read("id,vector\n9223372036854775808,[1]\n")).ids).toEqual(["9223372036854775808"])
    const { ids, bad } = await read("id,vector\n7,[1]\n08,[1]\n")
    expect(ids).toEqual([7n])
    expect(bad[0]).toContain('line 3: column "id" is "08", expected a 64-bit integer as in the rows before')
    expect((await read("id,vector\n7,[1]\n08,[1]\n", { idType: "string" })).ids).toEqual(["7", "08"])
  })

  it("tells what is wrong with a line", async () => {
    const { ids, bad } = await read(
      Buffer.concat([
        Buffer.from(
          'id,vector,n\n1,"[1]",1\n2,"[1]"\n3,"[1]",1,2\n4,"[1]"x,1\n5,a"b"c,1\n6,"1;2",1\n7,"[1]",x\n8,',
        ),
        Buffer.from([0xff]),
        Buffer.from(',1\n,"[1]",1\n9,"[null]",1\n10,"[2]",0x1\n11,"[3]",\n'),
      ]),
      { fields: { n: "int64" } },
    )
    expect(ids).toEqual([1n, 11n])
    expect(bad.map((message) => message.replace(/^.*x\.csv, /, ""))).toEqual([
      "line 3: has 2 cells, expected 3 as in the header",
      "line 4: has 4 cells, expected 3 as in the header",
      'line 5: has "x" after the closing quote of a cell, expected ","',
      "line 6: has a quote within a cell that does not start with one",
      'line 7: column "vector" is "1;2", expected a list of numbers',
      'line 8: column "n" is "x", expected a 64-bit integer',
      "line 9: is not UTF-8",
      'line 10: column "id" is missing, expected an id',
      'line 11: column "vector" has null at position 0, expected a number',
      'line 12: column "n" is "0x1", expected a 64-bit integer',
    ])
  })

  it("refuses a quote that is never closed, and a header that names a column twice", async () => {
    const open = await dir.write("open.csv", 'id,vector\n1,"[1]"\n2,"[1]\n3,[1]\n')
    await expect(readInputs(open)).rejects.toThrow(
      `${open}, line 3: a quote opens there that is never closed`,
    )
    await expect(read("id,a,a\n1,2,3\n")).rejects.toThrow('the header has "a" twice')
  })

  it("has no rows without lines after the header", async () => {
    expect((await read("")).ids).toEqual([])
    expect((await read("id,vector\n")).ids).toEqual([])
  })

  it("parses back any cells", async () => {
    const cell = fc.oneof(
      fc.constantFrom('"', ",", "\n", "\r\n", "a", '""', ";"),
      fc.string({ unit: "grapheme" }),
    )
    const text = fc.array(cell, { minLength: 1 }).map((parts) => parts.join(""))
    await fc.assert(
      fc.asyncProperty(fc.array(fc.tuple(text, text), { minLength: 1, maxLength: 5 }), async (rows) => {
        const quoted = (value: string) => `"${value.replaceAll('"', '""')}"`
        const lines = rows.map(([a, b], i) => `${i},[1],${quoted(a)},${quoted(b)}`)
        const { payloads, bad } = await read(`id,vector,a,b\n${lines.join("\n")}`)
        expect(bad).toEqual([])
        expect(payloads.map((payload) => JSON.parse(payload!))).toEqual(rows.map(([a, b]) => ({ a, b })))
      }),
      { numRuns: 50 },
    )
  })
})
