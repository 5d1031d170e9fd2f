/**
 * Which parts of a memory are taken: first fit, and free neighbours become one. Bookkeeping alone, on
 * numbers.
 */

/** What is taken begins at a multiple of this: a line of the processor's caches. */
export const RANGE_ALIGNMENT = 64

export const aligned = (bytes: number): number => Math.ceil(bytes / RANGE_ALIGNMENT) * RANGE_ALIGNMENT

interface Free {
  at: number
  end: number
}

export class Ranges {
  /** Bytes that are taken. */
  taken = 0
  /** The end of what there is. */
  readonly most: number
  readonly #start: number
  /** Nothing from here on was ever taken, so that it costs no memory yet. */
  #end: number
  /** Below the end, in order of address; no two of them touch. */
  readonly #free: Free[] = []

  /** Addresses from `start` up to `most`, multiples of {@link RANGE_ALIGNMENT}. */
  constructor(start: number, most: number) {
    this.#start = start
    this.most = most
    this.#end = start
  }

  /** The first address that was never taken. */
  get end(): number {
    return this.#end
  }

  /** Bytes that have been taken at some time. */
  get touched(): number {
    return this.#end - this.#start
  }

  /**
   * By how much `touched` would rise if so many bytes were taken; undefined if there is no place for them.
   */
  growthFor(bytes: number): number | undefined {
    const { at, end } = this.#find(aligned(bytes))
    return end > this.most ? undefined : Math.max(0, end - Math.max(at, this.#end))
  }

  /** Takes the first place that fits. Undefined if there is none. */
  take(bytes: number): number | undefined {
    const { at, end, index } = this.#find(aligned(bytes))
    if (end > this.most) return undefined
    const free = this.#free[index]
    if (free !== undefined) {
      if (free.end <= end) this.#free.splice(index, 1)
      else free.at = end
    }
    this.#end = Math.max(this.#end, end)
    this.taken += end - at
    return at
  }

  /** Gives back what {@link Ranges.take} has given. Throws `Error` for a part of it that is free. */
  give(at: number, bytes: number): void {
    const end = at + aligned(bytes)
    let index = this.#free.findIndex((free) => free.at > at)
    if (index < 0) index = this.#free.length
    const before = this.#free[index - 1]
    const after = this.#free[index]
    if (end > this.#end || (before?.end ?? 0) > at || (after?.at ?? Infinity) < end)
      throw new Error(`${bytes} bytes at ${at} are given back that are not taken`)
    this.taken -= end - at
    const joinsBefore = before?.end === at
    const joinsAfter = after?.at === end
    if (joinsBefore && joinsAfter) {
      before!.end = after!.end
      this.#free.splice(index, 1)
    } else if (joinsBefore) before!.end = end
    else if (joinsAfter) after!.at = at
    else this.#free.splice(index, 0, { at, end })
  }

  /** The first free range that is long enough; else from the last one on, if it reaches the end. */
  #find(bytes: number): { readonly at: number; readonly end: number; readonly index: number } {
    let index = this.#free.findIndex(({ at, end }) => end - at >= bytes)
    if (index < 0) index = this.#free.at(-1)?.end === this.#end ? this.#free.length - 1 : this.#free.length
    const at = this.#free[index]?.at ?? this.#end
    return { at, end: at + bytes, index }
  }
}
