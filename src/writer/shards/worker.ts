/** Thread entry: drafts shards for `executor.ts`. */
import { workerData } from "node:worker_threads"
import { errorToWire, type WireError } from "../../errors.js"
import { registerInherited } from "../../shards/registry.js"
import { openScratch, type ScratchLocation } from "../scratch.js"
import { draftShard, type ShardDraft } from "./draft.js"
import type { ShardHint, ShardPlan, ShardTask } from "./task.js"

/** What a thread is given when it starts. */
export interface DraftWork {
  readonly plan: ShardPlan
  readonly scratch: ScratchLocation
}

export interface DraftRequest {
  readonly task: ShardTask
  readonly hint: ShardHint | undefined
}

export type DraftReply = { readonly draft: ShardDraft } | { readonly error: WireError }

const { plan, scratch: location }: DraftWork = workerData
const scratch = openScratch(location)
await registerInherited()

export default async function draft({ task, hint }: DraftRequest): Promise<DraftReply> {
  try {
    return { draft: await draftShard(plan, task, hint, scratch) }
  } catch (error) {
    return { error: errorToWire(error) }
  }
}
