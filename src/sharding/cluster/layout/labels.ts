/**
 * Layout B, second half: label propagation (Raghavan, Albert and Kumara, 2007) with a floor and a capacity.
 * Each row moves to the shard that holds most of its neighbours, of whom it is one counted too.
 */

import { hashOrder, saltOf } from "../space/hash.js"
import type { NeighbourGraph, ReverseGraph } from "./graph.js"

const FLOOR = 0.7
const CAPACITY = 1.12
const SWEEPS = 20
/** Sweeps end when one moves fewer than one row in so many. */
const SETTLED = 2000

/** Changes `shardOf`. */
export function propagateLabels(
  graph: NeighbourGraph,
  reverse: ReverseGraph,
  shardOf: Int32Array,
  shards: number,
  seed: number,
): { readonly sweeps: number; readonly moved: number } {
  const { rows, k, ids } = graph
  const { start, wantedBy } = reverse
  const floor = Math.floor((FLOOR * rows) / shards)
  const capacity = Math.floor((CAPACITY * rows) / shards)
  const load = new Int32Array(shards)
  for (const shard of shardOf) load[shard]!++
  const held = new Int32Array(shards)
  const touched = new Int32Array(shards)
  let moved = 0
  let sweeps = 0
  while (sweeps < SWEEPS) {
    let moves = 0
    for (const row of hashOrder(rows, saltOf("labels", seed) + sweeps)) {
      const from = shardOf[row]!
      if (load[from]! - 1 < floor) continue
      let count = 0
      for (let i = row * k; i < (row + 1) * k; i++) {
        if (ids[i]! < 0) continue
        const shard = shardOf[ids[i]!]!
        if (held[shard]!++ === 0) touched[count++] = shard
      }
      for (let i = start[row]!; i < start[row + 1]!; i++) {
        const shard = shardOf[wantedBy[i]!]!
        if (held[shard]!++ === 0) touched[count++] = shard
      }
      // Of equal ones the shard with the least rows, then the first.
      let best = from
      for (let i = 0; i < count; i++) {
        const shard = touched[i]!
        if (load[shard]! >= capacity || held[shard]! <= held[from]!) continue
        if (
          best === from ||
          held[shard]! > held[best]! ||
          (held[shard] === held[best] &&
            (load[shard]! < load[best]! || (load[shard] === load[best] && shard < best)))
        ) {
          best = shard
        }
      }
      for (let i = 0; i < count; i++) held[touched[i]!] = 0
      if (best === from) continue
      load[from]!--
      load[best]!++
      shardOf[row] = best
      moves++
    }
    moved += moves
    sweeps++
    if (moves < Math.floor(rows / SETTLED)) break
  }
  return { sweeps, moved }
}
