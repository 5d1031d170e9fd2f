/**
 * The manifest: the one document that describes a snapshot completely.
 *
 * {@link Manifest} is what the rest of the code works with; its wire form, with its versions and its checks,
 * is `codec.ts`. The format is documented with an example in docs/format.md.
 */
import type { Json } from "../records.js"
import type {
  BuildFacts,
  LocatorEntry,
  NormFigures,
  Snapshot,
  SnapshotSchema,
  SnapshotShard,
  SnapshotShardFile,
  StoredFile,
} from "../snapshot/snapshot.js"

export type { LocatorEntry, NormFigures, SnapshotSchema }

/** A snapshot of our format: what every snapshot has, with checksums, and how it was built. */
export interface Manifest extends Snapshot {
  /**
   * Run that was live when this one started, if any; publishing is refused if another one is live by then.
   */
  readonly base: string | undefined
  /** Number of the publication that `base` was live by; see `pointer.ts`. */
  readonly basePublication?: number | undefined
  readonly artifacts: readonly FileEntry[]
  /** May be the object of an earlier run. */
  readonly codes?: FileEntry | undefined
  readonly shards: readonly ShardEntry[]
  readonly build: BuildFacts
  /** Free for users. */
  readonly custom: Readonly<Record<string, Json>>
}

/** An object, by its key relative to the snapshot's root, with what its content must be. */
export interface FileEntry extends StoredFile {
  /** SHA-256 of the content, 64 hex digits. */
  readonly sha256: string
}

/** The folder may belong to an earlier run whose shard had the same content. */
export interface ShardEntry extends SnapshotShard {
  readonly files: readonly ShardFile[]
  /** SHA-256 of all that went into the shard: rows, and the parameters that shaped its files. */
  readonly fingerprint: string
}

export interface ShardFile extends SnapshotShardFile {
  readonly sha256: string
}
