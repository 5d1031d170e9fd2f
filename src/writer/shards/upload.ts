/** Stores the files of a drafted shard under the keys of its attempt. */
import { join } from "node:path"
import { shardFolder } from "../../manifest/keys.js"
import type { ShardEntry } from "../../manifest/manifest.js"
import { shardFileKey } from "../../snapshot/snapshot.js"
import { draftFolder, type ShardDraft } from "./draft.js"
import type { ShardPlan, ShardTask, TaskPlace } from "./task.js"

/**
 * Returns what the manifest says of the shard. An object that is there already is a `Conflict`: attempts have
 * numbers of their own.
 */
export async function uploadDraft(
  { run }: Pick<ShardPlan, "run">,
  task: Pick<ShardTask, "shard" | "attempt">,
  { rows, fingerprint, index, files }: Extract<ShardDraft, { readonly kind: "files" }>,
  { scratch, store }: Pick<TaskPlace, "scratch" | "store">,
  signal: AbortSignal | undefined,
): Promise<ShardEntry> {
  const { shard, attempt } = task
  const folder = shardFolder(run, shard, attempt)
  const local = draftFolder(task)
  for (const { name } of files) {
    const file = join(scratch.path(local), name)
    await store.put(shardFileKey({ folder }, name), { file }, { ifAbsent: true, signal })
  }
  await scratch.remove(local)
  return { shard, rows, folder, files, index, fingerprint }
}
