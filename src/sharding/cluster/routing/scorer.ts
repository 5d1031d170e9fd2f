/**
 * The scores of all shards for one query after another, as a reader needs them: descriptors and what belongs
 * to them stay in kernel memory, as bytes, so that a query costs a pass over them and one over their
 * similarities.
 */
import {
  codeLength,
  codeOffset,
  codeStart,
  codesLength,
  roundToIntegers,
} from "../../../vectors/kernel/codes.js"
import { KernelMemory } from "../../../vectors/kernel/memory.js"
import { innerProducts } from "../../../vectors/kernel/plain.js"
import { allocate } from "../space/compare.js"
import {
  breakTies,
  type FourBits,
  fourBitCodes,
  largestOf,
  type ScoringTable,
  shardScores,
} from "./descriptors.js"

/**
 * Takes a prepared query, puts the scores of all shards into `scores`, and returns the query's largest
 * similarity to any descriptor. The kernel rounds the query to 16 bits (fewer above a dimension of 9,000),
 * which changes a similarity by at most √dim · largest component / 2^16 times the length of the descriptor,
 * and computes exponentials in float32.
 */
export type ShardScorer = (query: Float32Array, scores: Float64Array) => number

/** `stored`: the descriptors of the table as they are stored. */
export function createShardScorer(table: ScoringTable, stored: FourBits): ShardScorer {
  return createKernelScorer(table, stored) ?? createPlainScorer(table)
}

function createPlainScorer(table: ScoringTable): ShardScorer {
  const { vectors, count, bias } = table.points
  const products = new Float64Array(count)
  const similarities = new Float32Array(count)
  return (query, scores) => {
    innerProducts(vectors, 0, count, Float64Array.from(query), products)
    for (let point = 0; point < count; point++) similarities[point] = products[point]! - (bias?.[point] ?? 0)
    shardScores(table, table.beta, similarities, scores)
    breakTies(table, similarities, scores)
    return largestOf(similarities)
  }
}

/** Undefined without a compiled kernel. */
function createKernelScorer(table: ScoringTable, stored: FourBits): ShardScorer | undefined {
  const { points, shards, start, logCounts, beta } = table
  const { dim, count, bias } = points
  const padded = Math.ceil(count / 8) * 8
  const bytes = codeLength(dim)
  const lengths = [codesLength(count, dim) / 4, padded, bytes / 2, padded, padded, padded, shards + 1, shards]
  const { starts, end } = allocate(lengths)
  const memory = KernelMemory.create(end)
  if (memory === undefined) return undefined
  const [codesAt, weightsAt, queryAt, scoresAt, biasesAt, offsetsAt, startsAt, sumsAt] = starts as number[] &
    [number]
  const { floats, integers, shorts, exports } = memory
  const { codes, scales, most } = fourBitCodes(stored, dim)
  const own = new Int8Array(floats.buffer, codesAt)
  for (let point = 0; point < count; point++) {
    const place = codeStart(point, dim)
    for (let i = 0; i < dim; i++) own[place + codeOffset(i)] = codes[point * dim + i]!
  }
  floats.set(scales, weightsAt! / 4)
  floats.fill(Infinity, biasesAt! / 4, biasesAt! / 4 + padded)
  floats.fill(0, biasesAt! / 4, biasesAt! / 4 + count)
  if (bias !== undefined) floats.set(bias, biasesAt! / 4)
  floats.set(logCounts, offsetsAt! / 4)
  integers.set(start, startsAt! / 4)
  const similarities = floats.subarray(scoresAt! / 4, scoresAt! / 4 + count)
  const sums = floats.subarray(sumsAt! / 4, sumsAt! / 4 + shards)
  const rounded = shorts.subarray(queryAt! / 2, queryAt! / 2 + bytes)
  return (query, scores) => {
    const step = roundToIntegers(query, most, rounded)
    exports.scoreCodes(codesAt, count, bytes, weightsAt!, queryAt!, scoresAt!)
    // biome-ignore format: one line says it best
    const familiarity = exports.sumExponentials(scoresAt!, count, step, biasesAt!, offsetsAt!, beta, startsAt!, shards, sumsAt!)
    scores.set(sums)
    breakTies(table, similarities, scores)
    return familiarity
  }
}
