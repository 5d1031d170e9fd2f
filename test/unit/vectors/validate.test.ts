import fc from "fast-check"
import { expect, test } from "vitest"
import { METRICS } from "../../../src/vectors/metric.js"
import { checkVector, findBadRows, vectorProblem } from "../../../src/vectors/validate.js"

test("each problem is told with its position and value", () => {
  expect(vectorProblem([1, 2], 3, "l2")).toBe("has 2 values, expected 3")
  expect(vectorProblem([1, Number.NaN], 2, "l2")).toBe("has NaN at position 1, expected a finite number")
  expect(vectorProblem([-Infinity, 1], 2, "l2")).toBe("has -Infinity at position 0, expected a finite number")
  expect(vectorProblem([1, 1e39], 2, "l2")).toBe("has 1e+39 at position 1, which is too large for float32")
  expect(vectorProblem(["1"] as unknown as number[], 1, "l2")).toBe(
    "has a string at position 0, expected a number",
  )
  expect(vectorProblem([1, undefined, 2] as unknown as number[], 3, "l2")).toBe(
    "has undefined at position 1, expected a number",
  )
})

test("a zero vector is refused under cosine only, and so is one that is zero in float32", () => {
  for (const zero of [
    [0, -0],
    [1e-60, 0],
  ]) {
    expect(vectorProblem(zero, 2, "cosine")).toMatch(/^is zero/)
    expect(vectorProblem(zero, 2, "l2")).toBeUndefined()
    expect(vectorProblem(zero, 2, "dot")).toBeUndefined()
  }
})

test("checkVector gives float32, itself if it is that already, or throws InvalidInput", () => {
  const given = Float32Array.of(1, 2)
  expect(checkVector(given, 2, "cosine")).toBe(given)
  expect(checkVector([0.1, 2], 2, "cosine")).toEqual(Float32Array.of(0.1, 2))
  expect(() => checkVector([1], 2, "cosine", "the query vector")).toThrow(
    expect.objectContaining({ tag: "InvalidInput", message: "the query vector has 1 values, expected 2" }),
  )
})

test("findBadRows finds the rows that vectorProblem refuses", () => {
  const special = fc.constantFrom(0, 0, 0, 1, -2.5, 2 ** -149, 3.4e38, Number.NaN, Infinity, -Infinity)
  const cases = fc
    .integer({ min: 1, max: 4 })
    .chain((dim) =>
      fc.tuple(
        fc.constant(dim),
        fc.array(fc.array(special, { minLength: dim, maxLength: dim }), { maxLength: 8 }),
      ),
    )
  fc.assert(
    fc.property(cases, fc.constantFrom(...METRICS), ([dim, rows], metric) => {
      const expected = rows.flatMap((values, row) => {
        const problem = vectorProblem(values, dim, metric)
        return problem === undefined ? [] : [{ row, problem }]
      })
      // Every special value is stored in float32 as it is, but for 3.4e38, whose message is never asked for.
      expect(findBadRows(Float32Array.from(rows.flat()), dim, metric)).toEqual(expected)
    }),
  )
})
