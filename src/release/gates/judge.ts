/**
 * Whether what was built may become live: a pure function of both manifests, the limits and what was
 * measured.
 *
 * Comparisons are written so that a value that is no number refuses. Percentages are one division of whole
 * numbers, which rounds as the limit did when it was written down: a share that is exactly the limit passes.
 */
import { shardFigures } from "../../manifest/figures.js"
import type { Manifest } from "../../manifest/manifest.js"
import { GATE_NAMES, type GateName, type GateOptions, type GateResult, type Judged } from "./options.js"
import { judgeRecall } from "./recall.js"

/** What a gate found in stored data. */
export type Measurement =
  | { readonly value: number; readonly reason: string }
  /** Why there is nothing to measure. */
  | { readonly missing: string }
  /** Why measuring did not succeed. */
  | { readonly failed: string }

export interface GateFacts {
  readonly candidate: Manifest
  /** What is live, if anything is. */
  readonly live: Manifest | undefined
  readonly options: GateOptions
  /** Needed where `options` has a limit and something is live. */
  readonly measured: {
    readonly centroidDrift?: Measurement | undefined
    readonly overlap?: Measurement | undefined
  }
}

/**
 * The results of all gates that are always checked or that `options` has a limit for, in the order of
 * GATE_NAMES.
 */
export function judgeGates(facts: GateFacts, allow: readonly GateName[]): readonly GateResult[] {
  return GATE_NAMES.flatMap((gate): readonly GateResult[] => {
    const judged = JUDGES[gate](facts)
    if (judged === undefined) return []
    const allowed = judged.verdict === "refused" && allow.includes(gate)
    return [{ gate, ...judged, verdict: allowed ? "allowed" : judged.verdict }]
  })
}

const JUDGES: Readonly<Record<GateName, (facts: GateFacts) => Judged | undefined>> = {
  rows: judgeRows,
  dim: (facts) => judgeSame(facts, "dimension", ({ schema }) => schema.dim),
  metric: (facts) => judgeSame(facts, "metric", ({ schema }) => schema.metric),
  model: judgeModel,
  "skipped-rows": ({ candidate, options: { skippedRows } }) => {
    const { skippedRows: skipped } = candidate.build
    return (
      skippedRows && judgeShare(skipped, rowsRead(candidate), skippedRows.maxPercent, "rows read", "were bad")
    )
  },
  duplicates: ({ candidate, options: { duplicates } }) => {
    const { duplicateRows } = candidate.build
    const what = "had an id that was there already"
    return (
      duplicates && judgeShare(duplicateRows, rowsRead(candidate), duplicates.maxPercent, "rows read", what)
    )
  },
  skew: ({ candidate, options: { skew } }) => {
    if (skew === undefined) return undefined
    const figures = shardFigures(candidate)
    const stored = candidate.rows + (candidate.copies ?? 0)
    const average = figures.total === 0 ? 0 : stored / figures.total
    return judgeMost(
      figures.skew,
      skew.max,
      "",
      `the largest shard has ${figures.largestRows} rows, the average ${shortNumber(average)}`,
    )
  },
  norms: judgeNorms,
  "zero-norms": ({ candidate, options: { zeroNorms } }) => {
    if (zeroNorms === undefined) return undefined
    const { norms, duplicateRows } = candidate.build
    if (norms === undefined) return notApplicable(noNorms(candidate))
    // Lengths are taken before duplicates are dropped.
    const rows = candidate.rows + duplicateRows
    return judgeShare(norms.zeroRows, rows, zeroNorms.maxPercent, "vectors", "have the length zero")
  },
  "centroid-drift": ({ live, options: { centroidDrift }, measured }) =>
    centroidDrift &&
    judgeMeasured(live, measured.centroidDrift, `at most ${centroidDrift.max}`, (drift) => {
      return drift <= centroidDrift.max
    }),
  overlap: ({ live, options: { overlap }, measured }) =>
    overlap &&
    judgeMeasured(live, measured.overlap, `at least ${overlap.min}`, (share) => share >= overlap.min),
  recall: ({ candidate, options: { recall } }) => recall && judgeRecall(candidate, recall),
}

function judgeRows({ candidate, live, options }: GateFacts): Judged | undefined {
  if (options.rows === undefined) return undefined
  const { min, maxDropPercent, maxGrowPercent } = options.rows
  const { rows } = candidate
  const limits: string[] = []
  const holds: boolean[] = []
  const limit = (text: string, kept: boolean): void => {
    limits.push(text)
    holds.push(kept)
  }
  if (min !== undefined) limit(`at least ${min}`, rows >= min)
  // Of nothing there are no percents.
  const before = live !== undefined && live.rows > 0 ? live.rows : undefined
  if (before !== undefined && maxDropPercent !== undefined)
    limit(
      `at most ${maxDropPercent}% fewer than ${before}`,
      percentOf(before - rows, before) <= maxDropPercent,
    )
  if (before !== undefined && maxGrowPercent !== undefined)
    limit(
      `at most ${maxGrowPercent}% more than ${before}`,
      percentOf(rows - before, before) <= maxGrowPercent,
    )
  if (limits.length === 0) return notApplicable(NOTHING_LIVE)
  return {
    limit: limits.join(", "),
    value: rows,
    verdict: holds.every(Boolean) ? "passed" : "refused",
    reason: before === undefined ? `it has ${rows} rows` : `it has ${rows} rows, ${compare(rows, before)}`,
  }
}

function compare(rows: number, before: number): string {
  if (rows === before) return "as many as the live snapshot"
  const percent = shortNumber(percentOf(Math.abs(rows - before), before))
  return `${percent}% ${rows < before ? "fewer" : "more"} than the ${before} of the live snapshot`
}

function judgeSame(
  { candidate, live }: GateFacts,
  what: string,
  of: (manifest: Manifest) => string | number,
): Judged {
  if (live === undefined) return notApplicable(NOTHING_LIVE)
  const value = of(candidate)
  const expected = of(live)
  const same = value === expected
  return {
    limit: String(expected),
    value,
    verdict: same ? "passed" : "refused",
    reason: same ? `the ${what} is the live snapshot's` : `the ${what} was ${expected} and is ${value} now`,
  }
}

/**
 * A label on one side only counts as a change: it may be the first label of a new model, or the old one
 * forgotten, and vectors of two models must never be mixed up unnoticed.
 */
function judgeModel({ candidate, live }: GateFacts): Judged {
  if (live === undefined) return notApplicable(NOTHING_LIVE)
  const value = candidate.schema.model
  const expected = live.schema.model
  if (value === undefined && expected === undefined)
    return notApplicable("neither snapshot has a model label")
  const same = value === expected
  const name = (label: string | undefined): string => (label === undefined ? "none" : JSON.stringify(label))
  return {
    limit: expected ?? "no label",
    value: value ?? null,
    verdict: same ? "passed" : "refused",
    reason: same
      ? "the model label is the live snapshot's"
      : `the model label was ${name(expected)} and is ${name(value)} now`,
  }
}

function judgeNorms({ candidate, live, options: { norms } }: GateFacts): Judged | undefined {
  if (norms === undefined) return undefined
  if (live === undefined) return notApplicable(NOTHING_LIVE)
  const without = [candidate, live].find(({ build }) => build.norms === undefined)
  if (without !== undefined) return notApplicable(noNorms(without))
  const now = candidate.build.norms!.median
  const before = live.build.norms!.median
  if (before === 0) return notApplicable("the median length of the live snapshot's vectors is 0")
  return judgeMost(
    percentOf(Math.abs(now - before), before),
    norms.maxDriftPercent,
    "%",
    `the median length of the vectors was ${shortNumber(before)} and is ${shortNumber(now)} now`,
  )
}

function judgeShare(part: number, whole: number, maxPercent: number, of: string, what: string): Judged {
  return judgeMost(percentOf(part, whole), maxPercent, "%", `${part} of ${whole} ${of} ${what}`)
}

const judgeMost = (value: number, max: number, unit: string, reason: string): Judged => ({
  limit: `at most ${max}${unit}`,
  value,
  verdict: value <= max ? "passed" : "refused",
  reason,
})

function judgeMeasured(
  live: Manifest | undefined,
  measured: Measurement | undefined,
  limit: string,
  holds: (value: number) => boolean,
): Judged {
  if (live === undefined) return notApplicable(NOTHING_LIVE)
  if (measured === undefined) return { limit, value: null, verdict: "refused", reason: "it was not measured" }
  if ("missing" in measured) return notApplicable(measured.missing)
  if ("failed" in measured) {
    return { limit, value: null, verdict: "refused", reason: `it can't be measured: ${measured.failed}` }
  }
  const { value, reason } = measured
  return { limit, value, verdict: holds(value) ? "passed" : "refused", reason }
}

const NOTHING_LIVE = "nothing is live to compare it with"
const noNorms = ({ run }: Manifest): string =>
  `snapshot ${run} does not say how long its vectors are: an older vecsnap built it`
const notApplicable = (reason: string): Judged => ({
  limit: null,
  value: null,
  verdict: "not applicable",
  reason,
})

const rowsRead = ({ rows, build }: Manifest): number => rows + build.skippedRows + build.duplicateRows
const percentOf = (part: number, whole: number): number => (whole === 0 ? 0 : (100 * part) / whole)
/** Six digits: enough to see on which side of a limit a value lies, almost always. */
/** Six digits; more would not be read. */
export const shortNumber = (value: number): number => Number(value.toPrecision(6))
