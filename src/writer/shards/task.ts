/**
 * One shard's share of a build: from the rows in its spill to a stored shard.
 *
 * A task depends on nothing but its arguments and the scratch store, and writes under a fresh attempt number.
 * So it can run in threads, processes or machines, again after a failure, and twice at the same time.
 * Arguments and results are plain data.
 */
import type { ShardEntry } from "../../manifest/manifest.js"
import type { CertificateQueries, NeighbourHint, ShardNeighbours } from "../../recall/certificate.js"
import type { ShardSpec } from "../../shards/backend.js"
import type { IndexOptions } from "../../shards/options.js"
import type { BackendName } from "../../shards/registry.js"
import type { ObjectStore } from "../../storage/store.js"
import type { Scratch } from "../scratch.js"
import type { ShardDraft } from "./draft.js"
import { uploadDraft } from "./upload.js"

/** What the shards of a run have in common. */
export interface ShardPlan {
  readonly run: string
  readonly spec: ShardSpec
  readonly backend: BackendName
  /** Options of the index, where any were given. */
  readonly index?: IndexOptions | undefined
  /** Queries whose nearest rows are wanted. */
  readonly queries: CertificateQueries | undefined
}

export interface ShardTask {
  readonly shard: number
  /** Fresh for every attempt at this shard, so that none overwrites what another one writes. */
  readonly attempt: number
  /** Positions in the spill to leave out: rows that lost against another one with the same id. */
  readonly drop: readonly number[]
  /** Positions in the spill of rows whose home is another shard. */
  readonly copies?: Float64Array | undefined
  /** A stored shard whose files serve again if its fingerprint is that of these rows. */
  readonly reusable: ShardEntry | undefined
}

/** What may spare a task work, without which its result is the same. */
export type ShardHint = NeighbourHint

/** What has become of a shard. `nearest`: of the plan's queries, if it has any. */
export type ShardResult =
  /** No row is left. */
  | { readonly kind: "empty"; readonly shard: number }
  /** The reusable files serve. */
  | { readonly kind: "reused"; readonly entry: ShardEntry; readonly nearest: ShardNeighbours | undefined }
  | { readonly kind: "built"; readonly entry: ShardEntry; readonly nearest: ShardNeighbours | undefined }

/** Where a task runs. */
export interface TaskPlace {
  /** Drafts the shard: here, or in a thread of its own. */
  draft(plan: ShardPlan, task: ShardTask): Promise<ShardDraft>
  readonly scratch: Scratch
  readonly store: Pick<ObjectStore, "put">
}

/**
 * Drafts a shard and uploads its files. The spill stays, so that the task can be run again; the files of the
 * draft are removed from the scratch store once they are stored.
 */
export async function runShardTask(
  plan: ShardPlan,
  task: ShardTask,
  { draft, scratch, store }: TaskPlace,
  signal: AbortSignal | undefined,
): Promise<ShardResult> {
  const drafted = await draft(plan, task)
  switch (drafted.kind) {
    case "empty":
      return { kind: "empty", shard: task.shard }
    case "unchanged":
      return { kind: "reused", entry: task.reusable!, nearest: drafted.nearest }
    case "files": {
      const entry = await uploadDraft(plan, task, drafted, { scratch, store }, signal)
      return { kind: "built", entry, nearest: drafted.nearest }
    }
  }
}
