import * as fc from "fast-check"
import { describe, expect, it } from "vitest"
import { aligned, Ranges } from "../../../../../src/shards/sqlite-vec/memory/ranges.js"

describe("ranges of a memory", () => {
  it("are taken from the first place that fits, and joined when they are given back", () => {
    const ranges = new Ranges(64, 1024)
    const [a, b, c] = [ranges.take(100), ranges.take(64), ranges.take(1)] as [number, number, number]
    expect([a, b, c]).toEqual([64, 192, 256])
    expect(ranges.touched).toBe(256)
    ranges.give(a, 100)
    ranges.give(b, 64)
    expect(ranges.growthFor(192)).toBe(0)
    expect(ranges.take(192)).toBe(64)
    expect(ranges.taken).toBe(256)
  })

  it("grow at the end by no more than is missing there", () => {
    const ranges = new Ranges(0, 640)
    const [, b] = [ranges.take(64), ranges.take(64)] as [number, number]
    ranges.give(b, 64)
    expect(ranges.growthFor(192)).toBe(128)
    expect(ranges.take(192)).toBe(64)
    expect(ranges.end).toBe(256)
  })

  it("end where the memory does", () => {
    const ranges = new Ranges(0, 128)
    expect(ranges.growthFor(129)).toBeUndefined()
    expect(ranges.take(129)).toBeUndefined()
    expect(ranges.take(128)).toBe(0)
    expect(ranges.take(1)).toBeUndefined()
    expect(ranges.taken).toBe(128)
  })

  it("that are free cannot be given back", () => {
    const ranges = new Ranges(0, 1024)
    const at = ranges.take(128)!
    ranges.take(64)
    ranges.give(at, 128)
    expect(() => ranges.give(at, 64)).toThrow("64 bytes at 0 are given back that are not taken")
    expect(() => ranges.give(at + 64, 128)).toThrow("are not taken")
    expect(() => ranges.give(512, 64)).toThrow("are not taken")
  })

  it("never overlap, cost what they say, and are all one again in the end", () => {
    const step = fc.record({ bytes: fc.integer({ min: 1, max: 2000 }), gives: fc.boolean(), which: fc.nat() })
    fc.assert(
      fc.property(fc.array(step, { maxLength: 100 }), (steps) => {
        const most = 64 * 200
        const ranges = new Ranges(64, most)
        const held: { at: number; bytes: number }[] = []
        for (const { bytes, gives, which } of steps) {
          if (gives && held.length > 0) {
            const [gone] = held.splice(which % held.length, 1)
            ranges.give(gone!.at, gone!.bytes)
          } else {
            const growth = ranges.growthFor(bytes)
            const before = ranges.touched
            const at = ranges.take(bytes)
            expect(at === undefined).toBe(growth === undefined)
            if (at === undefined) continue
            expect(ranges.touched - before).toBe(growth)
            expect(at % 64).toBe(0)
            expect(at + aligned(bytes)).toBeLessThanOrEqual(most)
            for (const other of held)
              expect(at + aligned(bytes) <= other.at || other.at + aligned(other.bytes) <= at).toBe(true)
            held.push({ at, bytes })
          }
          expect(ranges.taken).toBe(held.reduce((sum, range) => sum + aligned(range.bytes), 0))
        }
        for (const { at, bytes } of held) ranges.give(at, bytes)
        expect(ranges.taken).toBe(0)
        expect(ranges.take(most - 64)).toBe(64)
      }),
      { numRuns: 300 },
    )
  })
})
