import fc from "fast-check"
import { describe, expect, it } from "vitest"
import { idKey } from "../../../../src/recall/id-key.js"
import type { RecordBatch } from "../../../../src/records.js"
import type { Descriptors } from "../../../../src/sharding/cluster/routing/descriptors.js"
import type { LaidOut } from "../../../../src/writer/layout/task.js"
import { drawKeys, idHashes, orderByKey } from "../../../../src/writer/rows/draw.js"
import { createHoldOutCollector, heldOutCount, withHeldOut } from "../../../../src/writer/rows/hold-out.js"

const keysOf = ({ ids }: RecordBatch, seed: number): Float64Array => drawKeys(idHashes(ids), seed)

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

  it("are those of lowest key, in whatever order and batches rows come, with home and position", () => {
    const cut = fc.array(fc.integer({ min: 1, max: 300 }), { minLength: 1, maxLength: 8 })
    fc.assert(
      fc.property(
        cut,
        fc.integer({ min: 0, max: 3 }),
        fc.integer({ min: 20, max: 60 }),
        fc.boolean(),
        (sizes, seed, wanted, isReversed) => {
          const holdOut = { wanted, seed }
          const collector = createHoldOutCollector(holdOut, 15)
          const rows = sizes.reduce((sum, size) => sum + size)
          let seen = 0
          for (const size of sizes) {
            const from = isReversed ? rows - seen - size : seen
            const batch = batchOf(from, from + size)
            // Every third row has a copy in shard 9, which is not its home.
            const places = [...Array(size).keys()].flatMap((row) =>
              (from + row) % 3 === 0 ? [row, row] : [row],
            )
            const shards = places.map((row, i) => (places[i - 1] === row ? 9 : (from + row) % 4))
            const positions = Float64Array.from(places, (row) => 1000 + from + row)
            collector.add(
              batch,
              keysOf(batch, seed),
              { rows: Int32Array.from(places), shards: Int32Array.from(shards) },
              positions,
            )
            seen += size
          }
          const lowest = orderByKey(keysOf(batchOf(0, rows), seed))
          const drawn = (from: number, count: number) =>
            Array.from(lowest.subarray(from, from + count), (row) => ({
              vector: Float32Array.of(row, row),
              id: idKey(BigInt(row)),
              shard: row % 4,
              position: 1000 + row,
            }))
          const held = heldOutCount(holdOut, rows, 0)
          expect(collector.take(0)).toEqual(drawn(0, held))
          // Those of the next keys, one in twenty at most.
          expect(collector.takeStored(0)).toEqual(drawn(held, Math.min(15, Math.floor(rows / 20))))
        },
      ),
      { numRuns: 30 },
    )
  })

  it("are put back into a layout of the others by their numbers in reading order, at home and without copies", () => {
    // Rows 2 and 0 are held out; the layout is that of 3, 1 and 4, of which 3 has two copies and 4 has one.
    const order = Uint32Array.of(2, 0, 3, 1, 4)
    const descriptors: Descriptors = {
      metric: "cosine",
      dim: 1,
      shards: 2,
      start: Int32Array.of(0, 1, 2),
      vectors: Float32Array.of(1, -1),
      counts: Int32Array.of(1, 1),
    }
    const preparation = { metric: "cosine", dim: 1, origin: new Float32Array(1), scale: 1 } as const
    const laidOut = {
      routing: { preparation, descriptors, beta: 1 },
      home: Int32Array.of(5, 6, 7),
      copies: { start: Int32Array.of(0, 2, 2, 3), shard: Uint16Array.of(8, 9, 4) },
    } as unknown as LaidOut
    const { home, copies } = withHeldOut(laidOut, Float32Array.of(1, -1), order)
    expect([...home]).toEqual([1, 6, 0, 5, 7])
    expect(copies).toEqual({ start: Int32Array.of(0, 0, 0, 0, 2, 3), shard: Uint16Array.of(8, 9, 4) })
    expect(withHeldOut({ ...laidOut, copies: undefined }, Float32Array.of(1, -1), order).copies).toBe(
      undefined,
    )
  })
})
