import fc from "fast-check"
import { describe, expect, test } from "vitest"
import { CENTRES, codesOf, trainBooks } from "../../../../src/vectors/cells/books.js"
import { createRandom } from "../../../../src/vectors/random.js"

describe("books", () => {
  test("codes name the nearest centre", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 9 }),
        fc.constantFrom(1, 2, 4),
        fc.integer({ min: 0, max: 30 }),
        fc.infiniteStream(fc.oneof(fc.constantFrom(-1, 0, 0.5), fc.float({ noNaN: true, min: -2, max: 2 }))),
        (subspaces, width, rows, stream) => {
          const centres = Float32Array.from(stream.take(subspaces * width * CENTRES))
          const residuals = Float32Array.from(stream.take(rows * subspaces * width))
          const books = { width, subspaces, centres }
          const codes = codesOf(residuals, books)
          for (const [i, code] of codes.entries()) {
            const j = i % subspaces
            const distances = Array.from({ length: CENTRES }, (_, centre) => {
              let sum = 0
              for (let e = 0; e < width; e++) {
                sum += (residuals[i * width + e]! - centres[(j * width + e) * CENTRES + centre]!) ** 2
              }
              return sum
            })
            expect(distances[code]).toBeCloseTo(Math.min(...distances), 5)
          }
        },
      ),
    )
  })

  test("lose about what 16 centres of a Gaussian must lose", () => {
    // Max, Quantizing for minimum distortion (1960): 16 levels leave 0.01154 of the variance.
    const random = createRandom(8)
    const residuals = Float32Array.from({ length: 20_000 }, random.gaussian)
    const { books, error } = trainBooks(residuals, 1, 1)
    const codes = codesOf(residuals, books)
    const lost =
      residuals.reduce((sum, x, i) => sum + (x - books.centres[codes[i]!]!) ** 2, 0) / residuals.length
    expect(error).toBeCloseTo(lost, 10)
    expect(lost).toBeLessThan(0.0145)
    expect(lost).toBeGreaterThan(0.0105)
  })

  test("of few or equal residuals are finite, and exact", () => {
    for (const rows of [0, 1, 2, 17]) {
      const residuals = Float32Array.from({ length: rows * 4 }, (_, i) => (Math.floor(i / 4) % 5) - 2)
      const { books } = trainBooks(residuals, 2, 2)
      expect(books.centres.every(Number.isFinite)).toBe(true)
      const codes = codesOf(residuals, books)
      for (const [i, code] of codes.entries()) {
        const centre = books.centres[(i % 2) * 2 * CENTRES + code]!
        if (rows < 17) expect(centre).toBeCloseTo(residuals[2 * i]!, 1)
      }
    }
  })
})
