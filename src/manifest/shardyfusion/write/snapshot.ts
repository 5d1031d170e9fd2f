/**
 * Writes a snapshot that shardyfusion can open and search: shards first, then arrays, manifest and, last, the
 * pointer, by compare-and-set. Nothing of it is visible before that.
 */
import { randomUUID } from "node:crypto"
import { readdir, stat } from "node:fs/promises"
import { join, relative, sep } from "node:path"
import { conflict, invalidInput, isVecsnapError, unsupported } from "../../../errors.js"
import type { Json } from "../../../records.js"
import { compileCel } from "../../../sharding/cel/program.js"
import type { ShardRows, ShardSpec } from "../../../shards/backend.js"
import type { BackendName } from "../../../shards/registry.js"
import type { SnapshotContent, WriteOptions, WrittenSnapshot } from "../../../snapshot/format.js"
import { shardSpecOf } from "../../../snapshot/snapshot.js"
import type { CallOptions, ObjectStore } from "../../../storage/store.js"
import { withTempDir } from "../../../storage/temp-dir.js"
import { encodeNpy, hasFloats } from "../../../vectors/npy.js"
import { quoted } from "../../../wording.js"
import { POINTER_KEY } from "../../keys.js"
import { METRICS } from "../documents.js"
import { artifactKey, manifestKey, shardFolder } from "../keys.js"
import { readManifestFile } from "../manifest-file.js"
import { decodePointer, encodePointer, isPointer } from "../pointer.js"
import { FILE as SQLITE_FILE } from "../shards/sqlite-vec.js"
import { buildLanceDb } from "./lancedb.js"
import { encodeManifest, type ManifestFacts } from "./manifest.js"
import { withFieldsInPayload } from "./rows.js"
import { recorded } from "./run-record.js"
import { buildSqliteVec } from "./sqlite-vec.js"

type Builder = (rows: ShardRows, dir: string, spec: ShardSpec) => Promise<void>

const BUILDERS: Readonly<Record<string, Builder>> = {
  lancedb: buildLanceDb,
  "sqlite-vec": buildSqliteVec,
}

/** What indexes the shards have, as the manifest tells it. */
const INDEXES: Readonly<Record<string, Json>> = {
  lancedb: { type: "IVF_FLAT", num_partitions: 1 },
  "sqlite-vec": { type: "flat" },
}

const SQLITE = "application/x-sqlite3"

/**
 * Throws `InvalidInput` for a root that has snapshots of another format and for rows that the format cannot
 * hold, `Unsupported` for what it does not know, `Conflict` if another snapshot was published meanwhile.
 */
export async function writeSnapshot(
  store: ObjectStore,
  content: SnapshotContent,
  options: WriteOptions,
): Promise<WrittenSnapshot> {
  const { signal } = options
  const prefix = prefixOf(store, options.prefix)
  const { snapshot } = content
  const backend: BackendName = options.backend ?? snapshot.backend
  const build = BUILDERS[backend]
  if (build === undefined) throw unsupported(`shardyfusion knows no shards of ${backend}`, { backend })
  const routing = describeRouting(content)
  const { custom = {} } = snapshot
  if ("vector" in custom)
    throw invalidInput("custom has a property vector, which is taken in snapshots of shardyfusion")
  const before = await livePointer(store, { signal })
  const run = randomUUID()
  const parts = { run, prefix, before, backend, build, routing, custom }
  return recorded(store, parts, () => writeRun(store, content, parts, options))
}

interface RunParts {
  readonly run: string
  readonly prefix: string
  /** What was live when it was begun. */
  readonly before: Awaited<ReturnType<typeof livePointer>>
  readonly backend: BackendName
  readonly build: Builder
  readonly routing: WrittenRouting
  readonly custom: Readonly<Record<string, Json>>
}

async function writeRun(
  store: ObjectStore,
  content: SnapshotContent,
  { run, prefix, before, backend, build, routing, custom }: RunParts,
  options: WriteOptions,
): Promise<WrittenSnapshot> {
  const { signal, tempDir } = options
  const { schema, sharding } = content.snapshot
  const entries: ManifestFacts["entries"][number][] = []
  for (const shard of content.shards) {
    const given = await content.readShard(shard)
    const rows = withFieldsInPayload(given, routing)
    const bytes = await withTempDir(tempDir, "vecsnap-export", async (dir) => {
      await build(rows, dir, shardSpecOf(schema))
      return uploadFolder(store, dir, shardFolder(run, shard), { signal })
    })
    const checkpoint = randomUUID().replaceAll("-", "")
    entries.push({ shard, url: `${prefix}/${shardFolder(run, shard)}`, rows: rows.rows, bytes, checkpoint })
    options.onShard?.(entries.length, content.shards.length)
  }
  const refs: Record<string, string> = {}
  for (const [file, array] of Object.entries(routing.arrays)) {
    if (!hasFloats(array)) throw unsupported(`${file} holds integers`)
    const key = artifactKey(run, file)
    const data = Float32Array.from(array.data)
    await store.put(key, encodeNpy({ shape: array.shape, data }), { ifAbsent: true, signal })
    refs[`${file.replace(".npy", "")}_ref`] = `${prefix}/${key}`
  }

  const createdAt = new Date()
  const rows = entries.reduce((sum, entry) => sum + entry.rows, 0)
  const vector: Record<string, Json> = {
    dim: schema.dim,
    metric: Object.keys(METRICS).find((name) => METRICS[name] === schema.metric)!,
    // What the reference takes if nothing is said. It goes by what the shards have.
    index_type: "hnsw",
    quantization: null,
    total_vectors: rows,
    ...routing.vector,
    ...refs,
    // Ignored by the reference, whose users must know it.
    backend,
    vecsnap: { id_type: schema.id.type, wide_ids: schema.id.wide, index: INDEXES[backend]! },
  }
  const { shards } = sharding
  const facts = { run, createdAt, shards, prefix, custom: { ...custom, vector }, entries }
  const body = await encodeManifest(facts)
  const manifest = manifestKey(createdAt, run)
  // Nothing that a reader would refuse may become live.
  await readManifestFile(body, manifest)
  await store.put(manifest, body, { ifAbsent: true, contentType: SQLITE, signal })
  await publish(store, encodePointer(run, `${prefix}/${manifest}`, new Date()), before?.etag, signal)
  return {
    run,
    manifest,
    replaced: before?.run,
    rows,
    shards,
    bytes: entries.reduce((sum, { bytes }) => sum + bytes, 0),
  }
}

/**
 * The absolute URL that all references begin with. The reference cuts keys at "?" and "#", and a root is a
 * bucket and a key.
 */
function prefixOf(store: ObjectStore, given: string | undefined): string {
  const prefix = (given ?? store.url).replace(/\/+$/, "")
  if (/^s3:\/\/[^/?#]+(\/[^/?#]+)+$/.test(prefix)) return prefix
  const option = given === undefined ? "" : "option prefix: "
  throw invalidInput(
    `${option}snapshots of shardyfusion name all their files by s3://bucket/key, without "?" and "#", got ` +
      `${quoted(prefix)}: give the URL that they will be at as prefix`,
    { prefix },
  )
}

interface WrittenRouting {
  readonly arrays: SnapshotContent["artifacts"]
  readonly vector: Readonly<Record<string, Json>>
  readonly routedBy: readonly string[]
}

const CEL_TYPES: Readonly<Record<string, string>> = {
  string: "string",
  int64: "int",
  float64: "double",
  bool: "bool",
}

function describeRouting({ snapshot, artifacts }: SnapshotContent): WrittenRouting {
  const { strategy, options } = snapshot.sharding
  const probes = typeof options.probes === "number" ? options.probes : 1
  const routing = { arrays: {}, routedBy: [] }
  switch (strategy) {
    case "explicit":
      return { ...routing, vector: { sharding_strategy: strategy, num_probes: 1 } }
    case "cluster": {
      const { "centroids.npy": centroids, ...others } = artifacts
      if (centroids === undefined || Object.keys(others).length > 0)
        throw unsupported("shardyfusion routes by centroids alone: build with the layout plain")
      return {
        ...routing,
        arrays: { "centroids.npy": centroids },
        vector: { sharding_strategy: strategy, num_probes: probes },
      }
    }
    case "lsh":
      return {
        ...routing,
        arrays: artifacts,
        vector: {
          sharding_strategy: strategy,
          num_probes: probes,
          num_hash_bits: artifacts["hyperplanes.npy"]!.shape[0]!,
        },
      }
    case "cel":
      return describeCel(snapshot)
    default:
      throw unsupported(`shardyfusion knows no strategy ${strategy}`, { strategy })
  }
}

function describeCel({ sharding, schema }: SnapshotContent["snapshot"]): WrittenRouting {
  const { expression, values } = sharding.options as {
    readonly expression: string
    readonly values?: readonly (string | number | bigint)[]
  }
  const { fields } = compileCel(expression, schema.fields)
  if (fields.length === 0)
    throw unsupported(`shardyfusion routes by columns, and the sharding expression ${expression} uses none`)
  const kinds = new Set(values?.map((value) => (typeof value === "string" ? "text" : "integer")))
  if (kinds.size > 1) throw unsupported("routing values of shardyfusion are of one type: text or integers")
  return {
    arrays: {},
    routedBy: fields.map(({ name }) => name),
    vector: {
      sharding_strategy: "cel",
      num_probes: 1,
      cel_expr: expression,
      cel_columns: Object.fromEntries(fields.map(({ name, type }) => [name, CEL_TYPES[type]!])),
      ...(values && { routing_values: values }),
    },
  }
}

/** Stores the files of a folder; returns how many bytes they have. */
async function uploadFolder(
  store: ObjectStore,
  dir: string,
  folder: string,
  options: CallOptions,
): Promise<number> {
  let bytes = 0
  const found = await readdir(dir, { recursive: true, withFileTypes: true })
  for (const entry of found.filter((one) => one.isFile())) {
    const file = join(entry.parentPath, entry.name)
    const name = relative(dir, file).split(sep).join("/")
    const contentType = name === SQLITE_FILE ? { contentType: SQLITE } : {}
    await store.put(`${folder}/${name}`, { file }, { ifAbsent: true, ...contentType, ...options })
    bytes += (await stat(file)).size
  }
  return bytes
}

async function livePointer(
  store: ObjectStore,
  options: CallOptions,
): Promise<{ readonly run: string; readonly etag: string } | undefined> {
  const object = await store.get(POINTER_KEY, { ...options, maxBytes: 2 ** 16 })
  if (object === undefined) return undefined
  if (!isPointer(object.body))
    throw invalidInput(`${store.url} has snapshots of another format: write to a root of its own`, {
      url: store.url,
    })
  return decodePointer(object)
}

async function publish(
  store: ObjectStore,
  pointer: Uint8Array,
  replaces: string | undefined,
  signal: AbortSignal | undefined,
): Promise<void> {
  const condition = replaces === undefined ? { ifAbsent: true } : { ifMatch: replaces }
  try {
    await store.put(POINTER_KEY, pointer, { ...condition, contentType: "application/json", signal })
  } catch (error) {
    if (!isVecsnapError(error, "Conflict")) throw error
    throw conflict(
      `another snapshot was published at ${store.url} since this one was begun; this one is stored, but not live`,
      { url: store.url },
      error,
    )
  }
}
