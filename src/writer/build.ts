/**
 * A build, from a source to a stored snapshot: the stages of the writer in order.
 *
 * ```
 * source ─► sample ─► train or layout ─► partition ─► duplicates ─► locator ─► shards (build, upload) ─► certificate ─► manifest
 * ```
 *
 * Nothing of it is live: `release/` checks what was built and moves the pointer. A failure or a crash leaves at most files that
 * no manifest names.
 */
import { rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { invalidInput } from "../errors.js"
import { writeArtifacts } from "../manifest/artifacts.js"
import { decodeManifest, encodeManifest } from "../manifest/codec.js"
import { manifestKey, routingKey, shardFolder } from "../manifest/keys.js"
import { LOCATOR_FILE } from "../manifest/locator.js"
import type { LocatorEntry, Manifest, ShardEntry } from "../manifest/manifest.js"
import { routesByVector } from "../recall/certificate.js"
import { createHoldOutCollector } from "../recall/hold-out.js"
import { needsTraining, resolveSharding, restoreStrategy } from "../sharding/registry.js"
import { backendByName } from "../shards/registry.js"
import { recordsSource } from "../sources/records.js"
import type { Source } from "../sources/source.js"
import { VERSION } from "../version.js"
import { type AskedQueries, certificateQueries, certified } from "./certificate.js"
import {
  type BuildContext,
  type BuildInput,
  type BuildPlan,
  contextOf,
  holdOutOf,
  type Job,
  noRows,
  validRows,
} from "./job.js"
import { readableTwice, train, untrainedStrategy } from "./layout/train.js"
import { resolveWriterOptions, type WriterOptions } from "./options.js"
import { createBadRows } from "./rows/bad-rows.js"
import { createIdLog, type Duplicates, findDuplicates } from "./rows/id-log.js"
import { writeLocator } from "./rows/locator.js"
import { type Partition, partition, placementBy, spillPath } from "./rows/partition.js"
import { buildShards } from "./shards/executor.js"
import type { ShardTask } from "./shards/task.js"
import { makeTempDir } from "./temp-dir.js"

/** Checks input and options before anything is read or written. Throws `InvalidInput`, or `Unsupported` without the backend's package. */
export async function planBuild(input: BuildInput, options: WriterOptions): Promise<BuildPlan> {
  const resolved = resolveWriterOptions(options)
  const sharding = resolveSharding(resolved.sharding)
  if (resolved.routingFrom !== undefined && !needsTraining(sharding)) {
    throw invalidInput(
      `option routingFrom takes trained routing, but strategy ${sharding.strategy} is not trained`,
      { option: "routingFrom" },
    )
  }
  if (resolved.queries !== undefined && !routesByVector({ name: sharding.strategy })) {
    throw invalidInput(
      `option queries goes with strategies that rank shards for a vector, but strategy ${sharding.strategy} has its shards named`,
      { option: "queries" },
    )
  }
  const source = isSource(input) ? input : recordsSource(input, { fields: resolved.fields ?? {} })
  await backendByName(resolved.backend).assertInstalled("build")
  return { source, options: resolved, sharding }
}

export interface BuiltSnapshot {
  readonly key: string
  readonly manifest: Manifest
  /** The first few bad rows that were skipped, as sentences. */
  readonly skippedReasons: readonly string[]
  /** What was done otherwise than asked for, and why, as sentences. */
  readonly notes: readonly string[]
}

/**
 * Builds a snapshot and stores it whole, manifest included, without making it live.
 *
 * Goes over the input once, or twice where the strategy must be trained. Whatever is thrown, the temporary directory is gone.
 */
export async function buildUnpublished(plan: BuildPlan, context: BuildContext): Promise<BuiltSnapshot> {
  const dir = await makeTempDir(plan.options.tempDir ?? tmpdir())
  try {
    return await runStages({ ...plan, ...context, dir })
  } finally {
    await rm(dir, { recursive: true, force: true })
  }
}

async function runStages(job: Job): Promise<BuiltSnapshot> {
  const { options, sharding, store, run, clock, dir, signal } = job
  const base = run.base?.manifest

  const training = needsTraining(sharding) && options.routingFrom === undefined ? sharding : undefined
  const source = training ? readableTwice(job, training) : job.source
  const trained = training && (await train({ ...job, source }, training))
  for (const note of trained?.notes ?? []) options.logger.warn({ run: run.run }, note)
  const badRows = createBadRows(options.onBadRow, options.maxBadRows)
  const holdOut = holdOutOf(job)
  const heldOut = createHoldOutCollector(holdOut)
  const idLog = createIdLog(dir)
  const partitioned = await clock.time("partition", (progress) =>
    partition(validRows(source, options.metric, badRows, signal), {
      placementFor: async (dim) => trained?.placement ?? placementBy(await untrainedStrategy(job, dim)),
      metric: options.metric,
      fields: source.fields,
      dir,
      onPlaced: async (batch, places, positions) => {
        heldOut.add(batch, places, positions)
        await idLog.add(batch, places, positions)
      },
      onRows: (rows) => progress(rows, trained?.rows),
      signal,
    }),
  )
  if (partitioned === undefined) throw noRows()
  const { schema } = partitioned
  if (trained && trained.rows !== partitioned.rows) {
    throw invalidInput(
      `${source.name} had ${trained.rows} rows when first read and ${partitioned.rows} when read again; do not change the input during a build`,
      { expected: trained.rows, actual: partitioned.rows },
    )
  }

  const loggedIds = await idLog.finish()
  const duplicates = await clock.time("duplicates", () =>
    findDuplicates(loggedIds, (shard) => spillPath(dir, shard), options.onDuplicate),
  )
  const locatorPath = join(dir, LOCATOR_FILE)
  const locator = options.locator
    ? await clock.time("locator", async (): Promise<LocatorEntry> => {
        const file = await writeLocator(locatorPath, loggedIds, duplicates.drop)
        return { key: routingKey(run.run, LOCATOR_FILE), ...file }
      })
    : undefined
  const asked = await certificateQueries(
    job,
    trained,
    heldOut.take(trained?.kept ?? 0),
    partitioned,
    duplicates,
  )
  const shards = await clock.time("shards", (progress) =>
    buildAndUpload(job, base, partitioned, duplicates, asked, progress),
  )
  const rows = partitioned.rows - duplicates.rows
  const { strategy, recall } = await certified(job, asked, {
    placedBy: partitioned.strategy,
    sampled: trained?.sampled,
    shards,
    rows,
  })

  return clock.time("manifest", async () => {
    const arrays = strategy.artifacts()
    const artifacts = await writeArtifacts(store, run.run, arrays, { signal })
    if (locator) await store.put(locator.key, { file: locatorPath }, { ifAbsent: true, signal })
    const createdAt = new Date()
    const copies = shards.reduce((sum, entry) => sum + entry.rows, 0) - rows
    const manifest: Manifest = {
      run: run.run,
      createdAt,
      base: base?.run,
      basePublication: run.base?.pointer.number,
      schema: { ...schema, model: options.model },
      sharding: strategy.describe(),
      artifacts,
      locator,
      backend: options.backend,
      shards,
      rows,
      copies: copies > 0 ? copies : undefined,
      recall,
      build: {
        tool: `vecsnap ${VERSION}`,
        startedAt: run.startedAt,
        skippedRows: badRows.count,
        duplicateRows: duplicates.rows,
        timingsMs: clock.timingsMs(),
        norms: partitioned.norms,
      },
      custom: options.custom,
    }
    const key = manifestKey(createdAt, run.run)
    const body = encodeManifest(manifest)
    // A run that slept so long that its files were collected must not leave a manifest that names them.
    await run.renew()
    // Readers have bounds for what a manifest and routing may say: nothing that they would refuse may become live.
    decodeManifest(body, key)
    restoreStrategy(manifest.sharding, arrays, contextOf(job, schema.dim))
    await store.put(key, body, {
      ifAbsent: true,
      contentType: "application/json",
      signal,
    })
    run.note({ manifest: key })
    return { key, manifest, skippedReasons: badRows.reasons, notes: trained?.notes ?? [] }
  })
}

async function buildAndUpload(
  job: Job,
  base: Manifest | undefined,
  { rowsByShard, schema }: Partition,
  duplicates: Duplicates,
  asked: AskedQueries | undefined,
  progress: (done: number, total?: number) => void,
): Promise<readonly ShardEntry[]> {
  const { options, store, run, dir, signal } = job
  const { backend, parallelism } = options
  // Files of the base may be reused: the lease of this run protects them from collection.
  const reusable = new Map(options.reuse && base ? base.shards.map((entry) => [entry.shard, entry]) : [])
  const numbers = Array.from(rowsByShard.keys()).filter((shard) => rowsByShard[shard]! > 0)
  const tasks = numbers.map(
    (shard): ShardTask => ({
      shard,
      spill: spillPath(dir, shard),
      drop: duplicates.drop.get(shard) ?? new Set(),
      spec: schema,
      backend,
      dir: join(dir, `shard-${shard}`),
      reusable: reusable.get(shard)?.fingerprint,
      queries: asked && { vectors: asked.vectors, own: asked.own, within: asked.neighbours.within },
    }),
  )
  let done = 0
  const stored = await buildShards(
    tasks,
    async (task, result, signal): Promise<ShardEntry | undefined> => {
      const { shard, rows, fingerprint, built, nearest } = result
      if (nearest !== undefined) asked?.neighbours.add(shard, nearest)
      await rm(task.spill)
      progress(++done, tasks.length)
      if (rows === 0) return undefined
      if (built === undefined) return reusable.get(shard)!
      const folder = shardFolder(run.run, shard, 0)
      for (const { name } of built.files) {
        await store.put(`${folder}/${name}`, { file: join(task.dir, name) }, { ifAbsent: true, signal })
      }
      await rm(task.dir, { recursive: true })
      return { shard, rows, folder, files: built.files, index: built.index, fingerprint }
    },
    { parallelism, signal },
  )
  return stored.filter((entry) => entry !== undefined)
}

const isSource = (input: BuildInput): input is Source =>
  "read" in input && typeof input.read === "function" && "repeatable" in input
