/**
 * How many shards to probe for a recall that is asked for: until the expected gain of the next one falls
 * below a threshold.
 *
 * The expected gain is a table over the rank of the shard, its score and how familiar the query is (its best
 * similarity to any descriptor). The table and the thresholds are learned when a layout is made: see
 * layout/thresholds.ts.
 */
import type { Present } from "../../strategy.js"

const RANK_BINS = 11
const SCORE_BINS = 32
const OCTILES = 8
export const GAIN_SHAPE = [RANK_BINS, SCORE_BINS, OCTILES] as const
/** Targets for which thresholds are measured: .5 to .995 by steps of .005, then 1, which is all shards. */
export const TARGETS: readonly number[] = [...Array.from({ length: 100 }, (_, i) => (500 + 5 * i) / 1000), 1]

export interface GainTable {
  /** Edges between the octiles of familiarity, rising: 7. */
  readonly octiles: Float32Array
  /** Expected gain in recall: 11 × 32 × 8. */
  readonly gains: Float32Array
}

/** `min(10, ⌊2 log2 rank⌋)`, ranks from 1. */
const rankBin = (rank: number): number => Math.min(RANK_BINS - 1, Math.floor(2 * Math.log2(rank)))
/** Half steps of log2 of a score that is a share of 1. */
const scoreBin = (score: number): number =>
  Math.max(0, Math.min(SCORE_BINS - 1, Math.floor(-2 * Math.log2(Math.max(score, 1e-6)))))

export function octileOf(octiles: Float32Array, familiarity: number): number {
  let octile = 0
  while (octile < octiles.length && familiarity >= octiles[octile]!) octile++
  return octile
}

/** The place in {@link GainTable.gains} of a rank from 0, a score and an octile of familiarity. */
export const binOf = (rank: number, score: number, octile: number): number =>
  (rankBin(rank + 1) * SCORE_BINS + scoreBin(score)) * OCTILES + octile

/** Expected gains along the ranks of one query, never rising: the minimum so far. Into `out`. */
export function expectedGains(
  table: GainTable,
  scores: ArrayLike<number>,
  from: number,
  count: number,
  familiarity: number,
  out: Float32Array,
): void {
  const octile = octileOf(table.octiles, familiarity)
  let least = Infinity
  for (let rank = 0; rank < count; rank++) {
    least = Math.min(least, table.gains[binOf(rank, scores[from + rank]!, octile)]!)
    out[rank] = least
  }
}

/**
 * How many shards are probed: the first always, the next as long as its expected gain is not below the
 * threshold.
 */
export function probesAbove(expected: Float32Array, from: number, shards: number, threshold: number): number {
  let probes = 1
  while (probes < shards && expected[from + probes]! >= threshold) probes++
  return probes
}

/** What {@link probesFor} goes by. */
export interface StoppingRule extends GainTable {
  /** Below this familiarity a query is unfamiliar, and below the other one unlike the rows. */
  readonly unfamiliarBelow: number
  readonly unlikeBelow: number
  /** For unfamiliar and for familiar queries, `2 × TARGETS.length`: falling along the targets. */
  readonly thresholds: Float32Array
  /** The recall that the held-out queries reached with them, likewise. */
  readonly reached: Float32Array
}

/** A query's shards as a router ranks them. */
export interface RankedQuery {
  /** Best first, each once. */
  readonly shards: Uint16Array
  /** Along the ranks; they sum to 1. */
  readonly scores: Float32Array
  readonly familiarity: number
}

/** Before probes are counted: a shard without rows gains nothing. */
export function withoutAbsent(query: RankedQuery, present: Present): RankedQuery {
  if (query.shards.every((shard) => present(shard))) return query // nothing is copied where all hold rows
  const ranks = [...query.shards.keys()].filter((rank) => present(query.shards[rank]!))
  return {
    shards: Uint16Array.from(ranks, (rank) => query.shards[rank]!),
    scores: Float32Array.from(ranks, (rank) => query.scores[rank]!),
    familiarity: query.familiarity,
  }
}

export interface Probes {
  readonly probes: number
  /** The mean recall of held-out queries that were stopped by the same thresholds. */
  readonly expectedRecall: number
}

/**
 * How many of a query's shards to probe for a target between 0 and 1. Between two measured targets the
 * threshold (and the recall expected) is interpolated; below the least one, .5, that one's is used. More for
 * a higher target, never less.
 */
export function probesFor(rule: StoppingRule, query: RankedQuery, target: number): Probes {
  const side = query.familiarity < rule.unfamiliarBelow ? 0 : TARGETS.length
  const steps = TARGETS.length - 1
  const exact = Math.max(0, Math.min(steps, (target - TARGETS[0]!) / 0.005))
  const low = Math.min(steps - 1, Math.floor(exact))
  const share = exact - low
  const between = (values: Float32Array) =>
    values[side + low]! + (values[side + low + 1]! - values[side + low]!) * share
  const count = query.shards.length
  const expected = new Float32Array(count)
  expectedGains(rule, query.scores, 0, count, query.familiarity, expected)
  const threshold = between(rule.thresholds)
  return { probes: probesAbove(expected, 0, count, threshold), expectedRecall: between(rule.reached) }
}
