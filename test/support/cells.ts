/** Shards with cells made of vectors in memory, for tests and benchmarks of what searches them. */
import { createHash } from "node:crypto"
import { type Books, subspacesOf, trainBooks } from "../../src/vectors/cells/books.js"
import { type CellOptions, formCells } from "../../src/vectors/cells/cells.js"
import { residualsOf } from "../../src/vectors/cells/codes.js"
import { type CellsFile, encodeCells, SUM_STRETCH } from "../../src/vectors/cells/file.js"
import type { CellShard } from "../../src/vectors/cells/search.js"
import { shardCells } from "../../src/vectors/cells/shard.js"
import { type CellSpace, inSpace } from "../../src/vectors/cells/space.js"

/** Books trained on residuals of vectors against cells of their own. */
export function booksFor(
  space: CellSpace,
  vectors: Float32Array,
  width: number,
  options?: CellOptions,
): Books {
  const rows = inSpace(space, vectors)
  const subspaces = subspacesOf(space.dim, width)
  const { directions } = residualsOf(formCells(space, rows, options), rows, subspaces * width)
  return trainBooks(directions, subspaces, width).books
}

/**
 * The content of a file of cells; every third row is a copy from elsewhere. Fewer rows than `fewest` have no
 * codes.
 */
export function cellsFileOf(
  space: CellSpace,
  books: Books,
  vectors: Float32Array,
  options?: CellOptions,
  fewest = 0,
): { readonly file: CellsFile; readonly order: Uint32Array } {
  const { dim } = space
  const { order, starts, coded } = shardCells(space, books, vectors, options, fewest)
  const count = vectors.length / dim
  const home = new Uint8Array(Math.ceil(count / 8))
  for (let row = 0; row < count; row++) if (row % 3 !== 2) home[row >> 3]! |= 1 << (row & 7)
  const database = new Uint8Array(20_000).map((_, i) => i * 7)
  const sha256 = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest()
  const stretches = Array.from({ length: Math.ceil(database.length / SUM_STRETCH) }, (_, i) =>
    sha256(database.subarray(i * SUM_STRETCH, (i + 1) * SUM_STRETCH)),
  )
  const sums = new Uint8Array(Buffer.concat(stretches))
  const file: CellsFile = {
    rows: count,
    dim,
    codebook: new Uint8Array(sha256(new Uint8Array(books.centres.buffer))),
    starts,
    coded,
    home,
    // Rows are given in order of their ids.
    ranks: order,
    database: { bytes: database.length, sums, pages: new Uint8Array(37).fill(9) },
  }
  return { file, order }
}

/** A shard of vectors, and the row at each of its positions. */
export function cellShardOf(
  space: CellSpace,
  books: Books,
  vectors: Float32Array,
  options?: CellOptions,
  fewest?: number,
): CellShard & { readonly order: Uint32Array } {
  const { file, order } = cellsFileOf(space, books, vectors, options, fewest)
  const placed = new Float32Array(vectors.length)
  for (const [position, row] of order.entries()) {
    placed.set(vectors.subarray(row * space.dim, (row + 1) * space.dim), position * space.dim)
  }
  return { cells: encodeCells(file), vectors: placed, order }
}
