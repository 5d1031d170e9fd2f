import fc from "fast-check"
import { describe, expect, test } from "vitest"
import { createCellKernel, createCellMemory } from "../../../../src/vectors/cells/kernel.js"
import { distance } from "../../../../src/vectors/distance.js"

// Few values, so that ties are common.
const VALUES = [-2, -1, -0.1, 0, 0.1, 0.7, 1, 3]

describe.each([
  ["private", false],
  ["shared", true],
])("kernels over %s memory", (_, shared) => {
  const memory = createCellMemory(2 ** 22, shared)
  const kernel = createCellKernel(memory)!
  const floats = new Float32Array(memory.buffer)
  const doubles = new Float64Array(memory.buffer)
  const words = new Uint32Array(memory.buffer)

  test("the memory is of that kind", () => {
    expect(memory.buffer instanceof SharedArrayBuffer).toBe(shared)
  })

  test("limitOf lets through as many as are wanted, up to one in 32 more or ties", () => {
    fc.assert(
      fc.property(
        fc.array(fc.oneof(fc.constantFrom(...VALUES), fc.float({ noNaN: true, min: -100, max: 100 })), {
          minLength: 1,
          maxLength: 200,
        }),
        fc.integer({ min: 1, max: 210 }),
        (scores, wanted) => {
          const padded = Math.ceil(scores.length / 4) * 4
          floats.fill(Infinity, 16, 16 + padded)
          floats.set(scores, 16)
          const limit = kernel.limitOf(64, padded, wanted)
          const sorted = Float32Array.from(scores).sort()
          const within = sorted.filter((score) => score <= limit).length
          expect(within).toBeGreaterThanOrEqual(Math.min(wanted, scores.length))
          if (wanted >= scores.length) expect(limit === sorted.at(-1)).toBe(true)
          // What is too much is equal to the last that is wanted, or as good as equal in float32.
          const last = sorted[Math.min(wanted, scores.length) - 1]!
          const extra = sorted.filter((score) => score > last && score <= limit).length
          const spread = sorted.at(-1)! - sorted[0]!
          const near = sorted.filter((score) => score > last && score - last <= spread * 1e-4).length
          expect(extra).toBeLessThanOrEqual(Math.max(wanted >> 5, near))
        },
      ),
    )
  })

  test("collecting keeps order, scores and limits", () => {
    fc.assert(
      fc.property(
        fc.array(fc.constantFrom(...VALUES, Infinity), { maxLength: 50 }),
        fc.constantFrom(...VALUES),
        fc.constantFrom(...VALUES, -Infinity),
        (scores, limit, over) => {
          const padded = Math.ceil(scores.length / 4) * 4
          floats.fill(Infinity, 0, padded)
          floats.set(scores)
          for (let i = 0; i < padded; i++) words[256 + i] = 1000 + i
          const within = scores.flatMap((score, i) =>
            Math.fround(score) <= Math.fround(limit) ? [1000 + i] : [],
          )
          const count = kernel.collectRecords(0, padded, limit, 1024, 4096)
          expect(Array.from(words.subarray(1024, 1024 + count))).toEqual(within)
          const pairs = kernel.collectPairs(0, padded, over, limit, 1024, 4096)
          const kept = scores.flatMap((score, i) => {
            const rounded = Math.fround(score)
            return rounded > Math.fround(over) && rounded <= Math.fround(limit) ? [[1000 + i, rounded]] : []
          })
          const found = Array.from({ length: pairs }, (_, i) => [words[1024 + 2 * i]!, floats[1025 + 2 * i]!])
          expect(found).toEqual(kept)
        },
      ),
    )
  })

  test.each([1, 2, 3, 4, 5, 7, 16, 31, 100, 385, 2000])(
    "exact sums over %i dimensions are those of the public distances, to the last bit",
    (dim) => {
      fc.assert(
        fc.property(
          fc.integer({ min: 0, max: 9 }),
          fc.infiniteStream(
            fc.oneof(fc.constantFrom(0, -0, 1e-30, 1e15), fc.float({ noNaN: true, min: -3, max: 3 })),
          ),
          (rows, stream) => {
            const all = Float32Array.from(stream.take((rows + 1) * dim))
            const query = all.subarray(rows * dim)
            const at = 2 ** 20
            floats.set(all, at / 4)
            // The last first, so that it is the addresses that count.
            for (let row = 0; row < rows; row++) words[row] = at + (rows - 1 - row) * dim * 4
            doubles.set(query, 1024)
            kernel.exactSquares(0, rows, dim, 8192, 65_536)
            for (let row = 0; row < rows; row++) {
              const vector = all.subarray((rows - 1 - row) * dim, (rows - row) * dim)
              expect(Math.sqrt(doubles[8192 + row]!)).toBe(distance("l2", query, vector))
            }
            kernel.exactProducts(0, rows, dim, 8192, 65_536, 0)
            for (let row = 0; row < rows; row++) {
              const vector = all.subarray((rows - 1 - row) * dim, (rows - row) * dim)
              expect(0 - doubles[8192 + row]!).toBe(distance("dot", query, vector))
            }
            kernel.exactProducts(0, rows, dim, 8192, 65_536, 131_072)
            for (let row = 0; row < rows; row++) {
              const vector = all.subarray((rows - 1 - row) * dim, (rows - row) * dim)
              expect(0 - doubles[8192 + row]!).toBe(distance("dot", query, vector))
              expect(doubles[16_384 + row]).toBe(0 - distance("dot", vector, vector))
            }
          },
        ),
        { numRuns: dim > 500 ? 5 : 30 },
      )
    },
  )
})
