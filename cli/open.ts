/**
 * Opening what a command works on, and closing it whatever happens.
 */
import {
  findManifest,
  type LivePointer,
  type Manifest,
  type ObjectStore,
  type OpenOptions,
  openSnapshot,
  openStore,
  type Reader,
  readLive,
  readManifest,
  readPointer,
} from "../src/index.js"
import {
  type OutputFlags,
  rootUrl,
  type SnapshotFlags,
  type StorageFlags,
  storeOptions,
  withoutUndefined,
} from "./arguments.js"
import { type Config, loadConfig } from "./config.js"
import type { Io } from "./io.js"
import { stderrLogger } from "./progress.js"

/** Runs `use` with the store of the root that is named by an argument or the configuration. */
export async function withStore<T>(
  io: Io,
  argument: string | undefined,
  flags: StorageFlags,
  use: (store: ObjectStore, config: Config) => Promise<T>,
): Promise<T> {
  const config = await loadConfig(flags.config, io)
  const store = await openStore(rootUrl(argument, config), storeOptions(flags, config))
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

export interface ReaderFlags extends StorageFlags, OutputFlags, SnapshotFlags {
  readonly cacheDir?: string
}

/** Runs `use` with a reader of the live snapshot at that root, or of the one that a flag names. */
export async function withReader<T>(
  io: Io,
  argument: string | undefined,
  flags: ReaderFlags,
  use: (reader: Reader) => Promise<T>,
  more: Pick<OpenOptions, "maxAgeSeconds"> = {},
): Promise<T> {
  const config = await loadConfig(flags.config, io)
  const options: OpenOptions = withoutUndefined({
    ...more,
    snapshot: flags.snapshot,
    cacheDir: flags.cacheDir,
    store: storeOptions(flags, config),
    signal: io.signal,
    logger: stderrLogger(io, flags.debug),
  })
  const reader = await openSnapshot(rootUrl(argument, config), options)
  try {
    return await use(reader)
  } finally {
    // Who was stopped, or is late, waits for nothing that still runs.
    await reader.close({ abort: io.signal.aborted })
  }
}
