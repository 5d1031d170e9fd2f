/** The smallest snapshots there are, made by hand: one shard of a few bytes that no backend can open. */
import { createHash } from "node:crypto"
import { encodeManifest } from "../../src/manifest/codec.js"
import { manifestKey, shardFolder } from "../../src/manifest/keys.js"
import type { Manifest } from "../../src/manifest/manifest.js"
import { type Published, publishManifest } from "../../src/manifest/publish.js"
import type { ObjectStore } from "../../src/storage/store.js"

export const TINY_SHARD = Buffer.from("a shard")

export interface TinySnapshot {
  readonly key: string
  readonly manifest: Manifest
}

/** Stores a complete snapshot of one shard, which may lie in the folder of another run. */
export async function storeTiny(
  store: ObjectStore,
  run: string,
  {
    createdAt = new Date("2026-11-21T03:00:00Z"),
    shardRun = run,
    ...more
  }: Partial<Manifest> & { shardRun?: string } = {},
): Promise<TinySnapshot> {
  const folder = shardFolder(shardRun, 0, 0)
  const sha256 = createHash("sha256").update(TINY_SHARD).digest("hex")
  const manifest: Manifest = {
    run,
    createdAt,
    base: undefined,
    schema: { dim: 1, metric: "l2", id: { type: "string", wide: false }, fields: [], model: undefined },
    sharding: { strategy: "explicit", shards: 1, options: {} },
    artifacts: [],
    locator: undefined,
    backend: "sqlite-vec",
    shards: [
      {
        shard: 0,
        rows: 1,
        folder,
        files: [{ name: "shard.db", size: TINY_SHARD.length, sha256 }],
        index: { kind: "flat" },
        fingerprint: sha256,
      },
    ],
    rows: 1,
    build: { tool: "test", startedAt: createdAt, skippedRows: 0, duplicateRows: 0, timingsMs: { total: 5 } },
    custom: {},
    ...more,
  }
  const key = manifestKey(createdAt, run)
  await store.put(`${folder}/shard.db`, TINY_SHARD)
  await store.put(key, encodeManifest(manifest))
  return { key, manifest }
}

/** Stores a tiny snapshot and makes it live, whatever is live. */
export async function publishTiny(
  store: ObjectStore,
  run: string,
  manifest: Parameters<typeof storeTiny>[2] = {},
): Promise<Published> {
  const stored = await storeTiny(store, run, manifest)
  return publishManifest(store, stored.key, stored.manifest, { action: "publish", expected: "any" })
}
