/**
 * Reading a shard file. All of this is synchronous and runs in worker threads.
 */
import { closeSync, existsSync, openSync, readSync, statSync } from "node:fs"
import type Database from "better-sqlite3"
import { corrupt, isVecsnapError, unavailable } from "../../errors.js"
import { allocateVectors, createScanTable, type RowNorms, type ScanTable } from "../../vectors/scan.js"
import type { ShardSpec } from "../backend.js"
import { checkFacts, checkRowCount, describeFields } from "../stored.js"
import {
  FORMAT,
  plainSql,
  SELECT_CHUNK_VECTORS,
  SELECT_CHUNKS,
  SELECT_EXTENT,
  SELECT_META,
  SELECT_POSITION,
  SELECT_SCHEMA,
  schemaObjects,
  selectRecordSql,
  VERSION,
} from "./schema.js"
import { checkSchemaPages } from "./schema-pages.js"

/** An open shard file. Rows are counted from 0 in order of id. */
export interface OpenShard {
  readonly file: string
  readonly spec: ShardSpec
  readonly rows: number
  /** The columns of a record: id, fields in order, payload; integers as `bigint`. */
  readRecord(row: number): readonly unknown[]
  findRow(id: string | bigint): number | undefined
  /** The vector of a row, in memory of its own. */
  readVector(row: number): Float32Array
  /** The vectors of `count` rows from `first` on, row-major, in memory of their own. */
  readVectors(first: number, count: number): Float32Array
  /** All vectors, in blocks of rising rows. */
  blocks(): Iterable<Block>
  /** Reads all vectors into memory; from then on `blocks` is one block of them. */
  load(): void
  close(): void
}

/** Consecutive rows, ready to be scanned. */
export interface Block {
  readonly firstRow: number
  readonly table: ScanTable
}

/** A key and a value of the table of facts, apart from the list of fields. */
const META_BYTES = 1000

/** What does not fit into a page lies in others, which several rows can be made to lead to. */
const LONG_TEXTS = 256

interface Chunk {
  readonly id: bigint
  readonly firstRow: number
  /** Rows in use; they come first. */
  readonly rows: number
  /** Rows that there is room for. */
  readonly size: number
}

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
  #loaded: ScanTable | undefined
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
    this.rows = readRowCount(db, file, spec, { sizeBytes, expectedRows })
    this.#chunks = readChunks(db, file, this.rows, sizeBytes)
    this.#selectVectors = db.prepare(SELECT_CHUNK_VECTORS).pluck()
    this.#selectRecord = db.prepare(selectRecordSql(spec)).raw()
    this.#selectPosition = db.prepare(SELECT_POSITION).pluck()
  }

  readRecord(row: number): readonly unknown[] {
    const record = reading(this.file, () => this.#selectRecord.get(BigInt(row + 1), this.#sizeBytes))
    if (!Array.isArray(record)) {
      throw corrupt(`${this.file}: row ${row + 1} is missing, or longer than the file`, { file: this.file })
    }
    this.#texts.spend(row, record)
    return record
  }

  findRow(id: string | bigint): number | undefined {
    const position = reading(this.file, () => this.#selectPosition.get(id))
    return position === undefined ? undefined : Number(position) - 1
  }

  readVector(row: number): Float32Array {
    const { dim } = this.spec
    if (this.#loaded !== undefined) return this.#loaded.vectors.slice(row * dim, (row + 1) * dim)
    const chunk = this.#chunks[Math.floor(row / this.#chunks[0]!.size)]!
    const start = (row - chunk.firstRow) * dim
    return this.#readChunk(chunk).slice(start, start + dim)
  }

  readVectors(first: number, count: number): Float32Array {
    const { dim } = this.spec
    const end = first + count
    const vectors = new Float32Array(count * dim)
    for (const chunk of this.#chunks) {
      const from = Math.max(first, chunk.firstRow)
      const to = Math.min(end, chunk.firstRow + chunk.rows)
      if (from >= to) continue
      const source = this.#loaded?.vectors.subarray(chunk.firstRow * dim) ?? this.#readChunk(chunk)
      const start = (from - chunk.firstRow) * dim
      vectors.set(source.subarray(start, start + (to - from) * dim), (from - first) * dim)
    }
    return vectors
  }

  *blocks(): Iterable<Block> {
    if (this.#loaded !== undefined) {
      yield { firstRow: 0, table: this.#loaded }
      return
    }
    const { dim, metric } = this.spec
    for (const chunk of this.#chunks) {
      const vectors = this.#readChunk(chunk)
      const { firstRow } = chunk
      const table = createScanTable(metric, vectors, dim, this.#norms.get(firstRow))
      this.#checkFinite(table, firstRow)
      this.#norms.set(firstRow, table.norms)
      yield { firstRow, table }
    }
  }

  load(): void {
    if (this.#loaded !== undefined) return
    const { dim, metric } = this.spec
    const vectors = allocateVectors(metric, this.rows, dim)
    for (const chunk of this.#chunks) vectors.set(this.#readChunk(chunk), chunk.firstRow * dim)
    const table = createScanTable(metric, vectors, dim)
    this.#checkFinite(table, 0)
    this.#loaded = table
    this.#norms.clear()
  }

  /** A row that has a value which is no number would be at no distance, and left out without a word. */
  #checkFinite({ norms, vectors, dim }: ScanTable, firstRow: number): void {
    if (norms.ordinary) return
    const place = vectors.findIndex((value) => !Number.isFinite(value))
    if (place < 0) return
    const row = firstRow + Math.floor(place / dim) + 1
    throw corrupt(
      `${this.file}: the vector of row ${row} has ${vectors[place]} at position ${place % dim}, expected a finite number`,
      { file: this.file, row },
    )
  }

  close(): void {
    this.#loaded = undefined
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

/** The number of rows that the file says it has, once it is clear that the file belongs to the snapshot. */
function readRowCount(
  db: Database.Database,
  file: string,
  spec: ShardSpec,
  { sizeBytes, expectedRows }: { readonly sizeBytes: number; readonly expectedRows: number | undefined },
): number {
  const longest = META_BYTES + Buffer.byteLength(describeFields(spec.fields))
  const meta = new Map(db.prepare(SELECT_META).raw().all(longest) as [string, string][])
  const format = `${meta.get("format")} ${meta.get("version")}`
  if (format !== `${FORMAT} ${VERSION}`) {
    throw corrupt(`${file} has the wrong format: expected ${FORMAT} ${VERSION}, got ${format}`, { file })
  }
  const facts = {
    dim: meta.get("dim"),
    metric: meta.get("metric"),
    idType: meta.get("idType"),
    fields: meta.get("fields"),
  }
  checkFacts(file, facts, spec)
  const rows = Number(meta.get("rows"))
  checkRowCount(file, rows, expectedRows)
  // Before anything is counted up to that number: pages may lead to one another without end.
  if (rows * spec.dim * 4 > sizeBytes) {
    throw corrupt(
      `${file}: expected ${meta.get("rows")} records numbered from 1, but ${sizeBytes} bytes have no room for their vectors`,
      { file },
    )
  }
  const extent = db
    .prepare(SELECT_EXTENT)
    .raw()
    .get(Number.isSafeInteger(rows) ? rows + 1 : 0) as bigint[]
  const expected = [rows, 1, rows]
  if (!(rows >= 1) || expected.some((value, i) => Number(extent[i]) !== value)) {
    throw corrupt(`${file}: expected ${meta.get("rows")} records numbered from 1, got ${extent}`, { file })
  }
  return rows
}

/** As the file has it: a file may hold anything in a column that is not strict. */
interface StoredChunk {
  readonly chunk_id: bigint
  readonly size: unknown
  readonly validity: unknown
  readonly rowids: unknown
}

/** The chunks of the vec0 table, which must hold rowids 1 to `rows` in order and without gaps. */
function readChunks(db: Database.Database, file: string, rows: number, sizeBytes: number): Chunk[] {
  const stored = db.prepare(SELECT_CHUNKS).iterate(sizeBytes, sizeBytes) as IterableIterator<StoredChunk>
  const chunks: Chunk[] = []
  let firstRow = 0
  for (const { chunk_id: id, size: storedSize, validity, rowids } of stored) {
    const size = Number(storedSize)
    const used = Math.min(size, rows - firstRow)
    const sound =
      used > 0 &&
      size === (chunks[0]?.size ?? size) &&
      validity instanceof Uint8Array &&
      validity.byteLength === size / 8 &&
      rowids instanceof Uint8Array &&
      rowids.byteLength === size * 8 &&
      holdsRows(validity, rowids, firstRow, used)
    if (!sound)
      throw corrupt(`${file}: vector chunk ${id} does not hold rows from ${firstRow + 1} on`, { file })
    chunks.push({ id, firstRow, rows: used, size })
    firstRow += used
  }
  if (firstRow !== rows) throw corrupt(`${file}: expected vectors of ${rows} rows, got ${firstRow}`, { file })
  return chunks
}

/** Whether exactly the first `used` places of a chunk are in use, by the rows from `firstRow` on. */
function holdsRows(validity: Uint8Array, rowids: Uint8Array, firstRow: number, used: number): boolean {
  const view = new DataView(rowids.buffer, rowids.byteOffset, rowids.byteLength)
  for (let place = 0; place < validity.length * 8; place++) {
    const inUse = ((validity[place >> 3]! >> (place & 7)) & 1) === 1
    if (inUse !== place < used) return false
    if (inUse && view.getBigInt64(place * 8, true) !== BigInt(firstRow + place + 1)) return false
  }
  return true
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
