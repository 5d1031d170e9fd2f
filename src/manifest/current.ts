/** The live snapshot of our format: reading the pointer and its manifest. */
import { corrupt, isVecsnapError, notFound, type VecsnapError } from "../errors.js"
import type { ReadSnapshotOptions, SnapshotAddress } from "../snapshot/format.js"
import type { Snapshot } from "../snapshot/snapshot.js"
import { type Root, type RootCallOptions, withRoot } from "../storage/root.js"
import type { CallOptions, ObjectStore, StoredObject } from "../storage/store.js"
import { decodeManifest, MANIFEST_MAX_BYTES } from "./codec.js"
import { POINTER_KEY } from "./keys.js"
import type { Manifest } from "./manifest.js"
import { decodePointer, type StoredPointer } from "./pointer.js"

// Far more than any real one has, and little enough to be read into memory whatever lies there.
export const POINTER_MAX_BYTES = 64 * 2 ** 10

/** A pointer as it was read: with the version of the object, to replace exactly that one. */
export interface LivePointer extends StoredPointer {
  readonly etag: string
}

/** The pointer, or `undefined` if nothing was ever published at this root. */
export async function readPointer(
  root: Root,
  options: RootCallOptions = {},
): Promise<LivePointer | undefined> {
  return withRoot(root, options, async (store) => {
    const object = await store.get(POINTER_KEY, { ...options, maxBytes: POINTER_MAX_BYTES })
    try {
      return object && pointerAsRead(object)
    } catch (error) {
      // Not before: all formats are loaded then.
      if (object !== undefined) (await import("./formats.js")).refuseOther(store, object.body)
      throw error
    }
  })
}

/** A pointer whose bytes are no pointer: which version of the object that is, and what is wrong with it. */
export interface DamagedPointer {
  readonly etag: string
  readonly problem: string
}

/**
 * What lies where the pointer belongs, for repairs. That it is damaged is no exception, but a finding. Throws
 * `Unsupported` if a later version of vecsnap wrote it.
 */
export async function inspectPointer(
  store: ObjectStore,
  options?: CallOptions,
): Promise<LivePointer | DamagedPointer | undefined> {
  // The version first: what is then found damaged is this one, or a later one, which a repair will not
  // replace.
  const info = await store.head(POINTER_KEY, options)
  try {
    return await readPointer(store, options)
  } catch (error) {
    if (!isVecsnapError(error, "Corrupt") || info === undefined) throw error
    return { etag: info.etag, problem: error.message }
  }
}

/** The pointer from its object. Throws `Corrupt` or `Unsupported`. */
export const pointerAsRead = ({ body, etag, lastModified }: StoredObject): LivePointer => ({
  ...decodePointer(body, POINTER_KEY),
  etag,
  lastModified,
})

/** The snapshot of a run that a collection has condemned. */
export const beingRemoved = ({ url }: ObjectStore, run: string): VecsnapError =>
  notFound(`snapshot ${run} at ${url} is being removed by a collection, or was`, { url, run })

/** The manifest under a key that something names. Throws `NotFound` if it is gone. */
export async function readManifest(
  root: Root,
  key: string,
  { check, ...options }: RootCallOptions & Pick<ReadSnapshotOptions, "check"> = {},
): Promise<Manifest> {
  return withRoot(root, options, async (store) => {
    const object = await store.get(key, { ...options, maxBytes: MANIFEST_MAX_BYTES })
    if (object === undefined)
      throw notFound(`${store.url} has no ${key}, which it should have`, { url: store.url, key })
    check?.(object.body)
    return decodeManifest(object.body, key)
  })
}

export interface LiveSnapshot {
  readonly pointer: LivePointer
  readonly manifest: Manifest
}

/** Pointer and manifest of the live snapshot. Throws `NotFound` if nothing is published. */
export async function readLive(root: Root, options: RootCallOptions = {}): Promise<LiveSnapshot> {
  return withRoot(root, options, async (store) => {
    const pointer = await readPointer(store, options)
    if (pointer === undefined) throw nothingPublished(store)
    return readSnapshot(store, pointer, options)
  })
}

/** What there is to say where a root has no pointer. */
export function nothingPublished({ url }: ObjectStore): VecsnapError {
  return notFound(`no snapshot is published at ${url} (it has no ${POINTER_KEY})`, { url })
}

/** The manifest that a pointer names. Throws `NotFound` if it is gone, `Corrupt` if it is of another run. */
export async function readSnapshot(
  store: ObjectStore,
  pointer: LivePointer,
  options?: ReadSnapshotOptions,
): Promise<LiveSnapshot> {
  const manifest = await readManifest(store, pointer.manifest, options)
  assertSameRun(pointer, manifest)
  return { pointer, manifest }
}

/** Throws `Corrupt` if what lies where the pointer points is of another run. */
export function assertSameRun({ run, manifest }: SnapshotAddress, found: Pick<Snapshot, "run">): void {
  if (found.run === run) return
  throw corrupt(`${POINTER_KEY} names run ${run}, but ${manifest} is of run ${found.run}`, {
    key: POINTER_KEY,
  })
}
