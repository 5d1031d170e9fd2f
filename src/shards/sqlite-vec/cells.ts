/**
 * The file of cells that lies beside the database of a shard: what a builder puts into it, and what it must
 * be to those who open the shard.
 */
import { createHash } from "node:crypto"
import { closeSync, openSync, readFileSync, readSync } from "node:fs"
import { dirname, join } from "node:path"
import { corrupt } from "../../errors.js"
import { errorCode, fileError } from "../../storage/files.js"
import { GROUP_CELLS, ROWS_PER_CELL } from "../../vectors/cells/cells.js"
import {
  type CellsFile,
  checkCodes,
  decodeCells,
  encodeCells,
  SUM_STRETCH,
} from "../../vectors/cells/file.js"
import { CODED_ROWS_MIN, type ShardCells, shardCells } from "../../vectors/cells/shard.js"
import type { ShardRows, ShardSpec } from "../backend.js"
import { provenPageTable } from "./pages/prove.js"
import { CELLS_FILE } from "./schema.js"

/** Length of the checksum that says which codebook codes were made with. */
const SHA256_BYTES = 32

/** The cells of rows that are in order of id: in what order they are stored, and the codes. */
export function cellsOf({ rows, vectors }: ShardRows, { codes, dim }: ShardSpec): ShardCells {
  if (codes !== undefined) {
    const { space, books, rowsPerCell, mostCells } = codes.codebook
    return shardCells(space, books, vectors.subarray(0, rows * dim), { rowsPerCell, mostCells })
  }
  const order = Uint32Array.from({ length: rows }, (_, row) => row)
  return { order, starts: Uint32Array.of(0, rows), coded: undefined }
}

/** Bytes a row in the file of cells of a shard of so many rows, if sub-spaces have two dimensions. */
export function bytesPerRow(dim: number, rows: number): number {
  const rank = 4 + 1 / 8
  const sums = (SHA256_BYTES * 4 * dim) / SUM_STRETCH
  if (rows < CODED_ROWS_MIN) return Math.ceil(rank + sums)
  // A centre in bytes with three numbers for every cell, and one for every eight.
  const centres = ((1 + 1 / GROUP_CELLS) * (dim + 12)) / ROWS_PER_CELL
  return Math.ceil(rank + sums + centres + dim / 4 + 2)
}

/** The file of cells for a database that is complete. */
export function encodeShardCells(
  rows: ShardRows,
  spec: ShardSpec,
  { order, starts, coded }: ShardCells,
  database: string,
): Uint8Array {
  return encodeCells({
    rows: rows.rows,
    dim: spec.dim,
    codebook: coded === undefined ? new Uint8Array(SHA256_BYTES) : spec.codes!.sha256,
    starts,
    coded,
    home: inOrder(rows.home, order),
    ranks: order,
    database: { ...sumsOf(database), pages: provenPageTable(database, rows, spec.dim, order) },
  })
}

/** Bits by row as bits by position; without any, all are set. */
function inOrder(bits: Uint8Array | undefined, order: Uint32Array): Uint8Array {
  const out = new Uint8Array(Math.ceil(order.length / 8))
  for (const [position, row] of order.entries()) {
    if (bits === undefined || ((bits[row >> 3]! >> (row & 7)) & 1) === 1)
      out[position >> 3]! |= 1 << (position & 7)
  }
  return out
}

/** Length of a file, and the SHA-256 of every stretch of it. */
export function sumsOf(file: string): { readonly bytes: number; readonly sums: Uint8Array } {
  const descriptor = openSync(file, "r")
  try {
    const stretch = new Uint8Array(SUM_STRETCH)
    const sums: Uint8Array[] = []
    let bytes = 0
    for (;;) {
      const read = readSync(descriptor, stretch, 0, SUM_STRETCH, bytes)
      if (read === 0) break
      sums.push(createHash("sha256").update(stretch.subarray(0, read)).digest())
      bytes += read
    }
    return { bytes, sums: Buffer.concat(sums) }
  } finally {
    closeSync(descriptor)
  }
}

/** A shard's cells, with where its rows are. */
export interface PlacedCells extends CellsFile {
  /** The file. */
  readonly bytes: Uint8Array
  /** The position of each row, by its place in the order of ids: the inverse of `ranks`. */
  readonly positions: Uint32Array
}

/**
 * The cells of the shard whose database is `file`. Throws `Corrupt` if they are missing, or not those of a
 * database of so many rows and bytes, or made with another codebook than `spec` has. Without a codebook the
 * codes are not looked at.
 */
export function readCells(
  file: string,
  spec: ShardSpec,
  database: { readonly rows: number; readonly bytes: number },
): PlacedCells {
  const path = join(dirname(file), CELLS_FILE)
  const cells = placeCells(readWhole(path), path, spec)
  const misfit = (what: string): Error => corrupt(`${path} ${what}`, { file: path })
  if (cells.rows !== database.rows) {
    throw misfit(`has cells of ${cells.rows} rows, expected ${database.rows}`)
  }
  if (cells.database.bytes !== database.bytes) {
    throw misfit(`is for a database of ${cells.database.bytes} bytes, got ${database.bytes}`)
  }
  return cells
}

/** As {@link readCells}, from the content of the file `path`, whatever database that is for. */
export function placeCells(bytes: Uint8Array, path: string, { dim, codes }: ShardSpec): PlacedCells {
  const cells = decodeCells(bytes, path)
  const misfit = (what: string): Error => corrupt(`${path} ${what}`, { file: path })
  if (cells.dim !== dim) throw misfit(`has cells of ${cells.dim} dimensions, expected ${dim}`)
  if (codes !== undefined && cells.coded !== undefined) {
    checkCodes(cells, codes.codebook.space, codes.codebook.books, path)
    if (!Buffer.from(cells.codebook).equals(codes.sha256)) {
      throw misfit("has codes that were made with another codebook than that of its snapshot")
    }
  }
  const positions = new Uint32Array(cells.rows)
  for (const [position, rank] of cells.ranks.entries()) positions[rank] = position
  return { ...cells, bytes, positions }
}

function readWhole(path: string): Uint8Array {
  try {
    return readFileSync(path)
  } catch (error) {
    if (errorCode(error) === "ENOENT") throw corrupt(`${path} is missing`, { file: path }, error)
    throw fileError("read", path, error)
  }
}
