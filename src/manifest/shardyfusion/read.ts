/**
 * A snapshot from its manifest: what the manifest does not say (which backend, which files, how large the
 * arrays are) is looked up in the store, with few requests.
 */
import { corrupt, isVecsnapError, notFound, unsupported } from "../../errors.js"
import type { SnapshotIdType } from "../../records.js"
import type { ShardingDescription } from "../../sharding/strategy.js"
import type { BackendName } from "../../shards/registry.js"
import type { ReadSnapshotOptions } from "../../snapshot/format.js"
import type { Snapshot, SnapshotShard, StoredFile } from "../../snapshot/snapshot.js"
import { withoutSlashes } from "../../storage/rules.js"
import type { CallOptions, ObjectStore } from "../../storage/store.js"
import {
  type AnyNpyArray,
  decodeAnyNpy,
  hasFloats,
  NPY_HEADER_BYTES,
  parseNpyHeader,
} from "../../vectors/npy.js"
import { quoted } from "../../wording.js"
import type { CelMeta, ForeignManifest, ForeignShard, VectorMeta } from "./documents.js"
import { keyBelow, runFolderOf } from "./keys.js"
import { MANIFEST_MOST_BYTES, readManifestFile } from "./manifest-file.js"
import type { VectorDeclaration } from "./shards/declaration.js"
import { opener as lancedbOpener, lanceFiles, TABLE_DIR } from "./shards/lancedb.js"
import { readDeclaration, FILE as SQLITE_FILE, opener as sqliteVecOpener } from "./shards/sqlite-vec.js"

/** So many bytes of a database have its schema. */
const SCHEMA_BYTES = 64 * 2 ** 10

/**
 * The snapshot that a manifest describes. Throws `NotFound` if that is missing, or if none of its shards is
 * there; `Corrupt` and `Unsupported` as the manifest is.
 */
export async function readSnapshot(
  store: ObjectStore,
  key: string,
  { check, ...options }: ReadSnapshotOptions = {},
): Promise<Snapshot> {
  const object = await store.get(key, { ...options, maxBytes: MANIFEST_MOST_BYTES })
  if (object === undefined)
    throw notFound(`${store.url} has no ${key}, which it should have`, { url: store.url, key })
  check?.(object.body)
  const manifest = await readManifestFile(object.body, key)
  const { vector } = manifest
  const keyOf = await keysOf(store, key, manifest, options)
  const folders = new Map(manifest.entries.map((entry) => [entry.shard, keyOf(entry.url)]))
  const found = await detectBackend(store, key, manifest, folders, options)
  const shards = await describeShards(store, found.backend, manifest.entries, folders, options)
  const { artifacts, sharding } = await describeRouting(store, key, manifest, keyOf, options)
  const { dim = vector.dim, metric = vector.metric } = found.declared ?? {}
  if (dim < 1) throw corrupt(`${key}: custom.vector.dim has ${dim}, expected 1 or more`, { key })
  const notes =
    dim === vector.dim && metric === vector.metric
      ? undefined
      : [
          `the shards have ${dim} dimensions and the metric ${metric}, by which they are searched; ` +
            `the manifest says ${vector.dim} and ${vector.metric}, by which queries are routed`,
        ]
  return {
    run: manifest.run,
    createdAt: manifest.createdAt,
    schema: { dim, metric, id: describeIds(found.backend, vector), fields: [], model: undefined },
    sharding,
    routing: { metric: vector.metric, fields: describeContext(vector.cel) },
    artifacts,
    locator: undefined,
    backend: found.backend,
    opener: found.backend === "sqlite-vec" ? sqliteVecOpener : lancedbOpener,
    shards,
    rows: manifest.entries.reduce((sum, { rows }) => sum + rows, 0),
    custom: manifest.custom,
    ...(notes && { notes }),
  }
}

/**
 * Keys of what the manifest names. Where its URLs have a slash twice behind the prefix, so do the keys on S3;
 * but directories have no such names, and copies that went through one have a single slash.
 */
async function keysOf(
  store: ObjectStore,
  key: string,
  { prefix, entries }: ForeignManifest,
  options: CallOptions,
): Promise<(url: string) => string> {
  const asWritten = (url: string): string => keyBelow(prefix, url, key)
  const folder = entries[0] && asWritten(entries[0].url)
  if (folder === undefined || !folder.startsWith("/")) return asWritten
  const isCopied = await hasAny(store, runFolderOf(withoutSlashes(folder)), options)
  return isCopied ? (url) => withoutSlashes(asWritten(url)) : asWritten
}

interface Detected {
  readonly backend: BackendName
  /** What the shards say of their vectors, which counts where the manifest says otherwise. */
  readonly declared?: VectorDeclaration | undefined
}

/**
 * Which backend has built the shards: as recorded, or as the first shard tells whose files are there. (The
 * reference records nothing, and leaves it to its users to know.)
 */
async function detectBackend(
  store: ObjectStore,
  key: string,
  { entries, vector: { backend } }: ForeignManifest,
  folders: ReadonlyMap<number, string>,
  options: CallOptions,
): Promise<Detected> {
  if (backend !== undefined && backend !== "lancedb" && backend !== "sqlite-vec")
    throw unsupported(`${key}: custom.vector.backend is ${quoted(backend)}, expected lancedb or sqlite-vec`)
  // The one that the reference itself takes for granted.
  if (entries.length === 0 || backend === "lancedb") return { backend: backend ?? "lancedb" }
  for (const { shard } of entries) {
    const folder = folders.get(shard)!
    const file = `${folder}/${SQLITE_FILE}`
    const info = await store.head(file, options)
    if (info !== undefined) {
      return { backend: "sqlite-vec", declared: await declarationOf(store, file, info.size, options) }
    }
    if (backend === undefined && (await hasAny(store, `${folder}/${TABLE_DIR}/_versions/`, options)))
      return { backend: "lancedb" }
  }
  if (backend !== undefined) return { backend }
  const first = folders.get(entries[0]!.shard)!
  throw notFound(
    `${store.url} has no shard of ${key}: neither ${first}/${SQLITE_FILE} nor ${first}/${TABLE_DIR}, nor that of another shard`,
    { url: store.url, key },
  )
}

/** `undefined` where it cannot be read; whoever opens the shard is told why. */
async function declarationOf(
  store: ObjectStore,
  file: string,
  size: number,
  options: CallOptions,
): Promise<VectorDeclaration | undefined> {
  if (size === 0) return undefined
  const object = await store.get(file, { ...options, range: { start: 0, end: Math.min(size, SCHEMA_BYTES) } })
  if (object === undefined) return undefined
  try {
    return await readDeclaration(object.body, file)
  } catch (error) {
    if (isVecsnapError(error, "Corrupt")) return undefined
    throw error
  }
}

async function hasAny(store: ObjectStore, prefix: string, options: CallOptions): Promise<boolean> {
  for await (const _ of store.list(prefix, options)) return true
  return false
}

async function describeShards(
  store: ObjectStore,
  backend: BackendName,
  entries: readonly ForeignShard[],
  folders: ReadonlyMap<number, string>,
  options: CallOptions,
): Promise<readonly SnapshotShard[]> {
  const filesOf =
    backend === "sqlite-vec"
      ? ({ bytes }: ForeignShard) => [{ name: SQLITE_FILE, size: bytes, sha256: undefined }]
      : await listedFiles(store, folders, options)
  return entries.map((entry) => ({
    shard: entry.shard,
    rows: entry.rows,
    folder: folders.get(entry.shard)!,
    files: filesOf(entry),
    index: { kind: "flat" },
  }))
}

/** The files of LanceDB's shards, which are recorded nowhere, by listing what lies around them. */
async function listedFiles(
  store: ObjectStore,
  folders: ReadonlyMap<number, string>,
  options: CallOptions,
): Promise<(entry: ForeignShard) => SnapshotShard["files"]> {
  const known = new Set(folders.values())
  const found = new Map<string, { readonly name: string; readonly size: number }[]>()
  // Shards of one run lie side by side, so that one listing has the files of all.
  const prefixes = new Set(Array.from(known, runFolderOf))
  for (const prefix of prefixes) {
    for await (const { key, size } of store.list(prefix, options)) {
      const end = key.indexOf(`/${TABLE_DIR}/`)
      const folder = key.slice(0, Math.max(0, end))
      if (!known.has(folder)) continue
      const files = found.get(folder) ?? []
      files.push({ name: key.slice(end + 1), size })
      found.set(folder, files)
    }
  }
  return ({ shard }) => lanceFiles(found.get(folders.get(shard)!) ?? [])
}

const ROUTING_FILES = { cluster: "centroids", lsh: "hyperplanes" } as const

async function describeRouting(
  store: ObjectStore,
  key: string,
  { shards, vector }: ForeignManifest,
  keyOf: (url: string) => string,
  options: CallOptions,
): Promise<{ readonly artifacts: readonly StoredFile[]; readonly sharding: ShardingDescription }> {
  const { strategy, probes, cel } = vector
  const describe = (given: Readonly<Record<string, unknown>>): ShardingDescription => ({
    strategy,
    shards,
    options: given,
  })
  switch (strategy) {
    case "explicit":
      return { artifacts: [], sharding: describe({}) }
    case "cel": {
      const { expression, values } = cel!
      return { artifacts: [], sharding: describe({ expression, ...(values && { values }) }) }
    }
    default: {
      const name = ROUTING_FILES[strategy]
      const url = vector[name]
      if (url === undefined)
        throw corrupt(`${key}: custom.vector.${name}_ref is missing, which ${strategy} goes by`, { key })
      const { file, rows } = await describeArray(store, keyOf(url), options)
      // More probes than shards are all of them.
      const effort = { probes: Math.min(probes, shards) }
      const given =
        strategy === "lsh" ? { bits: rows, ...effort, probeOrder: "bit" } : { ...effort, layout: "plain" }
      return { artifacts: [file], sharding: describe(given) }
    }
  }
}

/** Size and first length of an array. One that is missing or damaged is so again when it is read. */
async function describeArray(
  store: ObjectStore,
  key: string,
  options: CallOptions,
): Promise<{ readonly file: StoredFile; readonly rows: number }> {
  const info = await store.head(key, options)
  const size = info?.size ?? 0
  const object =
    size === 0
      ? undefined
      : await store.get(key, { ...options, range: { start: 0, end: Math.min(size, NPY_HEADER_BYTES) } })
  const file = { key, size, sha256: undefined }
  if (object === undefined) return { file, rows: 1 }
  return { file, rows: parseNpyHeader(object.body, key).shape[0] ?? 1 }
}

/** The arrays of a strategy, by name. Throws `NotFound` or `Corrupt`, naming the object. */
export async function readArtifacts(
  store: ObjectStore,
  { artifacts }: Pick<Snapshot, "artifacts">,
  options: CallOptions = {},
): Promise<Readonly<Record<string, AnyNpyArray>>> {
  const arrays = await Promise.all(
    artifacts.map(async ({ key, size }) => {
      const object = await store.get(key, { ...options, maxBytes: Math.max(size, 1) })
      if (object === undefined)
        throw notFound(`${store.url} has no ${key}, which its manifest names`, { url: store.url, key })
      const array = decodeAnyNpy(object.body, key)
      // Whoever gave the array may have given integers.
      const floats = hasFloats(array) ? array : { ...array, data: Float64Array.from(array.data, Number) }
      return [key.slice(key.lastIndexOf("/") + 1), floats] as const
    }),
  )
  return Object.fromEntries(arrays)
}

/**
 * LanceDB's tables of the reference have text for all ids; a file of sqlite-vec tells of each id what it is,
 * and so does a table of who follows the format and records the backend.
 */
function describeIds(
  backend: BackendName,
  vector: VectorMeta,
): { readonly type: SnapshotIdType; readonly wide: boolean } {
  const { idType, wideIds } = vector
  if (idType !== undefined) return { type: idType, wide: wideIds }
  return { type: backend === "lancedb" && vector.backend === undefined ? "string" : "mixed", wide: false }
}

const CONTEXT_TYPES = {
  int: "int64",
  uint: "uint64",
  double: "float64",
  bool: "bool",
  string: "string",
  bytes: "bytes",
} as const

const describeContext = (cel: CelMeta | undefined) =>
  Object.entries(cel?.columns ?? {}).map(([name, type]) => ({
    name,
    type: CONTEXT_TYPES[type as keyof typeof CONTEXT_TYPES],
    // The reference evaluates what comes before it, and places rows by that.
    withoutNul: true,
  }))
