/**
 * A nightly job from end to end: build, check, then make live.
 *
 * ```
 * start run (lease) ─► build, upload, manifest ─► gates ─► publish (compare-and-set) ─► end run
 * ```
 */
import { createHash } from "node:crypto"
import { isVecsnapError } from "../errors.js"
import { stringifyJson } from "../json.js"
import type { Logger } from "../logger.js"
import { readPointer, readSnapshot } from "../manifest/current.js"
import { shardFigures, snapshotBytes } from "../manifest/figures.js"
import type { Manifest } from "../manifest/manifest.js"
import { type Published, publishManifest } from "../manifest/publish.js"
import type { RunCounts } from "../manifest/run-record.js"
import {
  assertSigningKept,
  isSigning,
  loadSigning,
  readVouchedManifest,
  type Signing,
  type SigningChoice,
} from "../manifest/signing.js"
import { openStore } from "../storage/open.js"
import { assertRoot } from "../storage/root.js"
import type { ObjectStore } from "../storage/store.js"
import { asTagged } from "../storage/system-fault.js"
import { createCounts, withCounting } from "../storage/with-counting.js"
import { type ActiveRun, startRun } from "../writer/active-run.js"
import { type BuiltSnapshot, buildUnpublished, planBuild } from "../writer/build.js"
import type { BuildInput, BuildPlan } from "../writer/job.js"
import { createStageClock, type StageClock } from "../writer/stages.js"
import { checkGates } from "./gates/check.js"
import type { GateResult } from "./gates/options.js"
import { type BuildOptions, type BuildReport, checkReleaseOptions } from "./options.js"
import { collectAfterwards } from "./retention.js"
import { observeBuild } from "./telemetry.js"

/**
 * Builds a snapshot from the input and makes it live.
 *
 * Reads the input once, or twice where the strategy must be trained. Throws `InvalidInput` for bad options,
 * rows or duplicate ids, `Conflict` if another run was published since this one started or if the run was
 * taken for dead, `GateRefused` if the snapshot does not keep the limits of `gates`: then it is stored, but
 * not live. `Unavailable` if the store does not answer, `Aborted` if the signal fires. Whatever is thrown,
 * the snapshot that was live before still is, and the temporary directory is gone.
 */
export async function buildSnapshot(input: BuildInput, options: BuildOptions): Promise<BuildReport> {
  assertRoot(options.to)
  const url = typeof options.to === "string" ? options.to : options.to.url
  return observeBuild(url, () => runBuild(input, options))
}

async function runBuild(input: BuildInput, options: BuildOptions): Promise<BuildReport> {
  checkReleaseOptions(options)
  const signing = await loadSigning(options)
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
    const report = await buildAndRelease(plan, { ...options, signing }, store, run, clock)
    return { ...report, requests: { ...counts } }
  } catch (error) {
    throw asTagged(error, "a build")
  } finally {
    opened?.close()
  }
}

async function buildAndRelease(
  plan: BuildPlan,
  options: BuildOptions & { readonly signing: SigningChoice },
  store: ObjectStore,
  run: ActiveRun,
  clock: StageClock,
): Promise<Omit<BuildReport, "requests">> {
  const { signing } = options
  const signal = options.signal ? AbortSignal.any([options.signal, run.lost]) : run.lost
  try {
    // Now rather than after all the work.
    if (options.publish !== false) assertSigningKept(store, run.base?.pointer, signing)
    const built = await buildUnpublished(plan, {
      store,
      run,
      clock,
      signal,
      ...(isSigning(signing) && {
        signingKeys: signing.keys,
        reuseFrom: await vouchedBase(store, run, signing, plan.options.logger, signal),
      }),
    })
    run.note({ counts: countsOf(built) })
    const released = options.publish === false ? undefined : await release(built)
    await run.end({ stage: "done", published: released !== undefined })
    const { retention } = options
    const collected =
      released && retention
        ? await clock.time("collect", () => collectAfterwards(store, retention, plan.options.logger, options))
        : undefined
    return {
      ...reportOf(built, store, clock),
      gates: released?.gates ?? [],
      published: released !== undefined,
      replaced: released?.published.replaced,
      collected,
    }
  } catch (thrown) {
    await run.end({ error: thrown })
    // Whatever it was that failed when the lease was lost: that it was lost is what there is to tell. The
    // last record may be what finds out, as when a collection has taken the files of a build that slept.
    throw run.lost.aborted ? run.lost.reason : thrown
  }

  async function release({ key, manifest }: BuiltSnapshot): Promise<Released> {
    const gates = await clock.time("gates", async (onProgress) =>
      checkGates({
        store,
        candidate: manifest,
        live: await toBeReplaced(),
        options: options.gates,
        allow: options.allow,
        logger: plan.options.logger,
        tempDir: options.tempDir,
        trust: options.trust,
        isolation: options.isolation,
        signal,
        onProgress,
      }),
    )
    const published = await clock.time("publish", () =>
      publishManifest(store, key, manifest, {
        action: "publish",
        expected: options.force ? "any" : run.base?.pointer,
        signing,
        confirm: run.renew,
        signal,
      }),
    )
    return { gates, published }
  }

  /**
   * What is live as this run knows it: if it is something else by now, publishing is refused, unless it is
   * forced.
   */
  async function toBeReplaced(): Promise<Manifest | undefined> {
    if (!options.force) return run.base?.manifest
    const pointer = await readPointer(store, { signal })
    return pointer && (await readSnapshot(store, pointer, { signal })).manifest
  }
}

/**
 * What is live, if one of the keys vouches for it: only then may a snapshot that is signed take over files of
 * it, which nobody would look at again.
 */
async function vouchedBase(
  store: ObjectStore,
  { base }: ActiveRun,
  signing: Signing,
  logger: Logger,
  signal: AbortSignal,
): Promise<Manifest | "nothing"> {
  if (base === undefined) return "nothing"
  const { pointer } = base
  try {
    return (await readVouchedManifest(store, pointer.manifest, signing, { live: pointer, signal })).manifest
  } catch (error) {
    if (!isVecsnapError(error, "Corrupt")) throw error
    logger.warn({ run: pointer.run, error: error.message }, "no shard of the live snapshot is reused")
    return "nothing"
  }
}

interface Released {
  readonly gates: readonly GateResult[]
  readonly published: Published
}

function reportOf(
  { key, manifest, skippedReasons, notes }: BuiltSnapshot,
  { url }: ObjectStore,
  clock: StageClock,
): Omit<BuildReport, "requests" | "gates" | "published" | "replaced" | "collected"> {
  const { run, rows, copies = 0, recall, schema, build } = manifest
  return {
    run,
    url,
    manifest: key,
    rows,
    copies,
    notes,
    skippedRows: build.skippedRows,
    skippedReasons,
    duplicateRows: build.duplicateRows,
    recall,
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

/**
 * Tells whether two runs were set up alike, whatever they read. Of secrets there are none in what it covers.
 */
function digestOf({ source, sharding, options }: BuildPlan): string {
  const { metric, backend, onBadRow, maxBadRows, onDuplicate, reuse, locator, model, routingFrom } = options
  const { certificateRows, queries } = options
  const settings = {
    ...{ metric, backend, onBadRow, maxBadRows, onDuplicate, reuse, locator, certificateRows },
    queries: queries !== undefined,
    model: model ?? null,
    routingFrom: routingFrom ?? null,
    sharding,
    fields: source.fields,
  }
  return createHash("sha256").update(stringifyJson(settings)).digest("hex")
}
