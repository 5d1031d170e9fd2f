import { describe, expect, it } from "vitest"
import { createNorms, NORM_SAMPLE } from "../../../../src/writer/rows/norms.js"

/** Keys of rows `from` to `to - 1`, in no order. */
const keysOf = (from: number, to: number): Float64Array =>
  Float64Array.from({ length: to - from }, (_, i) => ((from + i) * 7919) % 1_000_003)

describe("norms", () => {
  it("are quantiles of the lengths, with the vectors of length zero counted", () => {
    const norms = createNorms()
    // Lengths 0, 5, 10, …, 100.
    norms.add(
      Float32Array.from({ length: 20 }, (_, i) => (i % 2 === 0 ? 3 : 4) * Math.floor(i / 2)),
      keysOf(0, 10),
    )
    norms.add(
      Float32Array.from({ length: 22 }, (_, i) => (i % 2 === 0 ? 4 : -3) * (10 + Math.floor(i / 2))),
      keysOf(10, 21),
    )
    expect(norms.figures()).toEqual({ p05: 5, median: 50, p95: 95, zeroRows: 1, rows: 21 })
  })

  it("count zero vectors over all rows, though quantiles are of a sample", () => {
    const rows = 3 * NORM_SAMPLE
    const one = createNorms()
    const parts = createNorms()
    const vectors = Float32Array.from({ length: rows }, (_, row) => (row % 3 === 0 ? 0 : 1 + (row % 2)))
    one.add(vectors, keysOf(0, rows))
    // The other way round, and in parts.
    for (let end = rows; end > 0; end -= 600) {
      parts.add(vectors.subarray(end - 600, end), keysOf(end - 600, end))
    }
    const figures = one.figures()
    expect(figures).toMatchObject({ zeroRows: NORM_SAMPLE, rows: NORM_SAMPLE, p05: 0, median: 1, p95: 2 })
    expect(parts.figures()).toEqual(figures)
  })

  it("stay finite for the longest vectors and above zero for the shortest", () => {
    const norms = createNorms()
    norms.add(Float32Array.of(3.4e38, 3.4e38, 1e-45, 0), keysOf(0, 2))
    const { p05, p95, zeroRows } = norms.figures()
    expect({ finite: Number.isFinite(p95), positive: p05 > 0, zeroRows }).toEqual({
      finite: true,
      positive: true,
      zeroRows: 0,
    })
  })
})
