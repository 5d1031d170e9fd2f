/** The removal itself, in batches, and the end of what was condemned. */
import { isVecsnapError, messageOf, throwIfAborted } from "../../errors.js"
import { readPointer } from "../../manifest/current.js"
import { withoutCondemned } from "../../manifest/pointer.js"
import { swapPointer } from "../../manifest/publish.js"
import type { ObjectStore } from "../../storage/store.js"
import { ATTEMPTS, BATCH, type Job } from "./job.js"
import type { Going, Plan } from "./plan.js"
import type { RemovableKind } from "./report.js"
import type { Tally } from "./tally.js"

/**
 * Manifests first, so that no snapshot is to be found of which files are missing; run records last, so that
 * what is left of a run can be told from the record.
 */
export async function removeAll(job: Job, plan: Plan): Promise<void> {
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
 * Takes the runs of which nothing is left from the condemned. Best effort: the next collection does what is
 * left of it. Only those that this one has dealt with, since others may be in the middle of theirs.
 */
export async function forget(
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
