/** Puts the results of all shard tasks together. Pure. */
import type { ShardEntry } from "../../manifest/manifest.js"
import type { NeighbourLists } from "../../recall/certificate.js"
import type { ShardResult } from "./task.js"

export interface ShardResults {
  /** Takes results in any order. Of a shard that several attempts have built the first one counts. */
  add(result: ShardResult): void
  /** Shards that hold rows, by rising number. */
  entries(): readonly ShardEntry[]
}

/**
 * Keeps the entries; what a shard knows of the nearest rows goes into `neighbours` at once, since it is
 * large.
 */
export function createShardResults(neighbours: Pick<NeighbourLists, "add"> | undefined): ShardResults {
  const known = new Map<number, ShardEntry>()
  return {
    add(result) {
      if (result.kind === "empty" || known.has(result.entry.shard)) return
      known.set(result.entry.shard, result.entry)
      if (result.nearest !== undefined) neighbours?.add(result.entry.shard, result.nearest)
    },
    entries: () => [...known.values()].sort((a, b) => a.shard - b.shard),
  }
}
