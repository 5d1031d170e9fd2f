/**
 * The neighbour graph: for every row its 16 most similar rows, nearly. Rows are divided into cells of about
 * 330, and each cell's rows are compared with those of the 16 nearest cells; twice, with other seeds, since a
 * pair that the borders of one clustering cut apart is mostly together in the other. Exact search would cost
 * the square of the rows.
 *
 * Workers shares the cells of one clustering (no two of them write the same row), then those of the next one.
 */

import {
  createNearestLists,
  forEachBlock,
  type NearestLists,
  offerNearest,
  takeLargest,
} from "../space/compare.js"
import { saltOf } from "../space/hash.js"
import { groupMembers } from "../space/order.js"
import { createPoints, gatherRows, type Points, type SpaceRows } from "../space/space.js"
import { divide, type Workers } from "../space/workers.js"
import { closestCells, trainCells } from "./cells.js"

/** Length of the neighbour lists. */
const NEIGHBOURS = 16
export const CLUSTERINGS = 2
const ROWS_PER_CELL = 330
/** Cells that a cell's rows are compared with, its own included. */
const REACH = 16
/** A larger cell is cut: equal rows all fall into one, and would be compared each with each. */
const LARGEST_CELL = 8 * ROWS_PER_CELL

/** One clustering. */
export interface GraphPlan {
  readonly cells: number
  /** Rows of cell c are `members[start[c] … start[c + 1])`. */
  readonly start: Int32Array
  readonly members: Int32Array
  /** The nearest cells of each, itself first: `cells × reach`. */
  readonly near: Int32Array
  readonly reach: number
}

/** Clustering number `clustering`, from 0 to `CLUSTERINGS - 1`. */
export function planGraph(rows: SpaceRows, clustering: number, seed: number, workers?: Workers): GraphPlan {
  const wanted = Math.max(1, Math.floor(rows.rows / ROWS_PER_CELL))
  const trained = trainCells(rows, wanted, saltOf("graph", seed) + clustering, workers)
  const { start, members } = groupMembers(closestCells(rows, trained, undefined, workers).point, wanted)
  // Pieces of cut cells share the centroid of their cell, and so are each other's nearest.
  const starts: number[] = []
  const cellOf: number[] = []
  for (let cell = 0; cell < wanted; cell++) {
    for (let at = start[cell]!; at < start[cell + 1]!; at += LARGEST_CELL) {
      starts.push(at)
      cellOf.push(cell)
    }
  }
  const cells = starts.length
  const reach = Math.min(REACH, cells)
  const near = nearestCells(trained, rows, Int32Array.from(cellOf), reach)
  return { cells, start: Int32Array.from([...starts, rows.rows]), members, near, reach }
}

/** Cells by similarity of centroids; each cell itself comes first whatever its equals are. */
function nearestCells(
  points: Points,
  { metric, dim }: SpaceRows,
  cellOf: Int32Array,
  reach: number,
): Int32Array {
  const cells = cellOf.length
  const vectors = new Float32Array(cells * dim)
  gatherRows({ vectors: points.vectors, dim }, cellOf, 0, cells, vectors)
  const near = new Int32Array(cells * reach)
  const all = createPoints(vectors, dim, metric)
  forEachBlock(
    { metric, dim, rows: cells, vectors },
    all,
    undefined,
    true,
    ({ from, to, similarities, stride }) => {
      for (let cell = from; cell < to; cell++) {
        const own = similarities.subarray((cell - from) * stride, (cell - from) * stride + cells)
        own[cell] = Infinity
        takeLargest(own, reach, near, cell * reach)
      }
    },
  )
  return near
}

/**
 * Lists for {@link searchCells} to fill: 128 bytes a row while the graph is made, 64 once scores are dropped.
 */
export function createNeighbourLists(rows: number, shared = false): NearestLists {
  return createNearestLists(rows, Math.max(1, Math.min(NEIGHBOURS, rows - 1)), shared)
}

/** Compares the rows of cells `fromCell` to `toCell - 1` with those of their nearest cells. */
export function searchCells(
  rows: SpaceRows,
  plan: GraphPlan,
  fromCell: number,
  toCell: number,
  lists: NearestLists,
): void {
  const { start, members, near, reach } = plan
  let candidates = new Int32Array(0)
  for (let cell = fromCell; cell < toCell; cell++) {
    let count = 0
    for (let i = cell * reach; i < (cell + 1) * reach; i++) count += start[near[i]! + 1]! - start[near[i]!]!
    if (candidates.length < count) candidates = new Int32Array(2 * count)
    for (let i = cell * reach, at = 0; i < (cell + 1) * reach; i++) {
      const own = members.subarray(start[near[i]!]!, start[near[i]! + 1]!)
      candidates.set(own, at)
      at += own.length
    }
    const queries = members.subarray(start[cell]!, start[cell + 1]!)
    offerNearest(lists, rows, queries, rows, candidates, count, true)
  }
}

/** The neighbours of all rows. */
export interface NeighbourGraph {
  readonly rows: number
  /** Neighbours a row. */
  readonly k: number
  /** `rows × k`, best first; -1 where fewer were found. */
  readonly ids: Int32Array
}

/** With workers the rows must be in shared memory. */
export function neighbourGraph(rows: SpaceRows, seed: number, workers?: Workers): NeighbourGraph {
  const lists = createNeighbourLists(rows.rows, workers !== undefined)
  for (let clustering = 0; clustering < CLUSTERINGS; clustering++) {
    const plan = planGraph(rows, clustering, seed, workers)
    divide(
      workers,
      plan.cells,
      1,
      (from, to) => ({ kind: "cells", rows, plan, from, to, lists }),
      () => searchCells(rows, plan, 0, plan.cells, lists),
    )
  }
  return { rows: rows.rows, k: lists.k, ids: lists.ids }
}

/** The rows of some cells, to be compared with those of the nearest ones. */
export interface CellsPart {
  readonly kind: "cells"
  readonly rows: SpaceRows
  readonly plan: GraphPlan
  readonly from: number
  readonly to: number
  readonly lists: NearestLists
}

/**
 * Who has a row among its neighbours: of row r `wantedBy[start[r] … start[r + 1])`, rising. 64 bytes a row.
 */
export interface ReverseGraph {
  readonly start: Int32Array
  readonly wantedBy: Int32Array
}

/**
 * Turns lists of wanted rows around. `lists` are numbered through: `rows` neighbour lists, then those of
 * queries, say.
 */
export function reverseLists(
  rows: number,
  lists: readonly { readonly k: number; readonly ids: Int32Array }[],
): ReverseGraph {
  const start = new Int32Array(rows + 1)
  for (const { ids } of lists) for (let i = 0; i < ids.length; i++) if (ids[i]! >= 0) start[ids[i]! + 1]!++
  for (let row = 0; row < rows; row++) start[row + 1]! += start[row]!
  const next = start.slice(0, rows)
  const wantedBy = new Int32Array(start[rows]!)
  let list = 0
  for (const { k, ids } of lists) {
    for (let at = 0; at < ids.length; list++) {
      for (let i = 0; i < k; i++, at++) if (ids[at]! >= 0) wantedBy[next[ids[at]!]!++] = list
    }
  }
  return { start, wantedBy }
}

/** Share of (row, neighbour) pairs that lie in one shard. */
export function insideShare({ ids, k }: NeighbourGraph, shardOf: ArrayLike<number>): number {
  let inside = 0
  let pairs = 0
  for (let at = 0; at < ids.length; at++) {
    if (ids[at]! < 0) continue
    pairs++
    if (shardOf[ids[at]!] === shardOf[Math.floor(at / k)]) inside++
  }
  return pairs === 0 ? 1 : inside / pairs
}
