/** Thread entry: runs shard tasks for `executor.ts`. */
import { errorToWire, type WireError } from "../../errors.js"
import { runShardTask, type ShardTask, type ShardTaskResult } from "./task.js"

export type ShardWorkerReply = { readonly result: ShardTaskResult } | { readonly error: WireError }

export default async function run(task: ShardTask): Promise<ShardWorkerReply> {
  try {
    return { result: await runShardTask(task) }
  } catch (error) {
    return { error: errorToWire(error) }
  }
}
