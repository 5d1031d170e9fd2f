/**
 * Collection: removes what nothing needs any more.
 *
 * ```
 * survey ─► plan ─► end dead runs ─► condemn (compare-and-set) ─► look again ─► sentence (the same) ─► remove
 * ```
 *
 * Readers, builds, publications, pins and other collections go on meanwhile.
 * docs/decisions/0006-one-object-decides.md tells why nothing that they need is removed. What may go is held
 * in memory, some 250 bytes per object.
 */
import { conflict, isLasting, isVecsnapError, type VecsnapError } from "../../errors.js"
import { readPointer } from "../../manifest/current.js"
import { storeTime } from "../../manifest/store-time.js"
import { type Root, withRoot } from "../../storage/root.js"
import type { ObjectStore } from "../../storage/store.js"
import { condemn, endDeadRuns } from "./condemn.js"
import { ATTEMPTS, type Job } from "./job.js"
import { reportNothing, reportOf } from "./outcome.js"
import { makePlan, type Plan, spare } from "./plan.js"
import { forget, removeAll } from "./remove.js"
import { type CollectOptions, type CollectReport, resolveCollectOptions } from "./report.js"
import { usesOf } from "./rules.js"
import { readSurvey } from "./survey.js"
import { createTally } from "./tally.js"

/**
 * Removes, or in a dry run finds, snapshots that no rule keeps, files that no snapshot needs, and records of
 * what is long over.
 *
 * Never removed: what is live, pinned, open in a reader with a lease, in use by a run that goes on, or
 * younger than the grace period, and what the parser of our keys does not know. Files that several snapshots
 * share stay as long as one of them does.
 *
 * Throws `InvalidInput` for bad options, `Corrupt` if the live manifest is damaged (then nothing is removed),
 * `Conflict` if the pointer changed again and again, `Aborted` between two batches if the signal fires. It
 * may be stopped anywhere: the next collection goes on.
 */
export async function collect(root: Root, options: CollectOptions = {}): Promise<CollectReport> {
  return withRoot(root, options, async (store) => {
    const job: Job = { store, options: resolveCollectOptions(options), tally: createTally() }
    let restarts = 0
    for (;;) {
      const outcome = await collectOnce(job)
      if (outcome === "changed") {
        if (++restarts === ATTEMPTS) throw keepsChanging(store)
        job.options.logger.info({ url: store.url, restarts }, "the root changed: the collection starts over")
      } else if (outcome !== "more") return outcome
    }
  })
}

/**
 * One pass: the report, "more" if there is more than one pass can condemn, or "changed" if others changed the
 * root meanwhile.
 */
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
    const passes =
      (isVecsnapError(error, "Unavailable") && !isLasting(error)) || isVecsnapError(error, "Aborted")
    if (options.yes || passes || !isVecsnapError(error)) throw error
    return { now: new Date(), clock: "machine" }
  }
}

const keepsChanging = ({ url }: ObjectStore): VecsnapError =>
  conflict(`${url} changed ${ATTEMPTS} times while it was to be collected: try again`, { url })
