/**
 * Many small clusters of rows, "cells". Rows find the closest of few cells by looking at all; of more,
 * through a tree of two levels: the centroids are divided into groups, and a row looks at those of the few
 * groups that are nearest to it. So the cost of training and of assigning grows with the square root of the
 * number of cells.
 */

import { type Closest, closestPoints, forEachBlock, takeLargest } from "../space/compare.js"
import { groupMembers } from "../space/order.js"
import { createPoints, gatherRows, type Points, type SpaceRows, squaredLength } from "../space/space.js"
import { divide, newFloats, newInts, someOf, type Workers } from "../space/workers.js"
import { trainClusters } from "./clusters.js"

/** Rows that cells are trained on at most, or this many a cell where that is more. */
const SAMPLE_ROWS = 65_536
const SAMPLE_ROWS_PER_CELL = 32
const ITERATIONS = 8
/** More cells than this are searched through a tree. */
const FLAT_CELLS = 256
const GROUP_ITERATIONS = 4
/** Groups whose cells a row looks at. */
const GROUPS_SEARCHED = 6

type Nearest = Pick<Closest, "point" | "similarity">

/** Centroids of `cells` cells. */
export function trainCells(rows: SpaceRows, cells: number, salt: number, workers?: Workers): Points {
  const sample = Math.max(SAMPLE_ROWS, SAMPLE_ROWS_PER_CELL * cells)
  const options = { clusters: cells, iterations: ITERATIONS, salt, sample, workers }
  return createPoints(trainClusters(rows, options, undefined, closestCells), rows.dim, rows.metric)
}

/** The cell of each of `members` (all rows if absent); of many cells nearly always the most similar one. */
export function closestCells(
  rows: SpaceRows,
  cells: Points,
  members?: ArrayLike<number>,
  workers?: Workers,
): Nearest {
  if (cells.count <= FLAT_CELLS) return closestPoints(rows, cells, members, workers)
  return searchTree(rows, createTree(cells, rows), members, workers)
}

export interface CellTree {
  readonly groups: Points
  /** Cells of each group. */
  readonly members: readonly Points[]
  /** Their numbers: those of group g begin at `start[g]`. */
  readonly cells: Int32Array
  readonly start: Int32Array
}

function createTree(cells: Points, { metric, dim }: SpaceRows): CellTree {
  const centroids: SpaceRows = { metric, dim, rows: cells.count, vectors: cells.vectors }
  const clusters = Math.round(Math.sqrt(cells.count))
  const options = { clusters, iterations: GROUP_ITERATIONS, salt: 0 }
  const groups = createPoints(trainClusters(centroids, options), dim, metric)
  const { start, members: numbers } = groupMembers(closestPoints(centroids, groups).point, clusters)
  const members = Array.from({ length: clusters }, (_, group) => {
    const vectors = new Float32Array((start[group + 1]! - start[group]!) * dim)
    gatherRows(cells, numbers, start[group]!, start[group + 1]!, vectors)
    return createPoints(vectors, dim, metric)
  })
  return { groups, members, cells: numbers, start }
}

const CHUNK_ROWS = 65_536
/** Each part packs all cells anew. */
const LEAST_ROWS = 8192

function searchTree(
  rows: SpaceRows,
  tree: CellTree,
  members?: ArrayLike<number>,
  workers?: Workers,
): Nearest {
  const count = members?.length ?? rows.rows
  const point = newInts(count, workers)
  const similarity = newFloats(count, workers).fill(-Infinity)
  divide(
    workers,
    count,
    LEAST_ROWS,
    (from, to) => ({
      kind: "tree",
      rows,
      tree,
      members: someOf(members, from, to),
      nearest: { point: point.subarray(from, to), similarity: similarity.subarray(from, to) },
    }),
    () => searchTreePart({ rows, tree, members, nearest: { point, similarity } }),
  )
  return { point, similarity }
}

/** Some of the rows that look for their cells, and where their results go. */
export interface TreePart {
  readonly kind: "tree"
  readonly rows: SpaceRows
  readonly tree: CellTree
  readonly members: ArrayLike<number> | undefined
  /** Similarities are -Infinity yet. */
  readonly nearest: Nearest
}

export function searchTreePart({ rows, tree, members, nearest: out }: Omit<TreePart, "kind">): void {
  const { groups, members: cellsOf, cells, start } = tree
  const { point, similarity } = out
  const count = point.length
  const searched = Math.min(GROUPS_SEARCHED, groups.count)
  for (let first = 0; first < count; first += CHUNK_ROWS) {
    const length = Math.min(CHUNK_ROWS, count - first)
    const chunk = Int32Array.from({ length }, (_, i) => members?.[first + i] ?? first + i)
    const byGroup = groupMembers(nearestGroups(rows, groups, searched, chunk), groups.count)
    for (let group = 0; group < groups.count; group++) {
      if (cellsOf[group]!.count === 0) continue
      const visits = byGroup.members.subarray(byGroup.start[group]!, byGroup.start[group + 1]!)
      const places = visits.map((visit) => Math.floor(visit / searched))
      const ids = places.map((place) => chunk[place]!)
      forEachBlock(rows, cellsOf[group]!, ids, false, ({ from, to, nearest, best }) => {
        for (let i = from; i < to; i++) {
          const place = first + places[i]!
          if (best[i - from]! <= similarity[place]!) continue
          similarity[place] = best[i - from]!
          point[place] = cells[start[group]! + nearest[i - from]!]!
        }
      })
    }
  }
  if (rows.metric === "l2") {
    for (let place = 0; place < count; place++) {
      const row = members?.[place] ?? place
      similarity[place] = similarity[place]! - squaredLength(rows.vectors, row, rows.dim) / 2
    }
  }
}

/** The most similar groups of each member, `searched` of them. */
function nearestGroups(
  rows: SpaceRows,
  groups: Points,
  searched: number,
  members: ArrayLike<number>,
): Int32Array {
  const nearest = new Int32Array(members.length * searched)
  forEachBlock(rows, groups, members, true, ({ from, to, similarities, stride }) => {
    for (let place = from; place < to; place++) {
      const at = (place - from) * stride
      takeLargest(similarities.subarray(at, at + groups.count), searched, nearest, place * searched)
    }
  })
  return nearest
}
