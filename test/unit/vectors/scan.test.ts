import fc from "fast-check"
import { describe, expect, test } from "vitest"
import { distance } from "../../../src/vectors/distance.js"
import { METRICS } from "../../../src/vectors/metric.js"
import { createRandom } from "../../../src/vectors/random.js"
import { createScanTable, scan } from "../../../src/vectors/scan.js"

/** By definition: all distances, sorted by (distance, row). */
function bruteForce(metric: (typeof METRICS)[number], vectors: Float32Array, query: Float32Array, k: number) {
  const dim = query.length
  const all = Array.from({ length: vectors.length / dim }, (_, row) => ({
    row,
    distance: distance(metric, query, vectors.subarray(row * dim, (row + 1) * dim)),
  }))
  return all.sort((a, b) => a.distance - b.distance || a.row - b.row).slice(0, k)
}

describe.each(METRICS)("scan, %s", (metric) => {
  test("equals sorting all distances, to the last bit", () => {
    // Few values, so that ties are common.
    const element = fc.constantFrom(-1, -0.5, 0, 0.1, 1, 3)
    const cases = fc.record({
      dim: fc.integer({ min: 1, max: 9 }),
      rows: fc.integer({ min: 0, max: 30 }),
      k: fc.integer({ min: 1, max: 40 }),
      elements: fc.infiniteStream(element),
    })
    fc.assert(
      fc.property(cases, ({ dim, rows, k, elements }) => {
        const vectors = Float32Array.from(elements.take(rows * dim))
        const query = Float32Array.from(elements.take(dim))
        const found = scan(createScanTable(metric, vectors, dim), query, k)
        const expected = bruteForce(metric, vectors, query, k)
        expect([...found.ranks]).toEqual(expected.map((hit) => hit.row))
        expect([...found.distances]).toEqual(expected.map((hit) => hit.distance))
      }),
    )
  })

  test("over many steps of the kernel, with a large k", () => {
    const random = createRandom(1)
    const dim = 7
    const vectors = Float32Array.from({ length: 3001 * dim }, random.gaussian)
    const query = Float32Array.from({ length: dim }, random.gaussian)
    const found = scan(createScanTable(metric, vectors, dim), query, 2500)
    const expected = bruteForce(metric, vectors, query, 2500)
    expect([...found.ranks]).toEqual(expected.map((hit) => hit.row))
    expect([...found.distances]).toEqual(expected.map((hit) => hit.distance))
  })
})

test("k that is not an integer of 1 or more is refused", () => {
  const table = createScanTable("l2", Float32Array.of(1), 1)
  for (const k of [0, -1, 1.5, Number.NaN]) {
    expect(() => scan(table, Float32Array.of(1), k)).toThrow(`k must be an integer of 1 or more, got ${k}`)
  }
})
