/**
 * Searches through cells in memory, one thread: what codes of each width keep of the true ten, and what a
 * query costs by stage, in µs of processor time.
 *
 * ```
 * npm run words:full && npm run bench:cells [-- words | sentences]
 * ```
 *
 * Shards are clusters of a plain k-means, without copies, and all of them are asked: the figures are those
 * of cells and codes alone. Queries of the words are rows held out.
 */
import { trainCentroids } from "../src/sharding/cluster/layout/kmeans.js"
import {
  CODEBOOK_ROWS,
  decodeCodebook,
  encodeCodebook,
  trainCodebook,
} from "../src/vectors/cells/codebook.js"
import { encodeCells } from "../src/vectors/cells/file.js"
import { type PreparedCells, prepareCells, searchCells } from "../src/vectors/cells/search.js"
import { shardCells } from "../src/vectors/cells/shard.js"
import { bestPoints, createPointTable } from "../src/vectors/kernel.js"
import { createRandom } from "../src/vectors/random.js"
import { allocateVectors, createScanTable, scanMany } from "../src/vectors/scan.js"
import { askedSets, CELL_SETS, type CellSet, type CellSetName, loadCellSet } from "./cell-sets.js"
import { appendHistory } from "./history.js"
import { round, table } from "./support.js"

const K = 10
const BESTS = [30, 50, 70, 100, 150, 200, 300, 400]
const ROUNDS = 9

type DataSet = CellSet & (typeof CELL_SETS)[CellSetName]

const QUERIES = 500

const rowOf = (vectors: Float32Array, dim: number, row: number) =>
  vectors.subarray(row * dim, (row + 1) * dim)

function pick(vectors: Float32Array, dim: number, rows: ArrayLike<number>): Float32Array {
  const out = new Float32Array(rows.length * dim)
  for (let i = 0; i < rows.length; i++) out.set(rowOf(vectors, dim, rows[i]!), i * dim)
  return out
}

/** Seconds of processor time, all threads. */
const processorSeconds = () => {
  const { user, system } = process.cpuUsage()
  return (user + system) / 1e6
}

function timed<T>(work: () => T): { result: T; seconds: number } {
  const start = processorSeconds()
  const result = work()
  return { result, seconds: round(processorSeconds() - start, 2) }
}

function benchWidth(
  set: DataSet,
  members: readonly Int32Array[],
  sample: Float32Array,
  nearest: Int32Array[],
  width?: 1 | 2 | 4,
) {
  const { dim, vectors, queries } = set
  const training = timed(() => trainCodebook("cosine", sample, dim, { width }))
  const file = encodeCodebook(training.result)
  const { space, books, best, rowsPerCell, mostCells } = decodeCodebook(file, "codebook")
  const encoding = timed(() =>
    members.map((rows) => {
      const own = pick(vectors, dim, rows)
      const { order, starts, coded } = shardCells(space, books, own, { rowsPerCell, mostCells })
      const none = new Uint8Array(0)
      const home = new Uint8Array(Math.ceil(rows.length / 8))
      const database = { bytes: 0, sums: none, pages: none }
      const codebook = new Uint8Array(32)
      const cells = encodeCells({
        rows: rows.length,
        dim,
        codebook,
        starts,
        coded,
        home,
        ranks: order,
        database,
      })
      return { cells, vectors: pick(own, dim, order), rows: order.map((row) => rows[row]!) }
    }),
  )
  const shards = encoding.result
  const prepared = prepareCells(space, books, shards)
  if (prepared === undefined) throw new Error("this benchmark needs the compiled kernels")
  const bytes = shards.reduce((sum, shard) => sum + shard.cells.length, 0)
  console.log(
    `\n${set.name}, width ${books.width}${width === undefined ? " (chosen)" : ""}: best ${best}, ${round(bytes / 1e6, 1)} MB of cells; codebook ${file.length} bytes in ${training.seconds} s, cells and codes ${encoding.seconds} s`,
  )
  const found = (i: number, options: Parameters<typeof searchCells>[2]) =>
    new Set(
      searchCells(prepared, rowOf(queries, dim, i), options).map(
        ({ shard, position }) => shards[shard]!.rows[position]!,
      ),
    )
  const count = nearest.length
  const rows = set.cells.map((cells) => {
    const scanned = nearest.map((rows, i) => {
      const all = found(i, { k: K, cells, best: 4000 })
      return Array.from(rows).filter((row) => all.has(row))
    })
    const inCells = scanned.reduce((sum, rows) => sum + rows.length, 0)
    const shares = BESTS.map((best) => {
      const kept = scanned.reduce((sum, rows, i) => {
        const some = found(i, { k: K, cells, best })
        return sum + rows.filter((row) => some.has(row)).length
      }, 0)
      return [`best ${best}`, round(kept / inCells, 4)] as const
    })
    const groups = Math.ceil(cells * 0.7)
    const hits = nearest.reduce((sum, rows, i) => {
      const some = found(i, { k: K, cells, groups, best })
      return sum + Array.from(rows).filter((row) => some.has(row)).length
    }, 0)
    const stages = benchStages(prepared, queries, { cells, groups, best })
    return {
      cells,
      ...Object.fromEntries(shares),
      inCells: round(inCells / K / count, 3),
      whole: round(hits / K / count, 3),
      ...stages,
    }
  })
  console.log(
    table(
      Object.keys(rows[0]!),
      rows.map((row) => Object.values(row) as number[]),
    ),
  )
  return {
    set: set.name,
    width: books.width,
    best,
    bytes,
    training: training.seconds,
    encoding: encoding.seconds,
    rows,
  }
}

/** Rows a query, and µs of processor time by stage: medians of rounds in turn. */
function benchStages(
  prepared: PreparedCells,
  queries: Float32Array,
  options: { readonly cells: number; readonly groups: number; readonly best: number },
) {
  const { dim } = prepared.space
  const count = queries.length / dim
  const records = prepared.shards.flatMap(({ record }) => record ?? [])
  const find = (i: number, cells: number) =>
    prepared.scan!.find(records, rowOf(queries, dim, i), { ...options, cells })
  const stages = {
    cells: (i: number) => find(i, 1),
    scan: (i: number) => find(i, options.cells),
    all: (i: number) => searchCells(prepared, rowOf(queries, dim, i), { ...options, k: K }),
  }
  const times = { cells: [] as number[], scan: [] as number[], all: [] as number[] }
  for (let turn = -1; turn < ROUNDS; turn++) {
    for (const stage of Object.keys(stages) as (keyof typeof stages)[]) {
      const start = processorSeconds()
      for (let i = 0; i < count; i++) stages[stage](i)
      if (turn >= 0) times[stage].push(((processorSeconds() - start) * 1e6) / count)
    }
  }
  const median = (all: number[]) => all.sort((a, b) => a - b)[ROUNDS >> 1]!
  const [cells, scan, all] = [median(times.cells), median(times.scan), median(times.all)]
  let rows = 0
  let left = 0
  for (let i = 0; i < count; i++) {
    const found = find(i, options.cells)
    rows += found.rows / count
    left += found.candidates.length / 2 / count
  }
  return {
    rows: Math.round(rows),
    left: Math.round(left),
    "µs cells": round(cells, 1),
    "µs scan": round(scan - cells, 1),
    "µs exact": round(all - scan, 1),
    µs: round(all, 1),
  }
}

const figures = []
for (const name of askedSets()) {
  const set = { ...(await loadCellSet(name, QUERIES)), ...CELL_SETS[name] }
  const { dim, vectors, queries } = set
  const random = createRandom(1)
  const count = vectors.length / dim
  const sample = pick(
    vectors,
    dim,
    Int32Array.from({ length: Math.min(count, CODEBOOK_ROWS) }, () => random.below(count)),
  )
  const { centroids } = trainCentroids(sample, {
    metric: "cosine",
    dim,
    clusters: set.shards,
    iterations: 10,
    seed: 1,
  })
  const shardOf = bestPoints(
    vectors,
    createPointTable(
      centroids,
      dim,
      () => 0,
      () => 1,
    ),
  )
  const members = Array.from({ length: set.shards }, (_, shard) =>
    Int32Array.from(shardOf.keys()).filter((row) => shardOf[row] === shard),
  )
  const inKernel = allocateVectors("cosine", count, dim)
  inKernel.set(vectors)
  const truth = scanMany(createScanTable("cosine", inKernel, dim), queries, K).map(({ ranks }) => ranks)
  for (const width of [undefined, 1, 2, 4] as const)
    figures.push(benchWidth(set, members, sample, truth, width))
}
appendHistory("cells", { figures })
