import { describe, expect, it } from "vitest"
import { prepareQuery } from "../../../src/shards/query.js"

const SPEC = { dim: 2, metric: "cosine" } as const

describe("a prepared query", () => {
  it("has a vector of its own", () => {
    const given = Float32Array.of(1, 2)
    const { vector, k } = prepareQuery(given, 3, SPEC)
    given.fill(9)
    expect([...vector, k]).toEqual([1, 2, 3])
    expect(prepareQuery([1, 0.1], 1, SPEC).vector).toEqual(Float32Array.of(1, 0.1))
  })

  it("is refused where vector or k are not usable, by the name that the vector has", () => {
    expect(() => prepareQuery([1], 1, SPEC)).toThrow("the query vector has 1 values, expected 2")
    expect(() => prepareQuery([0, 0], 1, SPEC, { name: "query vector 7" })).toThrow("query vector 7 is zero")
    for (const k of [0, -1, 1.5, Number.NaN])
      expect(() => prepareQuery([1, 2], k, SPEC)).toThrow(`k must be an integer of 1 or more, got ${k}`)
  })

  it("is the same with another effort", () => {
    const { signal } = new AbortController()
    const query = prepareQuery([1, 2], 4, SPEC, { signal })
    const effort = { rows: 100, best: 10 }
    const other = query.withEffort(effort)
    expect(query.effort).toBeUndefined()
    expect({ ...other }).toEqual({ ...query, effort })
    expect(other.vector).toBe(query.vector)
  })
})
