/**
 * The manifest: the one document that describes a snapshot completely.
 *
 * {@link Manifest} is what the rest of the code works with; its wire form, with its versions and its checks, is
 * `codec.ts`. The format is documented with an example in docs/format.md.
 */

import type { RecallCertificate } from "../recall/curves.js"
import type { FieldSpec, IdType, Json } from "../records.js"
import type { ShardingDescription } from "../sharding/strategy.js"
import type { BackendName, IndexDescription, ShardSpec } from "../shards/backend.js"
import type { Metric } from "../vectors/metric.js"

export interface Manifest {
  readonly run: string
  readonly createdAt: Date
  /** Run that was live when this one started, if any; publishing is refused if another one is live by then. */
  readonly base: string | undefined
  /** Number of the publication that `base` was live by; see `pointer.ts`. */
  readonly basePublication?: number | undefined
  readonly schema: SnapshotSchema
  readonly sharding: ShardingDescription
  /** Files that the strategy needs at query time. */
  readonly artifacts: readonly FileEntry[]
  /** Finds the shard of an id; absent if the snapshot was built without. */
  readonly locator: LocatorEntry | undefined
  readonly backend: BackendName
  /** Shards that hold rows, by rising number. Those of `sharding.shards` that are not listed are empty. */
  readonly shards: readonly ShardEntry[]
  /** Rows of the snapshot, each counted once. */
  readonly rows: number
  /** Rows that shards hold beyond `rows`, since some are in more than one shard; absent if none is. */
  readonly copies?: number | undefined
  /** Recall as it was measured; absent if it was not, as in the first snapshots. */
  readonly recall?: RecallCertificate | undefined
  readonly build: BuildFacts
  /** Free for users. */
  readonly custom: Readonly<Record<string, Json>>
}

export interface SnapshotSchema {
  readonly dim: number
  readonly metric: Metric
  /** `wide`: some integer id lies beyond ±(2^53 - 1), so that all ids come back as `bigint`. */
  readonly id: { readonly type: IdType; readonly wide: boolean }
  readonly fields: readonly FieldSpec[]
  /** Label of the embedding model, as given by the user. */
  readonly model: string | undefined
}

/** An object, by its key relative to the snapshot's root, with what its content must be. */
export interface FileEntry {
  readonly key: string
  readonly size: number
  /** SHA-256 of the content, 64 hex digits. */
  readonly sha256: string
}

/** The id locator, see `locator.ts`. */
export interface LocatorEntry extends FileEntry {
  /** The index: the last `size` bytes of the object, with a checksum of its own, to be read without the rest. */
  readonly index: { readonly size: number; readonly sha256: string }
}

export interface ShardEntry {
  readonly shard: number
  /** Copies included. */
  readonly rows: number
  /** Folder of the files; may belong to an earlier run whose shard had the same content. */
  readonly folder: string
  readonly files: readonly ShardFile[]
  readonly index: IndexDescription
  /** SHA-256 of all that went into the shard: rows, and the parameters that shaped its files. */
  readonly fingerprint: string
}

export interface ShardFile {
  /** Path below the shard's folder. */
  readonly name: string
  readonly size: number
  readonly sha256: string
}

/** How the build went; for people. */
export interface BuildFacts {
  /** Program and version, "vecsnap 0.1.0". */
  readonly tool: string
  readonly startedAt: Date
  readonly skippedRows: number
  readonly duplicateRows: number
  /** Milliseconds by stage. */
  readonly timingsMs: Readonly<Record<string, number>>
  /** Lengths of the vectors as they were given; absent in the first snapshots. */
  readonly norms?: NormFigures | undefined
}

/** Quantiles of the Euclidean lengths of a sample of the vectors. */
export interface NormFigures {
  readonly p05: number
  readonly median: number
  readonly p95: number
  /** Vectors of length zero among all rows. */
  readonly zeroRows: number
  /** Rows in the sample. */
  readonly rows: number
}

/** What a backend must know of the snapshot to build or open its shards. */
export const shardSpecOf = ({ dim, metric, id, fields }: SnapshotSchema): ShardSpec => ({
  dim,
  metric,
  id,
  fields,
})
