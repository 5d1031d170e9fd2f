import { describe, expect, it } from "vitest"
import { SCENARIOS } from "./scenarios.js"

describe("every invariant holds when", () => {
  it.each(SCENARIOS)("$name", async ({ play }) => {
    await expect(play()).resolves.toBeUndefined()
  })
})
