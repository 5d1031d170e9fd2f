/** Filling the disk cache ahead of searches: for images, init containers, and before traffic comes. */
import { inLanes } from "../../async/lanes.js"
import { invalidInput } from "../../errors.js"
import { type SnapshotShard, shardBytes } from "../../snapshot/snapshot.js"
import type { SnapshotState } from "../state.js"
import type { ShardFiles } from "./shard-files.js"

export interface WarmOptions {
  /** Shards to download; default all that hold rows. */
  readonly shards?: readonly number[] | "all" | undefined
  /**
   * Whether copies that are there already are read and compared with their checksums; default false: sizes
   * only.
   */
  readonly verify?: boolean | undefined
  readonly signal?: AbortSignal | undefined
}

export interface WarmResult {
  /** Shards that are on the local disk now, of those asked for. */
  readonly shards: number
  /** Shards that had to be downloaded. */
  readonly downloads: number
  /** Bytes of the downloaded shards. */
  readonly bytes: number
}

/**
 * Downloads shards into the disk cache without opening them, `concurrency` at a time. Throws `InvalidInput`
 * for a shard that the snapshot does not have, and if together they are more than the cache may hold.
 */
export async function warmShards(
  state: SnapshotState,
  files: ShardFiles,
  concurrency: number,
  { shards = "all", verify = false, signal }: WarmOptions = {},
): Promise<WarmResult> {
  const entries = shards === "all" ? [...state.shards.values()] : chosenShards(state, shards)
  const totalBytes = entries.reduce((sum, entry) => sum + shardBytes(entry), 0)
  const maxBytes = await files.maxBytes()
  if (totalBytes > maxBytes) {
    throw invalidInput(
      `the ${entries.length} shards take ${totalBytes} bytes, but the disk cache holds at most ${maxBytes}; ` +
        "raise cacheBytes, or name fewer shards",
      { expected: maxBytes, actual: totalBytes },
    )
  }
  let downloads = 0
  let bytes = 0
  const warmShard = async (entry: SnapshotShard): Promise<void> => {
    if (verify) await files.drop(entry)
    // The caller's signal: when one download fails, the others still end well.
    if (!(await files.fetch(entry, signal))) return
    downloads++
    bytes += shardBytes(entry)
  }
  await inLanes(entries, concurrency, warmShard, signal)
  return { shards: entries.length, downloads, bytes }
}

function chosenShards(state: SnapshotState, shards: readonly number[]): SnapshotShard[] {
  const { shards: count } = state.info
  const wrong = shards.find((shard) => !Number.isSafeInteger(shard) || shard < 0 || shard >= count)
  if (wrong !== undefined) {
    throw invalidInput(`shard ${wrong} does not exist: this snapshot has shards 0 to ${count - 1}`, {
      shard: wrong,
      shards: count,
    })
  }
  // A shard without rows has no files.
  return [...new Set(shards)].flatMap((shard) => state.shards.get(shard) ?? [])
}
