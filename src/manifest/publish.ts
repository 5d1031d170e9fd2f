/**
 * Moving the pointer: the commit point of builds, releases, rollbacks and repairs, and what collections use
 * to exclude that a snapshot which they remove becomes live.
 */
import { conflict, corrupt, isVecsnapError, throwIfAborted, type VecsnapError } from "../errors.js"
import type { Snapshot, SnapshotObjects } from "../snapshot/snapshot.js"
import type { CallOptions, ObjectStore } from "../storage/store.js"
import { beingRemoved, type LivePointer, readPointer } from "./current.js"
import { findMissingFiles } from "./files.js"
import { newId, POINTER_KEY, parseKey } from "./keys.js"
import {
  encodePointer,
  liveOf,
  type NextPointer,
  type Publication,
  type PublicationAction,
  publicationsOf,
  withPublication,
  withTimesOf,
} from "./pointer.js"
import {
  assertSigningKept,
  isSigning,
  numberByTime,
  readVouchedManifest,
  type SigningChoice,
  signPublication,
} from "./signing.js"
import { storeTime } from "./store-time.js"

/** A snapshot, by its run and all files that must be there before it can become live. */
type SnapshotFiles = Pick<Snapshot, "run"> & SnapshotObjects

/** What was live when somebody decided to publish: a publication, nothing at all, or whatever it may be. */
export type ExpectedLive = Pick<Publication, "run" | "number"> | { readonly run: string } | undefined | "any"

/**
 * A pointer that keeps changing under us is given up after so many tries; each needs another writer in
 * between.
 */
const SWAP_ATTEMPTS = 10

export interface PublishOptions extends CallOptions {
  readonly action: PublicationAction
  /** Refused with `Conflict` unless this is what is live still. */
  readonly expected: ExpectedLive
  /** What signs it. Without, what is live must not be signed either, unless it says "unsigned". */
  readonly signing?: SigningChoice | undefined
  /** Runs after the pointer was read and right before it is replaced; throws to prevent it. */
  readonly confirm?: (() => Promise<void>) | undefined
}

export interface Published {
  readonly publication: Publication
  /** Run that was live before, if any. */
  readonly replaced: string | undefined
}

/**
 * Makes the manifest under `key` live.
 *
 * Only a snapshot whose manifest and files are all there, with their sizes, can become live. Whether another
 * was published meanwhile is decided by the pointer alone, so no clock takes part.
 *
 * Throws `Conflict` and changes nothing if something else than `expected` is live, or if another wins the
 * race; `NotFound` if the snapshot is being removed by a collection, or was; `Corrupt` if files of it are
 * missing, or if it is to be signed and none of the keys vouches for its manifest; `InvalidInput` if what is
 * live is signed and this is not to be. An abort is heeded up to the write of the pointer and not after, so
 * that the outcome is known. A lost reply is settled by reading the pointer.
 */
export async function publishManifest(
  store: ObjectStore,
  key: string,
  snapshot: SnapshotFiles,
  { action, expected, signing, confirm, signal }: PublishOptions,
): Promise<Published> {
  const { run } = snapshot
  for (let attempt = 1; ; attempt++) {
    const live = await readPointer(store, { signal })
    assertExpected(store, run, live, expected)
    if (live?.condemned.includes(run)) throw beingRemoved(store, run)
    assertSigningKept(store, live, signing)
    await assertComplete(store, key, snapshot, { signal })
    const publishedAt = publicationTime(await storeTime(store, { signal }), key)
    await confirm?.()
    throwIfAborted(signal)
    const next = await nextPointer(store, live, { run, manifest: key, publishedAt, action }, signing)
    // The commit point: before this write the old snapshot is live, after it the new one.
    if (await swapPointer(store, live, next)) return { publication: liveOf(next), replaced: live?.run }
    // The pointer changed since it was read; whether by another publication, the next round tells.
    if (attempt === SWAP_ATTEMPTS) throw keepsChanging(store)
  }
}

/** The pointer after a publication, signed if it is to be. */
async function nextPointer(
  store: ObjectStore,
  live: LivePointer | undefined,
  publication: Omit<Publication, "number" | "signedBy">,
  signing: SigningChoice,
  leastNumber = 1,
): Promise<NextPointer & { readonly action: PublicationAction }> {
  const { publishedAt, manifest } = publication
  if (!isSigning(signing)) return withPublication(live, publication, leastNumber)
  const next = withPublication(live, publication, numberByTime(publishedAt))
  const { sha256 } = await readVouchedManifest(store, manifest, signing, { live })
  return signPublication(next, sha256, signing)
}

/**
 * Makes a manifest live where the pointer's bytes are no pointer any more; `etag` is that of these bytes. For
 * repairs.
 *
 * Its history is lost with it, and so are the numbers of publications. The new number must not be one that
 * was given before: a build that began under the old one would take it for its base. So it goes by the time.
 *
 * Throws `Conflict` and changes nothing if something else lies there by now, `Corrupt` if files of the
 * snapshot are missing.
 */
export async function replaceDamagedPointer(
  store: ObjectStore,
  etag: string,
  key: string,
  snapshot: SnapshotFiles,
  { signing, signal }: Pick<PublishOptions, "signing" | "signal"> = {},
): Promise<Published> {
  await assertComplete(store, key, snapshot, { signal })
  const publishedAt = publicationTime(await storeTime(store, { signal }), key)
  throwIfAborted(signal)
  const publication = { run: snapshot.run, manifest: key, publishedAt, action: "repair" } as const
  const next = await nextPointer(store, undefined, publication, signing, numberByTime(publishedAt))
  if (await swapPointer(store, { etag }, next)) return { publication: liveOf(next), replaced: undefined }
  throw conflict(`${POINTER_KEY} at ${store.url} was replaced while it was repaired: look at it`, {
    url: store.url,
  })
}

/** The pointer that is replaced, or, if it is damaged, which version of the object it is. */
type Replaced = LivePointer | Pick<LivePointer, "etag">

const readable = (replaced: Replaced | undefined): LivePointer | undefined =>
  replaced !== undefined && "write" in replaced ? replaced : undefined

/**
 * Replaces the pointer that was read as `live`, `undefined` if there was none, by `next`. False, and nothing
 * happened, if the pointer had changed by then.
 *
 * Whether ours was written is told by its write id, or by its publication in the history of what came after:
 * so a lost reply, a request that was sent twice, and a store that ignores preconditions are all told apart
 * from success.
 */
export async function swapPointer(
  store: ObjectStore,
  live: Replaced | undefined,
  next: NextPointer,
): Promise<boolean> {
  const write = newId()
  const precondition = live === undefined ? { ifAbsent: true } : { ifMatch: live.etag }
  try {
    await store.put(POINTER_KEY, encodePointer(withTimesOf(readable(live), next), write), {
      ...precondition,
      contentType: "application/json",
    })
  } catch (error) {
    const unclear = isVecsnapError(error, "Conflict") || isVecsnapError(error, "Unavailable")
    if (!unclear) throw error
    const landed = await hasLanded(store, next, write, live).catch(() => {
      throw error
    })
    if (!landed && isVecsnapError(error, "Unavailable")) throw error
    return landed
  }
  // A store that heeds preconditions has settled it. One that ignores them lets another overwrite ours in the
  // same moment, so look; if that fails, the store's word stands.
  return hasLanded(store, next, write, live).catch(() => true)
}

async function hasLanded(
  store: ObjectStore,
  next: NextPointer,
  write: string,
  live: Replaced | undefined,
): Promise<boolean> {
  const now = await readPointer(store)
  if (now === undefined) return false
  if (now.write === write) return true
  const isPublication = next.number !== readable(live)?.number
  return (
    isPublication && publicationsOf(now).some(({ number, run }) => number === next.number && run === next.run)
  )
}

/** Throws `Conflict` if something else than `expected` is live, so that `run` may not replace it. */
export function assertExpected(
  store: ObjectStore,
  run: string,
  live: LivePointer | undefined,
  expected: ExpectedLive,
): void {
  if (expected !== "any" && !isExpected(live, expected)) throw superseded(store, run, expected, live)
}

function isExpected(live: LivePointer | undefined, expected: Exclude<ExpectedLive, "any">): boolean {
  if (expected === undefined || live === undefined) return expected === live
  return live.run === expected.run && (!("number" in expected) || live.number === expected.number)
}

async function assertComplete(
  store: ObjectStore,
  key: string,
  snapshot: SnapshotFiles,
  options: CallOptions,
): Promise<void> {
  // After the pointer was read: a collection condemns a run there before it removes the manifest, and takes
  // the run from the list only when the manifest is gone. So what is seen here is there when the pointer
  // moves.
  if ((await store.head(key, options)) === undefined) throw beingRemoved(store, snapshot.run)
  const [missing] = await findMissingFiles(store, snapshot, options)
  if (missing === undefined) return
  throw corrupt(
    `snapshot ${snapshot.run} can't become live: ${missing.key} ${missing.problem}; build again, or publish another`,
    { key, file: missing.key },
  )
}

function superseded(
  { url }: ObjectStore,
  run: string,
  expected: Exclude<ExpectedLive, "any">,
  live: LivePointer | undefined,
): VecsnapError {
  const before = expected === undefined ? "nothing was live" : `run ${expected.run} was live`
  const again = expected !== undefined && expected.run === live?.run ? " again" : ""
  const now = live === undefined ? "nothing is" : `run ${live.run} is${again}`
  return conflict(
    `run ${run} is not published: ${before} at ${url} when it began, now ${now}; look at it, then publish with force or build again`,
    { url, run, expected: expected?.run, actual: live?.run },
  )
}

const keepsChanging = ({ url }: ObjectStore): VecsnapError =>
  conflict(`${POINTER_KEY} at ${url} changed ${SWAP_ATTEMPTS} times while it was to be replaced: try again`, {
    url,
  })

/** To which S3 cuts its times, and more than file systems do. */
const CUT_MS = 1_000

/**
 * The time of a publication. The store's, but where that was cut to before the snapshot was built, when it
 * was built: no snapshot looks older than its own manifest. A clock of this machine that is wrong by more
 * changes nothing.
 */
function publicationTime(storesTime: Date, key: string): Date {
  const parsed = parseKey(key)
  if (parsed?.kind !== "manifest") return storesTime
  const afterMs = parsed.time.getTime() - storesTime.getTime()
  return afterMs > 0 && afterMs < CUT_MS ? parsed.time : storesTime
}
