/**
 * Snapshots that shardyfusion has written, or that were written for it: format v4, vectors only. See
 * docs/shardyfusion.md for what maps to what.
 */
import { invalidInput, notFound } from "../../errors.js"
import type { ListedSnapshot, SnapshotFormat } from "../../snapshot/format.js"
import type { CallOptions, ObjectStore } from "../../storage/store.js"
import { quoted } from "../../wording.js"
import { MANIFEST_PREFIX } from "../keys.js"
import { parseManifestKey } from "./keys.js"
import { decodePointer, isPointerDocument } from "./pointer.js"
import { readArtifacts, readSnapshot } from "./read.js"

export const shardyfusionFormat: SnapshotFormat = {
  name: "shardyfusion",
  leases: false,
  recognises: isPointerDocument,
  decodePointer,
  assertRun(option, run) {
    if (run !== "" && !run.includes("/")) return
    throw invalidInput(`option ${option} is ${quoted(run)}, expected the id of a run`, { run })
  },
  async findRun(store, run, options) {
    const found = (await listRuns(store, options)).find((entry) => entry.run === run)
    if (found !== undefined) return found
    throw notFound(`${store.url} has no snapshot of run ${run}`, { url: store.url, run })
  },
  listPublished: listRuns,
  async findFallbacks(store, live, options) {
    return (await listRuns(store, options)).filter(({ manifest }) => manifest !== live.manifest)
  },
  readSnapshot,
  readArtifacts,
  async write(store, content, options) {
    // Who only reads need not load what builds.
    const { writeSnapshot } = await import("./write/snapshot.js")
    return writeSnapshot(store, content, options)
  },
}

/** All manifests of the root, newest first. Names of another form are passed over. */
async function listRuns(store: ObjectStore, options?: CallOptions): Promise<readonly ListedSnapshot[]> {
  const found: ListedSnapshot[] = []
  for await (const { key } of store.list(MANIFEST_PREFIX, options)) {
    const parsed = parseManifestKey(key)
    if (parsed !== undefined) found.push({ run: parsed.run, manifest: key, createdAt: parsed.time })
  }
  // Keys are in order of time.
  return found.reverse()
}
