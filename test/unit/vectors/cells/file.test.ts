import { createHash } from "node:crypto"
import fc from "fast-check"
import { describe, expect, test } from "vitest"
import { type CellsFile, decodeCells, encodeCells } from "../../../../src/vectors/cells/file.js"
import { prepareCells, searchCells } from "../../../../src/vectors/cells/search.js"
import { cellSpace } from "../../../../src/vectors/cells/space.js"
import { METRICS } from "../../../../src/vectors/metric.js"
import { createRandom } from "../../../../src/vectors/random.js"
import { booksFor, cellsFileOf } from "../../../support/cells.js"

const METRIC = fc.constantFrom(...METRICS)

function make(metric: (typeof METRICS)[number], dim: number, rows: number, width: number) {
  const random = createRandom(rows)
  const vectors = Float32Array.from({ length: rows * dim }, random.gaussian)
  const space = cellSpace(metric, vectors, dim)
  const books = booksFor(space, vectors, width, { rowsPerCell: 7 })
  return { vectors, space, books, ...cellsFileOf(space, books, vectors, { rowsPerCell: 7 }) }
}

/** As a shard that is scanned whole has it. */
const withoutCodes = (file: CellsFile): CellsFile => ({
  ...file,
  starts: Uint32Array.of(0, file.rows),
  coded: undefined,
})

describe("cells.bin", () => {
  test("decodes to what was encoded, as views of the bytes", () => {
    fc.assert(
      fc.property(
        METRIC,
        fc.integer({ min: 1, max: 30 }),
        fc.integer({ min: 0, max: 150 }),
        fc.constantFrom(1, 2, 4),
        fc.boolean(),
        (metric, dim, rows, width, coded) => {
          const made = make(metric, dim, rows, width).file
          const file = coded ? made : withoutCodes(made)
          const bytes = encodeCells(file)
          const decoded = decodeCells(bytes, "cells.bin")
          expect(decoded).toEqual(file)
          expect(decoded.ranks.buffer).toBe(bytes.buffer)
          // Bytes that begin elsewhere in their buffer are copied, and mean the same.
          const moved = new Uint8Array(bytes.length + 1).subarray(1)
          moved.set(bytes)
          expect(decodeCells(moved, "cells.bin")).toEqual(decoded)
          expect(encodeCells(decoded)).toEqual(bytes)
        },
      ),
      { numRuns: 50 },
    )
  })

  test("has these bytes for these rows", () => {
    const digest = (metric: (typeof METRICS)[number]) =>
      createHash("sha256")
        .update(encodeCells(make(metric, 5, 60, 2).file))
        .digest("hex")
    expect(METRICS.map(digest)).toMatchInlineSnapshot(`
      [
        "c5b9c7cf39104a526f8f8ac24b1bca7727dac2419da032276ca8356bda0669f6",
        "955dad1439c1a81bad3224159ad532177b2a6962f4006a09f59e4f4374275fbe",
        "554454fe297089317c452e67c95659a7fc2fe5a799473556539d180d0183c7dd",
      ]
    `)
  })

  test("cut off or too long is Corrupt", () => {
    const bytes = encodeCells(make("l2", 6, 60, 2).file)
    for (let length = 0; length < bytes.length; length += length < 400 ? 1 : 61) {
      expect(() => decodeCells(bytes.slice(0, length), "cells.bin")).toThrow(
        expect.objectContaining({ tag: "Corrupt", message: expect.stringContaining("cells.bin") }),
      )
    }
    const longer = new Uint8Array(bytes.length + 16)
    longer.set(bytes)
    expect(() => decodeCells(longer, "cells.bin")).toThrow(/expected \d+ by its header/)
  })

  test("another version is Unsupported", () => {
    const bytes = encodeCells(make("dot", 3, 20, 1).file)
    bytes[8] = 2
    expect(() => decodeCells(bytes, "cells.bin")).toThrow(expect.objectContaining({ tag: "Unsupported" }))
  })

  test("with any byte changed is refused, or searched without harm", () => {
    const { vectors, space, books, file, order } = make("l2", 6, 60, 2)
    const bytes = encodeCells(file)
    const placed = new Float32Array(vectors.length)
    for (const [position, row] of order.entries())
      placed.set(vectors.subarray(row * 6, row * 6 + 6), position * 6)
    let refused = 0
    fc.assert(
      fc.property(fc.nat(bytes.length - 1), fc.integer({ min: 1, max: 255 }), (at, change) => {
        const damaged = bytes.slice()
        damaged[at]! ^= change
        let error: unknown
        try {
          const prepared = prepareCells(space, books, [{ cells: damaged, vectors: placed }])!
          const hits = searchCells(prepared, placed.subarray(0, 6), { k: 5, cells: 20, best: 60 })
          expect(hits.every(({ position }) => position < 60)).toBe(true)
        } catch (thrown) {
          error = thrown
        }
        if (error === undefined) return
        refused++
        expect(["Corrupt", "Unsupported"]).toContain((error as { tag?: string }).tag)
      }),
      { numRuns: 400 },
    )
    expect(refused).toBeGreaterThan(5)
  })
})
