import fc from "fast-check"
import { describe, expect, test } from "vitest"
import { rankCentroids, routingTable } from "../../../../src/sharding/cluster/routing/centroids.js"
import { clusterFromCentroids, createCluster } from "../../../../src/sharding/cluster/strategy.js"
import { type ResolvedSharding, resolveSharding } from "../../../../src/sharding/registry.js"
import { distance } from "../../../../src/vectors/distance.js"
import { METRICS, type Metric } from "../../../../src/vectors/metric.js"
import { batchOf, everyShard, gaussians } from "../batches.js"

function cluster(metric: Metric, centroids: Float32Array, dim: number, probes = 2) {
  const shards = centroids.length / dim
  const resolved = resolveSharding({ strategy: "cluster", shards, probes }) as ResolvedSharding & {
    strategy: "cluster"
  }
  return createCluster(resolved, { dim, metric, fields: [] }, { shape: [shards, dim], data: centroids })
}

describe("reference values of shardyfusion", () => {
  const centroids = Float32Array.of(1, 0, 1, 0, 0, 1, 0, 0)
  const rank = (metric: Metric, query: number[]) =>
    rankCentroids(routingTable(metric, centroids, 2), query).map(({ shard }) => shard)

  test("rank by the metric, equal ones by number", () => {
    expect(rank("l2", [1, 0])).toEqual([0, 1, 3, 2])
    expect(rank("l2", [0, 0])).toEqual([3, 0, 1, 2])
    expect(rank("cosine", [0, 0])).toEqual([0, 1, 2, 3])
    expect(rank("dot", [0, 0])).toEqual([0, 1, 2, 3])
  })
})

describe("ranking", () => {
  test("under l2 and cosine it is the order of the public distance", () => {
    const centroids = gaussians(20, 5, 1)
    for (const metric of ["l2", "cosine"] as const) {
      for (let seed = 2; seed < 22; seed++) {
        const query = gaussians(1, 5, seed)
        const distances = Array.from({ length: 20 }, (_, shard) =>
          distance(metric, query, centroids.subarray(shard * 5, (shard + 1) * 5)),
        )
        const expected = [...distances.keys()].sort((a, b) => distances[a]! - distances[b]!)
        const ranked = rankCentroids(routingTable(metric, centroids, 5), query)
        expect(ranked.map(({ shard }) => shard)).toEqual(expected)
      }
    }
  })
})

describe("assignment", () => {
  test("is the first shard of the route, to the last bit, under l2 and cosine", () => {
    const cases = fc.record({
      metric: fc.constantFrom("l2" as const, "cosine" as const),
      dim: fc.integer({ min: 1, max: 5 }),
      shards: fc.integer({ min: 1, max: 7 }),
      rows: fc.integer({ min: 1, max: 9 }),
      // Few values, so that ties are common.
      elements: fc.infiniteStream(fc.constantFrom(-1, 0.1, 0.3, 2)),
    })
    fc.assert(
      fc.property(cases, ({ metric, dim, shards, rows, elements }) => {
        const strategy = cluster(metric, Float32Array.from(elements.take(shards * dim)), dim)
        const vectors = Float32Array.from(elements.take(rows * dim))
        const assigned = strategy.assign(batchOf(vectors, dim))
        for (let row = 0; row < rows; row++) {
          const vector = vectors.slice(row * dim, (row + 1) * dim)
          expect(strategy.rank({ vector }, everyShard).shards[0]!.shard).toBe(assigned[row])
        }
      }),
    )
  })

  test("under dot it goes by angle, so that a long centroid does not take everything", () => {
    const strategy = cluster("dot", Float32Array.of(1, 0, 70, 70), 2)
    expect([...strategy.assign(batchOf(Float32Array.of(5, 1, 5, 4), 2))]).toEqual([0, 1])
    expect(
      strategy.rank({ vector: Float32Array.of(5, 1) }, everyShard).shards.map(({ shard }) => shard),
    ).toEqual([1, 0])
  })
})

describe("route", () => {
  test("gives the best present shards, each once, as many as probes", () => {
    const cases = fc.record({
      metric: fc.constantFrom(...METRICS),
      present: fc.array(fc.boolean(), { minLength: 12, maxLength: 12 }),
      probes: fc.oneof(fc.integer({ min: 1, max: 15 }), fc.constant("all" as const)),
      seed: fc.integer(),
    })
    fc.assert(
      fc.property(cases, ({ metric, present, probes, seed }) => {
        const strategy = cluster(metric, gaussians(12, 3, 1), 3)
        const vector = gaussians(1, 3, seed)
        const ranked = strategy.rank({ vector, probes: "all" }, everyShard).shards
        expect(ranked).toHaveLength(12)
        const expected = ranked.filter(({ shard }) => present[shard]).slice(0, probes === "all" ? 12 : probes)
        expect(strategy.rank({ vector, probes }, (shard) => present[shard]!).shards).toEqual(expected)
      }),
    )
  })

  test("takes the strategy's own number of probes if the request has none", () => {
    const strategy = cluster("l2", gaussians(9, 3, 1), 3, 4)
    expect(strategy.rank({ vector: gaussians(1, 3, 2) }, everyShard).shards).toHaveLength(4)
  })

  test("refuses a request without a usable vector or number of probes", () => {
    const strategy = cluster("cosine", gaussians(4, 3, 1), 3)
    const vector = gaussians(1, 3, 2)
    expect(() => strategy.rank({}, everyShard).shards).toThrow(/^the cluster strategy needs a query vector/)
    expect(() => strategy.rank({ vector: new Float32Array(2) }, everyShard).shards).toThrow(
      "the query vector has 2 values, expected 3",
    )
    expect(() => strategy.rank({ vector: new Float32Array(3) }, everyShard).shards).toThrow("is zero")
    for (const probes of [0, -1, 1.5, Number.NaN]) {
      expect(() => strategy.rank({ vector, probes }, everyShard).shards).toThrow(
        `probes must be an integer of 1 or more, or "all"; got ${probes}`,
      )
    }
  })
})

test("given centroids must have the right shape and finite values", () => {
  const resolved = resolveSharding({ strategy: "cluster", shards: 2 }) as ResolvedSharding & {
    strategy: "cluster"
  }
  const context = { dim: 2, metric: "l2" as const, fields: [] }
  expect(() => clusterFromCentroids(resolved, context, { shape: [3, 2], data: new Float32Array(6) })).toThrow(
    "the array of given centroids has shape (3, 2), expected (2, 2)",
  )
  expect(() =>
    clusterFromCentroids(resolved, context, { shape: [2, 2], data: Float32Array.of(1, 2, Infinity, 4) }),
  ).toThrow("the array of given centroids has Infinity at position 2, expected finite values")
  const given = { shape: [2, 2], data: Float64Array.of(0, 0, 1, 1) }
  const strategy = clusterFromCentroids(resolved, context, given)
  expect([...strategy.assign(batchOf(Float32Array.of(0.9, 0.9, 0.1, 0), 2))]).toEqual([1, 0])
  expect(strategy.artifacts()).toEqual({ "centroids.npy": given })
})
