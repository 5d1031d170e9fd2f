import fc from "fast-check"
import { expect, test } from "vitest"
import { parsePythonJson, pythonJson } from "../../../../src/manifest/shardyfusion/json.js"

test.each([
  ['{"a": NaN, "b": [Infinity, -Infinity]}', { a: Number.NaN, b: [Infinity, -Infinity] }],
  ['{"a": 1, "a": 2}', { a: 2 }],
  ["9007199254740993", 9007199254740993n],
  ["-9223372036854775808", -(2n ** 63n)],
  ["1e400", Infinity],
  ["5e-324", 5e-324],
  ["-0.0", -0],
  [' [ 1 , "\\u00e9\\ud83d\\ude00\\u0000" ] ', [1, "é😀\0"]],
  ['{"__proto__": {"x": 1}}', JSON.parse('{"__proto__": {"x": 1}}')],
  ["true", true],
])("%s is read as Python reads it", (text, value) => {
  expect(parsePythonJson(text)).toEqual(value)
})

test.each([
  ...[
    "",
    "{",
    "[1,]",
    "{1: 2}",
    "nan",
    "+1",
    "01",
    "1.",
    "'a'",
    '"\t"',
    '"\\x41"',
    "[1] 2",
    '{"a" 1}',
    "Infinit",
  ],
  "[".repeat(501),
  "1".repeat(1001),
])("%j is refused", (text) => {
  expect(() => parsePythonJson(text)).toThrow(SyntaxError)
})

test("whatever JSON there is, both read the same, and what is written is read back", () => {
  fc.assert(
    fc.property(fc.jsonValue({ maxDepth: 5 }), (value) => {
      // Beyond 2^53 ours has integers, and JSON.parse what is near.
      const text = JSON.stringify(value, (_, each) =>
        Number.isInteger(each) && !Number.isSafeInteger(each) ? 0 : each,
      )
      expect(parsePythonJson(text)).toEqual(JSON.parse(text))
      expect(JSON.parse(pythonJson(JSON.parse(text)))).toEqual(JSON.parse(text))
    }),
    { numRuns: 500 },
  )
})

test("text is that of json.dumps with sorted keys", () => {
  const value = { b: [1, 2n ** 60n, null, true], a: { "é😀": '\u007f\n"\\', A: 0.5 }, "": {} }
  expect(pythonJson(value)).toBe(
    '{"": {}, "a": {"A": 0.5, "\\u00e9\\ud83d\\ude00": "\\u007f\\n\\"\\\\"}, "b": [1, 1152921504606846976, null, true]}',
  )
  expect(pythonJson({ b: 1, a: [1, 2] }, { compact: true })).toBe('{"a":[1,2],"b":1}')
  // By code point, not by UTF-16 unit.
  expect(pythonJson({ "\u{1f600}": 1, "\uffff": 2 })).toBe('{"\\uffff": 2, "\\ud83d\\ude00": 1}')
})
