/**
 * The `lsh` strategy: random hyperplanes through the origin. The sides on which a vector lies are the bits of
 * its code, and the code modulo K is its shard: near directions often share a code, and nothing needs to be
 * trained.
 *
 * Hyperplanes see directions only. That suits `cosine`. It serves `l2` and `dot` if the vectors have about
 * the same length and are centred around the origin; else `cluster` finds more with as many probes.
 */

import type { Defined } from "../defined.js"
import type { NpyArray } from "../vectors/npy.js"
import { createRandom } from "../vectors/random.js"
import { checkedArtifact } from "./artifacts.js"
import { choiceOption, integerOption, PROBES, resolveTable, SEED, SHARDS, type Values } from "./options.js"
import { namedShards, presentShards, probeLimit, queryVector } from "./ranking.js"
import type { RankedShard, Strategy, StrategyContext, StrategyType } from "./strategy.js"

export interface LshOptions {
  readonly strategy: "lsh"
  readonly shards: number
  /** Hyperplanes; default max(8, ceil(log2 K) + 2). */
  readonly bits?: number | undefined
  /** Default max(1, ceil(K / 8)). */
  readonly probes?: number | undefined
  /** Default 1. */
  readonly seed?: number | undefined
  /**
   * Order of the neighbouring buckets: "margin" (default), flips of one or more bits by how little the query
   * would have to move; "bit", flips of single bits from the lowest up, as shardyfusion does.
   */
  readonly probeOrder?: "margin" | "bit" | undefined
}

export type ResolvedLsh = Defined<LshOptions>

const MAX_BITS = 1024

// Fewer bits would leave shards that no code leads to.
const fewestBits = ({ shards }: Values): number => Math.max(1, Math.ceil(Math.log2(shards as number)))

const OPTIONS = {
  shards: SHARDS,
  bits: integerOption({
    about: "number of hyperplanes",
    from: fewestBits,
    to: MAX_BITS,
    default: (earlier) => Math.max(8, fewestBits(earlier) + 2),
  }),
  probes: PROBES,
  seed: SEED,
  probeOrder: choiceOption({
    about: "which neighbouring buckets come first, by margin or by bit",
    names: ["margin", "bit"],
    default: "margin",
  }),
}

// Another program may have chosen so few that shards are empty, which does no harm to queries.
const RESTORED_OPTIONS = {
  ...OPTIONS,
  bits: integerOption({ about: "number of hyperplanes", from: 1, to: MAX_BITS }),
}

const HYPERPLANES_FILE = "hyperplanes.npy"

export const lshType: StrategyType<"lsh", LshOptions, ResolvedLsh> = {
  name: "lsh",
  queriesBy: "vector",
  trained: false,
  options: OPTIONS,
  resolve: (options) => Object.freeze({ strategy: "lsh", ...resolveTable(OPTIONS, { ...options }) }),
  restored: (options) =>
    Object.freeze({ strategy: "lsh", ...resolveTable(RESTORED_OPTIONS, { ...options }) }),
  load: async () => ({
    create: (resolved, context) =>
      createLsh(resolved, context, drawHyperplanes(resolved.bits, context.dim, resolved.seed)),
    restore: (resolved, context, artifacts) =>
      createLsh(
        resolved,
        context,
        checkedArtifact(artifacts, HYPERPLANES_FILE, [resolved.bits, context.dim]),
      ),
  }),
}

/** Random normals of `bits` hyperplanes: `bits × dim`, each element standard normal. */
export function drawHyperplanes(bits: number, dim: number, seed: number): NpyArray {
  const { gaussian } = createRandom(seed)
  return { shape: [bits, dim], data: Float32Array.from({ length: bits * dim }, gaussian) }
}

/** What is computed once for all vectors. */
export interface LshTable {
  readonly bits: number
  readonly dim: number
  readonly shards: number
  /** Normals of the hyperplanes, `bits × dim`. */
  readonly normals: NpyArray["data"]
  /** 1 / length of each normal. */
  readonly inverseNorms: Float64Array
  /**
   * 2^bit modulo the number of shards: codes are only ever needed modulo that, so they never outgrow a
   * number.
   */
  readonly bitShards: Float64Array
}

export function createLshTable(hyperplanes: NpyArray, shards: number): LshTable {
  const [bits, dim] = hyperplanes.shape as readonly [number, number]
  const normals = hyperplanes.data
  const bitShards = new Float64Array(bits)
  const inverseNorms = new Float64Array(bits)
  let power = 1 % shards
  for (let bit = 0; bit < bits; bit++) {
    bitShards[bit] = power
    power = (2 * power) % shards
    let squared = 0
    for (let i = bit * dim; i < (bit + 1) * dim; i++) squared += normals[i]! * normals[i]!
    inverseNorms[bit] = squared === 0 ? 0 : 1 / Math.sqrt(squared)
  }
  return { bits, dim, shards, normals, inverseNorms, bitShards }
}

/** Inner product of one normal with the vector that starts at `start`. */
function product(table: LshTable, bit: number, vectors: Float32Array, start: number): number {
  const { dim, normals } = table
  let sum = 0
  for (let i = 0; i < dim; i++) sum += normals[bit * dim + i]! * vectors[start + i]!
  return sum
}

/**
 * Shard of the vector that starts at `start`: bit i is set if its product with normal i is positive, 0 is
 * not.
 */
function lshShard(table: LshTable, vectors: Float32Array, start: number): number {
  let shard = 0
  for (let bit = 0; bit < table.bits; bit++) {
    if (product(table, bit, vectors, start) > 0) shard += table.bitShards[bit]!
  }
  return shard % table.shards
}

/** A vector's own shard, and what flipping each bit of its code does. */
export interface LshCode {
  readonly shard: number
  /** What is added to the shard, modulo their number, when the bit flips. */
  readonly steps: Float64Array
  /** Distance of the vector from each hyperplane. */
  readonly margins: Float64Array
}

export function lshCode(table: LshTable, vector: Float32Array): LshCode {
  const { bits, shards, bitShards, inverseNorms } = table
  const steps = new Float64Array(bits)
  const margins = new Float64Array(bits)
  let shard = 0
  for (let bit = 0; bit < bits; bit++) {
    const value = product(table, bit, vector, 0)
    margins[bit] = Math.abs(value) * inverseNorms[bit]!
    const isSet = value > 0
    if (isSet) shard += bitShards[bit]!
    steps[bit] = isSet ? shards - bitShards[bit]! : bitShards[bit]!
  }
  return { shard: shard % shards, steps, margins }
}

/**
 * Buckets of a query, best first: its own, then those with one bit flipped, from the lowest bit up:
 * shardyfusion's order.
 */
export function* bucketsByBit({ shard, steps }: LshCode, shards: number): Generator<RankedShard> {
  yield { shard, score: 0 }
  for (const [bit, step] of steps.entries()) yield { shard: (shard + step) % shards, score: bit + 1 }
}

/**
 * All buckets by rising sum of the margins that are crossed: the less a query would have to move to fall into
 * a bucket, the likelier its neighbours lie there. The query-directed probing of Lv et al., "Multi-Probe
 * LSH", VLDB 2007, 4.4 and 4.5; they sum squares, while plain sums found as much or more on word vectors.
 * Sets of flipped bits come from a heap: with margins sorted, it starts with the nearest bit alone, and each
 * set taken out leaves two: its last bit replaced by the next one, and the next one added. Every set comes
 * once.
 */
export function* bucketsByMargin({ shard, steps, margins }: LshCode, shards: number): Generator<RankedShard> {
  yield { shard, score: 0 }
  const byMargin = [...margins.keys()].sort((a, b) => margins[a]! - margins[b]! || a - b)
  const heap: FlipSet[] = []
  // Without its last bit, a set has this cost and leads to this shard.
  const add = (costBefore: number, shardBefore: number, last: number): void => {
    if (last === byMargin.length) return
    const cost = costBefore + margins[byMargin[last]!]!
    pushFlipSet(heap, { cost, costBefore, shardBefore, last })
  }
  add(0, shard, 0)
  while (heap.length > 0) {
    const { cost, costBefore, shardBefore, last } = popFlipSet(heap)
    const flipped = (shardBefore + steps[byMargin[last]!]!) % shards
    yield { shard: flipped, score: cost }
    add(costBefore, shardBefore, last + 1)
    add(cost, flipped, last + 1)
  }
}

/** A set of flipped bits, of which only the last, by position in the order of margins, need be known. */
interface FlipSet {
  readonly cost: number
  readonly costBefore: number
  readonly shardBefore: number
  readonly last: number
}

function pushFlipSet(heap: FlipSet[], set: FlipSet): void {
  let place = heap.length
  while (place > 0) {
    const parent = (place - 1) >> 1
    if (heap[parent]!.cost <= set.cost) break
    heap[place] = heap[parent]!
    place = parent
  }
  heap[place] = set
}

function popFlipSet(heap: FlipSet[]): FlipSet {
  const top = heap[0]!
  const moved = heap.pop()!
  if (heap.length === 0) return top
  let place = 0
  for (;;) {
    let child = 2 * place + 1
    if (child >= heap.length) break
    if (child + 1 < heap.length && heap[child + 1]!.cost < heap[child]!.cost) child++
    if (heap[child]!.cost >= moved.cost) break
    heap[place] = heap[child]!
    place = child
  }
  heap[place] = moved
  return top
}

// With K shards, drawing K × (ln K + a few) buckets at random meets every shard; this is beyond that for any
// K.
const BUCKETS_PER_SHARD = 32

/**
 * The first `limit` different shards of `buckets` that hold rows. If the buckets run out, or lead nowhere new
 * for long, the other shards with rows follow by number, with score Infinity: who asks for all shards gets
 * all.
 */
function collectShards(
  buckets: Iterable<RankedShard>,
  candidates: readonly number[],
  limit: number,
): RankedShard[] {
  const wanted = Math.min(limit, candidates.length)
  const open = new Set(candidates)
  const ranked: RankedShard[] = []
  if (wanted === 0) return ranked
  let left = BUCKETS_PER_SHARD * candidates.length + 1024
  for (const bucket of buckets) {
    if (open.delete(bucket.shard)) ranked.push(bucket)
    if (ranked.length === wanted || --left === 0) break
  }
  for (const shard of open) {
    if (ranked.length === wanted) break
    ranked.push({ shard, score: Number.POSITIVE_INFINITY })
  }
  return ranked
}

/** `hyperplanes`: `bits × dim`. */
export function createLsh(resolved: ResolvedLsh, context: StrategyContext, hyperplanes: NpyArray): Strategy {
  const { shards, bits, probes, seed, probeOrder } = resolved
  const table = createLshTable(hyperplanes, shards)
  const bucketsOf = probeOrder === "bit" ? bucketsByBit : bucketsByMargin
  return Object.freeze<Strategy>({
    name: "lsh",
    shards,
    measured: false,

    assign(batch) {
      const assigned = new Int32Array(batch.rows)
      for (let row = 0; row < batch.rows; row++)
        assigned[row] = lshShard(table, batch.vectors, row * context.dim)
      return assigned
    },

    rank(selection, present) {
      if (selection.shards !== undefined) return { shards: namedShards(selection.shards, shards, present) }
      const vector = queryVector(selection, "lsh", context)
      const limit = probeLimit(selection, probes)
      const buckets = bucketsOf(lshCode(table, vector), shards)
      return { shards: collectShards(buckets, presentShards(shards, present), limit) }
    },

    describe: () => ({ strategy: "lsh", shards, options: { bits, probes, seed, probeOrder } }),
    artifacts: () => ({ [HYPERPLANES_FILE]: hyperplanes }),
  })
}
