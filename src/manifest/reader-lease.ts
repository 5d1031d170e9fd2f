/**
 * `readers/<lease>.json`: a reader that is open says which snapshots it uses, and says so again and again. As
 * long as it does, a collection leaves these snapshots alone.
 */
import { z } from "zod"
import type { CallOptions, ObjectStore } from "../storage/store.js"
import { count, decodeDocument, encodeDocument, isUnreadable, runId } from "./document.js"
import { parseKey, READER_PREFIX } from "./keys.js"

export interface ReaderLease {
  /** Runs of the snapshots that are open: two during a refresh, and while searches of the old one go on. */
  readonly runs: readonly string[]
  /** The reader is taken for gone if the lease is not renewed for so long, by the store's clock. */
  readonly leaseSeconds: number
  /** For people: where the reader is. */
  readonly host: string
  readonly pid: number
}

/** No reader may hold up collections for longer than this after it has died. */
export const MAX_LEASE_SECONDS = 86_400

const MAX_BYTES = 64 * 2 ** 10

const schema = z.object({
  runs: z.array(runId),
  leaseSeconds: z.number().positive().max(MAX_LEASE_SECONDS),
  host: z.string(),
  pid: count,
})
const KIND = { format: "vecsnap-reader", version: 1, schema }

export const encodeReaderLease = ({ runs, leaseSeconds, host, pid }: ReaderLease): Buffer =>
  encodeDocument(KIND, { runs, leaseSeconds, host, pid })

/** Throws `Corrupt` or `Unsupported`, naming `key`. */
const decodeReaderLease = (bytes: Uint8Array, key: string): ReaderLease => decodeDocument(KIND, bytes, key)

/** A lease as it was found. */
export interface StoredReaderLease {
  readonly key: string
  /** By the store's clock: when the lease was last renewed. */
  readonly lastModified: Date
  /** Absent if it can't be read, as `problem` tells. */
  readonly lease?: ReaderLease
  readonly problem?: string
}

/** All leases of readers at the root. A damaged one is no exception, but a finding. */
export async function* listReaderLeases(
  store: ObjectStore,
  options?: CallOptions,
): AsyncGenerator<StoredReaderLease> {
  for await (const { key, lastModified } of store.list(READER_PREFIX, options)) {
    if (parseKey(key)?.kind !== "reader") continue
    try {
      const object = await store.get(key, { ...options, maxBytes: MAX_BYTES })
      if (object === undefined) continue
      yield { key, lastModified: object.lastModified, lease: decodeReaderLease(object.body, key) }
    } catch (error) {
      if (!isUnreadable(error)) throw error
      yield { key, lastModified, problem: error.message }
    }
  }
}
