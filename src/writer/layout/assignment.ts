/**
 * Where a layout puts the rows of an input, when it is read again to be partitioned. What ties the two
 * readings together is the number of a row in reading order.
 */
import { invalidInput } from "../../errors.js"
import { type Placement, placeRows } from "../../sharding/cluster/layout/prices.js"
import { prepareRows, type SpaceRows } from "../../sharding/cluster/space/space.js"
import type { Strategy } from "../../sharding/strategy.js"
import type { Assignment, RowShards } from "../rows/partition.js"
import type { LaidOut } from "./task.js"

/**
 * Places the rows of the second reading, which must be those of the first in the same order: where a layout
 * of all rows has them, at home, then at each of their copies; one at a time by a layout of a sample. Throws
 * `InvalidInput` if there are more rows than in the first.
 */
export function layoutAssignment(
  strategy: Strategy,
  laidOut: LaidOut,
  rows: number,
  sourceName: string,
): Assignment {
  const { home, copies, placement, routing } = laidOut
  let next = 0
  return {
    strategy,
    assign(batch) {
      const from = next
      next += batch.rows
      if (next > rows) {
        throw invalidInput(
          `${sourceName} had ${rows} rows when first read and more when read again; do not change the input during a build`,
          { expected: rows, actual: next },
        )
      }
      if (placement !== undefined) {
        return placed(prepareRows(routing.preparation, batch.vectors.slice()), placement)
      }
      if (copies === undefined) return { rows: undefined, shards: home.subarray(from, next) }
      const stored = batch.rows + copies.start[next]! - copies.start[from]!
      const rowShards = { rows: new Int32Array(stored), shards: new Int32Array(stored) }
      for (let row = from, at = 0; row < next; row++) {
        rowShards.rows[at] = row - from
        rowShards.shards[at++] = home[row]!
        for (let copy = copies.start[row]!; copy < copies.start[row + 1]!; copy++) {
          rowShards.rows[at] = row - from
          rowShards.shards[at++] = copies.shard[copy]!
        }
      }
      return rowShards
    },
  }
}

/** Rows by themselves, with the copies that they have there. */
function placed(rows: SpaceRows, placement: Placement): RowShards {
  const { home, copies } = placeRows(rows, placement)
  if (copies.of.length === 0) return { rows: undefined, shards: home }
  const stored = home.length + copies.of.length
  const rowShards = { rows: new Int32Array(stored), shards: new Int32Array(stored) }
  for (let row = 0, at = 0, copy = 0; row < home.length; row++) {
    rowShards.rows[at] = row
    rowShards.shards[at++] = home[row]!
    if (copies.of[copy] !== row) continue
    rowShards.rows[at] = row
    rowShards.shards[at++] = copies.shard[copy++]!
  }
  return rowShards
}
