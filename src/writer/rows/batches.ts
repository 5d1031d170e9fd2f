/**
 * Operations on record batches, and their form in the scratch store.
 *
 * A block file is a sequence of batches: two little-endian 32-bit lengths in bytes, all but the vectors in
 * V8's structured clone format (which keeps typed arrays and 64-bit integers as they are), and the vectors as
 * they lie in memory, which are most of it. Such files live for one run on one host.
 */
import { deserialize, serialize } from "node:v8"
import { corrupt } from "../../errors.js"
import type { FieldValue, IdColumn, RecordBatch } from "../../records.js"
import type { Scratch, ScratchReader } from "../scratch.js"

/** The columns of a batch that are stored, without where they came from. */
export type Columns = Omit<RecordBatch, "origin" | "shards">

/** The given rows of a batch, in the given order. */
export function takeRows(batch: RecordBatch, rows: ArrayLike<number>): RecordBatch {
  const { shards, origin } = batch
  return {
    ...takeColumns(batch, rows),
    ...(shards && { shards: Int32Array.from(rows, (row) => shards[row]!) }),
    origin: { ...origin, rows: Float64Array.from(rows, (row) => origin.rows[row]!) },
  }
}

/** The given rows of columns, in the given order. */
export function takeColumns(columns: Columns, rows: ArrayLike<number>): Columns {
  const { dim, ids } = columns
  const pick = <T>(column: readonly T[]): T[] => Array.from(rows, (row) => column[row]!)
  const vectors = new Float32Array(rows.length * dim)
  for (let i = 0; i < rows.length; i++) {
    const row = rows[i]!
    vectors.set(columns.vectors.subarray(row * dim, (row + 1) * dim), i * dim)
  }
  return {
    rows: rows.length,
    dim,
    ids: takeIds(ids, rows),
    vectors,
    fields: Object.fromEntries(Object.entries(columns.fields).map(([name, column]) => [name, pick(column)])),
    payloads: pick(columns.payloads),
  }
}

function takeIds(ids: IdColumn, rows: ArrayLike<number>): IdColumn {
  if (ids.type === "string") return { type: "string", values: Array.from(rows, (row) => ids.values[row]!) }
  return { type: "int64", values: BigInt64Array.from(rows, (row) => ids.values[row]!) }
}

/**
 * The rows of all batches, of which there is at least one; all must have the same dimension, id type and
 * fields.
 */
export function concatBatches(batches: readonly RecordBatch[]): Columns {
  const [first] = batches as readonly [RecordBatch]
  const rows = batches.reduce((sum, batch) => sum + batch.rows, 0)
  const vectors = new Float32Array(rows * first.dim)
  const fields: Record<string, FieldValue[]> = {}
  for (const name of Object.keys(first.fields)) fields[name] = batches.flatMap((batch) => batch.fields[name]!)
  let offset = 0
  for (const batch of batches) {
    vectors.set(batch.vectors, offset)
    offset += batch.vectors.length
  }
  return {
    rows,
    dim: first.dim,
    ids: concatIds(batches, rows),
    vectors,
    fields,
    payloads: batches.flatMap((batch) => batch.payloads),
  }
}

/** Joined batches are not larger, by {@link batchBytes}, unless one was before. */
const JOINED_BYTES = 4 * 2 ** 20

/**
 * The same rows in fewer batches, each of one file, since small ones take long to write and read. Without
 * shards that rows were given.
 */
export function* joinBatches(batches: readonly RecordBatch[]): Generator<RecordBatch> {
  let run: RecordBatch[] = []
  let runBytes = 0
  for (const batch of batches) {
    const { file, unit } = batch.origin
    const last = run.at(-1)?.origin
    const bytes = batchBytes(batch)
    if (last && (last.file !== file || last.unit !== unit || runBytes + bytes > JOINED_BYTES)) {
      yield joined(run)
      run = []
      runBytes = 0
    }
    run.push(batch)
    runBytes += bytes
  }
  if (run.length > 0) yield joined(run)
}

function joined(batches: readonly RecordBatch[]): RecordBatch {
  const columns = concatBatches(batches)
  const rows = new Float64Array(columns.rows)
  let at = 0
  for (const { origin } of batches) {
    rows.set(origin.rows, at)
    at += origin.rows.length
  }
  return { ...columns, origin: { ...batches[0]!.origin, rows } }
}

function concatIds(batches: readonly RecordBatch[], rows: number): IdColumn {
  if (batches[0]!.ids.type === "string") {
    return { type: "string", values: batches.flatMap((batch) => batch.ids.values as readonly string[]) }
  }
  const values = new BigInt64Array(rows)
  let offset = 0
  for (const batch of batches) {
    values.set(batch.ids.values as BigInt64Array, offset)
    offset += batch.rows
  }
  return { type: "int64", values }
}

/** Rough size of a batch in memory and on disk, in bytes; to decide when to write. */
export function batchBytes(batch: RecordBatch): number {
  const { rows, dim } = batch
  const text = batch.payloads.reduce((sum, payload) => sum + (payload?.length ?? 0), 0)
  return rows * (4 * dim + 40 + 16 * Object.keys(batch.fields).length) + text
}

/** A batch in few pieces of memory, which the garbage collector need not go through. */
export interface PackedBatch {
  /** All but the vectors, in V8's structured clone format. */
  readonly columns: Buffer
  readonly vectors: Float32Array
}

export const packBatch = ({ vectors, ...columns }: RecordBatch): PackedBatch => ({
  columns: serialize(columns),
  vectors,
})

export const unpackBatch = ({ columns, vectors }: PackedBatch): RecordBatch => ({
  ...deserialize(columns),
  vectors,
})

/** Appends batches to a block file, made if it does not exist. */
export async function appendBlocks(
  scratch: Scratch,
  name: string,
  batches: Iterable<RecordBatch>,
): Promise<void> {
  await scratch.append(name, blocksOf(batches))
}

function* blocksOf(batches: Iterable<RecordBatch>): Generator<Uint8Array> {
  for (const batch of batches) {
    const { columns, vectors } = packBatch(batch)
    const head = Buffer.alloc(HEAD_BYTES)
    head.writeUInt32LE(columns.length)
    head.writeUInt32LE(vectors.byteLength, 4)
    yield Buffer.concat([head, columns])
    yield new Uint8Array(vectors.buffer, vectors.byteOffset, vectors.byteLength)
  }
}

const HEAD_BYTES = 8

/**
 * The batches of a block file, in the order they were appended. Throws `NotFound` if it does not exist,
 * `Corrupt` if it was cut.
 */
export async function* readBlocks(scratch: Scratch, name: string): AsyncGenerator<RecordBatch> {
  const reader = await scratch.read(name)
  const path = scratch.path(name)
  try {
    const head = Buffer.alloc(HEAD_BYTES)
    while (await readFully(reader, head, path)) {
      const columns = Buffer.alloc(head.readUInt32LE())
      const vectors = new Float32Array(head.readUInt32LE(4) / Float32Array.BYTES_PER_ELEMENT)
      const isWhole =
        (await readFully(reader, columns, path)) &&
        (await readFully(reader, new Uint8Array(vectors.buffer), path))
      if (!isWhole) throw cut(path)
      yield unpackBatch({ columns, vectors })
    }
  } finally {
    await reader.close()
  }
}

/** Fills the buffer; false at the end of the file. */
async function readFully(reader: ScratchReader, buffer: Uint8Array, path: string): Promise<boolean> {
  const filled = await reader.fill(buffer)
  if (filled < buffer.length && filled > 0) throw cut(path)
  return filled === buffer.length
}

const cut = (path: string): Error => corrupt(`${path} ends in the middle of a block`, { path })
