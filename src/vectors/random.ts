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
