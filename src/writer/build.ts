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
import { type RecordBatch, rowPlace, type VectorRecord } from "../records.js"
import { createCluster } from "../sharding/cluster.js"
import type { Routing } from "../sharding/layout/routing.js"
import type { ResolvedCluster } from "../sharding/options.js"
import type { RecallCertificate } from "../sharding/recall.js"
import {
  createStrategy,
  needsTraining,
  type ResolvedSharding,
  resolveSharding,
  restoreStrategy,
  trainStrategy,
} from "../sharding/strategies.js"
import type { Strategy, StrategyContext } from "../sharding/strategy.js"
import { backendByName } from "../shards/backends.js"
import { openStore } from "../storage/open.js"
import type { ObjectStore } from "../storage/store.js"
import type { Metric } from "../vectors/metric.js"
import { Reservoir } from "../vectors/random.js"
import { findBadRows } from "../vectors/validate.js"
import { VERSION } from "../version.js"
import type { ActiveRun } from "./active-run.js"
import { type BadRows, createBadRows } from "./bad-rows.js"
import { takeRows } from "./batches.js"
import { certify, createNeighbourLists, type NeighbourLists, routesByVector } from "./certificate.js"
import {
  createHoldOutCollector,
  type HeldOutRow,
  type HoldOut,
  heldOutCount,
  heldOutRows,
  sampleWithout,
  takeHeldOut,
  withHeldOut,
} from "./hold-out.js"
import { createIdLog, type Duplicates, findDuplicates, type IdLog } from "./id-log.js"
import { type LayoutInputRows, type LayoutRows, layOut, layoutPlacement, readLayoutRows } from "./layout.js"
import { writeLocator } from "./locator.js"
import { type ResolvedWriterOptions, resolveWriterOptions, type WriterOptions } from "./options.js"
import { type Partition, type Placement, partition, placementBy, spillPath } from "./partition.js"
import { readQueries, type SplitQueries, splitQueries } from "./queries.js"
import { buildShards } from "./shard-pool.js"
import type { ShardTask } from "./shard-task.js"
import { recordsSource } from "./sources/records.js"
import type { Source } from "./sources/source.js"
import { remembered, spooled } from "./spool.js"
import type { StageClock } from "./stages.js"
import { makeTempDir } from "./temp-dir.js"
import { choosingRows, type SampledLayout, strategyByQueries } from "./thresholds.js"
import { noRows, sampleVectors, strategyFromSnapshot } from "./train.js"

/** The part of the memory limit that the input may take to be kept from its first reading to the second. */
const REMEMBERED_SHARE = 1 / 4

/** What a build reads: a source made by `openSource`, or records in memory or from anywhere. */
export type BuildInput = Source | Iterable<VectorRecord> | AsyncIterable<VectorRecord>

/** A build whose options are checked. */
export interface BuildPlan {
  readonly source: Source
  readonly options: ResolvedWriterOptions
  readonly sharding: ResolvedSharding
}

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

export interface BuildContext {
  readonly store: ObjectStore
  readonly run: Pick<ActiveRun, "run" | "startedAt" | "base" | "note" | "renew">
  readonly clock: StageClock
  /** Ends the build with whatever is the signal's reason. */
  readonly signal: AbortSignal
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

interface Job extends BuildPlan, BuildContext {
  /** Temporary directory of this run. */
  readonly dir: string
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
  const idLog = alsoCollecting(createIdLog(dir), heldOut)
  const partitioned = await clock.time("partition", (progress) =>
    partition(validRows(source, options.metric, badRows, signal), {
      placementFor: async (dim) => trained?.placement ?? placementBy(await untrainedStrategy(job, dim)),
      metric: options.metric,
      fields: source.fields,
      dir,
      idLog,
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

/** Training takes a reading of its own, so what can be read only once is kept on disk, and what is small in memory. */
function readableTwice({ source, options, dir }: Job, { layout }: ResolvedCluster): Source {
  if (!source.repeatable) return spooled(source, join(dir, "spool"))
  // Where a layout by affinity may be made, all rows are in memory as it is.
  if (layout !== "fast" && layout !== "plain") return source
  return remembered(source, REMEMBERED_SHARE * options.memoryLimit)
}

async function train(job: Job, sharding: ResolvedCluster): Promise<Trained> {
  const { source, options, clock, signal } = job
  // Rows that are skipped here are met again, and counted, when the input is partitioned.
  const rows = validRows(source, options.metric, createBadRows(options.onBadRow, options.maxBadRows), signal)
  if (sharding.layout !== "plain") return trainLayout(job, sharding, rows)
  const { sample, dim } = await clock.time("sample", (progress) => sampleVectors(rows, sharding, progress))
  return trainPlain(job, sharding, sample, dim)
}

async function trainPlain(
  job: Job,
  sharding: ResolvedCluster,
  sample: Reservoir,
  dim: number,
): Promise<Trained> {
  const rows = sample.seen
  const holdOut = holdOutOf(job)
  const heldOut = heldOutRows(holdOut, rows, heldOutCount(holdOut, rows, sharding.shards))
  const left = sampleWithout(sample, dim, heldOut)
  // A sample that is hardly larger than the number of shards can spare none.
  const isEnough = left.length / dim >= sharding.shards
  const vectors = isEnough ? left : sample.vectors
  const kept = isEnough ? sharding.shards : rows
  const strategy = await job.clock.time("train", async (progress) =>
    trainStrategy(sharding, contextOf(job, dim), vectors, ({ iteration }) =>
      progress(iteration, sharding.iterations),
    ),
  )
  return { placement: placementBy(strategy), rows, kept, notes: [] }
}

async function trainLayout(
  job: Job,
  asked: ResolvedCluster,
  batches: AsyncIterable<RecordBatch>,
): Promise<Trained> {
  const { source, options, clock, signal } = job
  const { metric, parallelism, logger, memoryLimit } = options
  const read = await clock.time("sample", (progress) => readLayoutRows(batches, asked, memoryLimit, progress))
  const { rows, dim, layout, notes } = read
  // Only `affinity` makes copies.
  const replication = layout === "affinity" ? asked.replication : { budget: 1 }
  const sharding: ResolvedCluster = { ...asked, layout, replication }
  if (layout === "plain") {
    const sample = new Reservoir(sharding.sampleRows, dim, sharding.seed)
    sample.add(read.vectors)
    return trainPlain(job, sharding, sample, dim)
  }
  const queries = await splitGivenQueries(job, dim, replication.budget > 1)
  const holdOut = holdOutOf(job)
  const kept = sharding.shards
  const heldOut = heldOutRows(holdOut, rows, heldOutCount(holdOut, rows, kept))
  const parts = layoutParts(read, heldOut)
  const laidOut = await clock.time("layout", (progress) => {
    let steps = 0
    const onStep = (): void => progress(++steps)
    const given = queries && { demand: queries.demand, thresholds: queries.measuring }
    return layOut(parts.left, layout, {
      metric,
      sharding,
      queries: given,
      parallelism,
      logger,
      onStep,
      signal,
    })
  })
  const centroids = { shape: [sharding.shards, dim], data: laidOut.centroids }
  const strategy = createCluster(sharding, contextOf(job, dim), centroids, laidOut.routing)
  const placed = parts.heldOut === undefined ? laidOut : withHeldOut(laidOut, heldOut, parts.heldOut)
  const placement = layoutPlacement(strategy, placed, rows, source.name)
  const { routing } = laidOut
  const withRouting = (other: Routing): Strategy =>
    createCluster(sharding, contextOf(job, dim), centroids, other)
  const isSample = read.vectors.length / dim < rows
  return { placement, rows, kept, notes, queries, ...(isSample && { sampled: { routing, withRouting } }) }
}

/** The rows that a layout is made of, without the held-out ones: those of all rows are kept to be placed by it, in the first reading. */
function layoutParts(
  { vectors, rowNumbers, dim, rows }: LayoutRows,
  heldOut: Float64Array,
): { readonly left: LayoutInputRows; readonly heldOut: Float32Array | undefined } {
  if (rowNumbers !== undefined) {
    const sample = inSharedMemory(sampleWithout({ vectors, rowNumbers }, dim, heldOut))
    return { left: { vectors: sample, dim, rows }, heldOut: undefined }
  }
  const parts = takeHeldOut(vectors, dim, heldOut)
  return { left: { vectors: parts.left, dim, rows: rows - heldOut.length }, heldOut: parts.heldOut }
}

interface Trained {
  readonly placement: Placement
  /** Rows of the input when it was first read. */
  readonly rows: number
  /** Rows that must be left for training. */
  readonly kept: number
  /** A layout that was made of fewer rows than there are. */
  readonly sampled?: SampledLayout
  /** Given queries, where they were split for a layout. */
  readonly queries?: SplitQueries | undefined
  readonly notes: readonly string[]
}

/** No row is held out where real queries are given, or no certificate is wanted. */
const holdOutOf = ({ options, sharding }: Job): HoldOut => ({
  wanted: options.queries === undefined ? options.certificateRows : 0,
  seed: seedOf(sharding),
})

const seedOf = (sharding: ResolvedSharding): number => ("seed" in sharding ? sharding.seed : 1)

/** The log, and the collector is told the same. */
function alsoCollecting(idLog: IdLog, collector: ReturnType<typeof createHoldOutCollector>): IdLog {
  return {
    finish: idLog.finish,
    async add(batch, places, positions) {
      collector.add(batch, places, positions)
      await idLog.add(batch, places, positions)
    },
  }
}

async function splitGivenQueries(
  { options, sharding, signal }: Job,
  dim: number,
  hasDemand: boolean,
): Promise<SplitQueries | undefined> {
  const { queries, metric } = options
  if (queries === undefined) return undefined
  return splitQueries(await readQueries(queries, { dim, metric }, signal), dim, seedOf(sharding), hasDemand)
}

type AskedQueries = Pick<Parameters<typeof certify>[0], "queries" | "vectors" | "homes"> & {
  /** Of rows: what tells them from others. */
  readonly own: Float64Array | undefined
  readonly neighbours: NeighbourLists
}

/** The queries that recall is measured with: real ones, or held-out rows; undefined if it is not. */
async function certificateQueries(
  job: Job,
  trained: Trained | undefined,
  heldOut: readonly HeldOutRow[],
  { schema: { dim } }: Partition,
  duplicates: Duplicates,
): Promise<AskedQueries | undefined> {
  const { options, sharding } = job
  const seed = seedOf(sharding)
  if (options.certificateRows === 0) return undefined
  if (options.queries !== undefined) {
    const split = trained?.queries ?? (await splitGivenQueries(job, dim, false))!
    const vectors = inSharedMemory(split.measuring)
    const count = vectors.length / dim
    const demand = split.demand.length / dim
    const queries = {
      kind: "given",
      count,
      seed,
      ...(demand > 0 && { demand }),
      ...(trained?.queries && { choseThresholds: true }),
    } as const
    return { queries, vectors, own: undefined, homes: undefined, neighbours: createNeighbourLists(count) }
  }
  // A row that lost against another one with its id is none of the snapshot.
  const rows = heldOut.filter(({ shard, position }) => !duplicates.drop.get(shard)?.has(position))
  if (rows.length === 0) return undefined
  const choosing = trained?.sampled && choosingRows(rows.length)
  const vectors = new Float32Array(new SharedArrayBuffer(4 * rows.length * dim))
  for (const [i, { vector }] of rows.entries()) vectors.set(vector, i * dim)
  return {
    queries: { kind: "rows", count: rows.length, seed, ...(choosing !== undefined && { choosing }) },
    vectors,
    own: Float64Array.from(rows, ({ id }) => id),
    homes: rows.map(({ shard }) => shard),
    neighbours: createNeighbourLists(rows.length),
  }
}

/** Measures recall, if that is asked for, by the strategy that placed the rows, or by that with thresholds chosen now. */
async function certified(
  job: Job,
  asked: AskedQueries | undefined,
  built: Pick<Parameters<typeof certify>[0], "shards" | "rows"> & {
    readonly placedBy: Strategy
    readonly sampled: SampledLayout | undefined
  },
): Promise<{ readonly strategy: Strategy; readonly recall: RecallCertificate | undefined }> {
  const { placedBy, sampled, shards, rows } = built
  if (asked === undefined) return { strategy: placedBy, recall: undefined }
  return job.clock.time("certificate", async () => {
    const strategy = (sampled && (await strategyByQueries(sampled, { ...asked, shards }))) ?? placedBy
    const dim = asked.vectors.length / asked.queries.count
    const recall = await certify({ ...asked, strategy, dim, shards, rows, notes: routingNotes(job) })
    return { strategy, recall }
  })
}

/** What is to be said of a snapshot's recall besides how it was measured. */
const routingNotes = ({ options }: Job): readonly string[] =>
  options.routingFrom === undefined
    ? []
    : [
        "the routing is that of another snapshot, which may have learned from the rows that were held out here",
      ]

function inSharedMemory(values: Float32Array): Float32Array {
  const shared = new Float32Array(new SharedArrayBuffer(values.byteLength))
  shared.set(values)
  return shared
}

async function untrainedStrategy(job: Job, dim: number): Promise<Strategy> {
  const { options, sharding, signal } = job
  const context = contextOf(job, dim)
  if (!needsTraining(sharding)) return createStrategy(sharding, context)
  const store = openStore(options.routingFrom!, options.store)
  try {
    return await strategyFromSnapshot(store, sharding, context, signal)
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
