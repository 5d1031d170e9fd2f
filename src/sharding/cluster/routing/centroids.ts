/** Records and queries by one centroid a shard: the layout `plain`, and what compares snapshots. */
import { createPointTable, type PointTable, pointScores } from "../../../vectors/kernel.js"
import type { Metric } from "../../../vectors/metric.js"
import type { NpyArray } from "../../../vectors/npy.js"
import type { RankedShard } from "../../strategy.js"

/** Compares records with centroids, to assign them. */
export function assignmentTable(metric: Metric, centroids: NpyArray["data"], dim: number): PointTable {
  return routingTable(metric === "dot" ? "cosine" : metric, centroids, dim)
}

/** Compares queries with centroids, to rank them. */
export function routingTable(metric: Metric, centroids: NpyArray["data"], dim: number): PointTable {
  const squaredNorm = (point: number): number => {
    let sum = 0
    for (let i = point * dim; i < (point + 1) * dim; i++) sum += centroids[i]! * centroids[i]!
    return sum
  }
  const zero = () => 0
  switch (metric) {
    case "l2": // the squared distance, less the squared length of the query
      return createPointTable(centroids, dim, squaredNorm, () => 2)
    case "cosine": // -cos times the length of the query; 0 for a centroid that is zero
      return createPointTable(centroids, dim, zero, (point) => 1 / Math.sqrt(squaredNorm(point) || Infinity))
    case "dot":
      return createPointTable(centroids, dim, zero, () => 1)
  }
}

/** All centroids with their scores, best first; of equal ones the one with the lower number first. */
export function rankCentroids(table: PointTable, query: ArrayLike<number>): RankedShard[] {
  return Array.from(pointScores(query, table), (score, shard) => ({ shard, score })).sort(
    (a, b) => a.score - b.score || a.shard - b.shard,
  )
}
