import { describe, expect, it } from "vitest"
import { createBadRows } from "../../../../src/writer/rows/bad-rows.js"

const bad = (n: number) => new Error(`row ${n} is bad`)

describe("bad rows", () => {
  it("end the build by default", () => {
    expect(() => createBadRows("fail", 1000).report(bad(1))).toThrow("row 1 is bad")
  })

  it("are counted when skipped, the first ten with their reasons", () => {
    const rows = createBadRows("skip", 1000)
    for (let n = 1; n <= 12; n++) rows.report(bad(n))
    expect(rows.count).toBe(12)
    expect(rows.reasons).toHaveLength(10)
    expect(rows.reasons[0]).toBe("row 1 is bad")
  })

  it("end the build beyond the limit, naming it and the last one", () => {
    const rows = createBadRows("skip", 2)
    rows.report(bad(1))
    rows.report(bad(2))
    expect(() => rows.report(bad(3))).toThrow("3 bad rows, more than the 2 allowed; the last: row 3 is bad")
  })
})
