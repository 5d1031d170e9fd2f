/** Manifests that are sealed as they should be, by somebody who means harm: an error, and nothing else. */
import { createHash } from "node:crypto"
import { describe, expect, it } from "vitest"
import { parseJson, stringifyJson } from "../../../src/json.js"
import { decodeManifest } from "../../../src/manifest/codec.js"
import { decodeLocatorIndex, encodeLocatorIndex } from "../../../src/manifest/locator.js"
import { seal } from "../../../src/manifest/seal.js"
import { compileCel } from "../../../src/sharding/cel/program.js"
import { neededFiles } from "../../../src/snapshot/snapshot.js"
import { decodeNpy } from "../../../src/vectors/npy.js"

const RUN = "k3v9x2m4q7ab"
const KEY = `manifests/20261121T030000.000Z-${RUN}.json`
const SHA = "a".repeat(64)
const FILE = { name: "shard.db", size: 100, sha256: SHA }

function wire() {
  return {
    format: "vecsnap",
    version: 1,
    run: RUN,
    createdAt: "2026-11-21T03:00:00.000Z",
    base: null as string | null,
    schema: {
      dim: 4,
      metric: "l2",
      id: { type: "string", wide: false },
      fields: [] as object[],
      model: null,
    },
    sharding: { strategy: "cluster", shards: 4, options: {}, artifacts: [] as object[] },
    locator: { key: `routing/${RUN}/ids.bin`, size: 100, sha256: SHA, index: { size: 48, sha256: SHA } },
    backend: "sqlite-vec",
    rows: 1,
    build: {
      tool: "x",
      startedAt: "2026-11-21T03:00:00.000Z",
      skippedRows: 0,
      duplicateRows: 0,
      timingsMs: {} as object,
    },
    custom: {} as object,
    shards: [
      {
        shard: 0,
        rows: 1,
        folder: `shards/${RUN}/00000/0`,
        files: [FILE],
        index: { kind: "flat" },
        fingerprint: SHA,
      },
    ],
  }
}

type Wire = ReturnType<typeof wire>

const many = <T>(count: number, item: T): T[] => Array.from({ length: count }, () => item)
const numbered = (count: number, value: unknown): object =>
  Object.fromEntries(Array.from({ length: count }, (_, i) => [`k${i}`, value]))

function decode(change: (document: Wire) => void) {
  const document = wire()
  change(document)
  return decodeManifest(seal(document), KEY)
}

const refusal = (message: RegExp) =>
  expect.objectContaining({ tag: "Corrupt", message: expect.stringMatching(message) })

describe("a hostile manifest", () => {
  it("is read as long as it does no harm", () => {
    expect(decode(() => {}).rows).toBe(1)
  })

  it.each([
    "../shard.db",
    "a/../../shard.db",
    "/etc/passwd",
    "\\\\host\\share",
    "..\\shard.db",
    "C:",
    "C:\\x",
    "a/C:/x",
    "a\0b",
    "",
    ".",
    "a//b",
    ".use-0123abcd-1-0123abcd",
    ".evict-0123abcd-1-0123abcd",
    "a/.evict-x",
    "x".repeat(256),
    "é".repeat(128),
    `${"d/".repeat(500)}x`,
    "\ud800",
    "a\u007fb",
    "\uffff",
  ])("with the file name %j is Corrupt", (name) => {
    expect(() => decode((it) => (it.shards[0]!.files = [{ ...FILE, name }]))).toThrow(refusal(/name|key/))
  })

  it.each([[["a", "a"]], [["a", "A"]], [["\u00e9", "e\u0301"]], [["a", "a/b"]], [["a/b/c", "A"]]])(
    "with the files %j beside one another is Corrupt",
    (names) => {
      const files = names.map((name) => ({ ...FILE, name }))
      expect(() => decode((it) => (it.shards[0]!.files = files))).toThrow(refusal(/shard 0 has/))
    },
  )

  it.each([
    ["sqlite-vec", "shard.db-wal"],
    ["sqlite-vec", "a/shard.db"],
    ["sqlite-vec", "vectors.lance/data/0.lance"],
    ["lancedb", "shard.db"],
    ["lancedb", "vectors.lance/_versions/1.manifest"],
    ["lancedb", "vectors.lance/_refs/tags/x.json"],
    ["lancedb", "other.lance/data/0.lance"],
  ])("of %s that lists the file %s is Corrupt, unless it is optional", (backend, name) => {
    const known = backend === "lancedb" ? `vectors.lance/_versions/${"1".repeat(20)}.manifest` : "shard.db"
    const list = (optional: boolean) => (it: Wire) => {
      it.backend = backend
      it.shards[0]!.files = [
        { ...FILE, name: known },
        { ...FILE, name, ...(optional && { optional }) },
      ]
    }
    expect(() => decode(list(false))).toThrow(refusal(/shard 0 has the file ".*", which shards of/))
    expect(neededFiles(decode(list(true)).shards[0]!).map((file) => file.name)).toEqual([known])
  })

  it("with optional files only is Corrupt", () => {
    const files = [{ ...FILE, optional: true }]
    expect(() => decode((it) => (it.shards[0]!.files = files))).toThrow(refusal(/optional files only/))
  })

  it.each<[string, (document: Wire) => void]>([
    ["a folder outside", (it) => (it.shards[0]!.folder = `shards/${RUN}/../../00000/0`)],
    ["a folder of a huge number", (it) => (it.shards[0]!.folder = `shards/${RUN}/${"9".repeat(40)}/0`)],
    ["another root's key", (it) => (it.locator.key = "/etc/passwd")],
    [
      "an artifact outside",
      (it) => (it.sharding.artifacts = [{ key: "routing/../x", size: 1, sha256: SHA }]),
    ],
    ["2^31 dimensions", (it) => (it.schema.dim = 2 ** 31)],
    ["10 million shards", (it) => (it.sharding.shards = 10_000_000)],
    ["a shard number of 2^53", (it) => (it.shards[0]!.shard = 2 ** 53)],
    ["a size beyond 2^53", (it) => (it.shards[0]!.files = [{ ...FILE, size: 2 ** 60 }])],
    ["a negative size", (it) => (it.shards[0]!.files = [{ ...FILE, size: -1 }])],
    [
      "artifacts of gigabytes",
      (it) => (it.sharding.artifacts = [{ key: `routing/${RUN}/c.npy`, size: 2 ** 52, sha256: SHA }]),
    ],
    [
      "a locator index of gigabytes",
      (it) => (it.locator = { ...it.locator, size: 2 ** 52, index: { size: 2 ** 51, sha256: SHA } }),
    ],
    ["a locator without an index", (it) => (it.locator = { ...it.locator, index: { size: 0, sha256: SHA } })],
  ])("with %s is Corrupt", (_, change) => {
    expect(() => decode(change)).toThrow(expect.objectContaining({ tag: "Corrupt" }))
  })

  it("does not reach a prototype by its keys", () => {
    const text = '{"__proto__":{"polluted":1},"constructor":{"prototype":{"polluted":1}}}'
    const { custom, sharding } = decode((it) => {
      it.custom = JSON.parse(text)
      it.sharding.options = JSON.parse(text)
    })
    for (const value of [custom, sharding.options, {}]) expect("polluted" in value).toBe(false)
    expect("polluted" in (parseJson(`{"n":9007199254740993,"x":${text}}`) as { x: object }).x).toBe(false)
  })

  it.each<unknown>([
    { toString: 1, valueOf: 1 },
    [[{}]],
    2n ** 70n,
    null,
    "x".repeat(1e6),
    { a: "x".repeat(1e6) },
  ])("of an odd format or version, %#, is refused in a few words", (odd) => {
    for (const [property, tag] of [
      ["format", "Corrupt"],
      ["version", "Unsupported"],
    ] as const) {
      const document = { ...wire(), [property]: odd }
      const attempt = () => decodeManifest(seal(document), KEY)
      expect(attempt).toThrow(expect.objectContaining({ tag, message: expect.stringMatching(/^.{50,300}$/) }))
    }
  })

  it.each<[string, (document: Wire) => void]>([
    ["a long key", (it) => (it.build.timingsMs = { ["k".repeat(1e6)]: "x" })],
    ["a long metric", (it) => (it.schema.metric = "m".repeat(1e6))],
    ["a long file name", (it) => (it.shards[0]!.files = [{ ...FILE, name: "n".repeat(1e6) }])],
    ["a long unknown file name", (it) => (it.shards[0]!.files = [{ ...FILE, name: "n".repeat(250) }])],
    ["a long backend", (it) => (it.backend = "b".repeat(1e6))],
    ["a long strategy", (it) => (it.sharding.strategy = "s".repeat(1e6))],
  ])("with %s is refused in a few words", (_, change) => {
    expect(() => decode(change)).toThrow(refusal(/^.{20,1500}$/s))
  })

  it.each<[string, (document: Wire) => void]>([
    [
      "150,000 artifacts",
      (it) => (it.sharding.artifacts = many(150_000, { key: `routing/${RUN}/c.npy`, size: 1, sha256: SHA })),
    ],
    ["60,000 shards that are none", (it) => (it.shards = many(60_000, {} as Wire["shards"][0]))],
    ["100,000 files that are none", (it) => (it.shards[0]!.files = many(100_000, {} as typeof FILE))],
    ["100,000 files", (it) => (it.shards[0]!.files = many(100_000, FILE))],
    ["100,000 fields", (it) => (it.schema.fields = many(100_000, {}))],
    ["100,000 timings", (it) => (it.build.timingsMs = numbered(100_000, "x"))],
    ["an index of 100,000 facts", (it) => Object.assign(it.shards[0]!, { index: numbered(100_000, null) })],
  ])("with %s is refused at the first one that does not fit", (_, change) => {
    const document = wire()
    change(document)
    const bytes = seal(document)
    let error: unknown
    try {
      decodeManifest(bytes, KEY)
    } catch (thrown) {
      error = thrown
    }
    expect(error).toEqual(refusal(/^.{20,1500}$/s))
    // Complaints take more memory than what they are about.
    expect((error as { cause: { issues: unknown[] } }).cause.issues.length).toBeLessThan(10)
  })

  it("with a name of many parts is Corrupt, also of an optional file", () => {
    const files = [FILE, { ...FILE, name: `${"d/".repeat(16)}x`, optional: true }]
    expect(() => decode((it) => (it.shards[0]!.files = files))).toThrow(refusal(/file name/))
  })

  it("with more values than the largest snapshot has is refused before it is parsed", () => {
    const body = `{"format":"vecsnap","custom":[${"{},".repeat(4_000_000)}{}]`
    const digest = createHash("sha256").update(body).digest("hex")
    const bytes = Buffer.from(`${body},\n  "sha256": "${digest}"\n}\n`)
    expect(() => decodeManifest(bytes, KEY)).toThrow(refusal(/values, expected at most 4000000/))
  })

  it("that is nested without end is Corrupt", () => {
    // Sealed by hand: our own writer refuses it.
    const body = `{"format":"vecsnap","version":1,"custom":${"[".repeat(50_000)}${"]".repeat(50_000)}`
    const digest = createHash("sha256").update(body).digest("hex")
    const bytes = Buffer.from(`${body},\n  "sha256": "${digest}"\n}\n`)
    expect(() => decodeManifest(bytes, KEY)).toThrow(refusal(/more than 500 levels/))
  })
})

describe("JSON", () => {
  const nested = (levels: number, inside = ""): string => "[".repeat(levels) + inside + "]".repeat(levels)

  it("may have 500 levels, and brackets in texts", () => {
    for (const inside of ["", "9007199254740993", `"${"[".repeat(600)}"`, `"\\"${"{".repeat(600)}\\\\"`]) {
      const text = nested(500, inside)
      expect(stringifyJson(parseJson(text))).toBe(text)
      expect(() => parseJson(nested(501, inside))).toThrow(SyntaxError)
    }
    const wide = `[${"[],".repeat(10_000)}[]]`
    expect(stringifyJson(parseJson(wide))).toBe(wide)
  })

  it("may have integers of 1000 digits, not more, to read or to write", () => {
    const most = "9".repeat(1000)
    expect(stringifyJson(parseJson(`[${most},-${most}]`))).toBe(`[${most},-${most}]`)
    expect(() => parseJson("1".repeat(1_000_000))).toThrow(/an integer of 1000000 digits/)
    for (const sign of [1n, -1n])
      expect(() => stringifyJson({ a: sign * 10n ** 1000n })).toThrow(/more than 1000 digits/)
    expect(() => parseJson(`{"${"k".repeat(1e6)}":1,"${"k".repeat(1e6)}":2}`)).toThrow(/^.{20,200}$/)
  })

  it.each([501, 200_000])("of %s levels cannot be written", (levels) => {
    let value: unknown = []
    for (let level = 1; level < levels; level++) value = [value]
    expect(() => stringifyJson(value)).toThrow(TypeError)
  })
})

describe("a hostile routing artifact", () => {
  const npy = (shape: string): Uint8Array => {
    const header = Buffer.from(`{'descr': '<f4', 'fortran_order': True, 'shape': ${shape}, }\n`)
    const start = Buffer.from("\x93NUMPY\x02\0\0\0\0\0", "latin1")
    start.writeUInt32LE(header.length, 8)
    return Buffer.concat([start, header, Buffer.alloc(16)])
  }

  it.each([
    ["(1000000, 1000000)", /bytes of values/],
    ["(9007199254740991, 9007199254740991)", /more than a file can hold/],
    [`(${"1, ".repeat(10_000)}4)`, /10001 axes/],
    ["(99999999999999999999999, 1)", /tuple/],
  ])("of shape %s is Corrupt", (shape, message) => {
    expect(() => decodeNpy(npy(shape), "x.npy")).toThrow(refusal(message))
  })
})

describe("a hostile id locator", () => {
  const block = { firstHash: 5n, lastHash: 9n, checksum: 0n }
  const read = (entriesPerBlock: number, blocks = [block]) => {
    const rows = 4
    const bytes = encodeLocatorIndex({ entries: rows, entriesPerBlock, blocks })
    const size = rows * 12 + bytes.length
    return decodeLocatorIndex(
      bytes,
      { key: "ids.bin", size, sha256: SHA, index: { size: 48, sha256: SHA } },
      rows,
    )
  }

  it("has blocks of a size that fits into memory, in order", () => {
    expect(read(4).blocks).toHaveLength(1)
    expect(() => read(2 ** 31)).toThrow(refusal(/blocks of 2147483648 entries/))
    expect(() => read(2, [{ ...block, firstHash: 10n }, block])).toThrow(refusal(/out of order at block 0/))
    expect(() => read(2, [block, block])).toThrow(refusal(/out of order at block 1/))
  })
})

describe("a hostile sharding expression", () => {
  const list = "[0,1,2,3,4,5,6,7,8,9]"
  it.each([
    [
      "loops within loops",
      `${"x".replace("x", list)}.map(a,${list}.map(b,${list}.map(c,${list}.map(d,1)))).size()`,
      /steps/,
    ],
    ["texts that double", `["a"]${".map(x,x+x)".repeat(40)}.size()`, /steps/],
    ["lists that double", `[[1]]${".map(x,x+x)".repeat(40)}.size()`, /steps/],
    ["many terms", `1${"+1".repeat(4000)}`, /levels/],
    ["many brackets", `${"(".repeat(4000)}1${")".repeat(4000)}`, /is not CEL|levels/],
    ["a long text", `"${"a".repeat(20_000)}"`, /characters/],
  ])("with %s is refused before it is evaluated", (_, expression, message) => {
    expect(() => compileCel(expression, [])).toThrow(
      expect.objectContaining({ tag: "InvalidInput", message: expect.stringMatching(message) }),
    )
  })

  it("may use regular expressions, which take no more time than their text is long", () => {
    expect(
      compileCel(`"${"a".repeat(5000)}!".matches("^(a|aa)+$") ? 1 : 0`, []).evaluate(
        () => 0,
        () => "",
      ),
    ).toBe(0n)
  })

  it("leaves those alone that people write", () => {
    const fields = [{ name: "tenant", type: "string" }] as const
    for (const expression of ["shard_hash(tenant) % 16u", '["a","b","c"].exists(x, x == tenant) ? 0 : 1'])
      expect(compileCel(expression, fields).expression).toBe(expression)
  })
})
