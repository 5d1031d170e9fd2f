/**
 * Opening the store that a command works on, and closing it whatever happens; reading a snapshot that it
 * shows.
 */
import type { LivePointer, Manifest, ObjectStore } from "../src/index.js"
import { readLive, readManifest, readPointer } from "../src/manifest/current.js"
import { findManifest } from "../src/manifest/history.js"
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
}

/** The manifest of the live snapshot, or of the run that a flag names. Throws `NotFound` if there is none. */
export async function readShown(
  store: ObjectStore,
  { snapshot }: SnapshotFlags,
  signal: AbortSignal,
): Promise<ShownSnapshot> {
  if (snapshot === undefined) {
    const { pointer, manifest } = await readLive(store, { signal })
    return { key: pointer.manifest, manifest, pointer }
  }
  const { key } = await findManifest(store, snapshot, { signal })
  const manifest = await readManifest(store, key, { signal })
  const pointer = await readPointer(store, { signal })
  return { key, manifest, pointer: pointer?.manifest === key ? pointer : undefined }
}
