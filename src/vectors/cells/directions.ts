/** Vectors as directions in bytes, and the order in which neighbours lie side by side. */
import { CODED_TOGETHER, codeOffset, codeStart, codesLength } from "../kernel/codes.js"

/** Directions in bytes, mixed in eights as kernel/codes.ts says. */
export interface Directions {
  readonly codes: Int8Array
  /** What multiplies the bytes of each, so that its length is 1; 0 for a zero vector. Padded to eights. */
  readonly weights: Float32Array
}

/** A byte's largest size. */
export const DIRECTION_MAX = 127

export const paddedToEights = (count: number): number => Math.ceil(count / CODED_TOGETHER) * CODED_TOGETHER

/** Rounds the directions of `count × dim` numbers. */
export function roundDirections(vectors: Float32Array | Float64Array, dim: number): Directions {
  const count = vectors.length / dim
  const codes = new Int8Array(codesLength(count, dim))
  const weights = new Float32Array(paddedToEights(count))
  for (let row = 0; row < count; row++) {
    const start = row * dim
    let largest = 0
    for (let i = start; i < start + dim; i++) largest = Math.max(largest, Math.abs(vectors[i]!))
    if (largest === 0) continue
    const place = codeStart(row, dim)
    let squared = 0
    for (let i = 0; i < dim; i++) {
      const code = Math.round((vectors[start + i]! / largest) * DIRECTION_MAX)
      codes[place + codeOffset(i)] = code
      squared += code * code
    }
    weights[row] = 1 / Math.sqrt(squared)
  }
  return { codes, weights }
}

/** The direction of one of them, as `dim` numbers into `out`. */
export function readDirection({ codes, weights }: Directions, row: number, out: Float32Array): void {
  const place = codeStart(row, out.length)
  for (let i = 0; i < out.length; i++) out[i] = codes[place + codeOffset(i)]! * weights[row]!
}

const ROUNDS = 8

/**
 * An order of `count × dim` points in which neighbours are near each other: halved along their principal
 * direction again and again, at multiples of eight as long as there are more, so that eights are near each
 * other, too. Points that are equal keep their order.
 */
export function orderOfNeighbours(points: Float32Array, dim: number): Uint32Array {
  const order = Uint32Array.from({ length: points.length / dim }, (_, i) => i)
  const halve = (from: number, to: number): void => {
    const count = to - from
    if (count < 2) return
    const some = order.subarray(from, to)
    const places = projections(points, dim, some)
    const sorted = Array.from(some.keys()).sort((a, b) => places[a]! - places[b]! || some[a]! - some[b]!)
    some.set(sorted.map((i) => some[i]!))
    const half = count > 8 ? 8 * Math.ceil(count / 16) : count >> 1
    halve(from, from + half)
    halve(from + half, to)
  }
  halve(0, order.length)
  return order
}

/** Where some points lie along the direction in which they differ most, by power iteration. */
function projections(points: Float32Array, dim: number, some: Uint32Array): Float64Array {
  const mean = new Float64Array(dim)
  for (const point of some) for (let i = 0; i < dim; i++) mean[i]! += points[point * dim + i]! / some.length
  const along = (point: number, direction: Float64Array): number => {
    let sum = 0
    for (let i = 0; i < dim; i++) sum += (points[point * dim + i]! - mean[i]!) * direction[i]!
    return sum
  }
  const differences = (point: number) =>
    Float64Array.from({ length: dim }, (_, i) => points[point * dim + i]! - mean[i]!)
  const squared = (vector: Float64Array): number => vector.reduce((sum, x) => sum + x * x, 0)
  let direction = new Float64Array(dim)
  for (const point of some) {
    const difference = differences(point)
    if (squared(difference) > squared(direction)) direction = difference
  }
  for (let round = 0; round < ROUNDS; round++) {
    const next = new Float64Array(dim)
    for (const point of some) {
      const place = along(point, direction)
      for (let i = 0; i < dim; i++) next[i]! += place * (points[point * dim + i]! - mean[i]!)
    }
    const length = Math.sqrt(squared(next))
    if (!(length > 0) || !Number.isFinite(length)) break
    direction = next.map((x) => x / length)
  }
  return Float64Array.from(some, (point) => along(point, direction))
}
