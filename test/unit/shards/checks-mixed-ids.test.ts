import { expect, test } from "vitest"
import { compareIds } from "../../../src/records.js"
import { toStoredIds } from "../../../src/shards/checks.js"
import { toPublicId } from "../../../src/shards/stored.js"

const specOf = (type: "string" | "int64" | "mixed", wide = false) =>
  ({ dim: 1, metric: "l2", id: { type, wide }, fields: [] }) as const

test("integers come before strings, by value, whatever JavaScript makes of both", () => {
  const ids = ["9", 10, "10", 9n, -1, 2n ** 60n, "", "a"]
  expect(ids.sort(compareIds)).toEqual([-1, 9n, 10, 2n ** 60n, "", "10", "9", "a"])
})

test("of mixed ids each keeps its type, and integers are numbers where that is exact", () => {
  const { id } = specOf("mixed")
  const stored = ["7", 7n, -(2n ** 53n) + 1n, 2n ** 53n, -(2n ** 63n)]
  expect(stored.map((value) => toPublicId(value, id))).toEqual([
    "7",
    7,
    -(2 ** 53) + 1,
    2n ** 53n,
    -(2n ** 63n),
  ])
  expect(toPublicId(7n, specOf("int64", true).id)).toBe(7n)
})

test("ids to look for are of either type where they are mixed, else of the snapshot's", () => {
  expect(toStoredIds(["7", 7, 7n], specOf("mixed"))).toEqual(["7", 7n, 7n])
  expect(() => toStoredIds([1.5], specOf("mixed"))).toThrow("of type mixed, got number 1.5")
  expect(() => toStoredIds(["7"], specOf("int64"))).toThrow("of type int64, got string 7")
  expect(() => toStoredIds([7], specOf("string"))).toThrow("of type string, got number 7")
})
