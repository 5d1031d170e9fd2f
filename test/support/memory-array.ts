/**
 * A backend that nobody should use, to show what it takes to add one: this file, and one line that registers
 * it. Shards are one file, read by ranges into arrays, which every search goes through.
 */
import { writeFile } from "node:fs/promises"
import { join } from "node:path"
import { deserialize, serialize } from "node:v8"
import { abortable } from "../../src/async/abortable.js"
import { closed, corrupt, isVecsnapError, throwIfAborted, unsupported } from "../../src/errors.js"
import { compareIds, type FieldValue, type Id, type StoredRecord } from "../../src/records.js"
import type {
  IndexDescription,
  ShardBackend,
  ShardHit,
  ShardPool,
  ShardReader,
  ShardRows,
  ShardSpec,
} from "../../src/shards/backend.js"
import { checkEmptyDirectory, checkRows, toStoredIds } from "../../src/shards/checks.js"
import { resolveIndexOptions } from "../../src/shards/options.js"
import type { ShardQuery } from "../../src/shards/query.js"
import { readAll } from "../../src/shards/read-all.js"
import { ReadersApart } from "../../src/shards/search-each.js"
import type { ShardSource } from "../../src/shards/source.js"
import {
  checkFacts,
  describeFields,
  type ShardFacts,
  type StoredColumns,
  viewRecord,
} from "../../src/shards/stored.js"
import { distance } from "../../src/vectors/distance.js"

const NAME = "memory-array"
const FILE = "rows.bin"
const DIM_MAX = 4096
const OPTIONS = {
  readRows: { about: "rows whose vectors are read at a time", least: 1, most: 2 ** 20, default: 500 },
}

/** Found under this name by `registerBackend`. */
export const backend: ShardBackend<typeof NAME> = {
  name: NAME,
  traits: { exact: true, filters: false, text: false, ranges: true },
  limits: { dim: DIM_MAX },
  figures: { vectorCopies: 1, vectorBytes: 2 ** 20 },
  knowsFile: () => true,
  options: OPTIONS,
  async assertInstalled() {},
  build: buildShard,
  createPool() {
    let isClosed = false
    const readers = new ReadersApart()
    const pool: ShardPool = {
      async open(source, spec, index) {
        if (isClosed) throw closed("the shard pool is closed")
        return readers.add(new ArrayReader(await readShard(source, spec, index)))
      },
      search: (shards, query) => readers.search(shards, query),
      async close() {
        isClosed = true
      },
    }
    return pool
  },
}

/** What the file begins with; the vectors follow. */
interface Head extends StoredColumns {
  readonly facts: ShardFacts
}

async function buildShard(
  rows: ShardRows,
  dir: string,
  spec: ShardSpec,
  options?: Readonly<Record<string, number>>,
): Promise<IndexDescription> {
  const { readRows } = resolveIndexOptions(NAME, OPTIONS, options)
  if (spec.dim > DIM_MAX)
    throw unsupported(`${NAME} shards have at most ${DIM_MAX} dimensions, got ${spec.dim}`)
  await checkEmptyDirectory(dir)
  checkRows(rows, spec)
  const { dim, metric, id } = spec
  const head: Head = {
    facts: { dim, metric, idType: id.type, fields: describeFields(spec.fields) },
    ids: [...rows.ids.values],
    fields: spec.fields.map(({ name }): readonly FieldValue[] => rows.fields[name]!),
    payloads: rows.payloads,
  }
  const headBytes = serialize(head)
  const { buffer, byteOffset, byteLength } = rows.vectors
  await writeFile(join(dir, FILE), [headBytes, new Uint8Array(buffer, byteOffset, byteLength)])
  return { kind: "array", rows: rows.rows, headBytes: headBytes.length, readRows }
}

interface OpenArrays {
  readonly file: string
  readonly spec: ShardSpec
  readonly head: Head
  readonly vectors: readonly Float32Array[]
}

async function readShard(source: ShardSource, spec: ShardSpec, index: IndexDescription): Promise<OpenArrays> {
  const file = join(source.name, FILE)
  const { kind, rows, headBytes, readRows } = index
  if (kind !== "array" || ![rows, headBytes, readRows].every((value) => Number.isSafeInteger(value)))
    throw corrupt(`${file} cannot have an index of kind "${kind}": expected "array"`, { file })
  if (source.read === undefined) throw unsupported(`${NAME} shards are read by ranges`)
  const [headPart] = await source.read(FILE, [{ start: 0, end: Number(headBytes) }])
  const head = decodeHead(headPart!, file)
  checkFacts(file, head.facts, spec)
  const vectors: Float32Array[] = []
  const rowBytes = spec.dim * 4
  for (let first = 0; first < Number(rows); first += Number(readRows)) {
    const start = Number(headBytes) + first * rowBytes
    const end = Number(headBytes) + Math.min(Number(rows), first + Number(readRows)) * rowBytes
    const [bytes] = await source.read(FILE, [{ start, end }])
    for (let at = 0; at < bytes!.length; at += rowBytes)
      vectors.push(new Float32Array(bytes!.slice(at, at + rowBytes).buffer))
  }
  if (vectors.length !== head.ids.length)
    throw corrupt(`${file} has ${head.ids.length} ids, expected ${vectors.length}`, { file })
  return { file, spec, head, vectors }
}

function decodeHead(bytes: Uint8Array, file: string): Head {
  try {
    return deserialize(bytes) as Head
  } catch (cause) {
    if (isVecsnapError(cause)) throw cause
    throw corrupt(`${file} is not a readable shard`, { file }, cause)
  }
}

class ArrayReader implements ShardReader {
  readonly #shard: OpenArrays
  readonly #running = new Set<Promise<unknown>>()
  #isClosed = false

  constructor(shard: OpenArrays) {
    this.#shard = shard
  }

  get rows(): number {
    return this.#shard.vectors.length
  }

  get bytes(): number {
    return this.rows * this.#shard.spec.dim * 4
  }

  async search({ vector, k, signal }: ShardQuery): Promise<readonly ShardHit[]> {
    throwIfAborted(signal)
    const { spec, vectors, head, file } = this.#shard
    const nearest = () =>
      vectors
        .map((stored, row) => ({ row, distance: distance(spec.metric, vector, stored) }))
        .sort((a, b) => a.distance - b.distance || compareIds(head.ids[a.row]!, head.ids[b.row]!))
        .slice(0, k)
    const found = await abortable(this.#run(nearest), signal)
    return found.map(({ row, distance }) => ({ ...viewRecord(head, row, spec, file), distance }))
  }

  async get(ids: readonly Id[]): Promise<readonly (StoredRecord | undefined)[]> {
    const wanted = toStoredIds(ids, this.#shard.spec)
    return this.#run(() => {
      const rows = new Map(this.#shard.head.ids.map((id, row) => [id, row]))
      return wanted.map((id) => (rows.has(id) ? this.#record(rows.get(id)!) : undefined))
    })
  }

  records(): AsyncIterable<readonly StoredRecord[]> {
    return readAll(this.rows, this.#shard.spec.dim, (first, count) =>
      this.#run(() => Array.from({ length: count }, (_, i) => this.#record(first + i))),
    )
  }

  async close(): Promise<void> {
    this.#isClosed = true
    await Promise.allSettled(this.#running)
    await nextTurn()
  }

  #record(row: number): StoredRecord {
    const { head, spec, file, vectors } = this.#shard
    return { ...viewRecord(head, row, spec, file), vector: vectors[row]!.slice() }
  }

  /** In a turn of its own, so that an abort comes through before it. */
  async #run<T>(work: () => T): Promise<T> {
    if (this.#isClosed) throw closed(`${this.#shard.file} is closed`)
    const running = nextTurn().then(work)
    this.#running.add(running)
    try {
      return await running
    } finally {
      this.#running.delete(running)
    }
  }
}

const nextTurn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))
