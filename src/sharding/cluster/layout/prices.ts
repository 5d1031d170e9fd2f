/**
 * Balanced shards for rows that stream by: every shard has a price that is taken from its similarity to a
 * row, so that each row can be placed by itself and yet no shard gets too many. Prices are those of an
 * auction (Bertsekas, 1988) among sampled rows.
 */

import { closestPoints, forEachBlock } from "../space/compare.js"
import { hashOrder, saltOf } from "../space/hash.js"
import { groupMembers } from "../space/order.js"
import { createPoints, type Points, type SpaceRows } from "../space/space.js"
import type { Workers } from "../space/workers.js"
import { gatherMembers } from "./clusters.js"

/** Rows of the largest shard over the average. */
const CAPACITY = 1.1
/**
 * A shard that has more of the average raises its price until it has `AIM`: to stop at the capacity would
 * take ten times the rounds.
 */
const OVERFULL = 1.08
const AIM = 1.02
const ROUNDS = 30
/** Rows that bid at most, or so many a shard where that is more. */
const BIDDERS = 65_536
const BIDDERS_PER_SHARD = 256

/** Points whose biases include the prices. */
export type PricedPoints = Points & { readonly bias: Float32Array }

/**
 * Prices for centroids (`shards × dim`) under which shards get at most 1.08 of the average of rows (in the
 * space), or hardly more: in each round an overfull shard raises its price until those of its rows leave that
 * have the least reason to stay.
 */
export function priceShards(
  rows: SpaceRows,
  centroids: Float32Array,
  seed: number,
  workers?: Workers,
): PricedPoints {
  const { dim, metric } = rows
  const unpriced = createPoints(centroids, dim, metric)
  const points = { ...unpriced, bias: unpriced.bias?.slice() ?? new Float32Array(unpriced.count) }
  const most = Math.max(BIDDERS, BIDDERS_PER_SHARD * points.count)
  const bidders =
    rows.rows > most ? hashOrder(rows.rows, saltOf("shards", seed)).slice(0, most).sort() : undefined
  const bidding = gatherMembers(rows, bidders, workers)
  const average = (bidders?.length ?? rows.rows) / points.count
  for (let round = 0; round < ROUNDS; round++) {
    const { point, margin } = closestPoints(bidding.rows, points, bidding.members, workers)
    const { start, members: places } = groupMembers(point, points.count)
    let overfull = false
    for (let shard = 0; shard < points.count; shard++) {
      const own = places.subarray(start[shard]!, start[shard + 1]!)
      if (own.length <= Math.ceil(OVERFULL * average)) continue
      overfull = true
      const margins = Float32Array.from(own, (place) => margin[place]!).sort()
      const leaving = own.length - Math.ceil(AIM * average)
      // Between the last one to leave and the first to stay.
      points.bias[shard]! += (margins[leaving - 1]! + margins[leaving]!) / 2
    }
    if (!overfull) break
  }
  return points
}

/** Assigns rows one after another; a full shard takes no more. */
export interface PricedAssignment {
  /** The shards of some rows in the space. */
  assign(rows: SpaceRows): Int32Array
}

/** For `rows` rows in all. */
export function createPricedAssignment(points: PricedPoints, rows: number): PricedAssignment {
  const shards = points.count
  const load = new Float64Array(shards)
  const capacity = Math.ceil((CAPACITY * rows) / shards)
  return {
    assign(some) {
      const { point } = closestPoints(some, points)
      const homeless: number[] = []
      for (const [row, shard] of point.entries()) {
        if (load[shard]! < capacity) load[shard]!++
        else homeless.push(row)
      }
      forEachBlock(some, points, homeless, true, ({ from, to, similarities, stride }) => {
        for (let place = from; place < to; place++) {
          let best = -1
          for (let shard = 0; shard < shards; shard++) {
            if (load[shard]! >= capacity) continue
            const similarity = similarities[(place - from) * stride + shard]!
            if (best < 0 || similarity > similarities[(place - from) * stride + best]!) best = shard
          }
          load[best]!++
          point[homeless[place]!] = best
        }
      })
      return point
    },
  }
}
