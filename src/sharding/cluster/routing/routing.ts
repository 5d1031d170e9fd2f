/**
 * What a router needs when it is asked: descriptors, and the rule for how many shards to probe. As arrays
 * that lie in `.npy` files of a snapshot, and as a function that ranks shards.
 */
import { corrupt, invalidInput } from "../../../errors.js"
import { METRICS, type Metric } from "../../../vectors/metric.js"
import type { AnyNpyArray } from "../../../vectors/npy.js"
import { type Preparation, prepareQueries, squaredLength } from "../space/space.js"
import { createScoring, type Descriptors, fromFourBits, orderShards, toFourBits } from "./descriptors.js"
import { createShardScorer } from "./scorer.js"
import { GAIN_SHAPE, type RankedQuery, type StoppingRule, TARGETS } from "./stopping.js"

/** All that routing goes by. */
export interface Routing {
  readonly preparation: Preparation
  readonly descriptors: Descriptors
  readonly beta: number
  readonly stopping: StoppingRule
}

/** An array of a routing artifact, as in a `.npy` file. */
export interface RoutingArray {
  readonly shape: readonly number[]
  readonly data: Float32Array | Float64Array | Int32Array
}

/**
 * Files of a snapshot's routing, K shards, D descriptors, dimension d:
 *
 * | file | type, shape | what |
 * |---|---|---|
 * | `descriptors.npy` | i4, D × ⌈d / 8⌉ | 8 components an int32, lowest bits first, -7 to 7 |
 * | `descriptor-scales.npy` | f4, D | multiplies the components |
 * | `descriptor-counts.npy` | i4, D | rows that each stands for |
 * | `descriptor-starts.npy` | i4, K + 1 | those of shard s are start[s] … start[s + 1] - 1 |
 * | `routing-space.npy` | f8, d + 2 | β, the scale of rows, the origin that is taken from queries (l2) |
 * | `gains.npy` | f4, 11 × 32 × 8 | expected gain by rank, score and familiarity |
 * | `familiarity.npy` | f4, 9 | the edges of the octiles, then those of unfamiliar and of unlike queries |
 * | `thresholds.npy` | f4, 2 × 2 × 101 | by target .5 … 1: thresholds, recall; unfamiliar, familiar |
 */
export const ROUTING_FILES = {
  descriptors: "descriptors.npy",
  scales: "descriptor-scales.npy",
  counts: "descriptor-counts.npy",
  starts: "descriptor-starts.npy",
  space: "routing-space.npy",
  gains: "gains.npy",
  familiarity: "familiarity.npy",
  thresholds: "thresholds.npy",
} as const

type FileName = (typeof ROUTING_FILES)[keyof typeof ROUTING_FILES]
export type RoutingArrays = Readonly<Record<FileName, RoutingArray>>

/**
 * Numbers of all descriptors, at most. They take eight times the memory of what is stored: this is a
 * gigabyte, that of some 170,000 descriptors of 1,536 dimensions.
 */
const DESCRIPTOR_VALUES_MAX = 2 ** 28

const OCTILE_EDGES = GAIN_SHAPE[2] - 1

export function packRouting({ preparation, descriptors, beta, stopping }: Routing): RoutingArrays {
  const { dim, origin, scale } = preparation
  const { packed, scales } = toFourBits(descriptors.vectors, dim)
  const { octiles, gains, unfamiliarBelow, unlikeBelow, thresholds, reached } = stopping
  const count = scales.length
  if (count * dim > DESCRIPTOR_VALUES_MAX) throw tooMany(count, dim, invalidInput)
  return {
    [ROUTING_FILES.descriptors]: { shape: [count, Math.ceil(dim / 8)], data: packed },
    [ROUTING_FILES.scales]: { shape: [count], data: scales },
    [ROUTING_FILES.counts]: { shape: [count], data: descriptors.counts },
    [ROUTING_FILES.starts]: { shape: [descriptors.start.length], data: descriptors.start },
    [ROUTING_FILES.space]: { shape: [dim + 2], data: Float64Array.of(beta, scale, ...origin) },
    [ROUTING_FILES.gains]: { shape: GAIN_SHAPE, data: gains },
    [ROUTING_FILES.familiarity]: {
      shape: [OCTILE_EDGES + 2],
      data: Float32Array.of(...octiles, unfamiliarBelow, unlikeBelow),
    },
    [ROUTING_FILES.thresholds]: {
      shape: [2, 2, TARGETS.length],
      data: Float32Array.of(...thresholds, ...reached),
    },
  }
}

function tooMany(count: number, dim: number, raise: (message: string) => Error): Error {
  return raise(
    `the layout has ${count} descriptors of ${dim} dimensions, ${DESCRIPTOR_VALUES_MAX} numbers are the most that readers hold: use fewer shards`,
  )
}

/**
 * Whether a snapshot's routing artifacts have descriptors: those of older versions and of other strategies
 * only have centroids.
 */
export const hasDescriptors = (arrays: Readonly<Record<string, unknown>>): boolean =>
  ROUTING_FILES.descriptors in arrays

/**
 * Reads {@link packRouting}'s arrays back. Throws `Corrupt`, naming the file, where one is missing, or its
 * type, shape or values are not as they must be for `shards` shards of dimension `dim`.
 */
export function unpackRouting(
  arrays: Readonly<Record<string, AnyNpyArray | undefined>>,
  expected: { readonly metric: Metric; readonly dim: number; readonly shards: number },
): Routing {
  const { metric, dim, shards } = expected
  if (!METRICS.includes(metric)) throw invalidInput(`the metric is ${metric}, expected ${METRICS.join(", ")}`)
  const start = integers(arrays, ROUTING_FILES.starts, [shards + 1])
  check(
    ROUTING_FILES.starts,
    start,
    (value, i) => (i === 0 ? value === 0 : value > start[i - 1]!),
    "rise from 0",
  )
  const count = start[shards]!
  if (count * dim > DESCRIPTOR_VALUES_MAX) throw tooMany(count, dim, corrupt)
  const packed = integers(arrays, ROUTING_FILES.descriptors, [count, Math.ceil(dim / 8)])
  const scales = floats(arrays, ROUTING_FILES.scales, [count])
  check(ROUTING_FILES.scales, scales, (value) => value > 0 && value < Infinity, "be positive and finite")
  const counts = integers(arrays, ROUTING_FILES.counts, [count])
  check(ROUTING_FILES.counts, counts, (value) => value >= 0, "not be negative")
  const space = arrayOf(arrays, ROUTING_FILES.space, [dim + 2], Float64Array)
  check(ROUTING_FILES.space, space, Number.isFinite, "be finite")
  const [beta, scale] = space as Float64Array & { 0: number; 1: number }
  check(ROUTING_FILES.space, [beta!, scale!], (value) => value > 0, "begin with β and scale above 0")
  const gains = floats(arrays, ROUTING_FILES.gains, GAIN_SHAPE)
  check(ROUTING_FILES.gains, gains, (value) => value >= 0 && value <= 1, "be from 0 to 1")
  const edges = floats(arrays, ROUTING_FILES.familiarity, [OCTILE_EDGES + 2])
  const octiles = edges.slice(0, OCTILE_EDGES)
  check(ROUTING_FILES.familiarity, edges, (value) => !Number.isNaN(value), "be numbers")
  check(ROUTING_FILES.familiarity, octiles, (value, i) => i === 0 || value >= octiles[i - 1]!, "rise")
  const both = floats(arrays, ROUTING_FILES.thresholds, [2, 2, TARGETS.length])
  check(ROUTING_FILES.thresholds, both, (value) => value >= 0 && value <= 1.0001, "be from 0 to 1")
  const thresholds = both.slice(0, 2 * TARGETS.length)
  const falls = (value: number, i: number) => i % TARGETS.length === 0 || value <= thresholds[i - 1]!
  check(ROUTING_FILES.thresholds, thresholds, falls, "fall along the targets")
  return {
    preparation: { metric, dim, origin: Float32Array.from(space.subarray(2)), scale: scale! },
    descriptors: { metric, dim, shards, start, vectors: fromFourBits({ packed, scales }, dim), counts },
    beta: beta!,
    stopping: {
      octiles,
      gains,
      unfamiliarBelow: edges[OCTILE_EDGES]!,
      unlikeBelow: edges[OCTILE_EDGES + 1]!,
      thresholds,
      reached: both.slice(2 * TARGETS.length),
    },
  }
}

type Arrays = Readonly<Record<string, AnyNpyArray | undefined>>

function arrayOf<T extends RoutingArray["data"]>(
  arrays: Arrays,
  file: FileName,
  shape: readonly number[],
  type: new (length: number) => T,
): T {
  const array = arrays[file]
  if (array === undefined)
    throw corrupt(`the routing has no ${file}, which belongs to its descriptors`, { file })
  if (!(array.data instanceof type)) {
    const got = array.data.constructor.name
    throw corrupt(`${file} holds a ${got}, expected a ${type.name}`, { file, expected: type.name, got })
  }
  const items = shape.reduce((product, length) => product * length, 1)
  if (array.shape.join() !== shape.join() || array.data.length !== items) {
    throw corrupt(`${file} has shape (${array.shape.join(", ")}), expected (${shape.join(", ")})`, {
      file,
      expected: shape,
      got: array.shape,
    })
  }
  return array.data
}

const integers = (arrays: Arrays, file: FileName, shape: readonly number[]) =>
  arrayOf(arrays, file, shape, Int32Array)
const floats = (arrays: Arrays, file: FileName, shape: readonly number[]) =>
  arrayOf(arrays, file, shape, Float32Array)

function check(
  file: FileName,
  values: ArrayLike<number>,
  isGood: (value: number, i: number) => boolean,
  must: string,
): void {
  for (let i = 0; i < values.length; i++) {
    if (isGood(values[i]!, i)) continue
    throw corrupt(`${file} has ${values[i]} at place ${i}; its values must ${must}`, { file, got: values[i] })
  }
}

export interface DescriptorRouter {
  readonly routing: Routing
  /**
   * All shards, best first. `query` is as given by the caller, of finite numbers. Throws `InvalidInput` if it
   * has another dimension.
   */
  route(query: Float32Array): RankedQuery
}

/** Ranks shards; `D × d` multiplications a query. Descriptors are taken as they are stored, in 4 bits. */
export function createDescriptorRouter(routing: Routing): DescriptorRouter {
  const { descriptors, beta, preparation } = routing
  const { dim, shards } = descriptors
  const score = createShardScorer(createScoring(descriptors, beta), toFourBits(descriptors.vectors, dim))
  const all = new Float64Array(shards)
  return {
    routing,
    route(query) {
      if (query.length !== dim) {
        throw invalidInput(`the query has ${query.length} elements, expected ${dim}`, {
          expected: dim,
          got: query.length,
        })
      }
      const prepared = prepareQueries(preparation, query)
      const largest = score(prepared, all)
      const ranked = new Uint16Array(shards)
      const sum = orderShards(all, ranked, shards)
      const length = preparation.metric === "l2" ? squaredLength(prepared, 0, dim) / 2 : 0
      const scores = new Float32Array(shards)
      for (let rank = 0; rank < shards; rank++) scores[rank] = all[ranked[rank]!]! / sum
      return { shards: ranked, scores, familiarity: largest - length }
    },
  }
}

/** Whether a query is unlike the rows: less familiar than 19 of 20 of them. */
export const isUnlike = ({ stopping }: Routing, { familiarity }: RankedQuery): boolean =>
  familiarity < stopping.unlikeBelow
