/**
 * Exact search by looking at every row.
 *
 * The compiled kernel goes over the rows in float32 and keeps all that could be among the nearest by its
 * error bound (kernel/bounds.ts); their distances are then computed anew as distance.ts does, in float64. So
 * the answer is to the last bit that of the plain loop, which runs where the kernel cannot.
 */
import { cosineDistance, dotDistance } from "./distance.js"
import { codeError, distanceLimit, LENGTH_MAX, LENGTH_MIN, productError } from "./kernel/bounds.js"
import { CODED_TOGETHER, codeLength } from "./kernel/codes.js"
import { type KernelMemory, pack, packedLength } from "./kernel/memory.js"
import { innerProducts, squaredDistances } from "./kernel/plain.js"
import type { Metric } from "./metric.js"
import {
  type QueryCodes,
  roundQuery,
  type ScanTable,
  scratchHome,
  squaredNorm,
  type TableHome,
} from "./scan-table.js"
import { type RankedRows, SmallestDistinct, TopK } from "./topk.js"

export {
  allocateVectors,
  createScanTable,
  type RowNorms,
  type ScanTable,
  vectorMemoryBytes,
} from "./scan-table.js"

// A tile should stay in the second-level cache while several queries go over it.
const TILE_BYTES = 2 ** 18
// Few rows at first, so that most rows meet a threshold that is worth its name.
const FIRST_TILE_ROWS = 64

export interface ScanOptions {
  /**
   * Only rows whose bit is set: row r is bit `r % 8`, the lowest first, of byte `⌊r / 8⌋`. Default: all rows.
   */
  readonly allowed?: Uint8Array | undefined
  /** By row, what to add to the first rank. Default: the number of the row. */
  readonly ranks?: Uint32Array | undefined
}

/**
 * The nearest `k` rows of the table (all, if there are fewer) with their public distances, nearest first;
 * equal distances by row number, which is the rank. `query` has `table.dim` finite values and, under
 * `cosine`, is not zero. Throws `InvalidInput` unless k is an integer of 1 or more.
 */
export function scan(
  table: ScanTable,
  query: Float32Array,
  k: number,
  options: ScanOptions = {},
): RankedRows {
  return scanMany(table, query, k, options)[0]!
}

/** {@link scan} for several queries, row-major, which share the way through memory. */
export function scanMany(
  table: ScanTable,
  queries: Float32Array,
  k: number,
  options: ScanOptions = {},
): RankedRows[] {
  const search = new NearestRows(table.metric, queries, table.dim, k, { rows: table.rows })
  search.add(table, 0, options)
  return search.takeSorted()
}

export interface NearestOptions {
  /** How many rows there are at most in all tables; saves memory where that is less than k. Default k. */
  readonly rows?: number | undefined
  /** For each query a distance beyond which rows are left out, which saves time. */
  readonly within?: ArrayLike<number> | undefined
  /**
   * Where rows may be copies of one another: only rows as near as the `distinct`-th of all different
   * distances are wanted, which saves time. Of those the nearest k are found for sure; others may come, too.
   */
  readonly distinct?: number | undefined
}

/** The nearest k rows to each of some queries, over one or more tables of the same metric and dimension. */
export class NearestRows {
  readonly #queries: QueryState[]
  /** Rows seen so far. */
  #seen = 0

  /**
   * `queries`: row-major, each as {@link scan} wants it. Throws `InvalidInput` unless k is an integer of 1 or
   * more.
   */
  constructor(
    metric: Metric,
    queries: Float32Array,
    dim: number,
    k: number,
    { rows = k, within, distinct }: NearestOptions = {},
  ) {
    this.#queries = []
    for (let i = 0; i * dim < queries.length; i++) {
      const query = queries.subarray(i * dim, (i + 1) * dim)
      this.#queries.push(new QueryState(metric, query, k, rows, within?.[i] ?? Infinity, distinct))
    }
  }

  /** Takes in the rows of a table, whose ranks begin with `firstRank`. */
  add(table: ScanTable, firstRank: number, { allowed, ranks }: ScanOptions = {}): void {
    const ranked = { table, firstRank, ranks }
    const forKernel = table.norms.ordinary ? this.#queries.filter((query) => query.ordinary) : []
    const done =
      forKernel.length > 0 && addByKernel(ranked, allowed, forKernel, Math.max(this.#seen, FIRST_TILE_ROWS))
    for (const query of this.#queries) {
      if (!(done && query.ordinary)) query.addPlainly(ranked, allowed)
    }
    this.#seen += table.rows
  }

  /**
   * The answer for each query, nearest first. To be called once, at the end; tables of {@link
   * allocateVectors} must not have changed.
   */
  takeSorted(): RankedRows[] {
    return this.#queries.map((query) => query.takeSorted())
  }
}

// Rows per step of the plain loop: enough to make the calls cheap, few enough for their distances to stay in
// the first-level cache.
const ROWS_PER_STEP = 512

/** One query and the nearest rows to it so far. */
class QueryState {
  /** Whether the error bounds of the compiled kernel hold for it. */
  readonly ordinary: boolean
  readonly vector: Float32Array
  readonly #metric: Metric
  readonly #length: number
  #wide: Float64Array | undefined
  readonly #inverseNorm: number
  readonly #within: number
  readonly #top: TopK
  readonly #distinct: SmallestDistinct | undefined
  /** The k smallest scores of the compiled kernel, of which only the largest counts. */
  readonly #scores: TopK
  /** Error of inner products, the largest of all tables so far: the scores of all of them count. */
  #error = 0
  #codes: QueryCodes | undefined
  /** Rows that may be among the nearest, and their scores in the kernel; each run of them of one table. */
  #rows: number[] = []
  #rowScores: number[] = []
  #runs: { readonly end: number; readonly ranked: RankedTable }[] = []
  readonly #one = new Float64Array(1)

  constructor(
    metric: Metric,
    vector: Float32Array,
    k: number,
    rows: number,
    within: number,
    distinct: number | undefined,
  ) {
    const squared = squaredNorm(vector, 0, vector.length)
    this.vector = vector
    this.#metric = metric
    this.#length = Math.sqrt(squared)
    this.#within = within
    this.ordinary = squared <= LENGTH_MAX ** 2 && (metric !== "cosine" || squared >= LENGTH_MIN ** 2)
    this.#inverseNorm = squared === 0 ? 0 : 1 / this.#length
    this.#top = new TopK(k, rows)
    this.#scores = new TopK(k, rows)
    this.#distinct = distinct === undefined ? undefined : new SmallestDistinct(distinct, rows)
  }

  /** To be called before the kernel scans a table. */
  begin({ metric, dim, norms, residual }: ScanTable): void {
    const longest = metric === "cosine" ? 1 : norms.longest
    const error =
      residual === undefined
        ? productError(dim, longest * this.#length)
        : codeError(longest, residual, this.#length, this.codes.residual)
    this.#error = Math.max(this.#error, error)
  }

  /** Largest distance that a row may have and still be among those that are wanted. */
  get #worst(): number {
    return Math.min(this.#within, this.#distinct?.worst ?? Infinity, this.#top.worst)
  }

  /**
   * Largest score in the kernel that such a row may have: by scores of the kernel, and by distances known
   * exactly.
   */
  limit(dim: number): number {
    const worst = this.#worst
    switch (this.#metric) {
      case "l2":
        return distanceLimit(Math.min(this.#scores.worst, worst ** 2), dim)
      case "dot":
        return Math.min(this.#scores.worst + 2 * this.#error, worst + this.#error)
      case "cosine":
        return Math.min(this.#scores.worst + 2 * this.#error, (worst - 1) * this.#length + this.#error)
    }
  }

  /** The query rounded to integers, for tables of codes. */
  get codes(): QueryCodes {
    this.#codes ??= roundQuery(this.vector)
    return this.#codes
  }

  /** Takes in what the kernel has found. {@link settle} makes hits of it. */
  addCandidates({ floats, integers }: Pick<KernelMemory, "floats" | "integers">, found: Found): void {
    const { at, count, scale, firstRow, ranked } = found
    for (let i = at; i < at + 2 * count; i += 2) {
      const row = firstRow + integers[i]!
      const score = floats[i + 1]! * scale
      this.#scores.push(score, row)
      this.#rows.push(row)
      this.#rowScores.push(score)
    }
    if (count > 0) this.#runs.push({ end: this.#rows.length, ranked })
  }

  /**
   * Computes the distances of the candidates, the likeliest first, as long as they may be among the rows that
   * are wanted.
   */
  settle(): void {
    if (this.#rows.length === 0) return
    const candidates: Candidate[] = []
    let i = 0
    for (const { end, ranked } of this.#runs) {
      const limit = this.limit(ranked.table.dim)
      for (; i < end; i++) {
        const score = this.#rowScores[i]!
        if (score <= limit) candidates.push({ score, row: this.#rows[i]!, ranked })
      }
    }
    candidates.sort((a, b) => a.score - b.score)
    for (const { score, row, ranked } of candidates) {
      if (score > this.limit(ranked.table.dim)) break
      this.#fillDistances(ranked.table, row, row + 1, this.#one)
      this.#offer(this.#one[0]!, rankOf(ranked, row))
    }
    this.#rows = []
    this.#rowScores = []
    this.#runs = []
  }

  addPlainly(ranked: RankedTable, allowed: Uint8Array | undefined): void {
    const { table } = ranked
    const distances = new Float64Array(ROWS_PER_STEP)
    for (let from = 0; from < table.rows; from += ROWS_PER_STEP) {
      const to = Math.min(from + ROWS_PER_STEP, table.rows)
      this.#fillDistances(table, from, to, distances)
      for (let row = from; row < to; row++) {
        if (distances[row - from]! <= this.#worst && isAllowed(allowed, row)) {
          this.#offer(distances[row - from]!, rankOf(ranked, row))
        }
      }
    }
  }

  takeSorted(): RankedRows {
    this.settle()
    return this.#top.takeSorted()
  }

  /** One that is only as near as the worst kept may still displace it: tables may come in any order. */
  #offer(distance: number, rank: number): void {
    if (distance > this.#worst) return
    this.#top.push(distance, rank)
    this.#distinct?.push(distance)
  }

  /** Public distances of rows `from` up to but not including `to`, into `out` from its start. */
  #fillDistances(table: ScanTable, from: number, to: number, out: Float64Array): void {
    const count = to - from
    this.#wide ??= new Float64Array(this.vector)
    switch (table.metric) {
      case "l2":
        squaredDistances(table.vectors, from, to, this.#wide, out)
        for (let i = 0; i < count; i++) out[i] = Math.sqrt(out[i]!)
        return
      case "dot":
        innerProducts(table.vectors, from, to, this.#wide, out)
        for (let i = 0; i < count; i++) out[i] = dotDistance(out[i]!)
        return
      case "cosine":
        innerProducts(table.vectors, from, to, this.#wide, out)
        for (let i = 0; i < count; i++) {
          out[i] = cosineDistance(out[i]!, this.#inverseNorm, table.norms.inverse[from + i]!)
        }
    }
  }
}

/** A table and the ranks of its rows. */
interface RankedTable {
  readonly table: ScanTable
  readonly firstRank: number
  readonly ranks: Uint32Array | undefined
}

const rankOf = ({ firstRank, ranks }: RankedTable, row: number): number =>
  firstRank + (ranks === undefined ? row : ranks[row]!)

interface Candidate {
  readonly score: number
  readonly row: number
  readonly ranked: RankedTable
}

/**
 * Candidates as the kernel has put them into its memory: from `at` on, in numbers of four bytes, `count`
 * pairs of a row, counted from `firstRow`, and its score over `scale`.
 */
interface Found {
  readonly at: number
  readonly count: number
  readonly scale: number
  readonly firstRow: number
  readonly ranked: RankedTable
}

function isAllowed(allowed: Uint8Array | undefined, row: number): boolean {
  return allowed === undefined || ((allowed[row >> 3]! >> (row & 7)) & 1) === 1
}

/**
 * False, with nothing done, where there is no kernel memory to be had. `seen`: rows that the queries'
 * thresholds come from.
 */
function addByKernel(
  ranked: RankedTable,
  allowed: Uint8Array | undefined,
  queries: readonly QueryState[],
  seen: number,
): boolean {
  const { table } = ranked
  const home = table.home ?? scratchHome(table.dim)
  if (home === undefined) return false
  const most = home.scratch.sharing.queries
  for (let first = 0; first < queries.length; first += most) {
    const group = queries.slice(first, first + most)
    for (const [i, query] of group.entries()) {
      query.begin(table)
      writeQuery(home, table, i, query)
    }
    const largest = tileRows(home, table, group.length)
    let rows = Math.min(Math.floor(seen / 8) * 8, largest)
    for (let from = 0; from < table.rows; from += rows, rows = Math.min(2 * rows, largest)) {
      scanTile(home, ranked, from, Math.min(from + rows, table.rows), allowed, group)
    }
    // Other tables' vectors need not be kept in memory for what else comes.
    if (table.home === undefined) for (const query of group) query.settle()
  }
  return true
}

/** Puts a query where the kernel expects the i-th one. */
function writeQuery({ memory, scratch }: TableHome, table: ScanTable, i: number, query: QueryState): void {
  const start = scratch.queries + i * packedLength(table.dim) * 4
  if (table.residual === undefined) pack(memory.floats, start / 4, query.vector, 0, table.dim)
  else memory.shorts.set(query.codes.integers, start / 2)
}

/** Takes in the rows `from` up to but not including `to`, for the queries that lie packed in the memory. */
function scanTile(
  { memory, scratch, table: places }: TableHome,
  ranked: RankedTable,
  from: number,
  to: number,
  allowed: Uint8Array | undefined,
  group: readonly QueryState[],
): void {
  const { table } = ranked
  const { dim, metric, vectors, norms } = table
  const { floats, integers, exports } = memory
  const rows = to - from
  const isInPlace = table.home !== undefined
  if (!isInPlace) {
    floats.set(vectors.subarray(from * dim, to * dim), places.vectors / 4)
    // Empty for metrics without weights.
    floats.set(norms.inverse.subarray(from, to), places.weights / 4)
  }
  if (allowed !== undefined) memory.bytes.set(allowed.subarray(from / 8, Math.ceil(to / 8)), scratch.allowed)
  for (let i = 0; i < group.length; i++) {
    floats[scratch.thresholds / 4 + i] = group[i]!.limit(dim) / scaleOf(table, group[i]!)
    integers[scratch.counts / 4 + i] = 0
  }
  const first = isInPlace ? from : 0
  const capacity = Math.floor(scratch.sharing.candidates / group.length)
  const rowsAt = places.vectors + first * dim * 4
  const weightsAt = metric === "cosine" ? places.weights + first * 4 : 0
  const allowedAt = allowed === undefined ? 0 : scratch.allowed
  const { queries, thresholds, counts, candidates, scores } = scratch
  const { scanCodes, scanDistances, scanProducts } = exports
  if (table.residual !== undefined) {
    const bytes = codeLength(dim)
    const codesAt = places.codes + first * bytes
    const weights = places.codeWeights + first * 4
    const queryBytes = packedLength(dim) * 4
    // biome-ignore format: one line says it best
    scanCodes(codesAt, rows, bytes, weights, allowedAt, queries, queryBytes, group.length, thresholds, counts, candidates, capacity, scores)
  } else if (metric === "l2") {
    // biome-ignore format: one line says it best
    scanDistances(rowsAt, rows, dim, allowedAt, queries, group.length, thresholds, counts, candidates, capacity)
  } else {
    // biome-ignore format: as above
    scanProducts(rowsAt, rows, dim, weightsAt, allowedAt, queries, group.length, thresholds, counts, candidates, capacity)
  }
  for (let i = 0; i < group.length; i++) {
    const query = group[i]!
    query.addCandidates(memory, {
      at: candidates / 4 + i * capacity * 2,
      count: integers[counts / 4 + i]!,
      scale: scaleOf(table, query),
      firstRow: from,
      ranked,
    })
  }
}

/** What a score of 1 in the kernel stands for. */
function scaleOf({ residual }: ScanTable, query: QueryState): number {
  return residual === undefined ? 1 : query.codes.scale
}

/**
 * Rows per call of the kernel: a multiple of 8, so that tiles begin at a byte of the bitmap and of the codes
 * at an eight.
 */
function tileRows(
  { scratch, table: places }: TableHome,
  { dim, residual }: ScanTable,
  queries: number,
): number {
  // A single query passes over each row once, so that for it the cache is of no account.
  const rowBytes = residual === undefined ? 4 * dim : codeLength(dim)
  const cached = queries === 1 ? Infinity : TILE_BYTES / rowBytes
  const most = Math.min(cached, scratch.sharing.candidates / queries, Math.max(CODED_TOGETHER, places.rows))
  return Math.max(CODED_TOGETHER, Math.floor(most / CODED_TOGETHER) * CODED_TOGETHER)
}
