/**
 * Comparing many rows with points such as centroids: the inner loop of k-means, of assigning rows to shards
 * and of routing. Runs on the compiled kernel (kernel/assembly) in float32 and falls back to plain TypeScript
 * in float64.
 *
 * Which point is nearest does not depend on which of the two ran: where the margin to the second is within
 * the error bound of float32, the row is looked at again in float64.
 */
import { biasError, LENGTH_MAX, LENGTH_MIN, pointError } from "./kernel/bounds.js"
import { GUARD_BYTES, type KernelMemory, pack, packedLength, scratchMemory } from "./kernel/memory.js"
import * as plain from "./kernel/plain.js"

export { kernelInUse } from "./kernel/memory.js"

/** Points that rows are compared with, prepared for the kernel as well. */
export interface PointTable extends plain.PlainPoints {
  /** For the compiled kernel; undefined where its bounds would not hold. */
  readonly packed: PackedPoints | undefined
}

/** Points times their scale, in float32. */
interface PackedPoints {
  /** As the kernel wants them, the one that fills up the last pair included. */
  readonly elements: Float32Array
  readonly bias: Float32Array
  /** Of the score of a row: `perLength` × the row's length + `always`. */
  readonly error: { readonly perLength: number; readonly always: number }
}

/** Prepares row-major `elements`, which are copied. `bias` and `scale` are called once for each point. */
export function createPointTable(
  elements: Float32Array | Float64Array,
  dim: number,
  bias: (point: number) => number,
  scale: (point: number) => number,
): PointTable {
  const points = elements.length / dim
  const padded = points + (points % 2)
  const table = {
    points,
    dim,
    elements: new Float64Array(padded * dim),
    bias: new Float64Array(padded).fill(Infinity),
    scale: new Float64Array(padded),
  }
  table.elements.set(elements)
  for (let point = 0; point < points; point++) {
    table.bias[point] = bias(point)
    table.scale[point] = scale(point)
  }
  return { ...table, packed: packPoints(table) }
}

function packPoints({ points, dim, elements, bias, scale }: Omit<PointTable, "packed">) {
  const length = packedLength(dim)
  const packed = new Float32Array(bias.length * length)
  let longest = 0
  let largestBias = 0
  for (let point = 0; point < points; point++) {
    const scaled = elements.subarray(point * dim, (point + 1) * dim).map((value) => value * scale[point]!)
    let squaredNorm = 0
    for (const value of scaled) squaredNorm += value * value
    // Math.max also carries NaN on.
    longest = Math.max(longest, Math.sqrt(squaredNorm))
    largestBias = Math.max(largestBias, Math.abs(bias[point]!))
    pack(packed, point * length, scaled, 0, dim)
  }
  const ordinary = longest >= LENGTH_MIN && longest <= LENGTH_MAX && largestBias <= LENGTH_MAX ** 2
  if (!ordinary) return undefined
  const error = { perLength: pointError(dim, longest), always: biasError(largestBias) }
  return { elements: packed, bias: Float32Array.from(bias), error }
}

/** Scores of one vector at all points, in float64. {@link bestPoints} finds the first smallest of them. */
export function pointScores(vector: ArrayLike<number>, table: PointTable): Float64Array {
  return plain.pointScores(vector, table)
}

/** The point with the smallest score for each row of `vectors`; of equal ones the first. */
export function bestPoints(vectors: Float32Array, table: PointTable): Int32Array {
  return nearestByKernel(vectors, table)?.points ?? plain.bestPoints(vectors, table)
}

export interface NearestPoints {
  /** As {@link bestPoints}. */
  readonly points: Int32Array
  /**
   * By how much the second smallest score is larger; Infinity with a single point. In float32 and so, unlike
   * the points, not to the last bit the same on every machine.
   */
  readonly margins: Float32Array
}

/** The nearest point of each row, and how clearly it is. */
export function nearestPoints(vectors: Float32Array, table: PointTable): NearestPoints {
  const found = nearestByKernel(vectors, table)
  if (found !== undefined) return found
  const plainly = emptyNearest(vectors.length / table.dim)
  for (let row = 0; row < plainly.points.length; row++) nearestInFloat64(vectors, row, table, plainly)
  return plainly
}

const emptyNearest = (rows: number): NearestPoints => ({
  points: new Int32Array(rows),
  margins: new Float32Array(rows),
})

/** Undefined where the compiled kernel cannot be used. */
function nearestByKernel(vectors: Float32Array, table: PointTable): NearestPoints | undefined {
  const found = emptyNearest(vectors.length / table.dim)
  const { points, margins } = found
  const done = compareInTiles(vectors, table, false, (from, to, { nearest, best, second, squaredNorms }) => {
    const { perLength, always } = table.packed!.error
    for (let row = from; row < to; row++) {
      const i = row - from
      const squaredNorm = squaredNorms[i]!
      const margin = second[i]! - best[i]!
      points[row] = nearest[i]!
      margins[row] = margin
      const isOrdinary = squaredNorm >= LENGTH_MIN ** 2 && squaredNorm <= LENGTH_MAX ** 2
      const isSure = margin > 2 * (perLength * Math.sqrt(squaredNorm) + always)
      if (!isOrdinary || !isSure) nearestInFloat64(vectors, row, table, found)
    }
  })
  return done ? found : undefined
}

function nearestInFloat64(
  vectors: Float32Array,
  row: number,
  table: PointTable,
  { points, margins }: NearestPoints,
): void {
  const scores = plain.pointScores(vectors.subarray(row * table.dim, (row + 1) * table.dim), table)
  let best = Infinity
  let second = Infinity
  let nearest = 0
  for (let point = 0; point < scores.length; point++) {
    const score = scores[point]!
    if (score < best) {
      second = best
      best = score
      nearest = point
    } else if (score < second) second = score
  }
  points[row] = nearest
  margins[row] = second - best
}

/**
 * All scores, row-major `rows × points`, in float32: off by at most 2 u |score| + γ |x| max |scale · p|, see
 * kernel/bounds.ts.
 */
export function scoreMatrix(vectors: Float32Array, table: PointTable): Float32Array {
  const { points, dim, bias } = table
  const rows = vectors.length / dim
  const matrix = new Float32Array(rows * points)
  const kernel = compareInTiles(vectors, table, true, (from, to, { scores }) => {
    for (let row = from; row < to; row++) {
      const start = (row - from) * bias.length
      matrix.set(scores.subarray(start, start + points), row * points)
    }
  })
  if (!kernel) {
    for (let row = 0; row < rows; row++) {
      matrix.set(plain.pointScores(vectors.subarray(row * dim, (row + 1) * dim), table), row * points)
    }
  }
  return matrix
}

/**
 * What the kernel says of the rows of a tile, from its first row on; views that are good until the next call.
 */
interface Compared {
  readonly nearest: Int32Array
  readonly best: Float32Array
  readonly second: Float32Array
  readonly squaredNorms: Float32Array
  /** Rows × points, the latter padded to an even number; empty if not asked for. */
  readonly scores: Float32Array
}

// Rows and points of a step should stay in the second-level cache.
const TILE_FLOATS = 2 ** 15

/**
 * Compares tile by tile in scratch memory. False, without a call, where the compiled kernel cannot be used.
 */
function compareInTiles(
  vectors: Float32Array,
  table: PointTable,
  withScores: boolean,
  use: (from: number, to: number, compared: Compared) => void,
): boolean {
  const { dim, packed } = table
  if (packed === undefined) return false
  const rows = vectors.length / dim
  const pointCount = packed.bias.length
  const tileRows = Math.max(4, Math.floor(TILE_FLOATS / Math.max(dim, withScores ? pointCount : 0) / 4) * 4)
  // Lengths in floats, one after the other.
  const lengths = [
    packed.elements.length,
    packed.bias.length,
    tileRows * dim,
    tileRows,
    tileRows,
    tileRows,
    tileRows,
    withScores ? tileRows * pointCount : 0,
  ]
  let end = GUARD_BYTES
  const starts = lengths.map((length) => {
    const start = end
    end += Math.ceil(length / 4) * 16
    return start
  })
  const [points, bias, base, nearest, best, second, squaredNorms, scores] = starts as [
    number,
    number,
    number,
    number,
    number,
    number,
    number,
    number,
  ]
  const memory: KernelMemory | undefined = scratchMemory(end)
  if (memory === undefined) return false
  const { floats, integers, exports } = memory
  const view = (start: number, length: number) => floats.subarray(start / 4, start / 4 + length)
  floats.set(packed.elements, points / 4)
  floats.set(packed.bias, bias / 4)
  const compared: Compared = {
    nearest: integers.subarray(nearest / 4, nearest / 4 + tileRows),
    best: view(best, tileRows),
    second: view(second, tileRows),
    squaredNorms: view(squaredNorms, tileRows),
    scores: view(scores, lengths[7]!),
  }
  for (let from = 0; from < rows; from += tileRows) {
    const to = Math.min(from + tileRows, rows)
    floats.set(vectors.subarray(from * dim, to * dim), base / 4)
    exports.comparePoints(
      base,
      to - from,
      dim,
      points,
      bias,
      pointCount,
      nearest,
      best,
      second,
      squaredNorms,
      withScores ? scores : 0,
    )
    use(from, to, compared)
  }
  return true
}
