import { expect, test } from "vitest"
import { shardSkew } from "../../../src/sharding/skew.js"

test("shardSkew describes how rows are spread", () => {
  expect(shardSkew(Int32Array.of(4, 0, 2, 2))).toEqual({
    largest: 4,
    smallest: 0,
    average: 2,
    largestOverAverage: 2,
    variation: Math.SQRT2 / 2,
    empty: 1,
  })
  expect(shardSkew([3, 3])).toMatchObject({ largestOverAverage: 1, variation: 0, empty: 0 })
  expect(shardSkew([0])).toMatchObject({ largest: 0, largestOverAverage: 1, variation: 0, empty: 1 })
})
