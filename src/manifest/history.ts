/** Snapshots that were built at a root, whether live or not. Lists, so it is not for readers. */
import type { CallOptions, ObjectStore } from "../storage/store.js"
import { MANIFEST_PREFIX, parseKey } from "./keys.js"

export interface HistoryEntry {
  readonly key: string
  readonly run: string
  readonly createdAt: Date
}

/** All manifests at the root, newest first. */
export async function listManifests(
  store: ObjectStore,
  options?: CallOptions,
): Promise<readonly HistoryEntry[]> {
  const found: HistoryEntry[] = []
  for await (const { key } of store.list(MANIFEST_PREFIX, options)) {
    const parsed = parseKey(key)
    if (parsed?.kind === "manifest") found.push({ key, run: parsed.run, createdAt: parsed.time })
  }
  return found.reverse()
}
