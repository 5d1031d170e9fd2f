import fc from "fast-check"
import { afterEach, describe, expect, test, vi } from "vitest"
import {
  bestPoints,
  createPointTable,
  kernelInUse,
  nearestPoints,
  pointScores,
  scoreMatrix,
} from "../../../src/vectors/kernel.js"

// Few values, so that ties are common; tenths, so that rounding is; and what float32 cannot hold.
const ORDINARY = [-1, 0, 0.1, 0.7, 2]
const NEARLY_EQUAL = [0.1, 0.1 + 2 ** -27, 0.1 + 2 ** -26]
const EXTREME = [0, 1e-45, 1e-30, 1, -1e12, 1e20, 3.4e38]

const cases = (values: readonly number[]) =>
  fc.record({
    dim: fc.integer({ min: 1, max: 19 }),
    rows: fc.integer({ min: 0, max: 11 }),
    points: fc.integer({ min: 1, max: 9 }),
    elements: fc.infiniteStream(fc.constantFrom(...values)),
  })

function makeCase(
  { dim, rows, points, elements }: { dim: number; rows: number; points: number; elements: fc.Stream<number> },
  create: typeof createPointTable,
) {
  const table = create(
    Float32Array.from(elements.take(points * dim)),
    dim,
    (point) => (point % 3) / 10,
    (point) => 1 + (point % 2),
  )
  const vectors = Float32Array.from(elements.take(rows * dim))
  const scores = Array.from({ length: rows }, (_, row) =>
    pointScores(vectors.subarray(row * dim, (row + 1) * dim), table),
  )
  return { table, vectors, scores }
}

afterEach(() => {
  vi.unstubAllEnvs()
  vi.resetModules()
})

test("these tests run on the compiled kernel", () => {
  expect(kernelInUse()).toBe("simd")
})

describe.each([
  ["ordinary", ORDINARY],
  ["nearly equal", NEARLY_EQUAL],
  ["extreme", EXTREME],
] as const)("%s values", (_, values) => {
  test.each(["simd", "plain"])(
    "%s: bestPoints is the first minimum of pointScores, for every number of rows and points",
    async (kernel) => {
      vi.resetModules()
      vi.stubEnv("VECSNAP_KERNEL", kernel)
      const loaded = await import("../../../src/vectors/kernel.js")
      expect(loaded.kernelInUse()).toBe(kernel)
      fc.assert(
        fc.property(cases(values), (fields) => {
          const { table, vectors, scores } = makeCase(fields, loaded.createPointTable)
          // Not by Math.min, for which NaN is the smallest: a score that is NaN is none.
          const expected = scores.map((row) =>
            row.reduce((best, score, point) => (score < row[best]! ? point : best), 0),
          )
          expect([...loaded.bestPoints(vectors, table)]).toEqual(expected)
          expect([...loaded.nearestPoints(vectors, table).points]).toEqual(expected)
        }),
        { numRuns: 300 },
      )
    },
  )
})

test("scores and margins differ from those in float64 by no more than the bound", () => {
  fc.assert(
    fc.property(cases([...ORDINARY, 1e3, -1e-3, 1e-9]), (fields) => {
      const { table, vectors, scores } = makeCase(fields, createPointTable)
      const matrix = scoreMatrix(vectors, table)
      const { margins } = nearestPoints(vectors, table)
      expect(matrix.length).toBe(scores.length * table.points)
      scores.forEach((row, i) => {
        const vector = vectors.subarray(i * table.dim, (i + 1) * table.dim)
        const error = table.packed === undefined ? undefined : table.packed.error
        const bound = error === undefined ? 1e-6 : error.perLength * Math.hypot(...vector) + error.always
        row.forEach((score, point) => {
          expect(Math.abs(matrix[i * table.points + point]! - score)).toBeLessThanOrEqual(bound)
        })
        const [best, second = Infinity] = [...row].sort((a, b) => a - b)
        if (second < Infinity) expect(Math.abs(margins[i]! - (second - best!))).toBeLessThanOrEqual(3 * bound)
        else expect(margins[i]).toBe(Infinity)
      })
    }),
  )
})

test("rows so short that products vanish in float32", () => {
  const unit = 2 ** -149
  const table = createPointTable(
    Float32Array.of(0.29, 0.29, 0.31, 0.2),
    2,
    () => 0,
    () => 1,
  )
  // Times 5 that is 1.45 + 1.45 and 1.55 + 1, in units; rounded, 1 + 1 and 2 + 1.
  expect([...bestPoints(Float32Array.of(5 * unit, 5 * unit), table)]).toEqual([0])
})

test("more rows than a tile holds", () => {
  const dim = 3
  const points = 5
  const table = createPointTable(
    Float32Array.from({ length: points * dim }, (_, i) => Math.sin(i)),
    dim,
    () => 0,
    () => 1,
  )
  const vectors = Float32Array.from({ length: 30_001 * dim }, (_, i) => Math.cos(i * i))
  const expected = Array.from({ length: 30_001 }, (_, row) => {
    const scores = pointScores(vectors.subarray(row * dim, (row + 1) * dim), table)
    return scores.indexOf(Math.min(...scores))
  })
  expect([...bestPoints(vectors, table)]).toEqual(expected)
})
