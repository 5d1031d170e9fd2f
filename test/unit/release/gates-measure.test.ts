import { describe, expect, it } from "vitest"
import { centroidDrift } from "../../../src/release/gates/centroid-drift.js"
import { sharedPart } from "../../../src/release/gates/overlap.js"

const matrix = (...values: number[]): Float32Array => Float32Array.from(values)

describe("centroid drift", () => {
  it("under cosine is the mean cosine distance to the nearest live centroid, whatever the lengths", () => {
    const live = matrix(1, 0, 0, 1)
    // (9, 0) is at (1, 0); (-1, 0) is at right angles to (0, 1).
    expect(centroidDrift("cosine", 2, matrix(9, 0, -1, 0), live)).toBe(0.5)
    expect(centroidDrift("cosine", 2, matrix(0, 5), live)).toBe(0)
  })

  it.each(["l2", "dot"] as const)(
    "under %s is the mean distance in mean lengths of the live centroids",
    (metric) => {
      // Mean length (3 + 5) / 2; distances 1 and 3.
      expect(centroidDrift(metric, 2, matrix(3, 1, 0, 8), matrix(3, 0, 0, 5))).toBe(2 / 4)
      expect(centroidDrift(metric, 2, matrix(3, 1), matrix(0, 0))).toBeUndefined()
    },
  )

  it("does not depend on the order of the centroids", () => {
    expect(centroidDrift("l2", 2, matrix(0, 5, 3, 0), matrix(3, 0, 0, 5))).toBe(0)
  })
})

describe("shared part", () => {
  it("is the share of what was expected that is found, in any order", () => {
    expect(sharedPart(["c", "x", "a", "y"], ["a", "b", "c", "d"])).toBe(0.5)
    expect(sharedPart([], ["a"])).toBe(0)
    expect(sharedPart(["a", "b", "c"], ["a"])).toBe(1)
    expect(sharedPart(["a"], [])).toBeUndefined()
  })
})
