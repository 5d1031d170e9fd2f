import type { Metric } from "./metric.js"

/**
 * Inner product of `a` and the `a.length` values of `b` that start at `start`, in double precision. Four running sums,
 * always in the same order: every distance of vecsnap is computed by these functions, so equal input gives equal bits.
 */
export function dot(a: Float32Array, b: Float32Array, start = 0): number {
  const dim = a.length
  let s0 = 0
  let s1 = 0
  let s2 = 0
  let s3 = 0
  let i = 0
  for (; i + 4 <= dim; i += 4) {
    s0 += a[i]! * b[start + i]!
    s1 += a[i + 1]! * b[start + i + 1]!
    s2 += a[i + 2]! * b[start + i + 2]!
    s3 += a[i + 3]! * b[start + i + 3]!
  }
  for (; i < dim; i++) s0 += a[i]! * b[start + i]!
  return s0 + s1 + (s2 + s3)
}

/** Squared Euclidean distance, as {@link dot}. */
export function squaredDistance(a: Float32Array, b: Float32Array, start = 0): number {
  const dim = a.length
  let s0 = 0
  let s1 = 0
  let s2 = 0
  let s3 = 0
  let i = 0
  for (; i + 4 <= dim; i += 4) {
    const d0 = a[i]! - b[start + i]!
    const d1 = a[i + 1]! - b[start + i + 1]!
    const d2 = a[i + 2]! - b[start + i + 2]!
    const d3 = a[i + 3]! - b[start + i + 3]!
    s0 += d0 * d0
    s1 += d1 * d1
    s2 += d2 * d2
    s3 += d3 * d3
  }
  for (; i < dim; i++) {
    const d = a[i]! - b[start + i]!
    s0 += d * d
  }
  return s0 + s1 + (s2 + s3)
}

/** Squared Euclidean norm of the `dim` values of `vectors` that start at `start`. */
export function squaredNorm(vectors: Float32Array, start = 0, dim = vectors.length): number {
  let s0 = 0
  let s1 = 0
  let s2 = 0
  let s3 = 0
  let i = start
  const end = start + dim
  for (; i + 4 <= end; i += 4) {
    s0 += vectors[i]! * vectors[i]!
    s1 += vectors[i + 1]! * vectors[i + 1]!
    s2 += vectors[i + 2]! * vectors[i + 2]!
    s3 += vectors[i + 3]! * vectors[i + 3]!
  }
  for (; i < end; i++) s0 += vectors[i]! * vectors[i]!
  return s0 + s1 + (s2 + s3)
}

/** The public distance of two vectors; see {@link Metric}. Canonical: all others must agree with it bit for bit. */
export function distance(metric: Metric, a: Float32Array, b: Float32Array): number {
  switch (metric) {
    case "cosine":
      return cosineFrom(dot(a, b), squaredNorm(a), squaredNorm(b))
    case "l2":
      return Math.sqrt(squaredDistance(a, b))
    case "dot":
      // 0 - x, so that orthogonal vectors are at 0 and not at -0.
      return 0 - dot(a, b)
  }
}

/** Cosine distance from the inner product and both squared norms. */
export function cosineFrom(product: number, squaredNormA: number, squaredNormB: number): number {
  return 1 - product / Math.sqrt(squaredNormA * squaredNormB)
}
