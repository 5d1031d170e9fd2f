/** What every strategy must do, whatever way it divides rows. */
import { beforeAll, describe, expect, it } from "vitest"
import { parseJson, stringifyJson } from "../../src/json.js"
import {
  adoptStrategy,
  createStrategy,
  needsTraining,
  resolveDescription,
  resolveSharding,
  restoreStrategy,
  type ShardingOptions,
  strategyType,
  trainStrategy,
} from "../../src/sharding/registry.js"
import type {
  RoutedQuery,
  Selection,
  ShardingDescription,
  Strategy,
  StrategyContext,
} from "../../src/sharding/strategy.js"
import { METRICS, type Metric } from "../../src/vectors/metric.js"
import { decodeNpy, encodeNpy } from "../../src/vectors/npy.js"
import { batchOf, everyShard, gaussians } from "../unit/sharding/batches.js"

const DIM = 4
const SAMPLE_ROWS = 300
const ROWS = 200
const QUERIES = 40

const contextOf = (metric: Metric): StrategyContext => ({
  dim: DIM,
  metric,
  fields: [{ name: "tier", type: "int64" }],
})

async function made(options: ShardingOptions, metric: Metric): Promise<Strategy> {
  const resolved = resolveSharding(options)
  return needsTraining(resolved)
    ? trainStrategy(resolved, contextOf(metric), { sample: gaussians(SAMPLE_ROWS, DIM, 1) })
    : createStrategy(resolved, contextOf(metric))
}

/** Description and artifacts as they come back from storage, where they are bytes. */
function stored(strategy: Strategy) {
  const description = parseJson(stringifyJson(strategy.describe())) as unknown as ShardingDescription
  const artifacts = Object.fromEntries(
    Object.entries(strategy.artifacts()).map(([name, array]) => [name, decodeNpy(encodeNpy(array), name)]),
  )
  return { description, artifacts }
}

const shardsOf = (strategy: Strategy, selection: Selection, present = everyShard as (s: number) => boolean) =>
  strategy.rank(selection, present).shards.map(({ shard }) => shard)

/**
 * `options`: of the strategy, with 4 shards or more. The fields of its records are `tier`, a whole number.
 */
export function describeStrategy(title: string, options: ShardingOptions): void {
  const { queriesBy, trained } = strategyType(options.strategy)

  describe.each(METRICS)(`${title}, under %s`, (metric) => {
    let strategy: Strategy
    let shards: number
    beforeAll(async () => {
      strategy = await made(options, metric)
      shards = strategy.shards
    })

    const batch = () =>
      batchOf(gaussians(ROWS, DIM, 5), DIM, {
        fields: { tier: Array.from({ length: ROWS }, (_, row) => BigInt(row)) },
        shards: Int32Array.from({ length: ROWS }, (_, row) => row % shards),
      })
    const query = (seed: number): RoutedQuery => ({
      vector: gaussians(1, DIM, 100 + seed),
      context: { tier: BigInt(seed) },
    })
    const seeds = Array.from({ length: QUERIES }, (_, seed) => seed)
    /** Numbers of probes that a query may ask for: where it must name its shards, only all of them. */
    const efforts = queriesBy === "shards" ? (["all"] as const) : ([undefined, 1, 3, 1000, "all"] as const)

    it("has the name of its type and as many shards as were asked for", () => {
      expect(strategy.name).toBe(options.strategy)
      expect(strategy.shards).toBe(resolveSharding(options).shards)
      expect(shards).toBeGreaterThanOrEqual(4)
      expect(needsTraining(resolveSharding(options))).toBe(trained)
    })

    it("assigns each row to one of its shards, and all rows to more than one", () => {
      const assigned = strategy.assign(batch())
      expect(assigned).toBeInstanceOf(Int32Array)
      expect(assigned).toHaveLength(ROWS)
      expect(assigned.every((shard) => Number.isInteger(shard) && shard >= 0 && shard < shards)).toBe(true)
      expect(new Set(assigned).size).toBeGreaterThan(1)
      expect(strategy.assign(batchOf(new Float32Array(0), DIM, { shards: new Int32Array(0) }))).toHaveLength(
        0,
      )
    })

    it("ranks shards that there are, each once, best first", () => {
      for (const seed of seeds) {
        for (const probes of efforts) {
          const ranked = strategy.rank({ ...query(seed), probes }, everyShard).shards
          const numbers = ranked.map(({ shard }) => shard)
          expect(ranked.length).toBeGreaterThan(0)
          expect(new Set(numbers).size).toBe(numbers.length)
          expect(numbers.every((shard) => Number.isInteger(shard) && shard >= 0 && shard < shards)).toBe(true)
          const scores = ranked.map(({ score }) => score)
          expect(scores).toEqual(scores.toSorted((a, b) => a - b))
        }
      }
    })

    it('all of them for "all", and the first few of the same for a number of probes', () => {
      for (const seed of seeds) {
        const all = shardsOf(strategy, { ...query(seed), probes: "all" })
        expect(all.toSorted((a, b) => a - b)).toEqual([...Array(shards).keys()])
        if (queriesBy !== "vector") continue
        for (const probes of [1, 2, shards, shards + 5])
          expect(shardsOf(strategy, { ...query(seed), probes })).toEqual(all.slice(0, probes))
      }
    })

    it("never uses up a probe on a shard without rows", () => {
      for (const seed of seeds) {
        const present = (shard: number) => shard % 3 !== seed % 3
        const left = [...Array(shards).keys()].filter(present)
        for (const probes of efforts) {
          const ranked = shardsOf(strategy, { ...query(seed), probes }, present)
          expect(ranked.every(present)).toBe(true)
          if (typeof probes === "number" && queriesBy === "vector")
            expect(ranked).toHaveLength(Math.min(probes, left.length))
          if (probes === "all") expect(ranked.toSorted((a, b) => a - b)).toEqual(left)
        }
        for (const probes of efforts)
          expect(shardsOf(strategy, { ...query(seed), probes }, () => false)).toEqual([])
      }
    })

    it("takes shards that are named as they are, before all that it would choose", () => {
      expect(shardsOf(strategy, { shards: [2, 0, 2] })).toEqual([2, 0])
      expect(shardsOf(strategy, { shards: [2, 0] }, (shard) => shard !== 2)).toEqual([0])
      expect(shardsOf(strategy, { shards: "all" }, (shard) => shard !== 1)).not.toContain(1)
    })

    it("refuses a shard that does not exist, an empty list, and probes that are no number of shards", () => {
      for (const shard of [-1, shards, 0.5, Number.NaN]) {
        expect(() => strategy.rank({ shards: [0, shard] }, everyShard)).toThrow(
          expect.objectContaining({
            tag: "InvalidInput",
            message: `shard ${shard} does not exist; this snapshot has shards 0 to ${shards - 1}`,
          }),
        )
      }
      const invalid = expect.objectContaining({ tag: "InvalidInput" })
      expect(() => strategy.rank({ shards: [] }, everyShard)).toThrow(invalid)
      for (const probes of [0, -1, 1.5, Number.NaN])
        expect(() => strategy.rank({ ...query(1), probes }, everyShard)).toThrow(invalid)
    })

    it("takes a target recall if it was measured, and refuses it otherwise", () => {
      const rank = () => strategy.rank({ ...query(1), targetRecall: 0.9 }, everyShard)
      if (strategy.measured) expect(rank().expectedRecall).toBeGreaterThan(0)
      else expect(rank).toThrow(expect.objectContaining({ tag: "InvalidInput" }))
    })

    it(`is told by ${queriesBy} where a query goes, and by nothing else`, () => {
      const { vector, context } = query(1)
      const needs = (selection: RoutedQuery) =>
        expect(() => strategy.rank(selection, everyShard)).toThrow(
          expect.objectContaining({
            tag: "InvalidInput",
            message: expect.stringContaining(options.strategy),
          }),
        )
      const isEnough = (selection: RoutedQuery) =>
        expect(shardsOf(strategy, selection)).toEqual(shardsOf(strategy, { vector, context }))
      if (queriesBy === "shards") return needs({ vector, context })
      if (queriesBy === "vector") {
        needs({ context })
        return isEnough({ vector })
      }
      needs({ vector })
      isEnough({ context })
    })

    it("is the same again when it is made again, and when it is restored from what a snapshot stores", async () => {
      const { description, artifacts } = stored(strategy)
      const others = [
        await made(options, metric),
        await restoreStrategy(description, artifacts, contextOf(metric)),
      ]
      for (const other of others) {
        expect(other.name).toBe(strategy.name)
        expect(other.shards).toBe(shards)
        expect(other.measured).toBe(strategy.measured)
        expect(other.describe()).toEqual(strategy.describe())
        expect(other.artifacts()).toEqual(strategy.artifacts())
        expect(other.assign(batch())).toEqual(strategy.assign(batch()))
        for (const seed of seeds) {
          for (const probes of efforts) {
            const present = (shard: number) => shard !== seed % shards
            const selection = { ...query(seed), probes }
            expect(shardsOf(other, selection, present)).toEqual(shardsOf(strategy, selection, present))
          }
        }
      }
      expect(resolveDescription(description)).toMatchObject({ strategy: options.strategy, shards })
    })

    it("is restored by no artifacts but its own, if it has any", async () => {
      const { description, artifacts } = stored(strategy)
      for (const name of Object.keys(artifacts)) {
        const { [name]: _, ...others } = artifacts
        await expect(restoreStrategy(description, others, contextOf(metric))).rejects.toMatchObject({
          tag: "Corrupt",
          message: expect.stringContaining(name),
        })
      }
      await expect(
        restoreStrategy({ ...description, shards: -1 }, artifacts, contextOf(metric)),
      ).rejects.toMatchObject({ tag: "Corrupt" })
    })

    it.runIf(trained)(
      "takes over the artifacts of another snapshot, and divides rows like that one",
      async () => {
        const resolved = resolveSharding(options)
        if (!needsTraining(resolved)) throw new Error("it is not trained")
        const taken = await adoptStrategy(resolved, contextOf(metric), stored(strategy).artifacts)
        expect(taken.assign(batch())).toEqual(strategy.assign(batch()))
      },
    )
  })
}
