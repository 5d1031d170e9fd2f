/**
 * Many small clusters of rows, "cells". Up to some hundreds they are trained and searched as they are; more of them
 * through a tree of two levels, so that the cost of both grows with the square root of their number: the rows are
 * first divided into groups, each group into its share of the cells, and a row is compared with the cells of the few
 * groups that are nearest to it (hierarchical k-means; Nistér and Stewénius, 2006).
 */
import { trainClusters } from "./clusters.js"
import { closestPoints, forEachBlock, takeLargest } from "./compare.js"
import { groupMembers } from "./order.js"
import { createPoints, type Points, type SpaceRows } from "./space.js"

/** Rows that cells are trained on at most, or this many a cell where that is more. */
const SAMPLE_ROWS = 65_536
const SAMPLE_ROWS_PER_CELL = 32
const ITERATIONS = 8
/** More cells than this make a tree. */
const FLAT_CELLS = 256
/** Groups whose cells a row is compared with. */
const GROUPS_SEARCHED = 4

export interface Cells {
  /** All centroids; of a tree those of one group lie together. */
  readonly points: Points
  /** Absent if there are few cells. */
  readonly tree: CellTree | undefined
}

interface CellTree {
  readonly groups: Points
  /** Cells of each group, numbered through. */
  readonly members: readonly Points[]
  /** The first cell of each group. */
  readonly start: Int32Array
}

export function trainCells(rows: SpaceRows, cells: number, salt: number): Cells {
  const { dim, metric } = rows
  const sample = Math.max(SAMPLE_ROWS, SAMPLE_ROWS_PER_CELL * cells)
  if (cells <= FLAT_CELLS) {
    const centroids = trainClusters(rows, { clusters: cells, iterations: ITERATIONS, salt, sample })
    return { points: createPoints(centroids, dim, metric), tree: undefined }
  }
  const groupCount = Math.round(Math.sqrt(cells))
  const options = { clusters: groupCount, iterations: ITERATIONS, salt, sample }
  const groups = createPoints(trainClusters(rows, options), dim, metric)
  // Only as many rows as the sample has are assigned, evenly over the file: hash orders are for the clusters.
  const step = Math.max(1, Math.floor(rows.rows / sample))
  const picked = Int32Array.from({ length: Math.ceil(rows.rows / step) }, (_, i) => i * step)
  const grouped = groupMembers(closestPoints(rows, groups, picked).point, groupCount)
  const shares = apportion(grouped.start, cells)
  const centroids = new Float32Array(cells * dim)
  const start = new Int32Array(groupCount + 1)
  const members: Points[] = []
  for (let group = 0; group < groupCount; group++) {
    start[group + 1] = start[group]! + shares[group]!
    const own = grouped.members
      .subarray(grouped.start[group]!, grouped.start[group + 1]!)
      .map((i) => picked[i]!)
    const trained = trainClusters(rows, { clusters: shares[group]!, iterations: ITERATIONS, salt }, own)
    centroids.set(trained, start[group]! * dim)
    members.push(createPoints(trained, dim, metric))
  }
  return { points: createPoints(centroids, dim, metric), tree: { groups, members, start } }
}

/** Divides `total` among groups in proportion to their sizes (the differences of `start`): largest remainders. */
function apportion(start: Int32Array, total: number): Int32Array {
  const groups = start.length - 1
  const size = (group: number) => start[group + 1]! - start[group]!
  const exact = Array.from({ length: groups }, (_, group) => (total * size(group)) / start[groups]!)
  const shares = Int32Array.from(exact, Math.floor)
  const left = total - shares.reduce((sum, share) => sum + share, 0)
  const byRemainder = exact.map((share, group) => ({ group, rest: share - Math.floor(share) }))
  byRemainder.sort((a, b) => b.rest - a.rest || a.group - b.group)
  for (const { group } of byRemainder.slice(0, left)) shares[group]!++
  return shares
}

/** The cell of each row: through a tree nearly always the most similar one. */
export function assignCells(rows: SpaceRows, { points, tree }: Cells): Int32Array {
  return tree === undefined ? closestPoints(rows, points).point : assignThroughTree(rows, tree)
}

const CHUNK_ROWS = 65_536

function assignThroughTree(rows: SpaceRows, { groups, members, start }: CellTree): Int32Array {
  const assigned = new Int32Array(rows.rows)
  const searched = Math.min(GROUPS_SEARCHED, groups.count)
  for (let first = 0; first < rows.rows; first += CHUNK_ROWS) {
    const chunk = Int32Array.from({ length: Math.min(CHUNK_ROWS, rows.rows - first) }, (_, i) => first + i)
    const visits = nearestGroups(rows, groups, searched, chunk)
    const byGroup = groupMembers(visits, groups.count)
    const best = new Float32Array(chunk.length).fill(-Infinity)
    for (let group = 0; group < groups.count; group++) {
      if (members[group]!.count === 0) continue
      const visitors = byGroup.members.subarray(byGroup.start[group]!, byGroup.start[group + 1]!)
      const places = visitors.map((visit) => Math.floor(visit / searched))
      const ids = places.map((place) => first + place)
      forEachBlock(rows, members[group]!, ids, false, (block) => {
        for (let i = block.from; i < block.to; i++) {
          const place = places[i]!
          const similarity = block.best[i - block.from]!
          if (similarity <= best[place]!) continue
          best[place] = similarity
          assigned[first + place] = start[group]! + block.nearest[i - block.from]!
        }
      })
    }
  }
  return assigned
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
