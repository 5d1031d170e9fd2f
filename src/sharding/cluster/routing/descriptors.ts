/**
 * Routing descriptors: up to 128 sub-centroids of every shard, in 4 bits, each with the number of rows it
 * stands for. A shard's score for a query is Σ n exp(β similarity): how many of its rows may be expected near
 * the query.
 */
import type { Metric } from "../../../vectors/metric.js"
import { forEachBlock } from "../space/compare.js"
import { createPoints, type Points, type SpaceRows, squaredLength } from "../space/space.js"
import { divide, newFloats, newShorts, partOfRows, type Workers } from "../space/workers.js"

export interface Descriptors {
  readonly metric: Metric
  readonly dim: number
  readonly shards: number
  /** Those of shard s are `start[s] … start[s + 1] - 1`. */
  readonly start: Int32Array
  /** `count × dim`, in the space of the rows. */
  readonly vectors: Float32Array
  /** Rows that each one stands for. */
  readonly counts: Int32Array
}

/** Components as whole numbers from -7 to 7, times one scale a descriptor. */
export interface FourBits {
  /** 8 components in an int32, lowest bits first, two's complement; rows of `ceil(dim / 8)`. */
  readonly packed: Int32Array
  /** The largest component over 7. */
  readonly scales: Float32Array
}

const LARGEST = 7

export function toFourBits(vectors: Float32Array, dim: number): FourBits {
  const count = vectors.length / dim
  const width = Math.ceil(dim / 8)
  const packed = new Int32Array(count * width)
  const scales = new Float32Array(count)
  for (let row = 0; row < count; row++) {
    let largest = 0
    for (let i = row * dim; i < (row + 1) * dim; i++) largest = Math.max(largest, Math.abs(vectors[i]!))
    const scale = Math.fround(Math.max(largest, 1e-12) / LARGEST) // a mean of opposite rows is zero
    scales[row] = scale
    for (let i = 0; i < dim; i++) {
      const value = Math.max(-LARGEST, Math.min(LARGEST, Math.round(vectors[row * dim + i]! / scale)))
      packed[row * width + (i >>> 3)]! |= (value & 15) << (4 * (i & 7))
    }
  }
  return { packed, scales }
}

/** Points as small whole numbers times a scale each. */
export interface CodedPoints {
  /** `count × dim`, from -`most` to `most`. */
  readonly codes: Int8Array
  readonly scales: Float32Array
  readonly most: number
}

/** The whole numbers, one a byte, with their scales. */
export function fourBitCodes({ packed, scales }: FourBits, dim: number): CodedPoints {
  const width = Math.ceil(dim / 8)
  const codes = new Int8Array(scales.length * dim)
  for (let row = 0; row < scales.length; row++) {
    for (let i = 0; i < dim; i++) {
      const word = packed[row * width + (i >>> 3)]!
      codes[row * dim + i] = (word << (28 - 4 * (i & 7))) >> 28
    }
  }
  return { codes, scales, most: LARGEST }
}

export function fromFourBits({ packed, scales }: FourBits, dim: number): Float32Array {
  const { codes } = fourBitCodes({ packed, scales }, dim)
  const vectors = new Float32Array(codes.length)
  for (const [row, scale] of scales.entries()) {
    for (let i = row * dim; i < (row + 1) * dim; i++) vectors[i] = codes[i]! * scale
  }
  return vectors
}

/** The same as they are after packing. */
export function inFourBits(descriptors: Descriptors): Descriptors {
  const { vectors, dim } = descriptors
  return { ...descriptors, vectors: fromFourBits(toFourBits(vectors, dim), dim) }
}

/** Prepared to score queries with. */
export interface ScoringTable {
  readonly shards: number
  readonly start: Int32Array
  readonly points: Points
  readonly logCounts: Float64Array
  readonly beta: number
}

export function createScoring(descriptors: Descriptors, beta: number): ScoringTable {
  const { shards, start, vectors, dim, metric, counts } = descriptors
  return {
    shards,
    start,
    points: createPoints(vectors, dim, metric),
    // One that stands for no row counts half: it may stand for rows that come later.
    logCounts: Float64Array.from(counts, (count) => Math.log(Math.max(count, 0.5))),
    beta,
  }
}

/**
 * Terms smaller than the largest by this factor's exponent are left out: together they are below float32's
 * rounding.
 */
const NEGLIGIBLE = 24
/** Table entries of {@link expOfMinus} for a difference of 1. */
const STEPS = 64
const POWERS = Float64Array.from({ length: NEGLIGIBLE * STEPS + 1 }, (_, i) => Math.exp(-i / STEPS))

/**
 * `exp(-x)` for 0 ≤ x < 24 with a relative error below 3e-9, several times as fast as `Math.exp`, of which
 * routing would need thousands a query: a table, and the exponential series to the third power for the rest.
 */
function expOfMinus(x: number): number {
  const step = (x * STEPS) | 0
  const rest = x - step / STEPS
  return POWERS[step]! * (1 - rest * (1 - rest * (1 / 2 - rest / 6)))
}

/**
 * Scores of all shards from a query's similarities to all descriptors, up to a factor that is the same for
 * all.
 */
export function shardScores(
  { shards, start, logCounts, points }: ScoringTable,
  beta: number,
  similarities: Float32Array,
  out: Float64Array,
): void {
  let largest = -Infinity
  for (let i = 0; i < points.count; i++) {
    const exponent = beta * similarities[i]! + logCounts[i]!
    if (exponent > largest) largest = exponent
  }
  for (let shard = 0; shard < shards; shard++) {
    let sum = 0
    for (let i = start[shard]!; i < start[shard + 1]!; i++) {
      const below = largest - beta * similarities[i]! - logCounts[i]!
      if (below < NEGLIGIBLE) sum += expOfMinus(below)
    }
    out[shard] = sum
  }
}

/** Scores that are negligible are all 0; shards are then told apart by their best descriptor. */
export function breakTies(
  { shards, start }: ScoringTable,
  similarities: Float32Array,
  scores: Float64Array,
): void {
  for (let shard = 0; shard < shards; shard++) {
    if (scores[shard] !== 0) continue
    let best = -Infinity
    for (let i = start[shard]!; i < start[shard + 1]!; i++) best = Math.max(best, similarities[i]!)
    scores[shard] = TINY * Math.exp(Math.max(-600, Math.min(600, best))) // far below any sum, and in order
  }
}
const TINY = 1e-40

/** Ranked shards of some queries. `shown` is how many ranks are kept. */
export interface Routings {
  readonly queries: number
  readonly shards: number
  readonly shown: number
  /** `queries × shown`: shards, best first. */
  readonly ranked: Uint16Array
  /** `queries × shown`: their scores, which sum to 1 over all shards of a query. */
  readonly scores: Float32Array
  /** The largest similarity to any descriptor (under `l2`: minus half the squared distance). */
  readonly familiarity: Float32Array
}

/**
 * Routes rows or prepared queries: `members` of them, all if absent. `shown` ranks are kept, all shards by
 * default; with `withScores` false only the order is (2 bytes a rank). With workers the queries must be in
 * shared memory.
 */
export function routeAll(
  table: ScoringTable,
  queries: SpaceRows,
  members?: ArrayLike<number>,
  shown = table.shards,
  withScores = true,
  workers?: Workers,
): Routings {
  const count = members?.length ?? queries.rows
  const routings = {
    queries: count,
    shards: table.shards,
    shown,
    ranked: newShorts(count * shown, workers),
    scores: newFloats(withScores ? count * shown : 0, workers),
    familiarity: newFloats(count, workers),
  }
  divide(
    workers,
    count,
    LEAST_QUERIES,
    (from, to) => ({
      kind: "route",
      table,
      ...partOfRows(queries, members, from, to),
      routings: {
        ...routings,
        queries: to - from,
        ranked: routings.ranked.subarray(from * shown, to * shown),
        scores: routings.scores.subarray(from * shown, to * shown),
        familiarity: routings.familiarity.subarray(from, to),
      },
    }),
    () => routePart({ table, rows: queries, members, routings }),
  )
  return routings
}

/** Fewer queries are not worth a copy of all descriptors. */
export const LEAST_QUERIES = 256

/** Some of the queries to route, and where their ranks go; without scores if there is no room for them. */
export interface RoutePart {
  readonly kind: "route"
  readonly table: ScoringTable
  /** The queries, or those of which `members` names some. */
  readonly rows: SpaceRows
  readonly members: ArrayLike<number> | undefined
  readonly routings: Routings
}

export function routePart({ table, rows: queries, members, routings }: Omit<RoutePart, "kind">): void {
  const { shown, ranked, scores: kept, familiarity } = routings
  const withScores = kept.length > 0
  const scores = new Float64Array(table.shards)
  const order = new Uint16Array(table.shards)
  forEachBlock(queries, table.points, members, true, ({ from, to, similarities, stride }) => {
    for (let place = from; place < to; place++) {
      const at = (place - from) * stride
      const own = similarities.subarray(at, at + table.points.count)
      familiarity[place] = largestOf(own) - lengthTerm(queries, members?.[place] ?? place)
      const sum = rankShards(table, own, scores, order, shown)
      for (let rank = 0; rank < shown; rank++) {
        ranked[place * shown + rank] = order[rank]!
        if (withScores) kept[place * shown + rank] = scores[order[rank]!]! / sum
      }
    }
  })
}

const lengthTerm = (queries: SpaceRows, row: number): number =>
  queries.metric === "l2" ? squaredLength(queries.vectors, row, queries.dim) / 2 : 0

export function largestOf(values: Float32Array): number {
  let largest = -Infinity
  for (let i = 0; i < values.length; i++) if (values[i]! > largest) largest = values[i]!
  return largest
}

/** So many ranks are inserted one by one, which is faster than sorting. */
const INSERTED = 64

/** {@link shardScores} into `scores` and {@link orderShards} of them into `order`; the sum of all scores. */
export function rankShards(
  table: ScoringTable,
  similarities: Float32Array,
  scores: Float64Array,
  order: Uint16Array,
  shown: number,
  beta = table.beta,
): number {
  shardScores(table, beta, similarities, scores)
  breakTies(table, similarities, scores)
  return orderShards(scores, order, shown)
}

/** The `shown` shards with the best scores into `order`, of equal ones the first; the sum of all scores. */
export function orderShards(scores: Float64Array, order: Uint16Array, shown: number): number {
  const shards = scores.length
  let sum = 0
  for (let shard = 0; shard < shards; shard++) sum += scores[shard]!
  if (shown > INSERTED) {
    for (let shard = 0; shard < shards; shard++) order[shard] = shard
    order.sort((a, b) => scores[b]! - scores[a]! || a - b)
    return sum
  }
  let count = 0
  for (let shard = 0; shard < shards; shard++) {
    const score = scores[shard]!
    if (count === shown && score <= scores[order[count - 1]!]!) continue
    let place = count < shown ? count++ : count - 1
    while (place > 0 && scores[order[place - 1]!]! < score) {
      order[place] = order[place - 1]!
      place--
    }
    order[place] = shard
  }
  return sum
}
