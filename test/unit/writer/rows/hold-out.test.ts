import fc from "fast-check"
import { describe, expect, it } from "vitest"
import { idKey } from "../../../../src/recall/id-key.js"
import type { RecordBatch } from "../../../../src/records.js"
import {
  createHoldOutCollector,
  heldOutCount,
  heldOutRows,
  sampleWithout,
  takeHeldOut,
} from "../../../../src/writer/rows/hold-out.js"

/** Rows `from` to `to - 1`: id and both values of the vector are the number of the row. */
function batchOf(from: number, to: number): RecordBatch {
  const numbers = Array.from({ length: to - from }, (_, i) => from + i)
  return {
    rows: numbers.length,
    dim: 2,
    ids: { type: "int64", values: BigInt64Array.from(numbers, BigInt) },
    vectors: Float32Array.from(numbers.flatMap((row) => [row, row])),
    fields: {},
    payloads: numbers.map(() => null),
    origin: { file: "records", unit: "row", rows: Float64Array.from(numbers) },
  }
}

describe("rows held out", () => {
  it("are one in twenty at most, none if that is fewer than 20 or training needs them", () => {
    const holdOut = { wanted: 1000, seed: 1 }
    expect([399, 400, 1000, 20_000, 1e6].map((rows) => heldOutCount(holdOut, rows, 0))).toEqual([
      0, 20, 50, 1000, 1000,
    ])
    expect(heldOutCount(holdOut, 1000, 970)).toBe(30)
    expect(heldOutCount(holdOut, 1000, 990)).toBe(0)
    expect(heldOutCount({ wanted: 0, seed: 1 }, 1e6, 0)).toBe(0)
  })

  it("are the same whether the number of rows was known or not, however rows are batched, with home and position", () => {
    const cut = fc.array(fc.integer({ min: 1, max: 300 }), { minLength: 1, maxLength: 8 })
    fc.assert(
      fc.property(
        cut,
        fc.integer({ min: 0, max: 3 }),
        fc.integer({ min: 20, max: 60 }),
        (sizes, seed, wanted) => {
          const holdOut = { wanted, seed }
          const collector = createHoldOutCollector(holdOut)
          let rows = 0
          for (const size of sizes) {
            const batch = batchOf(rows, rows + size)
            // Every third row has a copy in shard 9, which is not its home.
            const places = [...Array(size).keys()].flatMap((row) =>
              (rows + row) % 3 === 0 ? [row, row] : [row],
            )
            const shards = places.map((row, i) => (places[i - 1] === row ? 9 : (rows + row) % 4))
            const positions = Float64Array.from(places, (row) => 1000 + rows + row)
            collector.add(
              batch,
              { rows: Int32Array.from(places), shards: Int32Array.from(shards) },
              positions,
            )
            rows += size
          }
          const expected = heldOutRows(holdOut, rows, heldOutCount(holdOut, rows, 0))
          const taken = collector.take(0)
          expect(taken.map(({ row }) => row)).toEqual([...expected])
          for (const { row, vector, id, shard, position } of taken) {
            expect([...vector]).toEqual([row, row])
            expect({ id, shard, position }).toEqual({
              id: idKey(BigInt(row)),
              shard: row % 4,
              position: 1000 + row,
            })
          }
        },
      ),
      { numRuns: 30 },
    )
  })

  it("change with the seed, and are spread over the input", () => {
    const rows = heldOutRows({ wanted: 1000, seed: 1 }, 100_000, 1000)
    expect(heldOutRows({ wanted: 1000, seed: 2 }, 100_000, 1000)).not.toEqual(rows)
    const inHalves = [0, 50_000].map(
      (from) => rows.filter((row) => row >= from && row < from + 50_000).length,
    )
    expect(Math.min(...inHalves)).toBeGreaterThan(420)
  })

  it("leave a sample and a block of rows without them, in order", () => {
    const heldOut = Float64Array.of(0, 3, 5)
    const sample = {
      vectors: Float32Array.of(5, 5, 4, 4, 0, 0, 2, 2),
      rowNumbers: Float64Array.of(5, 4, 0, 2),
    }
    expect([...sampleWithout(sample, 2, heldOut)]).toEqual([4, 4, 2, 2])
    const parts = takeHeldOut(Float32Array.of(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5), 2, heldOut)
    expect([...parts.left]).toEqual([1, 1, 2, 2, 4, 4])
    expect([...parts.heldOut]).toEqual([0, 0, 3, 3, 5, 5])
    expect([...takeHeldOut(Float32Array.of(1, 2), 1, new Float64Array(0)).left]).toEqual([1, 2])
  })
})
