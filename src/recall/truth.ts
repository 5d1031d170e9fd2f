/**
 * The rows of a snapshot as its shards hold them: a sample to search for, and the true neighbours of queries.
 */
import { join } from "node:path"
import { throwIfAborted } from "../errors.js"
import type { StoredRecord } from "../records.js"
import { hash53, saltOf } from "../sharding/cluster/space/hash.js"
import { createShardPool, type TrustOptions } from "../shards/pools.js"
import { openerOf } from "../shards/registry.js"
import { withShard } from "../shards/with-shard.js"
import { download } from "../snapshot/content.js"
import { type Snapshot, shardFiles, shardSpecOf } from "../snapshot/snapshot.js"
import type { CallOptions, ObjectStore } from "../storage/store.js"
import { createNeighbourLists, type Neighbour, nearestInShard } from "./certificate.js"
import { idKey } from "./id-key.js"

interface ShardRecords {
  readonly shard: number
  readonly ids: { readonly values: readonly (string | bigint)[] }
  /** A row for each id. */
  readonly vectors: Float32Array
}

/** Calls `use` with all rows of each shard, one shard after the other. */
export type ShardScan = (use: (records: ShardRecords) => void) => Promise<void>

/** Shards are downloaded to `dir` by the first scan, and stay there for the next ones. */
export function createShardScan(
  store: ObjectStore,
  snapshot: Snapshot,
  dir: string,
  { signal, ...trust }: CallOptions & TrustOptions,
): ShardScan {
  const spec = shardSpecOf(snapshot.schema)
  const downloaded = new Set<number>()
  return async (use) => {
    // Nothing is searched by the backend: its rows are read once.
    const pool = createShardPool(openerOf(snapshot), { workers: 1, memoryBytes: 0 }, trust)
    try {
      for (const entry of snapshot.shards) {
        throwIfAborted(signal)
        const shardDir = join(dir, String(entry.shard))
        if (!downloaded.has(entry.shard)) {
          for (const file of shardFiles(entry))
            await download(store, file, join(shardDir, file.name), { signal })
          downloaded.add(entry.shard)
        }
        await withShard(pool, shardDir, entry, spec, async (reader) => {
          const vectors = new Float32Array(entry.rows * spec.dim)
          const ids: StoredRecord["id"][] = []
          for await (const records of reader.records()) {
            for (const { id, vector } of records) {
              vectors.set(vector, ids.length * spec.dim)
              ids.push(id)
            }
          }
          use({ shard: entry.shard, ids: { values: ids.map(asStored) }, vectors })
        })
      }
    } finally {
      await pool.close()
    }
  }
}

const asStored = (id: StoredRecord["id"]): string | bigint => (typeof id === "number" ? BigInt(id) : id)

export interface SampledRow {
  /** {@link idKey}. */
  readonly id: number
  readonly vector: Float32Array
  /** The first shard that holds it. */
  readonly shard: number
}

/** `count` rows at most, by a hash of their ids: each is as likely, however many shards hold it. */
export async function sampleRows(
  scan: ShardScan,
  dim: number,
  count: number,
  seed: number,
): Promise<readonly SampledRow[]> {
  const salt = saltOf("sample", seed)
  let kept = new Map<number, SampledRow & { readonly order: number }>()
  const lowest = () => [...kept.values()].sort((a, b) => a.order - b.order || a.id - b.id).slice(0, count)
  await scan(({ shard, ids, vectors }) => {
    for (const [row, value] of ids.values.entries()) {
      const id = idKey(value)
      if (kept.has(id)) continue
      const vector = vectors.subarray(row * dim, (row + 1) * dim)
      kept.set(id, { id, vector, shard, order: hash53(id, salt) })
    }
    // Only what is kept is copied, so that the rows of the shard can be forgotten.
    kept = new Map(lowest().map((row) => [row.id, { ...row, vector: row.vector.slice() }]))
  })
  return lowest()
}

/**
 * The nearest rows of all shards to each query, exactly, whatever the index of the shards. `own`: keys of
 * queries that are rows.
 */
export async function trueNeighbours(
  scan: ShardScan,
  { dim, metric }: Pick<Snapshot["schema"], "dim" | "metric">,
  vectors: Float32Array,
  own: Float64Array | undefined,
): Promise<readonly (readonly Neighbour[])[]> {
  const neighbours = createNeighbourLists(vectors.length / dim)
  await scan((records) => {
    const rows = { ...records, rows: records.vectors.length / dim }
    neighbours.add(records.shard, nearestInShard(rows, { dim, metric }, { vectors, own }, neighbours))
  })
  return neighbours.lists
}
