/**
 * Whole searches through cells of shards that lie in one memory: candidates by their codes, then their exact
 * distances, or the exact distances of all rows.
 */
import { corrupt, invalidInput } from "../../errors.js"
import { TopK } from "../topk.js"
import type { Books } from "./books.js"
import { cellsFor } from "./effort.js"
import { ExactDistances, exactBytes } from "./exact.js"
import { type CellsFile, checkCodes, decodeCells } from "./file.js"
import { type CellKernel, createCellKernel, createCellMemory } from "./kernel.js"
import { Places } from "./places.js"
import { recordBytes, type ShardRecord, writeRecords } from "./records.js"
import { CellScan, type ScanLimits, type ScanOptions, scanBytes } from "./scan.js"
import type { CellSpace } from "./space.js"

/** A shard to be searched. */
export interface CellShard {
  /** Its `cells.bin`. */
  readonly cells: Uint8Array
  /** Its rows by position, `rows × dim`. */
  readonly vectors: Float32Array
}

interface PreparedShard {
  readonly file: CellsFile
  /** Absent for shards without codes. */
  readonly record: ShardRecord | undefined
  readonly vectorsAt: number
  /** Number of its first row among those of all shards. */
  readonly firstRow: number
}

/** Shards in one memory, ready to be searched by one thread. */
export interface PreparedCells {
  readonly space: CellSpace
  readonly kernel: CellKernel
  readonly shards: readonly PreparedShard[]
  readonly rows: number
  /** Rank of a row, both counted through all shards. */
  readonly rankOf: (row: number) => number
  /** Absent if no shard has codes. */
  readonly scan: CellScan | undefined
  readonly exact: ExactDistances
  /** Of the rows whose exact distances are in work. */
  readonly pending: {
    readonly distances: Float64Array
    readonly ranks: Int32Array
    readonly rows: Int32Array
  }
}

export interface PrepareOptions {
  /** Rows that the best estimates leave at most. Default 4,064. */
  readonly mostBest?: number | undefined
  /** Whether the memory is to be one that threads share. Default false. */
  readonly shared?: boolean | undefined
}

/**
 * Puts shards into a memory of their own. Undefined without compiled kernels. Throws as {@link decodeCells}
 * and, where the system has no such memory, `RangeError`.
 */
export function prepareCells(
  space: CellSpace,
  books: Books,
  shards: readonly CellShard[],
  { mostBest = 4064, shared = false }: PrepareOptions = {},
): PreparedCells | undefined {
  const decoded = shards.map(({ cells, vectors }, i) => {
    const file = decodeCells(cells, `cells of shard ${i}`)
    checkCodes(file, space, books, `cells of shard ${i}`)
    if (file.rows * file.dim === vectors.length) return file
    throw corrupt(`cells of shard ${i} are of ${file.rows} rows, expected ${vectors.length / file.dim}`)
  })
  const allCells = decoded.reduce((sum, { starts }) => sum + starts.length - 1, 0)
  const limits: ScanLimits = { shards: shards.length, cells: allCells, room: 2 * mostBest + 64 }
  const memoryPlaces = new Places()
  const booksAt = memoryPlaces.take(books.centres.byteLength)
  const scanAt = memoryPlaces.take(scanBytes(space, books, limits))
  const exactAt = memoryPlaces.take(exactBytes(space.dim))
  const places = shards.map(({ cells, vectors }, i) => ({
    cells: memoryPlaces.take(cells.length),
    records: memoryPlaces.take(recordBytes(decoded[i]!.starts.length - 1)),
    vectors: memoryPlaces.take(vectors.byteLength),
  }))
  const memory = createCellMemory(memoryPlaces.end, shared)
  const kernel = createCellKernel(memory)
  if (kernel === undefined) return undefined
  const { buffer } = memory
  new Float32Array(buffer, booksAt, books.centres.length).set(books.centres)
  let rows = 0
  const prepared = shards.map(({ cells, vectors }, i): PreparedShard => {
    const at = places[i]!
    const bytes = new Uint8Array(buffer, at.cells, cells.length)
    bytes.set(cells)
    new Float32Array(buffer, at.vectors, vectors.length).set(vectors)
    const file = decodeCells(bytes, `cells of shard ${i}`)
    const record = file.coded && writeRecords(buffer, at.records, space, file, file.coded, rows)
    const shard = { file, record, vectorsAt: at.vectors, firstRow: rows }
    rows += file.rows
    return shard
  })
  const scan = prepared.some(({ record }) => record !== undefined)
    ? new CellScan(buffer, kernel, space, books, booksAt, limits, scanAt)
    : undefined
  const exact = new ExactDistances(buffer, kernel, space.metric, space.dim, exactAt)
  const rankOf = (row: number) => {
    const { firstRow, file } = shardOf(prepared, row)
    return firstRow + file.ranks[row - firstRow]!
  }
  const { rowsAtOnce } = exact
  const pending = {
    distances: new Float64Array(rowsAtOnce),
    ranks: new Int32Array(rowsAtOnce),
    rows: new Int32Array(rowsAtOnce),
  }
  return { space, kernel, shards: prepared, rows, rankOf, scan, exact, pending }
}

export interface CellSearchOptions extends Partial<Omit<ScanOptions, "cells">> {
  readonly k: number
  /** Cells to scan, or all rows exactly. Either this or `rows`. */
  readonly cells?: number | "all" | undefined
  /** Cells to scan, as many as hold so many rows on average. */
  readonly rows?: number | undefined
  /** Shards to search, by their place. Default: all. */
  readonly shards?: readonly number[] | undefined
}

export interface CellHit {
  /** Place of its shard among those prepared. */
  readonly shard: number
  readonly position: number
  /** The public distance. */
  readonly distance: number
}

/**
 * The nearest `k` rows, by (distance, shard, rank of the id): of all rows with `cells: "all"`, otherwise of
 * the `best` candidates of the cells that are scanned (by default 300) and of all rows of shards without
 * codes.
 * Throws `InvalidInput` for options that contradict each other or that there is no room for.
 */
export function searchCells(
  prepared: PreparedCells,
  query: Float32Array,
  { k, cells, rows, shards, best = 300, ...options }: CellSearchOptions,
): CellHit[] {
  if ((cells === undefined) === (rows === undefined)) {
    throw invalidInput("a search takes either cells or rows, got both or neither", { cells, rows })
  }
  const asked = shards?.map((shard) => prepared.shards[shard]!) ?? prepared.shards
  const found = new Found(prepared, query, k)
  const through = cells === "all" ? [] : asked.filter(({ record }) => record !== undefined)
  for (const shard of asked) if (!through.includes(shard)) found.addAll(shard)
  if (through.length > 0) {
    const records = through.map(({ record }) => record!)
    const all = {
      rows: through.reduce((sum, { file }) => sum + file.rows, 0),
      cells: records.reduce((sum, record) => sum + record.cells, 0),
    }
    const wanted = cellsFor({ rows, cells: cells as number | undefined }, all)
    const { candidates } = prepared.scan!.find(records, query, { ...options, cells: wanted, best })
    found.addRows(candidates)
  }
  return found.take()
}

/** Rows whose exact distances are looked at, and the best of them. */
class Found {
  readonly #prepared: PreparedCells
  readonly #top: TopK
  #count = 0
  /** Numbers of those that were good enough when they came, by rank. */
  readonly #byRank = new Map<number, number>()

  constructor(prepared: PreparedCells, query: Float32Array, k: number) {
    this.#prepared = prepared
    this.#top = new TopK(k, prepared.rows)
    prepared.exact.setQuery(query)
  }

  addAll(shard: PreparedShard): void {
    for (let position = 0; position < shard.file.rows; position++) this.#add(shard, position)
  }

  /** `pairs`: numbers of rows at even places. */
  addRows(pairs: Uint32Array): void {
    const { shards } = this.#prepared
    let shard = shards[0]!
    for (let i = 0; i < pairs.length; i += 2) {
      const row = pairs[i]!
      // Rows of a cell come one after the other.
      if (row < shard.firstRow || row >= shard.firstRow + shard.file.rows) shard = shardOf(shards, row)
      this.#add(shard, row - shard.firstRow)
    }
  }

  #add(shard: PreparedShard, position: number): void {
    const { exact, space, pending } = this.#prepared
    const i = this.#count++
    exact.addresses[i] = shard.vectorsAt + position * space.dim * 4
    pending.rows[i] = shard.firstRow + position
    pending.ranks[i] = shard.firstRow + shard.file.ranks[position]!
    if (this.#count === exact.rowsAtOnce) this.#settle()
  }

  #settle(): void {
    const { distances, ranks, rows } = this.#prepared.pending
    this.#prepared.exact.compute(this.#count, distances)
    for (let i = 0; i < this.#count; i++) {
      const distance = distances[i]!
      if (distance > this.#top.worst) continue
      this.#top.push(distance, ranks[i]!)
      this.#byRank.set(ranks[i]!, rows[i]!)
    }
    this.#count = 0
  }

  take(): CellHit[] {
    this.#settle()
    const { shards } = this.#prepared
    const { ranks, distances } = this.#top.takeSorted()
    return Array.from(ranks, (rank, i) => {
      const row = this.#byRank.get(rank)!
      const shard = shardOf(shards, row)
      return { shard: shards.indexOf(shard), position: row - shard.firstRow, distance: distances[i]! }
    })
  }
}

/** The shard that has the row of this number. */
function shardOf(shards: readonly PreparedShard[], row: number): PreparedShard {
  let low = 0
  let high = shards.length
  while (high - low > 1) {
    const middle = (low + high) >> 1
    if (shards[middle]!.firstRow <= row) low = middle
    else high = middle
  }
  return shards[low]!
}
