/**
 * Learns how many rows a target recall takes, by searching a snapshot that has just been built: kinds of
 * queries whose true neighbours are known, each of which must reach the target by itself.
 */
import { setImmediate } from "node:timers/promises"
import { type CellRule, effortFor, shardTarget } from "../../sharding/effort.js"
import { TARGET_K } from "../../sharding/strategy.js"
import type { Neighbour } from "../certificate.js"
import { recallOf } from "../curves.js"
import type { CellSearches } from "./looked-at.js"

/** A query, where it goes, and what it ought to find. */
export interface KnownQuery {
  readonly vector: Float32Array
  /** True neighbours, nearest first. */
  readonly nearest: readonly Pick<Neighbour, "shards" | "ranks">[]
  /** The shards that are taken for a recall, best first. */
  shardsFor(recall: number): readonly number[]
}

export interface QueryKind {
  readonly queries: readonly KnownQuery[]
  /** The target is met by the mean recall less so many of its standard errors. */
  readonly standardErrors: number
}

/** What searches by a rule found and took, by query. */
export interface Searched {
  /** Of the ten nearest. */
  readonly shares: Float64Array
  readonly probes: Float64Array
  readonly rows: Float64Array
}

/** Targets between which rows are interpolated. */
const TARGETS = [0.5, 0.7, 0.8, 0.9, 0.95, 0.98]
/** No fewer: a cell or so for each shard. */
const LEAST_ROWS = 32
/** Rows are found to so much: what is less is noise. */
const PRECISION = 1.04

/** Estimates that may remain, in multiples of what the codebook measured on its sample. */
const BEST_STEPS = [1, 2, 4]
/** What an exact distance costs, in rows whose codes are looked at: 30 to 45, whatever the dimension. */
const ROWS_PER_DISTANCE = 40

/** Estimates that searches are tried with at most, if `least` remain at least. */
export const mostBest = (least: number): number => Math.ceil(BEST_STEPS.at(-1)! * least)

interface Attempt {
  /** For one shard. */
  readonly rows: number
  readonly best: number
  /** Whether all kinds have reached the target; the least mean recall, if so. */
  readonly reached: boolean
  readonly recall: number
  /** Mean rows looked at. */
  readonly looked: number
}

/**
 * The least work with which all kinds reach their targets. Ends before the first target that they do not
 * reach, for which all rows are to be looked at. `best`: estimates that remain at least.
 */
export async function learnCellRule(
  searches: CellSearches,
  kinds: readonly QueryKind[],
  best: number,
): Promise<CellRule> {
  const learned: (Attempt & { readonly target: number })[] = []
  for (const target of TARGETS) {
    const found = await leastWork(searches, kinds, target, best, learned.at(-1))
    if (found === undefined) break
    learned.push({ target, ...found })
  }
  return {
    targets: learned.map(({ target }) => target),
    rows: learned.map(({ rows }) => rows),
    best: learned.map(({ best }) => best),
    recall: learned.map(({ recall }) => rounded(recall)),
    rowsPerCell: rounded(searches.rowsPerCell),
  }
}

/** `below`: what a lower target takes. */
async function leastWork(
  searches: CellSearches,
  kinds: readonly QueryKind[],
  target: number,
  least: number,
  below: Attempt | undefined,
): Promise<Attempt | undefined> {
  const low = below?.rows ?? LEAST_ROWS
  // So that a query of all shards looks at all rows, whatever these hold one by one.
  const most = Math.max(low, Math.ceil((2 * searches.rows) / Math.sqrt(searches.shards)))
  const bests = BEST_STEPS.map((step) => Math.ceil(step * least)).filter((best) => best >= (below?.best ?? 0))
  let found: Attempt | undefined
  for (const best of bests) {
    const tryRows = (rows: number) => attempt(searches, kinds, target, rows, best)
    if (found === undefined) {
      found = await fewestRows(low, most, tryRows)
      continue
    }
    // More exact distances pay off if fewer rows reach the target by more than these cost.
    const saved = (ROWS_PER_DISTANCE * (best - found.best)) / found.looked
    const enough = Math.floor(found.rows * (1 - saved))
    if (enough < low) break
    const cheaper = await tryRows(enough)
    if (!cheaper.reached) break
    found = await between(low, cheaper, tryRows)
  }
  return found
}

/** From `least` twice as many until they reach the target; undefined if `most` do not. */
async function fewestRows(
  least: number,
  most: number,
  tryRows: (rows: number) => Promise<Attempt>,
): Promise<Attempt | undefined> {
  let tried = await tryRows(least)
  if (tried.reached) return tried
  while (tried.rows < most) {
    const tooFew = tried.rows
    tried = await tryRows(Math.min(2 * tooFew, most))
    if (tried.reached) return await between(tooFew, tried, tryRows)
  }
  return undefined
}

/** The fewest rows between some that are too few and an attempt that has reached the target. */
async function between(
  tooFew: number,
  enough: Attempt,
  tryRows: (rows: number) => Promise<Attempt>,
): Promise<Attempt> {
  let low = tooFew
  let found = enough
  while (found.rows > low * PRECISION && found.rows > low + 1) {
    const tried = await tryRows(Math.round(Math.sqrt(low * found.rows)))
    if (tried.reached) found = tried
    else low = tried.rows
  }
  return found
}

async function attempt(
  searches: CellSearches,
  kinds: readonly QueryKind[],
  target: number,
  rows: number,
  best: number,
): Promise<Attempt> {
  const { rowsPerCell } = searches
  const rule = { targets: [target], rows: [rows], best: [best], recall: [0], rowsPerCell }
  let recall = 1
  let looked = 0
  for (const { queries, standardErrors } of kinds) {
    if (queries.length === 0) continue
    const searched = await searchByRule(searches, rule, queries, target)
    const { mean, standardError } = meanOf(searched.shares)
    if (mean - standardErrors * standardError < target - ROUNDING)
      return { rows, best, reached: false, recall, looked }
    recall = Math.min(recall, mean)
    looked = Math.max(looked, meanOf(searched.rows).mean)
  }
  return { rows, best, reached: true, recall, looked }
}

/** Means of tenths miss a target by a little. */
const ROUNDING = 1e-9

/** Four digits: more are noise. */
const rounded = (value: number): number => Math.round(value * 1e4) / 1e4

/** Searches for a target as a reader would. */
export async function searchByRule(
  searches: CellSearches,
  rule: CellRule,
  queries: readonly KnownQuery[],
  target: number,
): Promise<Searched> {
  const shares = new Float64Array(queries.length)
  const probes = new Float64Array(queries.length)
  const rows = new Float64Array(queries.length)
  for (const [i, { vector, nearest, shardsFor }] of queries.entries()) {
    const shards = shardsFor(shardTarget(target))
    const { effort } = effortFor(rule, target, shards.length, TARGET_K)
    const looked = searches.find(vector, shards, effort)
    const taken = new Set(shards)
    const isFound = ({ shards, ranks }: KnownQuery["nearest"][number]) =>
      shards.some((shard, at) => taken.has(shard) && looked.has(shard, ranks[at]!))
    const found = Int32Array.from(nearest.slice(0, TARGET_K), (row) => (isFound(row) ? 0 : 1))
    shares[i] = recallOf(found, TARGET_K, 1)
    probes[i] = shards.length
    rows[i] = looked.rows
    // This is work of the main thread; the lease is renewed in between.
    if (i % 16 === 15) await setImmediate()
  }
  return { shares, probes, rows }
}

function meanOf(values: Float64Array): { readonly mean: number; readonly standardError: number } {
  const count = values.length
  const mean = values.reduce((sum, value) => sum + value, 0) / count
  const squares = values.reduce((sum, value) => sum + (value - mean) ** 2, 0)
  return { mean, standardError: Math.sqrt(squares / Math.max(1, count - 1) / count) }
}
