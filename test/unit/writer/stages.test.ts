import { describe, expect, it } from "vitest"
import { silentLogger } from "../../../src/logger.js"
import type { Progress } from "../../../src/writer/options.js"
import { createStageClock } from "../../../src/writer/stages.js"

describe("the clock of stages", () => {
  it("passes progress on with the stage and its unit, and the result of the work", async () => {
    const told: Progress[] = []
    const clock = createStageClock((progress) => told.push(progress), silentLogger)
    const result = await clock.time("partition", async (progress) => {
      progress(1)
      progress(2, 3)
      return "done"
    })
    expect(result).toBe("done")
    expect(told).toEqual([
      { stage: "partition", done: 1, total: undefined, unit: "rows" },
      { stage: "partition", done: 2, total: 3, unit: "rows" },
    ])
  })

  it("has the time of each stage that has ended, however often it ran, and of all since the start", async () => {
    const stages: object[] = []
    const logger = { ...silentLogger, info: (facts: object) => void stages.push(facts) }
    const clock = createStageClock(undefined, logger)
    expect(Object.keys(clock.timingsMs())).toEqual(["total"])
    await clock.time("shards", async () => {})
    await clock.time("shards", async () => {})
    await expect(clock.time("manifest", () => Promise.reject(new Error("no")))).rejects.toThrow("no")
    const timings = clock.timingsMs()
    expect(Object.keys(timings)).toEqual(["shards", "total"])
    expect(timings.total).toBeGreaterThanOrEqual(timings.shards! - 2)
    expect(stages.map((facts) => (facts as { stage: string }).stage)).toEqual(["shards", "shards"])
  })
})
