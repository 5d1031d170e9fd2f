/** Snapshots that were built at a root, whether live or not. Lists, so it is not for readers. */
import { invalidInput, notFound } from "../errors.js"
import { type Root, type RootCallOptions, withRoot } from "../storage/root.js"
import { isRunId, MANIFEST_PREFIX, parseKey } from "./keys.js"

export interface HistoryEntry {
  readonly key: string
  readonly run: string
  readonly createdAt: Date
}

/** All manifests at the root, newest first. */
export async function listManifests(
  root: Root,
  options: RootCallOptions = {},
): Promise<readonly HistoryEntry[]> {
  return withRoot(root, options, async (store) => {
    const found: HistoryEntry[] = []
    for await (const { key } of store.list(MANIFEST_PREFIX, options)) {
      const parsed = parseKey(key)
      if (parsed?.kind === "manifest") found.push({ key, run: parsed.run, createdAt: parsed.time })
    }
    return found.reverse()
  })
}

/**
 * The manifest of a run. Throws `NotFound` if there is none, `InvalidInput` if `run` is not the id of a run.
 */
export async function findManifest(
  root: Root,
  run: string,
  options: RootCallOptions = {},
): Promise<HistoryEntry> {
  return withRoot(root, options, async (store) => {
    assertRunId("run", run)
    const found = (await listManifests(store, options)).find((entry) => entry.run === run)
    if (found !== undefined) return found
    throw notFound(`${store.url} has no snapshot of run ${run}`, { url: store.url, run })
  })
}

/** Throws `InvalidInput`, naming the option, unless `run` has the form of a run id. */
export function assertRunId(option: string, run: string): void {
  if (isRunId(run)) return
  throw invalidInput(`option ${option} is "${run}", expected a run id: 12 characters of a-z and 0-9`, { run })
}
