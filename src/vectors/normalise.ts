import { inverseNorm } from "./distance.js"

/**
 * A copy of row-major `vectors` with every row scaled to length 1; a zero row stays zero. For computing with
 * only: vectors are stored as given.
 */
export function normalised(vectors: Float32Array, dim: number): Float32Array {
  const copy = Float32Array.from(vectors)
  for (let start = 0; start < copy.length; start += dim) {
    const row = copy.subarray(start, start + dim)
    const scale = inverseNorm(row)
    for (let i = 0; i < dim; i++) row[i] = row[i]! * scale
  }
  return copy
}
