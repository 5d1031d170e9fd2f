export const METRICS = ["cosine", "l2", "dot"] as const

/**
 * How near two vectors are. One public distance per metric, smaller is nearer, whatever engine computed it:
 *
 * - `cosine`: 1 - cos(a, b), from 0 to 2. Zero vectors are refused.
 * - `l2`: the Euclidean distance (not squared).
 * - `dot`: the negated inner product.
 */
export type Metric = (typeof METRICS)[number]
