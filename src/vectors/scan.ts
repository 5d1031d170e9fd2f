import { cosineFrom, dot, squaredDistance, squaredNorm } from "./distance.js"
import type { Metric } from "./metric.js"
import type { TopK } from "./topk.js"

/** Rows to scan: `vectors` is row-major, its rows are numbered from `firstRow`. */
export interface ScanBlock {
  readonly firstRow: number
  readonly vectors: Float32Array
  /** Squared norm of each row, for cosine; computed on the way if absent. */
  readonly squaredNorms?: Float64Array | undefined
}

/** Squared norm of each row of `vectors`. */
export function squaredNorms(vectors: Float32Array, dim: number): Float64Array {
  const norms = new Float64Array(vectors.length / dim)
  for (let row = 0; row < norms.length; row++) norms[row] = squaredNorm(vectors, row * dim, dim)
  return norms
}

/** Offers every row of the block to `top`, at its exact public distance from the query. */
export function scanBlock(metric: Metric, query: Float32Array, block: ScanBlock, top: TopK): void {
  const { vectors, firstRow } = block
  const dim = query.length
  const rows = vectors.length / dim
  const norms = metric === "cosine" ? (block.squaredNorms ?? squaredNorms(vectors, dim)) : undefined
  const queryNorm = squaredNorm(query)
  // Rows come in rising order, so one at the bound or beyond cannot enter and the call is saved.
  let bound = top.bound
  for (let row = 0; row < rows; row++) {
    const start = row * dim
    const distance =
      norms !== undefined
        ? cosineFrom(dot(query, vectors, start), queryNorm, norms[row]!)
        : metric === "l2"
          ? Math.sqrt(squaredDistance(query, vectors, start))
          : 0 - dot(query, vectors, start)
    if (distance >= bound) continue
    top.push(distance, firstRow + row)
    bound = top.bound
  }
}
