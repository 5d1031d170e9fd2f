/**
 * Files that are read in parts: in stretches of equal length, each of which has a SHA-256 of its own, so that
 * what was read can be checked whatever was not. Pure.
 */
import { createHash } from "node:crypto"
import { corrupt } from "../errors.js"
import { SUM_STRETCH } from "../vectors/cells/file.js"

/** Bytes from `start` up to but not including `end`; `0 <= start <= end`. */
export interface ByteRange {
  readonly start: number
  readonly end: number
}

const SUM_BYTES = 32

/** The stretches that ranges touch, by number, rising. */
export function stretchesOf(ranges: readonly ByteRange[]): readonly number[] {
  const numbers = new Set<number>()
  for (const { start, end } of ranges) {
    if (start === end) continue
    const last = Math.floor((end - 1) / SUM_STRETCH)
    for (let index = Math.floor(start / SUM_STRETCH); index <= last; index++) numbers.add(index)
  }
  return [...numbers].sort((a, b) => a - b)
}

/** The bytes of a stretch of a file of `size` bytes. */
export const stretchRange = (index: number, size: number): ByteRange => ({
  start: index * SUM_STRETCH,
  end: Math.min((index + 1) * SUM_STRETCH, size),
})

/**
 * Stretches that are to be had together, first and last: those between which there are at most `gap` others,
 * which then come along. `wanted` must rise.
 */
export function joinStretches(
  wanted: readonly number[],
  gap: number,
): readonly { readonly first: number; readonly last: number }[] {
  const joined: { first: number; last: number }[] = []
  for (const index of wanted) {
    const run = joined.at(-1)
    if (run !== undefined && index - run.last - 1 <= gap) run.last = index
    else joined.push({ first: index, last: index })
  }
  return joined
}

/** Whether bytes are those of the stretch that has the sum. */
export function isSound(bytes: Uint8Array, index: number, sums: Uint8Array): boolean {
  const sum = sums.subarray(index * SUM_BYTES, (index + 1) * SUM_BYTES)
  return sum.length === SUM_BYTES && createHash("sha256").update(bytes).digest().equals(sum)
}

/** Throws `Corrupt`, naming the file, unless {@link isSound}. */
export function checkStretch(file: string, bytes: Uint8Array, index: number, sums: Uint8Array): void {
  if (isSound(bytes, index, sums)) return
  const start = index * SUM_STRETCH
  throw corrupt(`${file} is damaged in its bytes from ${start} on: their SHA-256 is another one`, {
    file,
    start,
    end: start + bytes.length,
  })
}

/** Throws `Corrupt`, naming the file, for a range that reaches past the end of its `size` bytes. */
export function checkWithin(file: string, ranges: readonly ByteRange[], size: number): void {
  const beyond = ranges.find(({ end }) => end > size)
  if (beyond === undefined) return
  throw corrupt(`${file} has ${size} bytes, expected at least ${beyond.end}`, {
    file,
    expected: beyond.end,
    got: size,
  })
}

/** The bytes of a range, of which all stretches are there. */
export function fromStretches(range: ByteRange, stretches: ReadonlyMap<number, Uint8Array>): Uint8Array {
  const bytes = new Uint8Array(range.end - range.start)
  for (const index of stretchesOf([range])) {
    const start = index * SUM_STRETCH
    const stretch = stretches.get(index)!
    const part = stretch.subarray(Math.max(range.start - start, 0), range.end - start)
    bytes.set(part, Math.max(start - range.start, 0))
  }
  return bytes
}
