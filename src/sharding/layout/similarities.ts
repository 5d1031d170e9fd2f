/** The products that a layout spends nearly all of its time in: a block of vectors against points of the space. */
import type { Points } from "./space.js"

const BLOCK_ROWS = 4

/**
 * `x · p - bias(p)` of the first `count` vectors of `vectors` with all points, row-major into `out`
 * (`count × points.count`). Sums run in float64.
 */
export function similarities(vectors: Float32Array, count: number, points: Points, out: Float32Array): void {
  const { dim, bias, vectors: elements, count: pointCount } = points
  const block = new Float64Array(BLOCK_ROWS * dim)
  for (let row = 0; row < count; row += BLOCK_ROWS) {
    const rows = Math.min(BLOCK_ROWS, count - row)
    // Rows beyond the end keep old values; their sums are not written.
    for (let i = 0; i < rows * dim; i++) block[i] = vectors[row * dim + i]!
    const out0 = row * pointCount
    const out1 = out0 + pointCount
    const out2 = out1 + pointCount
    const out3 = out2 + pointCount
    let point = 0
    for (; point + 2 <= pointCount; point += 2) {
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
        const elementA = elements[startA + i]!
        const elementB = elements[startB + i]!
        const element0 = block[i]!
        const element1 = block[dim + i]!
        const element2 = block[2 * dim + i]!
        const element3 = block[3 * dim + i]!
        sum0A += element0 * elementA
        sum1A += element1 * elementA
        sum2A += element2 * elementA
        sum3A += element3 * elementA
        sum0B += element0 * elementB
        sum1B += element1 * elementB
        sum2B += element2 * elementB
        sum3B += element3 * elementB
      }
      const biasA = bias === undefined ? 0 : bias[point]!
      const biasB = bias === undefined ? 0 : bias[point + 1]!
      out[out0 + point] = sum0A - biasA
      out[out0 + point + 1] = sum0B - biasB
      if (rows > 1) {
        out[out1 + point] = sum1A - biasA
        out[out1 + point + 1] = sum1B - biasB
      }
      if (rows > 2) {
        out[out2 + point] = sum2A - biasA
        out[out2 + point + 1] = sum2B - biasB
      }
      if (rows > 3) {
        out[out3 + point] = sum3A - biasA
        out[out3 + point + 1] = sum3B - biasB
      }
    }
    for (; point < pointCount; point++) {
      for (let other = 0; other < rows; other++) {
        let sum = 0
        for (let i = 0; i < dim; i++) sum += block[other * dim + i]! * elements[point * dim + i]!
        out[out0 + other * pointCount + point] = sum - (bias === undefined ? 0 : bias[point]!)
      }
    }
  }
}

/** Similarities are worked out in blocks of about this many numbers: 1 MB, which stays in a core's cache. */
const BLOCK_NUMBERS = 1 << 18

/** How many rows make such a block against `points` points. */
export const blockRows = (points: number): number =>
  Math.max(BLOCK_ROWS, Math.min(1024, Math.floor(BLOCK_NUMBERS / Math.max(1, points))))

/** Best k of each of some rows so far, best first: `k` ids and similarities a row; empty places are -1 and -Infinity. */
export interface TopLists {
  readonly k: number
  readonly ids: Int32Array
  readonly similarities: Float32Array
}

/** Lists for `rows` rows; in shared memory if worker threads are to write them. */
export function createTopLists(rows: number, k: number, shared = false): TopLists {
  const bytes = 4 * rows * k
  const buffer = () => (shared ? new SharedArrayBuffer(bytes) : new ArrayBuffer(bytes))
  return { k, ids: new Int32Array(buffer()).fill(-1), similarities: new Float32Array(buffer()).fill(-Infinity) }
}

/**
 * Offers `count` candidates with their similarities (from `at` on) to list `list`. Of equal ones those offered first
 * stay.
 */
export function offer(
  lists: TopLists,
  list: number,
  block: Float32Array,
  at: number,
  candidates: ArrayLike<number>,
  count: number,
): void {
  const { k, ids, similarities: best } = lists
  const first = list * k
  const last = first + k - 1
  let least = best[last]!
  for (let i = 0; i < count; i++) {
    const similarity = block[at + i]!
    if (similarity <= least) continue
    let place = last
    while (place > first && best[place - 1]! < similarity) {
      best[place] = best[place - 1]!
      ids[place] = ids[place - 1]!
      place--
    }
    best[place] = similarity
    ids[place] = candidates[i]!
    least = best[last]!
  }
}
