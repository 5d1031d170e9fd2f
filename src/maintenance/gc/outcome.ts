/** What a collection tells of itself in the end. Pure. */
import { CONDEMNED_LIMIT } from "../../manifest/pointer.js"
import type { Job } from "./job.js"
import type { Plan } from "./plan.js"
import type { CollectReport } from "./report.js"
import { isAlive, type Survey } from "./rules.js"

/** The report of a pass that went by a plan. */
export function reportOf(job: Job, survey: Survey, plan: Plan, clock: CollectReport["clock"]): CollectReport {
  const { graceSeconds } = job.options
  const { now, manifests, runs } = survey
  const kept = manifests.flatMap(({ key, run }) => {
    const reasons = plan.kept.get(key) ?? plan.spared.get(key)
    return reasons === undefined ? [] : [{ run, manifest: key, reasons }]
  })
  const waiting = plan.waiting ? [`more than ${CONDEMNED_LIMIT} runs are to go: collect again`] : []
  return {
    ...emptyReport(job, now, clock),
    kept: kept.reverse(),
    protectedRuns: runs
      .filter((found) => isAlive(found, now, graceSeconds))
      .map(({ run, record }) => ({
        run,
        reason: record === undefined ? "its record can't be read" : "it is going on",
      })),
    foreign: plan.foreign,
    failed: [...job.tally.failed].map(([key, reason]) => ({ key, reason })),
    problems: [...plan.problems, ...waiting],
  }
}

/** The report where nothing is published, so that nothing can be told from anything. */
export const reportNothing = (job: Job, now: Date, clock: CollectReport["clock"]): CollectReport => ({
  ...emptyReport(job, now, clock),
  problems: [`nothing is collected: no snapshot is published at ${job.store.url}`],
})

const emptyReport = (
  { store, options, tally }: Job,
  now: Date,
  clock: CollectReport["clock"],
): CollectReport => ({
  url: store.url,
  dryRun: !options.yes,
  now,
  clock,
  removed: tally.removed(),
  kept: [],
  protectedRuns: [],
  foreign: { objects: 0, keys: [] },
  failed: [],
  problems: [],
})
