/**
 * `cells.bin`, one file a shard: its cells and codes, and what is needed to read its database in ranges.
 * Pure.
 *
 * All numbers are little-endian. Sections follow the header in this order, each padded with zeros to a
 * multiple of 16 bytes, so that the file can be used where it lies. Their lengths follow from the header.
 *
 * ```
 * header (128)   magic "VSNCELLS", version u32, flags u32 (1: offsets), rows u32, cells u32, dim u32,
 *                subspaces u32 (0: no codes), width u32, bytes of the page table u32, bytes of shard.db u64,
 *                SHA-256 of the codebook; zeros
 * starts         u32 × (cells + 1): the first position of each cell
 * directions     i8, mixed in eights; weights f32; lengths f32     (with codes)
 * groups         the same, for eight cells each                    (with codes)
 * scales         of factors f32 × cells; of offsets f32 × cells    (with codes; with offsets)
 * home           a bit a row, the lowest first: whether this shard is its home
 * ranks          u32 × rows: the place of each row's id among those of the shard
 * blocks         codes, factors and offsets of 16 rows each        (with codes; see codes.ts)
 * sums           SHA-256 of every 16 KiB of shard.db, of which the last may be short
 * pages          the page table of shard.db
 * ```
 */
import { corrupt, unsupported } from "../../errors.js"
import { codesLength } from "../kernel/codes.js"
import { type Books, subspacesOf } from "./books.js"
import { GROUP_CELLS } from "./cells.js"
import { blockLength, blocksOf } from "./codes.js"
import { type Directions, paddedToEights } from "./directions.js"
import type { CellSpace } from "./space.js"

const MAGIC = Buffer.from("VSNCELLS")
const VERSION = 1
const HEADER_BYTES = 128
const ALIGNMENT = 16
const WITH_OFFSETS = 1

/** `shard.db` has a sum for every so many bytes. */
export const SUM_STRETCH = 2 ** 14
const SUM_BYTES = 32

/** What is there only for shards that are searched through cells. */
export interface CodedCells {
  readonly subspaces: number
  readonly width: number
  /** Where distances are compared. */
  readonly hasOffsets: boolean
  readonly directions: Directions
  readonly lengths: Float32Array
  readonly groups: Directions
  readonly groupLengths: Float32Array
  readonly factorScales: Float32Array
  readonly offsetScales: Float32Array
  readonly blocks: Uint8Array
}

export interface CellsFile {
  readonly rows: number
  readonly dim: number
  /** SHA-256 of the codebook that codes were made with. */
  readonly codebook: Uint8Array
  /** Positions: those of cell c are `starts[c]` up to `starts[c + 1]`. */
  readonly starts: Uint32Array
  readonly coded: CodedCells | undefined
  /** A bit a position, the lowest first. */
  readonly home: Uint8Array
  /** By position. */
  readonly ranks: Uint32Array
  readonly database: {
    readonly bytes: number
    /** 32 bytes for every {@link SUM_STRETCH}. */
    readonly sums: Uint8Array
    readonly pages: Uint8Array
  }
}

interface Shape {
  readonly rows: number
  readonly cells: number
  readonly dim: number
  readonly subspaces: number
  readonly hasOffsets: boolean
  readonly databaseBytes: number
  readonly pageBytes: number
}

const aligned = (bytes: number): number => Math.ceil(bytes / ALIGNMENT) * ALIGNMENT

/** Bytes of every section but the blocks, whose number the starts tell. */
function lengthsOf({ rows, cells, dim, subspaces, hasOffsets, databaseBytes, pageBytes }: Shape) {
  const coded = subspaces > 0 ? 1 : 0
  const groups = Math.ceil(cells / GROUP_CELLS)
  return {
    starts: 4 * (cells + 1),
    directions: coded * codesLength(cells, dim),
    weights: coded * 4 * paddedToEights(cells),
    lengths: coded * 4 * cells,
    groups: coded * codesLength(groups, dim),
    groupWeights: coded * 4 * paddedToEights(groups),
    groupLengths: coded * 4 * groups,
    factorScales: coded * 4 * cells,
    offsetScales: hasOffsets ? coded * 4 * cells : 0,
    home: Math.ceil(rows / 8),
    ranks: 4 * rows,
    blocks: 0,
    sums: SUM_BYTES * Math.ceil(databaseBytes / SUM_STRETCH),
    pages: pageBytes,
  }
}
type Section = keyof ReturnType<typeof lengthsOf>

function blockCount(starts: Uint32Array): number {
  let blocks = 0
  for (let cell = 0; cell + 1 < starts.length; cell++) blocks += blocksOf(starts[cell + 1]! - starts[cell]!)
  return blocks
}

/** The file. The same content makes the same bytes. */
export function encodeCells(file: CellsFile): Uint8Array<ArrayBuffer> {
  const { rows, dim, starts, coded, database } = file
  const shape = {
    rows,
    cells: starts.length - 1,
    dim,
    subspaces: coded?.subspaces ?? 0,
    hasOffsets: coded?.hasOffsets ?? false,
    databaseBytes: database.bytes,
    pageBytes: database.pages.length,
  }
  const contents: [Section, ArrayBufferView | undefined][] = [
    ["starts", starts],
    ["directions", coded?.directions.codes],
    ["weights", coded?.directions.weights],
    ["lengths", coded?.lengths],
    ["groups", coded?.groups.codes],
    ["groupWeights", coded?.groups.weights],
    ["groupLengths", coded?.groupLengths],
    ["factorScales", coded?.factorScales],
    ["offsetScales", coded?.hasOffsets ? coded.offsetScales : undefined],
    ["home", file.home],
    ["ranks", file.ranks],
    ["blocks", coded?.blocks],
    ["sums", database.sums],
    ["pages", database.pages],
  ]
  const total = contents.reduce((sum, [, part]) => sum + aligned(part?.byteLength ?? 0), HEADER_BYTES)
  const bytes = new Uint8Array(total)
  const header = Buffer.from(bytes.buffer, 0, HEADER_BYTES)
  MAGIC.copy(header)
  header.writeUInt32LE(VERSION, 8)
  header.writeUInt32LE(shape.hasOffsets ? WITH_OFFSETS : 0, 12)
  header.writeUInt32LE(rows, 16)
  header.writeUInt32LE(shape.cells, 20)
  header.writeUInt32LE(dim, 24)
  header.writeUInt32LE(shape.subspaces, 28)
  header.writeUInt32LE(coded?.width ?? 0, 32)
  header.writeUInt32LE(shape.pageBytes, 36)
  header.writeBigUInt64LE(BigInt(shape.databaseBytes), 40)
  header.set(file.codebook, 48)
  let at = HEADER_BYTES
  for (const [, part] of contents) {
    if (part === undefined) continue
    bytes.set(new Uint8Array(part.buffer, part.byteOffset, part.byteLength), at)
    at += aligned(part.byteLength)
  }
  return bytes
}

/**
 * What a file holds, as views of its bytes where these begin at a multiple of 16 in their buffer, else of a
 * copy. `name` is for messages. Throws `Corrupt` if it is no such file or cut off or contradicts itself, and
 * `Unsupported` for another version. That no other byte was changed is for its checksum to say.
 */
export function decodeCells(given: Uint8Array, name: string): CellsFile {
  const bytes = given.byteOffset % ALIGNMENT === 0 ? given : given.slice()
  const bad = (what: string) => corrupt(`${name} ${what}`, { file: name })
  if (bytes.length < HEADER_BYTES || MAGIC.some((byte, i) => bytes[i] !== byte)) {
    throw bad(`is no file of cells: it does not begin with ${MAGIC.toString()} and a header`)
  }
  const header = new DataView(bytes.buffer, bytes.byteOffset, HEADER_BYTES)
  const u32 = (at: number): number => header.getUint32(at, true)
  if (u32(8) !== VERSION) {
    throw unsupported(`${name} has version ${u32(8)} of cells, expected ${VERSION}: upgrade vecsnap`, {
      file: name,
      version: u32(8),
    })
  }
  const databaseBytes = Number(header.getBigUint64(40, true))
  const width = u32(32)
  const shape: Shape = {
    rows: u32(16),
    cells: u32(20),
    dim: u32(24),
    subspaces: u32(28),
    hasOffsets: u32(12) === WITH_OFFSETS,
    databaseBytes,
    pageBytes: u32(36),
  }
  const { rows, cells, dim, subspaces, hasOffsets } = shape
  if (u32(12) > WITH_OFFSETS || dim === 0 || (subspaces === 0 ? width !== 0 : ![1, 2, 4].includes(width))) {
    throw bad(`has a header that makes no sense (dim ${dim}, ${subspaces} sub-spaces of ${width})`)
  }
  if (subspaces > 0 && subspacesOf(dim, width) !== subspaces) {
    throw bad(
      `has ${subspaces} sub-spaces of ${width} dimensions, expected ${subspacesOf(dim, width)} for ${dim}`,
    )
  }
  const lengths = lengthsOf(shape)
  if (HEADER_BYTES + lengths.starts > bytes.length) {
    throw bad(`is ${bytes.length} bytes, too few for ${cells} cells`)
  }
  const starts = new Uint32Array(bytes.buffer, bytes.byteOffset + HEADER_BYTES, cells + 1)
  if (
    starts[0] !== 0 ||
    starts[cells] !== rows ||
    starts.some((start, i) => i > 0 && start < starts[i - 1]!)
  ) {
    throw bad(`has cells that do not follow one another up to ${rows} rows`)
  }
  if (subspaces > 0) lengths.blocks = blockCount(starts) * blockLength(subspaces, hasOffsets)
  let end = HEADER_BYTES
  const at = {} as Record<Section, number>
  for (const [section, length] of Object.entries(lengths) as [Section, number][]) {
    at[section] = bytes.byteOffset + end
    end += aligned(length)
  }
  if (end !== bytes.length) throw bad(`is ${bytes.length} bytes, expected ${end} by its header`)
  const raw = (section: Section) => new Uint8Array(bytes.buffer, at[section], lengths[section])
  const floats = (section: Section) => {
    const view = new Float32Array(bytes.buffer, at[section], lengths[section] / 4)
    if (!view.every(Number.isFinite)) throw bad(`has numbers among its ${section} that are not finite`)
    return view
  }
  const directions = (codes: Section, weights: Section): Directions => ({
    codes: new Int8Array(bytes.buffer, at[codes], lengths[codes]),
    weights: floats(weights),
  })
  const ranks = new Uint32Array(bytes.buffer, at.ranks, rows)
  if (!isPermutation(ranks)) throw bad(`has ranks of ids that are not those of ${rows} rows`)
  return {
    rows,
    dim,
    codebook: new Uint8Array(bytes.buffer, bytes.byteOffset + 48, SUM_BYTES),
    starts,
    coded:
      subspaces === 0
        ? undefined
        : {
            subspaces,
            width,
            hasOffsets,
            directions: directions("directions", "weights"),
            lengths: floats("lengths"),
            groups: directions("groups", "groupWeights"),
            groupLengths: floats("groupLengths"),
            factorScales: floats("factorScales"),
            offsetScales: floats("offsetScales"),
            blocks: raw("blocks"),
          },
    home: raw("home"),
    ranks,
    database: { bytes: databaseBytes, sums: raw("sums"), pages: raw("pages") },
  }
}

/**
 * Throws `Corrupt` unless the codes of a file are such as these books and this space make. Its `codebook`
 * says whether it is the very same.
 */
export function checkCodes(
  file: CellsFile,
  { comparison, dim }: CellSpace,
  books: Books,
  name: string,
): void {
  const { coded } = file
  const fits =
    coded === undefined ||
    (coded.subspaces === books.subspaces &&
      coded.width === books.width &&
      coded.hasOffsets === (comparison === "distances"))
  if (fits && file.dim === dim) return
  throw corrupt(
    `${name} has codes of ${coded?.subspaces ?? 0} × ${coded?.width ?? 0} for ${file.dim} dimensions, expected ${books.subspaces} × ${books.width} for ${dim}, ${comparison}`,
    { file: name },
  )
}

function isPermutation(numbers: Uint32Array): boolean {
  const seen = new Uint8Array(numbers.length)
  for (const number of numbers) {
    if (number >= seen.length || seen[number] === 1) return false
    seen[number] = 1
  }
  return true
}
