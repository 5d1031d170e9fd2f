import fc from "fast-check"
import { describe, expect, test } from "vitest"
import { distance } from "../../../src/vectors/distance.js"
import { METRICS } from "../../../src/vectors/metric.js"
import { normalised } from "../../../src/vectors/normalise.js"

const vectors = (dim: number) =>
  fc.float32Array({ minLength: dim, maxLength: dim, noNaN: true, noDefaultInfinity: true })
const pairs = fc.integer({ min: 1, max: 20 }).chain((dim) => fc.tuple(vectors(dim), vectors(dim)))

describe("distance", () => {
  test("known values", () => {
    const a = Float32Array.of(3, 4)
    const b = Float32Array.of(-4, 3)
    expect(distance("l2", a, b)).toBe(Math.sqrt(50))
    expect(distance("dot", a, Float32Array.of(1, 2))).toBe(-11)
    expect(distance("cosine", a, b)).toBe(1)
    expect(distance("cosine", a, Float32Array.of(-3, -4))).toBe(2)
    expect(distance("dot", a, b)).toBe(0)
  })

  test("a zero vector is at cosine distance 1 of all", () => {
    expect(distance("cosine", Float32Array.of(0, 0), Float32Array.of(1, 2))).toBe(1)
  })

  test("does not depend on the order of the two, nor leave its range", () => {
    fc.assert(
      fc.property(pairs, fc.constantFrom(...METRICS), ([a, b], metric) => {
        const value = distance(metric, a, b)
        expect(value).toBe(distance(metric, b, a))
        expect(Number.isFinite(value)).toBe(true)
        if (metric === "l2") expect(value).toBeGreaterThanOrEqual(0)
        if (metric === "cosine") expect(value >= 0 && value <= 2).toBe(true)
      }),
    )
  })

  test("a vector is at distance 0 of itself, and at cosine distance 0 of its multiples", () => {
    fc.assert(
      fc.property(pairs, ([a]) => {
        fc.pre(a.some((value) => value !== 0))
        expect(distance("l2", a, a)).toBe(0)
        expect(distance("cosine", a, a)).toBeLessThan(1e-14)
      }),
    )
    const a = Float32Array.of(1, 2, 3)
    expect(
      distance(
        "cosine",
        a,
        a.map((value) => 4 * value),
      ),
    ).toBeLessThan(1e-14)
  })
})

describe("normalised", () => {
  test("scales rows to length 1, leaves zero rows, and does not touch its input", () => {
    const input = Float32Array.of(3, 4, 0, 0, -5, 0)
    const expected = [0.6, 0.8, 0, 0, -1, 0].map(Math.fround)
    expect([...normalised(input, 2)]).toEqual(expected)
    expect([...input]).toEqual([3, 4, 0, 0, -5, 0])
  })
})
