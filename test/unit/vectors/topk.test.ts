import fc from "fast-check"
import { describe, expect, test } from "vitest"
import { mergeTopK, SmallestDistinct, TopK } from "../../../src/vectors/topk.js"

describe("TopK", () => {
  test("keeps the first k by (distance, rank), whatever the order of pushing", () => {
    const pairs = fc.uniqueArray(fc.tuple(fc.integer({ min: 0, max: 5 }), fc.integer({ min: 0, max: 100 })), {
      selector: ([, rank]) => rank,
    })
    fc.assert(
      fc.property(pairs, fc.integer({ min: 1, max: 20 }), (pushed, k) => {
        const top = new TopK(k)
        for (const [distance, rank] of pushed) top.push(distance, rank)
        const { ranks, distances } = top.takeSorted()
        const expected = pushed.toSorted((a, b) => a[0] - b[0] || a[1] - b[1]).slice(0, k)
        expect(Array.from(ranks, (rank, i) => [distances[i], rank])).toEqual(expected)
      }),
    )
  })

  test("tells the worst distance it keeps once it is full, and starts afresh after it was taken", () => {
    const top = new TopK(2)
    top.push(5, 0)
    expect(top.worst).toBe(Infinity)
    top.push(3, 1)
    expect(top.worst).toBe(5)
    top.push(4, 2)
    expect(top.worst).toBe(4)
    expect([...top.takeSorted().ranks]).toEqual([1, 2])
    expect(top.worst).toBe(Infinity)
    top.push(9, 7)
    expect([...top.takeSorted().ranks]).toEqual([7])
  })
})

test("SmallestDistinct tells the largest of the smallest different numbers once there are as many", () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 0, max: 9 })), fc.integer({ min: 1, max: 5 }), (pushed, count) => {
      const smallest = new SmallestDistinct(count)
      for (const [i, value] of pushed.entries()) {
        smallest.push(value)
        const different = [...new Set(pushed.slice(0, i + 1))].sort((a, b) => a - b)
        expect(smallest.worst).toBe(different[count - 1] ?? Infinity)
      }
    }),
  )
})

describe("mergeTopK", () => {
  const hit = (distance: number, id: string) => ({ distance, id })

  test("orders by distance, then shard, then id", () => {
    const merged = mergeTopK(
      [
        { shard: 7, hits: [hit(1, "a"), hit(2, "b")] },
        { shard: 3, hits: [hit(1, "y"), hit(1, "z"), hit(3, "c")] },
        { shard: 5, hits: [] },
      ],
      4,
    )
    expect(merged.map(({ shard, hit }) => [shard, hit.id])).toEqual([
      [3, "y"],
      [3, "z"],
      [7, "a"],
      [7, "b"],
    ])
  })

  test("counts an id that several shards hold once", () => {
    const merged = mergeTopK(
      [
        { shard: 1, hits: [hit(1, "a"), hit(2, "b")] },
        { shard: 0, hits: [hit(1, "a"), hit(3, "c")] },
      ],
      3,
    )
    expect(merged.map(({ shard, hit }) => [shard, hit.id])).toEqual([
      [0, "a"],
      [1, "b"],
      [0, "c"],
    ])
  })

  test("equals sorting everything", () => {
    const distances = fc.array(fc.array(fc.integer({ min: 0, max: 4 }), { maxLength: 8 }), { maxLength: 9 })
    fc.assert(
      fc.property(distances, fc.integer({ min: 1, max: 30 }), (lists, k) => {
        const shards = lists.map((list, shard) => ({
          shard,
          hits: list.toSorted().map((distance, i) => ({ distance, id: BigInt(shard * 100 + i) })),
        }))
        const expected = shards
          .flatMap(({ shard, hits }) => hits.map((one) => ({ shard, hit: one })))
          .sort((a, b) => a.hit.distance - b.hit.distance || Number(a.hit.id - b.hit.id))
          .slice(0, k)
        expect(mergeTopK(shards, k)).toEqual(expected)
      }),
    )
  })

  test("refuses a k below 1", () => {
    expect(() => mergeTopK([], 0)).toThrow("k must be an integer of 1 or more, got 0")
  })
})
