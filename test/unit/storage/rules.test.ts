import fc from "fast-check"
import { describe, expect, it } from "vitest"
import { assertKey, compareKeys, isKey } from "../../../src/storage/rules.js"

const anyText = fc.string({ unit: "binary", maxLength: 6 })
const nearSurrogates = fc.string({
  unit: fc.constantFrom("a", "\ud7ff", "\ue000", "\uffff", "\u{10000}", "\u{10ffff}"),
  maxLength: 4,
})

describe("compareKeys", () => {
  it("orders as the bytes of UTF-8 do", () => {
    const text = fc.oneof(anyText, nearSurrogates)
    fc.assert(
      fc.property(text, text, (a, b) => {
        expect(Math.sign(compareKeys(a, b))).toBe(Buffer.compare(Buffer.from(a), Buffer.from(b)))
      }),
    )
  })
})

describe("isKey", () => {
  it("agrees with assertKey", () => {
    const text = fc.string({ unit: fc.constantFrom("a", "/", ".", "\\", "\0", "é", "\ud800"), maxLength: 8 })
    fc.assert(
      fc.property(text, (key) => {
        const accepted = isKey(key)
        if (accepted) assertKey(key)
        else expect(() => assertKey(key)).toThrow("the key")
      }),
    )
  })

  it("accepts only keys that stay below their root", () => {
    const text = fc.string({ unit: fc.constantFrom("a", "/", "."), maxLength: 8 })
    fc.assert(
      fc.property(text, (key) => {
        if (isKey(key)) expect(new URL(key, "file:///root/").href).toBe(`file:///root/${key}`)
      }),
    )
  })

  it("limits the length in bytes", () => {
    expect(isKey("x".repeat(1024))).toBe(true)
    expect(isKey("x".repeat(1025))).toBe(false)
    expect(isKey("é".repeat(512))).toBe(true)
    expect(isKey("é".repeat(513))).toBe(false)
  })
})
