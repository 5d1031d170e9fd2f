/**
 * Pins: `pins/<run>.json` protects the snapshot of a run from collection until it is unpinned.
 *
 * A pin is written twice. The first write stops collections that look from then on; then it is checked that
 * none has condemned the snapshot already; the second write says that this was so. Only what is confirmed
 * takes a snapshot back from the condemned, so that a pin which is about to be refused never does. See
 * docs/decisions/0006-one-object-decides.md.
 */
import { z } from "zod"
import { unavailable } from "../errors.js"
import { beingRemoved, readPointer } from "../manifest/current.js"
import { decodeDocument, encodeDocument, isUnreadable, runId, time } from "../manifest/document.js"
import { assertRunId, findManifest } from "../manifest/history.js"
import { PIN_PREFIX, parseKey, pinKey } from "../manifest/keys.js"
import { type Root, type RootCallOptions, withRoot } from "../storage/root.js"
import type { CallOptions, ObjectStore } from "../storage/store.js"

export interface PinOptions extends RootCallOptions {
  /** Why it is pinned; for people. */
  readonly note?: string | undefined
}

export interface Pin {
  readonly run: string
  /** By the clock of the machine that pinned. */
  readonly pinnedAt: Date
  readonly note: string | undefined
  /** Whether the snapshot was there, and not condemned, after the pin was written first. */
  readonly confirmed: boolean
}

const MAX_BYTES = 64 * 2 ** 10
const MAX_NOTE_CHARACTERS = 1000

const schema = z.object({
  run: runId,
  pinnedAt: time,
  note: z.string().nullable(),
  confirmed: z.boolean(),
})
const KIND = { format: "vecsnap-pin", version: 1, schema }

const encodePin = ({ run, pinnedAt, note, confirmed }: Pin): Buffer =>
  encodeDocument(KIND, { run, pinnedAt: pinnedAt.toISOString(), note: note ?? null, confirmed })

/**
 * Protects the snapshot of `run` from collection. Pinning again replaces the note.
 *
 * Throws `NotFound` if there is no such snapshot or a collection is removing it, `InvalidInput` if `run` is
 * not the id of a run, `Conflict` if another changed the pin meanwhile; what was pinned before stays pinned.
 */
export async function pin(root: Root, run: string, options: PinOptions = {}): Promise<Pin> {
  return withRoot(root, options, async (store) => {
    assertRunId("run", run)
    const { signal } = options
    const note = options.note?.slice(0, MAX_NOTE_CHARACTERS)
    const key = pinKey(run)
    const contentType = "application/json"
    const made = { run, pinnedAt: new Date(), note, confirmed: true }
    const before = await store.get(key, { signal, maxBytes: MAX_BYTES })
    // A pin that is confirmed protects already: it must not be taken back for a moment.
    if (before !== undefined && decodePin(before.body, key).confirmed) {
      await store.put(key, encodePin(made), { ifMatch: before.etag, contentType, signal })
      return made
    }
    const { key: manifest } = await findManifest(store, run, { signal })
    const precondition = before === undefined ? { ifAbsent: true } : { ifMatch: before.etag }
    // If this fails from here on, what is written stays: by now another may have confirmed it, and a store
    // can't be asked to remove only what is ours. A pin that is not confirmed protects for the grace period
    // only.
    const { etag } = await store.put(key, encodePin({ ...made, confirmed: false }), {
      ...precondition,
      contentType,
      signal,
    })
    const live = await readPointer(store, { signal })
    if (live?.condemned.includes(run) || (await store.head(manifest, { signal })) === undefined)
      throw beingRemoved(store, run)
    await store.put(key, encodePin(made), { ifMatch: etag, contentType, signal })
    return made
  })
}

/**
 * Ends the protection. False if the run was not pinned. Throws `InvalidInput` if `run` is not the id of a
 * run, `Unavailable` if the store refuses.
 */
export async function unpin(root: Root, run: string, options: RootCallOptions = {}): Promise<boolean> {
  return withRoot(root, options, async (store) => {
    assertRunId("run", run)
    const key = pinKey(run)
    if ((await store.head(key, options)) === undefined) return false
    const [failure] = await store.delete([key], options)
    if (failure === undefined) return true
    throw unavailable(`${store.url}/${key} could not be removed: ${failure.reason}`, { key })
  })
}

/** A pin as it was found. */
export interface StoredPin {
  readonly key: string
  readonly run: string
  /** By the store's clock. */
  readonly lastModified: Date
  /** Absent if the pin can't be read, as `problem` tells; it pins all the same. */
  readonly pin?: Pin
  readonly problem?: string
}

const decodePin = (bytes: Uint8Array, key: string): Pin => {
  const { note, ...rest } = decodeDocument(KIND, bytes, key)
  return { ...rest, note: note ?? undefined }
}

/** All pins at the root, by run. A damaged one is no exception, but a finding. */
export async function* listPins(store: ObjectStore, options?: CallOptions): AsyncGenerator<StoredPin> {
  for await (const { key, lastModified } of store.list(PIN_PREFIX, options)) {
    const parsed = parseKey(key)
    if (parsed?.kind !== "pin") continue
    const found = { key, run: parsed.run, lastModified }
    try {
      const object = await store.get(key, { ...options, maxBytes: MAX_BYTES })
      if (object === undefined) continue
      yield { ...found, lastModified: object.lastModified, pin: decodePin(object.body, key) }
    } catch (error) {
      if (!isUnreadable(error)) throw error
      yield { ...found, problem: error.message }
    }
  }
}
