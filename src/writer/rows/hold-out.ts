/**
 * Rows that are held out of all that learns, so that recall can be measured with them: those of lowest key
 * (draw.ts), stored like all others, and known to nothing else of the build. What learns from a sample gets
 * the rows of the next keys.
 *
 * How many rows there are is known at the end only, so as many are kept as may be needed while rows go by.
 */
import { idKey } from "../../recall/id-key.js"
import type { RecordBatch } from "../../records.js"
import type { Copies } from "../../sharding/cluster/layout/judge.js"
import { homesByScore } from "../../sharding/cluster/routing/insert.js"
import { prepareRows } from "../../sharding/cluster/space/space.js"
import { type Job, seedOf } from "../job.js"
import type { LaidOut } from "../layout/task.js"
import { LowestKeys } from "./draw.js"
import { isHome, type RowShards } from "./partition.js"

/** At most one row in so many is held out. */
const ROWS_PER_HELD_OUT = 20
/** Fewer say too little of recall, and are not worth being left out of training. */
const FEWEST_HELD_OUT = 20

export interface HoldOut {
  /** Rows wanted; fewer where the input is small, or 0. */
  readonly wanted: number
  readonly seed: number
}

/** No row is held out where real queries are given, or no certificate is wanted. */
export const holdOutOf = ({ options, sharding }: Pick<Job, "options" | "sharding">): HoldOut => ({
  wanted: options.queries === undefined ? options.certificateRows : 0,
  seed: seedOf(sharding),
})

/** How many of `rows` rows are held out, if `kept` at least must be left. */
export function heldOutCount({ wanted }: HoldOut, rows: number, kept: number): number {
  const count = Math.min(wanted, Math.floor(rows / ROWS_PER_HELD_OUT), rows - kept)
  return count < FEWEST_HELD_OUT ? 0 : count
}

export interface HeldOutRow {
  readonly vector: Float32Array
  readonly id: number
  /** Its home, and its place in the spill of that. */
  readonly shard: number
  readonly position: number
}

export interface HoldOutCollector {
  /** To be called with all batches in order, with keys and shards of their rows and the positions there. */
  add(batch: RecordBatch, keys: Float64Array, rowShards: RowShards, positions: Float64Array): void
  /** The rows that are held out of those seen, by rising key, if `kept` at least must be left. */
  take(kept: number): readonly HeldOutRow[]
  /**
   * The rows of the next keys, which are stored as all others and learned from: what recall of stored rows is
   * measured with.
   */
  takeStored(kept: number): readonly HeldOutRow[]
}

/** `stored`: rows to collect besides those that are held out, as far as one in twenty. */
export function createHoldOutCollector(holdOut: HoldOut, stored = 0): HoldOutCollector {
  const lowest = new LowestKeys(holdOut.wanted + stored)
  const bySlot: HeldOutRow[] = []
  let rows = 0
  return {
    add({ dim, vectors, ids, rows: count }, keys, rowShards, positions) {
      for (let place = 0; place < rowShards.shards.length; place++) {
        const row = rowShards.rows === undefined ? place : rowShards.rows[place]!
        if (!isHome(rowShards, place)) continue
        const slot = lowest.offer(keys[row]!, rows + row)
        if (slot < 0) continue
        bySlot[slot] = {
          vector: vectors.slice(row * dim, (row + 1) * dim),
          id: idKey(ids.values[row]!),
          shard: rowShards.shards[place]!,
          position: positions[place]!,
        }
      }
      rows += count
    },
    take(kept) {
      const slots = lowest.sorted().subarray(0, heldOutCount(holdOut, rows, kept))
      return Array.from(slots, (slot) => bySlot[slot]!)
    },
    takeStored(kept) {
      const first = heldOutCount(holdOut, rows, kept)
      const count = Math.min(stored, Math.floor(rows / ROWS_PER_HELD_OUT))
      return Array.from(lowest.sorted().subarray(first, first + count), (slot) => bySlot[slot]!)
    },
  }
}

/**
 * A layout with the held-out rows put back, each at the home that routing ranks first and without copies, by
 * the number of each row in reading order. `order`: those numbers, of the held-out rows first, then of the
 * rows that were laid out.
 */
export function withHeldOut(laidOut: LaidOut, heldOut: Float32Array, order: Uint32Array): LaidOut {
  const { preparation, descriptors, beta } = laidOut.routing
  const homes = homesByScore(prepareRows(preparation, heldOut), descriptors, beta)
  const home = new Int32Array(order.length)
  for (const [place, row] of order.entries()) {
    home[row] = place < homes.length ? homes[place]! : laidOut.home[place - homes.length]!
  }
  return { ...laidOut, home, copies: laidOut.copies && copiesOf(laidOut.copies, homes.length, order) }
}

function copiesOf(copies: Copies, heldOut: number, order: Uint32Array): Copies {
  const start = new Int32Array(order.length + 1)
  const shard = new Uint16Array(copies.shard.length)
  const countOf = (place: number): number =>
    place < heldOut ? 0 : copies.start[place - heldOut + 1]! - copies.start[place - heldOut]!
  for (const [place, row] of order.entries()) start[row + 1] = countOf(place)
  for (let row = 0; row < order.length; row++) start[row + 1]! += start[row]!
  for (const [place, row] of order.entries()) {
    if (place < heldOut) continue
    const from = copies.start[place - heldOut]!
    shard.set(copies.shard.subarray(from, from + countOf(place)), start[row]!)
  }
  return { start, shard }
}
