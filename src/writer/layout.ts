/**
 * The layout stage of `cluster` builds: all rows are read into memory, laid out in worker threads, and placed by that
 * layout when the input is partitioned. What ties the two readings together is the number of a row in reading order.
 *
 * The main thread only waits: the lease of the run is renewed meanwhile, and an abort ends the threads.
 */
import { availableParallelism } from "node:os"
import { join } from "node:path"
import { MessageChannel, type MessagePort } from "node:worker_threads"
import { Piscina } from "piscina"
import { errorFromWire, invalidInput, throwIfAborted } from "../errors.js"
import type { Logger } from "../logger.js"
import type { RecordBatch } from "../records.js"
import { CLUSTERINGS, createNeighbourLists, type NeighbourGraph } from "../sharding/layout/graph.js"
import { type LayoutStep, layoutBytes } from "../sharding/layout/layout.js"
import type { SpaceRows } from "../sharding/layout/space.js"
import type { ResolvedCluster } from "../sharding/options.js"
import type { LayoutName, Strategy } from "../sharding/strategy.js"
import type { Metric } from "../vectors/metric.js"
import { Reservoir } from "../vectors/random.js"
import type { LaidOut, LayoutTask, LayoutTaskResult } from "./layout-task.js"
import type { LayoutWorkerReply } from "./layout-worker.js"
import type { Placement } from "./partition.js"
import { noRows } from "./train.js"

/** More shards than these take too much time and memory to pack. */
const MOST_AFFINITY_SHARDS = 4096
/** Parts of a clustering per thread: several, since some cells take longer than others. */
const PARTS_PER_THREAD = 8

export interface LayoutRows {
  /** Rows of the input. */
  readonly rows: number
  readonly dim: number
  /** The layout that was asked for, or the best one that memory and the number of shards allow. */
  readonly layout: LayoutName
  /** All rows, `rows × dim`, in memory that threads share; absent for a plain layout. */
  readonly vectors: Float32Array | undefined
  /** A sample to train a plain layout on; absent for the others. */
  readonly sample: Reservoir | undefined
  /** Why the layout is not the one that was asked for. */
  readonly notes: readonly string[]
}

/**
 * Reads the whole input into memory, or a uniform sample of it as soon as that needs more than `memoryLimit` bytes. Throws
 * `InvalidInput` if it has no rows.
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
      kept = createRowStore(dim, mostRows(dim, memoryLimit))
    }
    if (kept !== undefined && !kept.add(batch.vectors)) {
      sample = new Reservoir(sharding.sampleRows, dim, sharding.seed)
      sample.add(kept.vectors())
      kept = undefined
    }
    sample?.add(batch.vectors)
    rows += batch.rows
    onRows(rows)
  }
  if (dim === undefined) throw noRows()
  const { layout, notes } = chooseLayout(sharding, rows, dim, memoryLimit)
  return { rows, dim, layout, vectors: kept?.vectors(), sample, notes }
}

/** Rows whose `fast` layout, the one that takes less memory, stays within the limit. */
function mostRows(dim: number, memoryLimit: number): number {
  const fixed = layoutBytes(0, dim, "fast")
  return Math.max(0, Math.floor((memoryLimit - fixed) / (layoutBytes(1, dim, "fast") - fixed)))
}

/** The best layout, at most the one that was asked for, that the limits allow; with a sentence for each step down. */
export function chooseLayout(
  { layout: asked, shards }: Pick<ResolvedCluster, "layout" | "shards">,
  rows: number,
  dim: number,
  memoryLimit: number,
): { readonly layout: LayoutName; readonly notes: readonly string[] } {
  const notes: string[] = []
  let layout = asked
  if (layout === "affinity" && shards > MOST_AFFINITY_SHARDS) {
    notes.push(
      `layout affinity takes at most ${MOST_AFFINITY_SHARDS} shards, got ${shards}; fast is taken instead`,
    )
    layout = "fast"
  }
  for (const [wanted, less] of [
    ["affinity", "fast"],
    ["fast", "plain"],
  ] as const) {
    if (layout !== wanted) continue
    const bytes = layoutBytes(rows, dim, wanted)
    if (bytes <= memoryLimit) continue
    notes.push(
      `layout ${wanted} of ${rows} rows needs ${bytes} bytes, the memory limit is ${memoryLimit}; ${less} is taken instead`,
    )
    layout = less
  }
  return { layout, notes }
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

export interface LayOutOptions {
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
 * Lays out all rows in worker threads, with the layout `affinity` or `fast`. `vectors` (`rows × dim`) are in shared memory and are changed. The
 * result depends on rows, options and seed alone, not on the number of threads.
 */
export async function layOut(
  vectors: Float32Array,
  dim: number,
  layout: "affinity" | "fast",
  options: LayOutOptions,
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
  const pool = new Piscina<LayoutTask, LayoutWorkerReply>({
    filename: join(import.meta.dirname, "layout-worker.js"),
    maxThreads: parallelism,
    minThreads: 1,
  })
  const run = async <K extends LayoutTask["kind"]>(
    task: Extract<LayoutTask, { kind: K }>,
    transferList: MessagePort[] = [],
  ): Promise<LayoutTaskResult[K]> => {
    const reply = await pool.run(task, { transferList })
    if ("error" in reply) throw errorFromWire(reply.error)
    return reply.result as LayoutTaskResult[K]
  }
  let ended: Promise<void> | undefined
  const end = (): Promise<void> => {
    ended ??= pool.destroy()
    return ended
  }
  // One listener, not one per task: there are many parts. Tasks of a pool that ends are rejected.
  signal.addEventListener("abort", end)
  const steps = new MessageChannel()
  steps.port1.on("message", (step: LayoutStep) => onStep(step))
  try {
    throwIfAborted(signal)
    onStep("prepare")
    const prepared = await run({ kind: "prepare", vectors, dim, metric, shards, queries })
    const graph =
      layout === "affinity"
        ? await buildGraph(prepared.input.rows, seed, parallelism, run, onStep)
        : undefined
    const { budget } = sharding.replication
    const layoutOptions = { shards, layout, budget, seed, ...(graph && { graph }) }
    return await run({ kind: "layout", prepared, options: layoutOptions, steps: steps.port2 }, [steps.port2])
  } catch (error) {
    throwIfAborted(signal)
    throw error
  } finally {
    signal.removeEventListener("abort", end)
    onStep(undefined)
    steps.port1.close()
    await end()
  }
}

type Run = <K extends "plan" | "search">(
  task: Extract<LayoutTask, { kind: K }>,
) => Promise<LayoutTaskResult[K]>

/** The neighbour graph, by all threads: the clusterings are planned side by side and searched one after another. */
async function buildGraph(
  rows: SpaceRows,
  seed: number,
  parallelism: number,
  run: Run,
  onStep: (step: string) => void,
): Promise<NeighbourGraph> {
  onStep("graph-plan")
  const lists = createNeighbourLists(rows.rows, true)
  const plans = await Promise.all(
    Array.from({ length: CLUSTERINGS }, (_, clustering) => run({ kind: "plan", rows, clustering, seed })),
  )
  onStep("graph")
  for (const plan of plans) {
    const parts = Math.min(plan.cells, PARTS_PER_THREAD * parallelism)
    const border = (part: number): number => Math.floor((part * plan.cells) / parts)
    await Promise.all(
      Array.from({ length: parts }, (_, part) =>
        run({ kind: "search", rows, plan, from: border(part), to: border(part + 1), lists }),
      ),
    )
  }
  return { rows: rows.rows, k: lists.k, ids: lists.ids }
}

/** Logs how long each step took when the next one begins; `undefined` ends the last. */
function createStepLog({ logger, onStep }: LayOutOptions): (step: string | undefined) => void {
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
 * Places the rows of the second reading, which must be those of the first in the same order, where the layout has them: at home, then at
 * each of their copies. Throws `InvalidInput` if there are more rows than were laid out.
 */
export function layoutPlacement(strategy: Strategy, laidOut: LaidOut, sourceName: string): Placement {
  const { home, copies } = laidOut
  let next = 0
  return {
    strategy,
    place(batch) {
      const from = next
      next += batch.rows
      if (next > home.length) {
        throw invalidInput(
          `${sourceName} had ${home.length} rows when first read and more when read again; do not change the input during a build`,
          { expected: home.length, actual: next },
        )
      }
      if (copies === undefined) return { rows: undefined, shards: home.subarray(from, next) }
      const stored = batch.rows + copies.start[next]! - copies.start[from]!
      const rows = new Int32Array(stored)
      const shards = new Int32Array(stored)
      for (let row = from, at = 0; row < next; row++) {
        rows[at] = row - from
        shards[at++] = home[row]!
        for (let copy = copies.start[row]!; copy < copies.start[row + 1]!; copy++) {
          rows[at] = row - from
          shards[at++] = copies.shard[copy]!
        }
      }
      return { rows, shards }
    },
  }
}
