import { describe, expect, it } from "vitest"
import { createRecallNotes, meanInterval } from "../../../../src/reader/report/observed-recall.js"

describe("observed recall", () => {
  it("is the mean of the latest queries, with what they asked for if all did", () => {
    const notes = createRecallNotes(3)
    expect(notes.summary()).toBeUndefined()
    notes.note(0, undefined)
    expect(notes.summary()).toMatchObject({ queries: 1, recall: 0, target: undefined })
    notes.note(1, 0.9)
    notes.note(0.5, 0.95)
    expect(notes.summary()).toMatchObject({ queries: 3, recall: 0.5, target: undefined })
    notes.note(0.9, 0.95)
    const { queries, recall, target } = notes.summary()!
    expect([queries, recall, target]).toEqual([3, expect.closeTo(0.8, 9), expect.closeTo(2.8 / 3, 9)])
  })

  it.each([
    // Wilson's interval by its definition: the means m with |m - mean| = 1.96 · √(m (1 - m) / n).
    [0.91, 1000],
    [0.5, 10],
    [1, 20],
    [0, 5],
  ])("lies in Wilson's interval: mean %f of %i", (mean, count) => {
    const { low, high } = meanInterval(mean, count)
    for (const end of [low, high])
      expect(Math.abs(end - mean)).toBeCloseTo(1.96 * Math.sqrt((end * (1 - end)) / count), 6)
    expect(low).toBeLessThanOrEqual(mean)
    expect(high).toBeGreaterThanOrEqual(mean)
    expect(low).toBeLessThan(high)
  })
})
