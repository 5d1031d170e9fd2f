import { describe, expect, it } from "vitest"
import type { VectorRecord } from "../../../src/records.js"
import { openSource } from "../../../src/sources/open.js"
import { recordsSource } from "../../../src/sources/records.js"
import { expectingDim } from "../../../src/sources/source.js"
import { unpackVector, type VectorEncoding } from "../../../src/vectors/packed.js"
import { checkVector } from "../../../src/vectors/validate.js"
import { inputFixture } from "../../support/paths.js"
import { failureOf, readAll, readInputs, readSkipping } from "./helpers.js"

const VECTORS = [
  [1, 0, 0],
  [0, 1, 0],
  [0.5, 0.5, 0.5],
]
const FILES = ["blob.parquet", "fixed.parquet", "blob.arrow"]
const fixture = (name: string) => inputFixture(`01-binary-vectors/${name}`)
const column = "embedding"
const NOT_TOLD = "is 12 bytes: 3 float32 or 12 int8; set the vector encoding to float32, int8 or uint8"

describe("vectors in binary columns", () => {
  it.each(FILES)("are refused where nothing says what the bytes are: %s", async (name) => {
    const path = fixture(name)
    expect(await failureOf(readInputs(path, { vectorColumn: column }))).toMatchObject({
      tag: "InvalidInput",
      message: `${path}, row 1: column "embedding" ${NOT_TOLD}`,
    })
    const { ids, bad } = await readSkipping(await openSource(path, { vectorColumn: column }))
    expect([ids.length, bad.length]).toEqual([0, 3])
  })

  it.each(FILES)("are read as the option says, or by the dimension that is known: %s", async (name) => {
    const path = fixture(name)
    expect((await readInputs(path, { vectorColumn: column, vectorEncoding: "float32" })).vectors).toEqual(
      VECTORS,
    )
    const replacing = expectingDim(await openSource(path, { vectorColumn: column }), 3)
    expect((await readAll(replacing)).vectors).toEqual(VECTORS)
    const other = expectingDim(await openSource(path, { vectorColumn: column }), 12)
    expect((await failureOf(readAll(other))).message).toContain(
      "is 12 bytes: 3 float32 or 12 int8, expected 12 values; set the vector encoding",
    )
  })

  it("are bytes where the option says so", async () => {
    const path = fixture("bits.parquet")
    expect((await readInputs(path, { vectorEncoding: "uint8" })).vectors).toEqual([
      [128, 1],
      [0, 255],
    ])
    expect((await readInputs(path, { vectorEncoding: "int8" })).vectors).toEqual([
      [-128, 1],
      [0, -1],
    ])
    expect((await failureOf(readInputs(path))).message).toContain(
      "is 2 bytes: 2 int8; set the vector encoding",
    )
    expect((await failureOf(readInputs(path, { vectorEncoding: "float32" }))).message).toContain(
      "is 2 bytes, expected a multiple of 4",
    )
    const wrong = openSource(path, { vectorEncoding: "float16" as VectorEncoding })
    expect((await failureOf(wrong)).message).toBe(
      'the vector encoding is "float16", expected one of float32, int8, uint8',
    )
  })
})

describe("vectors of records as bytes", () => {
  const blob = (vector: number[]) => Buffer.from(Float32Array.from(vector).buffer)
  const records: VectorRecord[] = VECTORS.map((vector, id) => ({ id, vector: blob(vector) }))

  it("follow the same rules", async () => {
    expect((await failureOf(readAll(recordsSource(records)))).message).toBe(
      `records, row 1: column "vector" ${NOT_TOLD}`,
    )
    expect((await readAll(recordsSource(records, { vectorEncoding: "float32" }))).vectors).toEqual(VECTORS)
    expect((await readAll(recordsSource(records), { dim: 3 })).vectors).toEqual(VECTORS)
    const bytes = [{ id: 1, vector: Uint8Array.of(1, 255) }]
    expect((await readAll(recordsSource(bytes, { vectorEncoding: "int8" }))).vectors).toEqual([[1, -1]])
    expect(() => recordsSource(bytes, { vectorEncoding: "f4" as VectorEncoding })).toThrow(
      "expected one of float32",
    )
    // What says by its type that it is numbers is numbers.
    expect((await readAll(recordsSource([{ id: 1, vector: Int8Array.of(1, -1) }]))).vectors).toEqual([
      [1, -1],
    ])
  })

  it("are read from any place in memory", () => {
    const bytes = new Uint8Array(13)
    bytes.set(blob([1.5, -2, 3]), 1)
    expect(unpackVector(bytes.subarray(1), { encoding: "float32" })).toEqual(Float32Array.of(1.5, -2, 3))
  })
})

describe("a query as bytes", () => {
  it("is float32 if the dimension says so, else refused with both readings", () => {
    expect(checkVector(Buffer.from(Float32Array.of(1, 2, 3).buffer), 3, "l2")).toEqual(
      Float32Array.of(1, 2, 3),
    )
    expect(() => checkVector(new Uint8Array(12), 12, "l2", "the query vector")).toThrow(
      "the query vector is 12 bytes: 3 float32 or 12 int8, expected 12 values; set the vector encoding",
    )
    expect(() => checkVector(new Uint8Array(3), 12, "l2")).toThrow(
      "the vector is 3 bytes: 3 int8, expected 12 values",
    )
  })
})

describe("binary data as text", () => {
  it("is taken for text where the option says so, but for vectors", async () => {
    const ids = inputFixture("26-binary-strings/ids.parquet")
    expect((await failureOf(readInputs(ids))).message).toContain('column "id" is binary data')
    expect((await readInputs(ids, { binaryAsString: true })).ids.every((id) => typeof id === "string")).toBe(
      true,
    )
    const payload = inputFixture("26-binary-strings/pay.parquet")
    const [first] = (await readInputs(payload, { binaryAsString: true })).payloads
    const [plain] = (await readInputs(payload)).payloads
    const decoded = Object.entries(JSON.parse(plain!)).map(([name, text]) => [
      name,
      Buffer.from(String(text), "base64").toString(),
    ])
    expect(JSON.parse(first!)).toMatchObject(Object.fromEntries(decoded.slice(0, 1)))
    const path = fixture("blob.parquet")
    const options = { vectorColumn: column, vectorEncoding: "float32", binaryAsString: true } as const
    expect((await readInputs(path, options)).vectors).toEqual(VECTORS)
    const bytes = await failureOf(readInputs(path, { ...options, vectorColumn: "id" }))
    expect(bytes.tag).toBe("InvalidInput")
  })
})

describe("ids beyond 64 bits of sign", () => {
  it("are read as text, as the message says", async () => {
    const path = inputFixture("09-uint64-ids/u64.parquet")
    expect((await failureOf(readInputs(path))).message).toMatch(/set the id type to "string"/)
    expect((await readInputs(path, { idType: "string" })).ids).toEqual(["5", "9223372036854775813"])
    const lines = inputFixture("09-uint64-ids/u64.jsonl")
    expect((await failureOf(readInputs(lines))).message).toMatch(
      /set the id type to "string" to take larger integers as text/,
    )
    expect((await readInputs(lines, { idType: "string" })).ids).toEqual(["12345678901234567890"])
    const doubles = inputFixture("09-uint64-ids/dbl.parquet")
    expect((await readInputs(doubles, { idType: "string" })).ids).toEqual(["1", "9007199254740994"])
  })
})
