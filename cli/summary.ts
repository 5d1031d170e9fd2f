/**
 * Figures of a snapshot, from its manifest. Pure.
 */
import { type Manifest, parseKey, type ShardEntry, shardBytes } from "../src/index.js"

export interface ShardFigures {
  readonly total: number
  readonly empty: number
  /** Shards whose files an earlier run has built. */
  readonly reused: number
  /** Of the shards that hold rows; 0 if none does. */
  readonly largestRows: number
  readonly smallestRows: number
  /** Rows of the largest shard / average rows of all shards that hold rows; 1 is even. */
  readonly skew: number
}

export function shardFigures({ run, rows, shards, sharding }: Manifest): ShardFigures {
  const sizes = shards.map((shard) => shard.rows)
  const largestRows = sizes.reduce((most, size) => Math.max(most, size), 0)
  return {
    total: sharding.shards,
    empty: sharding.shards - shards.length,
    reused: shards.filter((shard) => shardRun(shard) !== run).length,
    largestRows,
    smallestRows: sizes.reduce((least, size) => Math.min(least, size), largestRows),
    skew: rows === 0 ? 1 : largestRows / (rows / shards.length),
  }
}

/** Run that built the files of a shard. */
export function shardRun({ folder, files }: ShardEntry): string | undefined {
  const parsed = parseKey(`${folder}/${files[0]?.name}`)
  return parsed?.kind === "shard" ? parsed.run : undefined
}

/** Bytes of all shard files and routing artifacts. */
export const snapshotBytes = ({ shards, artifacts }: Manifest): number =>
  [...shards.map(shardBytes), ...artifacts.map(({ size }) => size)].reduce((sum, size) => sum + size, 0)

/** Shards that hold no rows, by rising number. */
export function emptyShards({ shards, sharding }: Manifest): readonly number[] {
  const filled = new Set(shards.map(({ shard }) => shard))
  return Array.from({ length: sharding.shards }, (_, shard) => shard).filter((shard) => !filled.has(shard))
}
