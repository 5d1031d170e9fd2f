/**
 * Vectors as a layout computes with them, so that one formula serves every metric: larger `x · p - bias(p)`
 * is nearer.
 *
 * | metric | rows | queries | bias(p) |
 * |---|---|---|---|
 * | `cosine` | length 1 | length 1 | 0 |
 * | `dot` | over their mean square length | length 1 | 0 |
 * | `l2` | less their mean, over their mean square length | the same | p · p / 2 |
 *
 * What the formula leaves out, half the squared length of x under `l2`, is the same for all p.
 * The scales make similarities of all three metrics alike in size, and with them the sharpness β of routing.
 */
import { invalidInput } from "../../../errors.js"
import type { Metric } from "../../../vectors/metric.js"

/** How rows and queries are brought into the space. */
export interface Preparation {
  readonly metric: Metric
  readonly dim: number
  /** Taken from rows and queries under `l2`, zero otherwise. */
  readonly origin: Float32Array
  /** Multiplies rows (after `origin` is taken): 1 under `cosine`. */
  readonly scale: number
}

/** Rows in the space. */
export interface SpaceRows {
  readonly metric: Metric
  readonly dim: number
  readonly rows: number
  /** `rows × dim`. */
  readonly vectors: Float32Array
}

/** Points that rows are compared with. */
export interface Points {
  readonly dim: number
  readonly count: number
  /** `count × dim`. */
  readonly vectors: Float32Array
  /** Absent where it is zero. */
  readonly bias: Float32Array | undefined
}

/** Mean and scale of `vectors` (`rows × dim`), as the metric needs them. */
export function fitPreparation(vectors: Float32Array, dim: number, metric: Metric): Preparation {
  const rows = vectors.length / dim
  const origin = new Float32Array(dim)
  if (metric === "cosine" || rows === 0) return { metric, dim, origin, scale: 1 }
  if (metric === "l2") {
    const sums = new Float64Array(dim)
    for (let row = 0, at = 0; row < rows; row++) {
      for (let i = 0; i < dim; i++, at++) sums[i]! += vectors[at]!
    }
    for (let i = 0; i < dim; i++) origin[i] = sums[i]! / rows
  }
  let squares = 0
  for (let row = 0, at = 0; row < rows; row++) {
    for (let i = 0; i < dim; i++, at++) squares += (vectors[at]! - origin[i]!) ** 2
  }
  const length = Math.sqrt(squares / rows)
  return { metric, dim, origin, scale: length > 0 && Number.isFinite(length) ? 1 / length : 1 }
}

/** Brings `vectors` into the space in place: a copy would double the memory of a build. */
export function prepareRows(preparation: Preparation, vectors: Float32Array): SpaceRows {
  const { metric, dim, origin, scale } = preparation
  const rows = vectors.length / dim
  if (!Number.isInteger(rows)) {
    throw invalidInput(
      `${vectors.length} numbers are no whole number of rows of ${dim}, expected a multiple of ${dim}`,
      { dim, got: vectors.length },
    )
  }
  if (metric === "cosine") scaleToUnitLength(vectors, dim)
  else {
    for (let row = 0, at = 0; row < rows; row++) {
      for (let i = 0; i < dim; i++, at++) vectors[at] = (vectors[at]! - origin[i]!) * scale
    }
  }
  return { metric, dim, rows, vectors }
}

/** Brings queries (`count × dim`, not changed) into the space. */
export function prepareQueries(preparation: Preparation, queries: Float32Array): Float32Array {
  const prepared = queries.slice()
  if (preparation.metric === "l2") prepareRows(preparation, prepared)
  else scaleToUnitLength(prepared, preparation.dim)
  return prepared
}

/** A zero row stays zero. In place. */
export function scaleToUnitLength(vectors: Float32Array, dim: number): void {
  for (let start = 0; start < vectors.length; start += dim) {
    let squares = 0
    for (let i = start; i < start + dim; i++) squares += vectors[i]! * vectors[i]!
    const scale = 1 / Math.max(Math.sqrt(squares), 1e-12)
    for (let i = start; i < start + dim; i++) vectors[i] = vectors[i]! * scale
  }
}

/** Points of the space from `count × dim` numbers. */
export function createPoints(vectors: Float32Array, dim: number, metric: Metric): Points {
  const count = vectors.length / dim
  if (metric !== "l2") return { dim, count, vectors, bias: undefined }
  const bias = new Float32Array(count)
  for (let point = 0; point < count; point++) bias[point] = squaredLength(vectors, point, dim) / 2
  return { dim, count, vectors, bias }
}

export function squaredLength(vectors: Float32Array, row: number, dim: number): number {
  let squares = 0
  for (let i = row * dim; i < (row + 1) * dim; i++) squares += vectors[i]! * vectors[i]!
  return squares
}

/** Rows `from` up to but not including `to`, as a view. */
export const sliceRows = (rows: SpaceRows, from: number, to: number): SpaceRows => ({
  ...rows,
  rows: to - from,
  vectors: rows.vectors.subarray(from * rows.dim, to * rows.dim),
})

/** Copies the given rows, from `from` up to but not including `to` of `members`, to the start of `out`. */
export function gatherRows(
  { vectors, dim }: Pick<SpaceRows, "vectors" | "dim">,
  members: ArrayLike<number>,
  from: number,
  to: number,
  out: Float32Array,
): void {
  for (let place = from, at = 0; place < to; place++) {
    let source = members[place]! * dim
    for (let i = 0; i < dim; i++) out[at++] = vectors[source++]!
  }
}
