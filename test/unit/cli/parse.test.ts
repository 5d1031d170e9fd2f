import { InvalidArgumentError } from "commander"
import { expect, test } from "vitest"
import { storeOptions } from "../../../cli/options.js"
import {
  collectPair,
  parseContext,
  parseDays,
  parseDuration,
  parseFields,
  parseGates,
  parseId,
  parseNames,
  parseProbes,
  parseRoutingValues,
  parseSeconds,
  parseShards,
  wholeNumber,
} from "../../../cli/parse.js"

test.each(["12x", "", " 1", "1.5", "-1", "1e3", "0x10", "9007199254740993", "0"])(
  "a whole number from 1 is not %j",
  (text) => {
    expect(() => wholeNumber(1)(text)).toThrow(new InvalidArgumentError("Expected a whole number from 1."))
  },
)

test("whole numbers, probes and shards", () => {
  expect(wholeNumber(0)("0")).toBe(0)
  expect(wholeNumber(1)("64")).toBe(64)
  expect(parseProbes("all")).toBe("all")
  expect(parseProbes("4")).toBe(4)
  expect(() => parseProbes("some")).toThrow('or "all"')
  expect(parseShards("all")).toBe("all")
  expect(parseShards("0, 12")).toEqual([0, 12])
  expect(() => parseShards("1,,2")).toThrow("Expected shard numbers")
})

test.each([
  ["90", 90],
  ["1.5", 1.5],
  ["90s", 90],
  ["15m", 900],
  ["0.5h", 1800],
  ["26h", 93_600],
  ["2d", 172_800],
  ["2147483", 2_147_483],
])("a time of %s is %d seconds", (text, seconds) => {
  expect(parseSeconds(text)).toBe(seconds)
})

// The last ones are longer than a timer takes: it would fire at once.
test.each(["", "0", "0s", "-1", "+1", "1e3", ".5", "1.", "5 m", "5M", "1w", "1h30m", "s", "2147484", "25d"])(
  "a time is not %j",
  (text) => {
    expect(() => parseSeconds(text)).toThrow(InvalidArgumentError)
  },
)

test("names are parted by commas; an empty text is an empty list", () => {
  expect(parseNames("a, b")).toEqual(["a", "b"])
  expect(parseNames("")).toEqual([])
  expect(() => parseNames("a,,b")).toThrow("single commas")
})

test("fields are name:type, the last colon parting them", () => {
  expect(parseFields("lang:string,a:b:int64")).toEqual({ lang: "string", "a:b": "int64" })
  expect(() => parseFields("lang:sting")).toThrow("Did you mean lang:string?")
  expect(() => parseFields("lang")).toThrow("got lang.")
  expect(() => parseFields("a:bool,a:string")).toThrow("The field a is there twice.")
})

test("routing values are texts, or a JSON list with numbers of any size", () => {
  expect(parseRoutingValues("de,en")).toEqual(["de", "en"])
  expect(parseRoutingValues('["de",2,9007199254740993]')).toEqual(["de", 2, 9007199254740993n])
  expect(() => parseRoutingValues("[null]")).toThrow("JSON list of texts and numbers")
  expect(() => parseRoutingValues("[1")).toThrow("not valid JSON")
})

test("pairs are collected; a value may hold an equals sign, a key comes once", () => {
  const first = collectPair("a=1=2")
  expect(collectPair("b=", first)).toEqual({ a: "1=2", b: "" })
  expect(first).toEqual({ a: "1=2" })
  expect(() => collectPair("a=3", first)).toThrow("The key a is there twice.")
  expect(() => collectPair("=3")).toThrow("Expected key=value.")
  expect(() => collectPair("a")).toThrow("Expected key=value.")
})

test("ids have the snapshot's type", () => {
  expect(parseId("42", "string")).toBe("42")
  expect(parseId("9007199254740993", "int64")).toBe(9007199254740993n)
  expect(parseId("-9223372036854775808", "int64")).toBe(-9223372036854775808n)
  expect(() => parseId("9223372036854775808", "int64")).toThrow('64-bit integers, got "9223372036854775808"')
  expect(() => parseId("king", "int64")).toThrow('64-bit integers, got "king"')
})

test("a context has the types of the snapshot's fields", () => {
  const fields = [
    { name: "tenant", type: "string" },
    { name: "year", type: "int64" },
    { name: "score", type: "float64" },
    { name: "live", type: "bool" },
  ] as const
  const context = { tenant: "7", year: "-7", score: "1.5e3", live: "false" }
  expect(parseContext(context, fields)).toEqual({ tenant: "7", year: -7n, score: 1500, live: false })
  expect(() => parseContext({ year: "7.5" }, fields)).toThrow(
    '--context year=…: expected a value of type int64, got "7.5"',
  )
  expect(() => parseContext({ score: "Infinity" }, fields)).toThrow("type float64")
  expect(() => parseContext({ live: "yes" }, fields)).toThrow("type bool")
  expect(() => parseContext({ tenat: "a" }, fields)).toThrow(
    "has no field tenat: it has tenant, year, score, live",
  )
})

test("flags override the storage settings of the configuration, one by one", () => {
  const config = { storage: { endpoint: "http://127.0.0.1:1", "path-style": true } }
  expect(storeOptions({ region: "eu", pathStyle: false }, config)).toEqual({
    s3: { endpoint: "http://127.0.0.1:1", region: "eu", forcePathStyle: false },
  })
  expect(storeOptions({}, {})).toEqual({})
})

test("the configuration says how objects are stored and which way requests go", () => {
  const storage = {
    proxy: "http://proxy:3128",
    "ca-file": "ca.pem",
    "kms-key": "key",
    "storage-class": "STANDARD_IA",
    acl: "bucket-owner-full-control",
    "requester-pays": true,
    headers: { "x-tenant": "ours" },
  }
  expect(storeOptions({}, { storage })).toEqual({
    s3: {
      proxy: "http://proxy:3128",
      caFile: "ca.pem",
      encryption: { type: "aws:kms", keyId: "key" },
      storageClass: "STANDARD_IA",
      acl: "bucket-owner-full-control",
      requesterPays: true,
      headers: { "x-tenant": "ours" },
    },
  })
  expect(storeOptions({}, { storage: { encryption: "AES256" } })).toEqual({
    s3: { encryption: { type: "AES256" } },
  })
})

test("a key of one's own comes from the environment alone", () => {
  const key = Buffer.alloc(32, 7)
  const env = { VECSNAP_SSE_C_KEY: key.toString("base64") }
  expect(storeOptions({}, {}, env)).toEqual({ s3: { encryption: { type: "customer-key", key } } })
  expect(() => storeOptions({}, { storage: { "kms-key": "key" } }, env)).toThrow("VECSNAP_SSE_C_KEY")
})

test("durations have a unit", () => {
  expect(["90s", "30m", "1.5h", "2d", "0s"].map(parseDuration)).toEqual([90, 1800, 5400, 172_800, 0])
  for (const text of ["6", "", "6 h", "-1h", "h", "6w", "1e3s", ".5h", "9999999999d"])
    expect(() => parseDuration(text), text).toThrow("Expected a duration such as 90s, 30m, 6h or 2d.")
})

test("days are a number from 0", () => {
  expect(["7", "0.5", "0"].map(parseDays)).toEqual([7, 0.5, 0])
  for (const text of ["-1", "7d", "", "1e3", "Infinity"])
    expect(() => parseDays(text), text).toThrow("Expected a number of days from 0.")
})

test("gates are named exactly", () => {
  expect(parseGates("rows, zero-norms")).toEqual(["rows", "zero-norms"])
  expect(() => parseGates("rows,skews")).toThrow("got skews. Did you mean skew?")
  expect(() => parseGates("everything")).toThrow(/^Expected gates out of rows, dim, .*, got everything\.$/)
})
