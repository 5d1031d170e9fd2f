import fc from "fast-check"
import { describe, expect, test } from "vitest"
import { decodeCells } from "../../../../src/vectors/cells/file.js"
import { type CellHit, prepareCells, searchCells } from "../../../../src/vectors/cells/search.js"
import { cellSpace } from "../../../../src/vectors/cells/space.js"
import { distance } from "../../../../src/vectors/distance.js"
import { METRICS, type Metric } from "../../../../src/vectors/metric.js"
import { createRandom } from "../../../../src/vectors/random.js"
import { booksFor, cellShardOf } from "../../../support/cells.js"
import { plainBest, plainScores } from "../../../support/plain-scan.js"

interface Case {
  readonly metric: Metric
  readonly dim: number
  readonly width: 1 | 2 | 4
  /** Rows of each shard. */
  readonly sizes: readonly number[]
  readonly kind: "gaussian" | "copies" | "far" | "outliers"
  readonly seed: number
  readonly rowsPerCell: number
}

const CASES: fc.Arbitrary<Case> = fc.record({
  metric: fc.constantFrom(...METRICS),
  dim: fc.oneof(fc.integer({ min: 1, max: 20 }), fc.constantFrom(31, 100, 257)),
  width: fc.constantFrom(1, 2, 4),
  sizes: fc.array(fc.integer({ min: 0, max: 150 }), { minLength: 1, maxLength: 4 }),
  kind: fc.constantFrom("gaussian", "copies", "far", "outliers"),
  seed: fc.nat(),
  rowsPerCell: fc.constantFrom(1, 5, 40),
})

/** Rows of all shards; under cosine none is zero but by chance. */
function makeVectors({ metric, dim, kind, seed }: Case, rows: number): Float32Array {
  const random = createRandom(seed)
  const vectors = new Float32Array(rows * dim)
  for (let row = 0; row < rows; row++) {
    const from = kind === "copies" && row > 0 ? random.below(Math.min(row, 3)) : -1
    const length = kind === "outliers" && random.below(20) === 0 ? 1000 : 1
    for (let i = 0; i < dim; i++) {
      const own = (random.gaussian() + (kind === "far" ? 100 : 0)) * length
      vectors[row * dim + i] = from < 0 ? own : vectors[from * dim + i]!
    }
    // A zero vector now and then, also where it would be refused on its way in.
    if (random.below(30) === 0 && metric !== "cosine") vectors.fill(0, row * dim, (row + 1) * dim)
  }
  return vectors
}

function setUp(given: Case, mostBest = 1000, shared = false) {
  const { metric, dim, width, sizes, rowsPerCell } = given
  const rows = sizes.reduce((sum, size) => sum + size, 0)
  const vectors = makeVectors(given, rows + 3)
  const queries = vectors.slice(rows * dim)
  const space = cellSpace(metric, vectors.subarray(0, rows * dim), dim)
  const books = booksFor(space, vectors.subarray(0, rows * dim), width, { rowsPerCell })
  let first = 0
  const parts = sizes.map((size) => {
    const part = vectors.subarray(first * dim, (first + size) * dim)
    first += size
    return part
  })
  const shards = parts.map((part) => cellShardOf(space, books, part, { rowsPerCell }))
  const prepared = prepareCells(space, books, shards, { mostBest, shared })!
  /** By brute force. */
  const nearest = (query: Float32Array, k: number) =>
    parts
      .flatMap((part, shard) =>
        Array.from({ length: part.length / dim }, (_, row) => ({
          shard,
          row,
          distance: distance(metric, query, part.subarray(row * dim, (row + 1) * dim)),
        })),
      )
      .sort((a, b) => a.distance - b.distance || a.shard - b.shard || a.row - b.row)
      .slice(0, k)
  const named = (hits: readonly CellHit[]) =>
    hits.map(({ shard, position, distance }) => ({ shard, row: shards[shard]!.order[position]!, distance }))
  const queryAt = (i: number) => queries.subarray(i * dim, (i + 1) * dim)
  return { space, books, shards, prepared, nearest, named, queryAt, rows }
}

describe("searchCells", () => {
  test("finds what brute force finds with all cells and all rows as candidates, and with all rows", () => {
    fc.assert(
      fc.property(CASES, fc.integer({ min: 1, max: 30 }), fc.boolean(), (given, k, shared) => {
        const { prepared, nearest, named, queryAt } = setUp(given, 1000, shared)
        for (let i = 0; i < 3; i++) {
          const query = queryAt(i)
          if (given.metric === "cosine" && query.every((x) => x === 0)) continue
          const expected = nearest(query, k)
          expect(named(searchCells(prepared, query, { k, cells: 1000, best: 1000 }))).toEqual(expected)
          expect(named(searchCells(prepared, query, { k, cells: "all" }))).toEqual(expected)
        }
      }),
      { numRuns: 30 },
    )
  })

  test.each(METRICS)("%s: the same with 2,000 dimensions", (metric) => {
    const given: Case = {
      metric,
      dim: 2000,
      width: 1,
      sizes: [70, 0, 33],
      kind: "gaussian",
      seed: 1,
      rowsPerCell: 9,
    }
    const { prepared, nearest, named, queryAt } = setUp(given)
    const query = queryAt(0)
    expect(named(searchCells(prepared, query, { k: 7, cells: 99, best: 103 }))).toEqual(nearest(query, 7))
  })

  test("k may be more than there are rows", () => {
    const { prepared, nearest, named, queryAt } = setUp({
      metric: "l2",
      dim: 5,
      width: 2,
      sizes: [20, 1],
      kind: "gaussian",
      seed: 4,
      rowsPerCell: 5,
    })
    expect(named(searchCells(prepared, queryAt(0), { k: 1000, cells: 10, best: 21 }))).toEqual(
      nearest(queryAt(0), 1000),
    )
  })

  test("asks only the shards that it is told to", () => {
    const given: Case = {
      metric: "dot",
      dim: 7,
      width: 2,
      sizes: [50, 60, 70],
      kind: "gaussian",
      seed: 2,
      rowsPerCell: 9,
    }
    const { prepared, nearest, named, queryAt } = setUp(given)
    const expected = nearest(queryAt(0), 180).filter(({ shard }) => shard !== 1)
    const hits = searchCells(prepared, queryAt(0), { k: 180, rows: 1000, best: 180, shards: [2, 0] })
    expect(named(hits)).toEqual(expected)
  })

  test("needs either cells or rows, and has bounds", () => {
    const given: Case = {
      metric: "dot",
      dim: 2,
      width: 1,
      sizes: [9],
      kind: "gaussian",
      seed: 2,
      rowsPerCell: 3,
    }
    const { prepared, queryAt } = setUp(given, 100)
    const query = queryAt(0)
    expect(() => searchCells(prepared, query, { k: 1 })).toThrow(/either cells or rows/)
    expect(() => searchCells(prepared, query, { k: 1, cells: 1, rows: 1 })).toThrow(/either cells or rows/)
    expect(() => searchCells(prepared, query, { k: 1, cells: 1, best: 101 })).toThrow(
      /from 1 to 100, got 101/,
    )
  })
})

describe("CellScan", () => {
  test("leaves the rows that plain code leaves, with the same estimates", () => {
    fc.assert(
      fc.property(CASES, fc.integer({ min: 1, max: 200 }), fc.boolean(), (given, best, shared) => {
        const { space, books, shards, prepared, queryAt } = setUp(given, 1000, shared)
        const files = shards.map(({ cells }) => decodeCells(cells, "test"))
        const records = prepared.shards.map(({ record }) => record!)
        const { candidates, rows, dropped } = prepared.scan!.find(records, queryAt(0), { cells: 1000, best })
        const estimates = new Float32Array(candidates.slice().buffer)
        const found = Array.from({ length: candidates.length / 2 }, (_, i) => ({
          row: candidates[2 * i]!,
          score: estimates[2 * i + 1]!,
        })).sort((a, b) => a.row - b.row)
        const expected = plainBest(plainScores(space, books, files, queryAt(0)), best)
        expect(found).toEqual(expected.map(({ row, score }) => ({ row, score: score + 0 })))
        expect(rows).toBe(prepared.rows)
        expect(dropped).toBe(0)
      }),
      { numRuns: 30 },
    )
  })

  test("with hardly any room still leaves all rows that are better than the last bin", () => {
    fc.assert(
      fc.property(CASES, fc.integer({ min: 1, max: 12 }), (given, best) => {
        const { space, books, shards, prepared, queryAt } = setUp({ ...given, kind: "copies" }, 12)
        const files = shards.map(({ cells }) => decodeCells(cells, "test"))
        const records = prepared.shards.map(({ record }) => record!)
        const { candidates } = prepared.scan!.find(records, queryAt(0), { cells: 1000, best })
        const found = new Set(candidates.filter((_, i) => i % 2 === 0))
        const expected = plainBest(plainScores(space, books, files, queryAt(0)), best)
        const last = Math.max(...expected.map(({ bin }) => bin))
        for (const { row, bin } of expected) if (bin < last) expect(found).toContain(row)
        expect(found.size).toBeGreaterThanOrEqual(Math.min(best, expected.length))
        const allowed = new Set(expected.map(({ row }) => row))
        for (const row of found) expect(allowed).toContain(row)
      }),
      { numRuns: 20 },
    )
  })

  test("slack drops what is far behind the near-th", () => {
    const given: Case = {
      metric: "cosine",
      dim: 20,
      width: 2,
      sizes: [150, 150],
      kind: "gaussian",
      seed: 9,
      rowsPerCell: 9,
    }
    const { prepared, queryAt } = setUp(given)
    const records = prepared.shards.map(({ record }) => record!)
    const scores = (slack: number) => {
      const { candidates } = prepared.scan!.find(records, queryAt(0), {
        cells: 99,
        best: 200,
        near: 10,
        slack,
      })
      return Array.from(new Float32Array(candidates.slice().buffer).filter((_, i) => i % 2 === 1)).sort(
        (a, b) => a - b,
      )
    }
    const all = scores(Infinity)
    const few = scores(0.05)
    expect(all.length).toBeGreaterThanOrEqual(200)
    expect(few).toEqual(all.filter((score) => score <= all[few.length - 1]!))
    expect(few.at(-1)! - all[9]!).toBeLessThan(0.06)
    expect(all[few.length]! - all[9]!).toBeGreaterThan(0.05)
  })

  test("takes the cells whose centres are best", () => {
    const given: Case = {
      metric: "cosine",
      dim: 30,
      width: 2,
      sizes: [150, 150, 150],
      kind: "gaussian",
      seed: 3,
      rowsPerCell: 5,
    }
    const { prepared, queryAt } = setUp(given)
    const records = prepared.shards.map(({ record }) => record!)
    const rowsOf = (cells: number, groups?: number) => {
      const found = prepared.scan!.find(records, queryAt(0), { cells, groups, best: 1000 })
      return { cells: found.cells, rows: new Set(found.candidates.filter((_, i) => i % 2 === 0)) }
    }
    let before = rowsOf(1)
    expect(before.cells).toBe(1)
    for (const cells of [2, 5, 10, 40, 200]) {
      const next = rowsOf(cells)
      expect(next.cells).toBeGreaterThanOrEqual(Math.min(cells, 90))
      for (const row of before.rows) expect(next.rows).toContain(row)
      before = next
    }
    expect(before.rows.size).toBe(450)
    // Of three groups no more than 24 cells can come.
    expect(rowsOf(200, 3).cells).toBeLessThanOrEqual(24)
  })
})
