import { describe, expect, test } from "vitest"
import type { FieldValue } from "../../../../src/records.js"
import type { CelOptions, ResolvedCel } from "../../../../src/sharding/cel/options.js"
import { type CelResult, compileCel } from "../../../../src/sharding/cel/program.js"
import { createCel } from "../../../../src/sharding/cel/strategy.js"
import { resolveSharding } from "../../../../src/sharding/registry.js"
import type { StrategyContext } from "../../../../src/sharding/strategy.js"
import { batchOf, everyShard } from "../batches.js"

type Fields = StrategyContext["fields"]

const FIELDS: Fields = [
  { name: "key", type: "int64" },
  { name: "region", type: "string" },
  { name: "tier", type: "int64" },
  { name: "weight", type: "float64" },
  { name: "active", type: "bool" },
]

/** The result of an expression for these values. */
function evaluate(expression: string, values: Record<string, FieldValue> = {}): CelResult {
  return compileCel(expression, FIELDS).evaluate(
    ({ name }) => values[name],
    () => "here",
  )
}

function cel(options: Omit<CelOptions, "strategy">, fields: Fields = FIELDS) {
  const resolved = resolveSharding({ strategy: "cel", ...options }) as ResolvedCel
  return createCel(resolved, { dim: 1, metric: "l2", fields })
}

const rows = (count: number, fields: Record<string, FieldValue[]>) =>
  batchOf(new Float32Array(count), 1, { fields })

describe("shard_hash gives the digests of XXH3-64 with seed 0", () => {
  test.each([
    [0n, 0xc77b3abb6f87acd9n],
    [1n, 0x2fbc593564db792en],
    [-1n, 0x5111c7e47d784413n],
    [42n, 0xd5a6f8c838df27c8n],
    [2n ** 63n - 1n, 0xa233cf376558df46n],
  ])("of int %s", (key, digest) => {
    expect(evaluate("shard_hash(key)", { key })).toBe(digest)
  })

  test.each([
    ["", 0x2d06800538d394c2n],
    ["hello", 0x9555e8555c62dcfdn],
    ["us-east", 0x78800ff953a6be7an],
    ["é", 0xf7940a006cf10cb3n],
  ])("of string %j", (region, digest) => {
    expect(evaluate("shard_hash(region)", { region })).toBe(digest)
  })

  test("of bytes, and of uint as of int", () => {
    expect(evaluate("shard_hash(b'')")).toBe(0x2d06800538d394c2n)
    expect(evaluate("shard_hash(b'hello')")).toBe(0x9555e8555c62dcfdn)
    expect(evaluate("shard_hash(b'\\x00\\x01')")).toBe(0xd6645fc3051a9457n)
    expect(evaluate("shard_hash(42u)")).toBe(0xd5a6f8c838df27c8n)
  })

  test("of a uint beyond 2^63 - 1 is an error", () => {
    expect(() => evaluate("shard_hash(9223372036854775808u)")).toThrow(/^here: .* fails: /)
  })

  test("of other types is an error that needs no row to be found", () => {
    expect(() => compileCel("shard_hash(weight)", FIELDS)).toThrow("no matching overload")
    expect(() => compileCel("shard_hash(active)", FIELDS)).toThrow("no matching overload")
  })
})

describe("reference values of shardyfusion", () => {
  test("expressions", () => {
    expect(evaluate("shard_hash(key) % 4u", { key: 42n })).toBe(0n)
    expect(evaluate('shard_hash(region + ":" + string(tier)) % 8u', { region: "us-west", tier: 3n })).toBe(1n)
    expect(evaluate("-5 % 3")).toBe(-2n)
  })
})

describe("what is wrong with an expression is said before any row is read", () => {
  const message = (expression: string, fields = FIELDS) => {
    try {
      compileCel(expression, fields)
    } catch (error) {
      expect(error).toMatchObject({ tag: "InvalidInput" })
      return (error as Error).message
    }
    throw new Error("nothing was thrown")
  }

  test("syntax", () => {
    expect(message("shard_hash(key")).toMatch(
      /^the sharding expression `shard_hash\(key` is not CEL: line 1:11: /,
    )
  })

  test("names that are not fields, with a list of those that are", () => {
    expect(message("shard_hash(tenant) % 4u")).toBe(
      "the sharding expression `shard_hash(tenant) % 4u` uses tenant, which is not a declared field; " +
        "there is key (int64), region (string), tier (int64), weight (float64), active (bool)",
    )
    expect(message("x", [])).toBe(
      "the sharding expression `x` uses x, which is not a declared field; there are none",
    )
    expect(message("[1, 2].exists(x, x == y) ? 0 : 1")).toContain("uses y, ")
    expect(message("{'a': b}['a']")).toContain("uses b, ")
  })

  test("functions that do not exist", () => {
    expect(message("md5(region)")).toContain("calls md5, which is not a function")
    expect(message("region.reverse()")).toContain("calls reverse, which is not a function")
  })

  test("types that do not fit", () => {
    expect(message("shard_hash(key) % 4")).toContain("does not fit its fields: ")
    expect(message("key + region")).toContain("does not fit its fields: ")
  })

  test("results that cannot be a shard", () => {
    expect(message("weight")).toContain("gives double, expected int, uint or string")
    expect(message("active")).toContain("gives bool, expected int, uint or string")
    expect(message("[key]")).toContain("gives list")
    expect(message("null")).toContain("gives null_type")
    expect(message("b'0'")).toContain("gives bytes")
  })

  test("variables of macros and names of types are no fields", () => {
    expect(evaluate("[1, 2].exists(x, x == key) ? 1 : 0", { key: 2n })).toBe(1n)
    expect(evaluate("type(key) == int ? 1 : 0", { key: 2n })).toBe(1n)
  })

  test("a division by zero may be due to the values of a row, and is told then", () => {
    const program = compileCel("100 / key", FIELDS)
    expect(
      program.evaluate(
        () => 50n,
        () => "here",
      ),
    ).toBe(2n)
    expect(() =>
      program.evaluate(
        () => 0n,
        () => "here",
      ),
    ).toThrow("here: the sharding expression `100 / key` fails: int divide by zero")
  })
})

describe("records", () => {
  test("go to the shard of that number, from int or uint", () => {
    const batch = rows(3, { key: [0n, 1n, 5n] })
    expect([...cel({ shards: 3, expression: "key % 3" }).assign(batch)]).toEqual([0, 1, 2])
    expect([...cel({ shards: 3, expression: "uint(key) % 3u" }).assign(batch)]).toEqual([0, 1, 2])
  })

  test("every type of field can be used", () => {
    const batch = rows(2, { region: ["a", "b"], weight: [0.5, 2], active: [true, false], key: [1n, -1n] })
    const strategy = cel({
      shards: 2,
      expression: "(region == 'a' && weight < 1.0 && active && key > 0) ? 0 : 1",
    })
    expect([...strategy.assign(batch)]).toEqual([0, 1])
  })

  test("a number out of range, a text, a null and a failure name file, row and expression", () => {
    const direct = cel({ shards: 3, expression: "key" })
    expect(() => direct.assign(rows(2, { key: [0n, 3n] }))).toThrow(
      "test.parquet, row 2: the sharding expression `key` gives 3, expected a shard number from 0 to 2",
    )
    expect(() => direct.assign(rows(1, { key: [-1n] }))).toThrow(
      "gives -1, expected a shard number from 0 to 2",
    )
    expect(() => cel({ shards: 3, expression: "region" }).assign(rows(1, { region: ["1"] }))).toThrow(
      'gives "1", expected a shard number from 0 to 2',
    )
    expect(() => direct.assign(rows(2, { key: [0n, null] }))).toThrow(
      "test.parquet, row 2: key is null, but the sharding expression `key` needs a 64-bit integer",
    )
    expect(() => cel({ shards: 9, expression: "8 / key" }).assign(rows(1, { key: [0n] }))).toThrow(
      "test.parquet, row 1: the sharding expression `8 / key` fails: int divide by zero",
    )
  })

  test("queries find rows that another program has placed by text of digits", () => {
    const strategy = cel({ shards: 12, expression: "region" })
    const route = (region: string) => strategy.rank({ context: { region } }, everyShard).shards
    expect(route("11")).toEqual([{ shard: 11, score: 0 }])
    for (const region of ["12", "-1", "1.0", "", " 1"])
      expect(() => route(region)).toThrow("expected a shard number")
  })

  test("bytes and integers without sign are values of contexts, and of routing values", () => {
    const strategy = cel({ values: [Uint8Array.of(0), Uint8Array.of(0, 1)], expression: "raw" }, [
      { name: "raw", type: "bytes" },
    ])
    const route = (raw: unknown) => strategy.rank({ context: { raw: raw as string } }, everyShard).shards
    expect(route(Uint8Array.of(0, 1))).toEqual([{ shard: 1, score: 0 }])
    expect(() => route(Uint8Array.of(1))).toThrow(
      "gives bytes 01, expected one of the routing values bytes 00, bytes 0001",
    )
    expect(() => route("\0")).toThrow("needs bytes")
    const counted = cel({ shards: 4, expression: "n % 4u" }, [{ name: "n", type: "uint64" }])
    expect(counted.rank({ context: { n: 2n ** 64n - 1n } }, everyShard).shards).toEqual([
      { shard: 3, score: 0 },
    ])
    expect(() => counted.rank({ context: { n: -1 } }, everyShard)).toThrow(
      "needs a 64-bit integer without sign",
    )
  })

  test("a field that the expression does not use may be null", () => {
    expect([...cel({ shards: 3, expression: "key" }).assign(rows(1, { key: [2n], region: [null] }))]).toEqual(
      [2],
    )
  })

  test("with routing values go to the value's position, by type and value", () => {
    const strategy = cel({ values: ["us", "eu", 7, "7"], expression: "region" })
    expect(strategy.shards).toBe(4)
    expect([...strategy.assign(rows(3, { region: ["eu", "us", "7"] }))]).toEqual([1, 0, 3])
    const numeric = cel({ values: ["us", "eu", 7, "7"], expression: "key" })
    expect([...numeric.assign(rows(1, { key: [7n] }))]).toEqual([2])
    expect(() => strategy.assign(rows(1, { region: ["asia"] }))).toThrow(
      'test.parquet, row 1: the sharding expression `region` gives "asia", expected one of the routing values "us", "eu", 7, "7"',
    )
  })
})

describe("queries", () => {
  const strategy = cel({ shards: 8, expression: 'shard_hash(region + ":" + string(tier)) % 8u' })

  test("go to the one shard of their context", () => {
    const context = { region: "us-west", tier: 3, other: null }
    expect(strategy.rank({ context }, everyShard).shards).toEqual([{ shard: 1, score: 0 }])
    expect(strategy.rank({ context: { ...context, tier: 3n }, probes: 5 }, everyShard).shards).toHaveLength(1)
    expect(strategy.rank({ context }, (shard) => shard !== 1).shards).toEqual([])
  })

  test("need values of the right type for every field of the expression", () => {
    expect(() => strategy.rank({}, everyShard).shards).toThrow(
      'the cel strategy needs a query context with region (string), tier (int64), or shards named: a list or "all"',
    )
    expect(() => strategy.rank({ context: { region: "us-west" } }, everyShard).shards).toThrow(
      "the query context: tier is missing, but the sharding expression",
    )
    for (const tier of ["3", 3.5, 2n ** 63n, true]) {
      expect(() => strategy.rank({ context: { region: "us-west", tier } }, everyShard).shards).toThrow(
        "needs a 64-bit integer",
      )
    }
  })

  test("may ask for all shards", () => {
    const present = (shard: number) => shard % 3 === 0
    expect(strategy.rank({ probes: "all" }, present).shards.map(({ shard }) => shard)).toEqual([0, 3, 6])
  })
})
