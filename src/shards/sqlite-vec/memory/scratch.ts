/**
 * What searches need to work with in the memories, beside shards: pure, for main thread and workers alike.
 */
import type { SnapshotCodes } from "../../../vectors/cells/codebook.js"
import type { CellEffort } from "../../../vectors/cells/effort.js"
import { exactBytes } from "../../../vectors/cells/exact.js"
import { type ScanLimits, scanBytes } from "../../../vectors/cells/scan.js"
import { scratchBytes } from "../../../vectors/scan-table.js"
import { aligned } from "./ranges.js"

/**
 * As many candidates as get their exact distances: what the effort says, and more than the k that are wanted,
 * some of which may be copies of each other.
 */
export const candidatesFor = (k: number, { best }: CellEffort): number => Math.max(best, k + (k >> 1) + 16)

/** Bounds of a scan through so many shards and cells, rounded up, so that few places are made anew. */
export function limitsFor(shards: number, cells: number, candidates: number): ScanLimits {
  const rounded = (count: number): number => 2 ** Math.ceil(Math.log2(Math.max(1, count)))
  return { shards: rounded(shards), cells: rounded(cells), room: 2 * rounded(candidates) + 64 }
}

/** In a memory of cells: the codebook's centres, then the place of a scan. */
export function cellScratch({ codebook }: SnapshotCodes, limits: ScanLimits) {
  const scan = aligned(codebook.books.centres.byteLength)
  return { books: 0, scan, bytes: scan + scanBytes(codebook.space, codebook.books, limits) }
}

/** In a memory of rows: the place of whole scans, then that of exact distances. */
export function rowScratch(dim: number) {
  const exact = aligned(scratchBytes(dim))
  return { scan: 0, exact, bytes: exact + exactBytes(dim) }
}
