/**
 * The contract of a snapshot format: how snapshots are described on storage. One folder per format;
 * `manifest/formats.ts` lists them, and finds the one that a root has.
 *
 * Rules that hold for every format:
 *
 * - A root has one pointer, the object `_CURRENT`, a JSON document; a format is recognised by it.
 * - Keys are relative to the root that was opened, wherever the snapshot was written first.
 * - What leaves a format is sound: names, numbers and sums that a program would act on were checked, and what
 *   is damaged has thrown `Corrupt`, naming the object. What is missing has thrown `NotFound`, what is too
 *   new `Unsupported`.
 * - A snapshot never changes. Only the pointer does.
 */
import type { Json } from "../records.js"
import type { ShardRows } from "../shards/backend.js"
import type { BackendName } from "../shards/registry.js"
import type { CallOptions, ObjectStore, StoredObject } from "../storage/store.js"
import type { AnyNpyArray } from "../vectors/npy.js"
import type { SignedStatement } from "./signatures/verdict.js"
import type { Snapshot } from "./snapshot.js"

export interface SnapshotFormat {
  /** As people know it: "vecsnap". */
  readonly name: string

  /** Whether a reader may protect a snapshot by a lease: whether those who remove snapshots heed any. */
  readonly leases: boolean

  /**
   * Whether a pointer is one of this format, by its properties; those of a damaged one may be any, or none.
   */
  recognises(pointer: Readonly<Record<string, Json>>): boolean

  /** The pointer from its object. Throws `Corrupt` or `Unsupported`. */
  decodePointer(object: StoredObject): SnapshotPointer

  /** Throws `InvalidInput`, naming the option, unless `run` has the form of a run's id. */
  assertRun(option: string, run: string): void

  /**
   * Where the snapshot of a run is described, whether live or not. Lists. Throws `NotFound` if there is none.
   */
  findRun(store: ObjectStore, run: string, options?: CallOptions): Promise<SnapshotAddress>

  /**
   * The snapshots that were published, newest first, by what is stored. Absent where the pointer remembers
   * them.
   */
  listPublished?(store: ObjectStore, options?: CallOptions): Promise<readonly ListedSnapshot[]>

  /**
   * What was published before the live snapshot, newest first, to be opened in its place if that cannot be
   * described any more. Absent where nothing but the live snapshot may answer.
   */
  findFallbacks?(
    store: ObjectStore,
    live: SnapshotAddress,
    options?: CallOptions,
  ): Promise<readonly SnapshotAddress[]>

  /** The snapshot that is described under a key. */
  readSnapshot(store: ObjectStore, key: string, options?: ReadSnapshotOptions): Promise<Snapshot>

  /**
   * What the description of a snapshot states by signatures of its own, if it has any; looks at nothing else
   * of it. Absent where the format has none: then readers that have trusted keys open none of its snapshots.
   */
  signedSnapshot?(bytes: Uint8Array, key: string): SignedStatement | undefined

  /** The arrays of the snapshot's strategy, by file name ("centroids.npy"). */
  readArtifacts(
    store: ObjectStore,
    snapshot: Pick<Snapshot, "artifacts">,
    options?: CallOptions,
  ): Promise<Readonly<Record<string, AnyNpyArray>>>

  /**
   * Stores a snapshot in this format and makes it live, if what was live when it was begun still is. Absent
   * where that is not done by writing a snapshot as a whole.
   */
  write?(store: ObjectStore, content: SnapshotContent, options: WriteOptions): Promise<WrittenSnapshot>
}

/** What a snapshot is to be made of. */
export interface SnapshotContent {
  /** What it is like; files and folders are those of where it comes from. */
  readonly snapshot: Snapshot
  /** The arrays of its strategy. */
  readonly artifacts: Readonly<Record<string, AnyNpyArray>>
  /** Shards that hold rows, by rising number. */
  readonly shards: readonly number[]
  /** All rows of a shard, in order of id. */
  readShard(shard: number): Promise<ShardRows>
}

export interface WriteOptions extends CallOptions {
  /** Default: that of the content. */
  readonly backend?: BackendName | undefined
  /** URL that the root will be at, where stored names of files begin with it; default: that of the store. */
  readonly prefix?: string | undefined
  readonly tempDir?: string | undefined
  /** Told after each shard. */
  readonly onShard?: ((done: number, of: number) => void) | undefined
}

export interface WrittenSnapshot extends SnapshotAddress {
  /** Run that was live before. */
  readonly replaced: string | undefined
  readonly rows: number
  /** Empty ones included. */
  readonly shards: number
  /** Of all files of shards. */
  readonly bytes: number
}

export interface ReadSnapshotOptions extends CallOptions {
  /** Is given the bytes before anything is made of them; throws to refuse them. */
  readonly check?: ((bytes: Uint8Array) => void) | undefined
}

/** Where a snapshot is described. */
export interface SnapshotAddress {
  readonly run: string
  /** Key of its manifest. */
  readonly manifest: string
}

export interface ListedSnapshot extends SnapshotAddress {
  readonly createdAt: Date
}

/** What is live, as the pointer says, and which version of the pointer that is. */
export interface SnapshotPointer extends SnapshotAddress {
  readonly publishedAt: Date
  readonly etag: string
  /** Runs that a collection removes at this moment; none where the format has no collections. */
  readonly condemned: readonly string[]
  /** Rises with every publication; absent where the format counts none. */
  readonly number?: number | undefined
  /** What the pointer states by its signatures; absent if it has none. */
  readonly signature?: PointerSignature | undefined
}

export interface PointerSignature extends SignedStatement {
  /** SHA-256 of what describes the snapshot, of all its bytes, as the statement has it. */
  readonly manifestSha256: string
}
