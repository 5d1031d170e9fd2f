import fc from "fast-check"
import { describe, expect, it } from "vitest"
import { parseJson, stringifyJson } from "../../src/json.js"

describe("numbers in JSON", () => {
  it("become bigint only where they are written as integers beyond 2^53", () => {
    expect(parseJson("[9007199254740993, 9007199254740991, 1.5e16, 15000000000000000.0]")).toEqual([
      9007199254740993n,
      9007199254740991,
      1.5e16,
      1.5e16,
    ])
  })

  it("come back as what they were: numbers that JSON.stringify takes, bigint as bigint", () => {
    expect(stringifyJson({ a: 1.5e16, b: [2 ** 60, -(2 ** 53)], c: 9007199254740993n })).toBe(
      '{"a":1.5e+16,"b":[1.152921504606847e+18,-9.007199254740992e+15],"c":9007199254740993}',
    )
    fc.assert(
      fc.property(fc.double({ noNaN: true, noDefaultInfinity: true }), (number) => {
        expect(parseJson(stringifyJson([number]))).toEqual([number === 0 ? 0 : number])
      }),
    )
    fc.assert(
      fc.property(fc.bigInt({ min: 2n ** 53n, max: 2n ** 64n }), (integer) => {
        expect(parseJson(stringifyJson([integer, -integer]))).toEqual([integer, -integer])
      }),
    )
  })
})

describe("a key that an object has twice", () => {
  it.each([
    '{"id":1,"id":9,"vector":[1,0]}',
    '{"id":1,"id":9,"vector":[1,0],"n":1234567890123456789}',
    '{"id":1,"id":1}',
    '[{"a": {"b:": ":", "id" : 1, "c": [{"id": 2}], "\\u0069d": 3}}]',
    '{"__proto__": 1, "id": 2, "id": {"__proto__": 3}}',
  ])("is refused in %s", (text) => {
    expect(() => parseJson(text)).toThrow(new SyntaxError('it has the key "id" twice in one object'))
  })

  it.each([
    '{"id":1,"a":{"id":2},"b":[{"id":3},{"id":4}]}',
    '{"id":":","Id":"\\":","":0}',
    '{"__proto__":{"__proto__":1}}',
  ])("is no matter of other objects, of case or of text: %s", (text) => {
    expect(parseJson(text)).toEqual(JSON.parse(text))
  })

  it("is found in whatever else the text holds", () => {
    fc.assert(
      fc.property(fc.jsonValue({ maxDepth: 4 }), fc.string(), (value, key) => {
        const text = stringifyJson({ x: value, y: [value] })
        expect(stringifyJson(parseJson(text))).toBe(text)
        const name = JSON.stringify(key)
        expect(() => parseJson(`{"x":${text},${name}:1,${name}:${text}}`)).toThrow(/twice in one object/)
      }),
    )
  })
})
