/**
 * K-means for layouts: the sample and the start are the first rows of a hash order, rounds are those of Lloyd. Under
 * `cosine` and `dot` rows count by direction and centroids have length 1 (spherical k-means, Dhillon and Modha, 2001).
 */
import type { Metric } from "../../vectors/metric.js"
import { hashOrder } from "./hash.js"
import { orderByFalling } from "./order.js"
import { blockRows, similarities } from "./similarities.js"
import {
  createPoints,
  gatherRows,
  type Points,
  type SpaceRows,
  scaleToUnitLength,
  squaredLength,
} from "./space.js"

/** A point for each of some rows, and how similar the two are. */
export interface Closest {
  readonly point: Int32Array
  /** Less half the squared length of the row under `l2`, so that rows can be compared with one another. */
  readonly similarity: Float32Array
}

/** The most similar point for each of `members` (all rows if absent); of equal ones the first. */
export function closestPoints(rows: SpaceRows, points: Points, members?: ArrayLike<number>): Closest {
  const { dim } = rows
  const count = members?.length ?? rows.rows
  const closest = { point: new Int32Array(count), similarity: new Float32Array(count) }
  forEachBlock(rows, points, members, (block, from, to) => {
    for (let place = from, at = 0; place < to; place++) {
      let best = -Infinity
      let point = 0
      for (let candidate = 0; candidate < points.count; candidate++, at++) {
        if (block[at]! > best) {
          best = block[at]!
          point = candidate
        }
      }
      closest.point[place] = point
      closest.similarity[place] =
        points.bias === undefined
          ? best
          : best - squaredLength(rows.vectors, members?.[place] ?? place, dim) / 2
    }
  })
  return closest
}

/**
 * Calls `each` with the similarities of one block of rows after another to all points: those of places `from` to
 * `to - 1` of `members`, row-major from the start of `block`, which the next call overwrites.
 */
export function forEachBlock(
  rows: SpaceRows,
  points: Points,
  members: ArrayLike<number> | undefined,
  each: (block: Float32Array, from: number, to: number) => void,
): void {
  const { dim, vectors } = rows
  const count = members?.length ?? rows.rows
  const size = Math.min(blockRows(points.count), Math.max(1, count))
  const block = new Float32Array(size * points.count)
  const gathered = members === undefined ? undefined : new Float32Array(size * dim)
  for (let from = 0; from < count; from += size) {
    const to = Math.min(count, from + size)
    if (members !== undefined) gatherRows(rows, members, from, to, gathered!)
    similarities(gathered ?? vectors.subarray(from * dim, to * dim), to - from, points, block)
    each(block, from, to)
  }
}

export interface ClusterOptions {
  readonly clusters: number
  readonly iterations: number
  readonly salt: number
  /** Rows to train on at most: all if absent. */
  readonly sample?: number
}

/**
 * Centroids (`clusters × dim`) of `members` (all rows if absent). Fewer members than clusters leave the centroids that
 * are too many equal to others: nothing is closest to them. No members: zeros.
 */
export function trainClusters(
  rows: SpaceRows,
  options: ClusterOptions,
  members?: ArrayLike<number>,
): Float32Array {
  const { clusters, iterations, salt } = options
  const { dim, metric } = rows
  const count = members?.length ?? rows.rows
  const centroids = new Float32Array(clusters * dim)
  if (count === 0) return centroids
  const sample = hashOrder(count, salt).subarray(0, options.sample ?? count)
  if (members !== undefined) for (let i = 0; i < sample.length; i++) sample[i] = members[sample[i]!]!
  for (let cluster = 0; cluster < clusters; cluster++) {
    const row = sample[cluster % sample.length]!
    centroids.set(rows.vectors.subarray(row * dim, (row + 1) * dim), cluster * dim)
  }
  if (metric === "dot") scaleToUnitLength(centroids, dim)
  let before: Int32Array | undefined
  for (let round = 0; round < iterations; round++) {
    const { point, similarity } = closestPoints(rows, createPoints(centroids, dim, metric), sample)
    if (before?.every((cluster, i) => cluster === point[i])) break // a round more would change nothing
    before = point
    const sums = sumByGroup(rows, point, clusters, sample)
    refillEmpty(rows, sums, sample, similarity)
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

/** An empty cluster takes the row of the sample that fits worst where it is, the next one the second worst. */
function refillEmpty(
  { vectors, dim }: SpaceRows,
  { sums, counts }: GroupSums,
  sample: ArrayLike<number>,
  similarity: Float32Array,
): void {
  if (counts.every((count) => count > 0)) return
  const worst = orderByFalling(similarity.map((value) => 0 - value))
  let taken = 0
  for (let cluster = 0; cluster < counts.length && taken < worst.length; cluster++) {
    if (counts[cluster]! > 0) continue
    const row = sample[worst[taken++]!]!
    for (let i = 0; i < dim; i++) sums[cluster * dim + i] = vectors[row * dim + i]!
    counts[cluster] = 1
  }
}

/** Means of the sums into `centroids`, of length 1 unless the metric is `l2`. A group without rows keeps its centroid. */
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
