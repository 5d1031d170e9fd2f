import { describe, expect, test } from "vitest"
import { parseJson, stringifyJson } from "../../../../src/json.js"
import { createLayout } from "../../../../src/sharding/cluster/layout/layout.js"
import type { ResolvedCluster } from "../../../../src/sharding/cluster/options.js"
import { createDescriptorRouter, ROUTING_FILES } from "../../../../src/sharding/cluster/routing/routing.js"
import { fitPreparation, prepareRows } from "../../../../src/sharding/cluster/space/space.js"
import { createCluster } from "../../../../src/sharding/cluster/strategy.js"
import { resolveSharding, restoreStrategy } from "../../../../src/sharding/registry.js"
import type { ShardingDescription, Strategy } from "../../../../src/sharding/strategy.js"
import { METRICS, type Metric } from "../../../../src/vectors/metric.js"
import { decodeAnyNpy, encodeNpy } from "../../../../src/vectors/npy.js"
import { batchOf, everyShard } from "../batches.js"
import { groups, inSpace } from "./data.js"

const DIM = 9
const SHARDS = 12
const rows = groups(2400, DIM, 50, 0.5)
const held = groups(300, DIM, 50, 0.5, 2)
const queryOf = (row: number) => held.slice(row * DIM, (row + 1) * DIM)

const contextOf = (metric: Metric) => ({ dim: DIM, metric, fields: [] })

/** A strategy as a build makes it, by metric. */
const built = Object.fromEntries(
  METRICS.map((metric) => {
    const options = { strategy: "cluster", shards: SHARDS, layout: "fast" } as const
    const { routing, centroids } = createLayout(
      {
        preparation: fitPreparation(rows, DIM, metric),
        rows: inSpace(rows, DIM, metric),
        validation: prepareRows(fitPreparation(rows, DIM, metric), held.slice()),
      },
      options,
    )
    const resolved = resolveSharding(options) as ResolvedCluster
    const array = { shape: [SHARDS, DIM], data: centroids }
    return [metric, { routing, strategy: createCluster(resolved, contextOf(metric), array, routing) }]
  }),
) as Record<Metric, { routing: ReturnType<typeof createLayout>["routing"]; strategy: Strategy }>

/** What a snapshot stores of a strategy, through bytes. */
function stored(strategy: Strategy) {
  const description = parseJson(stringifyJson(strategy.describe())) as unknown as ShardingDescription
  const artifacts = Object.fromEntries(
    Object.entries(strategy.artifacts()).map(([name, array]) => [name, decodeAnyNpy(encodeNpy(array), name)]),
  )
  return { description, artifacts }
}

describe.each(METRICS)("a strategy with a layout, %s", (metric) => {
  const { strategy, routing } = built[metric]

  test("is restored from its artifacts, and does the same", async () => {
    const { description, artifacts } = stored(strategy)
    expect(Object.keys(artifacts).sort()).toEqual(["centroids.npy", ...Object.values(ROUTING_FILES)].sort())
    const restored = await restoreStrategy(description, artifacts, contextOf(metric))
    expect(restored.describe()).toEqual(strategy.describe())
    expect(restored.assign(batchOf(held, DIM))).toEqual(strategy.assign(batchOf(held, DIM)))
    for (let row = 0; row < 50; row++) {
      const selection = { vector: queryOf(row), probes: 5 }
      expect(restored.rank(selection, everyShard).shards).toEqual(strategy.rank(selection, everyShard).shards)
    }
  })

  test("routes as its descriptors rank, shards without rows left out before they use up a probe", () => {
    const router = createDescriptorRouter(routing)
    for (let row = 0; row < 50; row++) {
      const ranked = router.route(queryOf(row)).shards
      const present = (shard: number) => shard !== ranked[0] && shard !== ranked[3]
      const route = strategy.rank({ vector: queryOf(row), probes: 4 }, present).shards
      expect(route.map(({ shard }) => shard)).toEqual([ranked[1], ranked[2], ranked[4], ranked[5]])
      for (let i = 1; i < route.length; i++) {
        expect(route[i]!.score).toBeGreaterThanOrEqual(route[i - 1]!.score)
      }
    }
  })

  // Under dot the lengths of records count as rows, and those of queries do not.
  test.skipIf(metric === "dot")("assigns records to the shard that scores best", () => {
    const assigned = strategy.assign(batchOf(held, DIM))
    for (let row = 0; row < 300; row++) {
      const best = strategy.rank({ vector: queryOf(row), probes: 1 }, everyShard).shards[0]!
      expect(assigned[row]).toBe(best.shard)
    }
  })
})

test("the description names the layout only where there is one, and one without is plain", async () => {
  const { strategy } = built.cosine
  expect(strategy.describe().options).toMatchObject({ layout: "fast", replication: { budget: 1 } })
  const { description, artifacts } = stored(strategy)
  const { layout, replication, ...options } = description.options
  const old = { "centroids.npy": artifacts["centroids.npy"]! }
  const plain = await restoreStrategy({ ...description, options }, old, contextOf("cosine"))
  expect(plain.describe().options).toEqual(options)
  expect(plain.artifacts()).toEqual(old)
})

test("a layout whose descriptors are missing is damaged", async () => {
  const { description, artifacts } = stored(built.l2.strategy)
  const restore = (arrays: typeof artifacts) => restoreStrategy(description, arrays, contextOf("l2"))
  await expect(restore({ "centroids.npy": artifacts["centroids.npy"]! })).rejects.toThrow(
    "the routing artifact descriptors.npy of the layout fast is missing",
  )
  await expect(
    restore({ ...artifacts, "centroids.npy": { shape: [SHARDS, DIM], data: new Int32Array(SHARDS * DIM) } }),
  ).rejects.toThrow("the routing artifact centroids.npy has integers, expected floating-point numbers")
})
