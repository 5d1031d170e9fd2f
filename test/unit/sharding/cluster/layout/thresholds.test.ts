import fc from "fast-check"
import { describe, expect, it } from "vitest"
import {
  chooseThresholds,
  largestThreshold,
  learnGains,
  type Trials,
  trialsOf,
  tryThresholds,
} from "../../../../../src/sharding/cluster/layout/thresholds.js"
import type { Routings } from "../../../../../src/sharding/cluster/routing/descriptors.js"
import { expectedGains, TARGETS } from "../../../../../src/sharding/cluster/routing/stopping.js"

/** One query: scores along the ranks, all as familiar. */
const routed = (...scores: readonly number[]): Routings => ({
  queries: 1,
  shards: scores.length,
  shown: scores.length,
  ranked: Uint16Array.from(scores.keys()),
  scores: Float32Array.from(scores),
  familiarity: Float32Array.of(0.5),
})

describe("the gain table", () => {
  it("takes from the mean of a score what it has not seen of a rank", () => {
    // Scores of a half, a quarter and an eighth lie in bins of their own.
    const table = learnGains(routed(0.5, 0.25, 0.125), Float32Array.of(0.7, 0.2, 0.1))
    const expected = new Float32Array(3)
    // None of these scores was seen at its rank.
    expectedGains(table, [0.25, 0.125, 0.125], 0, 3, 0.5, expected)
    expect([...expected].map((gain) => Number(gain.toFixed(6)))).toEqual([0.2, 0.1, 0.1])
  })

  it("leans thin bins on the rank and score over all familiarities, and those on the score", () => {
    // Two queries, of the last and of the first octile: the bin of rank 1 and score 1/2 has one of each.
    const two: Routings = {
      ...routed(0.5, 0.5, 0.5, 0.5),
      queries: 2,
      shards: 2,
      shown: 2,
      familiarity: Float32Array.of(0.2, 0.9),
    }
    const { gains } = learnGains(two, Float32Array.of(0.9, 0.1, 0.6, 0.4))
    const byScore = (0.9 + 0.1 + 0.6 + 0.4) / 4
    const byRank = (0.9 + 0.6 + 20 * byScore) / (2 + 20)
    // Octile 0 of rank 1 and score bin 2.
    expect(gains[2 * 8]).toBeCloseTo((0.9 + 20 * byRank) / 21, 6)
    expect(gains[2 * 8 + 7]).toBeCloseTo((0.6 + 20 * byRank) / 21, 6)
    expect(gains[2 * 8 + 3]).toBeCloseTo(byRank, 6)
  })
})

describe("trials of queries on a snapshot", () => {
  it("count of the ten nearest how many each rank is first to hold; shards without rows gain and promise nothing", () => {
    const table = learnGains(routed(0.5, 0.25, 0.125), Float32Array.of(0.7, 0.2, 0.1))
    const scores = Float32Array.of(0.5, 0.25)
    const ranked = { shards: Uint16Array.of(2, 0), scores, familiarity: 0.25 }
    // The eleventh neighbour does not count.
    const ten = Int32Array.of(0, 0, 1, 0, 0, 1, 0, 0, 0, 1, 1)
    const few = Int32Array.of(0, 1)
    const trials = trialsOf(
      table,
      [ten, few].map((reached) => ({ ranked, reached })),
      3,
    )
    expect([...trials.gained].map((gain) => Number(gain.toFixed(6)))).toEqual([0.7, 0.3, 0, 0.5, 0.5, 0])
    expect([...trials.expected].map((gain) => Number(gain.toFixed(6)))).toEqual([0.7, 0.2, 0, 0.7, 0.2, 0])
    expect(trials).toMatchObject({ queries: 2, shards: 3, familiarity: Float32Array.of(0.25, 0.25) })
  })
})

describe("thresholds", () => {
  /** Queries of three shards whose expected gains say something of the true ones. */
  const drawTrials = (queries: number, seed: number): Trials => {
    const expected = new Float32Array(3 * queries)
    const gained = new Float32Array(3 * queries)
    for (let query = 0; query < queries; query++) {
      const second = ((query * 7919 + seed) % queries) / queries
      expected.set([1, second, second / 2], 3 * query)
      const found = Math.round(4 * second)
      gained.set([1 - (3 * found) / 20, found / 10, found / 20], 3 * query)
    }
    const familiarity = Float32Array.from({ length: queries }, (_, query) => query / queries)
    return { queries, shards: 3, expected, gained, familiarity }
  }

  it("meet each target on each side by the errors of both means, theirs and that of 2,000 more, and no larger ones do", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 40, max: 3000 }),
        fc.integer({ min: 0, max: 1000 }),
        fc.constantFrom(0.7, 0.8, 0.9),
        (queries, seed, target) => {
          const trials = drawTrials(queries, seed)
          const { thresholds, reached } = chooseThresholds(trials, 0.25)
          const all = [...Array(queries).keys()]
          const isUnfamiliar = (query: number) => trials.familiarity[query]! < 0.25
          const sides = [all.filter(isUnfamiliar), all.filter((query) => !isUnfamiliar(query))]
          for (const [side, members] of sides.entries()) {
            const at = side * TARGETS.length + TARGETS.indexOf(target)
            const bound = (threshold: number): number => {
              const { recall, standardError } = tryThresholds(trials, () => threshold, members)
              return recall - 1.65 * standardError * Math.sqrt(1 + queries / 2000)
            }
            const { recall } = tryThresholds(trials, () => thresholds[at]!, members)
            expect(reached[at]).toBeCloseTo(recall, 6)
            if (thresholds[at] === 0) continue
            expect(bound(thresholds[at]!)).toBeGreaterThanOrEqual(target - 2e-6)
            if (thresholds[at]! < 0.99)
              expect(bound(thresholds[at]! + 1e-5 + 1 / queries)).toBeLessThan(target)
          }
        },
      ),
      { numRuns: 30 },
    )
  })

  it("take more off than the error of the queries that choose alone", () => {
    const trials = drawTrials(2000, 1)
    const { thresholds } = chooseThresholds(trials, -Infinity)
    const at = TARGETS.length + TARGETS.indexOf(0.9)
    expect(thresholds[at]).toBeLessThan(largestThreshold(trials, 0.9) - 0.001)
    expect(thresholds[at]).toBeCloseTo(largestThreshold(trials, 0.9, undefined, 1.65 * Math.SQRT2), 6)
  })
})
