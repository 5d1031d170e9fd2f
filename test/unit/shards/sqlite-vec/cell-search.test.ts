import fc from "fast-check"
import { describe, expect, test } from "vitest"
import type { ShardSpec } from "../../../../src/shards/backend.js"
import { CellSearch } from "../../../../src/shards/sqlite-vec/cell-search.js"
import {
  candidatesFor,
  cellScratch,
  limitsFor,
  rowScratch,
} from "../../../../src/shards/sqlite-vec/memory/scratch.js"
import { PoolShard } from "../../../../src/shards/sqlite-vec/memory/shard.js"
import { Store } from "../../../../src/shards/sqlite-vec/memory/store.js"
import type { OpenShard } from "../../../../src/shards/sqlite-vec/open.js"
import { searchShards } from "../../../../src/shards/sqlite-vec/search.js"
import { WorkerMemory } from "../../../../src/shards/sqlite-vec/worker-memory.js"
import type { CellEffort } from "../../../../src/vectors/cells/effort.js"
import { decodeCells } from "../../../../src/vectors/cells/file.js"
import {
  type CellHit,
  type CellShard,
  prepareCells,
  searchCells,
} from "../../../../src/vectors/cells/search.js"
import { cellSpace } from "../../../../src/vectors/cells/space.js"
import { METRICS, type Metric } from "../../../../src/vectors/metric.js"
import { createRandom } from "../../../../src/vectors/random.js"
import { createScanTable } from "../../../../src/vectors/scan.js"
import { booksFor, cellShardOf } from "../../../support/cells.js"

interface Case {
  readonly metric: Metric
  readonly dim: number
  readonly width: 1 | 2 | 4
  readonly sizes: readonly number[]
  readonly seed: number
  /** Vectors that the budget has room for, of all. */
  readonly inMemory: number
  /** Of how many rows the first ones are in all shards. */
  readonly copies: number
}

const CASES: fc.Arbitrary<Case> = fc.record({
  metric: fc.constantFrom(...METRICS),
  dim: fc.oneof(fc.integer({ min: 1, max: 20 }), fc.constantFrom(31, 100)),
  width: fc.constantFrom(1, 2, 4),
  sizes: fc.array(fc.integer({ min: 1, max: 150 }), { minLength: 1, maxLength: 4 }),
  seed: fc.nat(),
  inMemory: fc.constantFrom(0, 1, 3),
  copies: fc.constantFrom(0, 0, 5),
})

/** An open file of a shard, by its cells and its rows by position. */
function opened(
  name: string,
  spec: ShardSpec,
  { cells, vectors }: CellShard,
  ids: readonly string[],
): OpenShard {
  const file = decodeCells(cells, name)
  const { rows } = file
  const positions = new Uint32Array(rows)
  for (const [position, rank] of file.ranks.entries()) positions[rank] = position
  const { dim, metric } = spec
  const at = (position: number) => vectors.subarray(position * dim, (position + 1) * dim)
  const readStored = (some: Uint32Array) => {
    const out = new Float32Array(some.length * dim)
    for (const [i, position] of some.entries()) out.set(at(position), i * dim)
    return out
  }
  return {
    file: name,
    spec,
    rows,
    cells: { ...file, bytes: cells, positions },
    readRecord: (row) => [ids[row], null],
    findRow: (id) => ids.indexOf(String(id)),
    readVector: (row) => at(positions[row]!).slice(),
    readVectors: (first, count) => readStored(positions.slice(first, first + count)),
    readStored,
    blocks: () => [{ firstRow: 0, ranks: file.ranks, table: createScanTable(metric, vectors, dim) }],
    fill: (target) => {
      target.set(vectors)
      return undefined
    },
    close: () => {},
  }
}

/** Shards in a store and a worker's memory, as pool and worker have them, in one thread. */
async function setUp({ metric, dim, width, sizes, seed, inMemory, copies }: Case) {
  const random = createRandom(seed)
  const rows = sizes.reduce((sum, size) => sum + size, 0)
  const vectors = Float32Array.from({ length: (rows + 2) * dim }, () => random.gaussian())
  const shared = vectors.slice(0, copies * dim)
  const space = cellSpace(metric, vectors.subarray(0, rows * dim), dim)
  const books = booksFor(space, vectors.subarray(0, rows * dim), width, { rowsPerCell: 10 })
  let first = 0
  const ids: string[][] = []
  const parts = sizes.map((size, shard) => {
    const part = vectors.slice(first * dim, (first + size) * dim)
    part.set(shared.subarray(0, Math.min(shared.length, part.length)))
    first += size
    ids.push(Array.from({ length: size }, (_, row) => (row < copies ? `copy ${row}` : `${shard} ${row}`)))
    return part
  })
  const cellShards = parts.map((part) => cellShardOf(space, books, part, { rowsPerCell: 10 }))
  const codebook = { space, books, rowsPerCell: 10, mostCells: 128, best: 100, error: 0 }
  const codes = { codebook, sha256: new Uint8Array(32) }
  const spec: ShardSpec = { metric, dim, id: { type: "string", wide: false }, fields: [], codes }
  const files = cellShards.map((shard, i) => opened(`shard ${i}`, spec, shard, ids[i]!))

  const store = new Store("private", Math.floor(inMemory * (rows * dim * 4 + 200 * sizes.length)))
  const memory = new WorkerMemory(({ handle }) => files[handle]!)
  const shards = files.map(({ file, rows: count, cells }, handle) => {
    const shard = new PoolShard(handle, file, spec, undefined)
    shard.rows = count
    shard.cells = { bytes: cells!.bytes.length, count: cells!.starts.length - 1 }
    return shard
  })
  const tell = () =>
    memory.tell({
      arenas: store.arenas.all.map(({ id, sizeBytes }) => ({ id, sizeBytes, memory: undefined })),
      goneArenas: [],
      shards: shards.map((shard) => {
        const { handle, file, rows: count } = shard
        return { handle, file, spec, rows: count, places: store.placesOf(shard) }
      }),
    })
  for (const shard of shards) {
    await store.prepare(shard, { vectors: true, table: false, cells: true }, ({ handle }, places) => {
      tell()
      return { loaded: Promise.resolve(memory.shard(handle).load(places)), gone: async () => {} }
    })
  }
  const search = new CellSearch(memory)
  const thread = {}
  return {
    prepared: prepareCells(space, books, cellShards, { mostBest: 1000 })!,
    queries: [vectors.slice(rows * dim, (rows + 1) * dim), vectors.slice((rows + 1) * dim)],
    ids,
    ranks: cellShards.map(({ order }) => order),
    heldVectors: shards.filter((shard) => store.arenaOfVectors(shard) !== undefined).length,
    ask(query: Float32Array, k: number, effort: CellEffort) {
      const cells = shards.reduce((sum, shard) => sum + shard.cells!.count, 0)
      const limits = limitsFor(shards.length, cells, candidatesFor(k, effort))
      const scratches = store.arenas.all.map((arena) => {
        const { bytes } = arena.kind === "cells" ? cellScratch(codes, limits) : rowScratch(dim)
        return store.scratch(thread, arena, bytes).address
      })
      tell()
      memory.setScratches(scratches)
      const asked = shards.map(({ handle }) => memory.shard(handle))
      return searchShards(asked, query, k, search.find(asked, { query, k, limits }, effort))
    },
  }
}

describe("a search through cells of shards that are in memory", () => {
  test("finds what the reference finds, wherever rows are, and k records where some are copies", async () => {
    await fc.assert(
      fc.asyncProperty(
        CASES,
        fc.integer({ min: 1, max: 40 }),
        fc.record({
          cells: fc.integer({ min: 1, max: 40 }),
          groups: fc.option(fc.integer({ min: 1, max: 6 }), { nil: undefined }),
          best: fc.integer({ min: 1, max: 200 }),
        }),
        async (given, k, effort) => {
          const { prepared, queries, ids, ranks, ask } = await setUp(given)
          for (const query of queries) {
            const best = candidatesFor(k, effort)
            const some = searchCells(prepared, query, { ...effort, k: 10_000, best })
            const idOf = ({ shard, position }: CellHit) => ids[shard]![ranks[shard]![position]!]!
            // Where that is less than k records, all rows are looked at.
            const isEnough = new Set(some.map(idOf)).size >= k
            const all = isEnough ? some : searchCells(prepared, query, { cells: "all", k: 10_000 })
            // The k nearest records, and copies of them as near as the last.
            const seen = new Set<string>()
            const expected: { shard: number; id: string; distance: number }[] = []
            let kth = Infinity
            for (const hit of all) {
              if (hit.distance > kth) break
              const id = idOf(hit)
              expected.push({ shard: hit.shard, id, distance: hit.distance })
              if (seen.add(id).size === k) kth = hit.distance
            }
            const { hits, ends } = ask(query, k, effort)
            const found = hits.ids.map((id, i) => ({
              shard: ends.findIndex((end) => i < end),
              id: String(id),
              distance: hits.distances[i]!,
            }))
            const inShards = expected.toSorted((a, b) => a.shard - b.shard)
            expect(found).toEqual(inShards)
          }
        },
      ),
      { numRuns: 60 },
    )
  })

  test("reads rows from the file where there is no memory for them", async () => {
    const given: Case = {
      metric: "cosine",
      dim: 9,
      width: 1,
      sizes: [80, 90],
      seed: 3,
      inMemory: 0,
      copies: 0,
    }
    const { heldVectors, ask, queries } = await setUp(given)
    expect(heldVectors).toBe(0)
    expect(ask(queries[0]!, 5, { cells: 100, best: 200 }).hits.ids).toHaveLength(5)
  })

  test.each([1, 1000])("finds %d, though fewer candidates are asked for", async (k) => {
    const given: Case = { metric: "l2", dim: 6, width: 2, sizes: [900, 700], seed: 5, inMemory: 1, copies: 0 }
    const { ask, queries } = await setUp(given)
    expect(ask(queries[0]!, k, { rows: 1600, best: 1 }).hits.ids).toHaveLength(k)
  })
})
