/**
 * Which rows of a snapshot a search through cells looks at, by the files of cells alone: candidates get exact
 * distances, so a near row is found if, and only if, it is among them. All files lie in one memory.
 */
import { corrupt } from "../../errors.js"
import type { Codebook } from "../../vectors/cells/codebook.js"
import { type CellEffort, cellsFor } from "../../vectors/cells/effort.js"
import { type CellsFile, checkCodes, decodeCells } from "../../vectors/cells/file.js"
import { createCellKernel, createCellMemory } from "../../vectors/cells/kernel.js"
import { Places } from "../../vectors/cells/places.js"
import { recordBytes, type ShardRecord, writeRecords } from "../../vectors/cells/records.js"
import { CellScan, type ScanLimits, scanBytes } from "../../vectors/cells/scan.js"

/** The file of cells of a shard. */
export interface ShardCellsFile {
  readonly shard: number
  readonly cells: Uint8Array
}

/** What a search has looked at. */
export interface LookedAt {
  /** Rows whose estimate or distance was computed, and the cells that they lie in. */
  readonly rows: number
  readonly cells: number
  /** Whether the row at this rank of a shard got its exact distance; until the next search. */
  has(shard: number, rank: number): boolean
}

export interface CellSearches {
  /** Of all shards with codes: how many rows a cell has on average. */
  readonly rowsPerCell: number
  /** Of all shards. */
  readonly shards: number
  readonly rows: number
  /**
   * Searches some shards for a query (`dim` finite numbers), as far as the effort goes. Undefined: all rows
   * of them.
   */
  find(query: Float32Array, shards: readonly number[], effort: CellEffort | undefined): LookedAt
}

interface Placed {
  readonly shard: number
  readonly rows: number
  readonly cells: number
  /** Absent for shards that are scanned whole. */
  readonly record: ShardRecord | undefined
  /** The number of the row at each rank, among those of all shards. */
  readonly rowOf: Uint32Array
}

/**
 * Undefined where no shard has codes, or kernels are not compiled. `best`: estimates that efforts leave at
 * most. Throws `Corrupt` for files that are not of this codebook, `RangeError` for more than a memory holds.
 */
export function createCellSearches(
  { space, books }: Pick<Codebook, "space" | "books">,
  files: readonly ShardCellsFile[],
  best: number,
): CellSearches | undefined {
  const decoded = files.map(({ shard, cells }) => {
    const file = decodeCells(cells, `cells of shard ${shard}`)
    checkCodes(file, space, books, `cells of shard ${shard}`)
    return file
  })
  const coded = decoded.filter((file) => file.coded !== undefined)
  if (coded.length === 0) return undefined
  const cellsOf = ({ starts }: CellsFile) => starts.length - 1
  const cells = coded.reduce((sum, file) => sum + cellsOf(file), 0)
  const limits: ScanLimits = { shards: coded.length, cells, room: 2 * best + 64 }

  const memoryPlaces = new Places()
  const booksAt = memoryPlaces.take(books.centres.byteLength)
  const scanAt = memoryPlaces.take(scanBytes(space, books, limits))
  const places = decoded.map((file, i) => ({
    cells: memoryPlaces.take(files[i]!.cells.length),
    records: memoryPlaces.take(recordBytes(cellsOf(file))),
  }))
  const memory = createCellMemory(memoryPlaces.end)
  const kernel = createCellKernel(memory)
  if (kernel === undefined) return undefined
  const { buffer } = memory
  new Float32Array(buffer, booksAt, books.centres.length).set(books.centres)
  const byShard = new Map<number, Placed>()
  let rows = 0
  for (const [i, { shard, cells: bytes }] of files.entries()) {
    const inMemory = new Uint8Array(buffer, places[i]!.cells, bytes.length)
    inMemory.set(bytes)
    const file = decodeCells(inMemory, `cells of shard ${shard}`)
    const { records } = places[i]!
    const record = file.coded && writeRecords(buffer, records, space, file, file.coded, rows)
    const rowOf = new Uint32Array(file.rows)
    for (const [position, rank] of file.ranks.entries()) rowOf[rank] = rows + position
    byShard.set(shard, { shard, rows: file.rows, cells: cellsOf(file), record, rowOf })
    rows += file.rows
  }
  const scan = new CellScan(buffer, kernel, space, books, booksAt, limits, scanAt)
  // The number of the search that a row was last a candidate of.
  const lastSearch = new Uint32Array(rows)
  let searches = 0
  const placedOf = (shard: number): Placed => {
    const placed = byShard.get(shard)
    if (placed === undefined) throw corrupt(`shard ${shard} has no cells`, { shard })
    return placed
  }
  const rowsPerCell = coded.reduce((sum, file) => sum + file.rows, 0) / cells

  return {
    rowsPerCell,
    shards: files.length,
    rows,
    find(query, shards, effort) {
      const asked = shards.map(placedOf)
      const search = ++searches
      const through = effort === undefined ? [] : asked.filter(({ record }) => record !== undefined)
      const whole = asked.filter((placed) => !through.includes(placed))
      const wholly = new Set(whole.map(({ shard }) => shard))
      let { rows, cells } = sumOf(whole)
      if (effort !== undefined && through.length > 0) {
        const found = scan.find(
          through.map(({ record }) => record!),
          query,
          { ...effort, cells: cellsFor(effort, sumOf(through)) },
        )
        for (let i = 0; i < found.candidates.length; i += 2) lastSearch[found.candidates[i]!] = search
        rows += found.rows
        cells += found.cells
      }
      const has = (shard: number, rank: number) =>
        wholly.has(shard) || lastSearch[placedOf(shard).rowOf[rank]!] === search
      return { rows, cells, has }
    },
  }
}

/** Rows and cells of some shards together. */
const sumOf = (shards: readonly Placed[]): Pick<Placed, "rows" | "cells"> => ({
  rows: shards.reduce((sum, shard) => sum + shard.rows, 0),
  cells: shards.reduce((sum, shard) => sum + shard.cells, 0),
})
