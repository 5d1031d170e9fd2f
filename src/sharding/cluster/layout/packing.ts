/**
 * Layout B, first half: many small cells of rows, packed into shards so that neighbours lie together: a
 * partition of the graph of cells, improved by moves and swaps within a floor and a capacity (in the manner
 * of Kernighan and Lin, 1970).
 */

import { saltOf } from "../space/hash.js"
import { groupMembers } from "../space/order.js"
import { createPoints, type SpaceRows, scaleToUnitLength } from "../space/space.js"
import type { Workers } from "../space/workers.js"
import { assignWithCapacity } from "./balanced.js"
import { closestCells, trainCells } from "./cells.js"
import { trainClusters } from "./clusters.js"
import type { NeighbourGraph } from "./graph.js"

const CELLS_PER_SHARD = 32
const START_CAPACITY = 1.08
const START_ROUNDS = 10
const FLOOR = 0.85
const CAPACITY = 1.1
const SWEEPS = 30
/**
 * Affinities of cells with shards take 4 bytes each: 128 MB at most, with fewer cells a shard beyond 1,024
 * shards.
 */
const AFFINITIES = 2 ** 25

/**
 * The graph of cells, both directions together, no loops: edges of cell c are `start[c] … start[c + 1] - 1`.
 */
export interface CellGraph {
  readonly start: Int32Array
  /** Rising for each cell. */
  readonly to: Int32Array
  /** How many pairs (row, neighbour) the edge stands for. */
  readonly pairs: Int32Array
}

export interface Packing {
  /** Of each cell. Changed by {@link packCells}. */
  readonly shardOf: Int32Array
  readonly weights: Int32Array
  readonly shards: number
  /** Least and most rows of a shard. */
  readonly floor: number
  readonly capacity: number
}

/** The shard of each row. */
export function packedLayout(
  rows: SpaceRows,
  graph: NeighbourGraph,
  shards: number,
  seed: number,
  workers?: Workers,
): { readonly shardOf: Int32Array; readonly start: Int32Array; readonly changes: number } {
  const perShard = Math.max(2, Math.min(CELLS_PER_SHARD, Math.floor(AFFINITIES / shards / shards)))
  const count = Math.max(shards, Math.min(perShard * shards, rows.rows))
  const cells = trainCells(rows, count, saltOf("cells", seed), workers)
  const cellOf = closestCells(rows, cells, undefined, workers).point
  const weights = new Int32Array(count)
  for (const cell of cellOf) weights[cell]!++
  const shardOf = startOf(rows, cells.vectors, weights, shards, seed, workers)
  const start = cellOf.map((cell) => shardOf[cell]!)
  const average = rows.rows / shards
  const changes = packCells(cellGraph(graph, cellOf, count), {
    shardOf,
    weights,
    shards,
    floor: Math.floor(FLOOR * average),
    capacity: Math.floor(CAPACITY * average),
  })
  return { shardOf: cellOf.map((cell) => shardOf[cell]!), start, changes }
}

/** K-means of the cells, weighted, under a capacity. */
function startOf(
  rows: SpaceRows,
  centroids: Float32Array,
  weights: Int32Array,
  shards: number,
  seed: number,
  workers?: Workers,
): Int32Array {
  const { dim, metric } = rows
  const options = { clusters: shards, iterations: 6, salt: saltOf("shards", seed), sample: 65_536, workers }
  const centres = trainClusters(rows, options)
  const cells: SpaceRows = { metric, dim, rows: weights.length, vectors: centroids }
  const capacity = (START_CAPACITY * rows.rows) / shards
  let shardOf = new Int32Array(weights.length)
  for (let round = 0; round < START_ROUNDS; round++) {
    const points = createPoints(centres, dim, metric)
    shardOf = assignWithCapacity(cells, points, capacity, { weights }) as typeof shardOf
    const sums = new Float64Array(centres.length)
    const counts = new Float64Array(shards)
    for (let cell = 0; cell < weights.length; cell++) {
      const to = shardOf[cell]! * dim
      for (let i = 0; i < dim; i++) sums[to + i]! += centroids[cell * dim + i]! * weights[cell]!
      counts[shardOf[cell]!]! += weights[cell]!
    }
    for (let i = 0; i < sums.length; i++) {
      const shard = Math.floor(i / dim)
      if (counts[shard]! > 0) centres[i] = sums[i]! / counts[shard]!
    }
    if (metric !== "l2") scaleToUnitLength(centres, dim)
  }
  return shardOf
}

/** Counts pairs of cells with rows that are neighbours, a cell at a time. */
export function cellGraph({ ids, k }: NeighbourGraph, cellOf: Int32Array, cells: number): CellGraph {
  const rowsOf = groupMembers(cellOf, cells)
  const forward = collectEdges(cells, (cell, add) => {
    for (let at = rowsOf.start[cell]!; at < rowsOf.start[cell + 1]!; at++) {
      const row = rowsOf.members[at]!
      for (let i = row * k; i < (row + 1) * k; i++) if (ids[i]! >= 0) add(cellOf[ids[i]!]!, 1)
    }
  })
  const backward = transposed(forward)
  return collectEdges(cells, (cell, add) => {
    for (const { start, to, pairs } of [forward, backward]) {
      for (let e = start[cell]!; e < start[cell + 1]!; e++) add(to[e]!, pairs[e]!)
    }
  })
}

/** `each` adds the pairs of one cell with others, in any order, any number of times. */
function collectEdges(
  cells: number,
  each: (cell: number, add: (to: number, pairs: number) => void) => void,
): CellGraph {
  const start = new Int32Array(cells + 1)
  let to = new Int32Array(64 * cells)
  let pairs = new Int32Array(64 * cells)
  let end = 0
  const held = new Int32Array(cells)
  const touched: number[] = []
  const add = (other: number, count: number) => {
    if (held[other] === 0) touched.push(other)
    held[other]! += count
  }
  for (let cell = 0; cell < cells; cell++) {
    each(cell, add)
    touched.sort((a, b) => a - b)
    if (end + touched.length > to.length) {
      to = grown(to, end + touched.length)
      pairs = grown(pairs, to.length)
    }
    for (const other of touched) {
      if (other !== cell) {
        to[end] = other
        pairs[end++] = held[other]!
      }
      held[other] = 0
    }
    touched.length = 0
    start[cell + 1] = end
  }
  return { start, to: to.subarray(0, end), pairs: pairs.subarray(0, end) }
}

function grown(array: Int32Array, least: number): Int32Array<ArrayBuffer> {
  const larger = new Int32Array(Math.max(2 * array.length, least))
  larger.set(array)
  return larger
}

function transposed({ start, to, pairs }: CellGraph): CellGraph {
  const { start: starts, members } = groupMembers(to, start.length - 1)
  const from = new Int32Array(to.length)
  for (let cell = 0; cell + 1 < start.length; cell++) from.fill(cell, start[cell]!, start[cell + 1]!)
  return {
    start: starts,
    to: members.map((edge) => from[edge]!),
    pairs: members.map((edge) => pairs[edge]!),
  }
}

/**
 * First fills the shards below the floor (a floor that only forbids leaving does not lift a shard that starts
 * below it), then moves one cell, or swaps two, whenever more pairs then lie inside shards and every load
 * stays within floor and capacity. The number of changes.
 */
export function packCells(graph: CellGraph, packing: Packing): number {
  const { start, to, pairs } = graph
  const { shardOf, weights, shards, floor, capacity } = packing
  const cells = shardOf.length
  const load = new Float64Array(shards)
  // Pairs of each cell with each shard.
  const affinity = new Int32Array(cells * shards)
  // Cells of each shard, rising, so that of equal swaps the first cell is taken.
  const cellsOf: number[][] = Array.from({ length: shards }, () => [])
  for (let cell = 0; cell < cells; cell++) {
    load[shardOf[cell]!]! += weights[cell]!
    cellsOf[shardOf[cell]!]!.push(cell)
    for (let e = start[cell]!; e < start[cell + 1]!; e++) {
      affinity[cell * shards + shardOf[to[e]!]!]! += pairs[e]!
    }
  }
  const gainOf = (cell: number, shard: number) =>
    affinity[cell * shards + shard]! - affinity[cell * shards + shardOf[cell]!]!

  const move = (cell: number, shard: number) => {
    const from = shardOf[cell]!
    for (let e = start[cell]!; e < start[cell + 1]!; e++) {
      affinity[to[e]! * shards + from]! -= pairs[e]!
      affinity[to[e]! * shards + shard]! += pairs[e]!
    }
    load[from]! -= weights[cell]!
    load[shard]! += weights[cell]!
    shardOf[cell] = shard
    cellsOf[from]!.splice(firstNotBelow(cellsOf[from]!, 0, cellsOf[from]!.length, cell), 1)
    cellsOf[shard]!.splice(firstNotBelow(cellsOf[shard]!, 0, cellsOf[shard]!.length, cell), 0, cell)
  }

  const between = (cell: number, other: number) => {
    const edge = firstNotBelow(to, start[cell]!, start[cell + 1]!, other)
    return edge < start[cell + 1]! && to[edge] === other ? pairs[edge]! : 0
  }

  /** With the cells that lose least by it, of shards that can spare them. */
  const fill = (shard: number) => {
    while (load[shard]! < floor) {
      let best = -1
      let bestGain = -Infinity
      for (let cell = 0; cell < cells; cell++) {
        const from = shardOf[cell]!
        const weight = weights[cell]!
        if (from === shard || weight === 0 || load[from]! - weight < floor) continue
        if (load[shard]! + weight > capacity) continue
        const gain = gainOf(cell, shard)
        if (gain <= bestGain) continue
        bestGain = gain
        best = cell
      }
      if (best < 0) return
      move(best, shard)
    }
  }

  const tryMove = (cell: number): boolean => {
    const from = shardOf[cell]!
    const weight = weights[cell]!
    if (load[from]! - weight < floor) return false
    let best = -1
    // An overfull shard gives a cell away at any price.
    let bestGain = load[from]! > capacity && weight > 0 ? -Infinity : 0
    for (let shard = 0; shard < shards; shard++) {
      if (shard === from || load[shard]! + weight > capacity) continue
      const gain = gainOf(cell, shard)
      if (gain > bestGain) {
        bestGain = gain
        best = shard
      }
    }
    if (best >= 0) move(cell, best)
    return best >= 0
  }

  const trySwap = (cell: number): boolean => {
    const home = shardOf[cell]!
    for (let shard = 0; shard < shards; shard++) {
      const gainHere = gainOf(cell, shard)
      if (shard === home || gainHere <= 0) continue
      let best = -1
      let bestGain = 0
      for (const other of cellsOf[shard]!) {
        const gain = gainHere + gainOf(other, home)
        if (gain <= bestGain) continue
        const loadHome = load[home]! - weights[cell]! + weights[other]!
        const loadThere = load[shard]! - weights[other]! + weights[cell]!
        if (Math.max(loadHome, loadThere) > capacity || Math.min(loadHome, loadThere) < floor) continue
        // Both gains counted the pairs between the two, which stay outside.
        const net = gain - 2 * between(cell, other)
        if (net > bestGain) {
          bestGain = net
          best = other
        }
      }
      if (best >= 0) {
        move(cell, shard)
        move(best, home)
        return true
      }
    }
    return false
  }

  for (let shard = 0; shard < shards; shard++) fill(shard)
  let changes = 0
  for (let sweep = 0; sweep < SWEEPS; sweep++) {
    const before = changes
    for (let cell = 0; cell < cells; cell++) if (tryMove(cell)) changes++
    for (let cell = 0; cell < cells; cell++) if (trySwap(cell)) changes++
    if (changes === before) break
  }
  return changes
}

/** The first place from `from` up to `to` whose number is not below `value`, in rising numbers. */
function firstNotBelow(numbers: ArrayLike<number>, from: number, to: number, value: number): number {
  let low = from
  let high = to
  while (low < high) {
    const middle = (low + high) >>> 1
    if (numbers[middle]! < value) low = middle + 1
    else high = middle
  }
  return low
}
