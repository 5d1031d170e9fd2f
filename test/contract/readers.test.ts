import { mkdtemp, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import Sqlite from "better-sqlite3"
import type { BackendName } from "../../src/index.js"
import { buildExported, buildSnapshot, openSnapshot, openStore, type StoreOptions } from "../../src/index.js"
import { readLive } from "../../src/manifest/current.js"
import { readLiveSnapshot } from "../../src/manifest/formats.js"
import { POINTER_KEY } from "../../src/manifest/keys.js"
import { POINTER_FORMAT } from "../../src/manifest/pointer.js"
import { seal } from "../../src/manifest/seal.js"
import { encodePointer } from "../../src/manifest/shardyfusion/pointer.js"
import { shardFileKey } from "../../src/snapshot/snapshot.js"
import { gatedStore } from "../support/gate.js"
import { ALL } from "../support/scope.js"
import { s3Root } from "../support/stores.js"
import { describeReader, type ReaderRoot, SUITE_FIELDS } from "./reader-suite.js"

let roots = 0
const KINDS = {
  "a directory": (dir: string) => ({ url: join(dir, "root"), store: {} }),
  memory: () => ({ url: `memory://readers-${process.pid}-${roots++}`, store: {} }),
  S3: () => s3Root("readers"),
} satisfies Record<string, (dir: string) => { readonly url: string; readonly store: StoreOptions }>

async function makeRoot(
  backend: BackendName,
  kind: keyof typeof KINDS,
  fetch?: "ranges",
): Promise<ReaderRoot> {
  const dir = await mkdtemp(join(tmpdir(), "vecsnap-readers-"))
  const { url, store } = KINDS[kind](dir)
  const objects = openStore(url, store)
  const gate = gatedStore(objects)
  let readers = 0

  async function eachFile(shard: number, work: (key: string) => Promise<unknown>): Promise<void> {
    const { manifest } = await readLive(objects)
    const entry = manifest.shards.find((one) => one.shard === shard)!
    for (const { name } of entry.files) await work(shardFileKey(entry, name))
  }

  return {
    async publish(records, sharding) {
      const { run } = await buildSnapshot(records, {
        to: url,
        store,
        backend,
        fields: SUITE_FIELDS,
        sharding,
      })
      return run
    },
    open: (options) =>
      openSnapshot(gate.store, { cacheDir: join(dir, `cache-${readers++}`), workers: 1, fetch, ...options }),
    async damagePointer() {
      await objects.put(POINTER_KEY, Buffer.from("damaged"))
    },
    async makeTooNew() {
      await objects.put(POINTER_KEY, seal({ format: POINTER_FORMAT, version: 99 }))
    },
    damageShard: (shard) => eachFile(shard, (key) => objects.put(key, Buffer.from("damaged"))),
    removeShard: (shard) => eachFile(shard, (key) => objects.delete([key])),
    holdShards() {
      gate.hold(/^shards\//)
      return { arrived: () => gate.arrived(1), release: gate.release }
    },
    async remove() {
      objects.close()
      await rm(dir, { recursive: true, force: true })
    },
  }
}

/** A root whose snapshots are written in the format of shardyfusion. */
async function makeForeignRoot(backend: BackendName): Promise<ReaderRoot> {
  const dir = await mkdtemp(join(tmpdir(), "vecsnap-readers-"))
  const objects = openStore(`memory://readers-${process.pid}-${roots++}`)
  const gate = gatedStore(objects)
  const prefix = "s3://bucket/prefix"
  let readers = 0
  let manifest = ""

  async function eachFile(shard: number, work: (key: string) => Promise<unknown>): Promise<void> {
    const { snapshot } = await readLiveSnapshot(objects)
    const entry = snapshot.shards.find((one) => one.shard === shard)!
    for (const { name } of entry.files) await work(shardFileKey(entry, name))
  }

  return {
    async publish(records, sharding) {
      const plain = records.map(({ fields: _, ...record }) => record)
      const { exported } = await buildExported(
        plain,
        { backend, sharding },
        {
          to: objects,
          format: "shardyfusion",
          prefix,
        },
      )
      manifest = exported.manifest
      return exported.run
    },
    open: (options) =>
      openSnapshot(gate.store, { cacheDir: join(dir, `cache-${readers++}`), workers: 1, ...options }),
    async damagePointer() {
      await objects.put(POINTER_KEY, Buffer.from("damaged"))
    },
    async makeTooNew() {
      const db = new Sqlite(Buffer.from((await objects.get(manifest))!.body))
      db.exec("UPDATE build_meta SET format_version = 5")
      const key = manifest.replace("/20", "/21")
      await objects.put(key, db.serialize())
      // Of another run, so that a reader that has this one open looks at it.
      await objects.put(POINTER_KEY, encodePointer("later", `${prefix}/${key}`, new Date()))
    },
    damageShard: (shard) => eachFile(shard, (key) => objects.put(key, Buffer.from("damaged"))),
    removeShard: (shard) => eachFile(shard, (key) => objects.delete([key])),
    holdShards() {
      gate.hold(/^shards\//)
      return { arrived: () => gate.arrived(1), release: gate.release }
    },
    async remove() {
      objects.close()
      await rm(dir, { recursive: true, force: true })
    },
  }
}

for (const backend of ALL ? (["sqlite-vec", "lancedb"] as const) : (["sqlite-vec"] as const)) {
  describeReader(`${backend} in the format of shardyfusion`, {
    makeRoot: () => makeForeignRoot(backend),
    lacks: ["fields", "locator", "measured recall"],
  })
}

const EVERY = (["sqlite-vec", "lancedb"] as const).flatMap((backend) =>
  (["a directory", "memory", "S3"] as const).map((kind) => ({ backend, kind })),
)
const FEW = [
  { backend: "sqlite-vec", kind: "a directory" },
  { backend: "lancedb", kind: "memory" },
] as const

for (const { backend, kind } of ALL ? EVERY : FEW)
  describeReader(`${backend} in ${kind}`, { makeRoot: () => makeRoot(backend, kind) })

describeReader("sqlite-vec in memory, read in ranges", {
  makeRoot: () => makeRoot("sqlite-vec", "memory", "ranges"),
})
