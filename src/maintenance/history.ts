/** What was published at a root, newest first, and what of it is there still. */
import { inLanes } from "../async/lanes.js"
import { isVecsnapError } from "../errors.js"
import { nothingPublished, readManifest, readPointer } from "../manifest/current.js"
import { isUnreadable } from "../manifest/document.js"
import { vecsnapFormat } from "../manifest/format.js"
import { type RootPointer, readOtherPointer } from "../manifest/formats.js"
import { type HistoryEntry, listManifests } from "../manifest/history.js"
import { PIN_PREFIX, parseKey } from "../manifest/keys.js"
import { type Publication, publicationsOf } from "../manifest/pointer.js"
import type { Snapshot } from "../snapshot/snapshot.js"
import { type Root, type RootCallOptions, withRoot } from "../storage/root.js"
import type { CallOptions, ObjectStore } from "../storage/store.js"

/** A snapshot of the history: what its manifest says, or why it can't be read. */
export interface HistorySnapshot {
  readonly run: string
  /** Key of the manifest. */
  readonly key: string
  readonly pinned: boolean
  /** Absent if the manifest is damaged, or gone with the snapshot, as `problem` tells. */
  readonly manifest?: Snapshot
  readonly problem?: string
}

export interface HistoryPublication extends HistorySnapshot {
  readonly publication: Publication
  readonly live: boolean
  /** The publication that came next; absent for the live one. */
  readonly replacedBy: Publication | undefined
}

export interface History {
  /** Name of the format of the root: "vecsnap", or another. */
  readonly format: string
  readonly live: Publication | undefined
  /** Newest first, `limit` at most. */
  readonly publications: readonly HistoryPublication[]
  /** Publications that the pointer remembers. */
  readonly total: number
  /** Snapshots that were built and never published, newest first, `limit` at most. */
  readonly unpublished: readonly (HistorySnapshot & Pick<HistoryEntry, "createdAt">)[]
}

export interface HistoryOptions extends RootCallOptions {
  /** Publications read, newest first; default: all that the pointer remembers, 101 at most. */
  readonly limit?: number | undefined
}

/** Manifests in memory at a time are as many as are asked for; those being read are bounded too. */
const CONCURRENCY = 8

/**
 * Reads the history of a root. Throws `NotFound` if nothing was ever built there. A damaged manifest hides no
 * other.
 */
export async function readHistory(root: Root, options: HistoryOptions = {}): Promise<History> {
  return withRoot(root, options, async (store) => {
    const { limit = Number.POSITIVE_INFINITY, signal } = options
    const other = await readOtherPointer(store, { signal })
    if (other !== undefined) return readOtherHistory(store, other, limit, { signal })
    const pointer = await readPointer(store, { signal })
    const stored = await listManifests(store, { signal })
    if (pointer === undefined && stored.length === 0) throw nothingPublished(store)
    const pins = await readPins(store, { signal })
    const publications = pointer ? publicationsOf(pointer) : []
    const known = new Set(publications.map(({ run }) => run))

    const read = async (run: string, key: string): Promise<HistorySnapshot> => ({
      run,
      key,
      pinned: pins.has(run),
      ...(await readOrExplain(store, key, { signal })),
    })
    const unpublished = stored.filter(({ run }) => !known.has(run)).slice(0, limit)
    return {
      format: vecsnapFormat.name,
      live: publications[0],
      publications: await inLanes(publications.slice(0, limit), CONCURRENCY, async (publication, _, i) => ({
        ...(await read(publication.run, publication.manifest)),
        publication,
        live: i === 0,
        replacedBy: publications[i - 1],
      })),
      total: publications.length,
      unpublished: await inLanes(unpublished, CONCURRENCY, async ({ run, key, createdAt }) => ({
        ...(await read(run, key)),
        createdAt,
      })),
    }
  })
}

/** Where the pointer remembers nothing, what is stored was published, the live snapshot last. */
async function readOtherHistory(
  store: ObjectStore,
  { format, run, manifest, publishedAt }: RootPointer,
  limit: number,
  options: CallOptions,
): Promise<History> {
  const listed = (await format.listPublished?.(store, options)) ?? []
  const before = listed.filter((entry) => entry.manifest !== manifest)
  const publications = [{ run, manifest, createdAt: publishedAt }, ...before].map(
    (entry, i): Publication => ({
      number: before.length + 1 - i,
      run: entry.run,
      manifest: entry.manifest,
      publishedAt: entry.createdAt,
      action: "publish",
    }),
  )
  const read = async (key: string): Promise<Pick<HistorySnapshot, "manifest" | "problem">> =>
    orExplained(() => format.readSnapshot(store, key, options))
  return {
    format: format.name,
    live: publications[0],
    publications: await inLanes(publications.slice(0, limit), CONCURRENCY, async (publication, _, i) => ({
      run: publication.run,
      key: publication.manifest,
      pinned: false,
      ...(await read(publication.manifest)),
      publication,
      live: i === 0,
      replacedBy: publications[i - 1],
    })),
    total: publications.length,
    unpublished: [],
  }
}

async function readPins(store: ObjectStore, options: CallOptions): Promise<ReadonlySet<string>> {
  const pins = new Set<string>()
  for await (const { key } of store.list(PIN_PREFIX, options)) {
    const parsed = parseKey(key)
    if (parsed?.kind === "pin") pins.add(parsed.run)
  }
  return pins
}

async function readOrExplain(
  store: ObjectStore,
  key: string,
  options: CallOptions,
): Promise<Pick<HistorySnapshot, "manifest" | "problem">> {
  return orExplained(() => readManifest(store, key, options))
}

async function orExplained(
  read: () => Promise<Snapshot>,
): Promise<Pick<HistorySnapshot, "manifest" | "problem">> {
  try {
    return { manifest: await read() }
  } catch (error) {
    if (isVecsnapError(error, "NotFound")) return { problem: "collected" }
    if (isUnreadable(error)) return { problem: error.message }
    throw error
  }
}
