/**
 * Reading a shard file. All of this is synchronous and runs in worker threads.
 */
import { closeSync, existsSync, openSync, readSync, statSync } from "node:fs"
import type Database from "better-sqlite3"
import { corrupt, isVecsnapError, unavailable } from "../../errors.js"
import { createScanTable, type RowNorms, type ScanTable } from "../../vectors/scan.js"
import type { ShardSpec } from "../backend.js"
import { type PlacedCells, readCells } from "./cells.js"
import { type Chunk, readChunks, readFacts } from "./facts.js"
import { openRows } from "./pages/rows.js"
import { decodePageTable, type PageTable } from "./pages/table.js"
import {
  plainSql,
  SELECT_CHUNK_VECTORS,
  SELECT_POSITION,
  SELECT_SCHEMA,
  schemaObjects,
  selectRecordSql,
} from "./schema.js"
import { checkSchemaPages } from "./schema-pages.js"

/** An open shard file. Rows are counted from 0 in order of id, wherever they lie. */
export interface OpenShard {
  readonly file: string
  readonly spec: ShardSpec
  readonly rows: number
  /** Where the rows are stored in another order than that of their ids. */
  readonly cells?: PlacedCells | undefined
  /** The columns of a record: id, fields in order, payload; integers as `bigint`. */
  readRecord(row: number): readonly unknown[]
  findRow(id: string | bigint): number | undefined
  /** The vector of a row, in memory of its own. */
  readVector(row: number): Float32Array
  /** The vectors of `count` rows from `first` on, row-major, in memory of their own. */
  readVectors(first: number, count: number): Float32Array
  /** The vectors of rows by where they are stored, in rising order, row-major, in memory of their own. */
  readStored(positions: Uint32Array): Float32Array
  /** All vectors, in blocks in the order in which they are stored. */
  blocks(): Iterable<Block>
  /**
   * Writes the vectors of all rows in that order. Returns which of them can be ranked, a bit a row, the
   * lowest first, if not all can; the others are zeros then.
   */
  fill(vectors: Float32Array): Uint8Array | undefined
  close(): void
}

/** Rows that are stored one after another, ready to be scanned. */
export interface Block {
  readonly firstRow: number
  /** The rows, where they do not follow one another from `firstRow` on. */
  readonly ranks?: Uint32Array | undefined
  readonly table: ScanTable
  /** A bit a row, the lowest first, of those that may be found; absent where all may. */
  readonly allowed?: Uint8Array | undefined
}

/** What does not fit into a page lies in others, which several rows can be made to lead to. */
const LONG_TEXTS = 256

/**
 * Rows of a sound file do not share what they hold, so that all of them together are shorter than the file.
 * In a hostile one many may lead to the same pages, and an answer would be as large as their number makes it.
 */
export class TextBudget {
  readonly #file: string
  readonly #sizeBytes: number
  /** Rows whose texts are long, once they were read, and the sum of these. */
  readonly #longRows = new Set<number>()
  #longTexts = 0

  constructor(file: string, sizeBytes: number) {
    this.#file = file
    this.#sizeBytes = sizeBytes
  }

  /** Throws `Corrupt` when the texts of the rows that were read are longer than the file. */
  spend(row: number, record: readonly unknown[]): void {
    const length = record.reduce(
      (sum: number, value) => sum + (typeof value === "string" ? value.length : 0),
      0,
    )
    if (length < LONG_TEXTS || this.#longRows.has(row)) return
    if (this.#longTexts + length > this.#sizeBytes) {
      throw corrupt(
        `${this.#file}: its records are longer than its ${this.#sizeBytes} bytes: they share pages`,
        { file: this.#file },
      )
    }
    this.#longRows.add(row)
    this.#longTexts += length
  }
}

/** Opens and validates a shard file. Throws `Corrupt`, naming the file, if it is not what `spec` says. */
export function openShardFile(
  Sqlite: typeof Database,
  file: string,
  spec: ShardSpec,
  expectedRows?: number | undefined,
): OpenShard {
  return withShardFile(Sqlite, file, (db, sizeBytes) => {
    checkSchema(db, file, spec)
    return new SqliteShard(db, file, spec, sizeBytes, expectedRows)
  })
}

/**
 * Opens a database file that comes from elsewhere, for reading only. Throws `Corrupt`, naming it, if it is
 * missing, no whole database, or has another file beside it.
 */
export function withShardFile(
  Sqlite: typeof Database,
  file: string,
  use: (db: Database.Database, sizeBytes: number) => OpenShard,
): OpenShard {
  // SQLite reports a missing file as one that it cannot open, which may have other causes.
  const sizeBytes = statSync(file, { throwIfNoEntry: false })?.size
  if (sizeBytes === undefined) throw corrupt(`${file} is missing`, { file })
  return reading(file, () => {
    assertAlone(file)
    checkSchemaPages(file, sizeBytes)
    const db = new Sqlite(file, { readonly: true, fileMustExist: true })
    try {
      // The file comes from elsewhere: its schema may not call functions with side effects. Extensions cannot
      // be loaded by SQL, and the driver leaves SQLite's defensive mode on.
      db.pragma("trusted_schema = OFF")
      db.pragma("query_only = ON")
      db.pragma("cell_size_check = ON")
      // In KiB. Many shards are open at once, and each would come to hold 16 MB of pages.
      db.pragma("cache_size = -1024")
      db.defaultSafeIntegers(true)
      // One transaction for all that is read: the file never changes, and to lock, check and unlock it for
      // every record would take several times as long as to read it.
      db.exec("BEGIN")
      checkSize(db, file, sizeBytes)
      return use(db, sizeBytes)
    } catch (error) {
      db.close()
      throw error
    }
  })
}

class SqliteShard implements OpenShard {
  readonly rows: number
  readonly #db: Database.Database
  readonly #chunks: readonly Chunk[]
  readonly #selectVectors: Database.Statement
  readonly #selectRecord: Database.Statement
  readonly #selectPosition: Database.Statement
  readonly #texts: TextBudget
  readonly #sizeBytes: number
  /** All vectors in order of id, while they are read row after row. */
  #gathered: Float32Array | undefined
  readonly cells: PlacedCells | undefined
  #pages: PageTable | undefined
  // Of each chunk, by its first row, where vectors are read from the file: small, and costlier to compute
  // than a scan.
  readonly #norms = new Map<number, RowNorms>()

  constructor(
    db: Database.Database,
    readonly file: string,
    readonly spec: ShardSpec,
    sizeBytes: number,
    expectedRows: number | undefined,
  ) {
    this.#db = db
    this.#sizeBytes = sizeBytes
    this.#texts = new TextBudget(file, sizeBytes)
    const { rows, byCell } = readFacts(db, file, spec, { sizeBytes, expectedRows })
    this.rows = rows
    this.#chunks = readChunks(db, file, this.rows, sizeBytes)
    this.cells = byCell ? readCells(file, spec, { rows, bytes: sizeBytes }) : undefined
    this.#selectVectors = db.prepare(SELECT_CHUNK_VECTORS).pluck()
    this.#selectRecord = db.prepare(selectRecordSql(spec)).raw()
    this.#selectPosition = db.prepare(SELECT_POSITION).pluck()
  }

  #positionOf(row: number): number {
    return this.cells?.positions[row] ?? row
  }

  readRecord(row: number): readonly unknown[] {
    const number = this.#positionOf(row) + 1
    const record = reading(this.file, () => this.#selectRecord.get(BigInt(number), this.#sizeBytes))
    if (!Array.isArray(record)) {
      throw corrupt(`${this.file}: row ${number} is missing, or longer than the file`, { file: this.file })
    }
    this.#texts.spend(row, record)
    return record
  }

  findRow(id: string | bigint): number | undefined {
    const position = reading(this.file, () => this.#selectPosition.get(id))
    if (position === undefined) return undefined
    const place = Number(position) - 1
    return this.cells?.ranks[place] ?? place
  }

  readVector(row: number): Float32Array {
    const { dim } = this.spec
    const place = this.#positionOf(row)
    const chunk = this.#chunks[Math.floor(place / this.#chunks[0]!.size)]!
    const start = (place - chunk.firstRow) * dim
    return this.#readChunk(chunk).slice(start, start + dim)
  }

  readVectors(first: number, count: number): Float32Array {
    const { dim } = this.spec
    const end = first + count
    if (this.cells !== undefined) {
      // Rows that follow one another by id lie anywhere: brought together once, they are all at hand.
      this.#gathered ??= this.#gather(this.cells)
      const some = this.#gathered.slice(first * dim, end * dim)
      if (end >= this.rows) this.#gathered = undefined
      return some
    }
    const vectors = new Float32Array(count * dim)
    for (const chunk of this.#chunks) {
      const from = Math.max(first, chunk.firstRow)
      const to = Math.min(end, chunk.firstRow + chunk.rows)
      if (from >= to) continue
      const source = this.#readChunk(chunk)
      const start = (from - chunk.firstRow) * dim
      vectors.set(source.subarray(start, start + (to - from) * dim), (from - first) * dim)
    }
    return vectors
  }

  #gather({ positions }: PlacedCells): Float32Array {
    const { dim } = this.spec
    const stored = this.#readAll(new Float32Array(this.rows * dim))
    const vectors = new Float32Array(stored.length)
    for (const [row, place] of positions.entries()) {
      vectors.set(stored.subarray(place * dim, (place + 1) * dim), row * dim)
    }
    return vectors
  }

  readStored(positions: Uint32Array): Float32Array {
    const { dim } = this.spec
    const vectors = new Float32Array(positions.length * dim)
    if (this.cells === undefined || this.cells.database.pages.length === 0)
      this.#readByChunk(positions, vectors)
    else this.#readByPage(this.cells.database.pages, positions, vectors)
    this.#checkVectors(vectors, (i) => positions[i]!)
    return vectors
  }

  #readByPage(pages: Uint8Array, positions: Uint32Array, vectors: Float32Array): void {
    const { dim } = this.spec
    const facts = { bytes: this.#sizeBytes, rows: this.rows, rowBytes: dim * 4 }
    this.#pages ??= decodePageTable(pages, facts, `the cells of ${this.file}`)
    // SQLite has the file open as well: a second number for each of many shards would soon be too much.
    const descriptor = openSync(this.file, "r")
    try {
      openRows(descriptor, this.#pages, dim, this.file).read(positions, vectors)
    } finally {
      closeSync(descriptor)
    }
  }

  #readByChunk(positions: Uint32Array, vectors: Float32Array): void {
    const { dim } = this.spec
    const { size } = this.#chunks[0]!
    let chunk: Chunk | undefined
    let stored: Float32Array = vectors
    for (const [i, position] of positions.entries()) {
      const next = this.#chunks[Math.floor(position / size)]!
      if (next !== chunk) {
        chunk = next
        stored = this.#readChunk(chunk)
      }
      const start = (position - chunk.firstRow) * dim
      vectors.set(stored.subarray(start, start + dim), i * dim)
    }
  }

  *blocks(): Iterable<Block> {
    const ranks = this.cells?.ranks
    const { dim, metric } = this.spec
    for (const chunk of this.#chunks) {
      const vectors = this.#readChunk(chunk)
      const { firstRow } = chunk
      const table = createScanTable(metric, vectors, dim, this.#norms.get(firstRow))
      this.#checkFinite(table, firstRow)
      this.#norms.set(firstRow, table.norms)
      yield { firstRow, ranks: ranks?.subarray(firstRow), table }
    }
  }

  fill(vectors: Float32Array): undefined {
    this.#checkVectors(this.#readAll(vectors), (row) => row)
  }

  /** Fills `into` with the vectors as they are stored. */
  #readAll(into: Float32Array): Float32Array {
    for (const chunk of this.#chunks) into.set(this.#readChunk(chunk), chunk.firstRow * this.spec.dim)
    return into
  }

  #checkFinite({ norms, vectors }: ScanTable, firstRow: number): void {
    if (!norms.ordinary) this.#checkVectors(vectors, (row) => firstRow + row)
  }

  /** A row that has a value which is no number would be at no distance, and left out without a word. */
  #checkVectors(vectors: Float32Array, positionOf: (row: number) => number): void {
    if (hasFiniteSum(vectors)) return
    const { dim } = this.spec
    const place = vectors.findIndex((value) => !Number.isFinite(value))
    if (place < 0) return
    const row = positionOf(Math.floor(place / dim)) + 1
    throw corrupt(
      `${this.file}: the vector of row ${row} has ${vectors[place]} at position ${place % dim}, expected a finite number`,
      { file: this.file, row },
    )
  }

  close(): void {
    this.#gathered = undefined
    this.#db.close()
  }

  /** Vectors of the rows in use. */
  #readChunk(chunk: Chunk): Float32Array {
    const expected = chunk.size * this.spec.dim * 4
    const bytes = reading(this.file, () => this.#selectVectors.get(expected, chunk.id))
    if (!(bytes instanceof Uint8Array)) {
      const got = typeof bytes === "bigint" ? `${bytes} bytes` : String(bytes)
      throw corrupt(`${this.file}: vector chunk ${chunk.id} expected ${expected} bytes, got ${got}`, {
        file: this.file,
      })
    }
    return asFloats(bytes, chunk.rows * this.spec.dim)
  }
}

/**
 * A shard has neither journal nor write-ahead log: SQLite would play back what lies beside the file under
 * such a name, and for a file whose header asks for a log it would write one.
 */
function assertAlone(file: string): void {
  for (const suffix of ["-journal", "-wal", "-shm"]) {
    if (existsSync(file + suffix))
      throw corrupt(`${file} has ${file}${suffix} beside it, expected it to be alone`, { file })
  }
  const header = Buffer.alloc(20)
  const descriptor = openSync(file, "r")
  try {
    readSync(descriptor, header)
  } finally {
    closeSync(descriptor)
  }
  // "File format write version" and "read version": 1 for rollback journals, 2 for a write-ahead log.
  const [write, read] = [header[18], header[19]]
  if (write !== 1 || read !== 1)
    throw corrupt(`${file} has the file format ${write}/${read}, expected 1/1`, { file })
}

/** Numbers of which one is not finite have no finite sum; others may have none, either. */
function hasFiniteSum(values: Float32Array): boolean {
  let sum = 0
  for (let i = 0; i < values.length; i++) sum += values[i]!
  return Number.isFinite(sum)
}

/** The first `length` floats of a blob; copied only if they do not lie where a Float32Array can. */
export function asFloats(blob: Uint8Array, length: number): Float32Array {
  const bytes = blob.byteOffset % 4 === 0 ? blob : new Uint8Array(blob)
  return new Float32Array(bytes.buffer, bytes.byteOffset, length)
}

/** SQLite notices missing pages, but fills up a last page that is incomplete. */
function checkSize(db: Database.Database, file: string, sizeBytes: number): void {
  const pages = db.pragma("page_count", { simple: true }) as bigint
  const pageBytes = db.pragma("page_size", { simple: true }) as bigint
  if (BigInt(sizeBytes) !== pages * pageBytes) {
    throw corrupt(`${file} is incomplete: expected ${pages * pageBytes} bytes, got ${sizeBytes}`, { file })
  }
}

/** Looks at what there is before it is queried: exactly what a shard has, and nothing beside it. */
function checkSchema(db: Database.Database, file: string, spec: ShardSpec): void {
  const missing = new Map(schemaObjects(spec))
  for (const row of db.prepare(SELECT_SCHEMA).raw().iterate()) {
    const [type, name, sql] = row as [string, string, string | null]
    const expected = missing.get(name)
    const isAsMade =
      type === (expected === null ? "index" : "table") &&
      (sql === expected || (typeof sql === "string" && plainSql(sql) === expected))
    if (!isAsMade) {
      throw corrupt(`${file} has the ${type} "${name}", which is not that of a shard`, { file, name, sql })
    }
    missing.delete(name)
  }
  const [name] = missing.keys()
  if (name !== undefined) throw corrupt(`${file} has no table "${name}"`, { file, name })
}

// What SQLite says of a file that is damaged or is no database of ours, as opposed to a machine in trouble.
const DAMAGE = /^SQLITE_(CORRUPT|NOTADB|FORMAT|ERROR|MISMATCH|TOOBIG|SCHEMA)/

/** Runs a read of the file and turns SQLite's errors into ours. */
export function reading<T>(file: string, read: () => T): T {
  try {
    return read()
  } catch (error) {
    if (isVecsnapError(error) || !(error instanceof Error) || !("code" in error)) throw error
    if (DAMAGE.test(String(error.code))) {
      throw corrupt(`${file} is not a readable shard: ${error.message}`, { file, code: error.code }, error)
    }
    throw unavailable(`${file} could not be read: ${error.message}`, { file, code: error.code }, error)
  }
}
