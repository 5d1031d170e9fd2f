/**
 * Seeded random numbers: the same seed gives the same numbers on every machine.
 */
import { invalidInput } from "../errors.js"

export interface Random {
  /** An integer, 0 <= n < 2^32, each as likely. */
  uint32(): number
  /** 0 <= x < 1, with 53 random bits. */
  float(): number
  /** An integer, 0 <= n < bound, each as likely. `1 <= bound <= 2^32`. */
  below(bound: number): number
  /** Standard normal: mean 0, variance 1. */
  gaussian(): number
}

/**
 * The generator sfc32 (Chris Doty-Humphrey, PractRand): 128 bits of state, one counter, so every seed has a
 * period of 2^32 numbers at least and some 2^127 on average. Throws `InvalidInput` unless `seed` is a safe
 * integer.
 */
export function createRandom(seed: number): Random {
  if (!Number.isSafeInteger(seed)) throw invalidInput(`the seed must be an integer, got ${seed}`, { seed })
  let a = seed | 0
  let b = Math.floor(seed / 2 ** 32) | 0
  let c = 0
  let counter = 1

  const uint32 = (): number => {
    const result = (a + b + counter) | 0
    counter = (counter + 1) | 0
    a = b ^ (b >>> 9)
    b = (c + (c << 3)) | 0
    c = (((c << 21) | (c >>> 11)) + result) | 0
    return result >>> 0
  }
  // PractRand's own number of rounds for mixing a seed into the state.
  for (let round = 0; round < 15; round++) uint32()

  const float = (): number => ((uint32() >>> 5) * 2 ** 26 + (uint32() >>> 6)) / 2 ** 53

  const below = (bound: number): number => {
    // Numbers from the last, incomplete stretch of `bound` are drawn again: they would favour small results.
    const limit = 2 ** 32 - (2 ** 32 % bound)
    let drawn = uint32()
    while (drawn >= limit) drawn = uint32()
    return drawn % bound
  }

  // Marsaglia's polar method makes two at a time.
  let spare: number | undefined
  const gaussian = (): number => {
    if (spare !== undefined) {
      const result = spare
      spare = undefined
      return result
    }
    for (;;) {
      const x = 2 * float() - 1
      const y = 2 * float() - 1
      const s = x * x + y * y
      if (s >= 1 || s === 0) continue
      const factor = Math.sqrt((-2 * Math.log(s)) / s)
      spare = y * factor
      return x * factor
    }
  }

  return { uint32, float, below, gaussian }
}

/**
 * A uniform sample of at most `capacity` vectors from a stream of unknown length, deterministic for a seed
 * and independent of how the stream is cut into batches.
 *
 * Algorithm L (Kim-Hung Li, "Reservoir-sampling algorithms of time complexity O(n(1 + log(N/n)))", 1994):
 * after the reservoir is full it draws how many rows to skip, so most rows cost nothing.
 */
export class Reservoir {
  readonly #capacity: number
  readonly #dim: number
  readonly #random: Random
  /** Grows up to capacity × dim: a small input does not pay for a large sample. */
  #vectors: Float32Array
  /** Where in the stream each kept row was. */
  #numbers: Float64Array
  #rows = 0
  #seen = 0
  /** Row of the stream that is kept next, once the reservoir is full. */
  #nextKept = 0
  /** The largest of `capacity` uniform numbers, in a sense; falls as the stream goes on. */
  #threshold = 1

  constructor(capacity: number, dim: number, seed: number) {
    if (!Number.isSafeInteger(capacity) || capacity < 1) {
      throw invalidInput(`a sample must have 1 row or more, got ${capacity}`, { capacity })
    }
    this.#capacity = capacity
    this.#dim = dim
    this.#random = createRandom(seed)
    this.#vectors = new Float32Array(Math.min(capacity, 1024) * dim)
    this.#numbers = new Float64Array(Math.min(capacity, 1024))
  }

  /** Rows kept so far. */
  get rows(): number {
    return this.#rows
  }

  /** Rows offered so far. */
  get seen(): number {
    return this.#seen
  }

  /** The sample: `rows × dim`, row-major, in no particular order. A view that the next `add` may change. */
  get vectors(): Float32Array {
    return this.#vectors.subarray(0, this.#rows * this.#dim)
  }

  /** For each row of the sample, how many rows of the stream came before it. A view, as {@link vectors}. */
  get rowNumbers(): Float64Array {
    return this.#numbers.subarray(0, this.#rows)
  }

  /** Offers the rows of row-major `vectors`. */
  add(vectors: Float32Array): void {
    const offered = vectors.length / this.#dim
    const copied = Math.min(offered, this.#capacity - this.#rows)
    if (copied > 0) {
      this.#reserve(this.#rows + copied)
      this.#vectors.set(vectors.subarray(0, copied * this.#dim), this.#rows * this.#dim)
      for (let row = 0; row < copied; row++) this.#numbers[this.#rows + row] = this.#seen + row
      this.#rows += copied
      if (this.#rows === this.#capacity) {
        this.#nextKept = this.#capacity - 1
        this.#drawNextKept()
      }
    }
    const end = this.#seen + offered
    while (this.#rows === this.#capacity && this.#nextKept < end) {
      const from = (this.#nextKept - this.#seen) * this.#dim
      const place = this.#random.below(this.#capacity)
      this.#vectors.set(vectors.subarray(from, from + this.#dim), place * this.#dim)
      this.#numbers[place] = this.#nextKept
      this.#drawNextKept()
    }
    this.#seen = end
  }

  #drawNextKept(): void {
    // 1 - float() is never 0, whose logarithm would be no number to go on with.
    this.#threshold *= Math.exp(Math.log(1 - this.#random.float()) / this.#capacity)
    const skipped = Math.floor(Math.log(1 - this.#random.float()) / Math.log1p(-this.#threshold))
    this.#nextKept += skipped + 1
  }

  #reserve(rows: number): void {
    const needed = rows * this.#dim
    if (needed <= this.#vectors.length) return
    const grown = Math.min(this.#capacity * this.#dim, Math.max(needed, 2 * this.#vectors.length))
    const vectors = new Float32Array(grown)
    vectors.set(this.#vectors)
    this.#vectors = vectors
    const numbers = new Float64Array(grown / this.#dim)
    numbers.set(this.#numbers)
    this.#numbers = numbers
  }
}
