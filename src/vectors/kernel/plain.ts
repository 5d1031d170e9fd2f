/**
 * The inner loops in plain TypeScript: what is exact, and what runs where the compiled kernel cannot.
 *
 * Rows are taken four at a time: every element of the other side is then loaded once for four products, and
 * four independent sums keep the processor's adder busy where one would wait for itself. Each sum still runs
 * over the elements from first to last in one float64 accumulator, as in distance.ts.
 */

/**
 * Points that rows are compared with. The score of a row x at point p is `bias[p] - scale[p] * (x · p)`,
 * smaller is better, which covers every metric up to a term that only depends on x.
 */
export interface PlainPoints {
  /** Number of points. */
  readonly points: number
  readonly dim: number
  /** Row-major; one row of zeros more if `points` is odd, since the kernel takes points in pairs. */
  readonly elements: Float64Array
  /** Infinity for the row that was added, so that it is never the best. */
  readonly bias: Float64Array
  readonly scale: Float64Array
}

const BLOCK_ROWS = 4

/**
 * Inner products of `query` with rows `from` up to but not including `to` of row-major `vectors`, into `out`
 * from its start. `query.length` is the dimension.
 */
export function innerProducts(
  vectors: Float32Array,
  from: number,
  to: number,
  query: Float64Array,
  out: Float64Array,
): void {
  const dim = query.length
  let row = from
  for (; row + BLOCK_ROWS <= to; row += BLOCK_ROWS) {
    const start0 = row * dim
    const start1 = start0 + dim
    const start2 = start1 + dim
    const start3 = start2 + dim
    let sum0 = 0
    let sum1 = 0
    let sum2 = 0
    let sum3 = 0
    for (let i = 0; i < dim; i++) {
      const element = query[i]!
      sum0 += vectors[start0 + i]! * element
      sum1 += vectors[start1 + i]! * element
      sum2 += vectors[start2 + i]! * element
      sum3 += vectors[start3 + i]! * element
    }
    out[row - from] = sum0
    out[row - from + 1] = sum1
    out[row - from + 2] = sum2
    out[row - from + 3] = sum3
  }
  for (; row < to; row++) {
    let sum = 0
    for (let i = 0; i < dim; i++) sum += vectors[row * dim + i]! * query[i]!
    out[row - from] = sum
  }
}

/** Squared Euclidean distances, otherwise as {@link innerProducts}. */
export function squaredDistances(
  vectors: Float32Array,
  from: number,
  to: number,
  query: Float64Array,
  out: Float64Array,
): void {
  const dim = query.length
  let row = from
  for (; row + BLOCK_ROWS <= to; row += BLOCK_ROWS) {
    const start0 = row * dim
    const start1 = start0 + dim
    const start2 = start1 + dim
    const start3 = start2 + dim
    let sum0 = 0
    let sum1 = 0
    let sum2 = 0
    let sum3 = 0
    for (let i = 0; i < dim; i++) {
      const element = query[i]!
      const difference0 = vectors[start0 + i]! - element
      const difference1 = vectors[start1 + i]! - element
      const difference2 = vectors[start2 + i]! - element
      const difference3 = vectors[start3 + i]! - element
      sum0 += difference0 * difference0
      sum1 += difference1 * difference1
      sum2 += difference2 * difference2
      sum3 += difference3 * difference3
    }
    out[row - from] = sum0
    out[row - from + 1] = sum1
    out[row - from + 2] = sum2
    out[row - from + 3] = sum3
  }
  for (; row < to; row++) {
    let sum = 0
    for (let i = 0; i < dim; i++) {
      const difference = vectors[row * dim + i]! - query[i]!
      sum += difference * difference
    }
    out[row - from] = sum
  }
}

/** Scores of one vector at all points, equal bit for bit to those that {@link bestPoints} compares. */
export function pointScores(vector: ArrayLike<number>, table: PlainPoints): Float64Array {
  const { dim, elements } = table
  const scores = new Float64Array(table.points)
  for (let point = 0; point < scores.length; point++) {
    let product = 0
    for (let i = 0; i < dim; i++) product += vector[i]! * elements[point * dim + i]!
    scores[point] = table.bias[point]! - table.scale[point]! * product
  }
  return scores
}

/** The point with the smallest score for each row of `vectors`; of equal ones the first. */
export function bestPoints(vectors: Float32Array, table: PlainPoints): Int32Array {
  const { dim, elements, bias, scale } = table
  const rows = vectors.length / dim
  const out = new Int32Array(rows)
  const block = new Float64Array(BLOCK_ROWS * dim)
  for (let row = 0; row < rows; row += BLOCK_ROWS) {
    // Converted once here instead of once per point. In the last block, rows beyond the end keep old values:
    // not read.
    block.set(vectors.subarray(row * dim, (row + BLOCK_ROWS) * dim))
    let best0 = Infinity
    let best1 = Infinity
    let best2 = Infinity
    let best3 = Infinity
    let point0 = 0
    let point1 = 0
    let point2 = 0
    let point3 = 0
    for (let point = 0; point < table.points; point += 2) {
      const startA = point * dim
      const startB = startA + dim
      let sum0A = 0
      let sum1A = 0
      let sum2A = 0
      let sum3A = 0
      let sum0B = 0
      let sum1B = 0
      let sum2B = 0
      let sum3B = 0
      for (let i = 0; i < dim; i++) {
        const element0 = block[i]!
        const element1 = block[dim + i]!
        const element2 = block[2 * dim + i]!
        const element3 = block[3 * dim + i]!
        const elementA = elements[startA + i]!
        const elementB = elements[startB + i]!
        sum0A += element0 * elementA
        sum1A += element1 * elementA
        sum2A += element2 * elementA
        sum3A += element3 * elementA
        sum0B += element0 * elementB
        sum1B += element1 * elementB
        sum2B += element2 * elementB
        sum3B += element3 * elementB
      }
      const biasA = bias[point]!
      const biasB = bias[point + 1]!
      const scaleA = scale[point]!
      const scaleB = scale[point + 1]!
      const score0A = biasA - scaleA * sum0A
      const score1A = biasA - scaleA * sum1A
      const score2A = biasA - scaleA * sum2A
      const score3A = biasA - scaleA * sum3A
      const score0B = biasB - scaleB * sum0B
      const score1B = biasB - scaleB * sum1B
      const score2B = biasB - scaleB * sum2B
      const score3B = biasB - scaleB * sum3B
      // Strictly smaller, A before B: the first of equals stays.
      if (score0A < best0) {
        best0 = score0A
        point0 = point
      }
      if (score1A < best1) {
        best1 = score1A
        point1 = point
      }
      if (score2A < best2) {
        best2 = score2A
        point2 = point
      }
      if (score3A < best3) {
        best3 = score3A
        point3 = point
      }
      if (score0B < best0) {
        best0 = score0B
        point0 = point + 1
      }
      if (score1B < best1) {
        best1 = score1B
        point1 = point + 1
      }
      if (score2B < best2) {
        best2 = score2B
        point2 = point + 1
      }
      if (score3B < best3) {
        best3 = score3B
        point3 = point + 1
      }
    }
    out[row] = point0
    // Writes beyond the end of a typed array are ignored.
    out[row + 1] = point1
    out[row + 2] = point2
    out[row + 3] = point3
  }
  return out
}
