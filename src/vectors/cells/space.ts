/**
 * Rows and queries as cells compute with them, so that one estimate serves every metric: smaller
 * `bias(x) - q · x` is nearer.
 *
 * | comparison | metric | x | q | bias(x) |
 * |---|---|---|---|---|
 * | `directions` | `cosine` | row at length 1 | query at length 1 | 0 |
 * | `products` | `dot` | row | query | 0 |
 * | `distances` | `l2` | row - origin | query - origin | x · x / 2 |
 * | `distances` | `cosine` | the same, both at length 1 before | | x · x / 2 |
 *
 * The last two are (|q - x|² - |q|²) / 2. The origin, the mean of the rows that a codebook was trained on,
 * makes vectors short where all of them have much in common. Under `cosine` the order by distances of vectors
 * of length 1 is the same; it takes two bytes a row more, and is used where the mean is long.
 */
import { LENGTH_MAX, LENGTH_MIN } from "../kernel/bounds.js"
import type { Metric } from "../metric.js"
import { normalised } from "../normalise.js"

export interface CellSpace {
  readonly metric: Metric
  readonly dim: number
  readonly comparison: "directions" | "products" | "distances"
  /** `dim` numbers; zeros but for `distances`. */
  readonly origin: Float32Array
}

/** Squared length of the mean of vectors of length 1 from which on they are compared by distances. */
const COMMON = 0.25

/** The space for rows like these (`rows × dim`). */
export function cellSpace(metric: Metric, vectors: Float32Array, dim: number): CellSpace {
  const none = new Float32Array(dim)
  if (metric === "dot") return { metric, dim, comparison: "products", origin: none }
  const mean = meanOf(metric === "cosine" ? normalised(vectors, dim) : vectors, dim)
  const isCommon = metric === "l2" || mean.reduce((sum, x) => sum + x * x, 0) > COMMON
  if (!isCommon) return { metric, dim, comparison: "directions", origin: none }
  return { metric, dim, comparison: "distances", origin: mean }
}

function meanOf(vectors: Float32Array, dim: number): Float32Array {
  const sums = new Float64Array(dim)
  for (let at = 0; at < vectors.length; at++) sums[at % dim]! += vectors[at]!
  return Float32Array.from(sums, (sum) => sum / Math.max(1, vectors.length / dim))
}

/** Rows or queries in the space, as a copy. */
export function inSpace({ metric, dim, origin, comparison }: CellSpace, vectors: Float32Array): Float32Array {
  const copy = metric === "cosine" ? normalised(vectors, dim) : vectors.slice()
  if (comparison === "distances") for (let at = 0; at < copy.length; at++) copy[at]! -= origin[at % dim]!
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
