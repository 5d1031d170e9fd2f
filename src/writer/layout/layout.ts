/**
 * The layout stage of `cluster` builds: all rows (`affinity`) or a sample (`fast`) are read into memory and laid out by worker threads,
 * and all are placed by that layout when the input is partitioned. What ties the two readings together is the number of a
 * row in reading order.
 *
 * The main thread only waits: the lease of the run is renewed meanwhile, and an abort ends the threads.
 */
import { availableParallelism } from "node:os"
import { join } from "node:path"
import { Worker } from "node:worker_threads"
import { errorFromWire, invalidInput, throwIfAborted } from "../../errors.js"
import type { Logger } from "../../logger.js"
import type { RecordBatch } from "../../records.js"
import { affinityBytes } from "../../sharding/cluster/layout/layout.js"
import { createPricedPlacement } from "../../sharding/cluster/layout/prices.js"
import type { LayoutName, ResolvedCluster } from "../../sharding/cluster/options.js"
import { prepareRows } from "../../sharding/cluster/space/space.js"
import type { Strategy } from "../../sharding/strategy.js"
import type { Metric } from "../../vectors/metric.js"
import { Reservoir } from "../../vectors/random.js"
import type { Assignment } from "../rows/partition.js"
import { noRows } from "../rows/valid-rows.js"
import type { LaidOut, LayoutTask } from "./task.js"
import type { LayoutMessage } from "./worker.js"

/** More shards than these take too much time and memory to pack. */
const MOST_AFFINITY_SHARDS = 4096
/** Layout `auto` takes `affinity` up to here: some minutes of two cores for rows of dimension 100. */
const MOST_AUTO_AFFINITY_ROWS = 1_000_000
/** With fewer rows `auto` takes `plain`: held-out ones, a twentieth, would be too few to choose and measure anything. */
const LEAST_AUTO_LAYOUT_ROWS = 2000
/** A `fast` layout is made of so many rows a shard, within these bounds, or of `sampleRows` where that is more. */
const FAST_SAMPLE_ROWS = { perShard: 1024, least: 2 ** 16, most: 2 ** 17 } as const
/** The part of the memory limit that those may take, if that is more than `sampleRows`: they are in memory twice for a moment. */
const SAMPLE_SHARE = 1 / 8
/** Fewer rows are laid out by one thread: to start more would take longer. */
const LEAST_SHARED_ROWS = 20_000

/** Rows that a layout is made of. */
export interface LayoutInputRows {
  /** In memory that threads share; changed. */
  readonly vectors: Float32Array
  readonly dim: number
  /** Rows that these stand for: more than there are, if they are a sample. */
  readonly rows: number
}

export interface LayoutRows {
  /** Rows of the input. */
  readonly rows: number
  readonly dim: number
  /** The layout that was asked for, or the best one that the limits allow. */
  readonly layout: Exclude<LayoutName, "auto">
  /** What it is made of: all rows, in memory that threads share; a uniform sample for `fast`. */
  readonly vectors: Float32Array
  /** Of a sample: which row of the input each is. */
  readonly rowNumbers?: Float64Array
  /** Why the layout is not the one that was asked for. */
  readonly notes: readonly string[]
}

/**
 * Reads the whole input: into memory for `affinity` as long as that stays within the limits, otherwise a sample of it.
 * Throws `InvalidInput` if it has no rows.
 */
export async function readLayoutRows(
  batches: AsyncIterable<RecordBatch>,
  sharding: ResolvedCluster,
  memoryLimit: number,
  onRows: (rows: number) => void,
): Promise<LayoutRows> {
  let dim: number | undefined
  let kept: RowStore | undefined
  let sample: Reservoir | undefined
  let rows = 0
  for await (const batch of batches) {
    if (dim === undefined) {
      dim = batch.dim
      kept = createRowStore(dim, mostAffinityRows(sharding, dim, memoryLimit))
    }
    if (kept !== undefined && !kept.add(batch.vectors)) {
      sample = new Reservoir(fastSampleRows(sharding, dim, memoryLimit), dim, sharding.seed)
      sample.add(kept.vectors())
      kept = undefined
    }
    sample?.add(batch.vectors)
    rows += batch.rows
    onRows(rows)
  }
  if (dim === undefined) throw noRows()
  if (kept === undefined) {
    const { vectors, rowNumbers } = sample!
    return {
      rows,
      dim,
      layout: "fast",
      vectors,
      rowNumbers,
      notes: notesOn(sharding, rows, dim, memoryLimit),
    }
  }
  return {
    rows,
    dim,
    layout: layoutOf(sharding, rows, dim, memoryLimit),
    vectors: kept.vectors(),
    notes: [],
  }
}

/** The layout that so many rows get: the one that was asked for, or the best that the limits allow. */
export function layoutOf(
  sharding: Pick<ResolvedCluster, "layout" | "shards">,
  rows: number,
  dim: number,
  memoryLimit: number,
): LayoutRows["layout"] {
  if (sharding.layout === "plain") return "plain"
  if (rows > mostAffinityRows(sharding, dim, memoryLimit)) return "fast"
  return sharding.layout === "auto" && rows < LEAST_AUTO_LAYOUT_ROWS ? "plain" : "affinity"
}

/** More rows of dimension `dim` than these get the layout `fast`. */
function mostAffinityRows(
  { layout, shards }: Pick<ResolvedCluster, "layout" | "shards">,
  dim: number,
  memoryLimit: number,
): number {
  if (layout === "fast" || shards > MOST_AFFINITY_SHARDS) return 0
  const fixed = affinityBytes(0, dim)
  const affordable = Math.max(0, Math.floor((memoryLimit - fixed) / (affinityBytes(1, dim) - fixed)))
  return layout === "auto" ? Math.min(MOST_AUTO_AFFINITY_ROWS, affordable) : affordable
}

/** Why a layout by affinity that was asked for by its name is not made. */
function notesOn(
  { layout, shards }: Pick<ResolvedCluster, "layout" | "shards">,
  rows: number,
  dim: number,
  memoryLimit: number,
): readonly string[] {
  if (layout !== "affinity") return []
  return [
    shards > MOST_AFFINITY_SHARDS
      ? `layout affinity takes at most ${MOST_AFFINITY_SHARDS} shards, got ${shards}; fast is taken instead`
      : `layout affinity of ${rows} rows needs ${affinityBytes(rows, dim)} bytes, the memory limit is ${memoryLimit}; fast is taken instead`,
  ]
}

function fastSampleRows({ sampleRows, shards }: ResolvedCluster, dim: number, memoryLimit: number): number {
  const { perShard, least, most } = FAST_SAMPLE_ROWS
  const affordable = Math.floor((SAMPLE_SHARE * memoryLimit) / (4 * dim))
  return Math.max(sampleRows, Math.min(affordable, most, Math.max(least, perShard * shards)))
}

interface RowStore {
  /** Whether there was room for them. */
  add(vectors: Float32Array): boolean
  vectors(): Float32Array
}

/** Of ES2024, which Node 20 has; the compiler knows ES2023. */
interface GrowableBuffer extends SharedArrayBuffer {
  grow(length: number): void
}
type GrowableBufferConstructor = new (
  length: number,
  options: { readonly maxByteLength: number },
) => GrowableBuffer

/** Rows one after another in one buffer that grows in place, so that they are never in memory twice. */
function createRowStore(dim: number, mostRows: number): RowStore {
  const maxByteLength = 4 * dim * mostRows
  // Only what is used takes memory; the rest is reserved addresses.
  const buffer = new (SharedArrayBuffer as unknown as GrowableBufferConstructor)(0, { maxByteLength })
  return {
    add(vectors) {
      const start = buffer.byteLength
      const end = start + vectors.byteLength
      if (end > maxByteLength) return false
      buffer.grow(end)
      new Float32Array(buffer, start, vectors.length).set(vectors)
      return true
    },
    // Of fixed length: views that follow the buffer are slower.
    vectors: () => new Float32Array(buffer, 0, buffer.byteLength / 4),
  }
}

export interface LayoutRunOptions {
  readonly metric: Metric
  readonly sharding: ResolvedCluster
  /** Real queries, if there are any, `count × dim`. */
  readonly queries?: { readonly demand: Float32Array; readonly thresholds: Float32Array } | undefined
  readonly parallelism: number | undefined
  readonly logger: Logger
  /** Told each step when it begins. */
  readonly onStep: (step: string) => void
  readonly signal: AbortSignal
}

/**
 * Makes the layout in worker threads. `vectors` are changed. The result depends on rows, options and seed alone, not on the
 * number of threads.
 */
export async function runLayout(
  { vectors, dim, rows: sampleOf }: LayoutInputRows,
  layout: "affinity" | "fast",
  options: LayoutRunOptions,
): Promise<LaidOut> {
  const { metric, sharding, queries, parallelism = availableParallelism(), signal } = options
  const { shards, seed } = sharding
  const rows = vectors.length / dim
  if (rows < shards) {
    throw invalidInput(
      `${shards} cluster shards need ${shards} rows or more, got ${rows}; ask for ${rows} shards or fewer`,
      { shards, rows },
    )
  }
  const onStep = createStepLog(options)
  const { budget } = sharding.replication
  const threads = rows < LEAST_SHARED_ROWS ? 1 : parallelism
  const task: LayoutTask = { vectors, dim, metric, shards, layout, budget, seed, sampleOf, queries, threads }
  const worker = new Worker(join(import.meta.dirname, "worker.js"), { workerData: task })
  const end = (): void => void worker.terminate()
  signal.addEventListener("abort", end)
  try {
    throwIfAborted(signal)
    return await new Promise((resolve, reject) => {
      worker.on("message", (message: LayoutMessage) => {
        if ("step" in message) onStep(message.step)
        else if ("laidOut" in message) resolve(message.laidOut)
        else reject(errorFromWire(message.error))
      })
      worker.on("error", reject)
      worker.on("exit", () => reject(new Error("the thread that made the layout ended before it was done")))
    })
  } catch (error) {
    throwIfAborted(signal)
    throw error
  } finally {
    signal.removeEventListener("abort", end)
    onStep(undefined)
    await worker.terminate()
  }
}

/** Logs how long each step took when the next one begins; `undefined` ends the last. */
function createStepLog({ logger, onStep }: LayoutRunOptions): (step: string | undefined) => void {
  let current: { readonly step: string; readonly start: number } | undefined
  return (step) => {
    const now = performance.now()
    if (current !== undefined) {
      logger.debug({ step: current.step, durationMs: Math.round(now - current.start) }, "layout step done")
    }
    current = step === undefined ? undefined : { step, start: now }
    if (step !== undefined) onStep(step)
  }
}

/**
 * Places the rows of the second reading, which must be those of the first in the same order: where a layout of all rows has them, at home,
 * then at each of their copies; one at a time by a layout of a sample. Throws `InvalidInput` if there are more rows than in the first.
 */
export function layoutAssignment(
  strategy: Strategy,
  laidOut: LaidOut,
  rows: number,
  sourceName: string,
): Assignment {
  const { home, copies, points, routing } = laidOut
  const priced = points && createPricedPlacement(points, rows)
  let next = 0
  return {
    strategy,
    assign(batch) {
      const from = next
      next += batch.rows
      if (next > rows) {
        throw invalidInput(
          `${sourceName} had ${rows} rows when first read and more when read again; do not change the input during a build`,
          { expected: rows, actual: next },
        )
      }
      if (priced !== undefined) {
        const inSpace = prepareRows(routing.preparation, batch.vectors.slice())
        return { rows: undefined, shards: priced.place(inSpace) }
      }
      if (copies === undefined) return { rows: undefined, shards: home.subarray(from, next) }
      const stored = batch.rows + copies.start[next]! - copies.start[from]!
      const rowShards = { rows: new Int32Array(stored), shards: new Int32Array(stored) }
      for (let row = from, at = 0; row < next; row++) {
        rowShards.rows[at] = row - from
        rowShards.shards[at++] = home[row]!
        for (let copy = copies.start[row]!; copy < copies.start[row + 1]!; copy++) {
          rowShards.rows[at] = row - from
          rowShards.shards[at++] = copies.shard[copy]!
        }
      }
      return rowShards
    },
  }
}
