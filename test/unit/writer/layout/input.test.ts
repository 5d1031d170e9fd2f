import fc from "fast-check"
import { describe, expect, it, test } from "vitest"
import type { ResolvedCluster } from "../../../../src/sharding/cluster/options.js"
import { resolveSharding } from "../../../../src/sharding/registry.js"
import { layoutOf, readLayoutRows, reorderRows } from "../../../../src/writer/layout/input.js"
import { drawKeys, idHashes, orderByKey } from "../../../../src/writer/rows/draw.js"
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
  const none = { wanted: 0, seed: 1 }
  const read = async (sharding: ResolvedCluster, memoryLimit: number, holdOut = none, rows = batches) => {
    const done: number[] = []
    const onRows = (count: number) => done.push(count)
    const result = await readLayoutRows(streamOf(rows), { sharding, memoryLimit, holdOut, onRows })
    return { ...result, done }
  }
  const byKey = [...orderByKey(drawKeys(idHashes(batchOf(Array(5).fill(0), 1).ids), none.seed))]
  const vectorsOf = (rows: readonly number[]) => rows.flatMap((row) => [2 * row + 1, 2 * row + 2])

  it("are all of them for affinity, by rising key and in memory that threads share", async () => {
    const { vectors, all, done, ...rows } = await read(clusterOf("affinity"), GIB)
    expect(rows).toEqual({ rows: 5, heldOutRows: 0, dim: 2, layout: "affinity", notes: [] })
    expect([...vectors]).toEqual(vectorsOf(byKey))
    expect([...all!.order]).toEqual(byKey)
    expect(all!.heldOut).toHaveLength(0)
    expect(vectors.buffer).toBeInstanceOf(SharedArrayBuffer)
    expect(done).toEqual([2, 3, 5])
  })

  it("are those of the lowest keys for fast", async () => {
    const { vectors, all, ...rows } = await read(clusterOf("fast"), 0)
    expect(rows).toMatchObject({ rows: 5, dim: 2, layout: "fast", notes: [] })
    expect(all).toBe(undefined)
    // Of the memory limit nothing is left for more than `sampleRows`.
    expect([...vectors]).toEqual(vectorsOf(byKey.slice(0, 4)))
    expect(vectors.buffer).toBeInstanceOf(SharedArrayBuffer)
  })

  it("are those of the next keys where some are held out, whatever layout takes them", async () => {
    const rows = Array.from({ length: 5 }, (_, i) => batchOf(Array(100).fill(i), 1, 100 * i))
    const keys = drawKeys(
      idHashes({ type: "string", values: rows.flatMap(({ ids }) => ids.values as string[]) }),
      3,
    )
    const expected = [...orderByKey(keys)].map((row) => Math.floor(row / 100))
    const holdOut = { wanted: 22, seed: 3 }
    const fast = await read(clusterOf("fast"), 0, holdOut, rows)
    expect(fast.heldOutRows).toBe(22)
    expect([...fast.vectors]).toEqual(expected.slice(22, 26))
    const auto = await read(clusterOf("auto"), GIB, holdOut, rows)
    expect([auto.layout, ...auto.vectors]).toEqual(["plain", ...expected.slice(22, 26)])
    const { vectors, all } = await read(clusterOf("affinity"), GIB, holdOut, rows)
    expect([...all!.heldOut, ...vectors]).toEqual(expected)
  })

  it("are a sample too where affinity does not fit, even if that shows late, and a note says why", async () => {
    // Room for two rows of dimension 2 besides what is fixed.
    const limit = 2 ** 26 + 2 * (4 * 2 + 200)
    const { vectors, notes, layout } = await read(clusterOf("affinity"), limit)
    expect(layout).toBe("fast")
    expect([...vectors]).toEqual(vectorsOf(byKey))
    expect(notes).toEqual([
      `layout affinity of 5 rows needs ${2 ** 26 + 5 * 208} bytes, the memory limit is ${limit}; fast is taken instead`,
    ])
    const onRows = () => {}
    const known = {
      sharding: clusterOf("affinity"),
      memoryLimit: limit,
      holdOut: none,
      expectedRows: 5,
      onRows,
    }
    expect(await readLayoutRows(streamOf(batches), known)).toMatchObject({ layout, vectors, notes })
    expect((await read(clusterOf("auto"), limit)).notes).toEqual([])
    expect((await read(clusterOf("affinity", 4097), GIB)).notes).toEqual([
      "layout affinity takes at most 4096 shards, got 4097; fast is taken instead",
    ])
  })

  it("must be there", async () => {
    await expect(read(clusterOf("fast"), GIB, none, [])).rejects.toMatchObject({
      tag: "InvalidInput",
      message: "the input has no rows, so there is nothing to build",
    })
  })
})

test("rows move in place to where an order wants them", () => {
  const orders = fc
    .integer({ min: 1, max: 40 })
    .chain((rows) => fc.shuffledSubarray([...Array(rows).keys()], { minLength: rows }))
  fc.assert(
    fc.property(orders, (order) => {
      const vectors = Float32Array.from({ length: 2 * order.length }, (_, i) => i)
      reorderRows(vectors, 2, Uint32Array.from(order))
      expect([...vectors]).toEqual(order.flatMap((row) => [2 * row, 2 * row + 1]))
    }),
  )
})
