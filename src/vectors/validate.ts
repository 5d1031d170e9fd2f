/**
 * What makes a vector unusable: a wrong dimension, a value that is not finite in float32, a zero vector under
 * cosine.
 */
import { invalidInput } from "../errors.js"
import { kindOf } from "../wording.js"
import type { Metric } from "./metric.js"
import { unpackVector } from "./packed.js"

/** What callers without types may give: null, a text, an object. */
const isList = (vector: unknown): boolean => Array.isArray(vector) || ArrayBuffer.isView(vector)

/** What is wrong with a vector, in words that follow "the vector"; `undefined` if nothing is. */
export function vectorProblem(vector: ArrayLike<number>, dim: number, metric: Metric): string | undefined {
  if (!isList(vector)) return `is ${kindOf(vector)}, expected ${dim} numbers`
  if (vector.length !== dim) return `has ${vector.length} values, expected ${dim}`
  if (vector instanceof Float32Array && isUsable(vector, 0, dim, metric)) return undefined
  let isZero = true
  for (let i = 0; i < dim; i++) {
    const value = vector[i]
    if (typeof value !== "number") return `has ${kindOf(value)} at position ${i}, expected a number`
    if (!Number.isFinite(value)) return `has ${value} at position ${i}, expected a finite number`
    const stored = Math.fround(value)
    if (!Number.isFinite(stored)) return `has ${value} at position ${i}, which is too large for float32`
    if (stored !== 0) isZero = false
  }
  if (isZero && metric === "cosine")
    return "is zero, and cosine has no direction to compare; expected a value other than 0"
  return undefined
}

/** Whether a vector among others is usable: one pass for the good ones. */
function isUsable(vectors: Float32Array, start: number, dim: number, metric: Metric): boolean {
  // Squares of float32 values neither overflow nor vanish in float64. So the sum is finite exactly if all
  // values are, and 0 exactly if all are 0.
  let squares = 0
  for (let i = start; i < start + dim; i++) squares += vectors[i]! * vectors[i]!
  return Number.isFinite(squares) && (squares > 0 || metric !== "cosine")
}

/**
 * `vector` as float32 (itself, if it is that already). Bytes are float32 values if there are `dim` of them.
 * Throws `InvalidInput` that begins with `what`, for example "the query vector", if it is not usable.
 */
export function checkVector(
  vector: ArrayLike<number>,
  dim: number,
  metric: Metric,
  what = "the vector",
): Float32Array {
  const numbers = vector instanceof Uint8Array ? unpackVector(vector, { dim }) : vector
  const problem = typeof numbers === "string" ? numbers : vectorProblem(numbers, dim, metric)
  if (problem !== undefined) throw invalidInput(`${what} ${problem}`, { dim, metric })
  return numbers instanceof Float32Array ? numbers : Float32Array.from(numbers as ArrayLike<number>)
}

export interface BadRow {
  /** 0-based row of the batch. */
  readonly row: number
  /** In words that follow "the vector". */
  readonly problem: string
}

/** The unusable rows of row-major `vectors`, whose length is a multiple of `dim`. */
export function findBadRows(vectors: Float32Array, dim: number, metric: Metric): BadRow[] {
  const bad: BadRow[] = []
  for (let start = 0; start < vectors.length; start += dim) {
    if (isUsable(vectors, start, dim, metric)) continue
    const problem = vectorProblem(vectors.subarray(start, start + dim), dim, metric)
    if (problem !== undefined) bad.push({ row: start / dim, problem })
  }
  return bad
}
