import fc from "fast-check"
import { describe, expect, test } from "vitest"
import { type TrainingProgress, trainCentroids } from "../../../../../src/sharding/cluster/layout/kmeans.js"
import { assignmentTable } from "../../../../../src/sharding/cluster/routing/centroids.js"
import { bestPoints } from "../../../../../src/vectors/kernel.js"
import { METRICS, type Metric } from "../../../../../src/vectors/metric.js"
import { createRandom } from "../../../../../src/vectors/random.js"
import { gaussians } from "../../batches.js"

const options = (metric: Metric, dim: number, clusters: number, seed = 1) => ({
  metric,
  dim,
  clusters,
  seed,
  iterations: 20,
})

/** Tight groups of 50 rows around the corners of a cube of dimension 3, apart in direction too. */
function groupsOnCube(): Float32Array {
  const random = createRandom(9)
  return Float32Array.from({ length: 8 * 50 * 3 }, (_, i) => {
    const corner = Math.floor(i / 3) % 8
    return ((corner >> (i % 3)) & 1 ? 1 : -1) + 0.05 * random.gaussian()
  })
}

function countRows(assigned: Int32Array, clusters: number): number[] {
  const counts = new Array<number>(clusters).fill(0)
  for (const cluster of assigned) counts[cluster]!++
  return counts
}

describe.each(METRICS)("trainCentroids, %s", (metric) => {
  test("finds groups that are there", () => {
    const sample = groupsOnCube()
    const { centroids, settled } = trainCentroids(sample, options(metric, 3, 8))
    expect(settled).toBe(true)
    const assigned = bestPoints(sample, assignmentTable(metric, centroids, 3))
    expect(countRows(assigned, 8)).toEqual(new Array(8).fill(50))
  })

  test("repeats for a seed, and does not touch the sample", () => {
    const sample = gaussians(600, 6, 3)
    const copy = sample.slice()
    const first = trainCentroids(sample, options(metric, 6, 40))
    expect(trainCentroids(sample, options(metric, 6, 40))).toEqual(first)
    expect(trainCentroids(sample, options(metric, 6, 40, 2)).centroids).not.toEqual(first.centroids)
    expect(sample).toEqual(copy)
  })

  test("leaves no cluster of the sample empty while rows are distinct, whatever the numbers", () => {
    const cases = fc.record({
      rows: fc.integer({ min: 1, max: 300 }),
      share: fc.double({ min: 0, max: 1, noNaN: true }),
      dim: fc.integer({ min: 2, max: 5 }),
      seed: fc.integer(),
    })
    fc.assert(
      fc.property(cases, ({ rows, share, dim, seed }) => {
        const clusters = Math.max(1, Math.round(share * rows))
        const sample = gaussians(rows, dim, seed)
        const { centroids } = trainCentroids(sample, {
          ...options(metric, dim, clusters, seed),
          iterations: 50,
        })
        expect(centroids).toHaveLength(clusters * dim)
        expect(centroids.every(Number.isFinite)).toBe(true)
        const counts = countRows(bestPoints(sample, assignmentTable(metric, centroids, dim)), clusters)
        expect(Math.min(...counts)).toBeGreaterThan(0)
      }),
      // A seed, since the last move of the centroids could in theory empty a cluster that it had filled.
      { numRuns: 60, seed: 1 },
    )
  })
})

describe("trainCentroids", () => {
  test("centroids of one cluster: the mean under l2, the mean direction under cosine, as long as rows reach under dot", () => {
    const sample = Float32Array.of(4, 0, 0, 2)
    const centroid = (metric: Metric) => [...trainCentroids(sample, options(metric, 2, 1)).centroids]
    const diagonal = Math.SQRT1_2
    expect(centroid("l2")).toEqual([2, 1])
    expect(centroid("cosine").map((value) => value.toFixed(6))).toEqual(
      [diagonal, diagonal].map((v) => v.toFixed(6)),
    )
    // (4, 0) and (0, 2) reach 4/√2 and 2/√2 along the diagonal: 3/√2 on average.
    expect(centroid("dot").map((value) => value.toFixed(6))).toEqual(["1.500000", "1.500000"])
  })

  test("fewer distinct rows than clusters: equal centroids, of which only the first takes rows", () => {
    for (const metric of METRICS) {
      const sample = Float32Array.from({ length: 30 * 2 }, (_, i) => (i % 6 < 2 ? 1 : i % 2 === 0 ? 3 : -0))
      const { centroids } = trainCentroids(sample, options(metric, 2, 5))
      const counts = countRows(bestPoints(sample, assignmentTable(metric, centroids, 2)), 5)
      expect(counts.filter((count) => count > 0).toSorted()).toEqual([10, 20])
    }
  })

  test("a sample of equal rows but for a few: every distinct row is found", () => {
    const sample = new Float32Array(2000 * 2).fill(1)
    sample.set([5, -5], 200)
    sample.set([-7, 2], 2222)
    const { centroids } = trainCentroids(sample, options("l2", 2, 3))
    expect(
      countRows(bestPoints(sample, assignmentTable("l2", centroids, 2)), 3).toSorted((a, b) => a - b),
    ).toEqual([1, 1, 1998])
  })

  test("many clusters are seeded in levels and cover the data", () => {
    const sample = gaussians(3000, 4, 5)
    const clusters = 300
    const { centroids } = trainCentroids(sample, { ...options("l2", 4, clusters), iterations: 5 })
    const counts = countRows(bestPoints(sample, assignmentTable("l2", centroids, 4)), clusters)
    expect(Math.min(...counts)).toBeGreaterThan(0)
    expect(Math.max(...counts)).toBeLessThan(60)
  })

  test("tells its progress, and stops when assignments settle or at the limit of rounds", () => {
    const seen: TrainingProgress[] = []
    const trained = trainCentroids(groupsOnCube(), {
      ...options("l2", 3, 8),
      onIteration: (one) => seen.push(one),
    })
    expect(seen.map(({ iteration }) => iteration)).toEqual(seen.map((_, i) => i + 1))
    expect(seen[0]).toEqual({ iteration: 1, moved: 400, rows: 400 })
    expect(seen.at(-1)!.moved).toBe(0)
    expect(trained).toMatchObject({ iterations: seen.length, settled: true })
    expect(seen.length).toBeLessThan(20)

    const cut = trainCentroids(gaussians(500, 4, 1), { ...options("l2", 4, 30), iterations: 2 })
    expect(cut).toMatchObject({ iterations: 2, settled: false })
  })

  test("refuses a sample with fewer rows than clusters, and says what to do", () => {
    expect(() => trainCentroids(new Float32Array(6), options("l2", 2, 4))).toThrow(
      "4 cluster shards need 4 rows or more to train on, got 3; ask for 3 shards or fewer",
    )
  })
})
