/**
 * The sample, train and layout stages: from options to a strategy and to where it places the rows.
 */
import { invalidInput } from "../../errors.js"
import { readArtifacts } from "../../manifest/artifacts.js"
import { readLive } from "../../manifest/current.js"
import type { SplitQueries } from "../../recall/queries.js"
import type { RecordBatch } from "../../records.js"
import { asksForLayout, type ResolvedCluster } from "../../sharding/cluster/options.js"
import type { Routing } from "../../sharding/cluster/routing/routing.js"
import { createCluster } from "../../sharding/cluster/strategy.js"
import { adoptStrategy, createStrategy, needsTraining, trainStrategy } from "../../sharding/registry.js"
import type { Strategy, StrategyContext, TrainedOptions } from "../../sharding/strategy.js"
import type { Source } from "../../sources/source.js"
import { openStore } from "../../storage/open.js"
import type { ObjectStore } from "../../storage/store.js"
import { Reservoir } from "../../vectors/random.js"
import { inSharedMemory } from "../../vectors/shared-memory.js"
import { contextOf, type Job } from "../job.js"
import { createBadRows } from "../rows/bad-rows.js"
import { splitGivenQueries } from "../rows/given-queries.js"
import {
  heldOutCount,
  heldOutRows,
  holdOutOf,
  sampleWithout,
  takeHeldOut,
  withHeldOut,
} from "../rows/hold-out.js"
import { type Assignment, assignmentBy } from "../rows/partition.js"
import { remembered, spooled } from "../rows/spool.js"
import { noRows, validRows } from "../rows/valid-rows.js"
import { layoutAssignment } from "./assignment.js"
import { type LayoutRows, readLayoutRows } from "./input.js"
import { type LayoutInputRows, runLayout } from "./run.js"
import type { SampledLayout } from "./thresholds.js"

/** The part of the memory limit that the input may take to be kept from its first reading to the second. */
const REMEMBERED_SHARE = 1 / 4

export interface Trained {
  readonly assignment: Assignment
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

/** Reads the input, which {@link readableTwice} must have made readable again, and learns from it. */
export async function train(job: Job, sharding: TrainedOptions): Promise<Trained> {
  const { source, options, clock, signal } = job
  // Rows that are skipped here are met again, and counted, when the input is partitioned.
  const rows = validRows(source, options.metric, createBadRows(options.onBadRow, options.maxBadRows), signal)
  if (asksForLayout(sharding)) return trainLayout(job, sharding, rows)
  const { sample, dim } = await clock.time("sample", (progress) => sampleVectors(rows, sharding, progress))
  return trainPlain(job, sharding, sample, dim)
}

async function trainPlain(
  job: Job,
  sharding: TrainedOptions,
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
    trainStrategy(sharding, contextOf(job, dim), {
      sample: vectors,
      onIteration: ({ iteration, of }) => progress(iteration, of),
    }),
  )
  return { assignment: assignmentBy(strategy), rows, kept, notes: [] }
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
    return runLayout(parts.left, layout, {
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
  const assignment = layoutAssignment(strategy, placed, rows, source.name)
  const { routing } = laidOut
  const withRouting = (other: Routing): Strategy =>
    createCluster(sharding, contextOf(job, dim), centroids, other)
  const isSample = read.vectors.length / dim < rows
  return { assignment, rows, kept, notes, queries, ...(isSample && { sampled: { routing, withRouting } }) }
}

/**
 * The rows that a layout is made of, without the held-out ones: those of all rows are kept to be placed by
 * it, in the first reading.
 */
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

/** The strategy of a build that trains none: it needs no training, or is taken from another snapshot. */
export async function untrainedStrategy(job: Job, dim: number): Promise<Strategy> {
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

/**
 * Reads the whole input and keeps a uniform sample of its vectors (reservoir sampling), the same for the same
 * seed.
 */
async function sampleVectors(
  batches: AsyncIterable<RecordBatch>,
  { sampleRows, seed }: TrainedOptions,
  onRows: (rows: number) => void,
): Promise<{ readonly sample: Reservoir; readonly dim: number }> {
  let sampled: { readonly sample: Reservoir; readonly dim: number } | undefined
  for await (const { dim, vectors } of batches) {
    sampled ??= { sample: new Reservoir(sampleRows, dim, seed), dim }
    sampled.sample.add(vectors)
    onRows(sampled.sample.seen)
  }
  if (sampled === undefined) throw noRows()
  return sampled
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
