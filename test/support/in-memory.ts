import type { OpenShard } from "../../src/shards/sqlite-vec/open.js"
import type { SearchedShard } from "../../src/shards/sqlite-vec/search.js"
import { allocateVectors, createScanTable } from "../../src/vectors/scan.js"

/** A shard with its vectors in memory, from where they are searched. */
export function inMemory(shard: OpenShard): SearchedShard {
  const { file, spec, rows } = shard
  const vectors = allocateVectors(spec.metric, rows, spec.dim)
  shard.fill(vectors)
  const blocks = [{ firstRow: 0, table: createScanTable(spec.metric, vectors, spec.dim) }]
  return { file, spec, rows, blocks: () => blocks, readRecord: (row) => shard.readRecord(row) }
}
