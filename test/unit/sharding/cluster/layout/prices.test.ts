import { expect, test } from "vitest"
import { createPricedAssignment, priceShards } from "../../../../../src/sharding/cluster/layout/prices.js"
import { closestPoints } from "../../../../../src/sharding/cluster/space/compare.js"
import { createPoints, type SpaceRows } from "../../../../../src/sharding/cluster/space/space.js"
import { METRICS } from "../../../../../src/vectors/metric.js"
import { countsOf, groups, inSpace } from "../data.js"

const SHARDS = 6
const DIM = 5
const share = (counts: readonly number[]) =>
  (Math.max(...counts) * counts.length) / counts.reduce((sum, count) => sum + count)
const part = (rows: SpaceRows, from: number, to: number): SpaceRows => ({
  ...rows,
  rows: to - from,
  vectors: rows.vectors.slice(from * DIM, to * DIM),
})

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

test("rows are placed one by one or all at once alike, and a full shard takes no more", () => {
  const rows = inSpace(groups(3000, DIM, 40, 0.6), DIM, "cosine")
  const points = priceShards(rows, rows.vectors.slice(0, SHARDS * DIM), 1)
  const whole = createPricedAssignment(points, 3000).assign(rows)
  const stepwise = createPricedAssignment(points, 3000)
  const parts = [0, 1, 500, 3000].slice(1).map((to, i) => {
    return stepwise.assign(part(rows, [0, 1, 500][i]!, to))
  })
  expect(parts.flatMap((shards) => [...shards])).toEqual([...whole])
  // Equal rows want to go to the same shard, whatever the prices are.
  const equal = inSpace(new Float32Array(600 * DIM).fill(0.5), DIM, "cosine")
  const counts = countsOf(createPricedAssignment(points, 600).assign(equal), SHARDS)
  expect(counts.reduce((sum, count) => sum + count)).toBe(600)
  expect(Math.max(...counts)).toBe(110)
})
