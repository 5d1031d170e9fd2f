/**
 * Opening the store that a command works on, and closing it whatever happens; reading a snapshot that it
 * shows.
 */
import type { ObjectStore } from "../src/index.js"
import { nothingPublished } from "../src/manifest/current.js"
import { findSnapshot, type RootPointer, readPointed, readRootPointer } from "../src/manifest/formats.js"
import type { SignedStatement } from "../src/snapshot/signatures/verdict.js"
import type { Snapshot } from "../src/snapshot/snapshot.js"
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
  /** Name of its format. */
  readonly format: string
  /** Key of the manifest. */
  readonly key: string
  readonly snapshot: Snapshot
  /** Absent if the snapshot is not live. */
  readonly publishedAt: Date | undefined
  /** Why it is shown in place of what the pointer names; absent if that is it. */
  readonly fellBack?: string | undefined
  /** What the pointer is signed for, if the snapshot is live, else what its manifest is. */
  readonly signature: SignedStatement | undefined
}

/** The live snapshot, or that of the run that a flag names. Throws `NotFound` if there is none. */
export async function readShown(
  store: ObjectStore,
  { snapshot }: SnapshotFlags,
  signal: AbortSignal,
): Promise<ShownSnapshot> {
  let bytes: Uint8Array = Buffer.alloc(0)
  const onRead = (read: Uint8Array): void => {
    bytes = read
  }
  if (snapshot !== undefined) {
    const found = await findSnapshot(store, snapshot, { onRead, signal })
    const { format, manifest, pointer } = found
    const signature = signatureOf(pointer, bytes) ?? format.signedSnapshot?.(bytes, manifest)
    const publishedAt = pointer?.publishedAt
    return { format: format.name, key: manifest, snapshot: found.snapshot, publishedAt, signature }
  }
  const pointer = await readRootPointer(store, { signal })
  if (pointer === undefined) throw nothingPublished(store)
  const found = await readPointed(store, pointer, { onRead, signal })
  const { format, manifest, fellBack } = found
  return {
    format: format.name,
    key: manifest,
    snapshot: found.snapshot,
    publishedAt: fellBack === undefined ? pointer.publishedAt : undefined,
    fellBack,
    signature: signatureOf(pointer, bytes),
  }
}

/** What a pointer is signed for, unless that is another manifest than the one it names. */
const signatureOf = (pointer: RootPointer | undefined, manifest: Uint8Array): SignedStatement | undefined =>
  pointer?.signature?.manifestSha256 === sha256OfBytes(manifest) ? pointer.signature : undefined
