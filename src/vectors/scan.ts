/**
 * Exact search by looking at every row.
 *
 * The compiled kernel goes over the rows in float32 and keeps all that could be among the nearest by its error bound
 * (kernel/bounds.ts); their distances are then computed anew as distance.ts does, in float64. So the answer is to the last bit
 * that of the plain loop, which runs where the kernel cannot.
 */
import { cosineDistance, dotDistance } from "./distance.js"
import { codeError, distanceLimit, LENGTH_MAX, LENGTH_MIN, productError } from "./kernel/bounds.js"
import { GUARD_BYTES, KernelMemory, pack, packedLength, scratchMemory } from "./kernel/memory.js"
import { innerProducts, squaredDistances } from "./kernel/plain.js"
import type { Metric } from "./metric.js"
import { type RankedRows, TopK } from "./topk.js"

/** What scans need to know of rows besides the rows; computed once. */
export interface RowNorms {
  /** For `cosine`: 1 / norm of each row. Empty for the other metrics. */
  readonly inverse: Float64Array
  /** Of the longest row. */
  readonly longest: number
  /** Whether the error bounds of the compiled kernel hold for all rows. */
  readonly ordinary: boolean
}

/** Rows to scan, with what can be computed once for all queries. */
export interface ScanTable {
  readonly metric: Metric
  readonly dim: number
  readonly rows: number
  /** Row-major, `rows × dim`; as given, not copied. */
  readonly vectors: Float32Array
  readonly norms: RowNorms
  /**
   * If rows were also rounded to bytes: length of the largest difference that made, under `cosine` relative to the row. Then
   * the kernel passes over those, a quarter of the memory.
   */
  readonly residual: number | undefined
}

/**
 * Prepares row-major `vectors` for scanning. They must not change afterwards. `norms`: if they are known from before. Scans
 * are fastest over vectors in memory from {@link allocateVectors}; others are copied piece by piece by every scan.
 */
export function createScanTable(
  metric: Metric,
  vectors: Float32Array,
  dim: number,
  norms: RowNorms = rowNorms(metric, vectors, dim),
): ScanTable {
  const rows = vectors.length / dim
  const home = homeOf(vectors)
  home?.memory.floats.set(norms.inverse, home.layout.weights / 4)
  const residual =
    home && metric !== "l2" && norms.ordinary ? roundToCodes(home, vectors, norms, dim) : undefined
  return Object.freeze({ metric, dim, rows, vectors, norms, residual })
}

function rowNorms(metric: Metric, vectors: Float32Array, dim: number): RowNorms {
  const rows = vectors.length / dim
  const inverse = new Float64Array(metric === "cosine" ? rows : 0)
  let longest = 0
  let ordinary = true
  for (let row = 0; row < rows; row++) {
    const squared = squaredNorm(vectors, row * dim, dim)
    // As inverseNorm() has it.
    if (metric === "cosine") {
      inverse[row] = squared === 0 ? 0 : 1 / Math.sqrt(squared)
      if (squared !== 0 && !(squared >= LENGTH_MIN ** 2)) ordinary = false
    }
    if (!(squared <= LENGTH_MAX ** 2)) ordinary = false
    if (squared > longest) longest = squared
  }
  return { inverse, longest: Math.sqrt(longest), ordinary }
}

// Elements become integers of at most this size.
const CODE_MAX = 127
// Where single elements are much larger than the rest, bytes are too coarse, and too many rows would have to be looked at
// again. Relative to the longest row.
const RESIDUAL_MAX = 0.02

/**
 * Writes every row, under cosine scaled to length 1, as bytes and a weight. Returns the length of the largest difference;
 * undefined if that is too much for the codes to be of use.
 */
function roundToCodes(
  { memory, layout }: Home,
  vectors: Float32Array,
  { inverse, longest }: RowNorms,
  dim: number,
): number | undefined {
  const isCosine = inverse.length > 0
  const codes = new Int8Array(memory.floats.buffer)
  const weights = memory.floats.subarray(layout.codeWeights / 4)
  let largest = 0
  for (let row = 0; row * dim < vectors.length; row++) {
    const start = row * dim
    const codesStart = layout.codes + row * codeLength(dim)
    let largestElement = 0
    for (let i = start; i < start + dim; i++) largestElement = Math.max(largestElement, Math.abs(vectors[i]!))
    const unit = isCosine ? inverse[row]! : 1
    const perElement = largestElement === 0 ? 0 : CODE_MAX / largestElement
    weights[row] = perElement === 0 ? 0 : unit / perElement
    const weight = weights[row]!
    let squared = 0
    for (let i = 0; i < dim; i++) {
      const element = vectors[start + i]!
      // Rounds: truncation of a positive number.
      const code = Math.trunc(element * perElement + CODE_MAX + 0.5) - CODE_MAX
      codes[codesStart + i] = code
      const difference = element * unit - weight * code
      squared += difference * difference
    }
    if (squared > largest) largest = squared
  }
  const residual = Math.sqrt(largest)
  return residual <= RESIDUAL_MAX * (isCosine ? 1 : longest) ? residual : undefined
}

/** Bytes per row of codes; those beyond `dim` are 0. */
const codeLength = (dim: number): number => Math.ceil(dim / 8) * 8

function squaredNorm(vectors: Float32Array, start: number, dim: number): number {
  let sum = 0
  for (let i = start; i < start + dim; i++) sum += vectors[i]! * vectors[i]!
  return sum
}

interface Sharing {
  /** As many queries share a pass over the rows, so that the rows come from memory once for all of them. */
  readonly queries: number
  /** Rows per call of the kernel times queries, and so the candidates that there is room for. */
  readonly candidates: number
}
const IN_PLACE: Sharing = { queries: 8, candidates: 2048 }
/** A copy of the rows is to serve more of them; there is one such memory only. */
const COPIED: Sharing = { queries: 64, candidates: 2 ** 15 }
// A single query passes over each row once, so that for it the cache is of no account.
const ROWS_OF_ONE_QUERY = 2048
// A tile should stay in the second-level cache while several queries go over it.
const TILE_BYTES = 2 ** 18
const FIRST_TILE_ROWS = 64

/** Where things lie in a kernel memory, in bytes. */
interface Layout {
  readonly sharing: Sharing
  readonly queries: number
  readonly thresholds: number
  readonly counts: number
  readonly candidates: number
  readonly allowed: number
  readonly vectors: number
  readonly weights: number
  readonly codes: number
  readonly codeWeights: number
  readonly end: number
}

function layoutFor(rows: number, dim: number, withCodes: boolean, sharing: Sharing): Layout {
  const queries = GUARD_BYTES
  const thresholds = queries + sharing.queries * packedLength(dim) * 4
  const counts = thresholds + sharing.queries * 4
  const candidates = counts + sharing.queries * 4
  const allowed = candidates + sharing.candidates * 8
  const vectors = allowed + ROWS_OF_ONE_QUERY / 8
  const weights = vectors + Math.ceil((rows * dim) / 4) * 16
  const codes = weights + Math.ceil(rows / 4) * 16
  const codeWeights = codes + (withCodes ? Math.ceil((rows * codeLength(dim)) / 16) * 16 : 0)
  return {
    sharing,
    queries,
    thresholds,
    counts,
    candidates,
    allowed,
    vectors,
    weights,
    codes,
    codeWeights,
    end: codeWeights + (withCodes ? Math.ceil(rows / 4) * 16 : 0),
  }
}

interface Home {
  readonly memory: KernelMemory
  readonly layout: Layout
}

/** Tables that live in a kernel memory of their own, by its buffer. */
const homes = new WeakMap<ArrayBufferLike, Home>()

/**
 * Zeroed memory for `rows × dim` vectors of a table of this metric, where the compiled kernel can scan them in place; ordinary memory where that
 * cannot be had. {@link vectorMemoryBytes} is what it takes.
 */
export function allocateVectors(metric: Metric, rows: number, dim: number): Float32Array {
  const layout = layoutFor(rows, dim, metric !== "l2", IN_PLACE)
  const memory = KernelMemory.create(layout.end)
  if (memory === undefined) return new Float32Array(rows * dim)
  homes.set(memory.floats.buffer, { memory, layout })
  return memory.floats.subarray(layout.vectors / 4, layout.vectors / 4 + rows * dim)
}

/** Memory that a table made of {@link allocateVectors} takes, norms included. */
export function vectorMemoryBytes(metric: Metric, rows: number, dim: number): number {
  return layoutFor(rows, dim, metric !== "l2", IN_PLACE).end + (metric === "cosine" ? rows * 8 : 0)
}

export interface ScanOptions {
  /** Only rows whose bit is set: row r is bit `r % 8`, the lowest first, of byte `⌊r / 8⌋`. Default: all rows. */
  readonly allowed?: Uint8Array | undefined
}

/**
 * The nearest `k` rows of the table (all, if there are fewer) with their public distances, nearest first; equal
 * distances by row number, which is the rank. `query` has `table.dim` finite values and, under `cosine`, is not zero.
 * Throws `InvalidInput` unless k is an integer of 1 or more.
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
  const search = new NearestRows(table.metric, queries, table.dim, k, table.rows)
  search.add(table, 0, options)
  return search.takeSorted()
}

/** The nearest k rows to each of some queries, over one or more tables of the same metric and dimension. */
export class NearestRows {
  readonly #queries: QueryState[]

  /**
   * `queries`: row-major, each as {@link scan} wants it. `rows`: how many there are at most in all tables; saves memory where
   * that is less than k. `within`: a distance for each query, beyond which rows are left out, which saves time. Throws
   * `InvalidInput` unless k is an integer of 1 or more.
   */
  constructor(
    metric: Metric,
    queries: Float32Array,
    dim: number,
    k: number,
    rows = k,
    within?: ArrayLike<number>,
  ) {
    this.#queries = Array.from({ length: queries.length / dim }, (_, i) => {
      const query = queries.subarray(i * dim, (i + 1) * dim)
      return new QueryState(metric, query, k, rows, within?.[i] ?? Number.POSITIVE_INFINITY)
    })
  }

  /** Takes in the rows of a table, whose row 0 gets the rank `firstRank`. */
  add(table: ScanTable, firstRank: number, { allowed }: ScanOptions = {}): void {
    const forKernel = table.norms.ordinary ? this.#queries.filter((query) => query.ordinary) : []
    const done = forKernel.length > 0 && addByKernel(table, firstRank, allowed, forKernel)
    for (const query of this.#queries) {
      if (!(done && query.ordinary)) query.addPlainly(table, firstRank, allowed)
    }
  }

  /** The answer for each query, nearest first. Empties them. */
  takeSorted(): RankedRows[] {
    return this.#queries.map((query) => query.takeSorted())
  }
}

// Rows per step of the plain loop: enough to make the calls cheap, few enough for their distances to stay in the
// first-level cache.
const ROWS_PER_STEP = 512

/** One query and the nearest rows to it so far. */
class QueryState {
  /** Whether the error bounds of the compiled kernel hold for it. */
  readonly ordinary: boolean
  readonly vector: Float32Array
  readonly #length: number
  #wide: Float64Array | undefined
  readonly #inverseNorm: number
  readonly #within: number
  /** What `within` is as a score. */
  readonly #scoreWithin: number
  readonly #top: TopK
  /** The k smallest scores of the compiled kernel, of which only the largest counts. */
  readonly #scores: TopK
  /** Error of inner products, the largest of all tables so far: the scores of all of them count. */
  #error = 0
  #codes: QueryCodes | undefined
  /** Rows of the table at hand, and their scores, that may be among the nearest. */
  #rows: number[] = []
  #rowScores: number[] = []

  constructor(metric: Metric, vector: Float32Array, k: number, rows: number, within: number) {
    const squared = squaredNorm(vector, 0, vector.length)
    this.vector = vector
    this.#length = Math.sqrt(squared)
    this.#within = within
    this.#scoreWithin =
      metric === "l2" ? within ** 2 : metric === "dot" ? within : (within - 1) * this.#length
    this.ordinary = squared <= LENGTH_MAX ** 2 && (metric !== "cosine" || squared >= LENGTH_MIN ** 2)
    this.#inverseNorm = squared === 0 ? 0 : 1 / this.#length
    this.#top = new TopK(k, rows)
    this.#scores = new TopK(k, rows)
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

  /** Largest score in the kernel that a row may have and still be among the nearest. */
  limit({ metric, dim }: ScanTable): number {
    const worst = Math.min(this.#scores.worst, this.#scoreWithin)
    return metric === "l2" ? distanceLimit(worst, dim) : worst + 2 * this.#error
  }

  /** The query rounded to integers, for tables of codes. */
  get codes(): QueryCodes {
    this.#codes ??= roundQuery(this.vector)
    return this.#codes
  }

  addCandidate(row: number, score: number): void {
    this.#scores.push(score, row)
    this.#rows.push(row)
    this.#rowScores.push(score)
  }

  /** Computes the distances of the candidates that are left by now. */
  settle(table: ScanTable, firstRank: number): void {
    if (this.#rows.length === 0) return
    const limit = this.limit(table)
    const distances = new Float64Array(1)
    for (const [i, row] of this.#rows.entries()) {
      if (this.#rowScores[i]! > limit) continue
      this.#fillDistances(table, row, row + 1, distances)
      if (distances[0]! <= this.#within) this.#top.push(distances[0]!, firstRank + row)
    }
    this.#rows = []
    this.#rowScores = []
  }

  addPlainly(table: ScanTable, firstRank: number, allowed: Uint8Array | undefined): void {
    const top = this.#top
    const distances = new Float64Array(ROWS_PER_STEP)
    for (let from = 0; from < table.rows; from += ROWS_PER_STEP) {
      const to = Math.min(from + ROWS_PER_STEP, table.rows)
      this.#fillDistances(table, from, to, distances)
      for (let row = from; row < to; row++) {
        const distance = distances[row - from]!
        // One that is only as near as the worst kept may still displace it: tables may come in any order.
        if (distance > top.worst || distance > this.#within) continue
        if (isAllowed(allowed, row)) top.push(distance, firstRank + row)
      }
    }
  }

  takeSorted(): RankedRows {
    this.#scores.takeSorted()
    return this.#top.takeSorted()
  }

  /** Public distances of rows `from` up to but not including `to`, into `out` from its start. */
  #fillDistances(table: ScanTable, from: number, to: number, out: Float64Array): void {
    const count = to - from
    this.#wide ??= Float64Array.from(this.vector)
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

interface QueryCodes {
  readonly integers: Int16Array
  /** What an integer of 1 stands for. */
  readonly scale: number
  /** Length of the difference that rounding made. */
  readonly residual: number
}

function roundQuery(vector: Float32Array): QueryCodes {
  const integers = new Int16Array(codeLength(vector.length))
  // Sums of products with codes must stay within 32 bits.
  const most = Math.min(2 ** 15 - 1, Math.floor((2 ** 31 - 1) / (CODE_MAX * integers.length)))
  const largest = vector.reduce((max, element) => Math.max(max, Math.abs(element)), 0)
  const scale = largest === 0 ? 1 : largest / most
  let squared = 0
  for (const [i, element] of vector.entries()) {
    integers[i] = Math.round(element / scale)
    squared += (element - scale * integers[i]!) ** 2
  }
  return { integers, scale, residual: Math.sqrt(squared) }
}

function isAllowed(allowed: Uint8Array | undefined, row: number): boolean {
  return allowed === undefined || ((allowed[row >> 3]! >> (row & 7)) & 1) === 1
}

/** False, with nothing done, where there is no kernel memory to be had. */
function addByKernel(
  table: ScanTable,
  firstRank: number,
  allowed: Uint8Array | undefined,
  queries: readonly QueryState[],
): boolean {
  const home = homeOf(table.vectors) ?? scratchHome(table.dim)
  if (home === undefined) return false
  const { sharing } = home.layout
  for (let first = 0; first < queries.length; first += sharing.queries) {
    const group = queries.slice(first, first + sharing.queries)
    for (const [i, query] of group.entries()) {
      query.begin(table)
      writeQuery(home, table, i, query)
    }
    // Few rows at first, so that most rows meet a threshold that is worth its name.
    const largest = tileRows(table.dim, group.length, sharing)
    let rows = Math.min(FIRST_TILE_ROWS, largest)
    for (let from = 0; from < table.rows; from += rows, rows = Math.min(2 * rows, largest)) {
      scanTile(home, table, from, Math.min(from + rows, table.rows), allowed, group)
    }
    for (const query of group) query.settle(table, firstRank)
  }
  return true
}

/** Puts a query where the kernel expects the i-th one. */
function writeQuery({ memory, layout }: Home, table: ScanTable, i: number, query: QueryState): void {
  const start = layout.queries + i * packedLength(table.dim) * 4
  if (table.residual === undefined) pack(memory.floats, start / 4, query.vector, 0, table.dim)
  else new Int16Array(memory.floats.buffer).set(query.codes.integers, start / 2)
}

/** Candidates among the rows `from` up to but not including `to`, for the queries that lie packed in the memory. */
function scanTile(
  { memory, layout }: Home,
  table: ScanTable,
  from: number,
  to: number,
  allowed: Uint8Array | undefined,
  group: readonly QueryState[],
): void {
  const { dim, metric, vectors, norms } = table
  const { floats, integers, exports } = memory
  const rows = to - from
  const isInPlace = vectors.buffer === floats.buffer
  if (!isInPlace) {
    floats.set(vectors.subarray(from * dim, to * dim), layout.vectors / 4)
    // Empty for metrics without weights.
    floats.set(norms.inverse.subarray(from, to), layout.weights / 4)
  }
  if (allowed !== undefined) memory.bytes.set(allowed.subarray(from / 8, Math.ceil(to / 8)), layout.allowed)
  for (const [i, query] of group.entries()) {
    floats[layout.thresholds / 4 + i] = query.limit(table) / scaleOf(table, query)
    integers[layout.counts / 4 + i] = 0
  }
  const first = isInPlace ? from : 0
  const capacity = Math.floor(layout.sharing.candidates / group.length)
  const rowsAt = layout.vectors + first * dim * 4
  const weightsAt = metric === "cosine" ? layout.weights + first * 4 : 0
  const allowedAt = allowed === undefined ? 0 : layout.allowed
  const { queries, thresholds, counts, candidates } = layout
  const { scanCodes, scanDistances, scanProducts } = exports
  if (table.residual !== undefined) {
    const bytes = codeLength(dim)
    const codesAt = layout.codes + first * bytes
    const weights = layout.codeWeights + first * 4
    const queryBytes = packedLength(dim) * 4
    // biome-ignore format: one line says it best
    scanCodes(codesAt, rows, bytes, weights, allowedAt, queries, queryBytes, group.length, thresholds, counts, candidates, capacity)
  } else if (metric === "l2") {
    // biome-ignore format: one line says it best
    scanDistances(rowsAt, rows, dim, allowedAt, queries, group.length, thresholds, counts, candidates, capacity)
  } else {
    // biome-ignore format: as above
    scanProducts(rowsAt, rows, dim, weightsAt, allowedAt, queries, group.length, thresholds, counts, candidates, capacity)
  }
  for (const [i, query] of group.entries()) {
    const scale = scaleOf(table, query)
    let at = candidates / 4 + i * capacity * 2
    for (const end = at + 2 * integers[counts / 4 + i]!; at < end; at += 2) {
      query.addCandidate(from + integers[at]!, floats[at + 1]! * scale)
    }
  }
}

/** What a score of 1 in the kernel stands for. */
function scaleOf({ residual }: ScanTable, query: QueryState): number {
  return residual === undefined ? 1 : query.codes.scale
}

/** Rows per call of the kernel: a multiple of 8, so that tiles begin at a byte of the bitmap. */
function tileRows(dim: number, queries: number, { candidates }: Sharing): number {
  if (queries === 1) return ROWS_OF_ONE_QUERY
  return Math.max(8, Math.floor(Math.min(TILE_BYTES / (4 * dim), candidates / queries) / 8) * 8)
}

/** The kernel memory that vectors lie in. */
function homeOf(vectors: Float32Array): Home | undefined {
  const home = homes.get(vectors.buffer)
  return home !== undefined && vectors.byteOffset === home.layout.vectors ? home : undefined
}

/** Scratch memory with room for a tile of rows. */
function scratchHome(dim: number): Home | undefined {
  const layout = layoutFor(ROWS_OF_ONE_QUERY, dim, false, COPIED)
  const memory = scratchMemory(layout.end)
  return memory && { memory, layout }
}
