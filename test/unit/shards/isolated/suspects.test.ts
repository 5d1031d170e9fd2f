import { describe, expect, it } from "vitest"
import { Suspects } from "../../../../src/shards/isolated/suspects.js"

describe("who is to blame for the end of a process", () => {
  it("suspects all that were being read, and clears those that answer aside", () => {
    const suspects = new Suspects()
    suspects.suspect(["a", "b"], "it ended")
    expect(["a", "b", "c"].map((name) => suspects.isSuspect(name))).toEqual([true, true, false])
    suspects.answered("a")
    suspects.answered("c")
    expect(["a", "b", "c"].map((name) => suspects.isSuspect(name))).toEqual([false, true, false])
  })

  it("refuses who ended the process aside twice, with the reason, and nobody else", () => {
    const suspects = new Suspects()
    suspects.suspect(["a", "b"], "it ended")
    suspects.blame(["a"], "it hung")
    expect(suspects.refusal("a")).toBeUndefined()
    suspects.answered("a")
    expect(suspects.isSuspect("a")).toBe(true)
    suspects.blame(["a"], "it hung again")
    suspects.blame([], "it was killed while idle")
    expect([suspects.refusal("a"), suspects.refusal("b")]).toEqual(["it hung again", undefined])
  })

  it("leaves aside who was suspected three times, though it answers there", () => {
    const suspects = new Suspects()
    for (const stays of [false, false, true]) {
      // Once a process, however often it was asked for in it.
      suspects.suspect(["a", "a"], "it ended")
      suspects.answered("a")
      expect(suspects.isSuspect("a")).toBe(stays)
    }
  })
})
