/** The files of a snapshot: what must be there, and whether it is. */
import { inLanes } from "../async/lanes.js"
import type { CallOptions, ObjectStore } from "../storage/store.js"
import type { FileEntry, Manifest } from "./manifest.js"

/** HEAD requests in flight at a time. */
const HEADS = 32

/** Every object that the manifest names: files of shards, routing artifacts, the id locator. */
export function snapshotFiles({ shards, artifacts, locator }: Manifest): readonly FileEntry[] {
  const shardFiles = shards.flatMap(({ folder, files }) =>
    files.map(({ name, size, sha256 }) => ({ key: `${folder}/${name}`, size, sha256 })),
  )
  return [...shardFiles, ...artifacts, ...(locator ? [locator] : [])]
}

export interface MissingFile {
  readonly key: string
  /** "is missing", or "has 3 bytes, the manifest says 4". */
  readonly problem: string
}

/** Files of the snapshot that are not there, or not with their size; one HEAD each. */
export async function findMissingFiles(
  store: ObjectStore,
  manifest: Manifest,
  { signal }: CallOptions = {},
): Promise<readonly MissingFile[]> {
  const look = (file: FileEntry, signal: AbortSignal) => findMissing(store, file, { signal })
  const found = await inLanes(snapshotFiles(manifest), HEADS, look, signal)
  return found.filter((file) => file !== undefined)
}

/** What is wrong with one object, as far as its head tells. */
export async function findMissing(
  store: ObjectStore,
  { key, size }: FileEntry,
  options?: CallOptions,
): Promise<MissingFile | undefined> {
  const info = await store.head(key, options)
  if (info?.size === size) return undefined
  const problem = info === undefined ? "is missing" : `has ${info.size} bytes, the manifest says ${size}`
  return { key, problem }
}
