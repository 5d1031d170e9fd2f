/**
 * Opening the snapshot that a command searches, and closing it whatever happens.
 */

import { withoutUndefined } from "../src/defined.js"
import { type OpenOptions, openSnapshot, type Reader } from "../src/index.js"
import { loadConfig } from "./config.js"
import type { Io } from "./io.js"
import {
  type OutputFlags,
  rootUrl,
  type SnapshotFlags,
  type StorageFlags,
  storeOptions,
  type TrustFlags,
  trustOptions,
} from "./options.js"
import { stderrLogger } from "./progress.js"
import { type TrustedKeyFlags, trustedKeys } from "./signing.js"

export interface ReaderFlags extends StorageFlags, OutputFlags, SnapshotFlags, TrustFlags, TrustedKeyFlags {
  readonly cacheDir?: string
  readonly fetch?: "auto" | "ranges" | "whole"
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
    ...trustOptions(flags, config),
    snapshot: flags.snapshot,
    cacheDir: flags.cacheDir,
    fetch: flags.fetch,
    trustedKeys: trustedKeys(flags, config),
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
