/**
 * Health: one judgement for monitors and load balancers, with its reasons in words.
 *
 * - `unhealthy`: the reader is closed; or a trial, where one was asked for, has failed; or of the last calls,
 *   {@link CALLS_TO_JUDGE} at least, all have failed; or the pointer could not be read for
 *   {@link POINTER_UNREADABLE_MS}, or cannot be read while the snapshot is older than `maxAgeSeconds`.
 * - `degraded`: it answers, but the last refresh failed, the pointer cannot be read, the snapshot is older
 *   than `maxAgeSeconds`, an older one answers in place of what the pointer names, shards failed when they
 *   were last asked, calls were turned away lately, or the lease that protects its snapshot from a
 *   collection is over.
 * - `healthy`: none of these; there may be advice.
 *
 * A call has failed if storage, the machine, data or time are to blame: wrong input and calls that were
 * aborted don't count. Calls turned away for load don't either: restarting a busy reader makes it slower.
 *
 * A reader that nobody has asked yet knows nothing of its shards. Where that is not enough, a {@link TRIAL_MS
 * trial} asks one of them.
 *
 * Queries that are unlike the rows give a reason, but no other status: it is the next build that can do
 * something about it, and nobody should be woken for it. So does recall that audits found below its target.
 */
import { isVecsnapError } from "../../errors.js"
import type { Health, ObservedRecall, RefreshReport, UnlikeQueries } from "../types.js"

/** So long without its pointer, a reader can no longer claim to follow what is live. */
export const POINTER_UNREADABLE_MS = 5 * 60 * 1000
/** Fewer calls than this say nothing about the next one. */
const CALLS_TO_JUDGE = 5
/** Outcomes of calls that are remembered. */
const RECENT_CALLS = 20
/** Outcomes older than this are forgotten, so that a reader that nobody asks does not stay unhealthy. */
const RECENT_MS = 60_000

/** From this share on, of so many queries at least, health says that queries are unlike the rows. */
const MANY_UNLIKE = 0.25
const QUERIES_TO_JUDGE = 200
/** Queries of which it is remembered. */
const RECENT_QUERIES = 1000

/** The longest that a trial waits for its shard, in milliseconds. */
export const TRIAL_MS = 10_000
/** How long a shard that nobody asks again counts as failing: the next one to ask it may find it well. */
export const FAILING_SHARD_MS = 5 * 60_000

/** A shard that failed when it was last asked. */
export interface FailingShard {
  readonly reason: string
  readonly atMs: number
}

/** How a search of one shard went that `health` made itself. */
export interface Trial {
  readonly shard: number
  /** Why it failed; undefined if it has answered. */
  readonly failure: string | undefined
  /** Whether only the time was up. */
  readonly late: boolean
}

export interface HealthFacts {
  readonly nowMs: number
  readonly closed: boolean
  readonly pinned: boolean
  readonly snapshot: string
  /** Why it answers in place of what the pointer names; undefined if it is what the pointer names. */
  readonly fellBack?: string | undefined
  readonly publishedAtMs: number
  readonly maxAgeSeconds: number | undefined
  readonly lastRefresh: RefreshReport | undefined
  /** Since when the pointer could not be read, and why; `undefined` if it was read the last time. */
  readonly pointerFailure: { readonly sinceMs: number; readonly reason: string } | undefined
  readonly calls: { readonly answered: number; readonly failed: number; readonly refused: number }
  readonly lastFailure: string | undefined
  /** By number. */
  readonly failingShards: ReadonlyMap<number, FailingShard>
  /** Undefined if none was asked for. */
  readonly trial?: Trial | undefined
  /** Why the lease of the reader is over; `undefined` if it is not, or there is none. */
  readonly leaseOver?: string | undefined
  readonly unlikeQueries?: UnlikeQueries | undefined
  readonly observedRecall?: ObservedRecall | undefined
}

export type HealthVerdict = Pick<Health, "status" | "reasons" | "ageSeconds">

/** The status that the facts amount to, and each reason for it, the gravest first. */
export function judgeHealth(facts: HealthFacts): HealthVerdict {
  const { nowMs, maxAgeSeconds, pointerFailure, lastRefresh, calls, failingShards, unlikeQueries } = facts
  const ageSeconds = Math.max(0, Math.round((nowMs - facts.publishedAtMs) / 1000))
  const unhealthy: string[] = []
  const degraded: string[] = []

  if (facts.closed) unhealthy.push("this reader is closed")
  if (facts.trial?.failure !== undefined) {
    const { shard, failure, late } = facts.trial
    const reasons = late ? degraded : unhealthy
    reasons.push(`a search of shard ${shard}, made as a trial, has failed: ${failure}`)
  }
  if (calls.answered === 0 && calls.failed >= CALLS_TO_JUDGE) {
    unhealthy.push(`all of the last ${calls.failed} calls have failed, the latest: ${facts.lastFailure}`)
  } else if (calls.failed > 0) {
    degraded.push(
      `${calls.failed} of the last ${calls.answered + calls.failed} calls have failed, the latest: ${facts.lastFailure}`,
    )
  }
  const isOld = maxAgeSeconds !== undefined && ageSeconds > maxAgeSeconds
  if (isOld) {
    degraded.push(
      `snapshot ${facts.snapshot} was published ${ageSeconds} s ago, more than maxAgeSeconds, ${maxAgeSeconds}`,
    )
  }
  if (pointerFailure !== undefined) {
    const forMs = nowMs - pointerFailure.sinceMs
    const isGrave = isOld || forMs >= POINTER_UNREADABLE_MS
    const reasons = isGrave ? unhealthy : degraded
    reasons.push(`the pointer could not be read for ${Math.round(forMs / 1000)} s: ${pointerFailure.reason}`)
  }
  if (lastRefresh?.error !== undefined) {
    degraded.push(`the last refresh, at ${lastRefresh.at.toISOString()}, failed: ${lastRefresh.error}`)
  }
  const tried = facts.trial?.failure === undefined ? undefined : facts.trial.shard
  for (const [shard, { reason, atMs }] of failingShards) {
    if (shard !== tried && nowMs - atMs <= FAILING_SHARD_MS) degraded.push(`shard ${shard} fails: ${reason}`)
  }
  if (facts.fellBack !== undefined) degraded.push(facts.fellBack)
  if (facts.leaseOver !== undefined) degraded.push(facts.leaseOver)
  if (calls.refused > 0)
    degraded.push(`${calls.refused} calls were turned away lately, since too many waited`)

  const advice: string[] = []
  if (unlikeQueries !== undefined && unlikeQueries.of >= QUERIES_TO_JUDGE) {
    const { share, of } = unlikeQueries
    if (share > MANY_UNLIKE) {
      advice.push(
        `${Math.round(100 * share)} % of the last ${of} queries are unlike the rows, so that recall is lower than expected: build with a sample of them`,
      )
    }
  }

  const observed = facts.observedRecall
  if (observed?.target !== undefined && observed.high < observed.target) {
    const { recall, low, high, target, queries } = observed
    advice.push(
      `queries get a recall of ${share(recall)} where ${share(target)} was asked for (${share(low)} to ${share(high)}, of ${queries} that were asked again): build with a sample of them`,
    )
  }

  const status = unhealthy.length > 0 ? "unhealthy" : degraded.length > 0 ? "degraded" : "healthy"
  return { status, reasons: [...unhealthy, ...degraded, ...advice], ageSeconds }
}

/** ".91" */
const share = (value: number): string => value.toFixed(3).replace(/^0/, "").replace(/0$/, "")

export type Outcome = "answered" | "failed" | "refused"

/** How a call that threw `error` counts; `undefined` if it says nothing about the reader. */
export function outcomeOf(error: unknown): Outcome | undefined {
  if (!isVecsnapError(error)) return "failed"
  switch (error.tag) {
    case "InvalidInput":
    case "Closed":
      return undefined
    case "Unsupported":
      // A package that is missing here, other than what the snapshot cannot do.
      return error.details.package === undefined ? undefined : "failed"
    case "Aborted":
      return error.details.timeoutMs === undefined ? undefined : "failed"
    case "Unavailable":
      return error.details.retryAfterMs === undefined ? "failed" : "refused"
    default:
      return "failed"
  }
}

export interface RecentCalls {
  note(outcome: Outcome, reason?: string): void
  counts(): HealthFacts["calls"]
  /** Why the latest call that failed did. */
  readonly lastFailure: string | undefined
}

/** Remembers how the latest calls went. */
export function createRecentCalls(nowMs: () => number = Date.now): RecentCalls {
  let recent: { readonly atMs: number; readonly outcome: Outcome }[] = []
  let lastFailure: string | undefined
  return {
    note(outcome, reason) {
      recent.push({ atMs: nowMs(), outcome })
      if (recent.length > RECENT_CALLS) recent.shift()
      if (outcome === "failed") lastFailure = reason
    },
    counts() {
      const since = nowMs() - RECENT_MS
      recent = recent.filter(({ atMs }) => atMs >= since)
      const counts = { answered: 0, failed: 0, refused: 0 }
      for (const { outcome } of recent) counts[outcome]++
      return counts
    },
    get lastFailure() {
      return lastFailure
    },
  }
}

export interface RecentQueries {
  note(unlike: boolean): void
  /** `undefined` before the first one. */
  unlike(): UnlikeQueries | undefined
}

/** Remembers of the latest queries whether they were unlike the rows. */
export function createRecentQueries(size = RECENT_QUERIES): RecentQueries {
  const kinds = new Uint8Array(size)
  let seen = 0
  let unlike = 0
  return {
    note(isUnlike) {
      const place = seen++ % size
      unlike += Number(isUnlike) - kinds[place]!
      kinds[place] = Number(isUnlike)
    },
    unlike() {
      const of = Math.min(seen, size)
      return of === 0 ? undefined : { share: unlike / of, of }
    },
  }
}
