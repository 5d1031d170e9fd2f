import * as fc from "fast-check"
import { describe, expect, it } from "vitest"
import { KernelMemory } from "../../../src/vectors/kernel/memory.js"
import { METRICS } from "../../../src/vectors/metric.js"
import { createRandom } from "../../../src/vectors/random.js"
import { createScanTable, NearestRows, scanMany } from "../../../src/vectors/scan.js"
import { placedBytes, placedTable, prepareRows, scratchBytes } from "../../../src/vectors/scan-table.js"

const align = (bytes: number): number => Math.ceil(bytes / 64) * 64

function randomVectors(rows: number, dim: number, seed: number): Float32Array {
  const random = createRandom(seed)
  // Coarse numbers, so that distances are equal now and then.
  return Float32Array.from({ length: rows * dim }, () => random.below(9) - 4)
}

const shape = fc.record({
  metric: fc.constantFrom(...METRICS),
  dim: fc.integer({ min: 1, max: 70 }),
  rows: fc.array(fc.integer({ min: 1, max: 300 }), { minLength: 1, maxLength: 3 }),
  k: fc.integer({ min: 1, max: 40 }),
  seed: fc.nat(1000),
  shared: fc.boolean(),
  compiled: fc.boolean(),
})

describe("tables in a memory that its owner divides", () => {
  it("are scanned as any others, by one thread and by another", () => {
    fc.assert(
      fc.property(shape, ({ metric, dim, rows, k, seed, shared, compiled }) => {
        const parts = rows.map((count, i) => randomVectors(count, dim, seed + i))
        const query = randomVectors(1, dim, seed + 7)
        query[0] = 3
        let end = 64
        const take = (bytes: number): number => {
          const at = end
          end += align(bytes)
          return at
        }
        const scratches = [take(scratchBytes(dim)), take(scratchBytes(dim))]
        const placed = rows.map((count) => ({
          metric,
          dim,
          rows: count,
          vectors: take(count * dim * 4),
          rest: take(placedBytes(metric, count, dim)),
        }))
        const pages = Math.ceil(end / 2 ** 16)
        const memory = new WebAssembly.Memory({ initial: pages, maximum: pages, shared })
        // Whatever was there before.
        new Uint8Array(memory.buffer).fill(0xa5)
        const facts = placed.map((place, i) => {
          new Float32Array(memory.buffer, place.vectors, parts[i]!.length).set(parts[i]!)
          return prepareRows(memory.buffer, place)
        })
        for (const scratch of scratches) {
          const kernel = compiled ? { memory: KernelMemory.over(memory)!, scratch } : undefined
          const nearest = new NearestRows(metric, query, dim, k)
          let first = 0
          for (const [i, place] of placed.entries()) {
            nearest.add(placedTable(memory.buffer, place, facts[i]!, kernel), first)
            first += place.rows
          }
          const all = new Float32Array(first * dim)
          for (const [i, part] of parts.entries())
            all.set(part, rows.slice(0, i).reduce((sum, count) => sum + count, 0) * dim)
          expect(nearest.takeSorted()).toEqual(scanMany(createScanTable(metric, all, dim), query, k))
        }
      }),
      { numRuns: 200 },
    )
  })

  it("may have ranks in an order of their own, which decide between equals", () => {
    const vectors = Float32Array.from([1, 1, 1, 1, 0, 1])
    const table = createScanTable("dot", vectors, 1)
    const nearest = new NearestRows("dot", Float32Array.of(1), 1, 3)
    nearest.add(table, 10, { ranks: Uint32Array.from([5, 2, 4, 0, 1, 3]) })
    expect(Array.from(nearest.takeSorted()[0]!.ranks)).toEqual([10, 12, 13])
  })

  it("see what a memory has grown by, once they are told", () => {
    const memory = new WebAssembly.Memory({ initial: 1, maximum: 3, shared: true })
    const kernel = KernelMemory.over(memory)!
    expect(kernel.bytes.length).toBe(2 ** 16)
    memory.grow(2)
    kernel.refresh()
    expect(kernel.bytes.length).toBe(3 * 2 ** 16)
  })
})
