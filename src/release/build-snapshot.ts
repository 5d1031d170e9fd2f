/**
 * A nightly job from end to end: build, then make live.
 *
 * ```
 * start run (lease) ─► build, upload, manifest ─► publish (compare-and-set) ─► end run
 * ```
 */
import { createHash } from "node:crypto"
import { stringifyJson } from "../json.js"
import { shardFigures, snapshotBytes } from "../manifest/figures.js"
import { publishManifest } from "../manifest/publish.js"
import type { RunCounts } from "../manifest/run-record.js"
import { openStore } from "../storage/open.js"
import type { ObjectStore } from "../storage/store.js"
import { createCounts, withCounting } from "../storage/with-counting.js"
import { type ActiveRun, startRun } from "../writer/active-run.js"
import {
  type BuildInput,
  type BuildPlan,
  type BuiltSnapshot,
  buildUnpublished,
  planBuild,
} from "../writer/build.js"
import { createStageClock, type StageClock } from "../writer/stages.js"
import { type BuildOptions, type BuildReport, checkReleaseOptions } from "./options.js"
import { observeBuild } from "./telemetry.js"

/**
 * Builds a snapshot from the input and makes it live.
 *
 * Reads the input once, or twice where the strategy must be trained. Throws `InvalidInput` for bad options, rows or
 * duplicate ids, `Conflict` if another run was published since this one started or if the run was taken for dead, `Unavailable` if
 * the store does not answer, `Aborted` if the signal fires. Whatever is thrown, the snapshot that was live before still is, and
 * the temporary directory is gone.
 */
export async function buildSnapshot(input: BuildInput, options: BuildOptions): Promise<BuildReport> {
  const url = typeof options.to === "string" ? options.to : options.to.url
  return observeBuild(url, () => runBuild(input, options))
}

async function runBuild(input: BuildInput, options: BuildOptions): Promise<BuildReport> {
  checkReleaseOptions(options)
  const plan = await planBuild(input, options)
  const opened = typeof options.to === "string" ? openStore(options.to, options.store) : undefined
  const counts = createCounts()
  const store = withCounting(opened ?? (options.to as ObjectStore), counts)
  try {
    const { logger, onProgress } = plan.options
    const clock = createStageClock(onProgress, logger)
    const run = await startRun(store, {
      logger,
      leaseSeconds: options.leaseSeconds,
      configDigest: digestOf(plan),
      signal: options.signal,
    })
    const report = await buildAndRelease(plan, options, store, run, clock)
    return { ...report, requests: { ...counts } }
  } finally {
    opened?.close()
  }
}

async function buildAndRelease(
  plan: BuildPlan,
  options: BuildOptions,
  store: ObjectStore,
  run: ActiveRun,
  clock: StageClock,
): Promise<Omit<BuildReport, "requests">> {
  const signal = options.signal ? AbortSignal.any([options.signal, run.lost]) : run.lost
  try {
    const built = await buildUnpublished(plan, { store, run, clock, signal })
    const published = options.publish === false ? undefined : await release(built, options, run)
    await run.end({ stage: "done", published: published !== undefined, counts: countsOf(built) })
    return {
      ...reportOf(built, store, clock),
      published: published !== undefined,
      replaced: published?.replaced,
    }
  } catch (thrown) {
    // Whatever it was that failed when the lease was lost: that it was lost is what there is to tell.
    const error = run.lost.aborted ? run.lost.reason : thrown
    await run.end({ error })
    throw error
  }

  function release({ key, manifest }: BuiltSnapshot, { force }: BuildOptions, run: ActiveRun) {
    return clock.time("publish", () =>
      publishManifest(store, key, manifest, {
        action: "publish",
        expected: force ? "any" : run.base?.pointer,
        confirm: run.renew,
        signal,
      }),
    )
  }
}

function reportOf(
  { key, manifest, skippedReasons }: BuiltSnapshot,
  { url }: ObjectStore,
  clock: StageClock,
): Omit<BuildReport, "requests" | "published" | "replaced"> {
  const { run, rows, schema, build } = manifest
  return {
    run,
    url,
    manifest: key,
    rows,
    skippedRows: build.skippedRows,
    skippedReasons,
    duplicateRows: build.duplicateRows,
    dim: schema.dim,
    shards: shardFigures(manifest),
    bytes: snapshotBytes(manifest),
    timingsMs: clock.timingsMs(),
  }
}

const countsOf = ({ manifest }: BuiltSnapshot): RunCounts => ({
  rows: manifest.rows,
  skippedRows: manifest.build.skippedRows,
  duplicateRows: manifest.build.duplicateRows,
  shards: manifest.shards.length,
  bytes: snapshotBytes(manifest),
})

/** Tells whether two runs were set up alike, whatever they read. Of secrets there are none in what it covers. */
function digestOf({ source, sharding, options }: BuildPlan): string {
  const { metric, backend, onBadRow, maxBadRows, onDuplicate, reuse, locator, model, routingFrom } = options
  const settings = {
    ...{ metric, backend, onBadRow, maxBadRows, onDuplicate, reuse, locator },
    model: model ?? null,
    routingFrom: routingFrom ?? null,
    sharding,
    fields: source.fields,
  }
  return createHash("sha256").update(stringifyJson(settings)).digest("hex")
}
