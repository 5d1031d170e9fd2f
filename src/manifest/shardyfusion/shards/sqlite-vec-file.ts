/**
 * A shard of sqlite-vec as shardyfusion writes it, `shard.db`: a `vec0` table in order of insertion, JSON
 * texts of ids and payloads by its rowids. Loaded in search threads.
 *
 * Rows are handed out in order of id, as all shards do: ids are read when the file is opened, and vectors are
 * brought into that order when they are read.
 */
import type Database from "better-sqlite3"
import { corrupt, messageOf } from "../../../errors.js"
import { compareIds, type Json } from "../../../records.js"
import type { ShardSpec } from "../../../shards/backend.js"
import {
  asFloats,
  type Block,
  type OpenShard,
  reading,
  TextBudget,
  withShardFile,
} from "../../../shards/sqlite-vec/open.js"
import { checkRowCount } from "../../../shards/stored.js"
import { allocateVectors, createScanTable } from "../../../vectors/scan.js"
import { vectorProblem } from "../../../vectors/validate.js"
import { parsePythonJson } from "../json.js"
import { checkTable } from "../sqlite.js"
import { parseDeclaration, SELECT_DECLARATION } from "./declaration.js"

/** See {@link OpenShard}; opened as shards of our own backend are. */
export function openShardFile(
  Sqlite: typeof Database,
  file: string,
  spec: ShardSpec,
  expectedRows?: number | undefined,
): OpenShard {
  return withShardFile(Sqlite, file, (db, sizeBytes) => {
    checkTable(db, file, "vec_index_chunks", ["chunk_id", "size", "validity", "rowids"])
    checkTable(db, file, "vec_index_vector_chunks00", ["rowid", "vectors"])
    checkTable(db, file, "vec_id_map", ["internal_id", "original_id"])
    checkTable(db, file, "vec_payloads", ["rowid", "payload"])
    const { dim, metric } = parseDeclaration(db.prepare(SELECT_DECLARATION).pluck().get(), file)
    if (dim !== spec.dim || metric !== spec.metric) {
      throw corrupt(
        `${file} has ${dim} dimensions and the metric ${metric}, others of its snapshot ${spec.dim} and ${spec.metric}`,
        { file },
      )
    }
    const shard = new ForeignShard(db, file, spec, sizeBytes)
    checkRowCount(file, shard.rows, expectedRows)
    return shard
  })
}

/** A row by where it lies. */
interface Place {
  readonly id: string | bigint
  /** Rowid in all tables. */
  readonly internal: bigint
  readonly chunk: number
  /** Place in the chunk. */
  readonly offset: number
}

interface Chunk {
  readonly id: bigint
  readonly size: number
}

class ForeignShard implements OpenShard {
  readonly #db: Database.Database
  readonly #chunks: readonly Chunk[]
  /** In order of id. */
  readonly #rows: readonly Place[]
  readonly #texts: TextBudget
  readonly #selectVectors: Database.Statement
  readonly #selectPayload: Database.Statement
  /** All vectors, while they are read row after row. */
  #gathered: Float32Array | undefined

  constructor(
    db: Database.Database,
    readonly file: string,
    readonly spec: ShardSpec,
    sizeBytes: number,
  ) {
    this.#db = db
    this.#texts = new TextBudget(file, sizeBytes)
    const { chunks, places } = readChunks(db, file, spec, sizeBytes)
    this.#chunks = chunks
    this.#rows = withIds(db, file, places, sizeBytes)
    this.#selectVectors = db.prepare("SELECT vectors FROM vec_index_vector_chunks00 WHERE rowid = ?").pluck()
    this.#selectPayload = db.prepare("SELECT payload FROM vec_payloads WHERE rowid = ?").pluck()
  }

  get rows(): number {
    return this.#rows.length
  }

  readRecord(row: number): readonly unknown[] {
    const { id, internal } = this.#rows[row]!
    const payload = reading(this.file, () => this.#selectPayload.get(internal)) ?? null
    this.#texts.spend(row, [payload])
    return [id, payload]
  }

  findRow(id: string | bigint): number | undefined {
    let [low, high] = [0, this.#rows.length]
    while (low < high) {
      const middle = (low + high) >> 1
      if (compareIds(this.#rows[middle]!.id, id) < 0) low = middle + 1
      else high = middle
    }
    return this.#rows[low] !== undefined && compareIds(this.#rows[low]!.id, id) === 0 ? low : undefined
  }

  readVector(row: number): Float32Array {
    const { dim } = this.spec
    const { chunk, offset } = this.#rows[row]!
    return this.#readChunk(chunk).slice(offset * dim, (offset + 1) * dim)
  }

  readVectors(first: number, count: number): Float32Array {
    const { dim } = this.spec
    // Rows that follow one another by id lie anywhere: brought together once, they are all at hand.
    if (this.#gathered === undefined) {
      this.#gathered = new Float32Array(this.rows * dim)
      this.#gather(this.#gathered)
    }
    const vectors = this.#gathered.slice(first * dim, (first + count) * dim)
    if (first + count >= this.rows) this.#gathered = undefined
    return vectors
  }

  readStored(positions: Uint32Array): Float32Array {
    const { dim } = this.spec
    const vectors = new Float32Array(positions.length * dim)
    for (const [i, row] of positions.entries()) vectors.set(this.readVector(row), i * dim)
    return vectors
  }

  blocks(): Iterable<Block> {
    const { dim, metric } = this.spec
    const vectors = allocateVectors(metric, this.rows, dim)
    const allowed = this.fill(vectors)
    return [{ firstRow: 0, table: createScanTable(metric, vectors, dim), allowed }]
  }

  /** What cannot be ranked: the reference takes any vector, also one without finite values. */
  fill(vectors: Float32Array): Uint8Array | undefined {
    const { dim, metric } = this.spec
    this.#gather(vectors)
    let allowed: Uint8Array | undefined
    for (let row = 0; row < this.rows; row++) {
      const vector = vectors.subarray(row * dim, (row + 1) * dim)
      if (vectorProblem(vector, dim, metric) === undefined) continue
      vector.fill(0)
      allowed ??= new Uint8Array(Math.ceil(this.rows / 8)).fill(255)
      allowed[row >> 3]! &= ~(1 << (row & 7))
    }
    return allowed
  }

  close(): void {
    this.#gathered = undefined
    this.#db.close()
  }

  /** All vectors in order of id. */
  #gather(vectors: Float32Array): void {
    const { dim } = this.spec
    const rowsOf = this.#chunks.map((): number[] => [])
    this.#rows.forEach(({ chunk }, row) => void rowsOf[chunk]!.push(row))
    for (const [chunk, rows] of rowsOf.entries()) {
      if (rows.length === 0) continue
      const stored = this.#readChunk(chunk)
      for (const row of rows) {
        const { offset } = this.#rows[row]!
        vectors.set(stored.subarray(offset * dim, (offset + 1) * dim), row * dim)
      }
    }
  }

  #readChunk(chunk: number): Float32Array {
    const { id, size } = this.#chunks[chunk]!
    const bytes = reading(this.file, () => this.#selectVectors.get(id))
    const length = size * this.spec.dim
    if (!(bytes instanceof Uint8Array) || bytes.byteLength !== length * 4) {
      const got = bytes instanceof Uint8Array ? `${bytes.byteLength} bytes` : String(bytes)
      throw corrupt(`${this.file}: vector chunk ${id} expected ${length * 4} bytes, got ${got}`, {
        file: this.file,
      })
    }
    return asFloats(bytes, length)
  }
}

/** Where rows lie, without their ids. */
type Slot = Omit<Place, "id">

function readChunks(
  db: Database.Database,
  file: string,
  { dim }: ShardSpec,
  sizeBytes: number,
): { readonly chunks: readonly Chunk[]; readonly places: readonly Slot[] } {
  const stored = db
    .prepare("SELECT chunk_id, size, validity, rowids FROM vec_index_chunks")
    .raw()
    .iterate() as IterableIterator<[bigint, unknown, unknown, unknown]>
  const chunks: Chunk[] = []
  const places: Slot[] = []
  let bytes = 0
  for (const [id, storedSize, validity, rowids] of stored) {
    const size = Number(storedSize)
    bytes += size * dim * 4
    const isSound =
      Number.isSafeInteger(size) &&
      size > 0 &&
      size % 8 === 0 &&
      bytes <= sizeBytes &&
      validity instanceof Uint8Array &&
      validity.byteLength === size / 8 &&
      rowids instanceof Uint8Array &&
      rowids.byteLength === size * 8
    if (!isSound) throw corrupt(`${file}: vector chunk ${id} is not one of ${size} rows`, { file })
    const view = new DataView(rowids.buffer, rowids.byteOffset, rowids.byteLength)
    for (let offset = 0; offset < size; offset++) {
      if (((validity[offset >> 3]! >> (offset & 7)) & 1) === 1)
        places.push({ internal: view.getBigInt64(offset * 8, true), chunk: chunks.length, offset })
    }
    chunks.push({ id, size })
  }
  return { chunks, places }
}

/** The rows with their ids, in the order of these; of rows with one id, in the order of insertion. */
function withIds(
  db: Database.Database,
  file: string,
  places: readonly Slot[],
  sizeBytes: number,
): readonly Place[] {
  const texts = new TextBudget(file, sizeBytes)
  const select = db.prepare("SELECT original_id FROM vec_id_map WHERE internal_id = ?").pluck()
  const seen = new Set<bigint>()
  const rows = places.map((place, row) => {
    if (seen.has(place.internal)) throw corrupt(`${file}: row ${place.internal} is there twice`, { file })
    seen.add(place.internal)
    const text = reading(file, () => select.get(place.internal))
    texts.spend(row, [text])
    return { ...place, id: parseId(text, place.internal, file) }
  })
  return rows.sort((a, b) => compareIds(a.id, b.id) || compareIds(a.internal, b.internal))
}

/** An id from its JSON; that of a row without one is the row's own number, as the reference has it. */
function parseId(text: unknown, internal: bigint, file: string): string | bigint {
  if (text === undefined) return internal
  const fail = (problem: string, cause?: unknown): Error =>
    corrupt(`${file}: the id of row ${internal} ${problem}`, { file }, cause)
  if (typeof text !== "string") throw fail("is no text")
  let stored: Json
  try {
    stored = parsePythonJson(text)
  } catch (error) {
    throw fail(`is not JSON: ${messageOf(error)}`, error)
  }
  const { v, t } = (stored ?? {}) as { readonly v?: Json; readonly t?: Json }
  if (t !== "int") {
    if (typeof v === "string") return v
    throw fail("is no string")
  }
  const isInteger = typeof v === "bigint" || Number.isSafeInteger(v)
  const integer = isInteger ? BigInt(v as number | bigint) : undefined
  if (integer !== undefined && BigInt.asIntN(64, integer) === integer) return integer
  throw fail("is no 64-bit integer")
}
