/**
 * Queries of a pool of sqlite-vec shards in this process, two threads: through cells over all shards, and
 * over all rows of the nearest eight, with 1, 4 and 16 in flight.
 *
 * ```
 * npm run words:full && npm run bench:pool [-- words | sentences]
 * ```
 *
 * Shards are clusters of a plain k-means, without copies; they are kept in .cache/pool. No routing, no
 * reader.
 */
import { existsSync } from "node:fs"
import { mkdir, readFile, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { trainCentroids } from "../src/sharding/cluster/layout/kmeans.js"
import type { ShardReader, ShardSpec } from "../src/shards/backend.js"
import { prepareQuery } from "../src/shards/query.js"
import { localDirectory } from "../src/shards/source.js"
import { buildShard } from "../src/shards/sqlite-vec/build.js"
import { createPool } from "../src/shards/sqlite-vec/pool.js"
import {
  CODEBOOK_ROWS,
  decodeCodebook,
  encodeCodebook,
  trainCodebook,
} from "../src/vectors/cells/codebook.js"
import type { CellEffort } from "../src/vectors/cells/effort.js"
import { bestPoints, createPointTable, pointScores } from "../src/vectors/kernel.js"
import { createRandom } from "../src/vectors/random.js"
import { askedSets, CELL_SETS, type CellSetName, loadCellSet } from "./cell-sets.js"
import { appendHistory } from "./history.js"
import { fromRepository } from "./paths.js"
import { round, table } from "./support.js"

const K = 10
const SECONDS = 3
const IN_FLIGHT = [1, 4, 16]
const EXACT_SHARDS = 8

const QUERIES = 1000

const rowOf = (vectors: Float32Array, dim: number, row: number) =>
  vectors.subarray(row * dim, (row + 1) * dim)

const pointsOf = (centroids: Float32Array, dim: number) =>
  createPointTable(
    centroids,
    dim,
    () => 0,
    () => 1,
  )

/** Builds the shards of a set, unless they are there. */
async function prepare(name: CellSetName, dim: number, vectors: () => Float32Array) {
  const root = fromRepository(".cache/pool", name)
  const place = (shard: number) => join(root, String(shard))
  const specOf = (file: Uint8Array): ShardSpec => {
    const codes = { codebook: decodeCodebook(file, "codebook"), sha256: new Uint8Array(32) }
    return { dim, metric: "cosine", id: { type: "string", wide: false }, fields: [], codes }
  }
  const done = join(root, "centroids.f32")
  if (!existsSync(done)) {
    const rows = vectors()
    const count = rows.length / dim
    const random = createRandom(1)
    const sample = new Float32Array(Math.min(count, CODEBOOK_ROWS) * dim)
    for (let i = 0; i * dim < sample.length; i++) sample.set(rowOf(rows, dim, random.below(count)), i * dim)
    const options = {
      metric: "cosine",
      dim,
      clusters: CELL_SETS[name].shards,
      iterations: 10,
      seed: 1,
    } as const
    const centroids = Float32Array.from(trainCentroids(sample, options).centroids)
    const book = encodeCodebook(trainCodebook("cosine", sample, dim))
    const shardOf = bestPoints(rows, pointsOf(centroids, dim))
    await mkdir(root, { recursive: true })
    await writeFile(join(root, "codes.npz"), book)
    const spec = specOf(book)
    for (let shard = 0; shard < CELL_SETS[name].shards; shard++) {
      const members = Array.from(shardOf.keys()).filter((row) => shardOf[row] === shard)
      const own = new Float32Array(members.length * dim)
      for (const [i, row] of members.entries()) own.set(rowOf(rows, dim, row), i * dim)
      await mkdir(place(shard), { recursive: true })
      const ids = members.map((row) => `row-${String(row).padStart(7, "0")}`)
      const columns = { fields: {}, payloads: members.map(() => null) }
      const content = { rows: members.length, ids: { type: "string", values: ids }, vectors: own } as const
      await buildShard({ ...content, ...columns }, place(shard), spec)
    }
    await writeFile(done, centroids)
  }
  const spec = specOf(await readFile(join(root, "codes.npz")))
  const centroids = new Float32Array(new Uint8Array(await readFile(done)).buffer)
  return { spec, centroids, place }
}

/** Queries a second, percentiles of their time in ms, and µs of processor time a query, all threads. */
async function measure(ask: (i: number) => Promise<unknown>, inFlight: number, seconds = SECONDS) {
  const times: number[] = []
  let next = 0
  const before = process.cpuUsage()
  const start = performance.now()
  const end = start + seconds * 1000
  await Promise.all(
    Array.from({ length: inFlight }, async () => {
      while (performance.now() < end) {
        const asked = performance.now()
        await ask(next++)
        times.push(performance.now() - asked)
      }
    }),
  )
  const total = (performance.now() - start) / 1000
  const { user, system } = process.cpuUsage(before)
  times.sort((a, b) => a - b)
  const at = (share: number) => round(times[Math.floor(times.length * share)]!, 2)
  return {
    perSecond: Math.round(times.length / total),
    p50: at(0.5),
    p99: at(0.99),
    µs: Math.round((user + system) / times.length),
  }
}

async function bench(name: CellSetName) {
  const { dim, vectors, queries } = await loadCellSet(name, QUERIES)
  const { spec, centroids, place } = await prepare(name, dim, () => vectors)
  const pool = createPool({ workers: 2 })
  const readers = await Promise.all(
    Array.from({ length: CELL_SETS[name].shards }, (_, shard) =>
      pool.open(localDirectory(place(shard)), spec, { kind: "cells" }),
    ),
  )
  const count = queries.length / dim
  const points = pointsOf(centroids, dim)
  const nearestShards = Array.from({ length: count }, (_, i): readonly ShardReader[] => {
    const scores = pointScores(rowOf(queries, dim, i), points)
    const order = readers.map((_, shard) => shard).sort((a, b) => scores[a]! - scores[b]!)
    return order.slice(0, EXACT_SHARDS).map((shard) => readers[shard]!)
  })
  const ask = async (i: number, shards: readonly ShardReader[], effort?: CellEffort) => {
    const query = prepareQuery(rowOf(queries, dim, i % count), K, spec, { effort })
    for (const answer of await pool.search(shards, query)) if ("error" in answer) throw answer.error
  }
  const ways: [string, (i: number) => Promise<void>][] = [
    [`all rows of ${EXACT_SHARDS} shards`, (i) => ask(i, nearestShards[i % count]!)],
  ]
  if (!process.argv.includes("--exact"))
    for (const cells of CELL_SETS[name].cells) {
      const effort = { cells, groups: Math.ceil(cells * 0.7), best: spec.codes!.codebook.best }
      ways.push([`${cells} cells`, (i) => ask(i, readers, effort)])
    }
  const figures = []
  for (const [way, query] of ways) {
    await measure(query, 16, 1.5)
    for (const inFlight of IN_FLIGHT) figures.push({ way, inFlight, ...(await measure(query, inFlight)) })
  }
  await pool.close()
  console.log(
    `\n${name}\n${table(
      Object.keys(figures[0]!),
      figures.map((row) => Object.values(row)),
    )}`,
  )
  return { set: name, figures }
}

const results = []
for (const name of askedSets()) results.push(await bench(name))
appendHistory("pool", { results })
