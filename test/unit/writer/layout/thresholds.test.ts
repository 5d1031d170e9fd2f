import { expect, it } from "vitest"
import { choosingRows } from "../../../../src/writer/layout/thresholds.js"

it("every second held-out row chooses thresholds, unless those would be fewer than 200", () => {
  expect([0, 100, 398, 399, 400, 1000, 1001].map(choosingRows)).toEqual([
    undefined,
    undefined,
    undefined,
    200,
    200,
    500,
    501,
  ])
})
