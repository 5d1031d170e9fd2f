import { describe, expect, it } from "vitest"
import { assertSigned, judgeSignatures, signStatement } from "../../../../src/snapshot/signatures/verdict.js"
import { testKey } from "../../../support/keys.js"

const A = testKey()
const B = testKey()
const C = testKey()
const STATEMENT = Buffer.from("a statement")
const AT = new Date("2026-11-21T03:00:00Z")
const by = (...keys: (typeof A)[]) => ({
  statement: STATEMENT,
  signatures: signStatement(
    STATEMENT,
    keys.map(({ signing }) => signing),
  ),
  signedAt: AT,
})
const until = (key: typeof A, validUntil: Date) => ({ ...key.trusted, validUntil })
const later = (ms: number) => new Date(AT.getTime() + ms)

describe("signatures", () => {
  it("are valid by any of the trusted keys, while keys are changed too", () => {
    expect(judgeSignatures(by(A), [A.trusted])).toEqual({ valid: true, by: [A.id] })
    expect(judgeSignatures(by(A, B), [B.trusted])).toEqual({ valid: true, by: [B.id] })
    expect(judgeSignatures(by(A, B), [B.trusted, A.trusted])).toEqual({ valid: true, by: [A.id, B.id] })
  })

  it("are not valid if there are none, or none by a trusted key", () => {
    for (const unsigned of [undefined, { ...by(A), signatures: [] }])
      expect(judgeSignatures(unsigned, [A.trusted])).toMatchObject({ valid: false, distrust: "unsigned" })
    const verdict = judgeSignatures(by(A), [B.trusted, C.trusted])
    expect(verdict).toMatchObject({ valid: false, distrust: "unknown-key" })
    expect(verdict).toMatchObject({ reason: expect.stringContaining(A.id) })
    expect(verdict).toMatchObject({ reason: expect.stringContaining(`${B.id}, ${C.id}`) })
  })

  it("by a key under the name of another are refused, also beside a good one", () => {
    const [forged] = by(C).signatures
    for (const signatures of [
      [{ ...forged!, key: A.id }],
      [{ ...forged!, key: A.id }, ...by(B).signatures],
      [...by(B).signatures, { ...forged!, key: A.id }],
    ])
      expect(judgeSignatures({ ...by(A), signatures }, [A.trusted, B.trusted])).toMatchObject({
        valid: false,
        distrust: "bad-signature",
      })
  })

  it("count up to the end of their key, that instant included, by the time that is signed", () => {
    expect(judgeSignatures(by(A), [until(A, AT)])).toMatchObject({ valid: true })
    expect(judgeSignatures(by(A), [until(A, later(-1))])).toMatchObject({ distrust: "key-expired" })
    expect(judgeSignatures(by(A, B), [until(A, later(-1)), B.trusted])).toEqual({ valid: true, by: [B.id] })
  })

  it("that do not hold are a Corrupt that names what, why and what to do", () => {
    expect(() => assertSigned("_CURRENT", undefined, [A.trusted])).toThrow(
      expect.objectContaining({
        tag: "Corrupt",
        message: expect.stringContaining("_CURRENT is not signed: publish it with the signing key"),
        details: { key: "_CURRENT", distrust: "unsigned" },
      }),
    )
  })
})
