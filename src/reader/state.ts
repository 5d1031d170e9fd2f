/**
 * All that a search needs of one snapshot, as one frozen value. `refresh` makes the next one aside and then
 * replaces one reference; a search keeps the state it started with.
 */
import { invalidInput } from "../errors.js"
import type { Logger } from "../logger.js"
import type { FoundSnapshot } from "../manifest/formats.js"
import { defaultRecall, fixedProbes } from "../recall/curves.js"
import type { Id } from "../records.js"
import { describedEffort } from "../sharding/effort.js"
import { loadStrategyCode, restoreStrategy, strategyType } from "../sharding/registry.js"
import type { RoutedSnapshot } from "../sharding/route.js"
import { TARGET_K } from "../sharding/strategy.js"
import type { ShardSpec } from "../shards/backend.js"
import { readCodes } from "../snapshot/codes.js"
import {
  type Snapshot,
  type SnapshotShard,
  shardSpecOf,
  snapshotBytes,
  strategyContextOf,
} from "../snapshot/snapshot.js"
import type { CallOptions, ObjectStore } from "../storage/store.js"
import { kindOf } from "../wording.js"
import { createIdLocator, type IdLocator } from "./locator.js"
import { contentKey } from "./shards/shard-files.js"
import type { Health, SnapshotInfo } from "./types.js"

export interface SnapshotState {
  readonly info: SnapshotInfo
  readonly snapshot: Snapshot
  /** Why this one answers in place of what the pointer names, as a sentence. */
  readonly fellBack: string | undefined
  readonly spec: ShardSpec
  /** Shards that hold rows, by number. */
  readonly shards: ReadonlyMap<number, SnapshotShard>
  /** Content key of each shard that holds rows. */
  readonly contents: ReadonlyMap<number, string>
  /** Whether some shards have equal content. */
  readonly sharesContent: boolean
  /** What routing goes by. */
  readonly routed: RoutedSnapshot
  readonly locator: IdLocator
}

/** Reads what a snapshot needs besides pointer and manifest, and puts it together. */
export async function loadState(
  store: ObjectStore,
  { format, snapshot, publishedAt, signedBy, fellBack }: FoundSnapshot,
  { logger, ...options }: CallOptions & { readonly logger: Logger },
): Promise<SnapshotState> {
  const { schema, sharding, recall } = snapshot
  const [artifacts, codes] = await Promise.all([
    format.readArtifacts(store, snapshot, options),
    readCodes(store, snapshot, options),
    // Its modules come while the objects do. What is wrong with it is said when it is restored.
    loadStrategyCode(sharding).catch(() => {}),
  ])
  const shards = new Map(snapshot.shards.map((entry) => [entry.shard, entry]))
  const contents = new Map(snapshot.shards.map((entry) => [entry.shard, contentKey(entry)]))
  for (const note of snapshot.notes ?? []) logger.warn({ snapshot: snapshot.run }, note)
  if (fellBack !== undefined) logger.error({ snapshot: snapshot.run }, fellBack)
  return Object.freeze({
    info: describeSnapshot(store.url, format.name, snapshot, { publishedAt, signedBy }),
    snapshot,
    fellBack,
    spec: shardSpecOf(schema, codes),
    shards,
    contents,
    sharesContent: new Set(contents.values()).size < contents.size,
    routed: {
      run: snapshot.run,
      strategy: await restoreStrategy(sharding, artifacts, strategyContextOf(snapshot)),
      present: (shard: number) => shards.has(shard),
      ...(recall?.routedBy === "vector" && { certified: (target: number) => fixedProbes(recall, target) }),
      cells: recall?.cells,
      defaultEffort: describedEffort(sharding),
    },
    locator: createIdLocator(store, snapshot, logger),
  })
}

function describeSnapshot(
  url: string,
  format: string,
  snapshot: Snapshot,
  { publishedAt, signedBy }: Pick<FoundSnapshot, "publishedAt" | "signedBy">,
): SnapshotInfo {
  const { run, createdAt, rows, schema, backend, sharding, recall, locator, notes = [] } = snapshot
  return Object.freeze({
    run,
    format,
    url,
    createdAt,
    publishedAt,
    rows,
    bytes: snapshotBytes(snapshot),
    dim: schema.dim,
    metric: schema.metric,
    idType: schema.id.type,
    fields: schema.fields.map(({ name, type }) => ({ name, type })),
    context: strategyContextOf(snapshot).fields.map(({ name, type }) => ({ name, type })),
    model: schema.model,
    backend,
    strategy: strategyType(sharding.strategy).name,
    shards: sharding.shards,
    recall,
    signedBy,
    locator: locator !== undefined,
    notes,
  })
}

/** The measured recall of the ten nearest by default. */
export function recallAtDefault(snapshot: Snapshot): Health["recall"] {
  const measured = defaultRecall(snapshot, TARGET_K)
  return measured && { k: TARGET_K, ...measured }
}

/**
 * An id in the form in which the snapshot hands ids back. Throws `InvalidInput` for an id of the other type.
 */
export function checkId({ spec }: SnapshotState, id: Id): Id {
  const { type, wide } = spec.id
  if (typeof id === "string" && type !== "int64") return id
  if (type === "string") {
    throw invalidInput(`id ${id} is ${kindOf(id)}, but this snapshot's ids are strings`, { id })
  }
  if (typeof id === "bigint" || Number.isSafeInteger(id)) {
    const asNumber = type === "mixed" ? Number.isSafeInteger(Number(id)) : !wide
    return asNumber ? Number(id) : BigInt(id)
  }
  throw invalidInput(
    `id ${JSON.stringify(id)} is not an integer, but this snapshot's ids are 64-bit integers`,
    { id },
  )
}
