/**
 * Balanced shards for rows that stream by: every shard has a price that is taken from its similarity to a
 * row, so that each row can be placed by itself, whatever others there are, and yet no shard gets too many.
 * Prices are those of an auction (Bertsekas, 1988) among sampled rows.
 */
import { hashValue } from "../../hash.js"
import { closestPoints } from "../space/compare.js"
import { hashOrder, saltOf } from "../space/hash.js"
import { groupMembers } from "../space/order.js"
import { createPoints, type Points, type SpaceRows } from "../space/space.js"
import type { Workers } from "../space/workers.js"
import { gatherMembers } from "./clusters.js"

/**
 * A shard that has more of the average raises its price until it has `AIM`: to stop where it is full would
 * take ten times the rounds. Of all rows the largest shard then has 1.10 to 1.14 of the average.
 */
const OVERFULL = 1.04
const AIM = 1.01
const ROUNDS = 30
/** Rows that bid at most, or so many a shard where that is more. */
const BIDDERS = 65_536
const BIDDERS_PER_SHARD = 256

/** Points whose biases include the prices. */
export type PricedPoints = Points & { readonly bias: Float32Array }

/**
 * Prices for centroids (`shards × dim`) under which shards get at most 1.04 of the average of rows (in the
 * space), or hardly more: in each round an overfull shard raises its price until those of its rows leave that
 * have the least reason to stay. Of equal rows one bids: no price can divide them, and a shard that has them
 * would lose all others first.
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
  const bidders = distinctRows(rows, Math.max(BIDDERS, BIDDERS_PER_SHARD * points.count), seed)
  const bidding = gatherMembers(rows, bidders, workers)
  const average = bidders.length / points.count
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

/** Some of the rows, `most` at most, without those that equal another one of them. */
function distinctRows({ rows, dim, vectors }: SpaceRows, most: number, seed: number): Uint32Array {
  const some = hashOrder(rows, saltOf("shards", seed)).slice(0, most).sort()
  const vector = new Float32Array(dim)
  const bytes = new Uint8Array(vector.buffer)
  const seen = new Set<bigint>()
  return some.filter((row) => {
    vector.set(vectors.subarray(row * dim, (row + 1) * dim))
    const hash = hashValue(bytes)
    return !seen.has(hash) && seen.add(hash)
  })
}
