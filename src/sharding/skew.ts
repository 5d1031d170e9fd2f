/** How evenly rows are spread over shards. */
export interface ShardSkew {
  /** Rows of the largest and of the smallest shard; 0 if one is empty. */
  readonly largest: number
  readonly smallest: number
  /** Rows per shard, empty ones included. */
  readonly average: number
  /** 1 if all shards are equal. The slowest shard of a build, and of a search, is about this much slower. */
  readonly largestOverAverage: number
  /** Standard deviation over average (coefficient of variation); 0 if all shards are equal. */
  readonly variation: number
  /** Shards without rows. */
  readonly empty: number
}

/** `counts`: rows of each shard, at least one shard. Without any rows the ratios are 1 and 0. */
export function shardSkew(counts: ArrayLike<number>): ShardSkew {
  const rows = Array.from(counts)
  const average = rows.reduce((sum, count) => sum + count, 0) / rows.length
  const variance = rows.reduce((sum, count) => sum + (count - average) ** 2, 0) / rows.length
  const largest = rows.reduce((max, count) => Math.max(max, count), 0)
  return {
    largest,
    smallest: rows.reduce((min, count) => Math.min(min, count), largest),
    average,
    largestOverAverage: average === 0 ? 1 : largest / average,
    variation: average === 0 ? 0 : Math.sqrt(variance) / average,
    empty: rows.filter((count) => count === 0).length,
  }
}
