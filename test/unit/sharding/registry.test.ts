import { describe, expect, test } from "vitest"
import { parseJson, stringifyJson } from "../../../src/json.js"
import {
  createStrategy,
  needsTraining,
  resolveSharding,
  restoreStrategy,
  type ShardingOptions,
  trainStrategy,
} from "../../../src/sharding/registry.js"
import type { ShardingDescription, Strategy, StrategyContext } from "../../../src/sharding/strategy.js"
import { METRICS } from "../../../src/vectors/metric.js"
import { decodeNpy, encodeNpy } from "../../../src/vectors/npy.js"
import { batchOf, everyShard, gaussians } from "./batches.js"

const DIM = 4
const context = (metric: StrategyContext["metric"]): StrategyContext => ({
  dim: DIM,
  metric,
  fields: [{ name: "tier", type: "int64" }],
})

const OPTIONS: ShardingOptions[] = [
  { strategy: "cluster", shards: 7, seed: 3 },
  { strategy: "lsh", shards: 7 },
  { strategy: "lsh", shards: 7, bits: 70, probeOrder: "bit" },
  { strategy: "explicit", shards: 7 },
  { strategy: "cel", shards: 7, expression: "shard_hash(tier) % 7u" },
  { strategy: "cel", values: ["odd", 2n ** 60n, "even", -1], expression: "tier % 2 == 0 ? 'even' : 'odd'" },
]

function build(options: ShardingOptions, metric: StrategyContext["metric"]): Promise<Strategy> {
  const resolved = resolveSharding(options)
  return needsTraining(resolved)
    ? trainStrategy(resolved, context(metric), { sample: gaussians(200, DIM, 1) })
    : createStrategy(resolved, context(metric))
}

/** Through the bytes that a snapshot stores. */
function restore(strategy: Strategy, metric: StrategyContext["metric"]): Promise<Strategy> {
  const description = parseJson(stringifyJson(strategy.describe())) as unknown as ShardingDescription
  const artifacts = Object.fromEntries(
    Object.entries(strategy.artifacts()).map(([name, array]) => [name, decodeNpy(encodeNpy(array), name)]),
  )
  return restoreStrategy(description, artifacts, context(metric))
}

const rows = 60
const batch = batchOf(gaussians(rows, DIM, 5), DIM, {
  fields: { tier: Array.from({ length: rows }, (_, row) => BigInt(row)) },
  shards: Int32Array.from({ length: rows }, (_, row) => row % 7),
})

describe.each(METRICS)("under %s", (metric) => {
  test.each(OPTIONS)("a restored strategy does what the built one does: %o", async (options) => {
    const built = await build(options, metric)
    const restored = await restore(built, metric)
    expect(restored.name).toBe(options.strategy)
    expect(restored.describe()).toEqual(built.describe())
    const assigned = built.assign(batch)
    expect(restored.assign(batch)).toEqual(assigned)
    expect(assigned.every((shard) => shard >= 0 && shard < built.shards)).toBe(true)
    for (let seed = 0; seed < 20; seed++) {
      const selection = {
        vector: gaussians(1, DIM, seed),
        probes: options.strategy === "explicit" ? ("all" as const) : 3,
        context: { tier: seed },
      }
      const present = (shard: number) => shard !== seed % 7
      expect(restored.rank(selection, present)).toEqual(built.rank(selection, present))
    }
  })

  test.each(OPTIONS)("the same options give the same strategy: %o", async (options) => {
    const first = await build(options, metric)
    const second = await build(options, metric)
    expect(second.artifacts()).toEqual(first.artifacts())
    expect(second.assign(batch)).toEqual(first.assign(batch))
  })
})

describe.each(OPTIONS)("shards named by the request override %o", async (options) => {
  const strategy = await build(options, "l2")
  const last = strategy.shards - 1

  test("in the order given, each once, those without rows left out", () => {
    const present = (shard: number) => shard !== 1
    expect(strategy.rank({ shards: [2, 0, 1, 2] }, present).shards).toEqual([
      { shard: 2, score: 0 },
      { shard: 0, score: 0 },
    ])
    expect(strategy.rank({ shards: [1] }, present).shards).toEqual([])
  })

  test('"all" are those with rows', () => {
    const all = strategy.rank({ shards: "all" }, (shard) => shard !== 1).shards
    expect(all.map(({ shard }) => shard)).toEqual([...Array(last + 1).keys()].filter((shard) => shard !== 1))
  })

  test("a shard that does not exist, or none, is refused", () => {
    for (const shard of [-1, last + 1, 0.5, Number.NaN]) {
      expect(() => strategy.rank({ shards: [0, shard] }, everyShard).shards).toThrow(
        expect.objectContaining({
          tag: "InvalidInput",
          message: `shard ${shard} does not exist; this snapshot has shards 0 to ${last}`,
        }),
      )
    }
    expect(() => strategy.rank({ shards: [] }, everyShard).shards).toThrow("shards is an empty list")
  })
})

describe("explicit", async () => {
  const strategy = await build({ strategy: "explicit", shards: 7 }, "l2")

  test("records go where they say", () => {
    expect(strategy.assign(batch)).toEqual(batch.shards)
  })

  test("a shard out of range names file, row and range; a missing column is told", () => {
    for (const shard of [7, -1]) {
      const wrong = batchOf(new Float32Array(2 * DIM), DIM, { shards: Int32Array.of(0, shard) })
      expect(() => strategy.assign(wrong)).toThrow(`test.parquet, row 2: shard is ${shard}, expected 0 to 6`)
    }
    expect(() => strategy.assign(batchOf(new Float32Array(DIM), DIM))).toThrow(
      "test.parquet has no shard column, which the explicit strategy needs",
    )
  })

  test("queries must name shards", () => {
    expect(() => strategy.rank({ vector: gaussians(1, DIM, 1), probes: 3 }, everyShard).shards).toThrow(
      'the explicit strategy needs the shards to search: a list of numbers, or "all"',
    )
  })
})

describe("restoring what does not fit is Corrupt", async () => {
  const description = (await build({ strategy: "lsh", shards: 7 }, "l2")).describe()
  type Artifacts = Parameters<typeof restoreStrategy>[1]

  const shaped = (shape: number[], data = new Float32Array(32).fill(1)): Artifacts => ({
    "hyperplanes.npy": { shape, data },
  })
  const holed = new Float32Array(32)
  holed[9] = Number.NaN

  test.each<[Artifacts, number, string]>([
    [{}, DIM, "is missing"],
    [shaped([4, 8]), DIM, "has shape (4, 8), expected (8, 4)"],
    [shaped([32]), DIM, "has shape (32), expected (8, 4)"],
    [shaped([8, 4]), 5, "has shape (8, 4), expected (8, 5)"],
    [shaped([8, 4], holed), DIM, "has NaN at position 9, expected finite values"],
  ])("artifacts %o for dimension %i", async (artifacts, dim, problem) => {
    await expect(restoreStrategy(description, artifacts, { ...context("l2"), dim })).rejects.toThrow(
      expect.objectContaining({
        tag: "Corrupt",
        message: `the routing artifact hyperplanes.npy ${problem}`,
      }),
    )
  })

  test("an expression over fields that the snapshot does not have", async () => {
    const cel: ShardingDescription = { strategy: "cel", shards: 2, options: { expression: "age" } }
    await expect(restoreStrategy(cel, {}, context("l2"))).rejects.toThrow(
      expect.objectContaining({ tag: "Corrupt", message: expect.stringContaining("uses age") }),
    )
  })
})
