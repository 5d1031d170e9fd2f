import fc from "fast-check"
import { describe, expect, test } from "vitest"
import {
  type CellRule,
  describedEffort,
  effortFor,
  shardTarget,
  withEffort,
} from "../../../src/sharding/effort.js"

const RULE: CellRule = {
  targets: [0.5, 0.9, 0.95, 0.98],
  rows: [100, 1000, 2000, 8000],
  recall: [0.52, 0.91, 0.955, 0.982],
  best: [50, 50, 60, 100],
  rowsPerCell: 40,
}

const rowsFor = (target: number, shards: number, k = 10) =>
  effortFor(RULE, target, shards, k).effort?.rows ?? Infinity

describe("the effort for a target", () => {
  test("is that of the rule for one shard, and twice as much for four", () => {
    for (const [i, target] of RULE.targets.entries()) {
      expect(rowsFor(target, 1)).toBeCloseTo(RULE.rows[i]!, -1)
      expect(rowsFor(target, 4)).toBeCloseTo(2 * RULE.rows[i]!, -1)
      expect(effortFor(RULE, target, 4, 10).recall).toBeCloseTo(RULE.recall[i]!)
    }
    expect(effortFor(RULE, 0.95, 4, 10).effort).toEqual({ rows: 4000, groups: 70, best: 60 })
  })

  test("lies between those of two targets by what these let go, and below the first one is that of it", () => {
    // .1 and .05 let go: half way between their logarithms is .0707.
    expect(rowsFor(1 - Math.sqrt(0.1 * 0.05), 1)).toBeCloseTo(Math.sqrt(1000 * 2000), -1)
    expect(rowsFor(0.1, 1)).toBe(100)
  })

  test("is all rows beyond the last target, and with a rule that has none", () => {
    for (const target of [0.981, 1])
      expect(effortFor(RULE, target, 4, 10)).toEqual({ effort: undefined, recall: undefined })
    expect(
      effortFor({ ...RULE, targets: [], rows: [], best: [], recall: [] }, 0.1, 4, 10).effort,
    ).toBeUndefined()
  })

  test("never falls with the target, the shards or k", () => {
    const target = fc.double({ min: 0.01, max: 1, noNaN: true })
    const shards = fc.integer({ min: 1, max: 500 })
    const k = fc.integer({ min: 1, max: 5000 })
    fc.assert(
      fc.property(target, target, shards, shards, k, k, (target, other, shards, more, k, larger) => {
        const [low, high] = [Math.min(target, other), Math.max(target, other)]
        expect(rowsFor(low, shards, k)).toBeLessThanOrEqual(rowsFor(high, shards, k))
        expect(shardTarget(low)).toBeLessThanOrEqual(shardTarget(high))
        expect(rowsFor(target, Math.min(shards, more), k)).toBeLessThanOrEqual(
          rowsFor(target, Math.max(shards, more), k),
        )
        expect(rowsFor(target, shards, Math.min(k, larger))).toBeLessThanOrEqual(
          rowsFor(target, shards, Math.max(k, larger)),
        )
        const { effort } = effortFor(RULE, target, shards, k)
        if (effort === undefined) return
        expect(effort.rows).toBeGreaterThanOrEqual(2 * k)
        expect(effort.best).toBeGreaterThanOrEqual(Math.max(50, 2 * k))
        // Enough groups for the cells that hold these rows.
        expect(effort.groups! * 8 * RULE.rowsPerCell).toBeGreaterThanOrEqual(effort.rows!)
      }),
    )
  })

  test("takes shards for a target that lets go half as much", () => {
    expect([0.9, 0.95, 1].map(shardTarget)).toEqual([0.95, 0.975, 1])
  })
})

describe("the default effort of a snapshot", () => {
  const description = { strategy: "cluster", shards: 4, options: { probes: 2 } }

  test("is the user's probes, else a target, where it was measured what that takes in cells", () => {
    const effortOf = (probes: number | undefined, recall: { cells?: CellRule } | undefined) =>
      describedEffort(withEffort(description, probes, recall))
    expect(effortOf(undefined, { cells: RULE })).toEqual({ targetRecall: 0.95 })
    expect(effortOf(3, { cells: RULE })).toEqual({ probes: 3 })
    expect(effortOf(undefined, {})).toBeUndefined()
    expect(effortOf(3, undefined)).toBeUndefined()
    expect(withEffort(description, undefined, { cells: RULE }).options).toMatchObject({ probes: 2 })
  })

  test.each([
    null,
    {},
    "all",
    { probes: 0 },
    { probes: 1.5 },
    { targetRecall: 0 },
    { targetRecall: 2 },
    { probes: 1, targetRecall: 0.9 },
  ])("%j in a manifest is Corrupt", (effort) => {
    expect(() => describedEffort({ options: { effort } })).toThrow(
      expect.objectContaining({ tag: "Corrupt" }),
    )
  })
})
