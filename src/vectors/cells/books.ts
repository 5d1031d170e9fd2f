/**
 * Product quantisation with 16 centres a sub-space (Jégou, Douze and Schmid, 2011): residuals are cut into
 * pieces of one, two or four dimensions, and each piece becomes the number of the nearest of 16 centres.
 *
 * Centres are found in float32, in one order, so that codes are the same with and without the compiled
 * kernel.
 */
import { createRandom } from "../random.js"
import { type CellKernel, createCellKernel, createCellMemory } from "./kernel.js"

/** Centres a sub-space, so that a number takes four bits. */
export const CENTRES = 16

/** Centres of all sub-spaces. */
export interface Books {
  readonly width: number
  readonly subspaces: number
  /** For every sub-space, for each of its dimensions, one number of each of the 16 centres. */
  readonly centres: Float32Array
}

export interface TrainedBooks {
  readonly books: Books
  /** Mean squared length of what codes lose of the residuals. */
  readonly error: number
}

export const subspacesOf = (dim: number, width: number): number => Math.ceil(dim / width)

const ROUNDS = 15
const SEED = 2

/**
 * Centres for residuals (`rows × subspaces·width` numbers), by k-means in every sub-space. The same residuals
 * give the same centres on every machine. Without rows all are zero.
 */
export function trainBooks(residuals: Float32Array, subspaces: number, width: number): TrainedBooks {
  const stride = subspaces * width
  const rows = residuals.length / stride
  const centres = new Float32Array(stride * CENTRES)
  let books: Books = { width, subspaces, centres }
  if (rows === 0) return { books, error: 0 }
  const random = createRandom(SEED)
  for (let centre = 0; centre < CENTRES; centre++) {
    const row = random.below(rows)
    for (let i = 0; i < stride; i++) centres[i * CENTRES + centre] = residuals[row * stride + i]!
  }
  for (let round = 0; round < ROUNDS; round++) {
    books = { ...books, centres: meansOf(residuals, codesOf(residuals, books), books) }
  }
  return { books, error: errorOf(residuals, codesOf(residuals, books), books) }
}

/** Mean squared length of what codes lose of the residuals (`rows × subspaces·width`). */
export function errorOf(residuals: Float32Array, codes: Uint8Array, { width, centres }: Books): number {
  const subspaces = centres.length / CENTRES / width
  let sum = 0
  for (let i = 0; i < residuals.length; i++) {
    const piece = Math.floor(i / width)
    const e = (piece % subspaces) * width + (i % width)
    sum += (residuals[i]! - centres[e * CENTRES + codes[piece]!]!) ** 2
  }
  return sum / (residuals.length / (subspaces * width))
}

/** The mean of each centre's pieces. One without pieces takes half of the largest one's. */
function meansOf(
  residuals: Float32Array,
  codes: Uint8Array,
  { width, subspaces, centres }: Books,
): Float32Array {
  const stride = subspaces * width
  const rows = residuals.length / stride
  const sums = new Float64Array(centres.length)
  const counts = new Int32Array(subspaces * CENTRES)
  for (let row = 0, at = 0, x = 0; row < rows; row++) {
    for (let j = 0; j < subspaces; j++, at++) {
      const code = codes[at]!
      counts[j * CENTRES + code]!++
      for (let e = 0; e < width; e++, x++) sums[(j * width + e) * CENTRES + code]! += residuals[x]!
    }
  }
  const means = centres.slice()
  for (let j = 0; j < subspaces; j++) {
    for (let centre = 0; centre < CENTRES; centre++) {
      const count = counts[j * CENTRES + centre]!
      if (count === 0) continue
      for (let e = j * width; e < (j + 1) * width; e++) {
        means[e * CENTRES + centre] = sums[e * CENTRES + centre]! / count
      }
    }
    splitLargest(means, counts.subarray(j * CENTRES, (j + 1) * CENTRES), j, width)
  }
  return means
}

/** How far apart the halves of a divided centre begin, relative to it. */
const SPLIT = 2 ** -6

function splitLargest(means: Float32Array, counts: Int32Array, subspace: number, width: number): void {
  for (let centre = 0; centre < CENTRES; centre++) {
    if (counts[centre]! > 0) continue
    let largest = 0
    for (let other = 1; other < CENTRES; other++) if (counts[other]! > counts[largest]!) largest = other
    if (counts[largest]! < 2) return
    for (let e = subspace * width; e < (subspace + 1) * width; e++) {
      const x = means[e * CENTRES + largest]!
      means[e * CENTRES + centre] = x * (1 + SPLIT)
      means[e * CENTRES + largest] = x * (1 - SPLIT)
    }
    counts[centre] = counts[largest]! >> 1
    counts[largest]! -= counts[centre]!
  }
}

const ROWS_AT_ONCE = 1024
const PAGE_BYTES = 2 ** 16

let scratch: { readonly kernel: CellKernel; readonly memory: WebAssembly.Memory } | undefined

/** This thread's memory for codes, with at least so many bytes. Undefined without compiled kernels. */
function scratchKernel(bytes: number): typeof scratch {
  if (scratch === undefined) {
    const memory = createCellMemory(bytes)
    const kernel = createCellKernel(memory)
    scratch = kernel && { kernel, memory }
  }
  const missing = bytes - (scratch?.memory.buffer.byteLength ?? bytes)
  if (missing > 0) scratch?.memory.grow(Math.ceil(missing / PAGE_BYTES))
  return scratch
}

/** The nearest centre of every sub-space (of equal ones the first): `rows × subspaces`. */
export function codesOf(residuals: Float32Array, books: Books): Uint8Array {
  const { width, subspaces, centres } = books
  const stride = subspaces * width
  const rows = residuals.length / stride
  const codes = new Uint8Array(rows * subspaces)
  const halves = halfSquares(books)
  const some = Math.min(rows, ROWS_AT_ONCE)
  const starts = { centres: 0, halves: centres.byteLength, rows: centres.byteLength + halves.byteLength }
  const codesAt = starts.rows + some * stride * 4
  const place = scratchKernel(codesAt + some * subspaces)
  if (place === undefined) {
    codesPlainly(residuals, books, halves, codes)
    return codes
  }
  const { kernel, memory } = place
  const floats = new Float32Array(memory.buffer)
  const bytes = new Uint8Array(memory.buffer)
  floats.set(centres)
  floats.set(halves, starts.halves / 4)
  for (let row = 0; row < rows; row += some) {
    const count = Math.min(some, rows - row)
    floats.set(residuals.subarray(row * stride, (row + count) * stride), starts.rows / 4)
    kernel.nearestCentres(starts.rows, count, subspaces, width, starts.centres, starts.halves, codesAt)
    codes.set(bytes.subarray(codesAt, codesAt + count * subspaces), row * subspaces)
  }
  return codes
}

/** Half the squared length of every centre, in float32. */
function halfSquares({ width, subspaces, centres }: Books): Float32Array {
  const halves = new Float32Array(subspaces * CENTRES)
  for (let j = 0; j < subspaces; j++) {
    for (let centre = 0; centre < CENTRES; centre++) {
      let sum = 0
      for (let e = j * width; e < (j + 1) * width; e++) sum += centres[e * CENTRES + centre]! ** 2
      halves[j * CENTRES + centre] = sum / 2
    }
  }
  return halves
}

/** As the kernel: every operation rounded to float32. */
function codesPlainly(
  residuals: Float32Array,
  { width, subspaces, centres }: Books,
  halves: Float32Array,
  codes: Uint8Array,
): void {
  const stride = subspaces * width
  for (let start = 0, at = 0; start < residuals.length; start += stride) {
    for (let j = 0; j < subspaces; j++, at++) {
      let best = Infinity
      for (let centre = 0; centre < CENTRES; centre++) {
        let score = halves[j * CENTRES + centre]!
        for (let e = j * width; e < (j + 1) * width; e++) {
          score = Math.fround(score - Math.fround(residuals[start + e]! * centres[e * CENTRES + centre]!))
        }
        if (score < best) {
          best = score
          codes[at] = centre
        }
      }
    }
  }
}
