/** Small snapshots that tell in every changed row which generation they are of; for tests with several processes. */
import { type BuildReport, buildSnapshot, type ObjectStore, type VectorRecord } from "../../src/index.js"
import { pinKey, runKey } from "../../src/manifest/keys.js"
import type { Manifest } from "../../src/manifest/manifest.js"
import { snapshotFiles } from "../../src/snapshot/snapshot.js"
import { makeRecords } from "./records.js"

export const GENERATION_ROWS = 24
export const GENERATION_DIM = 4
const SHARDS = 3
/** Payload of shard 0, which all generations share: its files are reused. */
export const SHARED = "shared"

const recordsOf = (generation: string): VectorRecord[] =>
  makeRecords(GENERATION_ROWS, { dim: GENERATION_DIM, shards: SHARDS }).map(({ id, vector, shard }) => ({
    id,
    vector,
    shard: shard!,
    payload: shard === 0 ? SHARED : generation,
  }))

export interface GenerationOptions {
  readonly generation: string
  readonly publish: boolean
  /** Parent of the build's temporary directory. */
  readonly tempDir: string
}

/** Builds one generation, one shard after the other, so that its calls to the store always come in the same order. */
export const buildGeneration = (
  to: ObjectStore,
  { generation, ...options }: GenerationOptions,
): Promise<BuildReport> =>
  buildSnapshot(recordsOf(generation), {
    to,
    sharding: { strategy: "explicit", shards: SHARDS },
    parallelism: 1,
    ...options,
  })

/** The store as whoever asks it for the time finds it some hours later: all that is there has aged, but for what comes next. */
export function hoursLater(store: ObjectStore, hours: number): ObjectStore {
  return {
    url: store.url,
    get: (key, options) => store.get(key, options),
    getIfChanged: (key, etag, options) => store.getIfChanged(key, etag, options),
    getFile: (key, path, options) => store.getFile(key, path, options),
    async head(key, options) {
      const info = await store.head(key, options)
      if (info === undefined || !key.startsWith("probes/")) return info
      return { ...info, lastModified: new Date(info.lastModified.getTime() + hours * 3_600_000) }
    },
    put: (key, body, options) => store.put(key, body, options),
    list: (prefix, options) => store.list(prefix, options),
    delete: (keys, options) => store.delete(keys, options),
    close: () => store.close(),
  }
}

/** What a collection an hour later leaves of the live snapshot and what is pinned: nothing else was live or built in the last minute. */
export const STRICT = { keepLast: 1, keepUnpublishedDays: 0, graceSeconds: 60, yes: true } as const

/** All keys, besides the pointer, of a root that holds the snapshots of these manifests and nothing else. */
export function keysNamedBy(
  snapshots: readonly { readonly key: string; readonly manifest: Manifest }[],
  pinned: readonly string[] = [],
): string[] {
  const keys = snapshots.flatMap(({ key, manifest }) => [
    key,
    runKey(manifest.run),
    ...Array.from(snapshotFiles(manifest), (file) => file.key),
  ])
  return [...new Set([...keys, ...pinned.map(pinKey)])].sort()
}
