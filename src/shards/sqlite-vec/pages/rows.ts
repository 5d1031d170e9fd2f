/**
 * Vectors by position and records by rowid, read by offset: from an open file, or from whatever gives ranges
 * of one.
 */
import { readSync } from "node:fs"
import { corrupt } from "../../../errors.js"
import type { ByteRange } from "../../stretches.js"
import { chainPages, checkChain, damaged, type PagedFile, treePage, wholePayload } from "./btree.js"
import { readRecord, type SqlValue } from "./record.js"
import { eachPart, leafOf, type PageTable, pageRange } from "./table.js"

/** Parts of vectors that are so near to one another are read at once. */
const GAP_BYTES = 4096
/** The most that is read at once, apart from a single vector. */
const READ_BYTES_MAX = 2 ** 20

/** The vectors of a shard's database, by position. */
export interface Rows {
  /**
   * The vectors at these positions, row-major, into `out`. Positions that rise take the fewest reads. Throws
   * `Corrupt` if the file ends before them.
   */
  read(positions: ArrayLike<number>, out: Float32Array): void
}

/** Reads from an open file, which is the caller's to close. Synchronous. `name`: for messages. */
export function openRows(descriptor: number, table: PageTable, dim: number, name: string): Rows {
  let buffer = new Uint8Array(2 ** 16)
  return {
    read(positions, out) {
      const bytes = new Uint8Array(out.buffer, out.byteOffset, out.byteLength)
      for (const { start, end, parts } of spansOf(table, dim * 4, positions)) {
        const length = end - start
        if (buffer.length < length) buffer = new Uint8Array(length)
        readWhole(descriptor, buffer.subarray(0, length), start, name)
        for (const { offset, size, to } of parts) {
          bytes.set(buffer.subarray(offset - start, offset - start + size), to)
        }
      }
    },
  }
}

/** The stretches of the file that hold the vectors at these positions, rising, none within another. */
export function vectorRanges(
  table: PageTable,
  dim: number,
  positions: ArrayLike<number>,
): readonly ByteRange[] {
  return spansOf(
    table,
    dim * 4,
    Array.from(positions).sort((a, b) => a - b),
  )
}

/** The vectors at these positions, row-major, from the bytes of {@link vectorRanges}. */
export function vectorsFrom(
  table: PageTable,
  dim: number,
  positions: ArrayLike<number>,
  ranges: readonly ByteRange[],
  contents: readonly Uint8Array[],
): Float32Array {
  const vectors = new Float32Array(positions.length * dim)
  const bytes = new Uint8Array(vectors.buffer)
  for (let i = 0; i < positions.length; i++) {
    eachPart(table, dim * 4, positions[i]!, (offset, size, at) => {
      const place = ranges.findIndex(({ start, end }) => start <= offset && offset + size <= end)
      const from = offset - ranges[place]!.start
      bytes.set(contents[place]!.subarray(from, from + size), i * dim * 4 + at)
    })
  }
  return vectors
}

interface Part {
  readonly offset: number
  readonly size: number
  /** Place among the bytes of all vectors. */
  readonly to: number
}

interface Span {
  readonly start: number
  end: number
  readonly parts: Part[]
}

function spansOf(table: PageTable, rowBytes: number, positions: ArrayLike<number>): readonly Span[] {
  const spans: Span[] = []
  for (let i = 0; i < positions.length; i++) {
    eachPart(table, rowBytes, positions[i]!, (offset, size, at) => {
      const part = { offset, size, to: i * rowBytes + at }
      const last = spans.at(-1)
      const isNear =
        last !== undefined &&
        offset >= last.start &&
        offset <= last.end + GAP_BYTES &&
        offset + size - last.start <= READ_BYTES_MAX
      if (!isNear) {
        spans.push({ start: offset, end: offset + size, parts: [part] })
        return
      }
      last.end = Math.max(last.end, offset + size)
      last.parts.push(part)
    })
  }
  return spans
}

function readWhole(descriptor: number, bytes: Uint8Array, start: number, name: string): void {
  for (let filled = 0; filled < bytes.length; ) {
    const read = readSync(descriptor, bytes, filled, bytes.length - filled, start + filled)
    if (read === 0) {
      const message = `${name} ends after ${start + filled} bytes, expected at least ${start + bytes.length}`
      throw corrupt(message, { file: name })
    }
    filled += read
  }
}

/** Gives stretches of a file: one array each, in their order. */
export type ReadRanges = (ranges: readonly ByteRange[]) => Promise<readonly Uint8Array[]>

/**
 * The records of these rowids: the columns `id`, fields and payload of each. Two rounds of reads at most, the
 * second for those that are longer than a page. Throws `Corrupt` if one is not there.
 */
export async function readRecords(
  file: PagedFile,
  table: PageTable,
  rowids: readonly number[],
  read: ReadRanges,
): Promise<readonly (readonly SqlValue[])[]> {
  const leaves = [...new Set(rowids.map((rowid) => leafOf(table, rowid)))].sort((a, b) => a - b)
  const pages = await read(leaves.map(pageRange))
  const cells = rowids.map((rowid) => {
    const leaf = leafOf(table, rowid)
    return findCell(file, leaf, pages[leaves.indexOf(leaf)]!, rowid)
  })
  const chains = cells.map((cell) => chainPages(file, cell))
  const rest = chains.some((chain) => chain.length > 0) ? await read(chains.flat().map(pageRange)) : []
  let taken = 0
  return cells.map((cell, i) => {
    const chain = rest.slice(taken, taken + chains[i]!.length)
    taken += chain.length
    checkChain(file, chains[i]!, chain)
    // The first column is the position, which stands as the rowid.
    return readRecord(file, wholePayload(cell, chain)).slice(1)
  })
}

function findCell(file: PagedFile, number: number, bytes: Uint8Array, rowid: number) {
  const page = treePage(file, number, bytes)
  if (page.kind !== "table" || !page.isLeaf) throw damaged(file, `page ${number} is no leaf of records`)
  let low = 0
  let high = page.cells
  while (low < high) {
    const middle = (low + high) >> 1
    const cell = page.cell(middle)
    if (cell.rowid === rowid) return cell
    if (cell.rowid < rowid) low = middle + 1
    else high = middle
  }
  throw damaged(file, `page ${number} lacks row ${rowid}`)
}
