import { expect, it } from "vitest"
import { kindOf, listOf, quoted, shortened } from "../../src/wording.js"

it("says what kind of thing a value is, with the right article", () => {
  expect([{}, [], "x", 1, null, undefined, () => 1].map(kindOf)).toEqual([
    "an object",
    "a list",
    "a string",
    "a number",
    "null",
    "undefined",
    "a function",
  ])
})

it("keeps lists and texts short", () => {
  const names = Array.from({ length: 20_000 }, (_, i) => `w${i}`)
  expect(listOf(names)).toBe(
    '"w0", "w1", "w2", "w3", "w4", "w5", "w6", "w7", "w8", "w9", "w10", "w11" and 19988 more',
  )
  expect(listOf(names.slice(0, 2))).toBe('"w0", "w1"')
  expect(listOf([])).toBe("none")
  expect(quoted("x".repeat(61))).toBe(`"${"x".repeat(60)}"...`)
  expect(shortened("abc", 2)).toBe("ab...")
})
