/**
 * The inner loops against their peers, one thread, all in one run:
 *
 * ```
 * npm run bench:kernel
 * ```
 *
 * Scans of 20,000 rows, top 10: the compiled kernel over a table in its own memory, over one elsewhere
 * (copied piece by piece), and for 64 queries at a time; the plain loop; sqlite-vec's own search; usearch's
 * exact search where that package is to be found (it is no dependency: `npm install --no-save usearch`, or
 * elsewhere with NODE_PATH). Beside them, how fast this machine reads memory and what share of that the scan
 * reaches. Then rows assigned to points: the kernel, the plain loop, and a loop over arrays of arrays as
 * JavaScript packages for k-means have them. Every figure is the median of interleaved rounds: what else the
 * machine does hits all alike.
 */
import { createRequire } from "node:module"
import Sqlite from "better-sqlite3"
import * as sqliteVec from "sqlite-vec"
import * as plain from "../src/vectors/kernel/plain.js"
import { bestPoints, createPointTable } from "../src/vectors/kernel.js"
import { createRandom } from "../src/vectors/random.js"
import { allocateVectors, createScanTable, type ScanTable, scan, scanMany } from "../src/vectors/scan.js"
import { appendHistory } from "./history.js"
import { round, table } from "./support.js"

const ROWS = 20_000
const K = 10
const QUERIES = 64
const ROUNDS = 31
const random = createRandom(1)
const gaussians = (length: number) => Float32Array.from({ length }, random.gaussian)

/** Median milliseconds of each of the contenders, which take turns. */
function race<Name extends string>(contenders: Record<Name, () => unknown>): Record<Name, number> {
  const names = Object.keys(contenders) as Name[]
  const times = new Map(names.map((name) => [name, [] as number[]]))
  for (let turn = -3; turn < ROUNDS; turn++) {
    for (const name of names) {
      const start = performance.now()
      contenders[name]()
      if (turn >= 0) times.get(name)!.push(performance.now() - start)
    }
  }
  const medians = names.map((name) => [name, times.get(name)!.sort((a, b) => a - b)[ROUNDS >> 1]!])
  return Object.fromEntries(medians)
}

/** sqlite-vec's own search over the same rows, in a database in memory. */
function sqliteVecSearch(vectors: Float32Array, dim: number): (query: Float32Array) => unknown {
  const db = new Sqlite(":memory:")
  sqliteVec.load(db)
  db.exec(`CREATE VIRTUAL TABLE t USING vec0(vector float[${dim}] distance_metric=cosine)`)
  const insert = db.prepare("INSERT INTO t (rowid, vector) VALUES (?, ?)")
  db.transaction(() => {
    for (let row = 0; row < ROWS; row++) {
      insert.run(BigInt(row + 1), vectors.subarray(row * dim, (row + 1) * dim))
    }
  })()
  const select = db.prepare("SELECT rowid, distance FROM t WHERE vector MATCH ? AND k = ?")
  return (query) => select.all(query, BigInt(K))
}

interface Usearch {
  readonly MetricKind: { readonly Cos: unknown }
  exactSearch(dataset: Float32Array, queries: Float32Array, dim: number, k: number, metric: unknown): unknown
}

/** Undefined where the package is not installed. */
function loadUsearch(): Usearch | undefined {
  try {
    return createRequire(import.meta.url)("usearch") as Usearch
  } catch {
    return undefined
  }
}
const usearch = loadUsearch()

/** A table that the compiled kernel does not take. */
const plainly = (scanned: ScanTable): ScanTable => ({
  ...scanned,
  norms: { ...scanned.norms, ordinary: false },
})

/** A table that is scanned in float32 only. */
const withoutCodes = (scanned: ScanTable): ScanTable => ({ ...scanned, residual: undefined })

/** Copies the vectors; two bytes moved for each byte of them. */
function copyTo(target: Float32Array, vectors: Float32Array): () => void {
  return () => target.set(vectors)
}

function benchScans(dim: number) {
  const vectors = allocateVectors("cosine", ROWS, dim)
  vectors.set(gaussians(vectors.length))
  const elsewhere = vectors.slice()
  const inPlace = createScanTable("cosine", vectors, dim)
  const staged = createScanTable("cosine", elsewhere, dim)
  const query = gaussians(dim)
  const queries = gaussians(QUERIES * dim)
  const search = sqliteVecSearch(elsewhere, dim)
  const ms = race({
    kernel: () => scan(inPlace, query, K),
    float32: () => scan(withoutCodes(inPlace), query, K),
    top100: () => scan(inPlace, query, 100),
    staged: () => scan(staged, query, K),
    manyFloat32: () => scanMany(withoutCodes(inPlace), queries, K),
    many: () => scanMany(inPlace, queries, K),
    plain: () => scan(plainly(staged), query, K),
    sqliteVec: () => search(query),
    usearch: () => usearch?.exactSearch(elsewhere, query, dim, K, usearch.MetricKind.Cos),
    copy: copyTo(new Float32Array(elsewhere.length), elsewhere),
  })
  const bytes = vectors.byteLength
  return {
    dim,
    kernelMs: round(ms.kernel, 3),
    float32Ms: round(ms.float32, 3),
    top100Ms: round(ms.top100, 3),
    stagedMs: round(ms.staged, 3),
    perQueryOf64Ms: round(ms.many / QUERIES, 3),
    float32PerQueryOf64Ms: round(ms.manyFloat32 / QUERIES, 3),
    plainMs: round(ms.plain, 2),
    sqliteVecMs: round(ms.sqliteVec, 2),
    usearchMs: usearch === undefined ? "not installed" : round(ms.usearch, 2),
    timesPlain: round(ms.plain / ms.kernel, 1),
    timesSqliteVec: round(ms.sqliteVec / ms.kernel, 1),
    float32ReadsGBs: round(bytes / ms.float32 / 1e6, 1),
    copyMovesGBs: round((2 * bytes) / ms.copy / 1e6, 1),
  }
}

/** As JavaScript packages for k-means do it: arrays of arrays, a squared distance at a time. */
function assignArrays(rows: readonly number[][], points: readonly number[][]): number[] {
  return rows.map((row) => {
    let best = Infinity
    let nearest = 0
    points.forEach((point, p) => {
      let sum = 0
      for (let i = 0; i < row.length; i++) sum += (row[i]! - point[i]!) * (row[i]! - point[i]!)
      if (sum < best) {
        best = sum
        nearest = p
      }
    })
    return nearest
  })
}

function benchAssignment(points: number) {
  const dim = 100
  const rows = 4000
  const vectors = gaussians(rows * dim)
  const centroids = gaussians(points * dim)
  const arrays = (flat: Float32Array) =>
    Array.from({ length: flat.length / dim }, (_, i) => Array.from(flat.subarray(i * dim, (i + 1) * dim)))
  const [rowArrays, pointArrays] = [arrays(vectors), arrays(centroids)]
  const prepared = createPointTable(
    centroids,
    dim,
    () => 0,
    () => 1,
  )
  const ms = race({
    kernel: () => bestPoints(vectors, prepared),
    plain: () => plain.bestPoints(vectors, prepared),
    arrays: () => assignArrays(rowArrays, pointArrays),
  })
  // An addition and a multiplication for each element of each pair.
  const gflops = (time: number) => round((2 * rows * points * dim) / time / 1e6, 1)
  return { points, kernel: gflops(ms.kernel), plain: gflops(ms.plain), arrays: gflops(ms.arrays) }
}

const scans = [100, 384, 768].map(benchScans)
const assignments = [16, 64, 256].map(benchAssignment)
console.log(`\nScan of ${ROWS} rows, cosine, top ${K}, ms\n`)
console.log(
  table(
    [
      "dim",
      "kernel",
      "float32 only",
      "top 100",
      "table elsewhere",
      "a query of 64",
      "float32 only",
      "plain",
      "sqlite-vec",
      "usearch",
      "× plain",
      "× sqlite-vec",
      "float32 only reads, GB/s",
      "a copy moves, GB/s",
    ],
    scans.map((line) => Object.values(line)),
  ),
)
console.log("\nRows of 100 elements assigned to points, GFLOP/s\n")
console.log(
  table(
    ["points", "kernel", "plain", "arrays of arrays"],
    assignments.map((line) => Object.values(line)),
  ),
)
const results = { rows: ROWS, k: K, scans, assignments }
console.log(`\n${JSON.stringify(results)}`)
appendHistory("kernel", results)
