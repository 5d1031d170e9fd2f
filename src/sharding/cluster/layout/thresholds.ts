/**
 * What {@link probesFor} goes by, learned when a layout is made: the expected gains from rows with their
 * neighbour lists, the thresholds from held-out queries, for familiar and unfamiliar ones apart. An average
 * over all would hide those that are unlike the rows.
 */
import { type ReachedRanks, TARGET_K } from "../../strategy.js"
import type { Routings } from "../routing/descriptors.js"
import {
  binOf,
  expectedGains,
  GAIN_SHAPE,
  type GainTable,
  octileOf,
  probesAbove,
  type RankedQuery,
  type StoppingRule,
  TARGETS,
} from "../routing/stopping.js"

const [RANK_BINS, SCORE_BINS, OCTILES] = GAIN_SHAPE
/**
 * A bin of few observations leans on the mean of its rank and score, which counts as so many more, and that
 * one likewise on the mean of its score. Without the latter thin bins at far ranks would hold chance, or
 * zeros that no threshold tells apart.
 */
const LEANING = 20

/**
 * Standard errors that are taken off a measured recall before it is compared with a target: 95 % of promises
 * hold.
 */
const STANDARD_ERRORS = 1.65
/**
 * Queries that a promise is thought to be checked with. Their mean scatters too, so that a promise about it
 * takes the errors of both means: those of `n` queries that choose and of these make √(1 + n / 2000) times
 * the error of the former.
 */
const CHECKED_QUERIES = 2000

/**
 * The part of held-out queries that counts as unfamiliar, and the one below which a query is unlike the rows.
 */
const UNFAMILIAR_SHARE = 0.25
const UNLIKE_SHARE = 0.05

/** The value below which a share of `values` lies, interpolated as NumPy does; NaN of none. */
export function quantile(values: Float32Array, share: number): number {
  const sorted = values.slice().sort()
  const at = share * (sorted.length - 1)
  const low = Math.floor(at)
  const below = sorted[low] ?? Number.NaN
  const above = sorted[Math.min(low + 1, sorted.length - 1)] ?? Number.NaN
  return below === above ? below : below + (above - below) * (at - low)
}

/** Learns from routed queries and what each rank gained ({@link gainsByRank}). */
export function learnGains(routings: Routings, gained: Float32Array): GainTable {
  const { queries, shards, scores, familiarity } = routings
  const octiles = Float32Array.from({ length: OCTILES - 1 }, (_, i) =>
    queries === 0 ? 0 : quantile(familiarity, (i + 1) / OCTILES),
  )
  const bins = RANK_BINS * SCORE_BINS * OCTILES
  const seen = new Float64Array(bins)
  const sums = new Float64Array(bins)
  for (let query = 0; query < queries; query++) {
    const octile = octileOf(octiles, familiarity[query]!)
    for (let rank = 0; rank < shards; rank++) {
      const bin = binOf(rank, scores[query * shards + rank]!, octile)
      seen[bin]!++
      sums[bin]! += gained[query * shards + rank]!
    }
  }
  const gains = new Float32Array(bins)
  const byScore = meansByScore(seen, sums)
  for (let first = 0; first < bins; first += OCTILES) {
    let allSeen = 0
    let all = 0
    for (let bin = first; bin < first + OCTILES; bin++) {
      allSeen += seen[bin]!
      all += sums[bin]!
    }
    const score = (first / OCTILES) % SCORE_BINS
    const leaning = (all + LEANING * byScore[score]!) / (allSeen + LEANING)
    for (let bin = first; bin < first + OCTILES; bin++) {
      gains[bin] = (sums[bin]! + LEANING * leaning) / (seen[bin]! + LEANING)
    }
  }
  return { octiles, gains }
}

/** Mean gain of each score bin over all ranks and octiles. */
function meansByScore(seen: Float64Array, sums: Float64Array): Float64Array {
  const allSeen = new Float64Array(SCORE_BINS)
  const all = new Float64Array(SCORE_BINS)
  for (let bin = 0; bin < seen.length; bin++) {
    const score = Math.floor(bin / OCTILES) % SCORE_BINS
    allSeen[score]! += seen[bin]!
    all[score]! += sums[bin]!
  }
  return all.map((sum, score) => sum / Math.max(allSeen[score]!, 1))
}

/** Held-out queries on one membership, ready to try thresholds on. */
export interface Trials {
  readonly queries: number
  readonly shards: number
  /** `queries × shards`: by rank, expected and true. */
  readonly expected: Float32Array
  readonly gained: Float32Array
  readonly familiarity: Float32Array
}

export function createTrials(table: GainTable, routings: Routings, gained: Float32Array): Trials {
  const { queries, shards, scores, familiarity } = routings
  const expected = new Float32Array(queries * shards)
  for (let query = 0; query < queries; query++) {
    const own = expected.subarray(query * shards, (query + 1) * shards)
    expectedGains(table, scores, query * shards, shards, familiarity[query]!, own)
  }
  return { queries, shards, expected, gained, familiarity }
}

/**
 * A query whose true neighbours are known: how a router ranks its shards, and at which rank each neighbour is
 * met first.
 */
export interface TriedQuery {
  readonly ranked: RankedQuery
  readonly reached: ReachedRanks
}

/**
 * Trials of queries on a stored snapshot of `shards` shards; a ranking may leave out those that hold no rows.
 */
export function trialsOf(table: GainTable, queries: readonly TriedQuery[], shards: number): Trials {
  const expected = new Float32Array(queries.length * shards)
  const gained = new Float32Array(queries.length * shards)
  for (const [query, { ranked, reached }] of queries.entries()) {
    const { scores, familiarity } = ranked
    const from = query * shards
    expectedGains(table, scores, 0, scores.length, familiarity, expected.subarray(from, from + shards))
    // Counted first and divided once: sums of fractions would exceed 1.
    const known = reached.subarray(0, TARGET_K)
    for (const rank of known) if (rank < scores.length) gained[from + rank]!++
    for (let rank = 0; rank < shards; rank++) gained[from + rank]! /= Math.max(1, known.length)
  }
  const familiarity = Float32Array.from(queries, ({ ranked }) => ranked.familiarity)
  return { queries: queries.length, shards, expected, gained, familiarity }
}

/** What a threshold reaches. */
export interface Reached {
  readonly recall: number
  /** Of the mean recall. */
  readonly standardError: number
  readonly probes: number
}

/** What each query of the trials reaches under a threshold of its own. */
export function tryThresholds(
  trials: Trials,
  thresholdOf: (query: number) => number,
  members?: ArrayLike<number>,
): Reached {
  const { shards, expected, gained } = trials
  const count = members?.length ?? trials.queries
  let sum = 0
  let squares = 0
  let probes = 0
  for (let i = 0; i < count; i++) {
    const query = members?.[i] ?? i
    const probed = probesAbove(expected, query * shards, shards, thresholdOf(query))
    let recall = 0
    for (let rank = 0; rank < probed; rank++) recall += gained[query * shards + rank]!
    sum += recall
    squares += recall * recall
    probes += probed
  }
  if (count === 0) return { recall: 1, standardError: 0, probes: shards }
  const recall = sum / count
  const variance = Math.max(0, squares / count - recall * recall) * (count / Math.max(1, count - 1))
  return { recall, standardError: Math.sqrt(variance / count), probes: probes / count }
}

/** Float sums of tenths miss 1 by a little. */
const ROUNDING = 1e-6

/**
 * The largest threshold whose recall, less `standardErrors` of it, is at least the target. 0 probes all
 * shards.
 */
export function largestThreshold(
  trials: Trials,
  target: number,
  members?: ArrayLike<number>,
  standardErrors = STANDARD_ERRORS,
): number {
  let low = 0
  let high = 1
  for (let step = 0; step < 30; step++) {
    const middle = (low + high) / 2
    const { recall, standardError } = tryThresholds(trials, () => middle, members)
    if (recall - standardErrors * standardError >= target - ROUNDING) low = middle
    else high = middle
  }
  return low
}

/**
 * Measures thresholds for all targets on held-out queries that were no demand for copies (those that were
 * reach .02 more than others will). `apart` as for {@link chooseThresholds}. `rows` are held-out rows, which
 * say what is familiar.
 */
export function measureStopping(
  table: GainTable,
  trials: Trials,
  familiarity: Float32Array,
  apart = true,
): StoppingRule {
  // Rounded as they will be stored.
  const edge = (share: number) =>
    familiarity.length === 0 ? -Infinity : Math.fround(quantile(familiarity, share))
  const edges = { unfamiliarBelow: edge(UNFAMILIAR_SHARE), unlikeBelow: edge(UNLIKE_SHARE) }
  return { ...table, ...edges, ...chooseThresholds(trials, edges.unfamiliarBelow, apart) }
}

/**
 * The largest thresholds with which the queries of the trials meet each target, by the lower bound. `apart`
 * false: one threshold for all of them, for a sample of real queries, which holds its unfamiliar ones in the
 * share that they have.
 */
export function chooseThresholds(
  trials: Trials,
  unfamiliarBelow: number,
  apart = true,
): Pick<StoppingRule, "thresholds" | "reached"> {
  const all = Int32Array.from({ length: trials.queries }, (_, query) => query)
  const isUnfamiliar = (query: number) => trials.familiarity[query]! < unfamiliarBelow
  const sides = apart ? [all.filter(isUnfamiliar), all.filter((query) => !isUnfamiliar(query))] : [all, all]
  const standardErrors = STANDARD_ERRORS * Math.sqrt(1 + trials.queries / CHECKED_QUERIES)
  const thresholds = new Float32Array(2 * TARGETS.length)
  const reached = new Float32Array(2 * TARGETS.length)
  for (const [side, members] of sides.entries()) {
    let least = Infinity
    for (const [i, target] of TARGETS.entries()) {
      if (target === 1 || members.length === 0) least = 0
      else least = Math.min(least, largestThreshold(trials, target, members, standardErrors))
      const at = side * TARGETS.length + i
      thresholds[at] = least
      reached[at] = tryThresholds(trials, () => thresholds[at]!, members).recall
    }
  }
  return { thresholds, reached }
}
