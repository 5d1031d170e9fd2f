import { unavailable } from "../errors.js"
import type { CallOptions, ObjectStore } from "../storage/store.js"
import { newId, probeKey } from "./keys.js"

/** For removing the object after a failure, in which the store may have stopped to answer. */
const REMOVAL_TIMEOUT_MS = 10_000

/**
 * What time the store's own clock shows: the modification time of a tiny object that is written, looked at
 * and removed. S3 cuts it to the second. Ages of objects are differences of this and their `lastModified`;
 * the clock of this machine, which may be wrong, has no part in them.
 *
 * Throws what writing and looking throw; `Unavailable` if another removed the object in between. Removing it
 * is best effort, as who may publish need not be allowed to delete: a probe that stays is for `gc`.
 */
export async function storeTime(store: ObjectStore, { signal }: CallOptions = {}): Promise<Date> {
  const key = probeKey(newId(), "time")
  try {
    await store.put(key, new TextEncoder().encode("vecsnap asks for the time"), { signal })
    const written = await store.head(key, { signal })
    if (written !== undefined) return written.lastModified
    throw unavailable(`${store.url}/${key} was gone as soon as it was written`, { key })
  } finally {
    // Without the caller's signal: what ends the wait for the time must not leave the object behind.
    await store.delete([key], { signal: AbortSignal.timeout(REMOVAL_TIMEOUT_MS) }).catch(() => {})
  }
}
