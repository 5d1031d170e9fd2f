/**
 * K-means: first centres by ml-kmeans, refined by Lloyd's iterations on the kernel. Spherical under cosine
 * and dot: rows count by direction alone. The same sample, options and seed give the same centroids.
 *
 * Loaded when a build trains, and only then.
 */

import { xxh3 } from "@node-rs/xxhash"
import { kmeans } from "ml-kmeans"
import { invalidInput } from "../../../errors.js"
import { inverseNorm, inverseNorms } from "../../../vectors/distance.js"
import { bestPoints, createPointTable } from "../../../vectors/kernel.js"
import type { Metric } from "../../../vectors/metric.js"
import { createRandom, type Random } from "../../../vectors/random.js"
import { assignmentTable } from "../routing/centroids.js"

export interface TrainingOptions {
  readonly metric: Metric
  readonly dim: number
  /** Number of centroids, K. */
  readonly clusters: number
  /** Rounds of refinement at most. */
  readonly iterations: number
  readonly seed: number
  /** Called after every round. May throw to end the training. */
  readonly onIteration?: ((progress: TrainingProgress) => void) | undefined
}

export interface TrainingProgress {
  /** 1 for the first round. */
  readonly iteration: number
  /** Rows whose nearest centroid is another than in the round before. */
  readonly moved: number
  readonly rows: number
}

export interface TrainedCentroids {
  /**
   * `clusters × dim`, row-major. Of length 1 under cosine; under dot, of the mean inner product with their
   * rows.
   */
  readonly centroids: Float32Array
  /** Rounds that were done. */
  readonly iterations: number
  /** Whether assignments came to rest before the limit of rounds. */
  readonly settled: boolean
}

/** Assignments have come to rest when no more than this share of the rows moves. */
const SETTLED_SHARE = 0.001

/**
 * Centroids of `sample` (row-major, not changed). Throws `InvalidInput` if it has fewer rows than `clusters`.
 * If it has fewer distinct rows, some centroids are equal: their shards, but for the first of each, stay
 * empty.
 */
export function trainCentroids(sample: Float32Array, options: TrainingOptions): TrainedCentroids {
  const { metric, dim, clusters } = options
  const rows = sample.length / dim
  if (rows < clusters) {
    throw invalidInput(
      `${clusters} cluster shards need ${clusters} rows or more to train on, got ${rows}; ask for ${rows} shards or fewer`,
      { shards: clusters, rows },
    )
  }
  const spherical = metric !== "l2"
  // Weights scale every row to length 1 where only its direction counts.
  const weights = spherical ? inverseNorms(sample, dim) : new Float64Array(rows).fill(1)
  const centroids = seedCentroids(sample, weights, options)
  if (spherical) scaleToUnitLength(centroids, dim)

  let assigned: Int32Array = new Int32Array(rows).fill(-1)
  let iteration = 0
  let settled = false
  while (iteration < options.iterations && !settled) {
    iteration++
    const next = bestPoints(sample, assignmentTable(metric, centroids, dim))
    const refilled = refillEmptyClusters(next, sample, weights, centroids, dim)
    const moved = next.reduce((count, cluster, row) => (cluster === assigned[row] ? count : count + 1), 0)
    assigned = next
    moveToMeans(centroids, assigned, sample, weights, dim)
    if (spherical) scaleToUnitLength(centroids, dim)
    options.onIteration?.({ iteration, moved, rows })
    settled = !refilled && moved <= SETTLED_SHARE * rows
  }
  if (metric === "dot") scaleToReach(centroids, sample, dim)
  return { centroids, iterations: iteration, settled }
}

/**
 * Gives centroids of length 1 the mean inner product of their rows with them as length: the inner product of
 * a query with such a centroid estimates those with its rows. A centroid without rows keeps its length.
 */
function scaleToReach(centroids: Float32Array, sample: Float32Array, dim: number): void {
  const assigned = bestPoints(sample, assignmentTable("dot", centroids, dim))
  const reach = new Float64Array(centroids.length / dim)
  for (let row = 0; row < assigned.length; row++) {
    const cluster = assigned[row]!
    for (let i = 0; i < dim; i++) reach[cluster]! += centroids[cluster * dim + i]! * sample[row * dim + i]!
  }
  const counts = countRows(assigned, reach.length)
  for (let cluster = 0; cluster < reach.length; cluster++) {
    const length = reach[cluster]! / counts[cluster]!
    // Not positive only where all rows point away from every centroid; turning this one round would help
    // nobody.
    if (!(length > 0)) continue
    for (let i = cluster * dim; i < (cluster + 1) * dim; i++) centroids[i] = centroids[i]! * length
  }
}

/** Moves every centroid to the weighted mean of its rows; one without rows stays. */
function moveToMeans(
  centroids: Float32Array,
  assigned: Int32Array,
  sample: Float32Array,
  weights: Float64Array,
  dim: number,
): void {
  const sums = new Float64Array(centroids.length)
  const counts = countRows(assigned, centroids.length / dim)
  for (let row = 0; row < assigned.length; row++) {
    const from = row * dim
    const to = assigned[row]! * dim
    const weight = weights[row]!
    for (let i = 0; i < dim; i++) sums[to + i]! += weight * sample[from + i]!
  }
  for (let cluster = 0; cluster < counts.length; cluster++) {
    const start = cluster * dim
    if (counts[cluster] === 0) continue
    for (let i = start; i < start + dim; i++) centroids[i] = sums[i]! / counts[cluster]!
  }
}

function countRows(assigned: Int32Array, clusters: number): Int32Array {
  const counts = new Int32Array(clusters)
  for (const cluster of assigned) counts[cluster]!++
  return counts
}

function scaleToUnitLength(centroids: Float32Array, dim: number): void {
  for (let start = 0; start < centroids.length; start += dim) {
    const centroid = centroids.subarray(start, start + dim)
    const scale = inverseNorm(centroid)
    for (let i = 0; i < dim; i++) centroid[i] = centroid[i]! * scale
  }
}

/** A row nearer to its centroid than this, relative to its own length, is the same point up to rounding. */
const SAME_POINT = 1e-6

/**
 * Gives every empty cluster one row, in `assigned`: the farthest row of the largest cluster, of the second
 * largest for the next one, and so on. A cluster whose rows are all equal cannot be split and gives none.
 * Whether any was given.
 */
function refillEmptyClusters(
  assigned: Int32Array,
  sample: Float32Array,
  weights: Float64Array,
  centroids: Float32Array,
  dim: number,
): boolean {
  const counts = countRows(assigned, centroids.length / dim)
  const empty = [...counts.keys()].filter((cluster) => counts[cluster] === 0)
  if (empty.length === 0) return false

  const farthestRow = new Int32Array(counts.length).fill(-1)
  const farthest = new Float64Array(counts.length)
  for (let row = 0; row < assigned.length; row++) {
    const cluster = assigned[row]!
    let distance = 0
    let length = 0
    for (let i = 0; i < dim; i++) {
      const element = weights[row]! * sample[row * dim + i]!
      distance += (element - centroids[cluster * dim + i]!) ** 2
      length += element * element
    }
    if (length > 0 && distance > SAME_POINT ** 2 * length && distance > farthest[cluster]!) {
      farthest[cluster] = distance
      farthestRow[cluster] = row
    }
  }
  const donors = [...counts.keys()]
    .filter((cluster) => counts[cluster]! > 1 && farthestRow[cluster]! >= 0)
    .sort((a, b) => counts[b]! - counts[a]! || a - b)
    .slice(0, empty.length)
  for (const [i, donor] of donors.entries()) assigned[farthestRow[donor]!] = empty[i]!
  return donors.length > 0
}

// K-means++ costs clusters × rows × dim, and takes one seed after the other. So more than a few clusters are
// seeded in levels: a few first, then each of them is divided, which is many times less work for 1024
// clusters.
const MOST_SEEDS_AT_ONCE = 16
const MOST_SEED_ROWS = 4096
const SEED_ROWS_PER_CLUSTER = 16

function seedCentroids(sample: Float32Array, weights: Float64Array, options: TrainingOptions): Float32Array {
  const { clusters, dim } = options
  const random = createRandom(options.seed)
  const most = Math.max(MOST_SEED_ROWS, SEED_ROWS_PER_CLUSTER * clusters)
  const rows = distinctRows(sample, weights, dim, most, random)
  const seeds = rows.length > clusters ? seedByLevels(rows, clusters, dim, random) : rows
  const centroids = new Float32Array(clusters * dim)
  for (let cluster = 0; cluster < clusters; cluster++)
    centroids.set(seeds[cluster % seeds.length]!, cluster * dim)
  return centroids
}

/** At most `most` different rows, times their weights, in random order. */
function distinctRows(
  sample: Float32Array,
  weights: Float64Array,
  dim: number,
  most: number,
  random: Random,
): Float32Array[] {
  const order = Int32Array.from(weights.keys())
  const seen = new Set<bigint>()
  const distinct: Float32Array[] = []
  for (let i = 0; i < order.length && distinct.length < most; i++) {
    // A step of the Fisher-Yates shuffle.
    const other = i + random.below(order.length - i)
    const row = order[other]!
    order[other] = order[i]!
    // Adding 0 turns -0 into 0: rows that are equal have equal bytes.
    const values = sample.slice(row * dim, (row + 1) * dim).map((value) => value * weights[row]! + 0)
    const digest = xxh3.xxh64(new Uint8Array(values.buffer))
    if (seen.has(digest)) continue
    seen.add(digest)
    distinct.push(values)
  }
  return distinct
}

/** `clusters` seeds from distinct `rows`, of which there are as many or more. */
function seedByLevels(
  rows: readonly Float32Array[],
  clusters: number,
  dim: number,
  random: Random,
): ArrayLike<number>[] {
  if (rows.length <= clusters) return [...rows]
  const groups =
    clusters <= MOST_SEEDS_AT_ONCE ? clusters : Math.min(MOST_SEEDS_AT_ONCE, Math.ceil(Math.sqrt(clusters)))
  const seeds = firstCentres(rows.slice(0, MOST_SEED_ROWS), groups, random)
  if (groups === clusters) return seeds

  const members = nearestGroups(rows, seeds, dim)
  const shares = apportion(
    members.map((group) => group.length),
    clusters,
  )
  return members.flatMap((group, i) => (shares[i] === 0 ? [] : seedByLevels(group, shares[i]!, dim, random)))
}

/**
 * Seeds by k-means++ (Arthur and Vassilvitskii, 2007), each moved to the mean of its rows. `rows` are
 * distinct, and more than `clusters`.
 */
function firstCentres(rows: readonly Float32Array[], clusters: number, random: Random): number[][] {
  const points = rows.map((row) => Array.from(row))
  const seed = random.below(2 ** 31)
  return kmeans(points, clusters, { initialization: "kmeans++", maxIterations: 1, seed }).centroids
}

/** The rows nearest to each seed. */
function nearestGroups(
  rows: readonly Float32Array[],
  seeds: readonly ArrayLike<number>[],
  dim: number,
): Float32Array[][] {
  const elements = Float64Array.from(seeds.flatMap((seed) => Array.from(seed)))
  const squaredNorm = (point: number) =>
    Array.from(seeds[point]!).reduce((sum, value) => sum + value * value, 0)
  const packed = new Float32Array(rows.length * dim)
  for (const [i, row] of rows.entries()) packed.set(row, i * dim)
  const nearest = bestPoints(
    packed,
    createPointTable(elements, dim, squaredNorm, () => 2),
  )
  const groups: Float32Array[][] = seeds.map(() => [])
  for (const [i, row] of rows.entries()) groups[nearest[i]!]!.push(row)
  return groups
}

/**
 * Divides `total` among groups by size: one for each that is not empty, then the next always to the group
 * with most rows per seed, none beyond the group's size. `total` is not more than the sum of sizes nor less
 * than their number.
 */
function apportion(sizes: readonly number[], total: number): number[] {
  const shares = sizes.map((size) => Math.min(size, 1))
  for (let left = total - shares.reduce((sum, share) => sum + share, 0); left > 0; left--) {
    let best = -1
    for (const [group, size] of sizes.entries()) {
      if (shares[group]! >= size) continue
      if (best < 0 || size / (shares[group]! + 1) > sizes[best]! / (shares[best]! + 1)) best = group
    }
    shares[best]!++
  }
  return shares
}
