/** Recall of held-out rows by how many shards are probed: what chooses a layout, its descriptors and β. */

import {
  createScoring,
  type Descriptors,
  LEAST_QUERIES,
  type Routings,
  rankShards,
  type ScoringTable,
} from "../routing/descriptors.js"
import { forEachBlock } from "../space/compare.js"
import { type SpaceRows, sliceRows } from "../space/space.js"
import { divide, newInts, type Workers } from "../space/workers.js"

/** The probes whose mean recall is what a layout, or a copy of a row, is worth. */
export const JUDGED_PROBES = [1, 2, 4, 8] as const

/** Sharpness of the scores: those of the trials, and others for data whose similarities spread otherwise. */
const BETAS = [20, 24, 28, 32, 40, 48] as const
const WIDER_BETAS = [2.5, 3.5, 5, 7, 10, 14, ...BETAS, 64, 96, 128] as const

/** True neighbours of some queries: `queries × k` row numbers, best first, -1 where there are fewer. */
export interface Truth {
  readonly k: number
  readonly ids: Int32Array
}

/** Which shards hold a row: its home, and copies if there are any. */
export interface Membership {
  readonly shards: number
  readonly home: ArrayLike<number>
  readonly copies: Copies | undefined
}

/** Copies of row r, best first, are in shards `shard[start[r] … start[r + 1])`. */
export interface Copies {
  readonly start: Int32Array
  readonly shard: Uint16Array
}

/**
 * The number of shards probed before the one that is probed first of those that hold a row; `shards` if none
 * is.
 */
function reachedAt({ home, copies, shards }: Membership, row: number, position: ArrayLike<number>): number {
  if (row < 0) return shards
  let first = position[home[row]!]!
  if (copies !== undefined) {
    for (let i = copies.start[row]!; i < copies.start[row + 1]!; i++) {
      first = Math.min(first, position[copies.shard[i]!]!)
    }
  }
  return first
}

/**
 * For each query and rank, the share of its true neighbours that this shard is the first to hold: `queries ×
 * shards`. `routings` must show all shards. Neighbours that are missing (-1) do not count.
 */
export function gainsByRank(
  routings: Routings,
  truth: Truth,
  membership: Membership,
  first = 0,
): Float32Array {
  const { queries, shards, ranked } = routings
  const gains = new Float32Array(queries * shards)
  const position = new Int32Array(shards)
  for (let query = 0; query < queries; query++) {
    for (let rank = 0; rank < shards; rank++) position[ranked[query * shards + rank]!] = rank
    let known = 0
    const from = (first + query) * truth.k
    for (let i = from; i < from + truth.k; i++) if (truth.ids[i]! >= 0) known++
    for (let i = from; i < from + truth.k; i++) {
      if (truth.ids[i]! < 0) continue
      const rank = reachedAt(membership, truth.ids[i]!, position)
      if (rank < shards) gains[query * shards + rank]!++
    }
    // Counted first and divided once: sums of fractions would exceed 1.
    if (known === 0) continue
    for (let rank = 0; rank < shards; rank++) gains[query * shards + rank]! /= known
  }
  return gains
}

/** Mean recall at each of `probes` from {@link gainsByRank}. */
export function recallAt(gains: Float32Array, shards: number, probes: readonly number[]): number[] {
  const queries = gains.length / shards
  const byRank = new Float64Array(shards + 1)
  for (let i = 0; i < gains.length; i++) byRank[(i % shards) + 1]! += gains[i]!
  for (let rank = 0; rank < shards; rank++) byRank[rank + 1]! += byRank[rank]!
  return probes.map((count) => (queries === 0 ? 1 : byRank[Math.min(count, shards)]! / queries))
}

export interface Judged {
  readonly beta: number
  /** Mean recall at 1, 2, 4 and 8 probes. */
  readonly judged: number
}

/**
 * The β that is best for the queries, the smaller one in a tie, by routing them to the homes of their true
 * neighbours. With workers the queries must be in shared memory.
 */
export function tuneBeta(
  descriptors: Descriptors,
  queries: SpaceRows,
  truth: Truth,
  home: ArrayLike<number>,
  workers?: Workers,
): Judged {
  const betas: readonly number[] = descriptors.metric === "cosine" ? BETAS : WIDER_BETAS
  const table = createScoring(descriptors, betas[0]!)
  const homes = Int32Array.from(truth.ids, (row) => (row < 0 ? -1 : home[row]!))
  const pairs = homes.reduce((count, shard) => (shard < 0 ? count : count + 1), 0)
  const found = newInts(queries.rows * betas.length, workers)
  const partOf = (from: number, to: number): TunePart => ({
    kind: "tune",
    table,
    betas,
    queries: sliceRows(queries, from, to),
    homes: homes.slice(from * truth.k, to * truth.k),
    found: found.subarray(from * betas.length, to * betas.length),
  })
  divide(workers, queries.rows, LEAST_QUERIES, partOf, () => tunePart(partOf(0, queries.rows)))
  const sums = betas.map((_, b) =>
    found.reduce((sum, count, i) => (i % betas.length === b ? sum + count : sum), 0),
  )
  const best = sums.indexOf(Math.max(...sums))
  return { beta: betas[best]!, judged: pairs === 0 ? 1 : sums[best]! / JUDGED_PROBES.length / pairs }
}

/** Some of the queries of {@link tuneBeta}, and where their results go. */
export interface TunePart {
  readonly kind: "tune"
  readonly table: ScoringTable
  readonly betas: readonly number[]
  readonly queries: SpaceRows
  /** Shards of the true neighbours of each query, as many for each; -1 where there are fewer. */
  readonly homes: Int32Array
  /** For each query and β: how many neighbours are found, summed over the judged numbers of probes. */
  readonly found: Int32Array
}

export function tunePart({ table, betas, queries, homes, found }: TunePart): void {
  const { shards } = table
  const k = homes.length / queries.rows
  const scores = new Float64Array(shards)
  const order = new Uint16Array(shards)
  const position = new Int32Array(shards)
  const shown = Math.min(8, shards)
  forEachBlock(queries, table.points, undefined, true, ({ from, to, similarities, stride }) => {
    for (let query = from; query < to; query++) {
      const at = (query - from) * stride
      const own = similarities.subarray(at, at + table.points.count)
      for (const [b, beta] of betas.entries()) {
        rankShards(table, own, scores, order, shown, beta)
        position.fill(shards)
        for (let rank = 0; rank < shown; rank++) position[order[rank]!] = rank
        for (let i = query * k; i < (query + 1) * k; i++) {
          if (homes[i]! < 0) continue
          const rank = position[homes[i]!]!
          for (const probes of JUDGED_PROBES)
            if (rank < Math.min(probes, shards)) found[query * betas.length + b]!++
        }
      }
    }
  })
}
