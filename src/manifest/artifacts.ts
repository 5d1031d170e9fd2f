/**
 * Routing artifacts: arrays that a strategy needs at query time, stored beside the manifest: one as `.npy`,
 * several in one `.npz`, so that a reader needs one request for them.
 */
import { corrupt } from "../errors.js"
import { readVerified } from "../snapshot/content.js"
import type { Snapshot, StoredFile } from "../snapshot/snapshot.js"
import { sha256OfBytes } from "../storage/checksum.js"
import type { CallOptions, ObjectStore } from "../storage/store.js"
import { type AnyNpyArray, decodeAnyNpy, encodeNpy } from "../vectors/npy.js"
import { decodeNpz, encodeNpz } from "../vectors/npz.js"
import { parseKey, routingKey } from "./keys.js"
import type { FileEntry } from "./manifest.js"

const BUNDLE_FILE = "routing.npz"
/** The codebook of the shards' cells. */
export const CODES_FILE = "codes.npz"

/** Writes a run's artifacts; returns the entries of their objects for the manifest. */
export async function writeArtifacts(
  store: ObjectStore,
  run: string,
  artifacts: Readonly<Record<string, AnyNpyArray>>,
  options?: CallOptions,
): Promise<readonly FileEntry[]> {
  const [first, ...others] = Object.entries(artifacts)
  if (first === undefined) return []
  const [file, array] = first
  const key = routingKey(run, others.length === 0 ? file : BUNDLE_FILE)
  const body = others.length === 0 ? encodeNpy(array) : encodeNpz(artifacts)
  await store.put(key, body, { ifAbsent: true, ...options })
  return [{ key, size: body.length, sha256: sha256OfBytes(body) }]
}

/** Reads and checks a snapshot's artifacts, by name. Throws `Corrupt` or `NotFound` naming the object. */
export async function readArtifacts(
  store: ObjectStore,
  { artifacts }: Pick<Snapshot, "artifacts">,
  options?: CallOptions,
): Promise<Readonly<Record<string, AnyNpyArray>>> {
  const objects = await Promise.all(
    artifacts.map(async (entry) => {
      const body = await readVerified(store, entry, options)
      const file = artifactName(entry)
      return file === BUNDLE_FILE ? decodeNpz(body, entry.key) : { [file]: decodeAnyNpy(body, entry.key) }
    }),
  )
  return Object.assign({}, ...objects)
}

function artifactName({ key }: StoredFile): string {
  const parsed = parseKey(key)
  if (parsed?.kind !== "routing") throw corrupt(`${key} is not the key of a routing artifact`, { key })
  return parsed.file
}
