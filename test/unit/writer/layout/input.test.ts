import { describe, expect, it } from "vitest"
import type { ResolvedCluster } from "../../../../src/sharding/cluster/options.js"
import { resolveSharding } from "../../../../src/sharding/registry.js"
import { layoutOf, readLayoutRows } from "../../../../src/writer/layout/input.js"
import { batchOf, streamOf } from "../rows/rows.js"

const GIB = 2 ** 30
const clusterOf = (layout: ResolvedCluster["layout"], shards = 2): ResolvedCluster =>
  resolveSharding({ strategy: "cluster", shards, layout, sampleRows: Math.max(4, shards) }) as ResolvedCluster

describe("the layout that so many rows get", () => {
  const of = (layout: ResolvedCluster["layout"], rows: number, memory = GIB, shards = 2) =>
    layoutOf(clusterOf(layout, shards), rows, 100, memory)

  it("is the one that was asked for as far as memory and the number of shards allow", () => {
    expect(of("plain", 10)).toBe("plain")
    expect(of("fast", 10)).toBe("fast")
    expect(of("affinity", 10)).toBe("affinity")
    expect(of("affinity", 10_000_000)).toBe("fast")
    expect(of("affinity", 10_000_000, 100 * GIB)).toBe("affinity")
    expect(of("affinity", 10_000, GIB, 4097)).toBe("fast")
    expect(of("affinity", 10, 2 ** 20)).toBe("fast")
  })

  it("is by itself plain for few rows, affinity for more, and fast beyond a million", () => {
    expect(of("auto", 1999)).toBe("plain")
    expect(of("auto", 2000)).toBe("affinity")
    expect(of("auto", 1_000_000)).toBe("affinity")
    expect(of("auto", 1_000_001, 100 * GIB)).toBe("fast")
  })
})

describe("rows that a layout is made of", () => {
  const batches = [batchOf([1, 2, 3, 4], 2), batchOf([5, 6], 2, 2), batchOf([7, 8, 9, 10], 2, 3)]
  const read = (sharding: ResolvedCluster, memoryLimit: number) => {
    const done: number[] = []
    const rows = readLayoutRows(streamOf(batches), sharding, memoryLimit, (count) => done.push(count))
    return rows.then((result) => ({ ...result, done }))
  }

  it("are all of them for affinity, in memory that threads share", async () => {
    const { vectors, done, ...rows } = await read(clusterOf("affinity"), GIB)
    expect(rows).toEqual({ rows: 5, dim: 2, layout: "affinity", notes: [] })
    expect([...vectors]).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10])
    expect(vectors.buffer).toBeInstanceOf(SharedArrayBuffer)
    expect(done).toEqual([2, 3, 5])
  })

  it("are a sample, with their numbers in the input, for fast", async () => {
    const { vectors, rowNumbers, ...rows } = await read(clusterOf("fast"), 0)
    expect(rows).toMatchObject({ rows: 5, dim: 2, layout: "fast", notes: [] })
    // Of the memory limit nothing is left for more than `sampleRows`.
    expect(rowNumbers).toHaveLength(4)
    const expected = Array.from(rowNumbers!, (row) => [2 * row + 1, 2 * row + 2]).flat()
    expect([...vectors]).toEqual(expected)
    expect(new Set(rowNumbers).size).toBe(4)
  })

  it("are a sample too where affinity does not fit, even if that shows late, and a note says why", async () => {
    // Room for two rows of dimension 2 besides what is fixed.
    const limit = 2 ** 26 + 2 * (4 * 2 + 200)
    const { rowNumbers, notes, layout } = await read(clusterOf("affinity"), limit)
    expect(layout).toBe("fast")
    expect(rowNumbers!.length).toBeGreaterThanOrEqual(4)
    expect(notes).toEqual([
      `layout affinity of 5 rows needs ${2 ** 26 + 5 * 208} bytes, the memory limit is ${limit}; fast is taken instead`,
    ])
    expect((await read(clusterOf("auto"), limit)).notes).toEqual([])
    expect((await read(clusterOf("affinity", 4097), GIB)).notes).toEqual([
      "layout affinity takes at most 4096 shards, got 4097; fast is taken instead",
    ])
  })

  it("must be there", async () => {
    await expect(readLayoutRows(streamOf([]), clusterOf("fast"), GIB, () => {})).rejects.toMatchObject({
      tag: "InvalidInput",
      message: "the input has no rows, so there is nothing to build",
    })
  })
})
