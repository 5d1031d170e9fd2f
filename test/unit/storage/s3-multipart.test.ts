import fc from "fast-check"
import { describe, expect, it } from "vitest"
import { planParts } from "../../../src/storage/s3-multipart.js"

const MIB = 1024 * 1024

describe("planParts", () => {
  it("cuts into parts of the given size, the last one smaller", () => {
    expect(planParts(12, 5)).toEqual([
      { number: 1, start: 0, end: 5 },
      { number: 2, start: 5, end: 10 },
      { number: 3, start: 10, end: 12 },
    ])
    expect(planParts(10, 5)).toHaveLength(2)
  })

  it("grows the parts so that there are never more than 10,000", () => {
    expect(planParts(160_000 * MIB, 16 * MIB)).toHaveLength(10_000)
    const more = planParts(160_000 * MIB + 1, 16 * MIB)
    expect(more[0]).toEqual({ number: 1, start: 0, end: 17 * MIB })
    expect(more.length).toBeLessThan(10_000)
  })

  it("covers every byte once", () => {
    const size = fc.integer({ min: 1, max: 5_000 * 1024 * MIB })
    fc.assert(
      fc.property(size, fc.integer({ min: 5 * MIB, max: 64 * MIB }), (sizeBytes, partBytes) => {
        const parts = planParts(sizeBytes, partBytes)
        expect(parts.length).toBeLessThanOrEqual(10_000)
        expect(parts[0]?.start).toBe(0)
        expect(parts.at(-1)?.end).toBe(sizeBytes)
        // Compared by hand: an assertion a part would take seconds.
        const wrong = parts.filter(
          ({ number, start, end }, i) =>
            number !== i + 1 || end <= start || (i > 0 && start !== parts[i - 1]!.end),
        )
        expect(wrong).toEqual([])
      }),
      { numRuns: 20 },
    )
  })
})
