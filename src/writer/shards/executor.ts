/** The shards stage: builds every shard that has rows, several at a time, and hands each over as soon as it is done. */
import { availableParallelism } from "node:os"
import { join } from "node:path"
import { Piscina } from "piscina"
import { inLanes } from "../../async/lanes.js"
import { createSemaphore } from "../../async/semaphore.js"
import { errorFromWire, throwIfAborted } from "../../errors.js"
import type { ShardTask, ShardTaskResult } from "./task.js"
import type { ShardWorkerReply } from "./worker.js"

export interface ShardPoolOptions {
  readonly parallelism: number | undefined
  readonly signal: AbortSignal | undefined
}

/**
 * Runs all tasks; `onBuilt` (the upload) is awaited before its slot takes the next task, so that finished shards
 * never pile up on disk. Returns results in the order of `tasks`. After the first failure, or when the signal aborts, no
 * other shard is begun; it leaves when those that were begun have ended.
 */
export async function buildShards<T>(
  tasks: readonly ShardTask[],
  onBuilt: (task: ShardTask, result: ShardTaskResult, signal: AbortSignal) => Promise<T>,
  { parallelism = availableParallelism(), signal }: ShardPoolOptions,
): Promise<readonly T[]> {
  if (tasks.length === 0) return []
  const threads = Math.min(parallelism, tasks.length)
  const pool = new Piscina<ShardTask, ShardWorkerReply>({
    filename: join(import.meta.dirname, "worker.js"),
    minThreads: threads,
    maxThreads: threads,
  })
  // A thread is never stopped within a task: native packages go on writing files in threads of their own.
  const building = createSemaphore(threads)
  const run = async (task: ShardTask, signal: AbortSignal): Promise<T> => {
    const reply = await building.run(() => pool.run(task), signal)
    if ("error" in reply) throw errorFromWire(reply.error)
    throwIfAborted(signal)
    return onBuilt(task, reply.result, signal)
  }
  try {
    // Twice the threads in flight, so that a thread builds the next shard while the last one is uploaded.
    return await inLanes(tasks, 2 * threads, run, signal)
  } finally {
    await pool.destroy()
  }
}
