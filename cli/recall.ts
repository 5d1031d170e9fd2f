/** Measured recall for people. */
import type { EvaluatedKind, RecallCertificate } from "../src/index.js"
import { certifiedRecall } from "../src/recall/curves.js"
import { countOf, formatCount } from "./render.js"

/** Numbers of probes that a line shows, where there are so many shards. */
const SHOWN_PROBES = [1, 4, 8, 16]
const K = 10

/** Kinds of queries that targets are measured with. */
export const KIND_NAMES: Readonly<Record<EvaluatedKind["kind"], string>> = {
  stored: "stored rows",
  near: "near stored rows",
  given: "real queries",
  "held-out": "rows held out, by the certificate",
}

/** "93.1%". */
export const formatShare = (share: number): string => `${(100 * share).toFixed(1)}%`

/** "recall@10 70.4% ±1.6 at 1 probe, 91.6% ±0.8 at 4, 96.3% ±0.5 at 8; by 1,000 rows held out". */
export function describeRecall(recall: RecallCertificate): string {
  const { probes, curves, queries } = recall
  const k = curves.some((curve) => curve.k === K) ? K : curves.at(-1)!.k
  const most = probes.at(-1)!
  const shown = recall.routedBy === "row" ? [1] : SHOWN_PROBES.filter((count) => count < most)
  const figures = (shown.length > 0 ? shown : [most]).map((count, i) => {
    const { mean, low, high } = certifiedRecall(recall, k, count)!
    const margin = `±${((100 * (high - low)) / 2).toFixed(1)}`
    return `${formatShare(mean)} ${margin} at ${i === 0 ? countOf(count, "probe") : formatCount(count)}`
  })
  return `recall@${k} ${figures.join(", ")}; by ${describeQueries(queries)}`
}

/** "1,000 rows held out", "500 real queries". */
const describeQueries = ({ kind, count }: RecallCertificate["queries"]): string =>
  kind === "rows" ? `${countOf(count, "row")} held out` : `${formatCount(count)} real queries`

/**
 * "95.0% takes 4.6 (reached 94.7%, 3,120 rows) shards on average": what each target costs; undefined if there
 * are none. Rows are told where they are not all rows of the shards.
 */
export function describeTargets({ targets, stopping }: RecallCertificate): string | undefined {
  if (targets.length === 0) return undefined
  const figures = targets.map(({ target, probes, rows, recall }) => {
    const count = stopping === "rule" ? probes.toFixed(1) : formatCount(probes)
    const looked = rows === undefined ? "" : `, ${formatCount(rows)} rows`
    return `${formatShare(target)} takes ${count} (reached ${formatShare(recall)}${looked})`
  })
  return `${figures.join(", ")} ${stopping === "rule" ? "shards on average" : "shards"}`
}
