/** What is to go, decided from what a survey and a listing found; nothing is changed yet. */
import type { ParsedKey } from "../../manifest/keys.js"
import { CONDEMNED_LIMIT } from "../../manifest/pointer.js"
import { BATCH, type Job } from "./job.js"
import { type Evidence, holdReason, isAlive, keepReasons, mayGo, type Survey } from "./rules.js"
import { filesOf, listObjects } from "./survey.js"
import type { RemovedObject } from "./tally.js"

const FOREIGN_SHOWN = 20

export interface Going extends RemovedObject {
  /** Whether it may go only while its run is condemned: it is, or could become, part of a snapshot. */
  readonly condemned: boolean
}

export interface Plan {
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

export async function makePlan({ store, options }: Job, survey: Survey): Promise<Plan> {
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
  const evidence: Evidence = {
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
    if (parsed.kind === "pointer" || parsed.kind === "manifest" || !mayGo(object, parsed, evidence)) continue
    const isFile = parsed.kind === "shard" || parsed.kind === "routing"
    // Files that nothing names below a run whose snapshot stays: what a lost attempt left. Others could still
    // become a snapshot.
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
 * Takes from the plan the snapshots that are used: their manifests, all files that these name, and all files
 * of their runs. Returns their runs.
 */
export async function spare(
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
