/**
 * What a collection keeps and what may go: decisions from data alone, no I/O.
 *
 * Times of objects and `now` are the store's. Every test of {@link mayGo} must pass for an object to go, so
 * one more test can only shrink what goes.
 */
import type { ParsedKey } from "../../manifest/keys.js"
import { liveSinceOf, publicationsOf, type StoredPointer } from "../../manifest/pointer.js"
import type { StoredReaderLease } from "../../manifest/reader-lease.js"
import type { StoredRunRecord } from "../../manifest/run-record.js"
import type { StoredPin } from "../pins.js"

export interface Retention {
  /** Snapshots that were live last, the live one included, that are kept. */
  readonly keepLast: number
  /** Snapshots built within so many days are kept. */
  readonly keepDays: number
  /**
   * Snapshots that were never live are kept for so many days, and so are records of runs without a snapshot.
   */
  readonly keepUnpublishedDays: number
  /** Nothing goes that was written, or was live, within so many seconds. */
  readonly graceSeconds: number
}

/** A manifest as it was listed. */
export interface StoredManifest {
  readonly key: string
  readonly run: string
  readonly size: number
  readonly lastModified: Date
  /** Why it can't be read, if it can't. */
  readonly problem?: { readonly tag: "Corrupt" | "Unsupported"; readonly message: string }
}

/** What protects: read before the manifests are, and once more after runs were condemned. */
export interface Protectors {
  readonly runs: readonly StoredRunRecord[]
  readonly pins: readonly StoredPin[]
  readonly leases: readonly StoredReaderLease[]
}

/** What was found at a root. */
export interface Survey extends Protectors {
  readonly now: Date
  readonly pointer: StoredPointer
  readonly manifests: readonly StoredManifest[]
}

const DAY_SECONDS = 86_400
/** A document that can't be read is taken to be of somebody alive for so long. */
const UNREADABLE_SECONDS = DAY_SECONDS

/** Whether `time` is less than `seconds` before `now`. */
const isWithin = (seconds: number, time: Date, now: Date): boolean =>
  time.getTime() + seconds * 1000 > now.getTime()

// ---- Who is alive -----------------------------------------------------------------------------------------

/** Whether a run goes on: its record says so and its lease, and the grace period after that, is not over. */
export function isAlive({ record, lastModified }: StoredRunRecord, now: Date, graceSeconds: number): boolean {
  if (record === undefined) return isWithin(UNREADABLE_SECONDS + graceSeconds, lastModified, now)
  return record.state === "running" && isWithin(record.leaseSeconds + graceSeconds, lastModified, now)
}

/** Whether a run says that it goes on, but has not said so for too long. */
export const isDead = (found: StoredRunRecord, now: Date, graceSeconds: number): boolean =>
  found.record?.state === "running" && !isAlive(found, now, graceSeconds)

const isLeaseAlive = ({ lease, lastModified }: StoredReaderLease, now: Date): boolean =>
  isWithin(lease?.leaseSeconds ?? UNREADABLE_SECONDS, lastModified, now)

/** A pin that was never confirmed, from a `pin` that died on the way, protects for the grace period. */
const isPinAlive = ({ pin, lastModified }: StoredPin, now: Date, graceSeconds: number): boolean =>
  pin === undefined || pin.confirmed || isWithin(graceSeconds, lastModified, now)

/** Runs whose snapshots somebody uses, with each reason. */
export function usesOf(
  { runs, pins, leases }: Protectors,
  now: Date,
  graceSeconds: number,
): ReadonlyMap<string, readonly string[]> {
  const uses = new Map<string, string[]>()
  const add = (run: string, reason: string): void => {
    uses.set(run, [...(uses.get(run) ?? []), reason])
  }
  for (const found of pins) if (isPinAlive(found, now, graceSeconds)) add(found.run, "pinned")
  for (const found of leases) {
    if (found.lease === undefined || !isLeaseAlive(found, now)) continue
    const { host, pid } = found.lease
    for (const run of found.lease.runs) add(run, `open in a reader (${host}, process ${pid})`)
  }
  for (const found of runs) {
    if (!isAlive(found, now, graceSeconds)) continue
    const { run, record } = found
    add(run, record === undefined ? "its record can't be read" : "the run is going on")
    if (record?.base !== undefined) add(record.base, `run ${run}, which is going on, builds on it`)
  }
  return uses
}

/** Runs whose pin is confirmed; nothing else takes a run back from the condemned. */
export const confirmedPins = ({ pins }: Protectors): ReadonlySet<string> =>
  new Set(pins.filter(({ pin }) => pin?.confirmed).map(({ run }) => run))

// ---- Snapshots --------------------------------------------------------------------------------------------

/**
 * Why each manifest is kept, by key; one that is not there may go. A run that is condemned already is kept
 * for no reason: others rely on that it goes.
 */
export function keepReasons(
  survey: Survey,
  retention: Retention,
): ReadonlyMap<string, readonly [string, ...string[]]> {
  const { now, pointer, manifests } = survey
  const { graceSeconds, keepDays, keepUnpublishedDays } = retention
  const condemned = new Set(pointer.condemned)
  const uses = usesOf(survey, now, graceSeconds)
  const replacedAt = replacementTimes(pointer)
  const last = lastPublished(survey, retention.keepLast)
  const kept = new Map<string, readonly [string, ...string[]]>()
  for (const { key, run, lastModified, problem } of manifests) {
    const reasons: string[] = []
    const isLive = key === pointer.manifest || run === pointer.run
    if (isLive) reasons.push("live")
    if (!condemned.has(run)) {
      const replaced = replacedAt.get(run)
      const isYoung = (days: number) => isWithin(days * DAY_SECONDS, lastModified, now)
      if (!isLive && last.has(run)) reasons.push(`one of the last ${retention.keepLast} that were live`)
      reasons.push(...(uses.get(run) ?? []))
      if (isWithin(graceSeconds, lastModified, now)) reasons.push("written within the grace period")
      if (replaced !== undefined && isWithin(graceSeconds, replaced, now))
        reasons.push("was live within the grace period")
      if (isYoung(keepDays)) reasons.push(`built within ${keepDays} days`)
      if (!isLive && replaced === undefined && isYoung(keepUnpublishedDays))
        reasons.push(`never live, built within ${keepUnpublishedDays} days`)
      if (problem !== undefined) reasons.push("can't be read")
    }
    const [first, ...rest] = reasons
    if (first !== undefined) kept.set(key, [first, ...rest])
  }
  // A run is condemned as a whole, so a second manifest of a kept run stays with the first.
  const keptRuns = new Set(manifests.filter(({ key }) => kept.has(key)).map(({ run }) => run))
  for (const { key, run } of manifests)
    if (keptRuns.has(run) && !kept.has(key)) kept.set(key, ["another manifest of its run is kept"])
  return kept
}

/**
 * When each run was last replaced by another publication, as far as the history goes; not for what is live.
 */
function replacementTimes(pointer: StoredPointer): ReadonlyMap<string, Date> {
  const times = new Map<string, Date>()
  const publications = publicationsOf(pointer)
  for (const [i, { run }] of publications.entries()) {
    const next = publications[i - 1]
    if (next !== undefined && !times.has(run))
      times.set(run, i === 1 ? liveSinceOf(pointer) : next.publishedAt)
  }
  return times
}

/** The runs that were live last and whose manifests are there, newest first. */
function lastPublished({ pointer, manifests }: Survey, keepLast: number): ReadonlySet<string> {
  const condemned = new Set(pointer.condemned)
  const present = new Set(manifests.map(({ run }) => run).filter((run) => !condemned.has(run)))
  const runs = publicationsOf(pointer).map(({ run }) => run)
  return new Set([...new Set(runs)].filter((run) => present.has(run)).slice(0, keepLast))
}

/**
 * Why no snapshot and no file of one may go at all, if so: something here was written by a later vecsnap, or
 * may be a lease that we can't read, so that we can't know what it needs.
 */
export function holdReason({ now, manifests, leases, pointer }: Survey): string | undefined {
  const condemned = new Set(pointer.condemned)
  const later = manifests.find(({ run, problem }) => problem?.tag === "Unsupported" && !condemned.has(run))
  if (later !== undefined) return `no snapshot is removed, since one can't be read: ${later.problem!.message}`
  const lease = leases.find((found) => found.lease === undefined && isLeaseAlive(found, now))
  return lease && `no snapshot is removed, since a reader's lease can't be read: ${lease.problem}`
}

// ---- Objects ----------------------------------------------------------------------------------------------

/** What is known when the objects are listed. */
export interface Evidence {
  readonly now: Date
  readonly retention: Retention
  /** Whether snapshots and their files stay, see {@link holdReason}. */
  readonly hold: boolean
  /** Keys of all files that kept manifests name. */
  readonly marked: ReadonlySet<string>
  /** Runs that have a manifest. */
  readonly withManifest: ReadonlySet<string>
  /** Runs all of whose files stay: they go on, or have a manifest that can't be read. */
  readonly untouchable: ReadonlySet<string>
  readonly records: ReadonlyMap<string, StoredRunRecord>
  readonly leases: ReadonlyMap<string, StoredReaderLease>
}

/** Whether an object, other than pointer and manifests, may go. */
export function mayGo(
  { key, lastModified }: { readonly key: string; readonly lastModified: Date },
  parsed: ParsedKey,
  evidence: Evidence,
): boolean {
  const { now, retention } = evidence
  const { graceSeconds, keepUnpublishedDays } = retention
  if (isWithin(graceSeconds, lastModified, now)) return false
  switch (parsed.kind) {
    case "shard":
    case "routing":
      return !evidence.hold && !evidence.marked.has(key) && !evidence.untouchable.has(parsed.run)
    case "probe":
      return true
    case "pin":
      return !evidence.withManifest.has(parsed.run)
    case "reader": {
      const lease = evidence.leases.get(key)
      if (lease === undefined) return false
      const seconds = (lease.lease?.leaseSeconds ?? UNREADABLE_SECONDS) + graceSeconds
      return !isWithin(seconds, lastModified, now)
    }
    case "run": {
      const found = evidence.records.get(key)
      // A dead run's record is ended first, by a collection, and goes when it is old.
      if (found === undefined || found.record?.state === "running") return false
      if (isAlive(found, now, graceSeconds) || evidence.withManifest.has(parsed.run)) return false
      return !isWithin(keepUnpublishedDays * DAY_SECONDS, lastModified, now)
    }
    case "pointer":
    case "manifest":
      return false
  }
}
