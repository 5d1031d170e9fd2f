/**
 * The cells of a shard: its rows by k-means in clusters of about forty, which lie one after the other,
 * neighbours side by side. A search scans the cells whose centres are best.
 */
import { bestPoints, createPointTable, type PointTable } from "../kernel.js"
import { createRandom } from "../random.js"
import { type Directions, orderOfNeighbours, readDirection, roundDirections } from "./directions.js"
import type { CellSpace } from "./space.js"

type Comparison = CellSpace["comparison"]

export interface CellOptions {
  /** Rows a cell, about. Default 40. */
  readonly rowsPerCell?: number | undefined
  /** Cells at most. Default 128. */
  readonly mostCells?: number | undefined
}
export const ROWS_PER_CELL = 40
export const CELLS_MAX = 128

/** Cells in a group, whose mean is looked at before them. */
export const GROUP_CELLS = 8

/** The cells of some rows. A centre is `length × direction`, from the origin. */
export interface Cells {
  readonly dim: number
  readonly count: number
  /** The row at each position: those of cell c are at positions `starts[c]` up to `starts[c + 1]`, rising. */
  readonly order: Uint32Array
  readonly starts: Uint32Array
  readonly directions: Directions
  /** Mean inner product of a cell's rows with its direction: the multiple of it nearest to them. */
  readonly lengths: Float32Array
  /** Of eight cells each: where they are found. */
  readonly groups: Directions
  readonly groupLengths: Float32Array
}

const ROUNDS = 3
const SEED = 1

/**
 * Divides rows (`rows × dim`, in the space) into cells, none of which is empty. The same rows in the same
 * order give the same cells on every machine.
 */
export function formCells(
  { comparison, dim }: CellSpace,
  rows: Float32Array,
  options: CellOptions = {},
): Cells {
  const { rowsPerCell = ROWS_PER_CELL, mostCells = CELLS_MAX } = options
  const count = rows.length / dim
  const wanted = Math.max(1, Math.min(mostCells, Math.round(count / rowsPerCell), count))
  const trained = trainCentres(comparison, rows, dim, wanted, wanted * rowsPerCell)
  const cellOf = bestPoints(rows, tableOf(comparison, trained, dim))
  const used = membersOf(cellOf, wanted).filter((members) => members.length > 0)
  const means = new Float32Array(used.length * dim)
  for (const [cell, members] of used.entries()) {
    means.set(meanOf(comparison, rows, dim, members), cell * dim)
  }
  const placed = Array.from(orderOfNeighbours(means, dim))
  const directions = roundDirections(gather(means, dim, placed), dim)
  const starts = new Uint32Array(used.length + 1)
  const order = new Uint32Array(count)
  const lengths = new Float32Array(used.length)
  const direction = new Float32Array(dim)
  for (const [cell, from] of placed.entries()) {
    const members = used[from]!
    order.set(members, starts[cell]!)
    starts[cell + 1] = starts[cell]! + members.length
    readDirection(directions, cell, direction)
    const products = Float64Array.from(members, (row) => productOf(rows, row, direction))
    lengths[cell] =
      comparison === "products" ? median(products) : products.reduce((sum, x) => sum + x, 0) / products.length
  }
  return {
    dim,
    count: used.length,
    order,
    starts,
    directions,
    lengths,
    ...formGroups(comparison, directions, lengths, dim),
  }
}

function productOf(rows: Float32Array, row: number, direction: Float32Array): number {
  let sum = 0
  for (let i = 0; i < direction.length; i++) sum += rows[row * direction.length + i]! * direction[i]!
  return sum
}

/** Rows compared by products may be of very different lengths: the longest shall not speak for all. */
const median = (values: Float64Array): number => values.sort()[values.length >> 1]!

/**
 * Means of eight cells each. Unless distances are compared, a mean of directions is shorter than these, the
 * more so the more they differ; a group counts as if it were not.
 */
function formGroups(comparison: Comparison, directions: Directions, lengths: Float32Array, dim: number) {
  const count = Math.ceil(lengths.length / GROUP_CELLS)
  const means = new Float64Array(count * dim)
  const groupLengths = new Float32Array(count)
  const direction = new Float32Array(dim)
  for (let group = 0; group < count; group++) {
    const first = group * GROUP_CELLS
    const last = Math.min(first + GROUP_CELLS, lengths.length)
    let length = 0
    for (let cell = first; cell < last; cell++) {
      readDirection(directions, cell, direction)
      const share = (comparison === "directions" ? 1 : lengths[cell]!) / (last - first)
      for (let i = 0; i < dim; i++) means[group * dim + i]! += share * direction[i]!
      length += share
    }
    if (comparison === "distances") {
      length = 0
      for (let i = group * dim; i < (group + 1) * dim; i++) length += means[i]! * means[i]!
      length = Math.sqrt(length)
    }
    groupLengths[group] = length
  }
  return { groups: roundDirections(means, dim), groupLengths }
}

/** Centres of a random part of the rows: `wanted × dim`, of length 1 unless distances are compared. */
function trainCentres(
  comparison: Comparison,
  rows: Float32Array,
  dim: number,
  wanted: number,
  most: number,
): Float32Array {
  const sample = sampleOf(rows.length / dim, most)
  const centres = gather(rows, dim, sample.slice(0, wanted))
  if (comparison !== "distances")
    for (let cell = 0; cell < wanted; cell++) scale(centres.subarray(cell * dim, (cell + 1) * dim))
  if (wanted < 2) return centres
  const own = gather(rows, dim, sample)
  let before: Int32Array | undefined
  for (let round = 0; round < ROUNDS; round++) {
    const cellOf = bestPoints(own, tableOf(comparison, centres, dim))
    if (before?.every((cell, row) => cell === cellOf[row])) break
    before = cellOf
    const members = membersOf(cellOf, wanted)
    refill(members, own, dim, centres)
    for (const [cell, some] of members.entries()) {
      if (some.length > 0) centres.set(meanOf(comparison, own, dim, some), cell * dim)
    }
  }
  return centres
}

/** A row for each empty cell: those that are farthest from their centres, from cells that have others. */
function refill(members: number[][], rows: Float32Array, dim: number, centres: Float32Array): void {
  const empty = members.filter((some) => some.length === 0)
  if (empty.length === 0) return
  const far: { readonly row: number; readonly cell: number; readonly distance: number }[] = []
  for (const [cell, some] of members.entries()) {
    for (const row of some) {
      let distance = 0
      for (let i = 0; i < dim; i++) distance += (rows[row * dim + i]! - centres[cell * dim + i]!) ** 2
      if (distance > 0) far.push({ row, cell, distance })
    }
  }
  far.sort((a, b) => b.distance - a.distance || a.row - b.row)
  for (const { row, cell } of far) {
    if (members[cell]!.length < 2) continue
    const target = empty.pop()
    if (target === undefined) return
    members[cell]!.splice(members[cell]!.indexOf(row), 1)
    target.push(row)
  }
}

/** At most `most` of the numbers below `count`, in random order. */
function sampleOf(count: number, most: number): number[] {
  const random = createRandom(SEED)
  const order = Array.from({ length: count }, (_, i) => i)
  const length = Math.min(count, most)
  for (let i = 0; i < length; i++) {
    const other = i + random.below(count - i)
    const row = order[other]!
    order[other] = order[i]!
    order[i] = row
  }
  return order.slice(0, length)
}

function tableOf(comparison: Comparison, centres: Float32Array, dim: number): PointTable {
  if (comparison !== "distances")
    return createPointTable(
      centres,
      dim,
      () => 0,
      () => 1,
    )
  const bias = (point: number): number => {
    let sum = 0
    for (let i = point * dim; i < (point + 1) * dim; i++) sum += centres[i]! * centres[i]!
    return sum
  }
  return createPointTable(centres, dim, bias, () => 2)
}

function membersOf(cellOf: Int32Array, cells: number): number[][] {
  const members: number[][] = Array.from({ length: cells }, () => [])
  for (const [row, cell] of cellOf.entries()) members[cell]!.push(row)
  return members
}

/** Of directions unless distances are compared, and then of length 1, too. */
function meanOf(
  comparison: Comparison,
  rows: Float32Array,
  dim: number,
  members: readonly number[],
): Float32Array {
  const sums = new Float64Array(dim)
  for (const row of members) {
    const at = row * dim
    let weight = 1
    if (comparison === "products") {
      let squared = 0
      for (let i = at; i < at + dim; i++) squared += rows[i]! * rows[i]!
      weight = squared === 0 ? 0 : 1 / Math.sqrt(squared)
    }
    for (let i = 0; i < dim; i++) sums[i]! += weight * rows[at + i]!
  }
  if (comparison === "distances") for (let i = 0; i < dim; i++) sums[i]! /= members.length
  else scale(sums)
  return Float32Array.from(sums)
}

/** To length 1; zeros stay. */
function scale(vector: Float32Array | Float64Array): void {
  let squared = 0
  for (const x of vector) squared += x * x
  if (squared === 0) return
  const factor = 1 / Math.sqrt(squared)
  for (let i = 0; i < vector.length; i++) vector[i] = vector[i]! * factor
}

function gather(rows: Float32Array, dim: number, which: readonly number[]): Float32Array {
  const out = new Float32Array(which.length * dim)
  for (const [i, row] of which.entries()) out.set(rows.subarray(row * dim, (row + 1) * dim), i * dim)
  return out
}
