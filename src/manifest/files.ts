/** Whether the files of a snapshot are there. */
import { inLanes } from "../async/lanes.js"
import { type SnapshotObjects, type StoredFile, snapshotFiles } from "../snapshot/snapshot.js"
import type { CallOptions, ObjectStore } from "../storage/store.js"

/** HEAD requests in flight at a time. */
const HEADS = 32

export interface MissingFile {
  readonly key: string
  /** "is missing", or "has 3 bytes, the manifest says 4". */
  readonly problem: string
}

/** Files of the snapshot that are not there, or not with their size; one HEAD each. */
export async function findMissingFiles(
  store: ObjectStore,
  snapshot: SnapshotObjects,
  { signal }: CallOptions = {},
): Promise<readonly MissingFile[]> {
  const look = (file: StoredFile, signal: AbortSignal) => findMissing(store, file, { signal })
  const found = await inLanes(snapshotFiles(snapshot), HEADS, look, signal)
  return found.filter((file) => file !== undefined)
}

/** What is wrong with one object, as far as its head tells. */
export async function findMissing(
  store: ObjectStore,
  { key, size }: Pick<StoredFile, "key" | "size">,
  options?: CallOptions,
): Promise<MissingFile | undefined> {
  const info = await store.head(key, options)
  if (info?.size === size) return undefined
  const problem = info === undefined ? "is missing" : `has ${info.size} bytes, the manifest says ${size}`
  return { key, problem }
}
