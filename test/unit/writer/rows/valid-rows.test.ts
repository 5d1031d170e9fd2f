import { describe, expect, it } from "vitest"
import type { RecordBatch } from "../../../../src/records.js"
import type { Source } from "../../../../src/sources/source.js"
import { createBadRows } from "../../../../src/writer/rows/bad-rows.js"
import { validRows } from "../../../../src/writer/rows/valid-rows.js"
import { batchOf, collected, streamOf } from "./rows.js"

const sourceOf = (batches: readonly RecordBatch[]): Source => ({
  name: "in.jsonl",
  fields: [],
  repeatable: true,
  read: () => streamOf(batches),
})

const GOOD = batchOf([1, 0, 0, 1], 2)
const MIXED = batchOf([1, 1, Number.NaN, 1, 0, 0], 2, 2)
const BAD = batchOf([0, Number.POSITIVE_INFINITY], 2, 5)

async function read(mode: "fail" | "skip", metric: "l2" | "cosine" = "cosine") {
  const badRows = createBadRows(mode, 10)
  const batches = await collected(validRows(sourceOf([GOOD, MIXED, BAD]), metric, badRows, undefined))
  return { badRows, batches, ids: batches.map(({ ids }) => [...ids.values]) }
}

describe("valid rows", () => {
  it("are those whose vectors the metric can compare; a batch without any is left out", async () => {
    const { ids, badRows, batches } = await read("skip")
    expect(ids).toEqual([["r0", "r1"], ["r2"]])
    expect(badRows.count).toBe(3)
    // A batch without bad rows is passed on as it is.
    expect(batches[0]).toBe(GOOD)
    expect((await read("skip", "l2")).ids).toEqual([
      ["r0", "r1"],
      ["r2", "r4"],
    ])
  })

  it("keep their place in the input, and bad ones are named by theirs", async () => {
    const { batches, badRows } = await read("skip")
    expect([...batches[1]!.origin.rows]).toEqual([3])
    expect(badRows.reasons[0]).toMatch(/^in\.jsonl, line 4: the vector /)
    await expect(read("fail")).rejects.toMatchObject({
      tag: "InvalidInput",
      message: badRows.reasons[0],
      details: { file: "in.jsonl", row: 4 },
    })
  })
})
