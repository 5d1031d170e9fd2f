/**
 * The second half of a build, from stored shards to a stored snapshot: routing artifacts, id locator,
 * manifest. Whatever makes shards ends here, whether it has built all of them or changed a few of the live
 * snapshot.
 */
import { CODES_FILE, writeArtifacts } from "../manifest/artifacts.js"
import { decodeManifest, encodeManifest } from "../manifest/codec.js"
import { manifestKey, routingKey } from "../manifest/keys.js"
import { LOCATOR_FILE } from "../manifest/locator.js"
import type { FileEntry, LocatorEntry, Manifest, NormFigures, ShardEntry } from "../manifest/manifest.js"
import type { RecallCertificate } from "../recall/curves.js"
import { restoreStrategy } from "../sharding/registry.js"
import type { ShardingDescription } from "../sharding/strategy.js"
import type { ShardSpec } from "../shards/backend.js"
import { sha256OfBytes } from "../storage/checksum.js"
import type { AnyNpyArray } from "../vectors/npy.js"
import { VERSION } from "../version.js"
import type { BuildContext } from "./job.js"
import type { ResolvedWriterOptions } from "./options.js"
import type { Scratch } from "./scratch.js"

/** All that a snapshot is made of, as plain data. */
export interface SnapshotParts {
  readonly schema: Omit<ShardSpec, "codes">
  readonly sharding: ShardingDescription
  /** Arrays that the strategy needs at query time, by file name. */
  readonly arrays: Readonly<Record<string, AnyNpyArray>>
  /** Stored shards that hold rows, by rising number. */
  readonly shards: readonly ShardEntry[]
  /** Each counted once. */
  readonly rows: number
  /** The codebook, where some shard has codes: the object of an earlier run, or what is to be stored. */
  readonly codes: FileEntry | Uint8Array | undefined
  /** The id locator, not stored yet: in the scratch store. */
  readonly locator: (Omit<LocatorEntry, "key"> & { readonly scratchName: string }) | undefined
  readonly recall: RecallCertificate | undefined
  readonly skippedRows: number
  readonly duplicateRows: number
  readonly norms: NormFigures
}

/** Where a snapshot is stored, and what it says of itself. */
export interface SnapshotTarget
  extends Pick<BuildContext, "store" | "run" | "clock" | "signingKeys" | "signal"> {
  readonly scratch: Scratch
  readonly options: Pick<ResolvedWriterOptions, "backend" | "model" | "custom">
}

export interface StoredSnapshot {
  /** Of the manifest. */
  readonly key: string
  readonly manifest: Manifest
}

/** Stores all that is missing, the manifest last. */
export function shardsToSnapshot(target: SnapshotTarget, parts: SnapshotParts): Promise<StoredSnapshot> {
  const { store, run, clock, scratch, signal } = target
  return clock.time("manifest", async () => {
    const artifacts = await writeArtifacts(store, run.run, parts.arrays, { signal })
    const locator = parts.locator && locatorEntry(run.run, parts.locator)
    if (parts.locator && locator) {
      const file = scratch.path(parts.locator.scratchName)
      await store.put(locator.key, { file }, { ifAbsent: true, signal })
    }
    const codes = parts.codes && (await storeCodes(target, parts.codes))
    const createdAt = new Date()
    const manifest = manifestOf(target, parts, { createdAt, artifacts, locator, codes })
    const key = manifestKey(createdAt, run.run)
    const body = encodeManifest(manifest, target.signingKeys)
    // A run that slept so long that its files were collected must not leave a manifest that names them.
    await run.renew()
    // Readers have bounds for what a manifest and routing may say: nothing that they would refuse may become
    // live.
    decodeManifest(body, key)
    await restoreStrategy(manifest.sharding, parts.arrays, manifest.schema)
    await store.put(key, body, { ifAbsent: true, contentType: "application/json", signal })
    run.note({ manifest: key })
    return { key, manifest }
  })
}

function locatorEntry(
  run: string,
  { size, sha256, index }: NonNullable<SnapshotParts["locator"]>,
): LocatorEntry {
  return { key: routingKey(run, LOCATOR_FILE), size, sha256, index }
}

async function storeCodes(
  { store, run, signal }: Pick<SnapshotTarget, "store" | "run" | "signal">,
  codes: FileEntry | Uint8Array,
): Promise<FileEntry> {
  if (!(codes instanceof Uint8Array)) return codes
  const key = routingKey(run.run, CODES_FILE)
  await store.put(key, codes, { ifAbsent: true, signal })
  return { key, size: codes.length, sha256: sha256OfBytes(codes) }
}

/** What the manifest says. Pure, but for the times of the stages so far. */
export function manifestOf(
  { run, options, clock }: Pick<SnapshotTarget, "run" | "options" | "clock">,
  parts: SnapshotParts,
  stored: {
    readonly createdAt: Date
    readonly artifacts: readonly FileEntry[]
    readonly locator: LocatorEntry | undefined
    readonly codes: FileEntry | undefined
  },
): Manifest {
  const { schema, sharding, shards, rows, recall, skippedRows, duplicateRows, norms } = parts
  const copies = shards.reduce((sum, entry) => sum + entry.rows, 0) - rows
  return {
    run: run.run,
    createdAt: stored.createdAt,
    base: run.base?.manifest.run,
    basePublication: run.base?.pointer.number,
    schema: { ...schema, model: options.model },
    sharding,
    artifacts: stored.artifacts,
    locator: stored.locator,
    ...(stored.codes && { codes: stored.codes }),
    backend: options.backend,
    shards,
    rows,
    copies: copies > 0 ? copies : undefined,
    recall,
    build: {
      tool: `vecsnap ${VERSION}`,
      startedAt: run.startedAt,
      skippedRows,
      duplicateRows,
      timingsMs: clock.timingsMs(),
      norms,
    },
    custom: options.custom,
  }
}
