import fc from "fast-check"
import { describe, expect, it, test } from "vitest"
import {
  certifiedRecall,
  curveOf,
  estimate,
  fixedProbes,
  probesToMeasure,
  reachedRanks,
  recallCurve,
  recallOf,
  targetFigures,
} from "../../../src/recall/curves.js"

describe("a query's recall", () => {
  const reached = reachedRanks({ route: [3, 0, 2], holders: [[3], [0, 2], [1], [2], [1, 3]] })

  it("counts a neighbour from the first shard on that holds it, and one that no route leads to never", () => {
    expect([...reached.map((rank) => Math.min(rank, 9))]).toEqual([0, 1, 9, 2, 0])
    expect([1, 2, 3].map((probes) => recallOf(reached, 5, probes))).toEqual([0.4, 0.6, 0.8])
    expect([1, 2, 3].map((probes) => recallOf(reached, 1, probes))).toEqual([1, 1, 1])
  })

  it("is of all neighbours where there are fewer than k", () => {
    expect(recallOf(reached, 100, 3)).toBe(0.8)
  })

  it("never falls when probes grow, nor with more copies", () => {
    const shards = 6
    const query = fc.record({
      route: fc.shuffledSubarray([...Array(shards).keys()], { minLength: 1 }),
      holders: fc.array(fc.uniqueArray(fc.nat(shards - 1), { minLength: 1, maxLength: 4 }), {
        minLength: 1,
        maxLength: 12,
      }),
    })
    fc.assert(
      fc.property(fc.array(query, { minLength: 1, maxLength: 8 }), fc.nat(shards - 1), (queries, extra) => {
        const probes = [1, 2, 3, 4, 5, 6]
        const copied = queries.map(({ route, holders }) => ({
          route,
          holders: holders.map((own) => [...new Set([...own, extra])]),
        }))
        for (const k of [1, 10, 100]) {
          const curve = recallCurve(queries.map(reachedRanks), k, probes)
          const more = recallCurve(copied.map(reachedRanks), k, probes)
          for (const at of probes.keys()) {
            expect(curve.low[at]).toBeLessThanOrEqual(curve.recall[at]!)
            expect(curve.high[at]).toBeGreaterThanOrEqual(curve.recall[at]!)
            expect(more.recall[at]).toBeGreaterThanOrEqual(curve.recall[at]!)
            if (at === 0) continue
            expect(curve.recall[at]).toBeGreaterThanOrEqual(curve.recall[at - 1]!)
            expect(curve.zero[at]).toBeLessThanOrEqual(curve.zero[at - 1]!)
            expect(curve.p05[at]).toBeGreaterThanOrEqual(curve.p05[at - 1]!)
          }
        }
      }),
    )
  })
})

describe("an estimate", () => {
  test("of shares of one thing is Wilson's interval", () => {
    // 81 of 90: (0.9 + z²/180 ± z √(0.09/90 + z²/32400)) / (1 + z²/90), but for the n - 1 of the variance.
    const { mean, low, high } = estimate([...Array(81).fill(1), ...Array(9).fill(0)], 1)
    expect(mean).toBe(0.9)
    expect(low).toBeCloseTo(0.82, 2)
    expect(high).toBeCloseTo(0.946, 2)
  })

  test("that does not scatter has a width all the same, and stays from 0 to 1", () => {
    const all = estimate(Array(100).fill(1), 10)
    expect(all).toMatchObject({ mean: 1, high: 1 })
    expect(all.low).toBeCloseTo(100 / (100 + 1.96 ** 2), 6)
    expect(estimate(Array(100).fill(0), 10).high).toBeCloseTo(1 - all.low, 6)
    const half = estimate(Array(100).fill(0.5), 10)
    expect(half.high - half.low).toBeCloseTo(2 * 1.96 * Math.sqrt(0.25 / 1000), 2)
  })

  test("covers the truth about 19 times of 20", () => {
    let state = 12345
    const random = () => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0
      return state / 2 ** 32
    }
    let covered = 0
    const trials = 2000
    for (let trial = 0; trial < trials; trial++) {
      // A query finds each of its 10 with a chance of its own, .98 or .68: .95 on average, and scattered.
      const shares = Array.from({ length: 200 }, () => {
        const chance = random() < 0.9 ? 0.98 : 0.68
        return (
          Array.from({ length: 10 }, () => (random() < chance ? 1 : 0)).reduce<number>((a, b) => a + b, 0) /
          10
        )
      })
      const { low, high } = estimate(shares, 10)
      if (low <= 0.95 && high >= 0.95) covered++
    }
    expect(covered / trials).toBeGreaterThan(0.93)
    expect(covered / trials).toBeLessThan(0.97)
  })
})

describe("figures", () => {
  it("tell who found nothing, and what one query in twenty has at most", () => {
    const shares = Float64Array.from({ length: 40 }, (_, i) => (i < 1 ? 0 : i < 4 ? 0.5 : 1))
    const curve = curveOf(10, [shares])
    expect(curve).toMatchObject({ k: 10, recall: [0.9375], zero: [0.025], p05: [0.5] })
  })

  it("of targets are what each query finds before it stops", () => {
    const reached = [Int32Array.of(0, 1), Int32Array.of(0, 2)]
    expect(targetFigures(reached, 0.9, [2, 1])).toMatchObject({ target: 0.9, probes: 1.5, recall: 0.75 })
  })

  it("are measured at every number up to 16, then eight times per doubling, and at all shards", () => {
    expect(probesToMeasure(3)).toEqual([1, 2, 3])
    expect(probesToMeasure(16)).toHaveLength(16)
    expect(probesToMeasure(64).slice(15)).toEqual([
      16, 17, 19, 21, 23, 25, 27, 29, 32, 35, 38, 41, 45, 49, 54, 59, 64,
    ])
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 65_536 }), (shards) => {
        const probes = probesToMeasure(shards)
        expect(probes.at(-1)).toBe(shards)
        expect(probes.every((count, i) => i === 0 || count > probes[i - 1]!)).toBe(true)
      }),
    )
  })

  it("are read off at the number measured below, and by the lower bound", () => {
    const flat = [0, 0, 0, 0]
    const curve = { k: 10, recall: [0.8, 0.92, 0.97, 1], low: [0.7, 0.88, 0.95, 0.96], high: [1, 1, 1, 1] }
    const certificate = { probes: [1, 2, 4, 8], curves: [{ ...curve, zero: flat, p05: flat }] }
    expect(certifiedRecall(certificate, 10, 3)).toEqual({ mean: 0.92, low: 0.88, high: 1 })
    expect(certifiedRecall(certificate, 10, 99)?.mean).toBe(1)
    expect(certifiedRecall(certificate, 100, 4)).toBeUndefined()
    expect(fixedProbes(certificate, 0.9)).toEqual({ probes: 4, recall: 0.97 })
    // No lower bound says so, but all shards find all.
    expect(fixedProbes(certificate, 0.99)).toEqual({ probes: 8, recall: 1 })
  })
})
