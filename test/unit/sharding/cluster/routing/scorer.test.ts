import { afterEach, describe, expect, test, vi } from "vitest"
import type { ScoringTable } from "../../../../../src/sharding/cluster/routing/descriptors.js"
import { METRICS, type Metric } from "../../../../../src/vectors/metric.js"
import { createRandom } from "../../../../../src/vectors/random.js"

afterEach(() => {
  vi.unstubAllEnvs()
  vi.resetModules()
})

/** Fresh copies of the modules under test, on the kernel asked for. */
async function load(kernel: "simd" | "plain") {
  vi.resetModules()
  if (kernel === "plain") vi.stubEnv("VECSNAP_KERNEL", "plain")
  const { kernelInUse } = await import("../../../../../src/vectors/kernel.js")
  expect(kernelInUse()).toBe(kernel)
  const { createShardScorer } = await import("../../../../../src/sharding/cluster/routing/scorer.js")
  const descriptors = await import("../../../../../src/sharding/cluster/routing/descriptors.js")
  return { createShardScorer, ...descriptors }
}

/** Descriptors of shards that have so many each, random but for the metric. */
function makeDescriptors(metric: Metric, dim: number, sizes: readonly number[], seed: number) {
  const random = createRandom(seed)
  const start = Int32Array.from([0, ...sizes].map((_, i) => sizes.slice(0, i).reduce((sum, n) => sum + n, 0)))
  const count = start.at(-1)!
  const vectors = Float32Array.from({ length: count * dim }, () => random.gaussian() / Math.sqrt(dim))
  const counts = Int32Array.from({ length: count }, (_, i) => (i * 7) % 50)
  return { metric, dim, shards: sizes.length, start, vectors, counts }
}

/**
 * By definition: Σ n exp(β similarity) of each shard, and the largest similarity; of a descriptor of no rows
 * n is ½.
 */
function byDefinition({ points, start, shards, logCounts, beta }: ScoringTable, query: Float32Array) {
  const similarities = Array.from({ length: points.count }, (_, point) => {
    const products = query.map((value, i) => value * points.vectors[point * points.dim + i]!)
    return products.reduce((sum, product) => sum + product, 0) - (points.bias?.[point] ?? 0)
  })
  const exponents = similarities.map((similarity, i) => beta * similarity + logCounts[i]!)
  const largest = Math.max(...exponents)
  const scores = Array.from({ length: shards }, (_, shard) =>
    exponents
      .slice(start[shard], start[shard + 1])
      .reduce((sum, exponent) => sum + Math.exp(exponent - largest), 0),
  )
  return { scores, familiarity: Math.max(...similarities) }
}

describe.each(["simd", "plain"] as const)("the scorer of the %s kernel", (kernel) => {
  test.each(METRICS)("equals the definition up to rounding, %s", async (metric) => {
    const { createScoring, createShardScorer, inFourBits, toFourBits } = await load(kernel)
    for (const [seed, [dim, sizes]] of (
      [
        [1, [1]],
        [4, [1, 2, 3]],
        [8, [5, 1, 8, 16, 2]],
        [13, [128, 7, 1, 30, 4, 9]],
        [100, Array.from({ length: 20 }, (_, i) => 1 + i * 3)],
      ] as const
    ).entries()) {
      const descriptors = inFourBits(makeDescriptors(metric, dim, sizes, seed))
      for (const beta of [2.5, 24, 48]) {
        const table = createScoring(descriptors, beta)
        const score = createShardScorer(table, toFourBits(descriptors.vectors, dim))
        const random = createRandom(100 + seed)
        for (let query = 0; query < 5; query++) {
          const vector = Float32Array.from({ length: dim }, random.gaussian)
          const length = Math.hypot(...vector)
          for (let i = 0; i < dim; i++) vector[i]! /= length
          const scores = new Float64Array(sizes.length)
          const familiarity = score(vector, scores)
          const expected = byDefinition(table, vector)
          expect(familiarity).toBeCloseTo(expected.familiarity, 3)
          for (const [shard, wanted] of expected.scores.entries()) {
            // An exponent is off by β times the rounding of a similarity; terms far below the largest are
            // left out.
            if (wanted > 1e-5) expect(scores[shard]! / wanted).toBeCloseTo(1, 2)
            else expect(scores[shard]).toBeLessThan(1.1e-5)
          }
        }
      }
    }
  })

  test("tells shards apart that are all but infinitely far, by their best descriptor", async () => {
    const { createScoring, createShardScorer, inFourBits, orderShards, toFourBits } = await load(kernel)
    const vectors = Float32Array.of(1, 0, -0.2, 0, -0.9, 0, -0.4, 0)
    const descriptors = inFourBits({
      metric: "cosine",
      dim: 2,
      shards: 4,
      start: Int32Array.of(0, 1, 2, 3, 4),
      vectors,
      counts: Int32Array.of(1, 1, 1, 1),
    })
    const score = createShardScorer(createScoring(descriptors, 500), toFourBits(descriptors.vectors, 2))
    const scores = new Float64Array(4)
    expect(score(Float32Array.of(1, 0), scores)).toBeCloseTo(1, 4)
    const order = new Uint16Array(4)
    orderShards(scores, order, 4)
    expect([...order]).toEqual([0, 1, 3, 2])
  })
})
