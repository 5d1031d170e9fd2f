/**
 * The layout stage of `cluster` builds: rows in memory are laid out by worker threads.
 *
 * The main thread only waits: the lease of the run is renewed meanwhile, and an abort ends the threads.
 */
import { availableParallelism } from "node:os"
import { join } from "node:path"
import { Worker } from "node:worker_threads"
import { errorFromWire, invalidInput, throwIfAborted } from "../../errors.js"
import type { Logger } from "../../logger.js"
import type { ResolvedCluster } from "../../sharding/cluster/options.js"
import type { Metric } from "../../vectors/metric.js"
import type { LaidOut, LayoutTask } from "./task.js"
import type { LayoutMessage } from "./worker.js"

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
 * Makes the layout in worker threads. `vectors` are changed. The result depends on rows, options and seed
 * alone, not on the number of threads.
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
