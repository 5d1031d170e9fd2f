/**
 * All that a search needs of one snapshot, as one frozen value. `refresh` makes the next one aside and then replaces
 * one reference; a search keeps the state it started with.
 */
import { invalidInput } from "../errors.js"
import type { Logger } from "../logger.js"
import { readArtifacts } from "../manifest/artifacts.js"
import { type LivePointer, readManifest, readPointer, readSnapshot } from "../manifest/current.js"
import { snapshotBytes } from "../manifest/figures.js"
import { assertRunId, findManifest } from "../manifest/history.js"
import { type Manifest, type ShardEntry, shardSpecOf } from "../manifest/manifest.js"
import { certifiedRecall, defaultProbes, fixedProbes, TARGET_K } from "../recall/curves.js"
import type { Id } from "../records.js"
import { restoreStrategy, strategyType } from "../sharding/registry.js"
import type { RoutedSnapshot } from "../sharding/route.js"
import type { ShardSpec } from "../shards/backend.js"
import type { CallOptions, ObjectStore } from "../storage/store.js"
import { kindOf } from "../wording.js"
import { createIdLocator, type IdLocator } from "./locator.js"
import { contentKey } from "./shards/shard-files.js"
import type { Health, SnapshotInfo } from "./types.js"

export interface SnapshotState {
  readonly info: SnapshotInfo
  readonly manifest: Manifest
  readonly spec: ShardSpec
  /** Shards that hold rows, by number. */
  readonly shards: ReadonlyMap<number, ShardEntry>
  /** Content key of each shard that holds rows. */
  readonly contents: ReadonlyMap<number, string>
  /** What routing goes by. */
  readonly routed: RoutedSnapshot
  readonly locator: IdLocator
}

/** A manifest, and when it became live. */
export interface FoundSnapshot {
  readonly manifest: Manifest
  readonly publishedAt: Date
}

/**
 * The snapshot of a run, whether live or not. If it is not live, the manifests are listed to find it. Throws `NotFound`
 * if there is none, `InvalidInput` if `run` is not the id of a run.
 */
export async function findSnapshot(
  store: ObjectStore,
  run: string,
  options?: CallOptions,
): Promise<FoundSnapshot & { readonly pointer: LivePointer | undefined }> {
  assertRunId("snapshot", run)
  const live = await readPointer(store, options)
  if (live?.run === run) {
    const { manifest } = await readSnapshot(store, live, options)
    return { manifest, publishedAt: live.publishedAt, pointer: live }
  }
  const { key } = await findManifest(store, run, options)
  const manifest = await readManifest(store, key, options)
  return { manifest, publishedAt: manifest.createdAt, pointer: undefined }
}

/** Reads what a snapshot needs besides pointer and manifest, and puts it together. */
export async function loadState(
  store: ObjectStore,
  { manifest, publishedAt }: FoundSnapshot,
  { logger, ...options }: CallOptions & { readonly logger: Logger },
): Promise<SnapshotState> {
  const { schema, sharding, recall } = manifest
  const artifacts = await readArtifacts(store, manifest, options)
  const shards = new Map(manifest.shards.map((entry) => [entry.shard, entry]))
  return Object.freeze({
    info: describeSnapshot(store.url, manifest, publishedAt),
    manifest,
    spec: shardSpecOf(schema),
    shards,
    contents: new Map(manifest.shards.map((entry) => [entry.shard, contentKey(entry)])),
    routed: {
      run: manifest.run,
      strategy: await restoreStrategy(sharding, artifacts, schema),
      present: (shard: number) => shards.has(shard),
      ...(recall?.routedBy === "vector" && { certified: (target: number) => fixedProbes(recall, target) }),
    },
    locator: createIdLocator(store, manifest, logger),
  })
}

export function describeSnapshot(url: string, manifest: Manifest, publishedAt: Date): SnapshotInfo {
  const { run, createdAt, rows, schema, backend, sharding, recall, locator } = manifest
  return Object.freeze({
    run,
    url,
    createdAt,
    publishedAt,
    rows,
    bytes: snapshotBytes(manifest),
    dim: schema.dim,
    metric: schema.metric,
    idType: schema.id.type,
    fields: schema.fields.map(({ name, type }) => ({ name, type })),
    model: schema.model,
    backend,
    strategy: strategyType(sharding.strategy).name,
    shards: sharding.shards,
    recall,
    locator: locator !== undefined,
  })
}

/** The measured recall of the ten nearest with as many probes as queries of the snapshot have by default. */
export function recallAtDefault({ recall, sharding }: Manifest): Health["recall"] {
  const probes = defaultProbes(sharding)
  const measured = recall && certifiedRecall(recall, TARGET_K, probes)
  return measured && { k: TARGET_K, probes, ...measured }
}

/** An id in the form in which the snapshot hands ids back. Throws `InvalidInput` for an id of the other type. */
export function checkId({ spec }: SnapshotState, id: Id): Id {
  const { type, wide } = spec.id
  if (type === "string") {
    if (typeof id === "string") return id
    throw invalidInput(`id ${id} is ${kindOf(id)}, but this snapshot's ids are strings`, { id })
  }
  if (typeof id === "bigint" || Number.isSafeInteger(id)) return wide ? BigInt(id) : Number(id)
  throw invalidInput(
    `id ${JSON.stringify(id)} is not an integer, but this snapshot's ids are 64-bit integers`,
    { id },
  )
}
