/**
 * The neighbour graph: for every row its 16 most similar rows, nearly. Rows are divided into cells of about 330, and each
 * cell's rows are compared with those of the 16 nearest cells; twice, with other seeds, since a pair that the borders
 * of one clustering cut apart is mostly together in the other. Exact search would cost the square of the rows.
 *
 * The work of one clustering can be shared: plan it, let `searchCells` run over ranges of its cells on any thread
 * (rows and lists in shared memory; no two cells write the same row), wait for all, then do the same with the next one.
 */
import { assignCells, trainCells } from "./cells.js"
import { saltOf } from "./hash.js"
import { groupMembers } from "./order.js"
import { blockRows, createTopLists, offer, similarities, type TopLists } from "./similarities.js"
import { createPoints, gatherRows, type Points, type SpaceRows } from "./space.js"

/** Length of the neighbour lists. */
export const NEIGHBOURS = 16
export const CLUSTERINGS = 2
const ROWS_PER_CELL = 330
/** Cells that a cell's rows are compared with, its own included. */
const REACH = 16
/** A larger cell is cut: equal rows all fall into one, and would be compared each with each. */
const LARGEST_CELL = 8 * ROWS_PER_CELL

/** One clustering: plain arrays, so that it can be posted to worker threads. */
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
export function planGraph(rows: SpaceRows, clustering: number, seed: number): GraphPlan {
  const wanted = Math.max(1, Math.floor(rows.rows / ROWS_PER_CELL))
  const trained = trainCells(rows, wanted, saltOf("graph", seed) + clustering)
  const { start, members } = groupMembers(assignCells(rows, trained), wanted)
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
  const near = nearestCells(trained.points, rows, Int32Array.from(cellOf), reach)
  return { cells, start: Int32Array.from([...starts, rows.rows]), members, near, reach }
}

/** Cells by similarity of centroids; each cell itself comes first whatever its equals are. */
function nearestCells(points: Points, rows: SpaceRows, cellOf: Int32Array, reach: number): Int32Array {
  const { dim } = rows
  const cells = cellOf.length
  const centroids = new Float32Array(cells * dim)
  gatherRows({ vectors: points.vectors, dim }, cellOf, 0, cells, centroids)
  const all = createPoints(centroids, dim, rows.metric)
  const lists = createTopLists(cells, reach)
  const numbers = Int32Array.from(cellOf.keys())
  const size = blockRows(cells)
  const block = new Float32Array(size * cells)
  for (let from = 0; from < cells; from += size) {
    const to = Math.min(cells, from + size)
    similarities(centroids.subarray(from * dim, to * dim), to - from, all, block)
    for (let cell = from; cell < to; cell++) {
      const at = (cell - from) * cells
      block[at + cell] = Infinity
      offer(lists, cell, block, at, numbers, cells)
    }
  }
  return lists.ids
}

/** Lists for {@link searchCells} to fill: 128 bytes a row while the graph is made, 64 once similarities are dropped. */
export function createNeighbourLists(rows: number, shared = false): TopLists {
  return createTopLists(rows, Math.max(1, Math.min(NEIGHBOURS, rows - 1)), shared)
}

/** Compares the rows of cells `fromCell` to `toCell - 1` with those of their nearest cells, and merges what it finds. */
export function searchCells(
  rows: SpaceRows,
  plan: GraphPlan,
  fromCell: number,
  toCell: number,
  lists: TopLists,
): void {
  const { dim, metric } = rows
  const { start, members, near, reach } = plan
  const found = createTopLists(1, lists.k)
  let candidates = new Int32Array(0)
  let vectors = new Float32Array(0)
  let block = new Float32Array(0)
  for (let cell = fromCell; cell < toCell; cell++) {
    const first = start[cell]!
    const size = start[cell + 1]! - first
    let count = 0
    for (let i = 0; i < reach; i++) {
      const other = near[cell * reach + i]!
      count += start[other + 1]! - start[other]!
    }
    if (candidates.length < count) {
      candidates = new Int32Array(2 * count)
      vectors = new Float32Array(2 * count * dim)
    }
    for (let i = 0, at = 0; i < reach; i++) {
      const other = near[cell * reach + i]!
      candidates.set(members.subarray(start[other]!, start[other + 1]!), at)
      at += start[other + 1]! - start[other]!
    }
    gatherRows(rows, candidates, 0, count, vectors)
    const points = createPoints(vectors.subarray(0, count * dim), dim, metric)
    const step = blockRows(count)
    if (block.length < step * count) block = new Float32Array(step * count)
    for (let from = 0; from < size; from += step) {
      const to = Math.min(size, from + step)
      // The cell's own rows are the first candidates.
      similarities(vectors.subarray(from * dim, to * dim), to - from, points, block)
      for (let i = from; i < to; i++) {
        const at = (i - from) * count
        block[at + i] = -Infinity // a row is not its own neighbour
        found.ids.fill(-1)
        found.similarities.fill(-Infinity)
        offer(found, 0, block, at, candidates, count)
        mergeInto(lists, members[first + i]!, found)
      }
    }
  }
}

/** Merges a list into that of a row: the best of both, each id once; of equals what was there first. */
function mergeInto({ k, ids, similarities: best }: TopLists, row: number, found: TopLists): void {
  const first = row * k
  if (ids[first]! < 0) {
    ids.set(found.ids, first)
    best.set(found.similarities, first)
    return
  }
  const oldIds = ids.slice(first, first + k)
  const oldBest = best.slice(first, first + k)
  for (let place = 0, old = 0, next = 0; place < k; ) {
    const takeOld = old < k && (next >= k || oldBest[old]! >= found.similarities[next]!)
    const id = takeOld ? oldIds[old]! : found.ids[next]!
    const similarity = takeOld ? oldBest[old++]! : found.similarities[next++]!
    let again = false
    for (let i = first; i < first + place; i++) again ||= ids[i] === id
    // Empty places (-1) are alike and only at the end.
    if (again && id >= 0) continue
    ids[first + place] = id
    best[first + place] = similarity
    place++
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

/** All of it on this thread. */
export function neighbourGraph(rows: SpaceRows, seed: number): NeighbourGraph {
  const lists = createNeighbourLists(rows.rows)
  for (let clustering = 0; clustering < CLUSTERINGS; clustering++) {
    const plan = planGraph(rows, clustering, seed)
    searchCells(rows, plan, 0, plan.cells, lists)
  }
  return { rows: rows.rows, k: lists.k, ids: lists.ids }
}

/** Who has a row among its neighbours: of row r `wantedBy[start[r] … start[r + 1])`, rising. 64 bytes a row. */
export interface ReverseGraph {
  readonly start: Int32Array
  readonly wantedBy: Int32Array
}

/**
 * Turns lists of wanted rows around. `lists` are numbered through: `rows` neighbour lists, then those of queries, say.
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
