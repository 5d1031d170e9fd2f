import fc from "fast-check"
import { expect, test } from "vitest"
import { bestPoints, createPointTable, pointScores } from "../../../src/vectors/kernel.js"

test("bestPoints is the first minimum of pointScores, for every number of rows and points", () => {
  const cases = fc.record({
    dim: fc.integer({ min: 1, max: 6 }),
    rows: fc.integer({ min: 0, max: 11 }),
    points: fc.integer({ min: 1, max: 9 }),
    // Few values, so that ties are common; and tenths, so that rounding is.
    elements: fc.infiniteStream(fc.constantFrom(-1, 0, 0.1, 0.7, 2)),
  })
  fc.assert(
    fc.property(cases, ({ dim, rows, points, elements }) => {
      const table = createPointTable(
        Float32Array.from(elements.take(points * dim)),
        dim,
        (point) => (point % 3) / 10,
        (point) => 1 + (point % 2),
      )
      const vectors = Float32Array.from(elements.take(rows * dim))
      const expected = Array.from({ length: rows }, (_, row) => {
        const scores = pointScores(vectors.subarray(row * dim, (row + 1) * dim), table)
        return scores.indexOf(Math.min(...scores))
      })
      expect([...bestPoints(vectors, table)]).toEqual(expected)
    }),
  )
})
