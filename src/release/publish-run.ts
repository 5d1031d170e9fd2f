/** Making a snapshot live that a build has stored with `publish: false`, or that its gates have refused. */
import { readManifest, readPointer } from "../manifest/current.js"
import { findManifest } from "../manifest/history.js"
import type { Manifest } from "../manifest/manifest.js"
import { type ExpectedLive, type Published, publishManifest } from "../manifest/publish.js"
import { notePublished } from "../manifest/run-record.js"
import type { CallOptions, ObjectStore } from "../storage/store.js"

export interface PublishRunOptions extends CallOptions {
  /** Publish even if another run was published since this one started. */
  readonly force?: boolean
}

/**
 * Makes the snapshot of a run live. As a build does, it replaces only what was live when the run started, unless forced.
 *
 * Throws `NotFound` if there is no such snapshot (any more), `Conflict` if another was published since, `Corrupt` if files of it are
 * missing; nothing has changed then. If it is live already, nothing happens.
 */
export async function publishRun(
  store: ObjectStore,
  run: string,
  { force = false, signal }: PublishRunOptions = {},
): Promise<Published> {
  const { key } = await findManifest(store, run, { signal })
  const manifest = await readManifest(store, key, { signal })
  const live = await readPointer(store, { signal })
  if (live?.run === run) return { publication: live, replaced: run }
  const published = await publishManifest(store, key, manifest, {
    action: "publish",
    expected: force ? "any" : baseOf(manifest),
    signal,
  })
  await notePublished(store, run, { signal }).catch(() => {})
  return published
}

/** What a run may replace: what was live when it started. */
function baseOf({ base, basePublication }: Manifest): Exclude<ExpectedLive, "any"> {
  if (base === undefined) return undefined
  return basePublication === undefined ? { run: base } : { run: base, number: basePublication }
}
