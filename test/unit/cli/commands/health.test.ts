import { expect, test } from "vitest"
import { formatAge, renderHealth } from "../../../../cli/commands/health.js"
import type { Health } from "../../../../src/index.js"
import { captureIo } from "../capture.js"

test.each([
  [0, "0 s"],
  [59, "59 s"],
  [60, "1 min"],
  [3661, "1 h 1 min"],
  [3600 * 24 + 59, "1 d"],
  [93_780, "1 d 2 h"],
])("%d s are printed as %s", (seconds, text) => {
  expect(formatAge(seconds)).toBe(text)
})

test("the first line is the status, each reason has one of its own", () => {
  const health: Health = {
    status: "degraded",
    reasons: ["the last refresh failed: \u001b[31mred", "shard 3 fails: gone"],
    snapshot: "abcdefghijkl",
    ageSeconds: 60,
    format: "vecsnap",
    pinned: false,
    recall: { k: 10, probes: 8, mean: 0.9312, low: 0.92, high: 0.94 },
    signedBy: undefined,
    lastRefresh: undefined,
    unlikeQueries: undefined,
    observedRecall: undefined,
    pointerReadAt: undefined,
    calls: { answered: 0, failed: 0, refused: 0 },
  }
  const text = renderHealth(health, captureIo())
  const [first, ...reasons] = text.split("\n")
  expect(first).toBe("degraded: snapshot abcdefghijkl, published 1 min ago, recall@10 93.1% at 8 probes")
  expect(reasons[0]).toMatch(/^ {2}the last refresh failed: /)
  expect(reasons.slice(1)).toEqual(["  shard 3 fails: gone", ""])
  // What a store has put into an error does not reach the terminal as a command.
  expect(text).not.toContain("\u001b")
})
