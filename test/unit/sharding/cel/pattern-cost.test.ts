import { describe, expect, it, test } from "vitest"
import { patternCost } from "../../../../src/sharding/cel/pattern-cost.js"
import { compileCel } from "../../../../src/sharding/cel/program.js"

test.each([
  ["abc", 3],
  ["a{1000}", 1000],
  ["(a{10}){20}", 200],
  ["((a{10}){10}){10}", 1000],
  ["(?:ab){3,50}", 100],
  ["a{7,}", 7],
  ["[a{9}]", 5],
  ["[]{99}]{2}", 2],
  ["[[:alpha:]]{100}", 100],
  [String.raw`\(a{100}`, 100],
  [String.raw`[\]a]{100}`, 100],
  ["a{,5}", 5],
  [`(${"a{1000}".repeat(70)}`, 70_000],
  ["(?i:[a-\u{10ffff}])", 500],
  [String.raw`(?i)[\x{0}-\x{10ffff}]`, 500],
])("%s costs at least %i, and not twelve times that", (pattern, least) => {
  expect(patternCost(pattern)).toBeGreaterThanOrEqual(least)
  expect(patternCost(pattern)).toBeLessThan(12 * (least + 2))
})

test.each([")", "(((", "{3}", "[", "[^", "\\", "[[:", ""])(
  "%j, which is no pattern, has a cost",
  (pattern) => {
    expect(patternCost(pattern)).toBeLessThan(100)
  },
)

describe("a sharding expression", () => {
  const KEY = [{ name: "key", type: "string" as const }]
  const compile = (pattern: string) =>
    compileCel(`key.matches(${JSON.stringify(pattern)}) ? 1 : 0`, KEY).evaluate(
      () => "eu-west-1",
      () => "record 1",
    )

  it("takes the regular expressions that people write", () => {
    expect(compile("^(eu|us)-[a-z]+-[0-9]{1,2}$")).toBe(1n)
    expect(compile(String.raw`(?i)^[\pL\d-]{1,10}$`)).toBe(1n)
    expect(compile(String.raw`^\d{4}-\d{2}-\d{2}T.*Z$`)).toBe(0n)
  })

  it.each([`${"a{0,1000}".repeat(73)}`, "((a{100}){2}){6}", "(?i:[a-\u{10ffff}])".repeat(3)])(
    "with the regular expression %s is refused before that is compiled",
    (pattern) => {
      const refused = expect.objectContaining({
        tag: "InvalidInput",
        message: expect.stringMatching(/instructions.*at most 1000/),
      })
      expect(() => compile(pattern)).toThrow(refused)
    },
  )

  it("with many regular expressions, or with one in a loop, counts each of them", () => {
    const many = Array.from({ length: 11 }, () => `key.matches("a{99}")`).join(" || ")
    expect(() => compileCel(`${many} ? 1 : 0`, KEY)).toThrow(/instructions/)
    const list = Array.from({ length: 100 }, (_, i) => i).join(",")
    expect(() => compileCel(`[${list}].exists(i, key.matches("a{500}")) ? 1 : 0`, KEY)).toThrow(/steps/)
  })

  it("whose regular expression is computed is refused", () => {
    for (const pattern of ["key", `"a{1000}" + "a{1000}"`, `string(1)`])
      expect(() => compileCel(`key.matches(${pattern}) ? 1 : 0`, KEY)).toThrow(/not a text in quotes/)
    expect(() => compileCel(`["a"].exists(p, key.matches(p)) ? 1 : 0`, KEY)).toThrow(/not a text in quotes/)
  })
})
