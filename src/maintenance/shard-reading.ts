/**
 * Bounds for commands that read all rows of a snapshot, whose shards are downloaded, read and removed in
 * turn.
 */

/** Shards that lie on the local disk at a time. */
export const SHARDS_AT_A_TIME = 2

/** Memory for vectors of all open shards; a shard that does not fit is searched in its file. */
export const POOL_OPTIONS = { workers: SHARDS_AT_A_TIME, memoryBytes: 256 * 2 ** 20 }
