/**
 * What the observations of doctor mean. Pure: one function per check.
 */
import { type ErrorTag, isVecsnapError, messageOf } from "../../errors.js"
import { type CheckName, enumerate, type Judgement } from "./diagnosis.js"
import {
  type ClockSeen,
  type ConditionalCreateSeen,
  type ConditionalOverwriteSeen,
  type ConditionalReadSeen,
  type DeleteSeen,
  type LatencySeen,
  type ListingSeen,
  type MissingSeen,
  type MultipartSeen,
  type ObjectsSeen,
  RACING_WRITERS,
  type RangeSeen,
} from "./observe.js"
import { isRefusal, type Permission, type PermissionState } from "./probe.js"

const ok = (finding: string): Judgement => ({ verdict: "ok", finding })
const warning = (finding: string, meaning: string): Judgement => ({ verdict: "warning", finding, meaning })
const failed = (finding: string, meaning: string): Judgement => ({ verdict: "failed", finding, meaning })

const NO_FIRST_BUILD =
  "the first build at an empty root looks for a pointer that is missing, and stops at the refusal; grant s3:ListBucket, with which the answer is 404"

// ---- Errors -----------------------------------------------------------------------------------------------------

/** What it means that a check could not be made at all. */
const MEANING_OF_ERROR: Readonly<Partial<Record<CheckName, string>>> = {
  objects: "builds cannot write",
  ranges: "builds and lookups by id read parts of objects",
  "conditional read": "readers look for a new snapshot so",
  "conditional create": "builds create every object so, and fail",
  "conditional overwrite": "the second build is never published",
  delete: "gc removes nothing: what old runs and snapshots occupy stays",
  listing: "history shows nothing, and gc finds nothing; readers and builds do not list",
  paging: "history and gc may not see all",
  multipart: "shards above 16 MiB cannot be uploaded",
}

/** Part of vecsnap does without these. */
const DISPENSABLE = new Set<CheckName>(["delete", "listing", "latency", "clock"])

export function judgeError(name: CheckName, error: unknown): Judgement {
  const meaning = MEANING_OF_ERROR[name]
  return {
    verdict: DISPENSABLE.has(name) && isRefusal(error) ? "warning" : "failed",
    finding: isRefusal(error) ? `refused: ${messageOf(error)}` : messageOf(error),
    ...(meaning !== undefined && { meaning }),
    ...(isVecsnapError(error) && { error: error.tag }),
  }
}

/** Of asking for a key that does not exist. */
export function judgeConnection(seen: MissingSeen): Judgement {
  if (seen === "refused")
    return {
      ...warning("the store answers, but refuses to say whether a key exists", NO_FIRST_BUILD),
      error: "InvalidInput",
    }
  return ok("the store answers, and knows who asks")
}

const MEANING_OF_NO_CONNECTION: Readonly<Partial<Record<ErrorTag, string>>> = {
  Unavailable: "the store does not answer now, or not at this address",
  InvalidInput: "the settings or the credentials are wrong",
}

/** Of an error on asking for a key that does not exist. */
export function judgeNoConnection(error: unknown): Judgement {
  const meaning = isVecsnapError(error) ? MEANING_OF_NO_CONNECTION[error.tag] : undefined
  return { ...judgeError("connection", error), ...(meaning !== undefined && { meaning }) }
}

// ---- Reading and writing ----------------------------------------------------------------------------------------

export function judgeObjects({ faults, missing }: ObjectsSeen): Judgement {
  if (faults.length > 0) return failed(faults.join("; "), "snapshots would be damaged, or not seen")
  if (missing === "found")
    return failed(
      "a key that was never written is found",
      "an empty root would be taken for a damaged snapshot",
    )
  if (missing === "refused")
    return warning("PUT, GET and HEAD work; a key that does not exist is refused", NO_FIRST_BUILD)
  return ok("PUT, GET and HEAD agree, also right after overwriting; missing keys are missing")
}

/** Where opening a snapshot, three reads one after the other, takes more than a second. */
const SLOW_GET_MS = 400

export function judgeLatency({ getMs, putMs }: LatencySeen): Judgement {
  const figures = (name: string, times: readonly number[]): string =>
    `${name} p50 ${milliseconds(median(times))}, max ${milliseconds(Math.max(...times))}`
  const finding = `${figures("GET", getMs)}; ${figures("PUT", putMs)} (1 kB, one after the other)`
  if (median(getMs) <= SLOW_GET_MS) return ok(finding)
  return warning(
    finding,
    "opening a snapshot takes three reads one after the other, and a search one more per shard not yet in the cache",
  )
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0
}

const milliseconds = (value: number): string => `${value < 10 ? value.toFixed(1) : Math.round(value)} ms`

export function judgeRanges(seen: readonly RangeSeen[]): Judgement {
  const faults = seen.filter(
    ({ range, got }) => got !== (range === "a range past the end" ? "refused" : "as written"),
  )
  if (faults.length === 0) return ok("first, middle and last bytes are as written; past the end is refused")
  return failed(
    `asked for ${enumerate(faults.map(({ range, got }) => `${range}, got ${got === "refused" ? "no such range" : got}`))}`,
    "lookups by id and the check of large uploads read ranges, and would fail or be wrong",
  )
}

export function judgeConditionalRead({ same, changed }: ConditionalReadSeen): Judgement {
  if (changed !== "new content") {
    const got = changed === "unchanged" ? '"unchanged"' : "other content"
    return failed(
      `a changed object, asked for if changed, gives ${got}`,
      "readers that refresh would not see new snapshots",
    )
  }
  if (same !== "unchanged")
    return warning(
      "an object that did not change is sent again",
      "readers that refresh read the whole pointer each time: slower, not wrong",
    )
  return ok("what did not change is not sent again; what changed is")
}

// ---- Conditional writes -----------------------------------------------------------------------------------------

const RACES_NOT_EXCLUDED =
  "publishing works, but racing publishers are not excluded: one may silently undo the other; nor is collection protected from races"

export function judgeConditionalCreate(seen: ConditionalCreateSeen): Judgement {
  const { ofMissing, ofExisting, winners, overwritten } = seen
  if (ofMissing === "conflict")
    return failed(
      "creating a key that does not exist is refused as existing",
      "builds fail at their first object",
    )
  if (winners.includes(0))
    return failed(
      `of ${RACING_WRITERS} racing creates none won in ${count(winners, (n) => n === 0)} of ${winners.length} rounds`,
      "two builds that publish at the same time could both fail",
    )
  const faults = [
    ofExisting === "written" ? "create-only overwrites an object that exists" : "",
    winners.some((n) => n > 1)
      ? `of ${RACING_WRITERS} racing creates up to ${Math.max(...winners)} were told to have won`
      : "",
    overwritten > 0 ? `in ${overwritten} rounds the object is not what its one winner wrote` : "",
  ].filter(Boolean)
  if (faults.length > 0) return warning(faults.join("; "), RACES_NOT_EXCLUDED)
  return ok(
    `create-only is honoured; exactly 1 of ${RACING_WRITERS} racing writers won in ${winners.length} rounds`,
  )
}

export function judgeConditionalOverwrite(seen: ConditionalOverwriteSeen): Judgement {
  const { ofCurrent, ofStale, ofMissing, acknowledged, counted, exhausted } = seen
  if (ofCurrent === "conflict")
    return failed("an overwrite with the current ETag is refused", "no build but the first can be published")
  const faults = [
    ofStale === "written" ? "an overwrite with a stale ETag is accepted" : "",
    ofMissing === "written" ? "an overwrite with an ETag creates a key that does not exist" : "",
    counted !== acknowledged
      ? `${RACING_WRITERS} racing writers made ${acknowledged} increments, and the counter shows ${counted}`
      : "",
  ].filter(Boolean)
  if (faults.length > 0) return warning(faults.join("; "), RACES_NOT_EXCLUDED)
  if (exhausted > 0)
    return warning(
      `${exhausted} of ${RACING_WRITERS} racing writers never got their turn`,
      "a publisher that races with others may have to be started again",
    )
  return ok(
    `a stale ETag is refused; ${RACING_WRITERS} racing writers made ${acknowledged} increments, and none was lost`,
  )
}

const count = <T>(items: readonly T[], is: (item: T) => boolean): number => items.filter(is).length

// ---- Delete and list --------------------------------------------------------------------------------------------

export function judgeDelete({ failures, remaining, deleted }: DeleteSeen): Judgement {
  if (remaining > 0)
    return failed(
      `${remaining} of ${deleted} deleted objects are still there`,
      "gc would report what it did not do",
    )
  const [first] = failures
  if (first !== undefined)
    return failed(
      `objects are deleted, but ${failures.length} failures were reported, the first: ${first.reason}`,
      "gc would report failures and never be done",
    )
  return ok("one, many at once and a missing one")
}

const UNSEEN =
  "gc would take what it does not see for deleted, and keep or remove the wrong files; do not run it; history is incomplete"

export function judgeListing({ expected, listed }: ListingSeen): Judgement {
  const wanted = new Set(expected)
  const seen = new Set(listed)
  const missing = count(expected, (key) => !seen.has(key))
  const extra = count([...seen], (key) => !wanted.has(key))
  const faults = [
    missing > 0 ? `${missing} of ${expected.length} keys are missing` : "",
    listed.length > seen.size ? `${listed.length - seen.size} keys come twice` : "",
    extra > 0 ? `${extra} keys come that do not start with the prefix, or were never written` : "",
  ].filter(Boolean)
  if (faults.length > 0) return failed(faults.join("; "), UNSEEN)
  if (listed.some((key, i) => key !== expected[i]))
    return failed(
      "all keys, but not in the order of their bytes in UTF-8",
      "a listing that is resumed after a lost connection goes on behind its last key, and would leave out others: gc and history cannot rely on it",
    )
  return ok(`${listed.length.toLocaleString("en-US")} keys, each once, in the order of their bytes in UTF-8`)
}

// ---- Clock and multipart ----------------------------------------------------------------------------------------

/** S3 tells times in whole seconds, cut off. */
const RESOLUTION_MS = 1000
const TOLERATED_SKEW_MS = 5000

/** How far the store's clock is ahead of ours (behind, if negative), at the least. */
export function skewOf({ beforeMs, storedMs, afterMs }: ClockSeen): number {
  if (storedMs > afterMs) return storedMs - afterMs
  if (storedMs + RESOLUTION_MS < beforeMs) return storedMs + RESOLUTION_MS - beforeMs
  return 0
}

export function judgeClock(seen: ClockSeen): Judgement {
  const skewMs = skewOf(seen)
  if (Number.isNaN(seen.storedMs))
    return failed("the store does not tell when an object was written", "gc cannot tell what is old")
  if (Math.abs(skewMs) <= TOLERATED_SKEW_MS) return ok("this machine and the store agree within 5 s")
  const direction = skewMs > 0 ? "ahead of" : "behind"
  return warning(
    `the store's clock is ${Math.round(Math.abs(skewMs) / 1000).toLocaleString("en-US")} s ${direction} this machine's`,
    "which of two runs began first is told by the clocks of the machines that build: set this one right; ages in gc go by the store's clock alone; S3 refuses requests from 15 minutes on",
  )
}

export function judgeMultipart({ sizeBytes, winners, intact }: MultipartSeen): Judgement {
  const size = `${(sizeBytes / 1024 ** 2).toFixed(0)} MiB`
  if (winners === 0)
    return failed(`neither of two racing uploads of ${size} succeeded`, "large shards cannot be uploaded")
  if (!intact)
    return failed(`an upload of ${size} in parts reads back as other bytes`, "large shards would be damaged")
  if (winners > 1)
    return warning(
      `an upload of ${size} in parts reads back as written; two that raced to create one object both succeeded`,
      "harmless as long as no two runs write the same key, and every attempt writes keys of its own",
    )
  return ok(
    `an upload of ${size} in parts reads back as written; of two that raced to create one object, one won`,
  )
}

// ---- Permissions and cleanup ------------------------------------------------------------------------------------

const NEEDED_FOR: Readonly<Record<Permission, string>> = {
  get: "everything, readers above all",
  put: "build, publish and rollback",
  list: "history and gc",
  delete: "gc",
}

export function judgePermissions(states: Readonly<Record<Permission, PermissionState>>): Judgement {
  const names = Object.keys(states) as Permission[]
  const inState = (state: PermissionState): Permission[] => names.filter((name) => states[name] === state)
  const [granted, refused, unknown] = [inState("granted"), inState("refused"), inState("unknown")]
  const finding = [
    granted.length > 0 ? `${enumerate(granted)} allowed` : "",
    refused.length > 0 ? `${enumerate(refused)} refused` : "",
    unknown.length > 0 ? `${enumerate(unknown)} not known` : "",
  ]
    .filter(Boolean)
    .join("; ")
  if (refused.length === 0 && unknown.length === 0) return ok(finding)
  const meaning = [...refused, ...unknown]
    .map((name) => `${name} is needed for ${NEEDED_FOR[name]}`)
    .join("; ")
  const essential = refused.includes("get") || refused.includes("put")
  return essential ? failed(finding, meaning) : warning(finding, meaning)
}

export interface CleanupSeen {
  readonly written: number
  /** What is known, or to be feared, to remain. */
  readonly remaining: number
  readonly prefix: string
  readonly reason?: string
}

export function judgeCleanup({ written, remaining, prefix, reason }: CleanupSeen): Judgement {
  if (remaining === 0) return ok(`all ${written.toLocaleString("en-US")} keys of doctor are removed`)
  const why = reason === undefined ? "" : `: ${reason}`
  return warning(
    `${remaining.toLocaleString("en-US")} objects may be left below ${prefix}${why}`,
    "nothing but doctor uses them; gc removes them, or delete them by hand",
  )
}
