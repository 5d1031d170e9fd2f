/**
 * A snapshot as readers, verification, evaluation and serving see it, whatever format it is stored in.
 *
 * Data only. What stores it, and so knows its documents, is a {@link SnapshotFormat} (`format.ts`).
 */
import type { RecallCertificate } from "../recall/curves.js"
import type { FieldSpec, Json, SnapshotIdType } from "../records.js"
import type { ShardingDescription, StrategyContext } from "../sharding/strategy.js"
import type { IndexDescription, ShardOpener, ShardSpec } from "../shards/backend.js"
import type { BackendName } from "../shards/registry.js"
import type { SnapshotCodes } from "../vectors/cells/codebook.js"
import type { Metric } from "../vectors/metric.js"

export interface Snapshot {
  readonly run: string
  readonly createdAt: Date
  readonly schema: SnapshotSchema
  /** With the arrays in `artifacts`, what restores the strategy. */
  readonly sharding: ShardingDescription
  /** What the strategy goes by where it is not metric and fields of `schema`. */
  readonly routing?: Omit<StrategyContext, "dim"> | undefined
  /** Files that the strategy needs at query time. */
  readonly artifacts: readonly StoredFile[]
  /** Finds the shard of an id; absent if the snapshot was built without. */
  readonly locator: LocatorEntry | undefined
  /** The codebook of its shards' cells; absent where no shard is searched through cells. */
  readonly codes?: StoredFile | undefined
  readonly backend: BackendName
  /** What opens its shards where they are not as `backend` builds them. */
  readonly opener?: ShardOpener | undefined
  /** Shards that hold rows, by rising number. Those of `sharding.shards` that are not listed are empty. */
  readonly shards: readonly SnapshotShard[]
  /** Rows of the snapshot, each counted once. */
  readonly rows: number
  /** Rows that shards hold beyond `rows`, since some are in more than one shard; absent if none is. */
  readonly copies?: number | undefined
  /** Recall as it was measured; absent if it was not. */
  readonly recall?: RecallCertificate | undefined
  /** Run that was live when it was begun; absent if none was, or if the format does not record it. */
  readonly base?: string | undefined
  /** How it was built; absent if the format does not record it. */
  readonly build?: BuildFacts | undefined
  /** Free for users. */
  readonly custom?: Readonly<Record<string, Json>> | undefined
  /** What is odd about it, as sentences for people; absent if nothing is. */
  readonly notes?: readonly string[] | undefined
}

export interface SnapshotSchema {
  readonly dim: number
  readonly metric: Metric
  /** `wide`: some integer id lies beyond ±(2^53 - 1), so that all ids come back as `bigint`. */
  readonly id: { readonly type: SnapshotIdType; readonly wide: boolean }
  readonly fields: readonly FieldSpec[]
  /** Label of the embedding model, as given by the user. */
  readonly model: string | undefined
}

/** An object, by its key relative to the snapshot's root, with what its content must be. */
export interface StoredFile {
  readonly key: string
  /** In bytes. */
  readonly size: number
  /** SHA-256 of the content, 64 hex digits; undefined where the format records none. */
  readonly sha256: string | undefined
}

/** The id locator. Only formats that record checksums have one. */
export interface LocatorEntry extends StoredFile {
  readonly sha256: string
  /**
   * The index: the last `size` bytes of the object, with a checksum of its own, to be read without the rest.
   */
  readonly index: { readonly size: number; readonly sha256: string }
}

export interface SnapshotShard {
  readonly shard: number
  /** Copies included. */
  readonly rows: number
  /** Folder of the files, relative to the snapshot's root. What lies in it never changes. */
  readonly folder: string
  readonly files: readonly SnapshotShardFile[]
  readonly index: IndexDescription
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

/** A file of a shard; its key is {@link shardFileKey}. */
export interface SnapshotShardFile extends Omit<StoredFile, "key"> {
  /** Path below the shard's folder. */
  readonly name: string
  /** Whether a reader may pass it over. Those of this version do: no backend writes such a file yet. */
  readonly optional?: boolean | undefined
}

/** Key of a shard's file. */
export const shardFileKey = ({ folder }: Pick<SnapshotShard, "folder">, name: string): string =>
  `${folder}/${name}`

/** The files that it takes to open a shard. */
export const neededFiles = ({ files }: Pick<SnapshotShard, "files">): readonly SnapshotShardFile[] =>
  files.filter(({ optional }) => optional !== true)

/** The files of a shard by their keys, with their paths below its folder. */
export const shardFiles = (
  shard: Pick<SnapshotShard, "folder" | "files">,
): readonly (StoredFile & { readonly name: string })[] =>
  shard.files.map((file) => ({ ...file, key: shardFileKey(shard, file.name) }))

/**
 * What a backend must know of the snapshot to build or open its shards. Without the codebook they are opened,
 * too, but not searched through cells.
 */
export const shardSpecOf = (
  { dim, metric, id, fields }: SnapshotSchema,
  codes?: SnapshotCodes | undefined,
): ShardSpec => ({ dim, metric, id, fields, ...(codes && { codes }) })

/** What its strategy must know of the snapshot. */
export const strategyContextOf = ({
  schema,
  routing,
}: Pick<Snapshot, "schema" | "routing">): StrategyContext => ({ ...schema, ...routing })

/** Bytes of all files of a shard. */
export const shardBytes = ({ files }: Pick<SnapshotShard, "files">): number =>
  files.reduce((sum, { size }) => sum + size, 0)

/** What names the objects of a snapshot. */
export type SnapshotObjects = Pick<Snapshot, "shards" | "artifacts" | "locator" | "codes">

/** Every object besides the manifest: files of shards, routing artifacts, the id locator, the codebook. */
export function snapshotFiles({ shards, artifacts, locator, codes }: SnapshotObjects): readonly StoredFile[] {
  const files = shards.flatMap((shard) =>
    shardFiles(shard).map(({ key, size, sha256 }) => ({ key, size, sha256 })),
  )
  return [...files, ...artifacts, ...(locator ? [locator] : []), ...(codes ? [codes] : [])]
}

/** Bytes of all of {@link snapshotFiles}. */
export const snapshotBytes = (snapshot: SnapshotObjects): number =>
  snapshotFiles(snapshot).reduce((sum, { size }) => sum + size, 0)
