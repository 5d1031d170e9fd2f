/**
 * Recall by the number of shards probed, from where the true neighbours of some queries lie. Pure.
 *
 * What is looked at is which shards are probed, as if each of them then found all that it holds: that is so
 * for exact shards. A neighbour that several shards hold is found by the first of them.
 */

import { type CellRule, describedEffort } from "../sharding/effort.js"
import { type ReachedRanks, type ShardingDescription, TARGET_K } from "../sharding/strategy.js"

/** The numbers of neighbours that recall is measured of. */
export const RECALL_KS = [1, 10, 100] as const
/** Targets that a certificate tells the cost of. */
export const CERTIFIED_TARGETS = [0.9, 0.95, 0.98] as const

/** Neighbours of a query that no number of probes finds. */
const NEVER = 2 ** 31 - 1

/** One query: where its route leads, and where its true neighbours are. */
export interface ProbedQuery {
  /** Shards that its route probes, best first. */
  readonly route: ArrayLike<number>
  /** For each true neighbour, nearest first, the shards that hold it. */
  readonly holders: readonly (readonly number[])[]
}

export function reachedRanks({ route, holders }: ProbedQuery): ReachedRanks {
  const rankOf = new Map<number, number>()
  for (let rank = 0; rank < route.length; rank++) rankOf.set(route[rank]!, rank)
  return Int32Array.from(holders, (shards) =>
    shards.reduce((first, shard) => Math.min(first, rankOf.get(shard) ?? NEVER), NEVER),
  )
}

/**
 * The share of the `k` nearest neighbours that the first `probes` shards hold. The query has one neighbour at
 * least.
 */
export function recallOf(reached: ReachedRanks, k: number, probes: number): number {
  const wanted = Math.min(k, reached.length)
  let found = 0
  for (let i = 0; i < wanted; i++) if (reached[i]! < probes) found++
  return found / wanted
}

/** A mean over queries with the bounds of its 95 % confidence interval. */
export interface Estimate {
  readonly mean: number
  readonly low: number
  readonly high: number
}

/** The quantile of the normal distribution for 95 % in the middle. */
const Z = 1.96

/**
 * Mean of shares, each of them of `k` things, with Wilson's interval (E. B. Wilson, "Probable inference",
 * 1927) for as many independent trials as would scatter like the shares do: n_eff = mean (1 - mean) /
 * variance of the mean, at most `k` for each share (L. Kish's design effect). Shares that are all 1, or all
 * 0, count as one trial each. So the interval stays within 0 and 1 and has a width also where nothing
 * scatters.
 */
export function estimate(shares: ArrayLike<number>, k: number): Estimate {
  const n = shares.length
  if (n === 0) return { mean: 0, low: 0, high: 1 }
  let sum = 0
  for (let i = 0; i < n; i++) sum += shares[i]!
  const mean = sum / n
  let squares = 0
  for (let i = 0; i < n; i++) squares += (shares[i]! - mean) ** 2
  const spread = mean * (1 - mean)
  const varianceOfMean = squares / Math.max(1, n - 1) / n
  const trials = spread === 0 ? n : Math.min(n * k, spread / Math.max(varianceOfMean, Number.MIN_VALUE))
  const shrink = 1 + Z ** 2 / trials
  const middle = (mean + Z ** 2 / (2 * trials)) / shrink
  const half = (Z / shrink) * Math.sqrt(spread / trials + Z ** 2 / (4 * trials ** 2))
  return {
    mean,
    low: Math.min(mean, Math.max(0, middle - half)),
    high: Math.max(mean, Math.min(1, middle + half)),
  }
}

/** Recall of the `k` nearest, by number of probes: lists as long as the probes that it was measured at. */
export interface RecallCurve {
  readonly k: number
  readonly recall: readonly number[]
  /** Bounds of the 95 % confidence interval of `recall`. */
  readonly low: readonly number[]
  readonly high: readonly number[]
  /** Share of the queries that found none. */
  readonly zero: readonly number[]
  /** One query in twenty has this recall or less. */
  readonly p05: readonly number[]
}

export function recallCurve(
  queries: readonly ReachedRanks[],
  k: number,
  probes: readonly number[],
): RecallCurve {
  return curveOf(
    k,
    probes.map((count) => Float64Array.from(queries, (reached) => recallOf(reached, k, count))),
  )
}

/** The curve of what each query has found, its share of `k`, at each number of probes. */
export function curveOf(k: number, shares: readonly Float64Array[]): RecallCurve {
  const points = shares.map((found) => {
    const { mean, low, high } = estimate(found, k)
    const sorted = found.slice().sort()
    const none = sorted.findIndex((share) => share > 0)
    const zero = (none < 0 ? sorted.length : none) / Math.max(1, sorted.length)
    return { recall: mean, low, high, zero, p05: sorted[Math.ceil(0.05 * sorted.length) - 1] ?? 0 }
  })
  const of = (name: keyof (typeof points)[number]) => points.map((point) => rounded(point[name]))
  return { k, recall: of("recall"), low: of("low"), high: of("high"), zero: of("zero"), p05: of("p05") }
}

/** What a target costs and reaches. */
export interface TargetFigures {
  readonly target: number
  /** Mean number of shards probed. */
  readonly probes: number
  /** Mean number of rows looked at; absent where they are all rows of these shards. */
  readonly rows?: number | undefined
  readonly recall: number
  readonly low: number
  readonly high: number
}

/** What queries reach that each stop after a number of probes of its own. */
export function targetFigures(
  queries: readonly ReachedRanks[],
  target: number,
  probes: ArrayLike<number>,
): TargetFigures {
  const shares = Float64Array.from(queries, (reached, i) => recallOf(reached, TARGET_K, probes[i]!))
  return targetFiguresOf(target, shares, probes)
}

/** The same from the share of the ten nearest that each query has found. */
export function targetFiguresOf(
  target: number,
  shares: Float64Array,
  probes: ArrayLike<number>,
  rows?: ArrayLike<number>,
): TargetFigures {
  const { mean, low, high } = estimate(shares, TARGET_K)
  return {
    target,
    probes: rounded(averageOf(probes)),
    ...(rows && { rows: Math.round(averageOf(rows)) }),
    recall: rounded(mean),
    low: rounded(low),
    high: rounded(high),
  }
}

function averageOf(values: ArrayLike<number>): number {
  let sum = 0
  for (let i = 0; i < values.length; i++) sum += values[i]!
  return sum / Math.max(1, values.length)
}

/** Four digits: more are noise, and a manifest has many of them. */
const rounded = (value: number): number => Math.round(value * 1e4) / 1e4

/** Numbers of probes that recall is measured at: all up to 16, then eight to a doubling, and `most`. */
export function probesToMeasure(most: number): readonly number[] {
  const probes: number[] = []
  for (let step = 0, count = 1; count < most; step++) {
    count = step < 16 ? step + 1 : Math.round(16 * 2 ** ((step - 15) / 8))
    if (count < most) probes.push(count)
  }
  return most < 1 ? [] : [...probes, most]
}

/** How a certificate came about. */
export interface CertifiedQueries {
  /** `rows`: held out of all that learns, then stored like the others. `given`: a sample of real queries. */
  readonly kind: "rows" | "given"
  readonly count: number
  /** The choice of rows, or the split of the queries, depends on it. */
  readonly seed: number
  /** Given queries that were demand for copies, and so not measured with. */
  readonly demand?: number | undefined
  /** Whether the given queries also chose the thresholds of `targetRecall`, so that they suit these best. */
  readonly choseThresholds?: boolean | undefined
  /**
   * Rows that chose the thresholds of `targetRecall`: targets are measured with the others, curves with all.
   */
  readonly choosing?: number | undefined
}

/** Whether a query, by its place, chose thresholds: all given ones, or every second row. */
export const choosesThresholds = (
  { choseThresholds, choosing }: Pick<CertifiedQueries, "choseThresholds" | "choosing">,
  query: number,
): boolean => choseThresholds === true || (choosing !== undefined && query % 2 === 0)

/** What a target takes in shards with cells, as a build has measured it. */
export interface CertifiedCells extends CellRule {
  /** What stored rows reached, which took part in choosing the rule. */
  readonly stored?: { readonly count: number; readonly targets: readonly TargetFigures[] } | undefined
}

/** Measured recall of a snapshot, by the number of shards probed. */
export interface RecallCertificate {
  readonly queries: CertifiedQueries
  /** Rows that each query was compared with: all, but for a row that is a query itself. */
  readonly rows: number
  /**
   * `vector`: shards are ranked for the query's vector. `row`: the strategy needs a shard or a context named,
   * so each row was looked for in its own shard, and more probes find no more.
   */
  readonly routedBy: "vector" | "row"
  /** Rising; the last is the number of shards that hold rows. */
  readonly probes: readonly number[]
  readonly curves: readonly RecallCurve[]
  /**
   * `rule`: each query stops by itself; `fixed`: the fewest measured probes whose lower bound meets the
   * target.
   */
  readonly stopping: "rule" | "fixed"
  /** About the ten nearest. Empty if queries name their shards themselves. */
  readonly targets: readonly TargetFigures[]
  /** Where shards have cells: the rule for them, by which `targets` were measured. */
  readonly cells?: CertifiedCells | undefined
  /**
   * Recall inside approximate shards as they measured it when they were built, which all figures here leave
   * out.
   */
  readonly insideShards?: { readonly mean: number; readonly least: number } | undefined
  /** Sentences for people: what to be careful about. */
  readonly notes: readonly string[]
}

/** Shards that a query of a snapshot probes unless it says otherwise, or the snapshot has a target for it. */
export const defaultProbes = ({ options }: Pick<ShardingDescription, "options">): number =>
  typeof options.probes === "number" ? options.probes : 1

/** The recall measured of the `k` nearest at `probes`; between two measured numbers that of the lower one. */
export function certifiedRecall(
  { probes, curves }: Pick<RecallCertificate, "probes" | "curves">,
  k: number,
  count: number,
): Estimate | undefined {
  const curve = curves.find((candidate) => candidate.k === k)
  const at = probes.findLastIndex((measured) => measured <= count)
  if (curve === undefined || at < 0) return undefined
  return { mean: curve.recall[at]!, low: curve.low[at]!, high: curve.high[at]! }
}

/** What queries reach that say nothing of their shards; `probes` is a mean where each has its own number. */
export interface DefaultRecall extends Estimate {
  readonly probes: number
  /** By which queries stop; absent if all have as many probes. */
  readonly target?: number | undefined
}

/** The measured recall of the `k` nearest by default; undefined if it was not measured. */
export function defaultRecall(
  {
    recall,
    sharding,
  }: { readonly recall?: RecallCertificate | undefined; readonly sharding: ShardingDescription },
  k: number,
): DefaultRecall | undefined {
  const target = describedEffort(sharding)?.targetRecall
  const reached = k === TARGET_K ? recall?.targets.find((figures) => figures.target === target) : undefined
  if (reached !== undefined) {
    const { recall: mean, low, high, probes } = reached
    return { mean, low, high, probes, target }
  }
  const probes = defaultProbes(sharding)
  const measured = recall && certifiedRecall(recall, k, probes)
  return measured && { ...measured, probes }
}

/**
 * The fewest measured probes whose lower bound of recall of the ten nearest meets a target, with the recall
 * they have; all shards if none does.
 */
export function fixedProbes(
  { probes, curves }: Pick<RecallCertificate, "probes" | "curves">,
  target: number,
): { readonly probes: number; readonly recall: number } {
  const curve = curves.find(({ k }) => k === TARGET_K) ?? curves.at(-1)!
  const meets = curve.low.findIndex((low) => low >= target)
  const at = meets < 0 ? probes.length - 1 : meets
  return { probes: probes[at]!, recall: curve.recall[at]! }
}
