/**
 * The public distance of each metric, as defined in {@link Metric}.
 *
 * Sums run over the elements from first to last in one float64 accumulator. The scan kernel sums in the same
 * order, so a distance computed here, by a scan or on another day is the same to the last bit.
 */
import type { Metric } from "./metric.js"

/**
 * Distance of two vectors of equal length; smaller is nearer. Under `cosine` a zero vector is at distance 1
 * of all.
 */
export function distance(metric: Metric, a: Float32Array, b: Float32Array): number {
  switch (metric) {
    case "l2":
      return Math.sqrt(squaredDistance(a, b))
    case "dot":
      return dotDistance(innerProduct(a, b))
    case "cosine":
      return cosineDistance(innerProduct(a, b), inverseNorm(a), inverseNorm(b))
  }
}

/** Distance under `cosine` from an inner product and the inverse norms of both sides; from 0 to 2. */
export function cosineDistance(product: number, inverseNormA: number, inverseNormB: number): number {
  // The inverse norms are multiplied first: the result is then the same with the two sides exchanged.
  const distance = 1 - product * (inverseNormA * inverseNormB)
  return Math.min(Math.max(distance, 0), 2)
}

/** Distance under `dot` from an inner product. */
export function dotDistance(product: number): number {
  return 0 - product // not `-product`, which makes -0 of 0
}

/** 1 / the Euclidean norm of a vector; 0 for a zero vector. */
export function inverseNorm(vector: Float32Array): number {
  const squared = innerProduct(vector, vector)
  return squared === 0 ? 0 : 1 / Math.sqrt(squared)
}

/** {@link inverseNorm} of every row of row-major `vectors`. */
export function inverseNorms(vectors: Float32Array, dim: number): Float64Array {
  const norms = new Float64Array(vectors.length / dim)
  for (let row = 0; row < norms.length; row++) {
    norms[row] = inverseNorm(vectors.subarray(row * dim, (row + 1) * dim))
  }
  return norms
}

function innerProduct(a: Float32Array, b: Float32Array): number {
  let sum = 0
  for (let i = 0; i < a.length; i++) sum += a[i]! * b[i]!
  return sum
}

/** Squared Euclidean distance of two vectors of the same length, in float64. */
function squaredDistance(a: Float32Array, b: Float32Array): number {
  let sum = 0
  for (let i = 0; i < a.length; i++) {
    const difference = a[i]! - b[i]!
    sum += difference * difference
  }
  return sum
}
