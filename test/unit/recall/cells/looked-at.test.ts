import fc from "fast-check"
import { expect, test } from "vitest"
import { createCellSearches } from "../../../../src/recall/cells/looked-at.js"
import type { CellEffort } from "../../../../src/vectors/cells/effort.js"
import { decodeCells } from "../../../../src/vectors/cells/file.js"
import { prepareCells } from "../../../../src/vectors/cells/search.js"
import { cellSpace } from "../../../../src/vectors/cells/space.js"
import { METRICS } from "../../../../src/vectors/metric.js"
import { createRandom } from "../../../../src/vectors/random.js"
import { booksFor, cellShardOf } from "../../../support/cells.js"

const DIM = 8
const BEST = 100

function setUp(sizes: readonly number[], metric: (typeof METRICS)[number], uncoded: number | undefined) {
  const random = createRandom(3)
  const rowsOf = (count: number) => Float32Array.from({ length: count * DIM }, () => random.gaussian())
  const all = rowsOf(sizes.reduce((sum, size) => sum + size, 0))
  const space = cellSpace(metric, all, DIM)
  const books = booksFor(space, all, 2, { rowsPerCell: 10 })
  let first = 0
  const shards = sizes.map((size, i) => {
    const part = all.slice(first * DIM, (first + size) * DIM)
    first += size
    return cellShardOf(space, books, part, { rowsPerCell: 10 }, i === uncoded ? Infinity : 0)
  })
  const files = shards.map(({ cells }, i) => ({ shard: 10 + i, cells }))
  const searches = createCellSearches({ space, books }, files, BEST)!
  return { space, books, shards, searches, rowsOf }
}

test("looks at the rows of which a search computes exact distances, whatever the shards and the effort", () => {
  const sizes = fc.array(fc.integer({ min: 1, max: 200 }), { minLength: 1, maxLength: 4 })
  const effort = fc.record({
    rows: fc.integer({ min: 1, max: 700 }),
    groups: fc.option(fc.integer({ min: 1, max: 80 }), { nil: undefined }),
    best: fc.integer({ min: 1, max: BEST }),
  })
  fc.assert(
    fc.property(sizes, fc.constantFrom(...METRICS), effort, fc.nat(), (sizes, metric, effort, mask) => {
      const { space, books, shards, searches, rowsOf } = setUp(sizes, metric, undefined)
      const asked = [...sizes.keys()].filter((shard) => (mask >> shard) % 2 === 0)
      const query = rowsOf(1)
      const looked = searches.find(
        query,
        asked.map((shard) => 10 + shard),
        effort,
      )
      const prepared = prepareCells(
        space,
        books,
        asked.map((shard) => shards[shard]!),
        { mostBest: BEST },
      )!
      const records = prepared.shards.map(({ record }) => record!)
      const cells = records.reduce((sum, record) => sum + record.cells, 0)
      const wanted = Math.ceil((effort.rows * cells) / prepared.rows)
      const found =
        asked.length === 0 ? undefined : prepared.scan!.find(records, query, { ...effort, cells: wanted })
      const candidates = new Set(found?.candidates.filter((_, i) => i % 2 === 0))
      expect([looked.rows, looked.cells]).toEqual([found?.rows ?? 0, found?.cells ?? 0])
      for (const shard of sizes.keys()) {
        const place = asked.indexOf(shard)
        const { ranks } = decodeCells(shards[shard]!.cells, "cells")
        for (const [position, rank] of ranks.entries()) {
          const row = place < 0 ? -1 : prepared.shards[place]!.firstRow + position
          expect(looked.has(10 + shard, rank)).toBe(candidates.has(row))
        }
      }
    }),
    { numRuns: 60 },
  )
})

test("looks at all rows of shards without codes, and of all shards where no effort is given", () => {
  const { searches, rowsOf } = setUp([30, 40], "l2", 1)
  const some = searches.find(rowsOf(1), [10, 11], { rows: 1, best: 1 } satisfies CellEffort)
  expect(Array.from({ length: 40 }, (_, rank) => some.has(11, rank))).not.toContain(false)
  expect(Array.from({ length: 30 }, (_, rank) => some.has(10, rank)).filter(Boolean)).toHaveLength(1)
  expect(some.rows).toBeGreaterThan(40)
  const all = searches.find(rowsOf(1), [10], undefined)
  expect(Array.from({ length: 30 }, (_, rank) => all.has(10, rank))).not.toContain(false)
  expect([all.rows, all.has(11, 0)]).toEqual([30, false])
  expect(searches).toMatchObject({ shards: 2, rows: 70, rowsPerCell: 10 })
})

test("is there only where a shard has codes, and names one that is not there", () => {
  const { space, books, shards, searches, rowsOf } = setUp([30, 20], "l2", 1)
  expect(createCellSearches({ space, books }, [{ shard: 0, cells: shards[1]!.cells }], BEST)).toBeUndefined()
  expect(() => searches.find(rowsOf(1), [3], undefined)).toThrow("shard 3 has no cells")
})
