/** Figures of a snapshot, from its manifest. Pure. */
import { shardSkew } from "../sharding/skew.js"
import { type Snapshot, type SnapshotShard, shardFileKey } from "../snapshot/snapshot.js"
import { parseKey } from "./keys.js"

export { shardBytes, snapshotBytes } from "../snapshot/snapshot.js"

type Figured = Pick<Snapshot, "run" | "shards" | "sharding">

export interface ShardFigures {
  readonly total: number
  readonly empty: number
  /** Shards whose files an earlier run has built. */
  readonly reused: number
  readonly largestRows: number
  /** 0 if a shard is empty. */
  readonly smallestRows: number
  /** Rows of the largest shard / average rows of all shards; 1 is even. */
  readonly skew: number
}

export function shardFigures({ run, shards, sharding }: Figured): ShardFigures {
  const counts = new Float64Array(sharding.shards)
  for (const { shard, rows } of shards) counts[shard] = rows
  const { largest, smallest, largestOverAverage, empty } = shardSkew(counts)
  return {
    total: sharding.shards,
    empty,
    reused: shards.filter((entry) => (shardRun(entry) ?? run) !== run).length,
    largestRows: largest,
    smallestRows: smallest,
    skew: largestOverAverage,
  }
}

/** Run that built the files of a shard; undefined where the format does not tell: then it is that of all. */
export function shardRun(entry: SnapshotShard): string | undefined {
  const parsed = parseKey(shardFileKey(entry, entry.files[0]!.name))
  return parsed?.kind === "shard" ? parsed.run : undefined
}

/** Shards that hold no rows, by rising number. */
export function emptyShards({ shards, sharding }: Pick<Snapshot, "shards" | "sharding">): readonly number[] {
  const filled = new Set(shards.map(({ shard }) => shard))
  return Array.from({ length: sharding.shards }, (_, shard) => shard).filter((shard) => !filled.has(shard))
}
