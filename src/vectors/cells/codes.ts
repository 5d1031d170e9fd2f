/**
 * Rows of cells in four bits a sub-space. A row is `length · direction` of its cell plus a residual r, and
 * the direction of the residual is coded, so one set of tables a query serves all cells:
 * q · x = q · centre + q · r.
 *
 * What a code loses is on average a part of the length, so the factor that is kept with it is not |r| but
 * |r|² / (r · code): factor × (q · code) errs to neither side. Where distances are compared a row also has an
 * offset, c · r + |r|² / 2, with which (x · x) / 2 - q · x = (c · c) / 2 - q · c + offset - q · r.
 *
 * Factors and offsets are 16-bit integers with a scale a cell, so that one row unlike the others makes coarse
 * only those of its own cell.
 */
import { type Books, CENTRES, codesOf } from "./books.js"
import type { Cells } from "./cells.js"
import { readDirection } from "./directions.js"
import type { CellSpace } from "./space.js"

/** Rows in a block, whose codes are looked up together. Every cell begins a block. */
const BLOCK_ROWS = 16

/** Factors are at most this times |r|: a code that hardly points the way of r shall not count for much. */
const FACTOR_MAX = 2

/** 1 in the 16-bit fixed point of the kernel. */
const ONE = 2 ** 15

export interface Codes {
  /** Blocks of all cells; see {@link blockLength}. */
  readonly blocks: Uint8Array
  /** What a cell's factors of 2¹⁵ stand for. */
  readonly factorScales: Float32Array
  /** What its offsets of 2¹⁵ stand for; empty unless distances are compared. */
  readonly offsetScales: Float32Array
}

/** Bytes of codes in a block: for each pair of sub-spaces one a row. */
export const codeBytes = (subspaces: number): number => Math.ceil(subspaces / 2) * BLOCK_ROWS

/**
 * Bytes of a block: for each pair of sub-spaces a byte a row, the first in the low half; then a 16-bit factor
 * a row; then, where distances are compared, a 16-bit offset a row. Of the latter two, rows 0, 2, … 14 come
 * before 1, 3, … 15.
 */
export const blockLength = (subspaces: number, hasOffsets: boolean): number =>
  codeBytes(subspaces) + (hasOffsets ? 4 : 2) * BLOCK_ROWS

export const blocksOf = (rows: number): number => Math.ceil(rows / BLOCK_ROWS)

/** Where row i of a block has its factor among 16. */
export const factorPlace = (row: number): number => (row & 1) * 8 + (row >> 1)

export interface Residuals {
  /** By position, of length 1 unless zero: `rows × subspaces·width`, zeros filling up. */
  readonly directions: Float32Array
  readonly lengths: Float64Array
}

/** Residuals of rows in the space. */
export function residualsOf(
  { dim, starts, order, directions, lengths, count }: Cells,
  rows: Float32Array,
  stride: number,
): Residuals {
  const residuals = new Float32Array(order.length * stride)
  const norms = new Float64Array(order.length)
  const direction = new Float32Array(dim)
  for (let cell = 0; cell < count; cell++) {
    readDirection(directions, cell, direction)
    const length = lengths[cell]!
    for (let position = starts[cell]!; position < starts[cell + 1]!; position++) {
      const from = order[position]! * dim
      const to = position * stride
      let squared = 0
      for (let i = 0; i < dim; i++) {
        const difference = rows[from + i]! - length * direction[i]!
        residuals[to + i] = difference
        squared += difference * difference
      }
      if (squared === 0) continue
      const norm = Math.sqrt(squared)
      norms[position] = norm
      for (let i = 0; i < dim; i++) residuals[to + i] = (rows[from + i]! - length * direction[i]!) / norm
    }
  }
  return { directions: residuals, lengths: norms }
}

/** Codes of rows (in the space, in their first order). */
export function encodeRows({ comparison }: CellSpace, cells: Cells, rows: Float32Array, books: Books): Codes {
  const { dim, count, starts, directions, lengths } = cells
  const { subspaces, width } = books
  const hasOffsets = comparison === "distances"
  const stride = subspaces * width
  const { directions: residuals, lengths: norms } = residualsOf(cells, rows, stride)
  const codes = codesOf(residuals, books)
  const codesLength = codeBytes(subspaces)
  const length = blockLength(subspaces, hasOffsets)
  let blocks = 0
  for (let cell = 0; cell < count; cell++) blocks += blocksOf(starts[cell + 1]! - starts[cell]!)
  const out = new Uint8Array(blocks * length)
  const factorScales = new Float32Array(count)
  const offsetScales = new Float32Array(hasOffsets ? count : 0)
  const direction = new Float32Array(dim)
  let block = 0
  for (let cell = 0; cell < count; cell++) {
    const first = starts[cell]!
    const size = starts[cell + 1]! - first
    readDirection(directions, cell, direction)
    const factors = new Float64Array(size)
    const offsets = new Float64Array(size)
    for (let row = 0; row < size; row++) {
      const at = (first + row) * stride
      const product = productWithCode(residuals, at, codes, (first + row) * subspaces, books)
      let along = 0
      for (let i = 0; i < dim; i++) along += residuals[at + i]! * direction[i]!
      const norm = norms[first + row]!
      factors[row] = norm * (product * FACTOR_MAX > 1 ? 1 / product : FACTOR_MAX)
      offsets[row] = norm * (lengths[cell]! * along + norm / 2)
    }
    factorScales[cell] = scaleOf(factors)
    if (hasOffsets) offsetScales[cell] = scaleOf(offsets)
    for (let row = 0; row < size; row++) {
      const start = (block + (row >> 4)) * length
      const inBlock = row % BLOCK_ROWS
      for (let j = 0; j < subspaces; j++) {
        const code = codes[(first + row) * subspaces + j]!
        out[start + (j >> 1) * BLOCK_ROWS + inBlock]! |= j & 1 ? code << 4 : code
      }
      const place = start + codesLength + 2 * factorPlace(inBlock)
      writeInt16(out, place, fixed(factors[row]!, factorScales[cell]!))
      if (hasOffsets) writeInt16(out, place + 2 * BLOCK_ROWS, fixed(offsets[row]!, offsetScales[cell]!))
    }
    block += blocksOf(size)
  }
  return { blocks: out, factorScales, offsetScales }
}

function productWithCode(
  residuals: Float32Array,
  at: number,
  codes: Uint8Array,
  codesAt: number,
  { subspaces, width, centres }: Books,
): number {
  let sum = 0
  for (let j = 0; j < subspaces; j++) {
    const code = codes[codesAt + j]!
    for (let e = j * width; e < (j + 1) * width; e++) {
      sum += residuals[at + e]! * centres[e * CENTRES + code]!
    }
  }
  return sum
}

/** So that the largest becomes 2¹⁵ - 1. */
function scaleOf(values: Float64Array): number {
  let largest = 0
  for (const value of values) largest = Math.max(largest, Math.abs(value))
  return (largest * ONE) / (ONE - 1)
}

const fixed = (value: number, scale: number): number =>
  scale === 0 ? 0 : Math.max(1 - ONE, Math.min(ONE - 1, Math.round((value / scale) * ONE)))

function writeInt16(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value & 255
  bytes[at + 1] = (value >> 8) & 255
}
