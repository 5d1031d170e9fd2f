/**
 * Rows and queries as cells compute with them, so that one estimate serves every metric: smaller
 * `bias(x) - q · x` is nearer.
 *
 * | metric | x | q | bias(x) |
 * |---|---|---|---|
 * | `cosine` | row at length 1 | query at length 1 | 0 |
 * | `dot` | row | query | 0 |
 * | `l2` | row - origin | query - origin | x · x / 2 |
 *
 * Under `l2` that is (|q - x|² - |q|²) / 2. The origin, the mean of the rows that a codebook was trained on,
 * keeps vectors short where all of them lie far from zero.
 */
import { inverseNorm } from "../distance.js"
import { LENGTH_MAX, LENGTH_MIN } from "../kernel/bounds.js"
import type { Metric } from "../metric.js"

export interface CellSpace {
  readonly metric: Metric
  readonly dim: number
  /** `dim` numbers; zeros but for `l2`. */
  readonly origin: Float32Array
}

/** The space for rows like these (`rows × dim`). */
export function cellSpace(metric: Metric, vectors: Float32Array, dim: number): CellSpace {
  const origin = new Float32Array(dim)
  const rows = vectors.length / dim
  if (metric === "l2" && rows > 0) {
    const sums = new Float64Array(dim)
    for (let row = 0, at = 0; row < rows; row++) {
      for (let i = 0; i < dim; i++, at++) sums[i]! += vectors[at]!
    }
    for (let i = 0; i < dim; i++) origin[i] = sums[i]! / rows
  }
  return { metric, dim, origin }
}

/** Rows or queries in the space, as a copy. Under `cosine` a zero vector stays zero. */
export function inSpace({ metric, dim, origin }: CellSpace, vectors: Float32Array): Float32Array {
  const copy = vectors.slice()
  if (metric === "dot") return copy
  for (let start = 0; start < copy.length; start += dim) {
    if (metric === "l2") {
      for (let i = 0; i < dim; i++) copy[start + i]! -= origin[i]!
    } else {
      const scale = inverseNorm(copy.subarray(start, start + dim))
      for (let i = start; i < start + dim; i++) copy[i] = copy[i]! * scale
    }
  }
  return copy
}

/**
 * Whether estimates in float32 can be made of these vectors: none is much longer or, unless zero, shorter
 * than is usual. Others are to be searched row by row.
 */
export function canBeEstimated(vectors: Float32Array, dim: number): boolean {
  for (let start = 0; start < vectors.length; start += dim) {
    let squared = 0
    for (let i = start; i < start + dim; i++) squared += vectors[i]! * vectors[i]!
    if (squared !== 0 && !(squared >= LENGTH_MIN ** 2 && squared <= LENGTH_MAX ** 2)) return false
  }
  return true
}
