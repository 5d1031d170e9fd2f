import { expect, test } from "vitest"
import { priceShards } from "../../../../../src/sharding/cluster/layout/prices.js"
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
