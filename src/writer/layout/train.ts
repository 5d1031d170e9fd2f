/**
 * The sample, train and layout stages: from options to a strategy and to where it places the rows.
 */
import { invalidInput } from "../../errors.js"
import { readArtifacts } from "../../manifest/artifacts.js"
import { readLive } from "../../manifest/current.js"
import type { SplitQueries } from "../../recall/queries.js"
import { type RecordBatch, rowPlace } from "../../records.js"
import { asksForLayout, type ResolvedCluster } from "../../sharding/cluster/options.js"
import type { Routing } from "../../sharding/cluster/routing/routing.js"
import { createCluster } from "../../sharding/cluster/strategy.js"
import {
  adoptStrategy,
  createStrategy,
  needsTraining,
  restoreStrategy,
  trainStrategy,
} from "../../sharding/registry.js"
import type { Strategy, StrategyContext, TrainedOptions } from "../../sharding/strategy.js"
import type { Source } from "../../sources/source.js"
import { openStore } from "../../storage/open.js"
import type { ObjectStore } from "../../storage/store.js"
import type { NpyArray } from "../../vectors/npy.js"
import type { CodesTraining } from "../codes/training.js"
import { contextOf, type Job } from "../job.js"
import type { Placement } from "../options.js"
import { createBadRows } from "../rows/bad-rows.js"
import { DrawnRows, drawKeys, idHashes } from "../rows/draw.js"
import { splitGivenQueries } from "../rows/given-queries.js"
import { type HoldOut, heldOutCount, holdOutOf, withHeldOut } from "../rows/hold-out.js"
import { type Assignment, assignmentBy } from "../rows/partition.js"
import { remembered, spooled } from "../rows/spool.js"
import { noRows, validRows } from "../rows/valid-rows.js"
import { layoutAssignment } from "./assignment.js"
import { readLayoutRows } from "./input.js"
import { type LayoutInputRows, runLayout } from "./run.js"
import type { SampledLayout } from "./thresholds.js"

/** The part of the memory limit that the input may take to be kept from its first reading to the second. */
const REMEMBERED_SHARE = 1 / 4

export interface Trained {
  readonly assignment: Assignment
  /** Rows of the input when it was first read. */
  readonly rows: number
  /** A layout that was made of fewer rows than there are. */
  readonly sampled?: SampledLayout
  /** Given queries, where they were split for a layout. */
  readonly queries?: SplitQueries | undefined
  readonly notes: readonly string[]
}

/**
 * Training takes a reading of its own, so what can be read only once is kept on disk, and what is small in
 * memory.
 */
export function readableTwice({ source, options, scratch }: Job, sharding: TrainedOptions): Source {
  if (!source.repeatable) return spooled(source, scratch, "spool")
  // Where a layout by affinity may be made, all rows are in memory as it is.
  if (asksForLayout(sharding) && sharding.layout !== "fast") return source
  return remembered(source, REMEMBERED_SHARE * options.memoryLimit)
}

/**
 * Reads the input, which {@link readableTwice} must have made readable again, and learns from it. Where the
 * rows that a layout is made of are enough for a codebook, that is begun.
 */
export async function train(job: Job, sharding: TrainedOptions, codes: CodesTraining): Promise<Trained> {
  const { source, options, clock, signal } = job
  // Rows that are skipped here are met again, and counted, when the input is partitioned.
  const rows = validRows(source, options.metric, createBadRows(options.onBadRow, options.maxBadRows), signal)
  if (asksForLayout(sharding)) return trainLayout(job, sharding, rows, codes)
  const sample = await clock.time("sample", (onRows) => drawSample(rows, sharding, holdOutOf(job), onRows))
  return trainPlain(job, sharding, sample)
}

async function trainPlain(job: Job, sharding: TrainedOptions, sample: Sample): Promise<Trained> {
  const strategy = await job.clock.time("train", async (progress) =>
    trainStrategy(sharding, contextOf(job, sample.dim), {
      sample: sample.vectors,
      onIteration: ({ iteration, of }) => progress(iteration, of),
    }),
  )
  return { assignment: assignmentBy(strategy), rows: sample.rows, notes: [] }
}

async function trainLayout(
  job: Job,
  asked: ResolvedCluster,
  batches: AsyncIterable<RecordBatch>,
  codes: CodesTraining,
): Promise<Trained> {
  const { source, options, clock, signal } = job
  const { metric, parallelism, logger, memoryLimit } = options
  // Where rows may be left out, files that say how many there are do not know how many will be left.
  const expectedRows = options.onBadRow === "fail" ? await source.countRows?.() : undefined
  const reading = { sharding: asked, memoryLimit, holdOut: holdOutOf(job), expectedRows }
  const read = await clock.time("sample", (onRows) => readLayoutRows(batches, { ...reading, onRows }))
  const { rows, heldOutRows, dim, layout, vectors, all, notes } = read
  // A budget that was meant for `affinity` is not that of what is made instead.
  const isMeant = layout === asked.layout || layout === "affinity"
  const replication = isMeant ? asked.replication : { budget: 1 }
  const sharding: ResolvedCluster = { ...asked, layout, replication }
  if (layout === "plain") return trainPlain(job, sharding, read)
  const queries = await splitGivenQueries(job, dim, layout === "affinity" && replication.budget > 1)
  const left = { vectors, dim, rows: rows - heldOutRows }
  const isSample = vectors.length / dim < left.rows
  beginCodes(codes, left, sharding.shards)
  const laidOut = await clock.time("layout", (progress) => {
    let steps = 0
    const onStep = (): void => progress(++steps)
    const given = queries && { demand: queries.demand, thresholds: queries.measuring }
    return runLayout(left, layout, {
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
  const placed = all === undefined ? laidOut : withHeldOut(laidOut, all.heldOut, all.order)
  const assignment = layoutAssignment(strategy, placed, rows, source.name)
  const sampled = isSample
    ? sampledLayout(sharding, contextOf(job, dim), centroids, laidOut.routing)
    : undefined
  return { assignment, rows, notes, queries, ...(sampled && { sampled }) }
}

/**
 * Begins a codebook with the first of the rows that a layout is made of, which come by rising key, if shards
 * are large enough to have codes. A copy: the layout changes the rows.
 */
function beginCodes(codes: CodesTraining, { vectors, dim, rows }: LayoutInputRows, shards: number): void {
  const { fewest } = codes
  const wanted = Math.min(codes.sampleRows(dim), rows)
  if (fewest === undefined || rows < fewest * shards || vectors.length / dim < wanted) return
  const sample = new Float32Array(new SharedArrayBuffer(4 * wanted * dim))
  sample.set(vectors.subarray(0, wanted * dim))
  codes.begin(sample, dim)
}

/** By itself, so that it does not hold on to the sample. */
const sampledLayout = (
  sharding: ResolvedCluster,
  context: StrategyContext,
  centroids: NpyArray,
  routing: Routing,
): SampledLayout => ({
  routing,
  withRouting: (other) => createCluster(sharding, context, centroids, other),
})

/** The strategy of a build that trains none: it needs no training, or is taken from another snapshot. */
export async function untrainedStrategy(job: Job, dim: number): Promise<Strategy> {
  const { options, sharding, signal } = job
  const context = contextOf(job, dim)
  if (options.placedBy !== undefined) return placedStrategy(options.placedBy, context)
  if (!needsTraining(sharding)) return createStrategy(sharding, context)
  const store = openStore(options.routingFrom!, options.store)
  try {
    return await strategyFromSnapshot(store, sharding, context, signal)
  } finally {
    store.close()
  }
}

/** Routes queries as those who placed the rows do; the rows say where they are. */
async function placedStrategy(
  { sharding, artifacts }: Placement,
  context: StrategyContext,
): Promise<Strategy> {
  const strategy = await restoreStrategy(sharding, artifacts, context)
  return {
    ...strategy,
    assign({ shards, origin }) {
      const wrong = shards?.findIndex((shard) => shard < 0 || shard >= strategy.shards) ?? 0
      if (shards !== undefined && wrong < 0) return shards
      throw invalidInput(`${rowPlace(origin, wrong)}: its shard is missing, or none of ${strategy.shards}`)
    },
  }
}

interface Sample {
  /** Rows of the input. */
  readonly rows: number
  readonly dim: number
  /** Of some of them, by rising key, none held out. */
  readonly vectors: Float32Array
}

/** Reads the whole input and draws a sample of its vectors, the same for the same rows and seed. */
async function drawSample(
  batches: AsyncIterable<RecordBatch>,
  { sampleRows, shards }: TrainedOptions,
  holdOut: HoldOut,
  onRows: (rows: number) => void,
): Promise<Sample> {
  let sampled: { readonly drawn: DrawnRows; readonly dim: number } | undefined
  for await (const { dim, vectors, ids } of batches) {
    sampled ??= { drawn: new DrawnRows(holdOut.wanted + sampleRows, dim), dim }
    sampled.drawn.add(vectors, drawKeys(idHashes(ids), holdOut.seed))
    onRows(sampled.drawn.seen)
  }
  if (sampled === undefined) throw noRows()
  const { drawn, dim } = sampled
  const rows = drawn.seen
  return { rows, dim, vectors: drawn.take(heldOutCount(holdOut, rows, shards), sampleRows) }
}

/** A trained strategy with the centroids of a published snapshot, so that shards keep their meaning. */
async function strategyFromSnapshot(
  store: ObjectStore,
  asked: TrainedOptions,
  context: StrategyContext,
  signal: AbortSignal | undefined,
): Promise<Strategy> {
  const { manifest } = await readLive(store, { signal })
  const { schema, sharding } = manifest
  const facts: readonly (readonly [string, unknown, unknown])[] = [
    ["strategy", sharding.strategy, asked.strategy],
    ["shards", sharding.shards, asked.shards],
    ["dimension", schema.dim, context.dim],
    ["metric", schema.metric, context.metric],
  ]
  for (const [what, found, expected] of facts) {
    if (found === expected) continue
    throw invalidInput(`routingFrom ${store.url} has ${what} ${found}, but this build has ${expected}`, {
      what,
      found,
      expected,
    })
  }
  const artifacts = await readArtifacts(store, manifest, { signal })
  return adoptStrategy(asked, context, artifacts)
}
