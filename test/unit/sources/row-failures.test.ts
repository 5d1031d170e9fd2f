import { describe, expect, it } from "vitest"
import type { VectorRecord } from "../../../src/records.js"
import { openSource } from "../../../src/sources/open.js"
import { recordsSource } from "../../../src/sources/records.js"
import { failureOf, inputFixture, readInputs, readSkipping, useDirectory } from "./helpers.js"

const dir = useDirectory()

describe("a value that cannot be read is the fault of its row", () => {
  it("in a JSON column of Parquet that holds Python's NaN", async () => {
    const path = inputFixture("parquet/json-nan.parquet")
    const { ids, payloads, bad } = await readSkipping(await openSource(path))
    expect(ids).toEqual([1n])
    expect(payloads).toEqual(['{"meta":{"a":1}}'])
    expect(bad).toEqual([
      expect.stringContaining(`${path}, row 2: column "meta" is not JSON: Unexpected token`),
    ])
    expect(await failureOf(readInputs(path))).toMatchObject({
      tag: "InvalidInput",
      details: { file: path, row: 2, column: "meta" },
    })
  })

  it("in JSON Lines that hold it", async () => {
    const path = await dir.write("nan.jsonl", '{"id":1,"vector":[1],"a":NaN}\n{"id":2,"vector":[1]}\n')
    const { ids, bad } = await readSkipping(await openSource(path))
    expect(ids).toEqual([2n])
    expect(bad).toEqual([expect.stringContaining(`${path}, line 1: is not JSON: Unexpected token`)])
  })

  it.each(["id", "vector", "shard", "payload"])("in a record whose %s throws", async (column) => {
    const broken: object = Object.defineProperty({ id: 1, vector: [1], shard: 0 }, column, {
      get() {
        throw new TypeError("it is gone")
      },
    })
    const good = { id: 2, vector: [1], shard: 0 }
    const { ids, bad } = await readSkipping(recordsSource([broken as VectorRecord, good]))
    expect(ids).toEqual([2n])
    expect(bad).toEqual([`records, row 1: column "${column}" cannot be read: it is gone`])
  })

  it("in a record whose vector or fields throw when they are looked into", async () => {
    const vector = new Proxy([1, 2], {
      get: (target, key) => {
        if (key === "1") throw new Error("no element 1")
        return Reflect.get(target, key)
      },
    })
    const fields = { a: "string" } as const
    const broken = Object.defineProperty({}, "a", {
      enumerable: true,
      get() {
        throw new Error("no a")
      },
    })
    const { ids, bad } = await readSkipping(
      recordsSource(
        [
          { id: 1, vector },
          { id: 2, vector: [1, 2], fields: broken },
          { id: 3, vector: [1, 2] },
        ],
        { fields },
      ),
    )
    expect(ids).toEqual([3n])
    expect(bad).toEqual([
      'records, row 1: column "vector" cannot be read: no element 1',
      'records, row 2: column "a" cannot be read: no a',
    ])
  })

  it("with a message that is short, however long the value", async () => {
    const digits = "9".repeat(5000)
    const path = await dir.write("long.jsonl", `{"id":${digits},"vector":[1]}\n{"${"k".repeat(5000)}":\n`)
    const { bad } = await readSkipping(await openSource(path))
    expect(bad).toHaveLength(2)
    for (const message of bad) expect(message.length - path.length).toBeLessThan(300)
  })
})

describe("the columns in a message", () => {
  it("are a few, of however many there are", async () => {
    const words = Object.fromEntries(Array.from({ length: 20_000 }, (_, i) => [`w${i}`, "x"]))
    const path = await dir.write("dict.json", JSON.stringify(words))
    const { message } = await failureOf(readInputs(path))
    expect(message).toContain('its columns are "w0", "w1", "w2"')
    expect(message).toContain("and 19988 more; name the right one as the vector column")
    expect(message.length - path.length).toBeLessThan(300)
  })

  it("are a few of those that records have without a declaration", async () => {
    const fields = Object.fromEntries(Array.from({ length: 5000 }, (_, i) => [`f${i}`, 1]))
    const { bad } = await readSkipping(recordsSource([{ id: 1, vector: [1], fields }]))
    expect(bad[0]).toContain("and 4988 more, which is not declared; declared are none")
  })

  it("say an object, not a object", async () => {
    const { bad } = await readSkipping(recordsSource([{ id: 1, vector: [{} as number] }]))
    expect(bad).toEqual(['records, row 1: column "vector" has an object at position 0, expected a number'])
  })
})
