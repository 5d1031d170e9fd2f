/** The cells and codes of a shard, as its builder puts them into a file of cells. */
import type { Books } from "./books.js"
import { type CellOptions, formCells } from "./cells.js"
import { encodeRows } from "./codes.js"
import type { CodedCells } from "./file.js"
import { type CellSpace, canBeEstimated, inSpace } from "./space.js"

/** Fewer rows are scanned whole: they have no codes. */
export const CODED_ROWS_MIN = 1024

export interface ShardCells {
  /** The given row at each position. */
  readonly order: Uint32Array
  readonly starts: Uint32Array
  /** Absent for few rows, and for rows of lengths that estimates cannot be made of. */
  readonly coded: CodedCells | undefined
}

/**
 * Cells and codes of a shard's rows (`rows × dim`, as stored, in order of id). A pure function: the same on
 * every machine. `fewest`: rows from which on there are codes.
 */
export function shardCells(
  space: CellSpace,
  books: Books,
  vectors: Float32Array,
  options?: CellOptions,
  fewest = CODED_ROWS_MIN,
): ShardCells {
  const count = vectors.length / space.dim
  if (count < fewest || !canBeEstimated(vectors, space.dim)) {
    const order = Uint32Array.from({ length: count }, (_, row) => row)
    return { order, starts: Uint32Array.of(0, count), coded: undefined }
  }
  const rows = inSpace(space, vectors)
  const cells = formCells(space, rows, options)
  const { directions, lengths, groups, groupLengths } = cells
  const coded: CodedCells = {
    subspaces: books.subspaces,
    width: books.width,
    hasOffsets: space.comparison === "distances",
    directions,
    lengths,
    groups,
    groupLengths,
    ...encodeRows(space, cells, rows, books),
  }
  return { order: cells.order, starts: cells.starts, coded }
}
