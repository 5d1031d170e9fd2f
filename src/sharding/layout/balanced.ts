/** Layout A: k-means under a capacity. */
import { sumByGroup, toCentroids } from "./clusters.js"
import { closestPoints, forEachBlock } from "./compare.js"
import { orderByFalling } from "./order.js"
import { createPoints, type Points, type SpaceRows } from "./space.js"

/** Rows of the largest shard over the average. */
const CAPACITY = 1.1
const ROUNDS = 6
/** Rows that are compared with all points together. */
const PREFERENCES_AT_ONCE = 512

/**
 * Every row goes to the most similar point that has room, rows with the largest margin between their best two first. A row
 * that finds none goes where least is. `weights` are whole numbers, 1 if absent.
 *
 * Only a row whose first choice is full is compared with all points, then: preferences of all rows would take
 * 8 × points bytes a row.
 */
export function assignWithCapacity(
  rows: SpaceRows,
  points: Points,
  capacity: number,
  weights?: ArrayLike<number>,
): Int32Array {
  const { point, margin } = closestPoints(rows, points)
  const order = orderByFalling(margin)
  const load = new Float64Array(points.count)
  const waiting: number[] = []
  const assigned = new Int32Array(rows.rows)
  const most = Math.floor(capacity)
  const place = (row: number, shard: number) => {
    assigned[row] = shard
    load[shard]! += weights?.[row] ?? 1
  }
  // Rows that wait are compared together, but get their places in the order of all: one that waits may not be overtaken.
  const settle = () => {
    if (waiting.length === 0) return
    forEachBlock(rows, points, waiting, true, ({ from, to, similarities, stride }) => {
      for (let i = from; i < to; i++) {
        const row = waiting[i]!
        const own = similarities.subarray((i - from) * stride, (i - from) * stride + points.count)
        place(row, bestWithRoom(own, load, weights?.[row] ?? 1, most))
      }
    })
    waiting.length = 0
  }
  for (const row of order) {
    const weight = weights?.[row] ?? 1
    if (waiting.length === 0 && load[point[row]!]! + weight <= most) {
      place(row, point[row]!)
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
export function balancedLayout(rows: SpaceRows, shards: number, centroids: Float32Array): Int32Array {
  const capacity = (CAPACITY * rows.rows) / shards + 1
  const moving = centroids.slice()
  let shardOf = new Int32Array(rows.rows)
  for (let round = 0; round < ROUNDS; round++) {
    shardOf = assignWithCapacity(
      rows,
      createPoints(moving, rows.dim, rows.metric),
      capacity,
    ) as typeof shardOf
    toCentroids(sumByGroup(rows, shardOf, shards), rows.metric, moving)
  }
  return shardOf
}
