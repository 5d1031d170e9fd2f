import * as fc from "fast-check"
import { afterEach, describe, expect, it, vi } from "vitest"
import { Arenas, type Place, sharingHere } from "../../../../../src/shards/sqlite-vec/memory/arenas.js"

const MIB = 2 ** 20

afterEach(() => vi.unstubAllEnvs())

describe("arenas", () => {
  it("are shared memories that grow with what is taken", () => {
    const arenas = new Arenas("shared", 100 * MIB)
    const place = arenas.take("rows", 10 * MIB)!
    const { memory, sizeBytes } = place.arena
    expect(memory!.buffer).toBeInstanceOf(SharedArrayBuffer)
    expect(memory!.buffer.byteLength).toBe(sizeBytes)
    expect(sizeBytes).toBeGreaterThanOrEqual(place.at + place.bytes)
    expect(sizeBytes).toBeLessThan(16 * MIB)
  })

  it("exceed their budget for nothing but what must be had, and know nothing of what does not count", () => {
    const arenas = new Arenas("private", MIB)
    expect(arenas.take("rows", MIB + 64)).toBeUndefined()
    const place = arenas.take("rows", MIB)!
    expect(arenas.take("rows", 64)).toBeUndefined()
    expect(arenas.take("cells", 64, { mustHave: true })).toBeDefined()
    const scratch = arenas.take("rows", 5 * MIB, { within: place.arena, counts: false })!
    expect(arenas.bytes).toBe(MIB + 64)
    arenas.give(scratch, { counts: false })
    arenas.give(place)
    expect(arenas.take("rows", MIB)).toBeUndefined()
  })

  it("use again what was given back, without growing", () => {
    const arenas = new Arenas("private", 3 * MIB)
    const [a] = [arenas.take("rows", MIB)!, arenas.take("rows", MIB)!]
    arenas.give(a)
    expect(arenas.bytes).toBe(2 * MIB)
    expect(arenas.take("rows", MIB / 2)!.at).toBe(a.at)
    expect(arenas.take("rows", MIB / 2)!.at).toBe(a.at + MIB / 2)
    expect(arenas.bytes).toBe(2 * MIB)
  })

  it("are dropped when nothing is left in them, but for the last of a kind", () => {
    const arenas = new Arenas("private", 8192 * MIB)
    const first = arenas.take("rows", 700 * MIB)!
    const second = arenas.take("rows", 700 * MIB)!
    expect(second.arena.id).not.toBe(first.arena.id)
    // What a thread works with does not keep it.
    arenas.take("rows", MIB, { within: first.arena, counts: false })
    arenas.give(first)
    expect(arenas.all.map(({ id }) => id)).toEqual([second.arena.id])
    arenas.give(second)
    expect(arenas.all.map(({ id }) => id)).toEqual([second.arena.id])
    expect(arenas.take("rows", MIB)!.arena.id).toBe(second.arena.id)
  })

  it("are as large as one shard needs, and no larger than a memory can be", () => {
    const arenas = new Arenas("private", 2 ** 40)
    expect(arenas.take("rows", 3000 * MIB)).toBeDefined()
    expect(arenas.take("rows", 4096 * MIB)).toBeUndefined()
  })

  it("have room for what threads work with, however full they are", () => {
    const arenas = new Arenas("private", 2 ** 40)
    let last: Place | undefined
    for (;;) {
      const place = arenas.take("rows", 100 * MIB)!
      if (last !== undefined && place.arena !== last.arena) break
      last = place
    }
    expect(arenas.take("rows", 8 * MIB, { within: last.arena, counts: false })).toBeDefined()
  })

  it("never exceed their budget, whatever is taken and given", () => {
    const step = fc.record({
      bytes: fc.integer({ min: 1, max: 400 * MIB }),
      which: fc.nat(),
      gives: fc.boolean(),
    })
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), fc.integer({ min: 0, max: 3000 }), (steps, mib) => {
        const arenas = new Arenas("private", mib * MIB)
        const held: Place[] = []
        for (const { bytes, which, gives } of steps) {
          if (gives && held.length > 0) arenas.give(held.splice(which % held.length, 1)[0]!)
          else {
            const place = arenas.take("rows", bytes)
            if (place !== undefined) held.push(place)
          }
          expect(arenas.bytes).toBeLessThanOrEqual(mib * MIB)
          for (const { arena, at, bytes: size } of held) {
            expect(arenas.all).toContain(arena)
            expect(at + size).toBeLessThanOrEqual(arena.sizeBytes)
          }
        }
      }),
      { numRuns: 100 },
    )
  })

  it("are not shared where the environment says so", () => {
    expect(sharingHere()).toBe("shared")
    vi.stubEnv("VECSNAP_SHARED_MEMORY", "off")
    expect(sharingHere()).toBe("private")
  })
})
