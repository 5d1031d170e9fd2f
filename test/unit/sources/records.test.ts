import { describe, expect, it } from "vitest"
import type { FieldType, VectorRecord } from "../../../src/records.js"
import { recordsSource } from "../../../src/sources/records.js"
import { failureOf, readAll, readSkipping } from "./helpers.js"

const good: VectorRecord = { id: "a", vector: [1, 2] }

/** The message for the second of two records, the first being `good` unless given. */
async function problemOf(
  second: unknown,
  fields: Readonly<Record<string, FieldType>> = {},
  first: VectorRecord = good,
): Promise<string> {
  const failure = await failureOf(readAll(recordsSource([first, second as VectorRecord], { fields })))
  expect(failure.tag).toBe("InvalidInput")
  expect(failure.details).toMatchObject({ file: "records", row: 2 })
  return failure.message
}

describe("recordsSource", () => {
  it("takes ids, vectors, fields, payloads and shards as given", async () => {
    const source = recordsSource(
      [
        {
          id: 1,
          vector: [0.5, -2],
          fields: { lang: "de", n: 2, x: 0.1, ok: true },
          payload: { a: [1n, null] },
          shard: 3,
        },
        { id: 2n ** 63n - 1n, vector: Float32Array.of(1, 2), payload: null, shard: 0 },
        {
          id: -(2n ** 63n),
          vector: Float64Array.of(0.1, 0),
          fields: { n: -5n, x: 7 },
          payload: 2n ** 70n,
          shard: 9,
        },
      ],
      { fields: { lang: "string", n: "int64", x: "float64", ok: "bool" } },
    )
    expect(source).toMatchObject({ name: "records", repeatable: true })
    expect(await readAll(source)).toEqual({
      ids: [1n, 2n ** 63n - 1n, -(2n ** 63n)],
      vectors: [
        [0.5, -2],
        [1, 2],
        [Math.fround(0.1), 0],
      ],
      fields: [
        { lang: "de", n: 2n, x: 0.1, ok: true },
        { lang: null, n: null, x: null, ok: null },
        { lang: null, n: -5n, x: 7, ok: null },
      ],
      payloads: ['{"a":[1,null]}', null, "1180591620717411303424"],
      rowNumbers: [1, 2, 3],
      files: ["records"],
      shards: [3, 0, 9],
    })
  })

  it("reads an array again, any other iterable once, and does not mind reused buffers", async () => {
    async function* generate() {
      const vector = new Float32Array(2)
      for (let i = 0; i < 3000; i++) {
        vector.set([i, 1])
        yield { id: i, vector }
      }
    }
    const once = recordsSource(generate(), { name: "stream" })
    expect(once).toMatchObject({ name: "stream", repeatable: false })
    const { vectors } = await readAll(once)
    expect(vectors[0]).toEqual([0, 1])
    expect(vectors[2999]).toEqual([2999, 1])
    await expect(readAll(once)).rejects.toThrow("stream can be read only once")

    const array = recordsSource([good])
    expect(await readAll(array)).toEqual(await readAll(array))
    expect((await readAll(recordsSource([]))).ids).toEqual([])
    expect((await readAll(recordsSource(new Set([good])))).ids).toEqual(["a"])
  })

  it("closes what it reads from when the reader stops early", async () => {
    let closed = false
    function* generate() {
      try {
        for (let i = 0; ; i++) yield { id: i, vector: [1] }
      } finally {
        closed = true
      }
    }
    for await (const batch of recordsSource(generate()).read({})) {
      expect(batch.rows).toBe(2048)
      break
    }
    expect(closed).toBe(true)
  })

  it.each([
    [
      { id: 7 },
      'records, row 2: column "id" is 7, expected a string as in the rows before; set the id type to "string" to take both',
    ],
    [{ id: "" }, 'records, row 2: column "id" is empty, expected an id'],
    [{ id: undefined }, 'records, row 2: column "id" is missing, expected an id'],
    [
      { id: true },
      'records, row 2: column "id" is true, expected a string as in the rows before; set the id type to "string" to take both',
    ],
    [
      { id: "a\0" },
      'records, row 2: column "id" is "a\\u0000", which holds a NUL character, expected text that UTF-8 can hold',
    ],
    [
      { id: "\ud800" },
      'records, row 2: column "id" is "\\ud800", which holds half a surrogate pair, expected text that UTF-8 can hold',
    ],
    [{ vector: [1] }, 'records, row 2: column "vector" has 1 values, expected 2'],
    [
      { vector: [1, Number.NaN] },
      'records, row 2: column "vector" has NaN at position 1, expected a finite number',
    ],
    [
      { vector: [1, 1e39] },
      'records, row 2: column "vector" has 1e+39 at position 1, which is too large for float32',
    ],
    [{ vector: [1, null] }, 'records, row 2: column "vector" has null at position 1, expected a number'],
    [{ vector: ["1", 2] }, 'records, row 2: column "vector" has a string at position 0, expected a number'],
    [{ vector: undefined }, 'records, row 2: column "vector" is missing, expected a vector'],
    [{ vector: 3 }, 'records, row 2: column "vector" is 3, expected a list of numbers'],
    [{ payload: { a: Number.NaN } }, 'records, row 2: column "payload.a" is NaN, which JSON cannot hold'],
    [{ payload: [() => 1] }, 'records, row 2: column "payload[0]" is a function, which JSON cannot hold'],
    [
      { payload: { at: new Date(0) } },
      'records, row 2: column "payload.at" is a Date, which JSON cannot hold',
    ],
    [{ shard: 1 }, 'records, row 2: column "shard" is 1, expected none as in the rows before'],
    [
      { fields: { x: 1, y: 2 } },
      'records, row 2: column "fields" has x, y, which is not declared; declared are none',
    ],
  ] as const)("refuses %o", async (change, message) => {
    expect(await problemOf({ ...good, ...change })).toBe(message)
  })

  it.each([
    ["int64", 1.5, "a 64-bit integer"],
    ["int64", 2 ** 53, "a 64-bit integer"],
    ["int64", 2n ** 63n, "a 64-bit integer"],
    ["int64", "5", "a 64-bit integer"],
    ["float64", Number.NaN, "a finite number"],
    ["float64", 2n ** 53n + 1n, "a finite number"],
    ["bool", 1, "true or false"],
    ["string", 1, "a string"],
  ] as const)("refuses %s for %o", async (type, value, expected) => {
    const message = await problemOf({ ...good, fields: { f: value } }, { f: type })
    expect(message).toContain(`column "f" is `)
    expect(message).toContain(`, expected ${expected}`)
  })

  it("refuses what is no record at all, cycles, and a missing shard", async () => {
    expect(await problemOf(null)).toBe("records, row 2: the record is null, expected an object")
    const cycle: { self?: unknown } = {}
    cycle.self = cycle
    expect(await problemOf({ ...good, payload: cycle })).toContain('"payload.self" contains itself')
    expect(await problemOf(good, {}, { ...good, shard: 1 })).toContain('column "shard" is missing')
    expect(await problemOf({ ...good, shard: 1.5 }, {}, { ...good, shard: 1 })).toContain("is 1.5")
  })

  it("leaves bad rows out where asked, wholly", async () => {
    const source = recordsSource(
      [
        { id: "", vector: [9, 9, 9] },
        { id: "a", vector: [1, 2], fields: { n: 1 } },
        { id: "b", vector: [3, 4], fields: { n: 0.5 } },
        { id: "c", vector: [5, 6], fields: { n: 3 } },
      ],
      { fields: { n: "int64" } },
    )
    const { ids, vectors, fields, rowNumbers, bad } = await readSkipping(source)
    expect(ids).toEqual(["a", "c"])
    expect(vectors).toEqual([
      [1, 2],
      [5, 6],
    ])
    expect(fields).toEqual([{ n: 1n }, { n: 3n }])
    expect(rowNumbers).toEqual([2, 4])
    expect(bad).toEqual([
      'records, row 1: column "id" is empty, expected an id',
      'records, row 3: column "n" is 0.5, expected a 64-bit integer',
    ])
  })

  it("forces the type of ids", async () => {
    const mixed = [
      { id: "007", vector: [1] },
      { id: 5, vector: [1] },
      { id: 2n ** 60n, vector: [1] },
    ]
    expect((await readAll(recordsSource(mixed, { idType: "string" }))).ids).toEqual([
      "007",
      "5",
      "1152921504606846976",
    ])
    const { ids, bad } = await readSkipping(
      recordsSource([...mixed, { id: "12", vector: [1] }], { idType: "int64" }),
    )
    expect(ids).toEqual([5n, 2n ** 60n, 12n])
    expect(bad).toEqual(['records, row 1: column "id" is "007", expected a 64-bit integer'])
  })

  it("refuses a field of an unknown type", () => {
    expect(() => recordsSource([], { fields: { n: "int32" as FieldType } })).toThrow(
      'field "n" has the type int32, expected one of string, int64, float64, bool',
    )
  })
})
