/**
 * Looking at a root for a collection: who uses what, which snapshots there are, and which objects. Only
 * reads.
 */
import { inLanes } from "../../async/lanes.js"
import { corrupt, isVecsnapError } from "../../errors.js"
import { readManifest } from "../../manifest/current.js"
import { isUnreadable } from "../../manifest/document.js"
import {
  MANIFEST_PREFIX,
  type ParsedKey,
  PIN_PREFIX,
  parseKey,
  READER_PREFIX,
  RUN_PREFIX,
} from "../../manifest/keys.js"
import type { Manifest } from "../../manifest/manifest.js"
import type { StoredPointer } from "../../manifest/pointer.js"
import { listReaderLeases } from "../../manifest/reader-lease.js"
import { listRunRecords } from "../../manifest/run-record.js"
import { snapshotFiles } from "../../snapshot/snapshot.js"
import type { CallOptions, ListedObject, ObjectStore } from "../../storage/store.js"
import { listPins } from "../pins.js"
import type { Protectors, StoredManifest, Survey } from "./rules.js"

/** Manifests read at a time; each may have some megabytes. */
const CONCURRENCY = 8

/** Where objects are that may go, besides manifests; in the order in which they go, run records last. */
const PREFIXES = [PIN_PREFIX, READER_PREFIX, "shards/", "routing/", "probes/", RUN_PREFIX] as const

/** Everything that protects snapshots, as it is now. */
export async function readProtectors(store: ObjectStore, options: CallOptions): Promise<Protectors> {
  const [runs, pins, leases] = await Promise.all([
    toArray(listRunRecords(store, options)),
    toArray(listPins(store, options)),
    toArray(listReaderLeases(store, options)),
  ])
  return { runs, pins, leases }
}

/**
 * What protects, then the manifests: in this order, so that a run that ends meanwhile is either seen to go on
 * or has its manifest seen. Throws `Corrupt` if the live manifest is missing or damaged, and `Unsupported` if
 * it is of a later version: then it is unknown which files are live.
 */
export async function readSurvey(
  store: ObjectStore,
  pointer: StoredPointer,
  now: Date,
  options: CallOptions,
): Promise<Survey> {
  const protectors = await readProtectors(store, options)
  const listed: StoredManifest[] = []
  for await (const { key, size, lastModified } of store.list(MANIFEST_PREFIX, options)) {
    const parsed = parseKey(key)
    if (parsed?.kind === "manifest") listed.push({ key, run: parsed.run, size, lastModified })
  }
  // Each is read to know that it can be, and not kept: all manifests together may not fit into memory.
  const manifests = await inLanes(
    listed,
    CONCURRENCY,
    async (found): Promise<StoredManifest | undefined> => {
      const manifest = await tryReadManifest(store, found, options)
      if (manifest === undefined) return undefined
      return "problem" in manifest ? { ...found, problem: manifest.problem } : found
    },
    options.signal,
  )
  const present = manifests.filter((found) => found !== undefined)
  const live = present.find(({ key }) => key === pointer.manifest)
  if (live === undefined || live.problem?.tag === "Corrupt") {
    const problem = live?.problem?.message ?? `${store.url} has no ${pointer.manifest}`
    throw corrupt(`nothing is collected, since the live snapshot is damaged: ${problem}`, {
      key: pointer.manifest,
    })
  }
  // As whoever opens it would be told.
  if (live.problem !== undefined) await readManifest(store, live.key, options)
  return { ...protectors, now, pointer, manifests: present }
}

type Unreadable = Pick<Required<StoredManifest>, "problem">

/** A manifest, why it can't be read, or `undefined` if it is gone. */
async function tryReadManifest(
  store: ObjectStore,
  { key, run }: Pick<StoredManifest, "key" | "run">,
  options: CallOptions,
): Promise<Manifest | Unreadable | undefined> {
  try {
    const manifest = await readManifest(store, key, options)
    if (manifest.run === run) return manifest
    const message = `${key} is of run ${manifest.run}, which its name does not say`
    return { problem: { tag: "Corrupt", message } }
  } catch (error) {
    if (isVecsnapError(error, "NotFound")) return undefined
    if (isUnreadable(error)) return { problem: { tag: error.tag, message: error.message } }
    throw error
  }
}

/**
 * Keys of all files that the manifests name. Throws `NotFound` if one is gone, `Corrupt` or `Unsupported` if
 * one can't be read: what it names must then not be taken for garbage.
 */
export async function filesOf(
  store: ObjectStore,
  manifestKeys: readonly string[],
  options: CallOptions,
): Promise<ReadonlySet<string>> {
  const keys = new Set<string>()
  await inLanes(
    manifestKeys,
    CONCURRENCY,
    async (manifestKey) => {
      for (const { key } of snapshotFiles(await readManifest(store, manifestKey, options))) keys.add(key)
    },
    options.signal,
  )
  return keys
}

/**
 * All objects that may be ours, besides pointer and manifests, with what they are; `undefined` for what is
 * not ours.
 */
export async function* listObjects(
  store: ObjectStore,
  options: CallOptions,
): AsyncGenerator<{ readonly object: ListedObject; readonly parsed: ParsedKey | undefined }> {
  for (const prefix of PREFIXES)
    for await (const object of store.list(prefix, options)) yield { object, parsed: parseKey(object.key) }
}

async function toArray<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = []
  for await (const item of items) all.push(item)
  return all
}
