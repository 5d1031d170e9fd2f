import fc from "fast-check"
import { describe, expect, test } from "vitest"
import { formCells } from "../../../../src/vectors/cells/cells.js"
import {
  orderOfNeighbours,
  readDirection,
  roundDirections,
} from "../../../../src/vectors/cells/directions.js"
import { canBeEstimated, cellSpace, inSpace } from "../../../../src/vectors/cells/space.js"
import { METRICS } from "../../../../src/vectors/metric.js"
import { createRandom } from "../../../../src/vectors/random.js"

const ROWS = fc.record({
  metric: fc.constantFrom(...METRICS),
  dim: fc.integer({ min: 1, max: 40 }),
  rows: fc.integer({ min: 0, max: 200 }),
  values: fc.constantFrom("gaussian", "copies", "zeros"),
  seed: fc.nat(),
})

function makeRows(dim: number, rows: number, values: string, seed: number): Float32Array {
  const random = createRandom(seed)
  const vectors = Float32Array.from({ length: rows * dim }, random.gaussian)
  for (let row = 0; row < rows; row++) {
    if (values === "copies") vectors.copyWithin(row * dim, (row % 3) * dim, (row % 3) * dim + dim)
    if (values === "zeros") vectors.fill(0, row * dim, (row + 1) * dim)
  }
  return vectors
}

const length = (vector: Float32Array) => Math.sqrt(vector.reduce((sum, x) => sum + x * x, 0))

describe("formCells", () => {
  test("gives every row a position, in cells that are not empty and whose rows rise", () => {
    fc.assert(
      fc.property(
        ROWS,
        fc.integer({ min: 1, max: 50 }),
        fc.integer({ min: 1, max: 40 }),
        ({ metric, dim, rows, values, seed }, rowsPerCell, mostCells) => {
          const vectors = makeRows(dim, rows, values, seed)
          const space = cellSpace(metric, vectors, dim)
          const cells = formCells(space, inSpace(space, vectors), { rowsPerCell, mostCells })
          expect(Array.from(cells.order).sort((a, b) => a - b)).toEqual(
            Array.from({ length: rows }, (_, i) => i),
          )
          expect(cells.starts[0]).toBe(0)
          expect(cells.starts[cells.count]).toBe(rows)
          expect(cells.count).toBeLessThanOrEqual(mostCells)
          expect(cells.lengths.length).toBe(cells.count)
          expect(cells.groupLengths.length).toBe(Math.ceil(cells.count / 8))
          for (let cell = 0; cell < cells.count; cell++) {
            const members = Array.from(cells.order.subarray(cells.starts[cell]!, cells.starts[cell + 1]!))
            expect(members.length).toBeGreaterThan(0)
            expect(members).toEqual(members.toSorted((a, b) => a - b))
          }
        },
      ),
      { numRuns: 80 },
    )
  })

  test("a row is in the cell whose centre is nearest, for nearly all rows", () => {
    const random = createRandom(1)
    for (const metric of METRICS) {
      const dim = 8
      // Twelve heaps, far apart in direction as well.
      const centres = Array.from({ length: 12 }, () =>
        Float32Array.from({ length: dim }, () => 5 * random.gaussian()),
      )
      const vectors = Float32Array.from({ length: 600 * dim }, (_, i) => {
        const heap = centres[Math.floor(i / dim) % 12]!
        return heap[i % dim]! + random.gaussian()
      })
      const space = cellSpace(metric, vectors, dim)
      const rows = inSpace(space, vectors)
      const cells = formCells(space, rows, { rowsPerCell: 50 })
      expect(cells.count).toBeGreaterThan(8)
      const direction = new Float32Array(dim)
      let right = 0
      for (let cell = 0; cell < cells.count; cell++) {
        for (let position = cells.starts[cell]!; position < cells.starts[cell + 1]!; position++) {
          const row = rows.subarray(cells.order[position]! * dim, (cells.order[position]! + 1) * dim)
          const scores = Array.from({ length: cells.count }, (_, other) => {
            readDirection(cells.directions, other, direction)
            const product = row.reduce((sum, x, i) => sum + x * direction[i]!, 0)
            return metric === "l2"
              ? cells.lengths[other]! ** 2 / 2 - cells.lengths[other]! * product
              : -product
          })
          if (scores.indexOf(Math.min(...scores)) === cell) right++
        }
      }
      expect(right / 600).toBeGreaterThan(0.9)
    }
  })
})

describe("directions", () => {
  test("have length 1 and are off by little", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 300 }),
        fc.integer({ min: 0, max: 20 }),
        fc.nat(),
        (dim, count, seed) => {
          const vectors = makeRows(dim, count, "gaussian", seed)
          if (count > 1) vectors.fill(0, dim, 2 * dim)
          const directions = roundDirections(vectors, dim)
          const direction = new Float32Array(dim)
          for (let row = 0; row < count; row++) {
            const vector = vectors.subarray(row * dim, (row + 1) * dim)
            readDirection(directions, row, direction)
            if (row === 1) {
              expect(length(direction)).toBe(0)
              continue
            }
            expect(length(direction)).toBeCloseTo(1, 5)
            const product = vector.reduce((sum, x, i) => sum + x * direction[i]!, 0)
            expect(product / length(vector)).toBeGreaterThan(0.999)
          }
        },
      ),
    )
  })

  test("neighbours come in eights that belong together", () => {
    // Ten heaps of eight, in a random order.
    const random = createRandom(7)
    const heapOf = Array.from({ length: 80 }, (_, i) => i % 10).sort(() => random.float() - 0.5)
    const heaps = Array.from({ length: 10 }, () => [100 * random.gaussian(), 100 * random.gaussian()])
    const points = Float32Array.from(heapOf.flatMap((heap) => heaps[heap]!.map((x) => x + random.gaussian())))
    const order = orderOfNeighbours(points, 2)
    expect(Array.from(order).sort((a, b) => a - b)).toEqual(Array.from({ length: 80 }, (_, i) => i))
    const pure = Array.from(
      { length: 10 },
      (_, group) =>
        new Set(Array.from(order.subarray(8 * group, 8 * group + 8), (point) => heapOf[point]!)).size,
    ).filter((heapsOfGroup) => heapsOfGroup === 1).length
    expect(pure).toBeGreaterThanOrEqual(7)
  })

  test("equal points keep their order", () => {
    expect(Array.from(orderOfNeighbours(new Float32Array(60), 3))).toEqual(
      Array.from({ length: 20 }, (_, i) => i),
    )
  })
})

test("vectors whose squares leave float32 are not estimated", () => {
  expect(canBeEstimated(Float32Array.of(1, 2, 0, 0), 2)).toBe(true)
  expect(canBeEstimated(Float32Array.of(1, 2, 1e20, 0), 2)).toBe(false)
  expect(canBeEstimated(Float32Array.of(1, 2, 1e-20, 0), 2)).toBe(false)
})
