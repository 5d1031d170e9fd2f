/** The roots whose objects are altered: small ones that differ in backend, strategy, metric, type of ids. */
import { randomUUID } from "node:crypto"
import { mkdir, readFile, writeFile } from "node:fs/promises"
import { dirname, join } from "node:path"
import { type BuildOptions, buildSnapshot, openStore, readLive, type VectorRecord } from "../../src/index.js"
import { parseJson } from "../../src/json.js"
import { pin } from "../../src/maintenance/pins.js"
import { encodeManifest } from "../../src/manifest/codec.js"
import { manifestKey, POINTER_KEY, pinKey, readerKey, runKey } from "../../src/manifest/keys.js"
import type { Manifest } from "../../src/manifest/manifest.js"
import { decodePointer, encodePointer } from "../../src/manifest/pointer.js"
import { publishManifest } from "../../src/manifest/publish.js"
import { encodeReaderLease } from "../../src/manifest/reader-lease.js"
import { decodeRunRecord, encodeRunRecord } from "../../src/manifest/run-record.js"
import { seal } from "../../src/manifest/seal.js"
import { openMemoryStore } from "../../src/storage/memory.js"
import type { ObjectStore } from "../../src/storage/store.js"
import { FIELDS, makeRecords } from "../support/records.js"
import { publishTiny } from "../support/tiny-snapshot.js"

export type Objects = ReadonlyMap<string, Uint8Array>

export const BASE_NAMES = ["plain", "layout", "lsh", "cel", "cells", "lance"] as const
export type BaseName = (typeof BASE_NAMES)[number]

interface Recipe {
  readonly records: readonly VectorRecord[]
  readonly options: Omit<BuildOptions, "to" | "fields">
}

const DIM = 8

function recipeOf(name: BaseName): Recipe {
  switch (name) {
    case "plain":
      return {
        records: makeRecords(480, { dim: DIM }),
        options: { metric: "cosine", sharding: { strategy: "cluster", shards: 4, layout: "plain" } },
      }
    case "layout":
      return {
        records: makeRecords(600, { dim: DIM, ids: "wide" }),
        options: { metric: "l2", sharding: { strategy: "cluster", shards: 4, layout: "fast" } },
      }
    case "lsh":
      return {
        records: makeRecords(160, { dim: DIM, ids: "int" }),
        options: { metric: "dot", sharding: { strategy: "lsh", shards: 3 } },
      }
    case "cel":
      return {
        records: makeRecords(120, { dim: DIM }),
        options: { metric: "l2", sharding: { strategy: "cel", shards: 3, expression: "year % 3" } },
      }
    case "cells":
      return {
        records: makeRecords(1100, { dim: DIM, ids: "int" }),
        options: { metric: "l2", sharding: { strategy: "cluster", shards: 1, layout: "plain" } },
      }
    case "lance":
      return {
        records: makeRecords(300, { dim: DIM }),
        options: {
          metric: "cosine",
          backend: "lancedb",
          sharding: { strategy: "cluster", shards: 2, layout: "plain" },
        },
      }
  }
}

export const recordsOf = (name: BaseName): readonly VectorRecord[] => recipeOf(name).records

export const LIVE_RUN = "livelivelive"
export const OLD_RUN = "oldoldoldold"
const TIME = new Date("2026-11-21T03:00:00.000Z")

/** Builds a base and writes its objects below `dir`. The same on every run, but for the files of Lance. */
export async function writeBase(name: BaseName, dir: string): Promise<void> {
  const { records, options } = recipeOf(name)
  const built = openMemoryStore(randomUUID())
  await buildSnapshot(records, { ...options, fields: FIELDS, to: built })
  const base = openMemoryStore(randomUUID())
  await publishTiny(base, OLD_RUN, { createdAt: new Date("2026-11-20T03:00:00.000Z") })
  await copyAs(LIVE_RUN, built, base)
  await pin(base, OLD_RUN, { note: "a note" })
  const lease = { runs: [LIVE_RUN], leaseSeconds: 300, host: "host", pid: 1 }
  await base.put(readerKey("leaseleasele"), encodeReaderLease(lease))
  for await (const { key } of base.list("")) {
    const { body } = (await base.get(key))!
    await mkdir(dirname(join(dir, key)), { recursive: true })
    await writeFile(join(dir, key), withSteadyTimes(key, body))
  }
}

/** Copies a live snapshot under another run, at a time of ours, so that equal builds make equal objects. */
async function copyAs(run: string, from: ObjectStore, to: ObjectStore): Promise<void> {
  const { manifest } = await readLive(from)
  const renamed = (key: string): string => key.replace(manifest.run, run)
  for await (const { key } of from.list("")) {
    const { body } = (await from.get(key))!
    if (key.startsWith("shards/") || key.startsWith("routing/")) await to.put(renamed(key), body)
    if (!key.startsWith("runs/")) continue
    const record = { ...decodeRunRecord(body, key), run, startedAt: TIME, updatedAt: TIME, pid: 1 }
    await to.put(runKey(run), encodeRunRecord({ ...record, host: "host", manifest: manifestKey(TIME, run) }))
  }
  const copy: Manifest = {
    ...manifest,
    run,
    createdAt: TIME,
    artifacts: manifest.artifacts.map((entry) => ({ ...entry, key: renamed(entry.key) })),
    ...(manifest.codes && { codes: { ...manifest.codes, key: renamed(manifest.codes.key) } }),
    locator: manifest.locator && { ...manifest.locator, key: renamed(manifest.locator.key) },
    shards: manifest.shards.map((shard) => ({ ...shard, folder: renamed(shard.folder) })),
    build: { ...manifest.build, startedAt: TIME, timingsMs: { total: 5 } },
    custom: { note: "a note", list: [1, 2n ** 60n, null] },
  }
  const key = manifestKey(TIME, run)
  await to.put(key, encodeManifest(copy))
  await publishManifest(to, key, copy, { action: "publish", expected: "any" })
}

/** Pointer and pin say when they were written. */
function withSteadyTimes(key: string, body: Uint8Array): Uint8Array {
  if (key === POINTER_KEY) {
    const pointer = decodePointer(body, key)
    const times = { publishedAt: TIME, ...(pointer.liveSince && { liveSince: TIME }) }
    const history = pointer.history.map((publication) => ({ ...publication, publishedAt: TIME }))
    return encodePointer({ ...pointer, ...times, history }, "writewritewr")
  }
  if (key !== pinKey(OLD_RUN)) return body
  const { sha256: _, ...pinned } = parseJson(Buffer.from(body).toString()) as { sha256?: string }
  return seal({ ...pinned, pinnedAt: TIME.toISOString() })
}

/** Reads what {@link writeBase} wrote: objects by key, in an order that is always the same. */
export async function readBase(dir: string): Promise<Objects> {
  const store = openStore(dir)
  const objects = new Map<string, Buffer>()
  for await (const { key } of store.list("")) objects.set(key, await readFile(join(dir, key)))
  return objects
}
