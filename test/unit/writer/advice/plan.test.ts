import { mkdtemp, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as fc from "fast-check"
import { afterAll, beforeAll, describe, expect, test } from "vitest"
import { openSource } from "../../../../src/sources/open.js"
import { type InputFacts, readInputFacts } from "../../../../src/writer/advice/input-facts.js"
import { planSnapshot } from "../../../../src/writer/advice/plan.js"
import { fromRoot } from "../../../support/paths.js"

const factsOf = (rows: number, dim: number, otherBytesPerRow = 40): InputFacts => ({
  name: "input",
  rows,
  counted: "metadata",
  dim,
  sampledRows: 100,
  norms: { smallest: 1, mean: 1, largest: 1 },
  otherBytesPerRow,
})

describe("a plan", () => {
  test("of the word set is what it was measured with", () => {
    const { reasons, ...plan } = planSnapshot(factsOf(341_479, 100), { cores: 2 })
    expect(plan).toEqual({
      shards: 64,
      backend: "sqlite-vec",
      layout: "affinity",
      replication: 1.2,
      // 36 of them for cells and codes.
      sizeBytes: 409_775 * 566,
      shardBytes: Math.round((409_775 * 566) / 64),
      buildMemoryBytes: (300 + 2 * 40) * 2 ** 20 + 2 ** 26 + 341_479 * 600,
      buildSeconds: Math.ceil(1 + (34_147_900 * 3.2e-6 + 40_977_500 * 0.38e-6) / 2),
      readerMemoryBytes: expect.any(Number),
      probes: 5,
      coldRequests: 9,
      coldBytes: 5 * plan.shardBytes,
    })
    expect(plan.readerMemoryBytes).toBeGreaterThan(409_775 * 500)
    expect(reasons.shards).toBe(
      "64 shards of 3.5 MiB: more would cost more requests a query, fewer more bytes",
    )
  })

  test.each([
    [1, 3, 1],
    [500, 3, 1],
    [10_000, 100, 16],
    [100_000, 384, 64],
    [3_414_790, 100, 256],
    [10_000_000, 768, 1024],
  ])("of %d rows of %d dimensions has %d shards", (rows, dim, shards) => {
    expect(planSnapshot(factsOf(rows, dim), { cores: 2, memoryLimit: 2 ** 36 }).shards).toBe(shards)
  })

  test("steps down to a layout that the memory limit allows, and says so", () => {
    const wide = factsOf(1_000_000, 768)
    const { layout, replication, reasons } = planSnapshot(wide, { cores: 2, memoryLimit: 2 ** 30 })
    expect({ layout, replication }).toEqual({ layout: "fast", replication: 1 })
    expect(reasons.layout).toBe("fast: affinity would take more time or memory than a build may")
    expect(planSnapshot(wide, { cores: 2, memoryLimit: 2 ** 32 }).layout).toBe("affinity")
  })

  // Builds on two cores, by docs/performance.md.
  test.each([
    { rows: 341_479, dim: 100, shards: 64, memoryLimit: 2 ** 30, seconds: 69.6, mib: 665 },
    { rows: 1_000_000, dim: 100, shards: 128, memoryLimit: 2 ** 29, seconds: 25.6 },
    { rows: 3_414_790, dim: 100, shards: 256, memoryLimit: 2 ** 30, seconds: 73 },
    { rows: 3_414_790, dim: 100, shards: 64, memoryLimit: 2 ** 30, seconds: 57.5, mib: 789 },
    { rows: 1_000_000, dim: 384, shards: 256, memoryLimit: 2 ** 30, seconds: 123 },
  ])(
    "foretells time and memory of measured builds within a quarter: $rows × $dim, $shards shards",
    (build) => {
      const { rows, dim, seconds, mib, ...options } = build
      const plan = planSnapshot(factsOf(rows, dim, 10), { cores: 2, ...options })
      expect(plan.buildSeconds / seconds).toBeGreaterThan(0.75)
      expect(plan.buildSeconds / seconds).toBeLessThan(1.25)
      if (mib === undefined) return
      expect(plan.buildMemoryBytes / 2 ** 20 / mib).toBeGreaterThan(0.75)
      expect(plan.buildMemoryBytes / 2 ** 20 / mib).toBeLessThan(1.25)
    },
  )

  test("takes LanceDB for what sqlite-vec cannot hold or would scan too long, and what was asked for before all", () => {
    expect(planSnapshot(factsOf(1000, 10_000), { cores: 2 })).toMatchObject({
      backend: "lancedb",
      reasons: { backend: "lancedb: sqlite-vec takes at most 8192 dimensions, got 10000" },
    })
    const many = planSnapshot(factsOf(10_000_000, 768), { cores: 2, shards: 16 })
    expect(many).toMatchObject({ shards: 16, backend: "lancedb", reasons: { shards: /as asked for$/ } })
    const asked = planSnapshot(factsOf(10_000, 100), { cores: 2, backend: "lancedb" })
    expect(asked.reasons.backend).toBe("lancedb, as asked for")
    expect(asked.sizeBytes - planSnapshot(factsOf(10_000, 100), { cores: 2 }).sizeBytes).toBe(
      12_000 * (400 - 5),
    )
  })

  test("has figures that a build can take, whatever the input", () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 2e9 }), fc.integer({ min: 1, max: 20_000 }), (rows, dim) => {
        const plan = planSnapshot(factsOf(rows, dim), { cores: 4 })
        expect(Number.isInteger(Math.log2(plan.shards))).toBe(true)
        expect(plan.shards).toBeLessThanOrEqual(Math.max(1, rows))
        expect(plan.probes).toBeGreaterThanOrEqual(1)
        expect(plan.probes).toBeLessThanOrEqual(plan.shards)
        expect(plan.coldBytes).toBeLessThanOrEqual(plan.sizeBytes + plan.shards)
      }),
    )
  })
})

describe("the facts of an input", () => {
  let dir: string
  beforeAll(async () => {
    dir = await mkdtemp(join(tmpdir(), "vecsnap-facts-"))
  })
  afterAll(() => rm(dir, { recursive: true }))

  test("of Parquet files are counted by their metadata", async () => {
    const words = fromRoot("data/words.parquet")
    const facts = await readInputFacts(await openSource([words]))
    expect(facts).toMatchObject({ rows: 10_000, counted: "metadata", dim: 100, sampledRows: 10_000 })
  })

  test("of other files by reading them; lengths and bytes are those of the rows", async () => {
    const file = join(dir, "rows.jsonl")
    const lines = [
      { id: "a", vector: [3, 4], n: 1 },
      { id: "bcd", vector: [0, 1], n: 22 },
    ].map((row) => `${JSON.stringify(row)}\n`)
    await writeFile(file, lines.join(""))
    expect(await readInputFacts(await openSource([file]))).toEqual({
      name: file,
      rows: 2,
      counted: "read",
      dim: 2,
      sampledRows: 2,
      norms: { smallest: 1, mean: 3, largest: 5 },
      // Ids of 1 and 3, payloads {"n":1} and {"n":22}.
      otherBytesPerRow: (1 + 7 + 3 + 8) / 2,
    })
  })

  test("of an empty input is an error", async () => {
    const file = join(dir, "empty.jsonl")
    await writeFile(file, "")
    await expect(readInputFacts(await openSource([file]))).rejects.toMatchObject({ tag: "InvalidInput" })
  })
})
