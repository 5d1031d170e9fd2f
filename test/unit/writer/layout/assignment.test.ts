import { describe, expect, it } from "vitest"
import type { Strategy } from "../../../../src/sharding/strategy.js"
import { layoutAssignment } from "../../../../src/writer/layout/assignment.js"
import type { LaidOut } from "../../../../src/writer/layout/task.js"
import { batchOf } from "../rows/rows.js"

const STRATEGY = {} as Strategy
const rowsOf = (count: number) => batchOf(Array<number>(count).fill(1), 1)

/** A layout of all rows; what only a sample needs is not there. */
const laidOut = (home: readonly number[], copies?: LaidOut["copies"]): LaidOut =>
  ({ home: Int32Array.from(home), copies, placement: undefined }) as unknown as LaidOut

describe("the assignment by a layout of all rows", () => {
  it("goes by the number of a row in reading order, however the rows are batched", () => {
    const { assign } = layoutAssignment(STRATEGY, laidOut([3, 1, 2, 0]), 4, "in.jsonl")
    expect(assign(rowsOf(3))).toEqual({ rows: undefined, shards: Int32Array.of(3, 1, 2) })
    expect(assign(rowsOf(1))).toEqual({ rows: undefined, shards: Int32Array.of(0) })
  })

  it("names the home of a row first, then its copies", () => {
    // Row 0 has copies in 1 and 2, row 2 in 0.
    const copies = { start: Int32Array.of(0, 2, 2, 3, 3), shard: Uint16Array.of(1, 2, 0) }
    const { assign } = layoutAssignment(STRATEGY, laidOut([3, 1, 2, 0], copies), 4, "in.jsonl")
    expect(assign(rowsOf(2))).toEqual({ rows: Int32Array.of(0, 0, 0, 1), shards: Int32Array.of(3, 1, 2, 1) })
    expect(assign(rowsOf(2))).toEqual({ rows: Int32Array.of(0, 0, 1), shards: Int32Array.of(2, 0, 0) })
  })

  it("refuses an input that has become longer", () => {
    const { assign } = layoutAssignment(STRATEGY, laidOut([0, 0]), 2, "in.jsonl")
    assign(rowsOf(1))
    expect(() => assign(rowsOf(2))).toThrow(
      "in.jsonl had 2 rows when first read and more when read again; do not change the input during a build",
    )
  })
})

describe("the assignment by a layout of a sample", () => {
  const points = { dim: 1, count: 3, vectors: Float32Array.of(1, 0, -1), bias: Float32Array.of(0, 0.5, 0) }
  const routing = { preparation: { metric: "dot", dim: 1, origin: new Float32Array(1), scale: 1 } }
  /** Similarities to the points: x, -.5 and -x. */
  const vectors = [3, -2, 0.5, -0.75]
  const assign = (copyMargin: number, rows: readonly number[]) => {
    const laidOut = { placement: { points, copyMargin }, routing } as unknown as LaidOut
    return layoutAssignment(STRATEGY, laidOut, 4, "in.jsonl").assign(batchOf([...rows], 1))
  }

  it("sends each row by itself to its best point, and one near a border to the second, too", () => {
    expect(assign(0, vectors)).toEqual({ rows: undefined, shards: Int32Array.of(0, 2, 0, 2) })
    expect(assign(1.3, vectors)).toEqual({
      rows: Int32Array.of(0, 1, 2, 2, 3, 3),
      shards: Int32Array.of(0, 2, 0, 1, 2, 1),
    })
    expect(assign(1.3, [0.5])).toEqual({ rows: Int32Array.of(0, 0), shards: Int32Array.of(0, 1) })
  })
})
