/**
 * What doctor says: a list of checks, each with a verdict in words, and what they mean together. Pure.
 */
import type { ErrorTag } from "../../errors.js"

export type CheckName =
  | "connection"
  | "objects"
  | "latency"
  | "ranges"
  | "conditional read"
  | "conditional create"
  | "conditional overwrite"
  | "delete"
  | "listing"
  | "paging"
  | "clock"
  | "multipart"
  | "permissions"
  | "cleanup"

/** "warning": vecsnap works, but not with all of its guarantees, or not all of it. */
export type Verdict = "ok" | "warning" | "failed" | "skipped"

export interface Judgement {
  readonly verdict: Verdict
  /** What was seen. */
  readonly finding: string
  /** What it means for vecsnap; absent where all is well. */
  readonly meaning?: string
  /** Kind of the error that ended the check, if one did. */
  readonly error?: ErrorTag
}

export interface Check extends Judgement {
  readonly name: CheckName
}

export interface Diagnosis {
  readonly url: string
  readonly checks: readonly Check[]
  /** The worst of the checks. */
  readonly verdict: Exclude<Verdict, "skipped">
  /** What the store can be used for, in a few sentences. */
  readonly summary: string
}

export function diagnosisOf(url: string, checks: readonly Check[]): Diagnosis {
  const has = (verdict: Verdict): boolean => checks.some((check) => check.verdict === verdict)
  const verdict = has("failed") ? "failed" : has("warning") ? "warning" : "ok"
  return { url, checks, verdict, summary: summaryOf(checks) }
}

/** What vecsnap does with a store, and the checks that must not have gone wrong for it. */
const USES: readonly { readonly use: string; readonly needs: readonly CheckName[] }[] = [
  { use: "reading snapshots", needs: ["ranges", "conditional read"] },
  {
    use: "building and publishing",
    needs: ["objects", "ranges", "conditional create", "conditional overwrite", "multipart"],
  },
  { use: "history", needs: ["listing", "paging"] },
  { use: "collection (gc)", needs: ["objects", "listing", "paging", "delete"] },
]

function summaryOf(checks: readonly Check[]): string {
  const byName = new Map(checks.map((check) => [check.name, check]))
  const connection = byName.get("connection")
  if (connection?.verdict === "failed")
    return "Nothing can be said about this store until it can be reached with these settings."
  // A refusal is a warning where part of vecsnap does without, but that which is refused does not work.
  const works = (name: CheckName): boolean => {
    const check = byName.get(name)
    return check?.verdict !== "failed" && check?.error === undefined
  }
  if (!works("objects") && !works("connection"))
    return "With these credentials too little is allowed to try anything out."
  const possible = USES.filter(({ needs }) => needs.every(works)).map(({ use }) => use)
  const impossible = USES.map(({ use }) => use).filter((use) => !possible.includes(use))
  const sentences = [
    possible.length === 0
      ? "This store cannot be used for anything that vecsnap does."
      : `This store can be used for ${enumerate(possible)}.`,
    possible.length > 0 && impossible.length > 0 ? `It cannot be used for ${enumerate(impossible)}.` : "",
    possible.includes("building and publishing") && !guardsRaces(byName)
      ? "Racing publishers are not excluded, so see to it that only one job publishes at a time."
      : "",
  ]
  return sentences.filter(Boolean).join(" ")
}

const guardsRaces = (checks: ReadonlyMap<CheckName, Check>): boolean =>
  checks.get("conditional create")?.verdict === "ok" && checks.get("conditional overwrite")?.verdict === "ok"

/** "a", "a and b", "a, b and c". */
export function enumerate(items: readonly string[]): string {
  if (items.length < 2) return items.join("")
  return `${items.slice(0, -1).join(", ")} and ${items.at(-1)}`
}
