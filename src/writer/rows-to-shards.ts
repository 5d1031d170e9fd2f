/**
 * The first half of a build, from rows to stored shards:
 *
 * ```
 * source ─► sample ─► train or layout ─► partition ─► duplicates ─► locator ─► shards ─► certificate
 * ```
 *
 * What it hands to the second half (shards-to-snapshot.ts) is plain data.
 */
import { stat } from "node:fs/promises"
import { availableParallelism } from "node:os"
import { invalidInput } from "../errors.js"
import { LOCATOR_FILE } from "../manifest/locator.js"
import { withEffort } from "../sharding/effort.js"
import { needsTraining } from "../sharding/registry.js"
import { type AskedQueries, certificateQueries, certified, storedRowsWanted } from "./certificate.js"
import { type CodesTraining, createCodesTraining } from "./codes/training.js"
import type { Job } from "./job.js"
import { readableTwice, train, untrainedStrategy } from "./layout/train.js"
import { createBadRows } from "./rows/bad-rows.js"
import { DrawnRows, drawKeys, idHashes } from "./rows/draw.js"
import { createHoldOutCollector, heldOutCount, holdOutOf } from "./rows/hold-out.js"
import { createIdLog, type Duplicates, findDuplicates } from "./rows/id-log.js"
import { writeLocator } from "./rows/locator.js"
import { createNorms } from "./rows/norms.js"
import { assignmentBy, type Partition, partition, spillName } from "./rows/partition.js"
import { noRows, validRows } from "./rows/valid-rows.js"
import { draftsAtOnce, threadExecutor } from "./shards/executor.js"
import { createShardResults } from "./shards/results.js"
import type { ShardPlan, ShardTask } from "./shards/task.js"
import type { SnapshotParts } from "./shards-to-snapshot.js"

export interface ShardedRows {
  readonly parts: SnapshotParts
  /** The first few bad rows that were skipped, as sentences. */
  readonly skippedReasons: readonly string[]
  /** What was done otherwise than asked for, and why, as sentences. */
  readonly notes: readonly string[]
}

export async function rowsToShards(job: Job): Promise<ShardedRows> {
  const codes = createCodesTraining(job)
  try {
    return await shardRows(job, codes)
  } finally {
    await codes.end()
  }
}

async function shardRows(job: Job, training: CodesTraining): Promise<ShardedRows> {
  const { options, sharding, run, clock, scratch, signal } = job

  const isTrained = options.routingFrom !== undefined || options.placedBy !== undefined
  const trainable = needsTraining(sharding) && !isTrained ? sharding : undefined
  const source = trainable ? readableTwice(job, trainable) : job.source
  const trained = trainable && (await train({ ...job, source }, trainable, training))
  for (const note of trained?.notes ?? []) options.logger.warn({ run: run.run }, note)
  const badRows = createBadRows(options.onBadRow, options.maxBadRows)
  const holdOut = holdOutOf(job)
  const heldOut = createHoldOutCollector(holdOut, storedRowsWanted(job))
  const idLog = createIdLog(scratch)
  const norms = createNorms()
  let drawn: DrawnRows | undefined
  const partitioned = await clock.time("partition", (progress) =>
    partition(validRows(source, options.metric, badRows, signal), {
      assignmentFor: async (dim) => trained?.assignment ?? assignmentBy(await untrainedStrategy(job, dim)),
      metric: options.metric,
      fields: source.fields,
      scratch,
      onAssigned: async (batch, rowShards, positions) => {
        const hashes = idHashes(batch.ids)
        const keys = drawKeys(hashes, holdOut.seed)
        norms.add(batch.vectors, keys)
        if (training.fewest !== undefined && !training.hasBegun) {
          drawn ??= new DrawnRows(holdOut.wanted + training.sampleRows(batch.dim), batch.dim)
          drawn.add(batch.vectors, keys)
        }
        heldOut.add(batch, keys, rowShards, positions)
        await idLog.add(hashes, rowShards, positions)
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

  const hasCoded = partitioned.rowsByShard.some((rows) => rows >= (training.fewest ?? Infinity))
  if (hasCoded && drawn !== undefined) {
    const held = heldOutCount(holdOut, partitioned.rows, trainable?.shards ?? 0)
    training.begin(drawn.take(held, training.sampleRows(schema.dim)), schema.dim)
  }
  drawn = undefined

  const loggedIds = await idLog.finish()
  const duplicates = await clock.time("duplicates", () =>
    findDuplicates(scratch, loggedIds, options.onDuplicate),
  )
  const locator = options.locator
    ? await clock.time("locator", async () => ({
        scratchName: LOCATOR_FILE,
        ...(await writeLocator(scratch, LOCATOR_FILE, loggedIds, duplicates.drop)),
      }))
    : undefined
  const kept = trainable?.shards ?? 0
  const asked = await certificateQueries(
    job,
    trained,
    { heldOut: heldOut.take(kept), stored: heldOut.takeStored(kept) },
    partitioned,
    duplicates,
    hasCoded,
  )
  const codes = hasCoded ? await clock.time("codes", () => training.finish()) : undefined
  const spec = { ...schema, ...(codes && { codes: codes.codes }) }
  const shards = await clock.time("shards", (progress) =>
    storeShards(job, { ...partitioned, schema: spec }, duplicates, asked, progress),
  )
  const rows = partitioned.rows - duplicates.rows
  const { strategy, recall } = await certified(job, asked, {
    placedBy: partitioned.strategy,
    sampled: trained?.sampled,
    codes: codes?.codes,
    shards,
    rows,
  })
  return {
    parts: {
      schema,
      sharding: withEffort(strategy.describe(), givenProbes(options), recall),
      arrays: strategy.artifacts(),
      shards,
      rows,
      codes: codes?.file,
      locator,
      recall,
      skippedRows: badRows.count,
      duplicateRows: duplicates.rows,
      norms: norms.figures(),
    },
    skippedReasons: badRows.reasons,
    notes: trained?.notes ?? [],
  }
}

/** The number of probes that the user has asked for; undefined if it was left to us. */
function givenProbes({ sharding }: Job["options"]): number | undefined {
  return sharding !== undefined && "probes" in sharding ? sharding.probes : undefined
}

/** The shards stage: a task for each shard that has rows. */
async function storeShards(
  job: Job,
  { rowsByShard, copiesByShard, schema }: Partition,
  duplicates: Duplicates,
  asked: AskedQueries | undefined,
  progress: (done: number, total?: number) => void,
): Promise<SnapshotParts["shards"]> {
  const { options, store, run, scratch, signal, reuseFrom = run.base?.manifest ?? "nothing" } = job
  const { backend, parallelism = availableParallelism(), memoryLimit } = options
  const plan: ShardPlan = {
    run: run.run,
    spec: schema,
    backend,
    index: options.index,
    queries: asked && { vectors: asked.vectors, own: asked.own },
  }
  // Files of the base may be reused: the lease of this run protects them from collection.
  const base = options.reuse && reuseFrom !== "nothing" ? reuseFrom.shards : []
  const reusable = new Map(base.map((entry) => [entry.shard, entry]))
  const numbers = Array.from(rowsByShard.keys()).filter((shard) => rowsByShard[shard]! > 0)
  const tasks = numbers.map(
    (shard): ShardTask => ({
      shard,
      // Nothing is tried twice within a run.
      attempt: 0,
      drop: [...(duplicates.drop.get(shard) ?? [])],
      copies: copiesByShard.get(shard),
      reusable: reusable.get(shard),
    }),
  )
  const results = createShardResults(asked?.neighbours)
  let done = 0
  const spills = await Promise.all(numbers.map((shard) => stat(scratch.path(spillName(shard)))))
  const largest = spills.reduce((most, { size }) => Math.max(most, size), 0)
  const threads = draftsAtOnce(parallelism, largest, memoryLimit)
  await threadExecutor({ scratch, store, parallelism: threads }).run(plan, tasks, {
    hint: () => asked && { within: asked.neighbours.within },
    onResult: async (result) => {
      results.add(result)
      await scratch.remove(spillName(result.kind === "empty" ? result.shard : result.entry.shard))
      progress(++done, tasks.length)
    },
    signal,
  })
  return results.entries()
}
