/**
 * Copies by demand: a copy of a row is worth what it lifts the rows (and queries) that have it as a
 * neighbour, which meet it at an earlier probe. Few rows are neighbours of many, so that a fifth more storage
 * goes a long way.
 */

import { groupMembers, orderByFalling } from "../space/order.js"
import type { ReverseGraph } from "./graph.js"
import { type Copies, JUDGED_PROBES } from "./judge.js"

/** Shards that a row is copied to at most, besides its home. */
const MOST_COPIES = 15
/** Ranks at which being found is worth something. */
export const DEMAND_RANKS = Math.max(...JUDGED_PROBES)
/** A shard may hold this much more than budget × the average. */
const CAPACITY = 1.2

/**
 * Copies that are worth something: in order of rows, of each row in the order in which they were found to be.
 */
export interface Proposals {
  readonly row: Int32Array
  readonly shard: Uint16Array
  readonly gain: Float32Array
}

/**
 * Proposes copies of the rows whose `home` is given, the one with the largest gain first, for each row.
 * `demand` says who wants each row; `ranked` the first `ranks` shards of all who want (`wanters × ranks`).
 */
export function proposeCopies(
  home: ArrayLike<number>,
  shards: number,
  demand: ReverseGraph,
  ranked: Uint16Array,
  ranks: number,
): Proposals {
  const worth = Float32Array.from({ length: ranks + 1 }, (_, rank) =>
    rank === ranks ? 0 : JUDGED_PROBES.filter((probes) => rank < probes).length / JUDGED_PROBES.length,
  )
  const { start, wantedBy } = demand
  let row = new Int32Array(home.length)
  let shard = new Uint16Array(home.length)
  let gainOf = new Float32Array(home.length)
  let count = 0
  const gain = new Float32Array(shards)
  const touched = new Uint16Array(shards)
  let foundAt = new Uint8Array(1024)
  for (let r = 0; r < home.length; r++) {
    const first = start[r]!
    const wants = start[r + 1]! - first
    if (foundAt.length < wants) foundAt = new Uint8Array(2 * wants)
    foundAt.fill(ranks, 0, wants)
    const meet = (s: number) => {
      for (let w = 0; w < wants; w++) {
        const from = wantedBy[first + w]! * ranks
        for (let t = 0; t < foundAt[w]!; t++) if (ranked[from + t] === s) foundAt[w] = t
      }
    }
    meet(home[r]!)
    for (let copy = 0; copy < Math.min(MOST_COPIES, shards - 1); copy++) {
      let many = 0
      for (let w = 0; w < wants; w++) {
        const from = wantedBy[first + w]! * ranks
        const until = foundAt[w]!
        for (let t = 0; t < until; t++) {
          const rise = worth[t]! - worth[until]!
          if (rise === 0) break // worth falls along the ranks
          const s = ranked[from + t]!
          if (gain[s] === 0) touched[many++] = s
          gain[s]! += rise
        }
      }
      let best = -1
      for (let i = 0; i < many; i++) {
        const s = touched[i]!
        if (best < 0 || gain[s]! > gain[best]! || (gain[s] === gain[best] && s < best)) best = s
      }
      const bestGain = best < 0 ? 0 : gain[best]!
      for (let i = 0; i < many; i++) gain[touched[i]!] = 0
      if (best < 0) break
      if (count === row.length) {
        row = grow(row, new Int32Array(2 * count))
        shard = grow(shard, new Uint16Array(2 * count))
        gainOf = grow(gainOf, new Float32Array(2 * count))
      }
      row[count] = r
      shard[count] = best
      gainOf[count++] = bestGain
      meet(best)
    }
  }
  return { row: row.subarray(0, count), shard: shard.subarray(0, count), gain: gainOf.subarray(0, count) }
}

function grow<T extends Int32Array | Uint16Array | Float32Array>(from: T, into: T): T {
  into.set(from)
  return into
}

/**
 * Takes proposals by falling gain until rows and copies together are `budget` times the rows, skipping shards
 * that hold 1.2 × budget × the average. `heldOutHome`: shards of rows that come later, which take room but
 * have no copies.
 */
export function grantCopies(
  home: ArrayLike<number>,
  shards: number,
  { row, shard, gain }: Proposals,
  budget: number,
  heldOutHome: ArrayLike<number> = [],
): Copies {
  const rows = home.length
  const most = Math.floor((budget - 1) * rows + 1e-9)
  const capacity = Math.floor((CAPACITY * budget * (rows + heldOutHome.length)) / shards)
  const load = new Float64Array(shards)
  for (const homes of [home, heldOutHome]) {
    for (let r = 0; r < homes.length; r++) load[homes[r]!]!++
  }
  const granted = new Int32Array(Math.min(most, row.length))
  let count = 0
  for (const proposal of orderByFalling(gain)) {
    if (count === most) break
    if (load[shard[proposal]!]! >= capacity) continue
    load[shard[proposal]!]!++
    granted[count++] = proposal
  }
  // Rising proposals are in order of rows, and the first of a row is its best.
  const taken = granted.subarray(0, count).sort()
  const { start } = groupMembers(
    taken.map((proposal) => row[proposal]!),
    rows,
  )
  return { start, shard: Uint16Array.from(taken, (proposal) => shard[proposal]!) }
}
