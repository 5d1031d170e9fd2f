/**
 * Rows that are held out of all that learns, so that recall can be measured with them: chosen by a hash of
 * their number in reading order, stored like all others, and known to nothing else of the build.
 *
 * How many rows there are is known at the end only, so a collector keeps as many as may be needed while the
 * rows go by. Once the number is known the same rows can also be named: that is how training leaves them out.
 */
import { idKey } from "../../recall/id-key.js"
import type { RecordBatch } from "../../records.js"
import type { Copies } from "../../sharding/cluster/layout/judge.js"
import { homesByScore } from "../../sharding/cluster/routing/insert.js"
import { hash32, saltOf } from "../../sharding/cluster/space/hash.js"
import { prepareRows } from "../../sharding/cluster/space/space.js"
import { type Job, seedOf } from "../job.js"
import type { LaidOut } from "../layout/task.js"
import type { RowShards } from "./partition.js"

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

/** Keeps the items of the rows with the lowest hashes. */
class LowestHashes<T> {
  readonly entries: { readonly hash: number; readonly row: number; readonly item: T }[] = []
  readonly #most: number
  readonly #salt: number

  constructor(most: number, seed: number) {
    this.#most = most
    this.#salt = saltOf("certificate", seed)
  }

  /**
   * Rows are offered in order, so that of equal hashes the first row stays. `itemOf` is called if the row is
   * kept.
   */
  offer(row: number, itemOf: () => T): void {
    const hash = hash32(row, this.#salt)
    const { entries } = this
    if (entries.length === this.#most && !(hash < (entries.at(-1)?.hash ?? 0))) return
    let low = 0
    let high = entries.length
    while (low < high) {
      const middle = (low + high) >> 1
      if (entries[middle]!.hash <= hash) low = middle + 1
      else high = middle
    }
    entries.splice(low, 0, { hash, row, item: itemOf() })
    if (entries.length > this.#most) entries.pop()
  }
}

/** The `count` rows that are held out of `rows`, rising. */
export function heldOutRows({ seed }: HoldOut, rows: number, count: number): Float64Array {
  const lowest = new LowestHashes<undefined>(count, seed)
  for (let row = 0; row < rows; row++) lowest.offer(row, () => undefined)
  return Float64Array.from(lowest.entries, ({ row }) => row).sort()
}

interface Collected {
  readonly vector: Float32Array
  readonly id: number
  readonly shard: number
  readonly position: number
}

export interface HeldOutRow extends Collected {
  /** In reading order. */
  readonly row: number
}

export interface HoldOutCollector {
  /** To be called with all batches in order, with the shards of their rows and the positions there. */
  add(batch: RecordBatch, rowShards: RowShards, positions: Float64Array): void
  /** The rows that {@link heldOutRows} names for the number of rows seen, by rising number. */
  take(kept: number): readonly HeldOutRow[]
}

export function createHoldOutCollector(holdOut: HoldOut): HoldOutCollector {
  const lowest = new LowestHashes<Collected>(holdOut.wanted, holdOut.seed)
  let rows = 0
  return {
    add({ dim, vectors, ids, rows: count }, rowShards, positions) {
      for (let place = 0; place < rowShards.shards.length; place++) {
        const row = rowShards.rows === undefined ? place : rowShards.rows[place]!
        // The home of a row comes before its copies.
        if (place > 0 && rowShards.rows?.[place - 1] === row) continue
        lowest.offer(rows + row, () => ({
          vector: vectors.slice(row * dim, (row + 1) * dim),
          id: idKey(ids.values[row]!),
          shard: rowShards.shards[place]!,
          position: positions[place]!,
        }))
      }
      rows += count
    },
    take: (kept) =>
      lowest.entries
        .slice(0, heldOutCount(holdOut, rows, kept))
        .map(({ row, item }) => ({ row, ...item }))
        .sort((a, b) => a.row - b.row),
  }
}

/** Rows of a sample that are not among the `heldOut` ones; `numbers` says which row of the input each is. */
export function sampleWithout(
  { vectors, rowNumbers }: { readonly vectors: Float32Array; readonly rowNumbers: Float64Array },
  dim: number,
  heldOut: Float64Array,
): Float32Array {
  const out = new Set(heldOut)
  const kept = [...rowNumbers.keys()].filter((place) => !out.has(rowNumbers[place]!))
  const left = new Float32Array(kept.length * dim)
  for (const [to, from] of kept.entries()) left.set(vectors.subarray(from * dim, (from + 1) * dim), to * dim)
  return left
}

/**
 * Moves all but the held-out rows to the front, in place and in order. Returns both parts, the first as a
 * view.
 */
export function takeHeldOut(
  vectors: Float32Array,
  dim: number,
  heldOut: Float64Array,
): { readonly left: Float32Array; readonly heldOut: Float32Array } {
  const taken = new Float32Array(heldOut.length * dim)
  let end = 0
  for (let i = 0; i <= heldOut.length; i++) {
    const from = i === 0 ? 0 : heldOut[i - 1]! + 1
    const to = heldOut[i] ?? vectors.length / dim
    vectors.copyWithin(end * dim, from * dim, to * dim)
    end += to - from
    if (i < heldOut.length) taken.set(vectors.subarray(to * dim, (to + 1) * dim), i * dim)
  }
  return { left: vectors.subarray(0, end * dim), heldOut: taken }
}

/**
 * A layout of the rows that are left, with the held-out ones put back: each has the home that routing ranks
 * first, and no copies.
 */
export function withHeldOut(laidOut: LaidOut, heldOut: Float64Array, vectors: Float32Array): LaidOut {
  const { preparation, descriptors, beta } = laidOut.routing
  const homes = homesByScore(prepareRows(preparation, vectors), descriptors, beta)
  const rows = laidOut.home.length + heldOut.length
  const home = new Int32Array(rows)
  const start = new Int32Array(rows + 1)
  for (let row = 0, out = 0; row < rows; row++) {
    const isOut = out < heldOut.length && heldOut[out] === row
    home[row] = isOut ? homes[out]! : laidOut.home[row - out]!
    if (isOut) out++
    start[row + 1] = laidOut.copies?.start[row + 1 - out] ?? 0
  }
  const copies: Copies | undefined = laidOut.copies && { start, shard: laidOut.copies.shard }
  return { ...laidOut, home, copies }
}
