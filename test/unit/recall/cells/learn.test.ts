import fc from "fast-check"
import { describe, expect, test } from "vitest"
import { type KnownQuery, learnCellRule, searchByRule } from "../../../../src/recall/cells/learn.js"
import type { CellSearches } from "../../../../src/recall/cells/looked-at.js"

const SHARDS = 9
const ROWS = 9000

/** Rows of rank r are looked at by whoever looks at more than r. */
const searches: CellSearches = {
  rowsPerCell: 40,
  shards: SHARDS,
  rows: ROWS,
  find: (_vector, _shards, effort) => {
    const rows = effort?.rows ?? Infinity
    return { rows: Math.min(rows, 40_000), cells: 0, has: (_, rank) => rank < rows }
  },
}

/** A query that `shards` are taken for, and whose ten neighbours take so many rows. */
const queryOf = (shards: number, needs: readonly number[]): KnownQuery => ({
  vector: new Float32Array(1),
  nearest: needs.map((rank) => ({ shards: [0], ranks: [rank] })),
  shardsFor: () => Array.from({ length: shards }, (_, shard) => shard),
})

const tenths = (most: number) => Array.from({ length: 10 }, (_, i) => Math.round((most * (i + 1)) / 10) - 1)

describe("the rule for cells", () => {
  test("has the fewest rows that reach each target, within some percent", async () => {
    // A share s of the neighbours takes 5,000 s rows of one shard, and twice as many of four.
    const queries = [queryOf(1, tenths(5000)), queryOf(4, tenths(10_000))]
    const rule = await learnCellRule(searches, [{ queries, standardErrors: 0.5 }], 30)
    expect(rule.targets).toEqual([0.5, 0.7, 0.8, 0.9, 0.95, 0.98])
    for (const [i, needed] of [2500, 3500, 4000, 4500, 5000, 5000].entries()) {
      expect(rule.rows[i]).toBeGreaterThanOrEqual(needed)
      expect(rule.rows[i]).toBeLessThan(1.05 * needed)
    }
    expect(rule.recall).toEqual([0.5, 0.7, 0.8, 0.9, 1, 1])
    expect(rule).toMatchObject({ best: Array(6).fill(30), rowsPerCell: 40 })
  })

  test("is that of the kind of queries that takes most rows, and allows for their scatter", async () => {
    const easy = { queries: [queryOf(1, tenths(1000))], standardErrors: 0 }
    const hard = { queries: [queryOf(1, tenths(2000))], standardErrors: 0 }
    const none = { queries: [], standardErrors: 0 }
    const both = await learnCellRule(searches, [easy, hard, none], 30)
    expect(both).toEqual(await learnCellRule(searches, [hard], 30))
    const scattered = [queryOf(1, tenths(1000)), queryOf(1, tenths(3000))]
    const mean = await learnCellRule(searches, [{ queries: scattered, standardErrors: 0 }], 30)
    const bound = await learnCellRule(searches, [{ queries: scattered, standardErrors: 1 }], 30)
    expect(bound.rows[0]).toBeGreaterThan(1.2 * mean.rows[0]!)
  })

  test("ends before the first target that all rows do not reach", async () => {
    // One neighbour in ten lies in no shard that is taken.
    const queries = [
      {
        ...queryOf(3, tenths(900).slice(0, 9)),
        nearest: [...queryOf(3, tenths(900)).nearest.slice(0, 9), { shards: [8], ranks: [0] }],
      },
    ]
    const rule = await learnCellRule(searches, [{ queries, standardErrors: 0 }], 30)
    expect(rule.targets).toEqual([0.5, 0.7, 0.8, 0.9])
    const { shares } = await searchByRule(searches, rule, queries, 0.95)
    expect(Array.from(shares)).toEqual([0.9])
  })

  test("never falls along the targets, and its queries reach them", async () => {
    const query = fc
      .record({
        shards: fc.integer({ min: 1, max: SHARDS }),
        needs: fc.array(fc.nat(8000), { minLength: 1, maxLength: 10 }),
      })
      .map(({ shards, needs }) => queryOf(shards, needs))
    await fc.assert(
      fc.asyncProperty(fc.array(query, { minLength: 1, maxLength: 20 }), async (queries) => {
        const rule = await learnCellRule(searches, [{ queries, standardErrors: 0 }], 30)
        expect(rule.rows).toEqual(rule.rows.toSorted((a, b) => a - b))
        for (const target of rule.targets) {
          const { shares } = await searchByRule(searches, rule, queries, target)
          const mean = shares.reduce((sum, share) => sum + share, 0) / shares.length
          expect(mean).toBeGreaterThanOrEqual(target - 1e-9)
        }
      }),
      { numRuns: 50 },
    )
  })
})

describe("estimates that remain", () => {
  /** Neighbours are only found where so many estimates remain. */
  const withBest = (needed: (rows: number) => number): CellSearches => ({
    ...searches,
    find: (vector, shards, effort) => {
      const looked = searches.find(vector, shards, effort)
      const remain = effort === undefined || effort.best >= needed(effort.rows!)
      return { ...looked, has: (shard, rank) => remain && looked.has(shard, rank) }
    },
  })
  const kinds = [{ queries: [queryOf(1, tenths(5000))], standardErrors: 0 }]

  test("are as many as a target takes, four times the least at most", async () => {
    const twice = await learnCellRule(
      withBest(() => 60),
      kinds,
      30,
    )
    expect(new Set(twice.best)).toEqual(new Set([60]))
    expect(twice.targets).toHaveLength(6)
    expect(
      (
        await learnCellRule(
          withBest(() => 120),
          kinds,
          30,
        )
      ).best[0],
    ).toBe(120)
    expect(
      (
        await learnCellRule(
          withBest(() => 121),
          kinds,
          30,
        )
      ).targets,
    ).toEqual([])
  })

  test("are more where that saves more rows than their distances cost, and never fewer for a higher target", async () => {
    // With 30 estimates it takes 8,000 rows, with 60 as many as the neighbours lie in.
    const saving = withBest((rows) => (rows > 8000 ? 30 : 60))
    const rule = await learnCellRule({ ...saving, rows: 40_000 }, kinds, 30)
    expect(new Set(rule.best)).toEqual(new Set([60]))
    expect(rule.rows[3]).toBeLessThan(5000)
    // Here 30 more would save 300 rows, and cost 1,200.
    const dear = withBest((rows) => (rows > 5300 ? 30 : 60))
    const far = [{ queries: [queryOf(1, Array(10).fill(4999))], standardErrors: 0 }]
    expect((await learnCellRule(dear, far, 30)).best.at(-1)).toBe(30)
  })
})
