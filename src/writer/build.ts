/**
 * A build, from a source to a live snapshot: the stages of the writer in order.
 *
 * ```
 * source ─► sample ─► train ─► partition ─► duplicates ─► locator ─► shards (build, upload) ─► publish
 * ```
 *
 * Nothing is visible at the root until the last write, which moves the pointer. A failure or a crash before leaves the
 * old snapshot live, and at most files that no manifest names.
 */
import { mkdtemp, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { invalidInput } from "../errors.js"
import { writeArtifacts } from "../manifest/artifacts.js"
import { encodeManifest } from "../manifest/codec.js"
import { publishManifest, readPointer, readSnapshot } from "../manifest/current.js"
import { shardFigures, snapshotBytes } from "../manifest/figures.js"
import { manifestKey, newRunId, routingKey, shardFolder } from "../manifest/keys.js"
import { LOCATOR_FILE } from "../manifest/locator.js"
import type { LocatorEntry, Manifest, ShardEntry } from "../manifest/manifest.js"
import { type RecordBatch, rowPlace, type VectorRecord } from "../records.js"
import type { ResolvedCluster } from "../sharding/options.js"
import {
  createStrategy,
  needsTraining,
  type ResolvedSharding,
  resolveSharding,
  trainStrategy,
} from "../sharding/strategies.js"
import type { Strategy, StrategyContext } from "../sharding/strategy.js"
import { backendByName } from "../shards/backends.js"
import { openStore } from "../storage/open.js"
import type { ObjectStore } from "../storage/store.js"
import { createCounts, withCounting } from "../storage/with-counting.js"
import type { Metric } from "../vectors/metric.js"
import { findBadRows } from "../vectors/validate.js"
import { VERSION } from "../version.js"
import { type BadRows, createBadRows } from "./bad-rows.js"
import { takeRows } from "./batches.js"
import { createIdLog, type Duplicates, findDuplicates } from "./id-log.js"
import { writeLocator } from "./locator.js"
import {
  type BuildOptions,
  type BuildReport,
  type ResolvedBuildOptions,
  resolveBuildOptions,
} from "./options.js"
import { type Partition, partition, spillPath } from "./partition.js"
import { createRunRecorder } from "./run-record.js"
import { buildShards } from "./shard-pool.js"
import type { ShardTask } from "./shard-task.js"
import { recordsSource } from "./sources/records.js"
import type { Source } from "./sources/source.js"
import { spooled } from "./spool.js"
import { createStageClock, type StageClock } from "./stages.js"
import { noRows, sampleVectors, strategyFromSnapshot } from "./train.js"

/** What a build reads: a source made by `openSource`, or records in memory or from anywhere. */
export type BuildInput = Source | Iterable<VectorRecord> | AsyncIterable<VectorRecord>

/**
 * Builds a snapshot from the input and makes it live.
 *
 * Reads the input once, or twice where the strategy must be trained. Throws `InvalidInput` for bad options, rows or
 * duplicate ids, `Conflict` if another run was published since this one started, `Unavailable` if the store does not
 * answer, `Aborted` if the signal fires. Whatever is thrown, the snapshot that was live before still is, and the
 * temporary directory is gone.
 */
export async function buildSnapshot(input: BuildInput, options: BuildOptions): Promise<BuildReport> {
  const resolved = resolveBuildOptions(options)
  const sharding = resolveSharding(resolved.sharding)
  if (resolved.routingFrom !== undefined && !needsTraining(sharding)) {
    throw invalidInput(
      `option routingFrom takes trained routing, but strategy ${sharding.strategy} is not trained`,
      { option: "routingFrom" },
    )
  }
  const source = isSource(input) ? input : recordsSource(input, { fields: resolved.fields ?? {} })
  await backendByName(resolved.backend).assertInstalled("build")

  const opened = typeof resolved.to === "string" ? openStore(resolved.to, resolved.store) : undefined
  const counts = createCounts()
  const store = withCounting(opened ?? (resolved.to as ObjectStore), counts)
  const run = newRunId()
  const startedAt = new Date()
  const recorder = createRunRecorder(store, run, startedAt, resolved.logger)
  const dir = await mkdtemp(join(resolved.tempDir ?? tmpdir(), `vecsnap-build-${run}-`))
  try {
    await recorder.write("running")
    const report = await runStages({ source, options: resolved, sharding, store, run, startedAt, dir })
    await recorder.write("succeeded", { manifest: report.manifest })
    return { ...report, requests: { ...counts } }
  } catch (error) {
    await recorder.write("failed", { error })
    throw error
  } finally {
    await rm(dir, { recursive: true, force: true })
    opened?.close()
  }
}

interface Job {
  readonly source: Source
  readonly options: ResolvedBuildOptions
  readonly sharding: ResolvedSharding
  readonly store: ObjectStore
  readonly run: string
  readonly startedAt: Date
  /** Temporary directory of this run. */
  readonly dir: string
}

async function runStages(job: Job): Promise<Omit<BuildReport, "requests">> {
  const { options, sharding, store, run, startedAt, dir } = job
  const { signal } = options
  const clock = createStageClock(options.onProgress, options.logger)
  const base = await readBase(store, signal)

  // Training takes a reading of its own, so what can be read only once is kept on disk.
  const training = needsTraining(sharding) && options.routingFrom === undefined ? sharding : undefined
  const source = training && !job.source.repeatable ? spooled(job.source, join(dir, "spool")) : job.source
  const trained = training && (await train({ ...job, source }, training, clock))
  const badRows = createBadRows(options.onBadRow, options.maxBadRows)
  const idLog = createIdLog(dir)
  const partitioned = await clock.time("partition", (progress) =>
    partition(validRows(source, options.metric, badRows, signal), {
      strategyFor: trained ? async () => trained.strategy : (dim) => untrainedStrategy(job, dim),
      metric: options.metric,
      fields: source.fields,
      dir,
      idLog,
      onRows: (rows) => progress(rows, trained?.rows),
      signal,
    }),
  )
  if (partitioned === undefined) throw noRows()
  const { strategy, schema } = partitioned
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
        return { key: routingKey(run, LOCATOR_FILE), ...file }
      })
    : undefined
  const shards = await clock.time("shards", (progress) =>
    buildAndUpload(job, base, partitioned, duplicates, progress),
  )

  return clock.time("publish", async () => {
    const artifacts = await writeArtifacts(store, run, strategy.artifacts(), { signal })
    if (locator) await store.put(locator.key, { file: locatorPath }, { ifAbsent: true, signal })
    const createdAt = new Date()
    const manifest: Manifest = {
      run,
      createdAt,
      base: base?.run,
      schema: { ...schema, model: options.model },
      sharding: strategy.describe(),
      artifacts,
      locator,
      backend: options.backend,
      shards,
      rows: shards.reduce((sum, entry) => sum + entry.rows, 0),
      build: {
        tool: `vecsnap ${VERSION}`,
        startedAt,
        skippedRows: badRows.count,
        duplicateRows: duplicates.rows,
        timingsMs: clock.timingsMs(),
      },
      custom: options.custom,
    }
    const key = manifestKey(createdAt, run)
    await store.put(key, encodeManifest(manifest), {
      ifAbsent: true,
      contentType: "application/json",
      signal,
    })
    const { replaced } = await publishManifest(store, key, manifest, {
      force: options.force,
      now: new Date(),
      signal,
    })
    return {
      run,
      url: store.url,
      manifest: key,
      replaced,
      rows: manifest.rows,
      skippedRows: badRows.count,
      skippedReasons: badRows.reasons,
      duplicateRows: duplicates.rows,
      dim: schema.dim,
      shards: shardFigures(manifest),
      bytes: snapshotBytes(manifest),
      timingsMs: clock.timingsMs(),
    }
  })
}

/** The live snapshot that this build starts from: the one it may replace, and whose unchanged shards it may reuse. */
async function readBase(store: ObjectStore, signal: AbortSignal | undefined): Promise<Manifest | undefined> {
  const pointer = await readPointer(store, { signal })
  return pointer && (await readSnapshot(store, pointer, { signal })).manifest
}

async function train(job: Job, sharding: ResolvedCluster, clock: StageClock): Promise<Trained> {
  const { source, options } = job
  // Rows that are skipped here are met again, and counted, when the input is partitioned.
  const rows = validRows(
    source,
    options.metric,
    createBadRows(options.onBadRow, options.maxBadRows),
    options.signal,
  )
  const { sample, dim } = await clock.time("sample", (progress) => sampleVectors(rows, sharding, progress))
  const strategy = await clock.time("train", async (progress) =>
    trainStrategy(sharding, contextOf(job, dim), sample.vectors, ({ iteration }) =>
      progress(iteration, sharding.iterations),
    ),
  )
  return { strategy, rows: sample.seen }
}

interface Trained {
  readonly strategy: Strategy
  /** Rows of the input when it was sampled. */
  readonly rows: number
}

async function untrainedStrategy(job: Job, dim: number): Promise<Strategy> {
  const { options, sharding } = job
  const context = contextOf(job, dim)
  if (!needsTraining(sharding)) return createStrategy(sharding, context)
  const store = openStore(options.routingFrom!, options.store)
  try {
    return await strategyFromSnapshot(store, sharding, context, options.signal)
  } finally {
    store.close()
  }
}

const contextOf = ({ source, options }: Job, dim: number): StrategyContext => ({
  dim,
  metric: options.metric,
  fields: source.fields,
})

/** The rows of a source that can be stored under the metric; the others are reported as bad. */
async function* validRows(
  source: Source,
  metric: Metric,
  badRows: BadRows,
  signal: AbortSignal | undefined,
): AsyncGenerator<RecordBatch> {
  for await (const batch of source.read({ signal, onBadRow: badRows.report })) {
    const bad = findBadRows(batch.vectors, batch.dim, metric)
    for (const { row, problem } of bad) {
      const { file, rows } = batch.origin
      badRows.report(
        invalidInput(`${rowPlace(batch.origin, row)}: the vector ${problem}`, { file, row: rows[row] }),
      )
    }
    if (bad.length === 0) yield batch
    else if (bad.length < batch.rows) {
      const left = new Set(bad.map(({ row }) => row))
      yield takeRows(
        batch,
        [...Array(batch.rows).keys()].filter((row) => !left.has(row)),
      )
    }
  }
}

async function buildAndUpload(
  job: Job,
  base: Manifest | undefined,
  { rowsByShard, schema }: Partition,
  duplicates: Duplicates,
  progress: (done: number, total?: number) => void,
): Promise<readonly ShardEntry[]> {
  const { options, store, run, dir } = job
  const { backend, parallelism, signal } = options
  // Files of the live snapshot may be reused: should it be replaced and collected meanwhile, publishing is refused.
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
    }),
  )
  let done = 0
  const stored = await buildShards(
    tasks,
    async (task, result, signal): Promise<ShardEntry | undefined> => {
      const { shard, rows, fingerprint, built } = result
      await rm(task.spill)
      progress(++done, tasks.length)
      if (rows === 0) return undefined
      if (built === undefined) return reusable.get(shard)!
      const folder = shardFolder(run, shard, 0)
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
