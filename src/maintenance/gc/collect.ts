/**
 * Collection: removes what nothing needs any more.
 *
 * ```
 * survey ─► plan ─► end dead runs ─► condemn (compare-and-set) ─► look again ─► sentence (compare-and-set) ─► remove
 * ```
 *
 * Readers, builds, publications, pins and other collections go on meanwhile. docs/decisions/0006-one-object-decides.md
 * tells why nothing that they need is removed. What may go is held in memory, some 250 bytes per object.
 */
import { conflict, isVecsnapError, messageOf, throwIfAborted, type VecsnapError } from "../../errors.js"
import { type LivePointer, readPointer } from "../../manifest/current.js"
import type { ParsedKey } from "../../manifest/keys.js"
import { CONDEMNED_LIMIT, withCondemned, withoutCondemned } from "../../manifest/pointer.js"
import { swapPointer } from "../../manifest/publish.js"
import { encodeRunRecord } from "../../manifest/run-record.js"
import { storeTime } from "../../manifest/store-time.js"
import type { ObjectStore } from "../../storage/store.js"
import {
  type CollectOptions,
  type CollectReport,
  REMOVABLE_KINDS,
  type RemovableKind,
  type ResolvedCollectOptions,
  resolveCollectOptions,
} from "./report.js"
import {
  confirmedPins,
  holdReason,
  isAlive,
  isDead,
  keepReasons,
  mayGo,
  type Survey,
  usesOf,
  type Verdict,
} from "./rules.js"
import { filesOf, listObjects, readProtectors, readSurvey } from "./survey.js"

/** Others that keep changing the pointer are given up to after so many tries. */
const ATTEMPTS = 5
/** Keys per delete: what S3 takes in one request. */
const BATCH = 1000
const FOREIGN_SHOWN = 20

/**
 * Removes, or in a dry run finds, snapshots that no rule keeps, files that no snapshot needs, and records of what is long over.
 *
 * Never removed: what is live, pinned, open in a reader with a lease, in use by a run that goes on, or younger than the grace period, and what
 * the parser of our keys does not know. Files that several snapshots share stay as long as one of them does.
 *
 * Throws `InvalidInput` for bad options, `Corrupt` if the live manifest is damaged (then nothing is removed), `Conflict` if the pointer
 * changed again and again, `Aborted` between two batches if the signal fires. It may be stopped anywhere: the next collection goes on.
 */
export async function collect(store: ObjectStore, options: CollectOptions = {}): Promise<CollectReport> {
  const job: Job = { store, options: resolveCollectOptions(options), tally: createTally() }
  let restarts = 0
  for (;;) {
    const outcome = await collectOnce(job)
    if (outcome === "changed") {
      if (++restarts === ATTEMPTS) throw keepsChanging(store)
      job.options.logger.info({ url: store.url, restarts }, "the root changed: the collection starts over")
    } else if (outcome !== "more") return outcome
  }
}

interface Job {
  readonly store: ObjectStore
  readonly options: ResolvedCollectOptions
  /** What was removed, over all passes. */
  readonly tally: Tally
}

/** One pass: the report, "more" if there is more than one pass can condemn, or "changed" if others changed the root meanwhile. */
async function collectOnce(job: Job): Promise<CollectReport | "more" | "changed"> {
  const { store, options, tally } = job
  const { signal, yes } = options
  const { now, clock } = await timeOf(job)
  const pointer = await readPointer(store, { signal })
  if (pointer === undefined) return reportNothing(job, now, clock)
  options.onProgress({ stage: "survey", done: 0, total: undefined })
  const survey = await readSurvey(store, pointer, now, { signal })
  options.onProgress({ stage: "survey", done: survey.manifests.length, total: survey.manifests.length })
  let plan: Plan
  try {
    plan = await makePlan(job, survey)
  } catch (error) {
    // A kept manifest is gone: someone removed it by hand, or unpinned it and collected.
    if (isVecsnapError(error, "NotFound")) return "changed"
    throw error
  }
  const report = (): CollectReport => reportOf(job, survey, plan, clock)
  if (!yes) {
    await spare(job, plan, usesOf(survey, now, options.graceSeconds))
    for (const object of plan.going.values()) tally.remove(object)
    return report()
  }
  if ((await endDeadRuns(job, survey)) === "changed") return "changed"
  if (plan.going.size === 0 && pointer.condemned.length === 0) return report()

  const spared = await condemn(job, pointer, plan, now)
  if (spared === "changed") return "changed"
  await removeAll(job, plan)
  await forget(job, plan, spared)
  return plan.waiting && plan.condemn.size > 0 ? "more" : report()
}

async function timeOf({
  store,
  options,
}: Job): Promise<{ readonly now: Date; readonly clock: CollectReport["clock"] }> {
  try {
    return { now: await storeTime(store, { signal: options.signal }), clock: "store" }
  } catch (error) {
    // Who may only read can still be told what would be removed.
    const passes = isVecsnapError(error, "Unavailable") || isVecsnapError(error, "Aborted")
    if (options.yes || passes || !isVecsnapError(error)) throw error
    return { now: new Date(), clock: "machine" }
  }
}

// ---- Plan --------------------------------------------------------------------------------------------------------

interface Going {
  readonly key: string
  readonly kind: RemovableKind
  /** Run that it belongs to, if to one. */
  readonly run: string | undefined
  readonly size: number
  /** Whether it may go only while its run is condemned: it is, or could become, part of a snapshot. */
  readonly condemned: boolean
}

interface Plan {
  /** Why each manifest stays, by key. */
  readonly kept: ReadonlyMap<string, readonly string[]>
  /** Objects to remove, by key, in the order of removal. */
  readonly going: Map<string, Going>
  /** Runs to condemn, besides those that are. */
  readonly condemn: ReadonlySet<string>
  /** Runs that are condemned and of which all goes that is there. */
  readonly dealtWith: ReadonlySet<string>
  /** Whether there is more than can be condemned at a time. */
  readonly waiting: boolean
  /** Condemned snapshots that are spared: reasons by manifest. */
  readonly spared: Map<string, readonly string[]>
  readonly foreign: { objects: number; readonly keys: string[] }
  readonly problems: string[]
}

async function makePlan({ store, options }: Job, survey: Survey): Promise<Plan> {
  const { signal, yes, graceSeconds } = options
  const { now, pointer, manifests } = survey
  const kept = keepReasons(survey, options)
  const hold = holdReason(survey)
  const room = yes ? Math.max(0, CONDEMNED_LIMIT - pointer.condemned.length) : Number.POSITIVE_INFINITY
  const isCondemned = new Set(pointer.condemned)
  const condemn = new Set<string>()
  let waiting = false
  /** Whether objects of the run may go in this pass: only if it can't become live any more. */
  const condemns = (run: string): boolean => {
    if (isCondemned.has(run) || condemn.has(run)) return true
    if (condemn.size < room) {
      condemn.add(run)
      return true
    }
    waiting = true
    return false
  }

  const going = new Map<string, Going>()
  const leaving = manifests.filter(({ key, run }) => !kept.has(key) && hold === undefined && condemns(run))
  const isLeaving = new Set(leaving.map(({ key }) => key))
  const staying = manifests.filter(({ key }) => !isLeaving.has(key))
  // A manifest that is not condemned may become live, whatever the rules say of it, so its files stay.
  const readable = staying.filter(({ problem }) => problem === undefined).map(({ key }) => key)
  const marked = await filesOf(store, readable, { signal })
  const goingOn = survey.runs.filter((found) => isAlive(found, now, graceSeconds)).map(({ run }) => run)
  const unreadable = staying.filter(({ problem }) => problem !== undefined).map(({ run }) => run)
  const verdict: Verdict = {
    now,
    retention: options,
    hold: hold !== undefined,
    marked,
    withManifest: new Set(manifests.map(({ run }) => run)),
    untouchable: new Set([...goingOn, ...unreadable]),
    records: new Map(survey.runs.map((found) => [found.key, found])),
    leases: new Map(survey.leases.map((found) => [found.key, found])),
  }
  const stayingRuns = new Set(staying.map(({ run }) => run))
  const foreign: Plan["foreign"] = { objects: 0, keys: [] }
  const files: Going[] = []
  let listed = 0
  for await (const { object, parsed } of listObjects(store, { signal })) {
    if (++listed % BATCH === 0) options.onProgress({ stage: "list", done: listed, total: undefined })
    const { key, size } = object
    if (parsed === undefined) {
      foreign.objects++
      if (foreign.keys.length < FOREIGN_SHOWN) foreign.keys.push(key)
      continue
    }
    if (parsed.kind === "pointer" || parsed.kind === "manifest" || !mayGo(object, parsed, verdict)) continue
    const isFile = parsed.kind === "shard" || parsed.kind === "routing"
    // Files that nothing names below a run whose snapshot stays: what a lost attempt left. Others could still become a snapshot.
    const condemned = isFile && !stayingRuns.has(parsed.run)
    if (condemned && !condemns(parsed.run)) continue
    files.push({ key, kind: parsed.kind, run: runOf(parsed), size, condemned })
  }
  options.onProgress({ stage: "list", done: listed, total: listed })
  for (const { key, run, size } of leaving)
    going.set(key, { key, kind: "manifest", run, size, condemned: true })
  for (const object of files) going.set(object.key, object)
  const problems = [
    ...(hold === undefined ? [] : [hold]),
    ...manifests.flatMap(({ problem }) => problem?.message ?? []),
    ...[...survey.runs, ...survey.pins, ...survey.leases].flatMap(({ problem }) => problem ?? []),
  ]
  const otherwise = hold ?? "waits for the next collection"
  return {
    kept: new Map(staying.map(({ key }) => [key, kept.get(key) ?? [otherwise]])),
    going,
    condemn,
    dealtWith: new Set([...(hold === undefined ? pointer.condemned : []), ...condemn]),
    waiting,
    spared: new Map(),
    foreign,
    problems,
  }
}

const runOf = (parsed: ParsedKey): string | undefined => ("run" in parsed ? parsed.run : undefined)

/**
 * Takes from the plan the snapshots that are used: their manifests, all files that these name, and all files of their
 * runs. Returns their runs.
 */
async function spare(
  { store, options }: Job,
  plan: Plan,
  uses: ReadonlyMap<string, readonly string[]>,
): Promise<ReadonlySet<string>> {
  const spared = [...plan.going.values()].filter(({ kind, run }) => kind === "manifest" && uses.has(run!))
  const named = await filesOf(
    store,
    spared.map(({ key }) => key),
    { signal: options.signal },
  )
  for (const key of named) plan.going.delete(key)
  for (const { key, run } of spared) plan.spared.set(key, uses.get(run!)!)
  const runs = new Set(spared.map(({ run }) => run!))
  for (const { key, kind, run } of plan.going.values()) {
    const isPart = kind === "manifest" || kind === "shard" || kind === "routing"
    if (!isPart || !uses.has(run!)) continue
    plan.going.delete(key)
    runs.add(run!)
  }
  return runs
}

// ---- Condemning ----------------------------------------------------------------------------------------------------

/**
 * Ends runs that were taken for dead, so that none of them can come back and publish. "changed" if one proves to be alive: what
 * it needs must be looked at anew.
 */
async function endDeadRuns({ store, options }: Job, { runs, now }: Survey): Promise<"ended" | "changed"> {
  for (const found of runs.filter((run) => isDead(run, now, options.graceSeconds))) {
    const { key, etag, record } = found
    try {
      const body = encodeRunRecord({ ...record!, state: "abandoned", updatedAt: now })
      await store.put(key, body, { ifMatch: etag, contentType: "application/json", signal: options.signal })
    } catch (error) {
      if (isVecsnapError(error, "Conflict")) return "changed"
      throw error
    }
    options.logger.info({ url: store.url, run: found.run }, "a run was taken for dead and ended")
  }
  return "ended"
}

/**
 * Excludes that what is to go becomes live or pinned, then takes from the plan whatever was put to use before. Returns the
 * runs of snapshots that are spared.
 *
 * The last write of the pointer is made even if it changes nothing in it. It is what orders two collections: of
 * one that takes a run back and one that removes it, the later finds that the pointer has changed, and looks again.
 */
async function condemn(
  job: Job,
  live: LivePointer,
  plan: Plan,
  now: Date,
): Promise<ReadonlySet<string> | "changed"> {
  const { store, options } = job
  const { signal } = options
  throwIfAborted(signal)
  if (plan.condemn.size > 0 && !(await swapPointer(store, live, withCondemned(live, [...plan.condemn]))))
    return "changed"
  const spared = new Set<string>()
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const pointer = await readPointer(store, { signal })
    // Without its pointer nothing is known of the root any more.
    if (pointer === undefined) return "changed"
    const protectors = await readProtectors(store, { signal })
    if (holdReason({ ...protectors, now, pointer, manifests: [] }) !== undefined) return "changed"
    const uses = new Map(usesOf(protectors, now, options.graceSeconds))
    const condemned = new Set(pointer.condemned)
    for (const object of plan.going.values()) {
      const { run } = object
      if (object.condemned && !condemned.has(run!) && !uses.has(run!))
        uses.set(run!, ["taken from the condemned by another collection"])
    }
    try {
      for (const run of await spare(job, plan, uses)) spared.add(run)
    } catch (error) {
      if (isVecsnapError(error, "NotFound")) return "changed"
      throw error
    }
    const pinned = confirmedPins(protectors)
    const released = new Set([...spared].filter((run) => pinned.has(run)))
    throwIfAborted(signal)
    if (await swapPointer(store, pointer, withoutCondemned(pointer, released))) return spared
  }
  return "changed"
}

// ---- Removing ------------------------------------------------------------------------------------------------------

/**
 * Manifests first, so that no snapshot is to be found of which files are missing; run records last, so that what is left of a run
 * can be told from the record.
 */
async function removeAll(job: Job, plan: Plan): Promise<void> {
  const { tally } = job
  const all = [...plan.going.values()]
  const ofKind = (wanted: (kind: RemovableKind) => boolean) => all.filter(({ kind }) => wanted(kind))
  await removeBatches(
    job,
    ofKind((kind) => kind === "manifest"),
    all.length,
  )
  await removeBatches(
    job,
    ofKind((kind) => kind !== "manifest" && kind !== "run"),
    all.length,
  )
  const failed = failedRuns(plan, tally)
  const records = ofKind((kind) => kind === "run").filter(({ run }) => !failed.has(run!))
  await removeBatches(job, records, all.length)
}

async function removeBatches(
  { store, options, tally }: Job,
  objects: readonly Going[],
  total: number,
): Promise<void> {
  const { signal } = options
  for (let from = 0; from < objects.length; from += BATCH) {
    throwIfAborted(signal)
    const batch = objects.slice(from, from + BATCH)
    const failures = await removeKeys(
      store,
      batch.map(({ key }) => key),
      signal,
    )
    for (const object of batch) {
      const reason = failures.get(object.key)
      if (reason === undefined) tally.remove(object)
      else tally.fail(object.key, reason)
    }
    options.onProgress({ stage: "remove", done: tally.objects, total })
  }
}

/** Removes objects; returns why each that is still there is. */
async function removeKeys(
  store: ObjectStore,
  keys: readonly string[],
  signal: AbortSignal | undefined,
): Promise<ReadonlyMap<string, string>> {
  try {
    const failures = await store.delete(keys, { signal })
    return new Map(failures.map(({ key, reason }) => [key, reason]))
  } catch (error) {
    if (!isVecsnapError(error) || error.tag === "Aborted") throw error
    return new Map(keys.map((key) => [key, error.message]))
  }
}

const failedRuns = (plan: Plan, { failed }: Tally): ReadonlySet<string | undefined> =>
  new Set([...failed.keys()].map((key) => plan.going.get(key)?.run))

/**
 * Takes the runs of which nothing is left from the condemned. Best effort: the next collection does what is left of it.
 * Only those that this one has dealt with, since others may be in the middle of theirs.
 */
async function forget(
  { store, options, tally }: Job,
  plan: Plan,
  spared: ReadonlySet<string>,
): Promise<void> {
  const failed = failedRuns(plan, tally)
  const done = new Set([...plan.dealtWith].filter((run) => !failed.has(run) && !spared.has(run)))
  try {
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      const pointer = await readPointer(store, { signal: options.signal })
      if (pointer === undefined || !pointer.condemned.some((run) => done.has(run))) return
      if (await swapPointer(store, pointer, withoutCondemned(pointer, done))) return
    }
  } catch (error) {
    options.logger.warn(
      { url: store.url, error: messageOf(error) },
      "removed runs stay among the condemned until the next collection",
    )
  }
}

// ---- Report ----------------------------------------------------------------------------------------------------------

interface Tally {
  readonly objects: number
  readonly failed: ReadonlyMap<string, string>
  remove(object: Going): void
  fail(key: string, reason: string): void
  removed(): CollectReport["removed"]
}

function createTally(): Tally {
  const failed = new Map<string, string>()
  const snapshots: { run: string; manifest: string }[] = []
  const counts = new Map(REMOVABLE_KINDS.map((kind) => [kind, { objects: 0, bytes: 0 }]))
  const sum = (field: "objects" | "bytes"): number =>
    [...counts.values()].reduce((total, count) => total + count[field], 0)
  return {
    get objects() {
      return sum("objects")
    },
    failed,
    remove({ key, kind, run, size }) {
      // What failed in an earlier pass may have gone in this one.
      failed.delete(key)
      const count = counts.get(kind)!
      count.objects++
      count.bytes += size
      if (kind === "manifest") snapshots.push({ run: run!, manifest: key })
    },
    fail: (key, reason) => void failed.set(key, reason),
    removed: () => ({
      snapshots,
      objects: sum("objects"),
      bytes: sum("bytes"),
      byKind: Object.fromEntries(counts) as CollectReport["removed"]["byKind"],
    }),
  }
}

function reportOf(
  { store, options, tally }: Job,
  survey: Survey,
  plan: Plan,
  clock: CollectReport["clock"],
): CollectReport {
  const { now, manifests, runs } = survey
  const kept = manifests.flatMap(({ key, run }) => {
    const reasons = plan.kept.get(key) ?? plan.spared.get(key)
    return reasons === undefined ? [] : [{ run, manifest: key, reasons }]
  })
  const waiting = plan.waiting ? [`more than ${CONDEMNED_LIMIT} runs are to go: collect again`] : []
  return {
    url: store.url,
    dryRun: !options.yes,
    now,
    clock,
    removed: tally.removed(),
    kept: kept.reverse(),
    protectedRuns: runs
      .filter((found) => isAlive(found, now, options.graceSeconds))
      .map(({ run, record }) => ({
        run,
        reason: record === undefined ? "its record can't be read" : "it is going on",
      })),
    foreign: plan.foreign,
    failed: [...tally.failed].map(([key, reason]) => ({ key, reason })),
    problems: [...plan.problems, ...waiting],
  }
}

function reportNothing(
  { store, options, tally }: Job,
  now: Date,
  clock: CollectReport["clock"],
): CollectReport {
  return {
    url: store.url,
    dryRun: !options.yes,
    now,
    clock,
    removed: tally.removed(),
    kept: [],
    protectedRuns: [],
    foreign: { objects: 0, keys: [] },
    failed: [],
    problems: [`nothing is collected: no snapshot is published at ${store.url}`],
  }
}

const keepsChanging = ({ url }: ObjectStore): VecsnapError =>
  conflict(`${url} changed ${ATTEMPTS} times while it was to be collected: try again`, { url })
