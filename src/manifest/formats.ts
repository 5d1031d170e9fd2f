/**
 * The formats that a root may have, and what readers ask of a root whatever its format: what is live, and the
 * snapshot of a run. A format is added by its folder and one line here.
 */
import { isVecsnapError, messageOf, unsupported } from "../errors.js"
import { parseJson } from "../json.js"
import type { Json } from "../records.js"
import type { SnapshotFormat, SnapshotPointer } from "../snapshot/format.js"
import type { TrustedKey } from "../snapshot/signatures/keys.js"
import { assertSigned, distrusted, judgeSignatures } from "../snapshot/signatures/verdict.js"
import type { Snapshot } from "../snapshot/snapshot.js"
import { sha256OfBytes } from "../storage/checksum.js"
import type { CallOptions, ObjectStore, StoredObject } from "../storage/store.js"
import { assertSameRun, nothingPublished, POINTER_MAX_BYTES } from "./current.js"
import { findMissingFiles } from "./files.js"
import { vecsnapFormat } from "./format.js"
import { POINTER_KEY } from "./keys.js"
import { shardyfusionFormat } from "./shardyfusion/format.js"

const FORMATS: readonly SnapshotFormat[] = [vecsnapFormat, shardyfusionFormat]

/** Names of all formats; ours is the first. */
export const FORMAT_NAMES: readonly string[] = FORMATS.map(({ name }) => name)

export const formatByName = (name: string): SnapshotFormat | undefined =>
  FORMATS.find((format) => format.name === name)

/** A pointer, and the format that it is of. */
export interface RootPointer extends SnapshotPointer {
  readonly format: SnapshotFormat
}

/** A snapshot with its format, and when it became live; of one that is not live, when it was created. */
export interface FoundSnapshot {
  readonly format: SnapshotFormat
  readonly snapshot: Snapshot
  /** Key of its manifest. */
  readonly manifest: string
  readonly publishedAt: Date
  /** Those of the trusted keys that signed it; `undefined` if none were given. */
  readonly signedBy: readonly string[] | undefined
  /** Why it is opened in place of what the pointer names, as a sentence; absent if that is it. */
  readonly fellBack?: string | undefined
}

/** The pointer of a root of any format, or `undefined` if nothing was ever published there. */
export async function readRootPointer(
  store: ObjectStore,
  options?: CallOptions,
): Promise<RootPointer | undefined> {
  const object = await store.get(POINTER_KEY, { ...options, maxBytes: POINTER_MAX_BYTES })
  return object && asRead(object)
}

/** The same, unless it is still the version with the ETag `etag`; see {@link ObjectStore.getIfChanged}. */
export async function readRootPointerIfChanged(
  store: ObjectStore,
  etag: string,
  options?: CallOptions,
): Promise<RootPointer | "unchanged" | undefined> {
  const object = await store.getIfChanged(POINTER_KEY, etag, { ...options, maxBytes: POINTER_MAX_BYTES })
  if (object === undefined || object === "unchanged") return object
  return asRead(object)
}

/**
 * The pointer of a root that has another format than ours; `undefined` if it has none, or ours. Throws
 * `Corrupt` if it is damaged.
 */
export async function readOtherPointer(
  store: ObjectStore,
  options?: CallOptions,
): Promise<RootPointer | undefined> {
  const object = await store.get(POINTER_KEY, { ...options, maxBytes: POINTER_MAX_BYTES })
  return object === undefined || formatOf(object.body) === vecsnapFormat ? undefined : asRead(object)
}

/** Throws `Unsupported` if a pointer is one of another format than ours: only reading knows these. */
export function refuseOther({ url }: ObjectStore, pointer: Uint8Array): void {
  const { name } = formatOf(pointer)
  if (name === vecsnapFormat.name) return
  throw unsupported(`${url} has snapshots of the format ${name}, which can only be read: import it first`, {
    url,
    format: name,
  })
}

function asRead(object: StoredObject): RootPointer {
  const format = formatOf(object.body)
  return { ...format.decodePointer(object), format }
}

/** Our own where no format knows the pointer: it says what is wrong with it. */
function formatOf(body: Uint8Array): SnapshotFormat {
  const properties = propertiesOf(body)
  return FORMATS.find((format) => format.recognises(properties)) ?? vecsnapFormat
}

function propertiesOf(body: Uint8Array): Readonly<Record<string, Json>> {
  try {
    const document = parseJson(new TextDecoder().decode(body))
    const isObject = typeof document === "object" && document !== null && !Array.isArray(document)
    return isObject ? (document as Readonly<Record<string, Json>>) : {}
  } catch {
    return {}
  }
}

export interface FindOptions extends CallOptions {
  /** Keys of which one must have signed what is read: else `Corrupt` with `details.distrust`. */
  readonly trusted?: readonly TrustedKey[] | undefined
  /** Told the bytes that describe the snapshot, before anything is made of them. */
  readonly onRead?: ((bytes: Uint8Array) => void) | undefined
}

/** Throws `Corrupt` unless one of the keys has signed the pointer; returns which have. */
export const assertPointerSigned = (
  { signature }: Pick<RootPointer, "signature">,
  trusted: readonly TrustedKey[],
): readonly string[] => assertSigned(POINTER_KEY, signature, trusted)

/**
 * The snapshot that a pointer names; if that is gone or damaged and its format falls back to older ones, the
 * newest of them that is whole, unless keys are given. Throws `NotFound` if it is gone, `Corrupt` if it is of
 * another run.
 */
export async function readPointed(
  store: ObjectStore,
  pointer: RootPointer,
  { trusted, onRead, ...options }: FindOptions = {},
): Promise<FoundSnapshot> {
  const { format, run, manifest, publishedAt, signature } = pointer
  const signedBy = trusted && assertPointerSigned(pointer, trusted)
  const check = (bytes: Uint8Array): void => {
    onRead?.(bytes)
    if (trusted !== undefined && sha256OfBytes(bytes) !== signature?.manifestSha256)
      throw distrusted(manifest, "other-manifest", `is not the one that ${POINTER_KEY} was signed for`)
  }
  try {
    const snapshot = await format.readSnapshot(store, manifest, { ...options, check })
    assertSameRun({ run, manifest }, snapshot)
    return { format, snapshot, manifest, publishedAt, signedBy }
  } catch (error) {
    const isLost = isVecsnapError(error, "Corrupt") || isVecsnapError(error, "NotFound")
    const older = isLost && trusted === undefined ? await findWhole(store, pointer, options) : undefined
    if (older === undefined) throw error
    const fellBack =
      `snapshot ${run}, which ${POINTER_KEY} names, cannot be opened: ${messageOf(error)}; ` +
      `${older.snapshot.run}, published before, answers in its place`
    return { format, ...older, publishedAt: older.snapshot.createdAt, signedBy, fellBack }
  }
}

/** How many older snapshots are looked at, of which the manifest may be damaged as well. */
const FALLBACKS = 3

/** The newest snapshot besides the one that a pointer names of which all files are there. */
async function findWhole(
  store: ObjectStore,
  { format, run, manifest }: RootPointer,
  options?: CallOptions,
): Promise<Pick<FoundSnapshot, "snapshot" | "manifest"> | undefined> {
  const fallbacks = (await format.findFallbacks?.(store, { run, manifest }, options)) ?? []
  for (const fallback of fallbacks.slice(0, FALLBACKS)) {
    try {
      const snapshot = await format.readSnapshot(store, fallback.manifest, options)
      assertSameRun(fallback, snapshot)
      const missing = await findMissingFiles(store, snapshot, options)
      if (missing.length === 0) return { snapshot, manifest: fallback.manifest }
    } catch (error) {
      if (!isVecsnapError(error, "Corrupt") && !isVecsnapError(error, "NotFound")) throw error
    }
  }
  return undefined
}

/** The live snapshot. Throws `NotFound` if nothing is published. */
export async function readLiveSnapshot(store: ObjectStore, options?: FindOptions): Promise<FoundSnapshot> {
  const pointer = await readRootPointer(store, options)
  if (pointer === undefined) throw nothingPublished(store)
  return readPointed(store, pointer, options)
}

/**
 * The snapshot of a run, whether live or not, and the pointer if it is. If it is not live, the manifests are
 * listed to find it. Throws `NotFound` if there is none, `InvalidInput` if `run` is not the id of a run.
 *
 * With trusted keys, the pointer counts if one of them has signed it; if not, or if another snapshot is live,
 * the manifest's own signatures do.
 */
export async function findSnapshot(
  store: ObjectStore,
  run: string,
  { trusted, onRead, ...options }: FindOptions = {},
): Promise<FoundSnapshot & { readonly pointer: RootPointer | undefined }> {
  const pointer = await readRootPointer(store, options)
  const format = pointer?.format ?? vecsnapFormat
  format.assertRun("snapshot", run)
  const isBelieved = (live: RootPointer): boolean =>
    trusted === undefined || judgeSignatures(live.signature, trusted).valid
  if (pointer?.run === run && isBelieved(pointer))
    return { ...(await readPointed(store, pointer, { trusted, onRead, ...options })), pointer }
  const { manifest } = await format.findRun(store, run, options)
  let signedBy: readonly string[] | undefined
  const check = (bytes: Uint8Array): void => {
    onRead?.(bytes)
    if (trusted !== undefined)
      signedBy = assertSigned(manifest, format.signedSnapshot?.(bytes, manifest), trusted)
  }
  const snapshot = await format.readSnapshot(store, manifest, { ...options, check })
  if (trusted !== undefined) assertSameRun({ run, manifest }, snapshot)
  return { format, snapshot, manifest, publishedAt: snapshot.createdAt, signedBy, pointer: undefined }
}
