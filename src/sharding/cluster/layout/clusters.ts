/**
 * K-means for layouts: the sample and the start are the first rows of a hash order, rounds are those of
 * Lloyd. Under `cosine` and `dot` rows count by direction and centroids have length 1 (spherical k-means,
 * Dhillon and Modha, 2001).
 */
import type { Metric } from "../../../vectors/metric.js"
import { type Closest, closestPoints } from "../space/compare.js"
import { hashOrder } from "../space/hash.js"
import { orderByFalling } from "../space/order.js"
import {
  createPoints,
  gatherRows,
  type Points,
  type SpaceRows,
  scaleToUnitLength,
  squaredLength,
} from "../space/space.js"
import { newFloats, type Workers } from "../space/workers.js"

export interface ClusterOptions {
  readonly clusters: number
  readonly iterations: number
  readonly salt: number
  /** Rows to train on at most: all if absent. */
  readonly sample?: number | undefined
  /** With one the rows must be in shared memory. */
  readonly workers?: Workers | undefined
}

/** Rows that take more are not copied: they would count in the memory of a build. */
const GATHERED_BYTES = 2 ** 25

/**
 * Some rows (all if absent) as rows of their own, one after another, as far as there is room for them: to
 * look at them again and again where they lie apart would mostly be waiting for memory.
 */
export function gatherMembers(
  rows: SpaceRows,
  members: ArrayLike<number> | undefined,
  workers?: Workers,
): { readonly rows: SpaceRows; readonly members?: ArrayLike<number> } {
  if (members === undefined) return { rows }
  if (4 * rows.dim * members.length > GATHERED_BYTES) return { rows, members }
  const vectors = newFloats(members.length * rows.dim, workers)
  gatherRows(rows, members, 0, members.length, vectors)
  return { rows: { ...rows, rows: members.length, vectors } }
}

/** Finds the closest points of some rows, like `closestPoints`. */
export type Search = (
  rows: SpaceRows,
  points: Points,
  members?: ArrayLike<number>,
  workers?: Workers,
) => Pick<Closest, "point" | "similarity">

/**
 * Centroids (`clusters × dim`) of `members` (all rows if absent). Fewer members than clusters leave the
 * centroids that are too many equal to others: nothing is closest to them. No members: zeros.
 */
export function trainClusters(
  rows: SpaceRows,
  options: ClusterOptions,
  members?: ArrayLike<number>,
  search: Search = closestPoints,
): Float32Array {
  const { clusters, iterations, salt } = options
  const { dim, metric } = rows
  const count = members?.length ?? rows.rows
  const centroids = new Float32Array(clusters * dim)
  if (count === 0) return centroids
  const order = hashOrder(count, salt).subarray(0, options.sample ?? count)
  if (members !== undefined) for (let i = 0; i < order.length; i++) order[i] = members[order[i]!]!
  for (let cluster = 0; cluster < clusters; cluster++) {
    const row = order[cluster % order.length]!
    centroids.set(rows.vectors.subarray(row * dim, (row + 1) * dim), cluster * dim)
  }
  if (metric === "dot") scaleToUnitLength(centroids, dim)
  const { rows: own, members: sample } = gatherMembers(rows, order, options.workers)
  let before: Int32Array | undefined
  for (let round = 0; round < iterations; round++) {
    const { point, similarity } = search(own, createPoints(centroids, dim, metric), sample, options.workers)
    if (before?.every((cluster, i) => cluster === point[i])) break // a round more would change nothing
    before = point
    const sums = sumByGroup(own, point, clusters, sample)
    refillEmpty(own, sums, sample, similarity)
    toCentroids(sums, metric, centroids)
  }
  return centroids
}

/** Sums of rows by group, and how many there are of each. */
export interface GroupSums {
  readonly sums: Float64Array
  readonly counts: Float64Array
}

/** Sums of `members` (all rows if absent) by their groups; under `dot` of rows at length 1. */
export function sumByGroup(
  { vectors, dim, metric, rows }: SpaceRows,
  groupOf: ArrayLike<number>,
  groups: number,
  members?: ArrayLike<number>,
): GroupSums {
  const sums = new Float64Array(groups * dim)
  const counts = new Float64Array(groups)
  const count = members?.length ?? rows
  for (let place = 0; place < count; place++) {
    const row = members?.[place] ?? place
    const group = groupOf[place]!
    const from = row * dim
    const to = group * dim
    if (metric === "dot") {
      const weight = 1 / Math.max(Math.sqrt(squaredLength(vectors, row, dim)), 1e-12)
      for (let i = 0; i < dim; i++) sums[to + i]! += weight * vectors[from + i]!
    } else {
      for (let i = 0; i < dim; i++) sums[to + i]! += vectors[from + i]!
    }
    counts[group]!++
  }
  return { sums, counts }
}

/**
 * An empty cluster takes the row of the sample that fits worst where it is, the next one the second worst.
 */
function refillEmpty(
  { vectors, dim }: SpaceRows,
  { sums, counts }: GroupSums,
  sample: ArrayLike<number> | undefined,
  similarity: Float32Array,
): void {
  if (counts.every((count) => count > 0)) return
  const worst = orderByFalling(similarity.map((value) => 0 - value))
  let taken = 0
  for (let cluster = 0; cluster < counts.length && taken < worst.length; cluster++) {
    if (counts[cluster]! > 0) continue
    const place = worst[taken++]!
    const row = sample?.[place] ?? place
    for (let i = 0; i < dim; i++) sums[cluster * dim + i] = vectors[row * dim + i]!
    counts[cluster] = 1
  }
}

/**
 * Means of the sums into `centroids`, of length 1 unless the metric is `l2`. A group without rows keeps its
 * centroid.
 */
export function toCentroids({ sums, counts }: GroupSums, metric: Metric, centroids: Float32Array): void {
  const dim = centroids.length / counts.length
  for (let group = 0; group < counts.length; group++) {
    if (counts[group] === 0) continue
    let scale = 1 / counts[group]!
    if (metric !== "l2") {
      let squares = 0
      for (let i = group * dim; i < (group + 1) * dim; i++) squares += sums[i]! * sums[i]!
      scale = 1 / Math.max(Math.sqrt(squares), 1e-12)
    }
    for (let i = group * dim; i < (group + 1) * dim; i++) centroids[i] = sums[i]! * scale
  }
}
