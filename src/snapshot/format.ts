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
import type { CallOptions, ObjectStore, StoredObject } from "../storage/store.js"
import type { AnyNpyArray } from "../vectors/npy.js"
import type { Snapshot } from "./snapshot.js"

export interface SnapshotFormat {
  /** As people know it: "vecsnap". */
  readonly name: string

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

  /** The snapshot that is described under a key. */
  readSnapshot(store: ObjectStore, key: string, options?: CallOptions): Promise<Snapshot>

  /** The arrays of the snapshot's strategy, by file name ("centroids.npy"). */
  readArtifacts(
    store: ObjectStore,
    snapshot: Pick<Snapshot, "artifacts">,
    options?: CallOptions,
  ): Promise<Readonly<Record<string, AnyNpyArray>>>
}

/** Where a snapshot is described. */
export interface SnapshotAddress {
  readonly run: string
  /** Key of its manifest. */
  readonly manifest: string
}

/** What is live, as the pointer says, and which version of the pointer that is. */
export interface SnapshotPointer extends SnapshotAddress {
  readonly publishedAt: Date
  readonly etag: string
  /** Runs that a collection removes at this moment; none where the format has no collections. */
  readonly condemned: readonly string[]
}
