/**
 * Makes the index files of one shard in the scratch store: the part of a shard's task that takes processor
 * time.
 */
import { createHash, type Hash } from "node:crypto"
import { mkdir, stat } from "node:fs/promises"
import { relative, sep } from "node:path"
import { bytesOf } from "../../bytes.js"
import { stringifyJson } from "../../json.js"
import type { ShardFile } from "../../manifest/manifest.js"
import { nearestInShard, type ShardNeighbours } from "../../recall/certificate.js"
import { compareIds, type RecordBatch } from "../../records.js"
import type { IndexDescription, ShardRows, ShardSpec } from "../../shards/backend.js"
import type { IndexOptions } from "../../shards/options.js"
import { type BackendName, backendByName } from "../../shards/registry.js"
import { sha256OfFile } from "../../storage/checksum.js"
import { filesBelow } from "../../storage/files.js"
import { concatBatches, readBlocks, takeColumns } from "../rows/batches.js"
import { spillName } from "../rows/partition.js"
import type { Scratch } from "../scratch.js"
import type { ShardHint, ShardPlan, ShardTask } from "./task.js"

/** A shard before it is stored. `nearest`: of the plan's queries, if it has any. */
export type ShardDraft =
  /** No row is left. */
  | { readonly kind: "empty" }
  /** Its rows are those of the reusable shard: there is nothing to store. */
  | { readonly kind: "unchanged"; readonly nearest: ShardNeighbours | undefined }
  /** Its files are in the scratch folder {@link draftFolder}. */
  | {
      readonly kind: "files"
      readonly rows: number
      readonly fingerprint: string
      readonly index: IndexDescription
      readonly files: readonly ShardFile[]
      readonly nearest: ShardNeighbours | undefined
    }

/** Scratch folder of the files that one attempt at a shard makes. */
export const draftFolder = ({ shard, attempt }: Pick<ShardTask, "shard" | "attempt">): string =>
  `shard-${shard}-${attempt}`

export async function draftShard(
  { spec, backend, index: options, queries }: ShardPlan,
  task: ShardTask,
  hint: ShardHint | undefined,
  scratch: Scratch,
): Promise<ShardDraft> {
  const rows = await readShardRows(scratch, spillName(task.shard), new Set(task.drop), task.copies)
  if (rows === undefined) return { kind: "empty" }
  const fingerprint = fingerprintOf(rows, spec, backend, options)
  const nearest = queries && nearestInShard(rows, spec, queries, hint)
  if (fingerprint === task.reusable?.fingerprint) return { kind: "unchanged", nearest }
  const folder = scratch.path(draftFolder(task))
  await mkdir(folder)
  const index = await backendByName(backend).build(rows, folder, spec, options)
  return { kind: "files", rows: rows.rows, fingerprint, index, files: await listFiles(folder), nearest }
}

/** Rows of a spill, without the dropped ones, sorted by id; `undefined` if none is left. */
async function readShardRows(
  scratch: Scratch,
  spill: string,
  drop: ReadonlySet<number>,
  copies: Iterable<number> = [],
): Promise<ShardRows | undefined> {
  const batches: RecordBatch[] = []
  for await (const batch of readBlocks(scratch, spill)) batches.push(batch)
  const all = concatBatches(batches)
  const values = all.ids.values
  const order: number[] = []
  for (let row = 0; row < all.rows; row++) if (!drop.has(row)) order.push(row)
  if (order.length === 0) return undefined
  order.sort((a, b) => compareIds(values[a]!, values[b]!))
  const isCopy = new Uint8Array(all.rows)
  for (const position of copies) isCopy[position] = 1
  return { ...takeColumns(all, order), home: homeBits(order, isCopy) }
}

/** A bit for each row that is no copy; `undefined` if none is one. */
function homeBits(order: readonly number[], isCopy: Uint8Array): Uint8Array | undefined {
  if (!order.some((position) => isCopy[position] === 1)) return undefined
  const bits = new Uint8Array(Math.ceil(order.length / 8))
  for (const [row, position] of order.entries()) {
    if (isCopy[position] === 0) bits[row >> 3]! |= 1 << (row & 7)
  }
  return bits
}

/** SHA-256 over all that shapes the files of a shard: rows, their order, and the parameters of the index. */
export function fingerprintOf(
  rows: ShardRows,
  spec: ShardSpec,
  backend: BackendName,
  index: IndexOptions = {},
): string {
  const { dim, metric, id, fields } = spec
  const shape = backendByName(backend).shapedBy?.(rows, spec)
  const hash = createHash("sha256")
  const parameters = {
    backend,
    dim,
    metric,
    id: id.type,
    fields: fields.map(({ name, type }) => [name, type]),
    rows: rows.rows,
    ...(shape && { shape }),
    // Only where any are given: shards of before have none.
    ...(Object.keys(index).length > 0 && { index: Object.entries(index).sort() }),
  }
  hash.update(stringifyJson(parameters))
  if (rows.ids.type === "int64") hash.update(bytesOf(rows.ids.values))
  else updateByList(hash, rows.ids.values, stringifyJson)
  hash.update(bytesOf(rows.vectors))
  for (const { name } of fields) updateByList(hash, rows.fields[name]!, stringifyJson)
  updateByList(hash, rows.payloads, (some) => JSON.stringify(some))
  return hash.digest("hex")
}

/** Values of a list whose JSON text is made at once. */
const LIST_PIECE = 16

/** The JSON text of a list, in pieces: as one it may be longer than a string can be. */
function updateByList<T>(hash: Hash, values: readonly T[], stringify: (some: readonly T[]) => string): void {
  hash.update("[")
  for (let first = 0; first < values.length; first += LIST_PIECE) {
    const text = stringify(values.slice(first, first + LIST_PIECE)).slice(1, -1)
    hash.update(first === 0 ? text : `,${text}`)
  }
  hash.update("]")
}

/** Every file below a directory, by name, with size and checksum. */
async function listFiles(dir: string): Promise<readonly ShardFile[]> {
  const files: ShardFile[] = []
  for (const path of (await filesBelow(dir)).sort()) {
    const { size } = await stat(path)
    files.push({ name: relative(dir, path).split(sep).join("/"), size, sha256: await sha256OfFile(path) })
  }
  return files
}
