import { describe, expect, it } from "vitest"
import { silentLogger } from "../../../../src/logger.js"
import { createEvents } from "../../../../src/reader/report/events.js"

const FAILED = { error: new Error("HTTP 503") }

describe("events of a reader", () => {
  it("go to the listeners of their name, until these are taken off", () => {
    const events = createEvents(silentLogger)
    const told: string[] = []
    const one = () => void told.push("one")
    events.on("refresh-failed", one)
    events.on("refresh-failed", one)
    events.on("refreshed", () => void told.push("another"))
    events.emit("refresh-failed", FAILED)
    expect(told).toEqual(["one"])
    events.off("refresh-failed", one)
    events.emit("refresh-failed", FAILED)
    expect(told).toEqual(["one"])
  })

  it("reach all listeners, though one of them throws, which is logged", () => {
    const logged: object[] = []
    const events = createEvents({ ...silentLogger, error: (facts) => void logged.push(facts) })
    const told: unknown[] = []
    const failure = new Error("a listener's own")
    events.on("refresh-failed", () => {
      throw failure
    })
    events.on("refresh-failed", (facts) => void told.push(facts))
    events.emit("refresh-failed", FAILED)
    expect(told).toEqual([FAILED])
    expect(logged).toEqual([{ err: failure, event: "refresh-failed" }])
  })

  it("are told to those who listened when they happened", () => {
    const events = createEvents(silentLogger)
    const told: string[] = []
    const late = () => void told.push("late")
    events.on("refresh-failed", () => {
      told.push("first")
      events.on("refresh-failed", late)
    })
    events.emit("refresh-failed", FAILED)
    expect(told).toEqual(["first"])
  })
})
