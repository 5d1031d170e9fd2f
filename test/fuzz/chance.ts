/** Seeded choices. */
import { seededRandom } from "../support/records.js"

export interface Chance {
  /** From 0 up to, but not including, `limit`. */
  below(limit: number): number
  pick<T>(list: readonly T[]): T
  /** True in one of `n` cases. */
  oneIn(n: number): boolean
}

export function chanceOf(seed: number): Chance {
  const random = seededRandom(seed)
  const below = (limit: number): number => Math.floor(random() * limit)
  return {
    below,
    pick: (list) => list[below(list.length)]!,
    oneIn: (n) => below(n) === 0,
  }
}

/** The seed of one case of many: neighbouring numbers lead to unlike choices. */
export const seedOf = (seed: number, number: number): number =>
  Math.imul(Math.imul(seed ^ 0x9e3779b9, 0x85ebca6b) ^ number, 0xc2b2ae35) >>> 0
