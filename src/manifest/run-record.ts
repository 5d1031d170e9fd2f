/**
 * `runs/<run>.json`: what a run is doing, or how it ended, and its lease: a run that is going on writes the
 * record anew from time to time, and as long as it does, a collection leaves alone what the run has written
 * and what it builds on.
 */
import { z } from "zod"
import { isVecsnapError } from "../errors.js"
import type { CallOptions, ObjectStore } from "../storage/store.js"
import { count, decodeDocument, encodeDocument, isUnreadable, runId, time } from "./document.js"
import { parseKey, RUN_PREFIX, runKey } from "./keys.js"

/**
 * `running` is what a run says of itself as long as it can; a record that is no longer renewed says so still.
 * `abandoned` is written by a collection, which ends the run: it can't publish any more.
 */
const RUN_STATES = ["running", "succeeded", "failed", "abandoned"] as const
export type RunState = (typeof RUN_STATES)[number]

export interface RunRecord {
  readonly run: string
  readonly state: RunState
  /** By the clock of the run's machine, as is `updatedAt`. */
  readonly startedAt: Date
  readonly updatedAt: Date
  readonly host: string
  readonly pid: number
  /** Program and version, "vecsnap 0.1.0", and versions of what it runs on. */
  readonly tool: string
  readonly versions: Readonly<Record<string, string>>
  /** SHA-256 of the settings of the build; equal settings, equal digest. */
  readonly configDigest: string | undefined
  /** The run is taken for dead if its record is not renewed for so long, by the store's clock. */
  readonly leaseSeconds: number
  /** Run that was live when this one started. Its files are protected with those of this run. */
  readonly base: string | undefined
  /** What the run is doing now, or did last. */
  readonly stage: string | undefined
  /** Key of the manifest, once it is written. */
  readonly manifest: string | undefined
  /** Whether the run made its snapshot live. */
  readonly published: boolean
  readonly counts: RunCounts | undefined
  readonly error: { readonly tag: string; readonly message: string } | undefined
}

export interface RunCounts {
  readonly rows: number
  readonly skippedRows: number
  readonly duplicateRows: number
  readonly shards: number
  readonly bytes: number
}

// Far more than any real one has.
const MAX_BYTES = 256 * 2 ** 10

const text = z.string().nullable()

const schema = z.object({
  run: runId,
  state: z.enum(RUN_STATES),
  startedAt: time,
  updatedAt: time,
  host: z.string(),
  pid: count,
  tool: z.string(),
  versions: z.record(z.string(), z.string()),
  configDigest: text,
  leaseSeconds: z.number().positive(),
  base: runId.nullable(),
  stage: text,
  manifest: text,
  published: z.boolean(),
  counts: z
    .object({ rows: count, skippedRows: count, duplicateRows: count, shards: count, bytes: count })
    .nullable(),
  error: z.object({ tag: z.string(), message: z.string() }).nullable(),
})
const KIND = { format: "vecsnap-run", version: 2, schema }

export function encodeRunRecord(record: RunRecord): Buffer {
  const { startedAt, updatedAt, configDigest, base, stage, manifest, counts, error, ...rest } = record
  return encodeDocument(KIND, {
    ...rest,
    startedAt: startedAt.toISOString(),
    updatedAt: updatedAt.toISOString(),
    configDigest: configDigest ?? null,
    base: base ?? null,
    stage: stage ?? null,
    manifest: manifest ?? null,
    counts: counts ?? null,
    error: error ?? null,
  })
}

/** Throws `Corrupt` or `Unsupported`, naming `key`. */
export function decodeRunRecord(bytes: Uint8Array, key: string): RunRecord {
  const { configDigest, base, stage, manifest, counts, error, ...rest } = decodeDocument(KIND, bytes, key)
  return {
    ...rest,
    configDigest: configDigest ?? undefined,
    base: base ?? undefined,
    stage: stage ?? undefined,
    manifest: manifest ?? undefined,
    counts: counts ?? undefined,
    error: error ?? undefined,
  }
}

/** A record as it was found. */
export interface StoredRunRecord {
  readonly key: string
  readonly run: string
  readonly etag: string
  /** By the store's clock: when the record was last renewed. */
  readonly lastModified: Date
  /** Absent if the record can't be read, as `problem` tells. */
  readonly record?: RunRecord
  readonly problem?: string
}

/**
 * The record under a key of `runs/`, or `undefined` if it is gone. A damaged one is no exception, but a
 * finding.
 */
export async function readRunRecord(
  store: ObjectStore,
  key: string,
  options?: CallOptions,
): Promise<StoredRunRecord | undefined> {
  const parsed = parseKey(key)
  if (parsed?.kind !== "run") throw new TypeError(`${key} is not the key of a run record`)
  try {
    const object = await store.get(key, { ...options, maxBytes: MAX_BYTES })
    if (object === undefined) return undefined
    const found = { key, run: parsed.run, etag: object.etag, lastModified: object.lastModified }
    try {
      return { ...found, record: decodeRunRecord(object.body, key) }
    } catch (error) {
      if (!isUnreadable(error)) throw error
      return { ...found, problem: error.message }
    }
  } catch (error) {
    // Too large to be one of ours: its age is told by its head.
    if (!isVecsnapError(error, "Corrupt")) throw error
    const info = await store.head(key, options)
    return (
      info && {
        key,
        run: parsed.run,
        etag: info.etag,
        lastModified: info.lastModified,
        problem: error.message,
      }
    )
  }
}

/** All run records at the root, by run id. */
export async function* listRunRecords(
  store: ObjectStore,
  options?: CallOptions,
): AsyncGenerator<StoredRunRecord> {
  for await (const { key } of store.list(RUN_PREFIX, options)) {
    if (parseKey(key)?.kind !== "run") continue
    const found = await readRunRecord(store, key, options)
    if (found !== undefined) yield found
  }
}

/**
 * Writes into the record of a run that its snapshot is live, if there is such a record and nobody writes it
 * meanwhile.
 */
export async function notePublished(
  store: ObjectStore,
  run: string,
  options: CallOptions = {},
): Promise<void> {
  const key = runKey(run)
  const found = await readRunRecord(store, key, options)
  if (found?.record === undefined) return
  const record: RunRecord = { ...found.record, state: "succeeded", published: true, error: undefined }
  await store.put(key, encodeRunRecord(record), {
    ...options,
    ifMatch: found.etag,
    contentType: "application/json",
  })
}
