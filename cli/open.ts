/**
 * Opening the store that a command works on, and closing it whatever happens; reading a snapshot that it
 * shows.
 */
import type { LivePointer, Manifest, ObjectStore } from "../src/index.js"
import { nothingPublished, readManifest, readPointer, readSnapshot } from "../src/manifest/current.js"
import { findManifest } from "../src/manifest/history.js"
import { signedManifest, signedPublication } from "../src/manifest/signed.js"
import type { SignedStatement } from "../src/snapshot/signatures/verdict.js"
import { sha256OfBytes } from "../src/storage/checksum.js"
import { openStore } from "../src/storage/open.js"
import { type Config, loadConfig } from "./config.js"
import type { Io } from "./io.js"
import { rootUrl, type SnapshotFlags, type StorageFlags, storeOptions } from "./options.js"

/** Runs `use` with the store of the root that is named by an argument or the configuration. */
export async function withStore<T>(
  io: Io,
  argument: string | undefined,
  flags: StorageFlags,
  use: (store: ObjectStore, config: Config) => Promise<T>,
): Promise<T> {
  const config = await loadConfig(flags.config, io)
  const store = openStore(rootUrl(argument, config), storeOptions(flags, config))
  try {
    return await use(store, config)
  } finally {
    store.close()
  }
}

export interface ShownSnapshot {
  /** Key of the manifest. */
  readonly key: string
  readonly manifest: Manifest
  /** Absent if the snapshot is not live. */
  readonly pointer: LivePointer | undefined
  /** What the pointer is signed for, if the snapshot is live, else what its manifest is. */
  readonly signature: SignedStatement | undefined
}

/** The manifest of the live snapshot, or of the run that a flag names. Throws `NotFound` if there is none. */
export async function readShown(
  store: ObjectStore,
  { snapshot }: SnapshotFlags,
  signal: AbortSignal,
): Promise<ShownSnapshot> {
  let bytes: Uint8Array = Buffer.alloc(0)
  const check = (read: Uint8Array): void => {
    bytes = read
  }
  if (snapshot === undefined) {
    const pointer = await readPointer(store, { signal })
    if (pointer === undefined) throw nothingPublished(store)
    const { manifest } = await readSnapshot(store, pointer, { check, signal })
    return { key: pointer.manifest, manifest, pointer, signature: signatureOf(pointer, bytes) }
  }
  const { key } = await findManifest(store, snapshot, { signal })
  const manifest = await readManifest(store, key, { check, signal })
  const live = await readPointer(store, { signal })
  const pointer = live?.manifest === key ? live : undefined
  return { key, manifest, pointer, signature: signatureOf(pointer, bytes) ?? signedManifest(bytes, key) }
}

/** What a pointer is signed for, unless that is another manifest than the one it names. */
const signatureOf = (pointer: LivePointer | undefined, manifest: Uint8Array): SignedStatement | undefined =>
  pointer?.signed?.manifestSha256 === sha256OfBytes(manifest) ? signedPublication(pointer) : undefined
