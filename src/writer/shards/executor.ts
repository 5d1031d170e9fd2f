/**
 * Runs the tasks of all shards. The executor decides where and when; what is done is the task's, so that a
 * snapshot does not depend on who built it.
 */
import { join } from "node:path"
import { Piscina } from "piscina"
import { inLanes } from "../../async/lanes.js"
import { createSemaphore } from "../../async/semaphore.js"
import { errorFromWire, throwIfAborted } from "../../errors.js"
import type { ObjectStore } from "../../storage/store.js"
import type { Scratch } from "../scratch.js"
import type { ShardDraft } from "./draft.js"
import { runShardTask, type ShardHint, type ShardPlan, type ShardResult, type ShardTask } from "./task.js"
import type { DraftReply, DraftRequest, DraftWork } from "./worker.js"

export interface ShardExecutor {
  /**
   * Runs all tasks, begun in the order of `tasks`. After the first failure, or when the signal fires, no
   * other task is begun; it settles when those that were begun have ended.
   */
  run(plan: ShardPlan, tasks: readonly ShardTask[], calls: ExecutorCalls): Promise<void>
}

export interface ExecutorCalls {
  /** Asked when a task begins. */
  hint(): ShardHint | undefined
  /** Told each result as soon as it is there. Tasks wait for it, so that what it removes never piles up. */
  onResult(result: ShardResult): Promise<void>
  readonly signal: AbortSignal | undefined
}

export interface ThreadOptions {
  readonly scratch: Scratch
  readonly store: Pick<ObjectStore, "put">
  /** Threads at most. */
  readonly parallelism: number
}

/**
 * A thread holds a shard's rows as it reads them, in their order, and as its backend writes them: so many
 * times the bytes of its spill.
 */
const COPIES_OF_SPILL = 2.5

/** How many shards may be drafted at once, one at least, if the largest spill has so many bytes. */
export function draftsAtOnce(parallelism: number, spillBytes: number, memoryLimit: number): number {
  return Math.max(1, Math.min(parallelism, Math.floor(memoryLimit / (COPIES_OF_SPILL * spillBytes))))
}

/**
 * Shards are drafted in threads and uploaded by this one: through the caller's store, with its retries, its
 * limits and its counting of requests. That store may be any object, so it could not be opened again in a
 * thread.
 */
export function threadExecutor({ scratch, store, parallelism }: ThreadOptions): ShardExecutor {
  return {
    async run(plan, tasks, { hint, onResult, signal }) {
      if (tasks.length === 0) return
      const threads = Math.min(parallelism, tasks.length)
      const workerData: DraftWork = { plan, scratch: scratch.location }
      const pool = new Piscina<DraftRequest, DraftReply>({
        filename: join(import.meta.dirname, "worker.js"),
        minThreads: threads,
        maxThreads: threads,
        workerData,
      })
      // A thread is never stopped within a task: native packages go on writing files in threads of their own.
      const drafting = createSemaphore(threads)
      const runTask = async (task: ShardTask, signal: AbortSignal): Promise<void> => {
        const draft = async (): Promise<ShardDraft> => {
          const reply = await drafting.run(() => pool.run({ task, hint: hint() }), signal)
          if ("error" in reply) throw errorFromWire(reply.error)
          throwIfAborted(signal)
          return reply.draft
        }
        await onResult(await runShardTask(plan, task, { draft, scratch, store }, signal))
      }
      try {
        // Twice the threads in flight, so that a thread drafts the next shard while the last one is uploaded.
        await inLanes(tasks, 2 * threads, runTask, signal)
      } finally {
        await pool.destroy()
      }
    },
  }
}
