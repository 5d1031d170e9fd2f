/**
 * How far a score of the compiled kernel, in float32, can lie from the one that our float64 arithmetic gives.
 *
 * A sum of products of n terms, in any order, errs by at most γ(m) Σ|xᵢyᵢ| ≤ γ(m) |x| |y| if no term takes
 * part in more than m roundings, where γ(m) = m u / (1 - m u) and u = 2⁻²⁴ (Higham, Accuracy and Stability of
 * Numerical Algorithms, 2nd ed., lemma 3.1 and section 3.1). In the kernel a term meets at most ceil(n / 4)
 * roundings in its lane, 3 where lanes are joined, and a few more: weights and their product 2, squaring a
 * rounded difference 2, rounding the threshold 1, and 1 for all of float64's. {@link roundings} allows for
 * 12.
 *
 * That holds without overflow and as long as underflow is of no account, so it is applied only to vectors of
 * ordinary length. Products that underflow all the same are off by at most 2⁻¹⁵⁰ each.
 */

const UNIT_ROUNDOFF = 2 ** -24

/**
 * Lengths of vectors that the compiled kernel is used for. Squares and products stay far from float32's ends.
 */
export const LENGTH_MAX = 2 ** 40
export const LENGTH_MIN = 2 ** -40

const roundings = (dim: number): number => Math.ceil(dim / 4) + 12

/**
 * γ for a sum over `dim` elements: the relative error of a squared distance, and of an inner product as
 * above.
 */
function relativeError(dim: number): number {
  const m = roundings(dim)
  return (m * UNIT_ROUNDOFF) / (1 - m * UNIT_ROUNDOFF)
}

/** What underflow can add over `dim` elements. */
const underflow = (dim: number): number => dim * 2 ** -149

/**
 * Error E of inner products in a scan. Let the k-th smallest score of the kernel be T. Then k rows have an
 * exact score of at most T + E, and a row that is among the k nearest one of at most that, hence T + 2 E in
 * the kernel. `length`: of the query times the longest row.
 */
export function productError(dim: number, length: number): number {
  return relativeError(dim) * length + underflow(dim)
}

/**
 * The same where rows and query were rounded to integers: each differs from what stands for it by a vector of
 * at most the residual's length (Cauchy-Schwarz). The integers' sums are exact; turning them into a score
 * rounds a few times.
 */
export function codeError(rowLength: number, rowResidual: number, length: number, residual: number): number {
  const rounded = (rowLength + rowResidual) * (length + residual)
  return rowResidual * length + (rowLength + rowResidual) * residual + 8 * UNIT_ROUNDOFF * rounded
}

/**
 * Largest score in the kernel of a row that may be among the nearest, for squared distances, whose error is
 * relative: they are sums without cancellation. See {@link productError}.
 */
export function distanceLimit(worst: number, dim: number): number {
  const error = relativeError(dim)
  return (worst + underflow(dim)) * ((1 + error) / (1 - error)) + underflow(dim)
}

/**
 * For comparisons with points: the error of `bias - x · point` is at most this times |x|, plus
 * {@link biasError}. One γ more because |x| itself comes from a sum in float32.
 */
export function pointError(dim: number, longestPoint: number): number {
  const error = relativeError(dim)
  return error * (1 + error) * longestPoint
}

/** Rounding the bias, and the difference to it: half an ulp each, and as much again to spare. */
export const biasError = (largestBias: number): number => 4 * UNIT_ROUNDOFF * largestBias
