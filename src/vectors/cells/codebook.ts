/**
 * What the shards of a snapshot share, so that one set of tables a query serves all of them: the space, the
 * books, and how cells are made. Trained on a sample; the width of sub-spaces is chosen by measurement.
 */
import { corrupt, unsupported } from "../../errors.js"
import { METRICS, type Metric } from "../metric.js"
import { decodeNpz, encodeNpz } from "../npz.js"
import { allocateVectors, createScanTable, scanMany } from "../scan.js"
import { type Books, CENTRES, codesOf, errorOf, subspacesOf, trainBooks } from "./books.js"
import { CELLS_MAX, type CellOptions, type Cells, formCells, ROWS_PER_CELL } from "./cells.js"
import { residualsOf } from "./codes.js"
import { encodeCells } from "./file.js"
import { prepareCells } from "./search.js"
import { shardCells } from "./shard.js"
import { type CellSpace, cellSpace, inSpace } from "./space.js"

export interface Codebook {
  readonly space: CellSpace
  readonly books: Books
  readonly rowsPerCell: number
  /** In a shard. */
  readonly mostCells: number
  /** As many best estimates as hardly ever miss one of the true ten. */
  readonly best: number
  /** Mean squared length of what codes lose of the sample's residuals, which have length 1. */
  readonly error: number
}

/** What all shards of a snapshot share that have cells; plain data, so that threads can be given it. */
export interface SnapshotCodes {
  readonly codebook: Codebook
  /** SHA-256 of its file, 32 bytes: by it files of cells say which codebook they were made with. */
  readonly sha256: Uint8Array
}

export interface CodebookOptions {
  /** Dimensions a sub-space. Default: as many as are good enough. */
  readonly width?: 1 | 2 | 4 | undefined
  readonly rowsPerCell?: number | undefined
  readonly mostCells?: number | undefined
}

/** Rows that a codebook is trained on at most; more only take longer. */
export const CODEBOOK_ROWS = 32_768

/** The smallest code first. */
const WIDTHS = [4, 2, 1] as const
/** Share of the true ten that must be among the best estimates, and how many those may be. */
const SHARE = 0.999
const BESTS = [30, 50, 70, 100, 150, 200, 300]
const BEST_MAX = 300
const NEAREST = 10
/** One row of the sample in so many is a query, 1,024 at most. */
const QUERY_STRIDE = 32
const QUERIES_MAX = 1024
/** The sample is divided into parts like shards. */
const PART_ROWS = 4096

/**
 * The codebook for rows of which `sample` (`rows × dim`, as given, more than {@link CODEBOOK_ROWS} are not
 * looked at) is one. The same sample gives the same codebook on every machine with compiled kernels; where
 * there are none, nothing is measured, and the width is 2 unless it is given.
 */
export function trainCodebook(
  metric: Metric,
  sample: Float32Array,
  dim: number,
  options: CodebookOptions = {},
): Codebook {
  const { width, rowsPerCell = ROWS_PER_CELL, mostCells = CELLS_MAX } = options
  const { kept, queries } = split(sample.subarray(0, CODEBOOK_ROWS * dim), dim)
  const space = cellSpace(metric, kept, dim)
  const cellOptions = { rowsPerCell, mostCells }
  const parts = cellsOf(space, kept, cellOptions)
  const nearest = nearestOf(metric, parts, dim, queries)
  let books: Books
  let best: number | undefined
  let error: number
  for (const tried of width === undefined ? WIDTHS : [width]) {
    const trained = trainOn(parts, dim, tried)
    books = trained.books
    error = trained.error
    const places = placesOf(space, books, parts, queries, nearest, cellOptions)
    if (places === undefined && tried !== 2) continue
    best = BESTS.find((count) => places !== undefined && shareWithin(places, count) >= SHARE)
    if (best !== undefined || places === undefined) break
  }
  return { space, books: books!, rowsPerCell, mostCells, best: best ?? BEST_MAX, error: error! }
}

/** A codebook whose error has grown by no more than this since it was trained is as good as new. */
const WORSE = 0.03
/**
 * Over the root of the rows: by so much it grows, about, with every other sample of the same rows. Measured
 * with 1,100 to 10,000 rows that differ in one.
 */
const BY_CHANCE = 3

/**
 * Whether an older codebook is about as good for rows of which `sample` is one as it was for those that it
 * was trained on. For the sample that it was trained on it is.
 */
export function stillFits({ space, books, error, ...options }: Codebook, sample: Float32Array): boolean {
  const { kept } = split(sample.subarray(0, CODEBOOK_ROWS * space.dim), space.dim)
  if (cellSpace(space.metric, kept, space.dim).comparison !== space.comparison) return false
  const residuals = residualsFor(cellsOf(space, kept, options), books)
  const allowed = 1 + WORSE + BY_CHANCE / Math.sqrt(kept.length / space.dim)
  return errorOf(residuals, codesOf(residuals, books), books) <= allowed * error
}

interface Part {
  readonly vectors: Float32Array
  readonly rows: Float32Array
  readonly cells: Cells
}

/** Queries to measure with, and the rows that are left. */
function split(sample: Float32Array, dim: number): { kept: Float32Array; queries: Float32Array } {
  const rows = sample.length / dim
  const isQuery = (row: number) => row % QUERY_STRIDE === QUERY_STRIDE - 1 && row < QUERY_STRIDE * QUERIES_MAX
  const pick = (wanted: boolean) => {
    const some = Array.from({ length: rows }, (_, row) => row).filter((row) => isQuery(row) === wanted)
    const out = new Float32Array(some.length * dim)
    for (const [i, row] of some.entries()) out.set(sample.subarray(row * dim, (row + 1) * dim), i * dim)
    return out
  }
  return { kept: pick(false), queries: pick(true) }
}

function partsOf(space: CellSpace, vectors: Float32Array): Float32Array[] {
  const { dim } = space
  const { order, starts, count } = formCells(space, inSpace(space, vectors), { rowsPerCell: PART_ROWS })
  return Array.from({ length: count }, (_, part) => {
    const members = order.subarray(starts[part]!, starts[part + 1]!)
    const out = new Float32Array(members.length * dim)
    for (const [i, row] of members.entries()) out.set(vectors.subarray(row * dim, (row + 1) * dim), i * dim)
    return out
  })
}

/** The parts of a sample with their cells. */
function cellsOf(space: CellSpace, sample: Float32Array, options: CellOptions): readonly Part[] {
  return partsOf(space, sample).map((vectors) => {
    const rows = inSpace(space, vectors)
    return { vectors, rows, cells: formCells(space, rows, options) }
  })
}

function trainOn(parts: readonly Part[], dim: number, width: number): { books: Books; error: number } {
  const subspaces = subspacesOf(dim, width)
  return trainBooks(residualsFor(parts, { subspaces, width }), subspaces, width)
}

function residualsFor(
  parts: readonly Part[],
  { subspaces, width }: Pick<Books, "subspaces" | "width">,
): Float32Array {
  const stride = subspaces * width
  const rows = parts.reduce((sum, part) => sum + part.cells.order.length, 0)
  const residuals = new Float32Array(rows * stride)
  let at = 0
  for (const part of parts) {
    const some = residualsOf(part.cells, part.rows, stride).directions
    residuals.set(some, at)
    at += some.length
  }
  return residuals
}

/** The nearest ten of every query, by their number among the rows of all parts. */
function nearestOf(
  metric: Metric,
  parts: readonly Part[],
  dim: number,
  queries: Float32Array,
): readonly Int32Array[] {
  const rows = parts.reduce((sum, part) => sum + part.cells.order.length, 0)
  if (rows === 0 || queries.length === 0) return []
  const vectors = allocateVectors(metric, rows, dim)
  let at = 0
  for (const part of parts) {
    vectors.set(part.vectors, at)
    at += part.vectors.length
  }
  return scanMany(createScanTable(metric, vectors, dim), queries, NEAREST).map(({ ranks }) => ranks)
}

/**
 * For each of the nearest rows of every query, how many estimates are better. Undefined without compiled
 * kernels.
 */
function placesOf(
  space: CellSpace,
  books: Books,
  parts: readonly Part[],
  queries: Float32Array,
  nearest: readonly Int32Array[],
  options: { readonly rowsPerCell: number; readonly mostCells: number },
): readonly number[] | undefined {
  const { dim } = space
  const shards = parts.map(({ vectors }) => {
    const { order, starts, coded } = shardCells(space, books, vectors, options, 0)
    const rows = order.length
    const none = new Uint8Array(0)
    const cells = encodeCells({
      rows,
      dim,
      codebook: new Uint8Array(32),
      starts,
      coded,
      home: new Uint8Array(Math.ceil(rows / 8)),
      ranks: order,
      database: { bytes: 0, sums: none, pages: none },
    })
    return { cells, vectors }
  })
  const prepared = prepareCells(space, books, shards)
  if (prepared === undefined) return undefined
  const records = prepared.shards.flatMap(({ record }) => record ?? [])
  const cells = records.reduce((sum, record) => sum + record.cells, 0)
  return nearest.flatMap((rows, i) => {
    const query = queries.subarray(i * dim, (i + 1) * dim)
    const found = prepared.scan?.find(records, query, { cells, best: BEST_MAX })
    const order = found === undefined ? [] : rowsByEstimate(found.candidates)
    const places = new Map(order.map((row, place) => [prepared.rankOf(row), place]))
    return Array.from(rows, (row) => places.get(row) ?? Infinity)
  })
}

/** Of pairs of a row and its estimate, the rows by rising estimate. */
function rowsByEstimate(pairs: Uint32Array): number[] {
  const estimates = new Float32Array(pairs.slice().buffer)
  const order = Array.from({ length: pairs.length / 2 }, (_, i) => i)
  order.sort((a, b) => estimates[2 * a + 1]! - estimates[2 * b + 1]! || pairs[2 * a]! - pairs[2 * b]!)
  return order.map((i) => pairs[2 * i]!)
}

function shareWithin(places: readonly number[], count: number): number {
  if (places.length === 0) return 1
  return places.filter((place) => place < count).length / places.length
}

const VERSION = 1
const COMPARISONS = ["directions", "products", "distances"] as const

/** The file of a codebook, NumPy's `.npz`; the same for the same codebook. */
export function encodeCodebook({ space, books, rowsPerCell, mostCells, best, error }: Codebook): Uint8Array {
  const { subspaces, width, centres } = books
  const { metric, dim, comparison } = space
  const kinds = [METRICS.indexOf(metric), COMPARISONS.indexOf(comparison)]
  const parameters = [VERSION, ...kinds, dim, width, rowsPerCell, mostCells, best]
  return encodeNpz({
    "parameters.npy": { shape: [parameters.length], data: Int32Array.from(parameters) },
    "origin.npy": { shape: [space.dim], data: space.origin },
    "centres.npy": { shape: [subspaces, width, CENTRES], data: centres },
    "error.npy": { shape: [1], data: Float64Array.of(error) },
  })
}

/**
 * The codebook of a file, whose name is for messages. Throws `Corrupt` for what is no codebook, and
 * `Unsupported` for one of another version.
 */
export function decodeCodebook(bytes: Uint8Array, name: string): Codebook {
  const arrays = decodeNpz(bytes, name)
  const parameters = arrays["parameters.npy"]?.data
  const origin = arrays["origin.npy"]?.data
  const centres = arrays["centres.npy"]?.data
  const error = arrays["error.npy"]?.data
  const bad = (what: string) => corrupt(`${name} is no codebook: ${what}`, { file: name })
  if (!(parameters instanceof Int32Array)) throw bad("it has no parameters")
  const [version, metricNumber, comparisonNumber, dim, width, rowsPerCell, mostCells, best] = parameters
  if (version !== VERSION) {
    throw unsupported(`${name} has version ${version} of codebooks, expected ${VERSION}: upgrade vecsnap`, {
      file: name,
      version,
    })
  }
  const metric = METRICS[metricNumber ?? -1]
  const comparison = COMPARISONS[comparisonNumber ?? -1]
  const counts = [dim, width, rowsPerCell, mostCells, best]
  if (
    metric === undefined ||
    comparison === undefined ||
    counts.some((count) => count === undefined || count < 1)
  ) {
    throw bad(`its parameters are ${Array.from(parameters).join(", ")}`)
  }
  if (![1, 2, 4].includes(width!)) throw bad(`its sub-spaces have ${width} dimensions, expected 1, 2 or 4`)
  const subspaces = subspacesOf(dim!, width!)
  const areFinite = (numbers: Float32Array) => numbers.every(Number.isFinite)
  if (!(origin instanceof Float32Array && origin.length === dim && areFinite(origin))) {
    throw bad(`it has no origin of ${dim} finite numbers`)
  }
  const length = subspaces * width! * CENTRES
  if (!(centres instanceof Float32Array && centres.length === length && areFinite(centres))) {
    throw bad(`it has no centres, ${length} finite numbers`)
  }
  if (!(error instanceof Float64Array && error.length === 1 && error[0]! >= 0)) throw bad("it has no error")
  return {
    space: { metric, dim: dim!, comparison, origin },
    books: { subspaces, width: width!, centres },
    rowsPerCell: rowsPerCell!,
    mostCells: mostCells!,
    best: best!,
    error: error[0]!,
  }
}
