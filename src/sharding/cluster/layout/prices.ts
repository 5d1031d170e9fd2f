/**
 * Balanced shards for rows that stream by: every shard has a price that is taken from its similarity to a
 * row, so that each row can be placed by itself, whatever others there are, and yet no shard gets too many.
 * Prices are those of an auction (Bertsekas, 1988) among sampled rows.
 */
import { hashValue } from "../../hash.js"
import { closestPoints, forEachBlock } from "../space/compare.js"
import { hashOrder, saltOf } from "../space/hash.js"
import { groupMembers } from "../space/order.js"
import { createPoints, type Points, type SpaceRows } from "../space/space.js"
import type { Workers } from "../space/workers.js"
import { gatherMembers } from "./clusters.js"

/**
 * A shard that has more of the average raises its price until it has `AIM`: to stop where it is full would
 * take ten times the rounds. Of all rows the largest shard then has 1.10 to 1.15 of the average.
 */
const OVERFULL = 1.04
const AIM = 1.01
const ROUNDS = 30
/** Rows that bid at most, or so many a shard where that is more. */
const BIDDERS = 65_536
const BIDDERS_PER_SHARD = 256

/** Points whose biases include the prices. */
export type PricedPoints = Points & { readonly bias: Float32Array }

/** Where rows go, each by itself. */
export interface Placement {
  readonly points: PricedPoints
  /** A row has a copy at its second point if that is less worse than this: 0 for no copies. */
  readonly copyMargin: number
}

/** Copies of every row that has one besides its home: of the rows `of`, rising, in the shards `shard`. */
export interface PlacedRows {
  readonly home: Int32Array
  readonly copies: { readonly of: Int32Array; readonly shard: Int32Array }
}

/** Prices as {@link priceShards} makes them, and the margin by which rows take `budget` times the room. */
export function createPlacement(
  rows: SpaceRows,
  centroids: Float32Array,
  {
    seed,
    budget,
    workers,
  }: { readonly seed: number; readonly budget: number; readonly workers?: Workers | undefined },
): Placement {
  const points = priceShards(rows, centroids, seed, workers)
  if (budget <= 1 || points.count < 2 || rows.rows === 0) return { points, copyMargin: 0 }
  const margins = closestPoints(rows, points, undefined, workers).margin.sort()
  return { points, copyMargin: margins[Math.min(rows.rows - 1, Math.round((budget - 1) * rows.rows))]! }
}

/** A row goes to its best point, and near a border to the second best, too. */
export function placeRows(rows: SpaceRows, { points, copyMargin }: Placement, workers?: Workers): PlacedRows {
  const { point: home, margin } = closestPoints(rows, points, undefined, workers)
  const of = Int32Array.from(home.keys()).filter((row) => margin[row]! < copyMargin)
  const shard = new Int32Array(of.length)
  forEachBlock(rows, points, of, true, ({ from, to, similarities, stride }) => {
    for (let place = from; place < to; place++) {
      const at = (place - from) * stride
      shard[place] = bestBut(similarities.subarray(at, at + points.count), home[of[place]!]!)
    }
  })
  return { home, copies: { of, shard } }
}

/** The place of the largest number, of equal ones the first, but for one place. */
function bestBut(numbers: Float32Array, but: number): number {
  let best = but === 0 ? 1 : 0
  for (let i = best + 1; i < numbers.length; i++) if (i !== but && numbers[i]! > numbers[best]!) best = i
  return best
}

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
