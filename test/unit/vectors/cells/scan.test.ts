import fc from "fast-check"
import { describe, expect, test } from "vitest"
import { decodeCells } from "../../../../src/vectors/cells/file.js"
import { prepareCells } from "../../../../src/vectors/cells/search.js"
import { type CellSpace, cellSpace, inSpace } from "../../../../src/vectors/cells/space.js"
import { METRICS, type Metric } from "../../../../src/vectors/metric.js"
import { createRandom } from "../../../../src/vectors/random.js"
import { booksFor, cellShardOf } from "../../../support/cells.js"
import { plainCells } from "../../../support/plain-scan.js"

/** Rows in heaps, as embeddings lie; one in fifty may be a thousand times as long. */
function makeRows(rows: number, dim: number, far: number, outliers: boolean, seed: number): Float32Array {
  const random = createRandom(seed)
  const heaps = Array.from({ length: 20 }, () => Float32Array.from({ length: dim }, random.gaussian))
  const vectors = new Float32Array(rows * dim)
  for (let row = 0; row < rows; row++) {
    const heap = heaps[random.below(20)]!
    const length = outliers && random.below(50) === 0 ? 1000 : 1
    for (let i = 0; i < dim; i++) vectors[row * dim + i] = length * (heap[i]! + 0.7 * random.gaussian()) + far
  }
  return vectors
}

function setUp(
  metric: Metric,
  rows: number,
  dim: number,
  width: number,
  far = 0,
  outliers = false,
  shards = 2,
) {
  const vectors = makeRows(rows + 40, dim, far, outliers, rows + dim)
  const base = vectors.subarray(0, rows * dim)
  const space = cellSpace(metric, base, dim)
  const books = booksFor(space, base, width)
  const each = Math.ceil(rows / shards) * dim
  const made = Array.from({ length: shards }, (_, i) =>
    cellShardOf(space, books, base.subarray(i * each, (i + 1) * each), { rowsPerCell: 20 }),
  )
  const prepared = prepareCells(space, books, made)!
  const placed = Float32Array.from(made.flatMap((shard) => Array.from(shard.vectors)))
  const queries = Array.from({ length: 40 }, (_, i) =>
    vectors.subarray((rows + i) * dim, (rows + i + 1) * dim),
  )
  const records = prepared.shards.map(({ record }) => record!)
  const files = made.map(({ cells }) => decodeCells(cells, "test"))
  return { space, prepared, records, files, queries, placed: inSpace(space, placed) }
}

/** bias(x) - q · x, as space.ts says. */
function trueScore({ comparison }: CellSpace, rows: Float32Array, row: number, query: Float32Array): number {
  let product = 0
  let squared = 0
  for (let i = 0; i < query.length; i++) {
    product += rows[row * query.length + i]! * query[i]!
    squared += rows[row * query.length + i]! ** 2
  }
  return (comparison === "distances" ? squared / 2 : 0) - product
}

function pairsOf(candidates: Uint32Array): { row: number; score: number }[] {
  const scores = new Float32Array(candidates.slice().buffer)
  return Array.from({ length: candidates.length / 2 }, (_, i) => ({
    row: candidates[2 * i]!,
    score: scores[2 * i + 1]!,
  }))
}

const KINDS = [
  ["ordinary rows", 0, false],
  ["rows far from zero", 100, false],
  ["rows of which some are much longer", 0, true],
] as const

describe.each(METRICS)("estimates under %s", (metric) => {
  test.each(KINDS)("of %s err little and to neither side", (_, far, outliers) => {
    const { space, prepared, records, queries, placed } = setUp(metric, 1500, 32, 2, far, outliers)
    let count = 0
    let bias = 0
    let squares = 0
    for (const query of queries) {
      const own = inSpace(space, query)
      const size = Math.sqrt(own.reduce((sum, x) => sum + x * x, 0))
      const { candidates } = prepared.scan!.find(records, query, { cells: 1000, best: 1500 })
      for (const { row, score } of pairsOf(candidates)) {
        const vector = placed.subarray(row * 32, (row + 1) * 32)
        const length = Math.sqrt(vector.reduce((sum, x) => sum + x * x, 0))
        const error = (score - trueScore(space, placed, row, own)) / (size * length)
        count++
        bias += error
        squares += error * error
      }
    }
    expect(count).toBe(40 * 1500)
    expect(Math.abs(bias / count)).toBeLessThan(0.004)
    // Long rows among short ones of the same direction are coded with them, under `dot`.
    expect(Math.sqrt(squares / count)).toBeLessThan(metric === "dot" && outliers ? 0.08 : 0.05)
  })

  test.each(KINDS)("of %s leave the true ten among the best hundred", (_, far, outliers) => {
    const { space, prepared, records, queries, placed } = setUp(metric, 1500, 32, 2, far, outliers)
    let kept = 0
    for (const query of queries) {
      const own = inSpace(space, query)
      const scores = Array.from({ length: 1500 }, (_, row) => ({
        row,
        score: trueScore(space, placed, row, own),
      }))
      const nearest = scores.sort((a, b) => a.score - b.score).slice(0, 10)
      const { candidates } = prepared.scan!.find(records, query, { cells: 1000, best: 100 })
      const found = new Set(pairsOf(candidates).map(({ row }) => row))
      kept += nearest.filter(({ row }) => found.has(row)).length
    }
    expect(kept / 400).toBeGreaterThan(metric === "dot" && outliers ? 0.97 : 0.985)
  })
})

describe("cells", () => {
  test("that are scanned are the best of those in the best groups", () => {
    fc.assert(
      fc.property(
        fc.constantFrom(...METRICS),
        fc.integer({ min: 1, max: 40 }),
        fc.integer({ min: 1, max: 60 }),
        fc.integer({ min: 1, max: 12 }),
        fc.nat(39),
        (metric, dim, cells, groups, at) => {
          const { space, prepared, records, files, queries } = setUp(metric, 900, dim, 4, 0, false, 3)
          const all = plainCells(space, files, queries[at]!)
          const order = [...new Map(all.map(({ group, groupScore }) => [group, groupScore])).values()].sort(
            (a, b) => a - b,
          )
          const found = prepared.scan!.find(records, queries[at]!, { cells, groups, best: 900 })
          const rows = new Set(pairsOf(found.candidates).map(({ row }) => row))
          const scanned = all.filter(({ firstRow }) => rows.has(firstRow))
          expect(scanned.length).toBe(found.cells)
          expect(scanned.reduce((sum, cell) => sum + cell.rows, 0)).toBe(found.rows)
          expect(rows.size).toBe(found.rows)
          // As many groups as are asked for, or few more; no cell of another one is scanned.
          const worstGroup = Math.max(...scanned.map(({ groupScore }) => groupScore))
          expect(worstGroup).toBeLessThanOrEqual(order[Math.min(groups + 1, order.length) - 1]!)
          const inGroups = all.filter(
            ({ groupScore }) => groupScore <= order[Math.min(groups, order.length) - 1]!,
          )
          const worst = Math.max(...scanned.map(({ score }) => score))
          expect(scanned.length).toBeGreaterThanOrEqual(Math.min(cells, inGroups.length))
          // More only where they are as good as the last.
          const better = scanned.filter(({ score }) => score < worst)
          expect(better.length).toBeLessThanOrEqual(cells + (cells >> 5))
          for (const cell of inGroups) if (cell.score < worst) expect(rows).toContain(cell.firstRow)
        },
      ),
      { numRuns: 25 },
    )
  })
})
