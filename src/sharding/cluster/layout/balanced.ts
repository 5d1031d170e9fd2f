/** Layout A: k-means under a capacity. */

import { closestPoints, forEachBlock } from "../space/compare.js"
import { hashOrder, saltOf } from "../space/hash.js"
import { orderByFalling } from "../space/order.js"
import { createPoints, type Points, type SpaceRows } from "../space/space.js"
import type { Workers } from "../space/workers.js"
import { gatherMembers, sumByGroup, toCentroids } from "./clusters.js"

/** Rows of the largest shard over the average. */
const CAPACITY = 1.1
const ROUNDS = 6
/** Rows that are compared with all points together. */
const PREFERENCES_AT_ONCE = 512
/** Rows that all rounds but the last see at most, or so many a shard where that is more. */
const SAMPLE_ROWS = 32_768
const SAMPLE_ROWS_PER_SHARD = 256

export interface CapacityOptions {
  /** Whole numbers, 1 if absent. */
  readonly weights?: ArrayLike<number> | undefined
  /** The rows that are assigned: all if absent. */
  readonly members?: ArrayLike<number> | undefined
  /** With one the rows must be in shared memory. */
  readonly workers?: Workers | undefined
}

/**
 * The point of each of `members`. Every row goes to the most similar point that has room, rows with the
 * largest margin between their best two first. A row that finds none goes where least is.
 *
 * Only a row whose first choice is full is compared with all points, then: preferences of all rows would take
 * 8 × points bytes a row.
 */
export function assignWithCapacity(
  rows: SpaceRows,
  points: Points,
  capacity: number,
  { weights, members, workers }: CapacityOptions = {},
): Int32Array {
  const { point, margin } = closestPoints(rows, points, members, workers)
  const order = orderByFalling(margin)
  const load = new Float64Array(points.count)
  const waiting: number[] = []
  const assigned = new Int32Array(order.length)
  const most = Math.floor(capacity)
  const put = (row: number, shard: number) => {
    assigned[row] = shard
    load[shard]! += weights?.[row] ?? 1
  }
  // Rows that wait are compared together, but get their places in the order of all: one that waits may not be
  // overtaken.
  const settle = () => {
    if (waiting.length === 0) return
    const ids = members === undefined ? waiting : waiting.map((row) => members[row]!)
    forEachBlock(rows, points, ids, true, ({ from, to, similarities, stride }) => {
      for (let i = from; i < to; i++) {
        const row = waiting[i]!
        const own = similarities.subarray((i - from) * stride, (i - from) * stride + points.count)
        put(row, bestWithRoom(own, load, weights?.[row] ?? 1, most))
      }
    })
    waiting.length = 0
  }
  for (const row of order) {
    const weight = weights?.[row] ?? 1
    if (waiting.length === 0 && load[point[row]!]! + weight <= most) {
      put(row, point[row]!)
      continue
    }
    waiting.push(row)
    if (waiting.length === PREFERENCES_AT_ONCE) settle()
  }
  settle()
  return assigned
}

function bestWithRoom(similarity: Float32Array, load: Float64Array, weight: number, most: number): number {
  let best = -1
  let emptiest = 0
  for (let shard = 0; shard < load.length; shard++) {
    if (load[shard]! < load[emptiest]!) emptiest = shard
    if (load[shard]! + weight > most) continue
    if (best < 0 || similarity[shard]! > similarity[best]!) best = shard
  }
  return best < 0 ? emptiest : best
}

/** The shard of each row, from the centroids of plain k-means (`shards × dim`). */
export function balancedLayout(
  rows: SpaceRows,
  shards: number,
  centroids: Float32Array,
  seed: number,
  workers?: Workers,
): Int32Array {
  const moved = createPoints(balancedCentroids(rows, shards, centroids, seed, workers), rows.dim, rows.metric)
  return assignWithCapacity(rows, moved, (CAPACITY * rows.rows) / shards + 1, { workers })
}

/** Centroids that moved in rounds of assignment under the capacity, over a sample. */
export function balancedCentroids(
  rows: SpaceRows,
  shards: number,
  centroids: Float32Array,
  seed: number,
  workers?: Workers,
): Float32Array {
  const most = Math.max(SAMPLE_ROWS, SAMPLE_ROWS_PER_SHARD * shards)
  const sample =
    rows.rows > most ? hashOrder(rows.rows, saltOf("shards", seed)).slice(0, most).sort() : undefined
  const { rows: own, members } = gatherMembers(rows, sample, workers)
  const moving = centroids.slice()
  const capacity = (CAPACITY * (sample?.length ?? rows.rows)) / shards + 1
  for (let round = 1; round < ROUNDS; round++) {
    const points = createPoints(moving, rows.dim, rows.metric)
    const shardOf = assignWithCapacity(own, points, capacity, { members, workers })
    toCentroids(sumByGroup(own, shardOf, shards, members), rows.metric, moving)
  }
  return moving
}
