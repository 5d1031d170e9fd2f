/** Descriptors of shards from their rows: sub-centroids by k-means, shard by shard. */
import type { Descriptors } from "../routing/descriptors.js"
import { closestPoints } from "../space/compare.js"
import { saltOf } from "../space/hash.js"
import { groupMembers } from "../space/order.js"
import { createPoints, type SpaceRows } from "../space/space.js"
import { divide, newFloats, newInts, someOf, type Workers } from "../space/workers.js"
import { gatherMembers, trainClusters } from "./clusters.js"

/** Sub-centroids of a shard at most, and one for at least so many rows. */
const DESCRIPTORS = 128
const ROWS_PER_DESCRIPTOR = 10
/** For the demand for copies only: routing all rows by 128 would cost most of a layout's time. */
export const DEMAND_DESCRIPTORS = 32
const ITERATIONS = 6

/**
 * Sub-centroids of the rows of each shard, in float32. A shard without rows gets a zero one that stands for
 * none.
 */
export function describeShards(
  rows: SpaceRows,
  shardOf: ArrayLike<number>,
  shards: number,
  most: number,
  salt: number,
  workers?: Workers,
): Descriptors {
  const { dim, metric } = rows
  const { start: first, members } = groupMembers(shardOf, shards)
  const start = new Int32Array(shards + 1)
  for (let shard = 0; shard < shards; shard++) {
    const size = first[shard + 1]! - first[shard]!
    start[shard + 1] = start[shard]! + Math.min(most, Math.max(1, Math.floor(size / ROWS_PER_DESCRIPTOR)))
  }
  const vectors = newFloats(start[shards]! * dim, workers)
  const counts = newInts(start[shards]!, workers)
  const partOf = (from: number, to: number): DescribePart => ({
    kind: "describe",
    rows,
    members: someOf(members, first[from]!, first[to]!),
    sizes: Array.from({ length: to - from }, (_, i) => first[from + i + 1]! - first[from + i]!),
    clusters: Array.from({ length: to - from }, (_, i) => start[from + i + 1]! - start[from + i]!),
    salt,
    vectors: vectors.subarray(start[from]! * dim, start[to]! * dim),
    counts: counts.subarray(start[from]!, start[to]!),
  })
  divide(workers, shards, 1, partOf, () => describePart(partOf(0, shards)))
  return { metric, dim, shards, start, vectors, counts }
}

/** Some of the shards to describe, one after another, and where their descriptors go. */
export interface DescribePart {
  readonly kind: "describe"
  readonly rows: SpaceRows
  /** Rows of the first shard, then those of the next ones. */
  readonly members: Int32Array
  /** Rows and descriptors of each shard. */
  readonly sizes: readonly number[]
  readonly clusters: readonly number[]
  readonly salt: number
  readonly vectors: Float32Array
  readonly counts: Int32Array
}

export function describePart({ rows, members, sizes, clusters, salt, vectors, counts }: DescribePart): void {
  const { dim, metric } = rows
  let member = 0
  let descriptor = 0
  for (const [shard, size] of sizes.entries()) {
    const { rows: own, members: apart } = gatherMembers(rows, members.subarray(member, member + size))
    const options = { clusters: clusters[shard]!, iterations: ITERATIONS, salt }
    const centroids = trainClusters(own, options, apart)
    const { point } = closestPoints(own, createPoints(centroids, dim, metric), apart)
    for (const cluster of point) counts[descriptor + cluster]!++
    if (metric === "dot") toMeans(own, apart, point, centroids)
    vectors.set(centroids, descriptor * dim)
    member += size
    descriptor += options.clusters
  }
}

export const describe = (
  rows: SpaceRows,
  shardOf: ArrayLike<number>,
  shards: number,
  seed: number,
  workers?: Workers,
) => describeShards(rows, shardOf, shards, DESCRIPTORS, saltOf("descriptors", seed), workers)

/**
 * Under `dot` rows are grouped by angle, but a query's products are estimated by the mean of the rows as they
 * are.
 */
function toMeans(
  rows: SpaceRows,
  members: ArrayLike<number> | undefined,
  groupOf: Int32Array,
  centroids: Float32Array,
): void {
  const { dim, vectors } = rows
  const sums = new Float64Array(centroids.length)
  const counts = new Int32Array(centroids.length / dim)
  for (let place = 0; place < groupOf.length; place++) {
    const from = (members?.[place] ?? place) * dim
    const to = groupOf[place]! * dim
    for (let i = 0; i < dim; i++) sums[to + i]! += vectors[from + i]!
    counts[groupOf[place]!]!++
  }
  for (let i = 0; i < sums.length; i++) {
    const count = counts[Math.floor(i / dim)]!
    if (count > 0) centroids[i] = sums[i]! / count
  }
}
