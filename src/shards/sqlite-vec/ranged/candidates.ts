/**
 * Candidates of shards that are not in the memories of search threads: found on the calling thread, in a
 * memory that their cells are copied into for each query. That takes part of a millisecond, beside a query
 * that waits for storage.
 */
import type { SnapshotCodes } from "../../../vectors/cells/codebook.js"
import { type CellEffort, cellsFor } from "../../../vectors/cells/effort.js"
import { decodeCells } from "../../../vectors/cells/file.js"
import { type CellKernel, createCellKernel, createCellMemory } from "../../../vectors/cells/kernel.js"
import { Places } from "../../../vectors/cells/places.js"
import { recordBytes, type ShardRecord, writeRecords } from "../../../vectors/cells/records.js"
import { CellScan, type ScanLimits, scanBytes } from "../../../vectors/cells/scan.js"
import { candidatesFor } from "../memory/scratch.js"
import type { RangedShard } from "./shard.js"

export class Candidates {
  #memory: { readonly memory: WebAssembly.Memory; readonly kernel: CellKernel } | undefined

  /**
   * Positions of rows that are worth their exact distance, for each of the shards, which have codes.
   * Undefined without compiled kernels.
   */
  find(
    shards: readonly RangedShard[],
    { codebook: { space, books } }: SnapshotCodes,
    query: Float32Array,
    k: number,
    { rows, cells, ...effort }: CellEffort,
  ): readonly number[][] | undefined {
    const counts = shards.map((shard) => shard.cells.starts.length - 1)
    const allCells = counts.reduce((sum, count) => sum + count, 0)
    const allRows = shards.reduce((sum, shard) => sum + shard.cells.rows, 0)
    // As many as of shards in memory, so that answers are the same.
    const best = candidatesFor(k, effort)
    const limits: ScanLimits = { shards: shards.length, cells: allCells, room: 2 * best + 64 }
    const memoryPlaces = new Places()
    const booksAt = memoryPlaces.take(books.centres.byteLength)
    const scanAt = memoryPlaces.take(scanBytes(space, books, limits))
    const places = shards.map(({ cells: { bytes } }, i) => ({
      cells: memoryPlaces.take(bytes.length),
      records: memoryPlaces.take(recordBytes(counts[i]!)),
    }))
    const made = this.#withRoom(memoryPlaces.end)
    if (made === undefined) return undefined
    const { buffer } = made.memory
    new Float32Array(buffer, booksAt, books.centres.length).set(books.centres)
    const firstRows: number[] = []
    let firstRow = 0
    const records = shards.map((shard, i): ShardRecord => {
      const place = places[i]!
      const bytes = new Uint8Array(buffer, place.cells, shard.cells.bytes.length)
      bytes.set(shard.cells.bytes)
      const file = decodeCells(bytes, shard.name)
      firstRows.push(firstRow)
      firstRow += file.rows
      return writeRecords(buffer, place.records, space, file, file.coded!, firstRows[i]!)
    })
    const scan = new CellScan(buffer, made.kernel, space, books, booksAt, limits, scanAt)
    const wanted = cellsFor({ rows, cells }, { rows: allRows, cells: allCells })
    const { candidates } = scan.find(records, query, { ...effort, cells: wanted, best })
    const positions = shards.map((): number[] => [])
    for (let i = 0; i < candidates.length; i += 2) {
      let place = firstRows.length - 1
      while (firstRows[place]! > candidates[i]!) place--
      positions[place]!.push(candidates[i]! - firstRows[place]!)
    }
    for (const own of positions) own.sort((a, b) => a - b)
    return positions
  }

  #withRoom(bytes: number) {
    if (this.#memory !== undefined && this.#memory.memory.buffer.byteLength >= bytes) return this.#memory
    // With room for some more: a memory that is left is not given back at once.
    const memory = createCellMemory(bytes + (bytes >> 1))
    const kernel = createCellKernel(memory)
    this.#memory = kernel && { memory, kernel }
    return this.#memory
  }
}
