import { expect, test } from "vitest"
import { createPlacement, placeRows, priceShards } from "../../../../../src/sharding/cluster/layout/prices.js"
import { closestPoints } from "../../../../../src/sharding/cluster/space/compare.js"
import { createPoints } from "../../../../../src/sharding/cluster/space/space.js"
import { METRICS } from "../../../../../src/vectors/metric.js"
import { countsOf, groups, inSpace } from "../data.js"

const SHARDS = 6
const DIM = 5
const share = (counts: readonly number[]) =>
  (Math.max(...counts) * counts.length) / counts.reduce((sum, count) => sum + count)
test.each(METRICS)(
  "prices make shards of nearly equal size, and hardly change those that are: %s",
  (metric) => {
    // Two thirds of the rows are around the first centroids.
    const rows = inSpace(groups(3000, DIM, 40, 0.6), DIM, metric)
    const centroids = rows.vectors.slice(0, SHARDS * DIM)
    const unpriced = closestPoints(rows, createPoints(centroids, DIM, metric)).point
    expect(share(countsOf(unpriced, SHARDS))).toBeGreaterThan(1.3)
    const points = priceShards(rows, centroids, 1)
    const priced = closestPoints(rows, points).point
    expect(share(countsOf(priced, SHARDS))).toBeLessThan(1.09)
    // Rows stay where they were unless that shard was overfull.
    const unmoved = [...priced].filter((shard, row) => shard === unpriced[row]).length
    expect(unmoved).toBeGreaterThan(1500)
    // Prices of balanced shards change nothing.
    const again = priceShards({ ...rows, rows: SHARDS, vectors: centroids }, centroids, 1)
    expect(again.bias).toEqual(createPoints(centroids, DIM, metric).bias ?? new Float32Array(SHARDS))
  },
)

test("equal rows count once: they do not raise the price for their neighbours", () => {
  const rows = inSpace(groups(3000, DIM, 40, 0.6), DIM, "cosine")
  const centroids = rows.vectors.slice(0, SHARDS * DIM)
  const expected = priceShards(rows, centroids, 1)
  const vectors = new Float32Array(rows.vectors.length + 2000 * DIM)
  vectors.set(rows.vectors)
  for (let copy = 0; copy < 2000; copy++) {
    vectors.set(rows.vectors.subarray(0, DIM), rows.vectors.length + copy * DIM)
  }
  expect(priceShards({ ...rows, rows: 5000, vectors }, centroids, 1)).toEqual(expected)
})

test.each(METRICS)(
  "rows near a border have a copy in the second shard, as many as the budget has room for: %s",
  (metric) => {
    const rows = inSpace(groups(3000, DIM, 40, 0.6), DIM, metric)
    const centroids = rows.vectors.slice(0, SHARDS * DIM)
    const placement = createPlacement(rows, centroids, { seed: 1, budget: 1.25 })
    const { home, copies } = placeRows(rows, placement)
    expect(Math.abs(copies.of.length - 750)).toBeLessThan(2)
    const { points } = placement
    const similarityOf = (row: number, shard: number): number => {
      let product = 0
      for (let i = 0; i < DIM; i++) product += rows.vectors[row * DIM + i]! * points.vectors[shard * DIM + i]!
      return product - points.bias[shard]!
    }
    const copyOf = new Map([...copies.of].map((row, i) => [row, copies.shard[i]!]))
    let widest = 0
    let narrowest = Infinity
    for (let row = 0; row < rows.rows; row++) {
      const ranked = [...Array(SHARDS).keys()].sort((a, b) => similarityOf(row, b) - similarityOf(row, a))
      const margin = similarityOf(row, ranked[0]!) - similarityOf(row, ranked[1]!)
      if (margin > 1e-5) expect(home[row]).toBe(ranked[0])
      if (copyOf.has(row)) {
        widest = Math.max(widest, margin)
        expect(ranked.slice(0, 2).includes(copyOf.get(row)!) || margin < 1e-5).toBe(true)
        expect(copyOf.get(row)).not.toBe(home[row])
      } else narrowest = Math.min(narrowest, margin)
    }
    expect(widest).toBeLessThan(narrowest + 1e-5)
    // By themselves rows go where they go together.
    const one = { ...rows, rows: 1, vectors: rows.vectors.slice(7 * DIM, 8 * DIM) }
    expect(placeRows(one, placement).home[0]).toBe(home[7])
    expect(createPlacement(rows, centroids, { seed: 1, budget: 1 }).copyMargin).toBe(0)
    expect(placeRows(rows, { ...placement, copyMargin: 0 }).copies.of).toHaveLength(0)
  },
)
