/** What makes sure that nothing which is to go becomes live or used meanwhile. */
import { isVecsnapError, throwIfAborted } from "../../errors.js"
import { type LivePointer, readPointer } from "../../manifest/current.js"
import { withCondemned, withoutCondemned } from "../../manifest/pointer.js"
import { swapPointer } from "../../manifest/publish.js"
import { encodeRunRecord } from "../../manifest/run-record.js"
import { ATTEMPTS, type Job } from "./job.js"
import { type Plan, spare } from "./plan.js"
import { confirmedPins, holdReason, isDead, type Survey, usesOf } from "./rules.js"
import { readProtectors } from "./survey.js"

/**
 * Ends runs that were taken for dead, so that none of them can come back and publish. "changed" if one proves
 * to be alive: what it needs must be looked at anew.
 */
export async function endDeadRuns(
  { store, options }: Job,
  { runs, now }: Survey,
): Promise<"ended" | "changed"> {
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
 * Excludes that what is to go becomes live or pinned, then takes from the plan whatever was put to use
 * before. Returns the runs of snapshots that are spared.
 *
 * The last write of the pointer is made even if it changes nothing in it. It is what orders two collections:
 * of one that takes a run back and one that removes it, the later finds that the pointer has changed, and
 * looks again.
 */
export async function condemn(
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
