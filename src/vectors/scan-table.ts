/**
 * Rows to be scanned: what is computed of them once, and where it lies in a kernel memory, of their own or
 * one that others divide.
 */
import { LENGTH_MAX, LENGTH_MIN } from "./kernel/bounds.js"
import {
  CODED_TOGETHER,
  codeLength,
  codeOffset,
  codeStart,
  codesLength,
  roundToIntegers,
} from "./kernel/codes.js"
import { GUARD_BYTES, KernelMemory, packedLength, scratchMemory } from "./kernel/memory.js"
import type { Metric } from "./metric.js"

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
   * If rows were also rounded to bytes: length of the largest difference that made, under `cosine` relative
   * to the row. Then the kernel passes over those, a quarter of the memory.
   */
  readonly residual: number | undefined
  /** Where the kernel finds the rows; undefined where they are copied piece by piece by every scan. */
  readonly home: TableHome | undefined
}

/** A place in a kernel memory for queries and what is found, and one for the rows. */
export interface TableHome {
  readonly memory: KernelMemory
  readonly scratch: ScratchPlaces
  readonly table: TablePlaces
}

/**
 * Prepares row-major `vectors` for scanning. They must not change afterwards. `norms`: if they are known from
 * before. Scans are fastest over vectors in memory from {@link allocateVectors}; others are copied piece by
 * piece by every scan.
 */
export function createScanTable(
  metric: Metric,
  vectors: Float32Array,
  dim: number,
  norms: RowNorms = rowNorms(metric, vectors, dim),
): ScanTable {
  const rows = vectors.length / dim
  const known = homes.get(vectors.buffer)
  const home = vectors.byteOffset === known?.table.vectors ? known : undefined
  home?.memory.floats.set(norms.inverse, home.table.weights / 4)
  const residual =
    home && metric !== "l2" && norms.ordinary
      ? roundToCodes(home.memory.floats.buffer, home.table, vectors, norms, dim)
      : undefined
  return Object.freeze({ metric, dim, rows, vectors, norms, residual, home })
}

function rowNorms(
  metric: Metric,
  vectors: Float32Array,
  dim: number,
  inverse: Float64Array = new Float64Array(metric === "cosine" ? vectors.length / dim : 0),
): RowNorms {
  const rows = vectors.length / dim
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

export function squaredNorm(vectors: Float32Array, start: number, dim: number): number {
  let sum = 0
  for (let i = start; i < start + dim; i++) sum += vectors[i]! * vectors[i]!
  return sum
}

// Elements become integers of at most this size.
const CODE_MAX = 127
// Where single elements are much larger than the rest, bytes are too coarse, and too many rows would have to
// be looked at again. Relative to the longest row.
const RESIDUAL_MAX = 0.02

/**
 * Writes every row, under cosine scaled to length 1, as bytes and a weight. Returns the length of the largest
 * difference; undefined if that is too much for the codes to be of use.
 */
function roundToCodes(
  buffer: ArrayBufferLike,
  places: Pick<TablePlaces, "codes" | "codeWeights">,
  vectors: Float32Array,
  { inverse, longest }: RowNorms,
  dim: number,
): number | undefined {
  const isCosine = inverse.length > 0
  const codes = new Int8Array(buffer)
  const weights = new Float32Array(buffer, places.codeWeights)
  let largest = 0
  for (let row = 0; row * dim < vectors.length; row++) {
    const start = row * dim
    let largestElement = 0
    for (let i = start; i < start + dim; i++) {
      const size = Math.abs(vectors[i]!)
      if (size > largestElement) largestElement = size
    }
    const unit = isCosine ? inverse[row]! : 1
    const perElement = largestElement === 0 ? 0 : CODE_MAX / largestElement
    weights[row] = perElement === 0 ? 0 : unit / perElement
    const weight = weights[row]!
    const place = places.codes + codeStart(row, dim)
    let squared = 0
    for (let i = 0; i < dim; i++) {
      const element = vectors[start + i]!
      // Rounds: a positive number is truncated.
      const code = ((element * perElement + CODE_MAX + 0.5) | 0) - CODE_MAX
      codes[place + codeOffset(i)] = code
      const difference = element * unit - weight * code
      squared += difference * difference
    }
    if (squared > largest) largest = squared
  }
  const residual = Math.sqrt(largest)
  return residual <= RESIDUAL_MAX * (isCosine ? 1 : longest) ? residual : undefined
}

export interface QueryCodes {
  readonly integers: Int16Array
  /** What an integer of 1 stands for. */
  readonly scale: number
  /** Length of the difference that rounding made. */
  readonly residual: number
}

/** A query as it is compared with rows of bytes. */
export function roundQuery(vector: Float32Array): QueryCodes {
  const integers = new Int16Array(codeLength(vector.length))
  const scale = roundToIntegers(vector, CODE_MAX, integers)
  let squared = 0
  for (let i = 0; i < vector.length; i++) squared += (vector[i]! - scale * integers[i]!) ** 2
  return { integers, scale, residual: Math.sqrt(squared) }
}

interface Sharing {
  /** As many queries share a pass over the rows, so that the rows come from memory once for all of them. */
  readonly queries: number
  /** Rows per call of the kernel times queries, and so the candidates that there is room for. */
  readonly candidates: number
}
const IN_PLACE: Sharing = { queries: 8, candidates: 8192 }
/** A copy of the rows is to serve more of them; there is one such memory a thread. */
const COPIED: Sharing = { queries: 64, candidates: 2 ** 15 }
// Rows that are copied through scratch memory at a time.
const SCRATCH_ROWS = 2048

/** Where a scan has its queries and what it finds, in bytes. */
interface ScratchPlaces {
  readonly sharing: Sharing
  readonly queries: number
  readonly thresholds: number
  readonly counts: number
  readonly scores: number
  readonly candidates: number
  readonly allowed: number
  readonly end: number
}

/** Where the rows of a table lie, in bytes. */
interface TablePlaces {
  /** That there is room for. */
  readonly rows: number
  readonly vectors: number
  readonly weights: number
  readonly codes: number
  readonly codeWeights: number
  readonly end: number
}

/** `at`: a multiple of 16. `rows`: most that are scanned. */
function scratchPlaces(at: number, rows: number, dim: number, most: Sharing): ScratchPlaces {
  const candidatesOfAll = most.queries * Math.max(CODED_TOGETHER, inEights(rows))
  const sharing = { queries: most.queries, candidates: Math.min(most.candidates, candidatesOfAll) }
  const thresholds = at + sharing.queries * packedLength(dim) * 4
  const counts = thresholds + sharing.queries * 4
  const scores = counts + sharing.queries * 4
  const candidates = scores + CODED_TOGETHER * 4
  const allowed = candidates + sharing.candidates * 8
  const end = allowed + Math.ceil(sharing.candidates / 128) * 16
  return { sharing, queries: at, thresholds, counts, scores, candidates, allowed, end }
}

/** `rest`: where everything but the vectors begins; both are multiples of 16. */
function tablePlaces(
  vectors: number,
  rest: number,
  { rows, dim, withCodes }: { readonly rows: number; readonly dim: number; readonly withCodes: boolean },
): TablePlaces {
  const codes = rest + Math.ceil(rows / 4) * 16
  const codeWeights = codes + (withCodes ? codesLength(rows, dim) : 0)
  const end = codeWeights + (withCodes ? inEights(rows) * 4 : 0)
  return { rows, vectors, weights: rest, codes, codeWeights, end }
}

const inEights = (rows: number): number => Math.ceil(rows / CODED_TOGETHER) * CODED_TOGETHER

const vectorBytes = (rows: number, dim: number): number => Math.ceil((rows * dim) / 4) * 16

/** Tables that live in a kernel memory of their own, by its buffer. */
const homes = new WeakMap<ArrayBufferLike, TableHome>()

function ownPlaces(metric: Metric, rows: number, dim: number) {
  const scratch = scratchPlaces(GUARD_BYTES, rows, dim, IN_PLACE)
  const rest = scratch.end + vectorBytes(rows, dim)
  return { scratch, table: tablePlaces(scratch.end, rest, { rows, dim, withCodes: metric !== "l2" }) }
}

/**
 * Zeroed memory for `rows × dim` vectors of a table of this metric, where the compiled kernel can scan them
 * in place; ordinary memory where that cannot be had. {@link vectorMemoryBytes} is what it takes.
 */
export function allocateVectors(metric: Metric, rows: number, dim: number): Float32Array {
  const { scratch, table } = ownPlaces(metric, rows, dim)
  const memory = KernelMemory.create(table.end)
  if (memory === undefined) return new Float32Array(rows * dim)
  homes.set(memory.floats.buffer, { memory, scratch, table })
  return memory.floats.subarray(table.vectors / 4, table.vectors / 4 + rows * dim)
}

/** Memory that a table made of {@link allocateVectors} takes, norms included. */
export function vectorMemoryBytes(metric: Metric, rows: number, dim: number): number {
  return ownPlaces(metric, rows, dim).table.end + (metric === "cosine" ? rows * 8 : 0)
}

/** Scratch memory with room for a tile of rows. */
export function scratchHome(dim: number): TableHome | undefined {
  const scratch = scratchPlaces(GUARD_BYTES, SCRATCH_ROWS, dim, COPIED)
  const rest = scratch.end + vectorBytes(SCRATCH_ROWS, dim)
  const table = tablePlaces(scratch.end, rest, { rows: SCRATCH_ROWS, dim, withCodes: false })
  const memory = scratchMemory(table.end)
  return memory && { memory, scratch, table }
}

/** Rows that lie in a memory which its owner divides. */
export interface PlacedRows {
  readonly metric: Metric
  readonly rows: number
  readonly dim: number
  /** Where the vectors lie, in bytes: a multiple of 16, and not the first 16. */
  readonly vectors: number
  /** Where {@link placedBytes} begin for what is computed of them: a multiple of 16. */
  readonly rest: number
}

/** What was computed of {@link PlacedRows} besides what lies in their memory. */
export interface PlacedFacts {
  readonly longest: number
  readonly ordinary: boolean
  readonly residual: number | undefined
}

function placesOf({ metric, rows, dim, vectors, rest }: PlacedRows): {
  readonly table: TablePlaces
  readonly inverse: number
  readonly end: number
} {
  const table = tablePlaces(vectors, rest, { rows, dim, withCodes: metric !== "l2" })
  const inverse = Math.ceil(table.end / 8) * 8
  return { table, inverse, end: inverse + (metric === "cosine" ? rows * 8 : 0) }
}

/** Bytes that a table takes in a memory that is divided, beside its vectors. */
export const placedBytes = (metric: Metric, rows: number, dim: number): number =>
  placesOf({ metric, rows, dim, vectors: 0, rest: 0 }).end

/** Bytes that a thread takes there to scan tables of this dimension. */
export const scratchBytes = (dim: number): number => scratchPlaces(0, Infinity, dim, IN_PLACE).end

/** Computes once, for all threads, what scans need to know of rows. */
export function prepareRows(buffer: ArrayBufferLike, placed: PlacedRows): PlacedFacts {
  const { metric, rows, dim } = placed
  const { table, inverse } = placesOf(placed)
  const vectors = new Float32Array(buffer, table.vectors, rows * dim)
  const inverseNorms = new Float64Array(buffer, inverse, metric === "cosine" ? rows : 0)
  const norms = rowNorms(metric, vectors, dim, inverseNorms)
  new Float32Array(buffer, table.weights, norms.inverse.length).set(norms.inverse)
  const residual =
    metric !== "l2" && norms.ordinary ? roundToCodes(buffer, table, vectors, norms, dim) : undefined
  return { longest: norms.longest, ordinary: norms.ordinary, residual }
}

/**
 * The table of rows that {@link prepareRows} has prepared. `kernel`: a thread's kernel over the buffer, if it
 * has one, and where its {@link scratchBytes} begin there, a multiple of 16.
 */
export function placedTable(
  buffer: ArrayBufferLike,
  placed: PlacedRows,
  { longest, ordinary, residual }: PlacedFacts,
  kernel: { readonly memory: KernelMemory; readonly scratch: number } | undefined,
): ScanTable {
  const { metric, rows, dim } = placed
  const { table, inverse } = placesOf(placed)
  const home = kernel && {
    memory: kernel.memory,
    scratch: scratchPlaces(kernel.scratch, rows, dim, IN_PLACE),
    table,
  }
  return Object.freeze({
    metric,
    dim,
    rows,
    vectors: new Float32Array(buffer, table.vectors, rows * dim),
    norms: {
      inverse: new Float64Array(buffer, inverse, metric === "cosine" ? rows : 0),
      longest,
      ordinary,
    },
    // Rows that are copied to be scanned have no bytes with them.
    residual: home && residual,
    home,
  })
}
