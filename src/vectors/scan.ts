/**
 * Exact search by looking at every row.
 */
import { cosineDistance, dotDistance, inverseNorm, inverseNorms } from "./distance.js"
import { innerProducts, squaredDistances } from "./kernel.js"
import type { Metric } from "./metric.js"
import { type RankedRows, TopK } from "./topk.js"

/** Rows to scan, with what can be computed once for all queries. */
export interface ScanTable {
  readonly metric: Metric
  readonly dim: number
  readonly rows: number
  /** Row-major, `rows × dim`; as given, not copied. */
  readonly vectors: Float32Array
  /** For `cosine`: 1 / norm of each row. Empty for the other metrics. */
  readonly inverseNorms: Float64Array
}

/** Prepares row-major `vectors` for scanning. They must not change afterwards. */
export function createScanTable(metric: Metric, vectors: Float32Array, dim: number): ScanTable {
  return Object.freeze({
    metric,
    dim,
    rows: vectors.length / dim,
    vectors,
    inverseNorms: metric === "cosine" ? inverseNorms(vectors, dim) : new Float64Array(0),
  })
}

// Enough rows to make the calls cheap, few enough for their distances to stay in the first-level cache.
const ROWS_PER_STEP = 512

/**
 * The nearest `k` rows of the table (all, if there are fewer) with their public distances, nearest first; equal
 * distances by row number, which is the rank. `query` has `table.dim` finite values and, under `cosine`, is not zero.
 * Throws `InvalidInput` unless k is an integer of 1 or more.
 */
export function scan(table: ScanTable, query: Float32Array, k: number): RankedRows {
  const top = new TopK(k, table.rows)
  const wideQuery = Float64Array.from(query)
  const queryInverseNorm = inverseNorm(query)
  const distances = new Float64Array(ROWS_PER_STEP)
  for (let from = 0; from < table.rows; from += ROWS_PER_STEP) {
    const to = Math.min(from + ROWS_PER_STEP, table.rows)
    fillDistances(table, from, to, wideQuery, queryInverseNorm, distances)
    for (let row = from; row < to; row++) {
      const distance = distances[row - from]!
      // Rows come by rising rank, so one that is only as near as the worst kept cannot displace it.
      if (distance < top.worst) top.push(distance, row)
    }
  }
  return top.takeSorted()
}

/** Public distances of rows `from` up to but not including `to`, into `out` from its start. */
function fillDistances(
  table: ScanTable,
  from: number,
  to: number,
  query: Float64Array,
  queryInverseNorm: number,
  out: Float64Array,
): void {
  const count = to - from
  switch (table.metric) {
    case "l2":
      squaredDistances(table.vectors, from, to, query, out)
      for (let i = 0; i < count; i++) out[i] = Math.sqrt(out[i]!)
      return
    case "dot":
      innerProducts(table.vectors, from, to, query, out)
      for (let i = 0; i < count; i++) out[i] = dotDistance(out[i]!)
      return
    case "cosine":
      innerProducts(table.vectors, from, to, query, out)
      for (let i = 0; i < count; i++) {
        out[i] = cosineDistance(out[i]!, queryInverseNorm, table.inverseNorms[from + i]!)
      }
  }
}
