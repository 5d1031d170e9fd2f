/** Roots made by hand for tests of collections: exact objects, at exact times. */
import { randomUUID } from "node:crypto"
import { encodeManifest } from "../../src/manifest/codec.js"
import { manifestKey, routingKey, runKey, shardFolder } from "../../src/manifest/keys.js"
import type { Manifest } from "../../src/manifest/manifest.js"
import { publishManifest } from "../../src/manifest/publish.js"
import { encodeRunRecord, type RunRecord } from "../../src/manifest/run-record.js"
import { openMemoryStore } from "../../src/storage/memory.js"
import type { ListedObject, ObjectInfo, ObjectStore } from "../../src/storage/store.js"

export interface TimedStore {
  readonly store: ObjectStore
  /** The store's clock. */
  now: Date
  pass(seconds: number): void
}

/** A store in memory whose clock the test sets. */
export function timedStore(start = new Date("2026-11-21T00:00:00Z")): TimedStore {
  const inner = openMemoryStore(randomUUID())
  const times = new Map<string, Date>()
  const timed: { now: Date } = { now: start }
  const withTime = <T extends ObjectInfo>(key: string, object: T): T => ({
    ...object,
    lastModified: times.get(key)!,
  })
  const store: ObjectStore = {
    url: inner.url,
    async get(key, options) {
      const object = await inner.get(key, options)
      return object && withTime(key, object)
    },
    async getIfChanged(key, etag, options) {
      const object = await inner.getIfChanged(key, etag, options)
      return object === undefined || object === "unchanged" ? object : withTime(key, object)
    },
    getFile: (key, path, options) => inner.getFile(key, path, options),
    async head(key, options) {
      const object = await inner.head(key, options)
      return object && withTime(key, object)
    },
    async put(key, body, options) {
      const written = await inner.put(key, body, options)
      times.set(key, timed.now)
      return written
    },
    async *list(prefix, options): AsyncGenerator<ListedObject> {
      for await (const object of inner.list(prefix, options)) yield withTime(object.key, object)
    },
    delete: (keys, options) => inner.delete(keys, options),
    close: () => inner.close(),
  }
  return {
    store,
    get now() {
      return timed.now
    },
    set now(time) {
      timed.now = time
    },
    pass(seconds) {
      timed.now = new Date(timed.now.getTime() + seconds * 1000)
    },
  }
}

/** A run id from a letter. */
export const runId = (letter: string): string => letter.repeat(12)

const BODY = Buffer.from("a shard")

/**
 * Stores a snapshot, not live: a shard of its own, a routing artifact, and the shards of the runs in `reused`. Returns its manifest's
 * key.
 */
export async function storeSnapshot(
  { store, now }: TimedStore,
  run: string,
  reused: readonly string[] = [],
): Promise<{ readonly key: string; readonly manifest: Manifest }> {
  const entry = (owner: string, shard: number): Manifest["shards"][number] => ({
    shard,
    rows: 1,
    folder: shardFolder(owner, 0, 0),
    files: [{ name: "shard.db", size: BODY.length, sha256: "0".repeat(64) }],
    index: { kind: "flat" },
    fingerprint: "0".repeat(64),
  })
  const shards = [run, ...reused].map(entry)
  const artifact = { key: routingKey(run, "centroids.npy"), size: BODY.length, sha256: "0".repeat(64) }
  const manifest: Manifest = {
    run,
    createdAt: now,
    base: undefined,
    schema: { dim: 1, metric: "l2", id: { type: "string", wide: false }, fields: [], model: undefined },
    sharding: { strategy: "explicit", shards: shards.length, options: {} },
    artifacts: [artifact],
    locator: undefined,
    backend: "sqlite-vec",
    shards,
    rows: shards.length,
    build: { tool: "test", startedAt: now, skippedRows: 0, duplicateRows: 0, timingsMs: {} },
    custom: {},
  }
  const key = manifestKey(now, run)
  await store.put(shardKey(run), BODY)
  await store.put(artifact.key, BODY)
  await store.put(key, encodeManifest(manifest))
  return { key, manifest }
}

export const shardKey = (run: string): string => `${shardFolder(run, 0, 0)}/shard.db`

/** Stores a snapshot and makes it live. */
export async function publishSnapshot(
  timed: TimedStore,
  run: string,
  reused: readonly string[] = [],
): Promise<void> {
  const { key, manifest } = await storeSnapshot(timed, run, reused)
  await publishManifest(timed.store, key, manifest, { action: "publish", expected: "any" })
}

/** Stores a run record, lease 120 s. */
export async function storeRecord(
  { store, now }: TimedStore,
  run: string,
  facts: Partial<RunRecord> = {},
): Promise<void> {
  const record: RunRecord = {
    run,
    state: "running",
    startedAt: now,
    updatedAt: now,
    host: "test",
    pid: 1,
    tool: "test",
    versions: {},
    configDigest: undefined,
    leaseSeconds: 120,
    base: undefined,
    stage: undefined,
    manifest: undefined,
    published: false,
    counts: undefined,
    error: undefined,
    ...facts,
  }
  await store.put(runKey(run), encodeRunRecord(record))
}

/** All keys at a root, besides the pointer. */
export async function keysOf(store: ObjectStore): Promise<string[]> {
  const keys: string[] = []
  for await (const { key } of store.list("")) if (key !== "_CURRENT") keys.push(key)
  return keys
}
