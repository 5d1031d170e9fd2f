/**
 * One shard's share of a build: its spill in, its index files out. Depends on nothing but its arguments, so that tasks
 * can run in threads, processes or machines, and again after a failure.
 */
import { createHash } from "node:crypto"
import { mkdir, readdir, stat } from "node:fs/promises"
import { join, relative, sep } from "node:path"
import { stringifyJson } from "../../json.js"
import type { ShardFile } from "../../manifest/manifest.js"
import { type CertificateQueries, nearestInShard, type ShardNeighbours } from "../../recall/certificate.js"
import { compareIds, type RecordBatch } from "../../records.js"
import type { BackendName, IndexDescription, ShardRows, ShardSpec } from "../../shards/backend.js"
import { backendByName } from "../../shards/registry.js"
import { sha256OfFile } from "../../storage/checksum.js"
import { concatBatches, readBlocks, takeColumns } from "../rows/batches.js"

export interface ShardTask {
  readonly shard: number
  readonly spill: string
  /** Positions in the spill to leave out: rows that lost against another one with the same id. */
  readonly drop: ReadonlySet<number>
  readonly spec: ShardSpec
  readonly backend: BackendName
  /** Directory for the files; made by the task. */
  readonly dir: string
  /** Fingerprint of a shard whose files can serve again; if this one's is the same, nothing is built. */
  readonly reusable: string | undefined
  /** Queries whose nearest rows are wanted. */
  readonly queries: CertificateQueries | undefined
}

export interface ShardTaskResult {
  readonly shard: number
  readonly rows: number
  readonly fingerprint: string
  /** Absent if the reusable files serve, or if no row is left. */
  readonly built: { readonly index: IndexDescription; readonly files: readonly ShardFile[] } | undefined
  /** Absent if they were not asked for, or if no row is left. */
  readonly nearest: ShardNeighbours | undefined
}

export async function runShardTask(task: ShardTask): Promise<ShardTaskResult> {
  const { shard, spec, backend, dir, queries } = task
  const rows = await readShardRows(task.spill, task.drop)
  if (rows === undefined) return { shard, rows: 0, fingerprint: "", built: undefined, nearest: undefined }
  const fingerprint = fingerprintOf(rows, spec, backend)
  const nearest = queries && nearestInShard(rows, spec, queries)
  const result = { shard, rows: rows.rows, fingerprint, nearest }
  if (fingerprint === task.reusable) return { ...result, built: undefined }
  await mkdir(dir)
  const index = await backendByName(backend).build(rows, dir, spec)
  return { ...result, built: { index, files: await listFiles(dir) } }
}

/** Rows of a spill, without the dropped ones, sorted by id; `undefined` if none is left. */
async function readShardRows(spill: string, drop: ReadonlySet<number>): Promise<ShardRows | undefined> {
  const batches: RecordBatch[] = []
  for await (const batch of readBlocks(spill)) batches.push(batch)
  const all = concatBatches(batches)
  const values = all.ids.values
  const order: number[] = []
  for (let row = 0; row < all.rows; row++) if (!drop.has(row)) order.push(row)
  if (order.length === 0) return undefined
  order.sort((a, b) => compareIds(values[a]!, values[b]!))
  return takeColumns(all, order)
}

/** SHA-256 over all that shapes the files of a shard: rows, their order, and the parameters of the index. */
export function fingerprintOf(rows: ShardRows, spec: ShardSpec, backend: BackendName): string {
  const { dim, metric, id, fields } = spec
  const hash = createHash("sha256")
  const parameters = {
    backend,
    dim,
    metric,
    id: id.type,
    fields: fields.map(({ name, type }) => [name, type]),
    rows: rows.rows,
  }
  hash.update(stringifyJson(parameters))
  hash.update(rows.ids.type === "int64" ? bytesOf(rows.ids.values) : stringifyJson(rows.ids.values))
  hash.update(bytesOf(rows.vectors))
  for (const { name } of fields) hash.update(stringifyJson(rows.fields[name]))
  hash.update(JSON.stringify(rows.payloads))
  return hash.digest("hex")
}

const bytesOf = (array: Float32Array | BigInt64Array): Uint8Array =>
  new Uint8Array(array.buffer, array.byteOffset, array.byteLength)

/** Every file below a directory, by name, with size and checksum. */
async function listFiles(dir: string): Promise<readonly ShardFile[]> {
  const entries = await readdir(dir, { recursive: true, withFileTypes: true })
  const paths = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name))
  const files: ShardFile[] = []
  for (const path of paths.sort()) {
    const { size } = await stat(path)
    files.push({ name: relative(dir, path).split(sep).join("/"), size, sha256: await sha256OfFile(path) })
  }
  return files
}
