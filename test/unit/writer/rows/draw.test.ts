import fc from "fast-check"
import { describe, expect, it } from "vitest"
import type { IdColumn } from "../../../../src/records.js"
import { DrawnRows, drawKeys, idHashes, LowestKeys, orderByKey } from "../../../../src/writer/rows/draw.js"

const columnOf = (ids: readonly string[]): IdColumn => ({ type: "string", values: ids })
const keysOf = (ids: readonly string[], seed = 1): Float64Array => drawKeys(idHashes(columnOf(ids)), seed)
const numbered = (count: number): string[] => Array.from({ length: count }, (_, i) => `row ${i}`)

describe("keys of rows", () => {
  it("are what other programs can repeat, of 53 bits, the same for an id whatever its batch", () => {
    // Murmur3's finaliser over both halves of XXH3-64, computed by an independent program.
    expect([...keysOf(["a", "b"], 1)]).toEqual([3858467242184759, 5905548323576361])
    const integers: IdColumn = { type: "int64", values: BigInt64Array.of(7n, -7n) }
    expect([...drawKeys(idHashes(integers), 2)]).toEqual([605484527546258, 3255108050955496])
    const ids = numbered(1000)
    const keys = keysOf(ids)
    expect([...keysOf(ids.slice(400, 410))]).toEqual([...keys.slice(400, 410)])
    expect(new Set(keys).size).toBe(1000)
    expect(keys.every((key) => Number.isSafeInteger(key) && key >= 0)).toBe(true)
  })

  it("are spread evenly, and otherwise for another seed", () => {
    const ids = numbered(10_000)
    const [one, two] = [1, 2].map((seed) => orderByKey(keysOf(ids, seed)).subarray(0, 1000))
    // A tenth of the lowest of one seed are among those of another: 100, with a deviation of 9.
    const both = one!.filter((row) => two!.includes(row)).length
    expect(Math.abs(both - 100)).toBeLessThan(50)
    const inFirstHalf = one!.filter((row) => row < 5000).length
    expect(Math.abs(inFirstHalf - 500)).toBeLessThan(80)
    const keys = keysOf(ids)
    for (const bits of [2 ** 52, 2 ** 26, 1]) {
      const set = keys.filter((key) => Math.floor(key / bits) % 2 === 1).length
      expect(Math.abs(set - 5000), `bit of ${bits}`).toBeLessThan(250)
    }
  })
})

describe("the lowest keys", () => {
  it("are those that sorting finds, the first of equal ones, each in a slot of its own", () => {
    fc.assert(
      fc.property(fc.array(fc.nat(30), { maxLength: 80 }), fc.nat(40), (keys, most) => {
        const lowest = new LowestKeys(most)
        const rowOf: number[] = []
        for (const [row, key] of keys.entries()) {
          const slot = lowest.offer(key, row)
          if (slot >= 0) rowOf[slot] = row
        }
        const expected = [...orderByKey(Float64Array.from(keys))].slice(0, most)
        expect(Array.from(lowest.sorted(), (slot) => rowOf[slot])).toEqual(expected)
        expect(lowest.size).toBe(expected.length)
      }),
    )
  })

  it("find room for many", () => {
    const lowest = new LowestKeys(5000)
    for (let row = 0; row < 20_000; row++) lowest.offer((row * 7919) % 20_011, row)
    expect(new Set(lowest.sorted()).size).toBe(5000)
  })
})

describe("drawn rows", () => {
  it("are the same, in the same order, however rows are ordered and batched", () => {
    const ROWS = 3000
    const ids = numbered(ROWS)
    const draw = (rows: readonly number[], batch: number, most: number) => {
      const drawn = new DrawnRows(most, 2)
      for (let from = 0; from < rows.length; from += batch) {
        const some = rows.slice(from, from + batch)
        const vectors = Float32Array.from(some.flatMap((row) => [row, -row]))
        drawn.add(vectors, keysOf(some.map((row) => ids[row]!)))
      }
      expect(drawn.seen).toBe(ROWS)
      return drawn
    }
    const inOrder = [...ids.keys()]
    fc.assert(
      fc.property(
        fc.shuffledSubarray(inOrder, { minLength: ROWS }),
        fc.integer({ min: 1, max: ROWS }),
        fc.integer({ min: 1, max: 2 * ROWS }),
        fc.nat(ROWS),
        (shuffled, batch, most, skipped) => {
          const expected = [
            ...orderByKey(keysOf(ids))
              .subarray(0, most)
              .subarray(skipped, skipped + 100),
          ]
          const taken = draw(shuffled, batch, most).take(skipped, 100)
          expect([...taken]).toEqual(expected.flatMap((row) => [row, -row]))
          expect([...draw(inOrder, ROWS, most).take(skipped, 100)]).toEqual([...taken])
        },
      ),
      { numRuns: 20 },
    )
  })
})
