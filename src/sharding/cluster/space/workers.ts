/**
 * Sharing a step of the layout among threads. Steps that compare many vectors divide their rows (or cells, or
 * shards) into parts; whoever is free takes the next. No two parts write the same place, so results do not
 * depend on who does what.
 *
 * Parts are posted to threads: what is large must be in shared memory, and what a part has of its own must be
 * small.
 */
import { type SpaceRows, sliceRows } from "./space.js"

/**
 * A part of a step, plain data with large arrays in shared memory: one of those that `parts.ts` knows how to
 * do, by its kind.
 */
export interface Part {
  readonly kind: string
}

/**
 * Threads that work together on the parts of a step. `writer/` makes them; without any, everything is done by
 * the caller.
 */
export interface Workers {
  /** The caller's included. */
  readonly threads: number
  /** Does all parts, and returns when all are done. Throws what a part throws. */
  run(parts: readonly Part[]): void
}

/** Parts per thread: several, since some take longer than others. */
const PARTS_PER_THREAD = 4

/**
 * Divides `count` things into ranges of at least `least` and does them all: with workers `partOf` each range,
 * otherwise `alone` all of them at once.
 */
export function divide(
  workers: Workers | undefined,
  count: number,
  least: number,
  partOf: (from: number, to: number) => Part,
  alone: () => void,
): void {
  const parts = Math.min(Math.floor(count / least), PARTS_PER_THREAD * (workers?.threads ?? 1))
  if (workers === undefined || workers.threads === 1 || parts < 2) {
    alone()
    return
  }
  const border = (part: number): number => Math.floor((part * count) / parts)
  workers.run(Array.from({ length: parts }, (_, part) => partOf(border(part), border(part + 1))))
}

/** Zeros, in memory that workers can write. */
export const newFloats = (length: number, workers?: Workers): Float32Array =>
  workers === undefined ? new Float32Array(length) : new Float32Array(new SharedArrayBuffer(4 * length))
export const newInts = (length: number, workers?: Workers): Int32Array =>
  workers === undefined ? new Int32Array(length) : new Int32Array(new SharedArrayBuffer(4 * length))
export const newShorts = (length: number, workers?: Workers): Uint16Array =>
  workers === undefined ? new Uint16Array(length) : new Uint16Array(new SharedArrayBuffer(2 * length))

/** Rows for a part: some of their `members`, or of all rows as a view, which needs no numbers. */
export function partOfRows(
  rows: SpaceRows,
  members: ArrayLike<number> | undefined,
  from: number,
  to: number,
): { readonly rows: SpaceRows; readonly members: Int32Array | undefined } {
  if (members === undefined) return { rows: sliceRows(rows, from, to), members }
  return { rows, members: someOf(members, from, to) }
}

/**
 * Some of `members`, copied, or of all rows by their numbers; not a view, which would be posted with all that
 * it is a view of.
 */
export function someOf(members: ArrayLike<number> | undefined, from: number, to: number): Int32Array {
  const some = new Int32Array(to - from)
  for (let i = from; i < to; i++) some[i - from] = members === undefined ? i : members[i]!
  return some
}
