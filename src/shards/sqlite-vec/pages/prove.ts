/** The page table of a database that was just built, tried out on all its rows. */
import { closeSync, fstatSync, openSync } from "node:fs"
import { sameBytes } from "../../../bytes.js"
import type { ShardRows } from "../../backend.js"
import { openRows } from "./rows.js"
import { decodePageTable } from "./table.js"
import { pageTable } from "./walk.js"

/** Rows that are read at a time. */
const BATCH_ROWS = 1024

/**
 * The page table, encoded, of the database at `path`, which holds these rows in this order (the row at each
 * position). Every vector was read by it. Throws `Error` if one was another: then SQLite has written the file
 * in a way that we do not know.
 */
export function provenPageTable(
  path: string,
  { rows, vectors }: ShardRows,
  dim: number,
  order: Uint32Array,
): Uint8Array {
  const pages = pageTable(path)
  const descriptor = openSync(path, "r")
  try {
    const facts = { bytes: fstatSync(descriptor).size, rows, rowBytes: 4 * dim }
    const reader = openRows(descriptor, decodePageTable(pages, facts, path), dim, path)
    for (let first = 0; first < rows; first += BATCH_ROWS) {
      const positions = Array.from({ length: Math.min(BATCH_ROWS, rows - first) }, (_, i) => first + i)
      const read = new Float32Array(positions.length * dim)
      reader.read(positions, read)
      for (const [i, position] of positions.entries()) {
        const row = order[position]!
        const given = vectors.subarray(row * dim, (row + 1) * dim)
        if (!sameBytes(read.subarray(i * dim, (i + 1) * dim), given))
          throw new Error(
            `${path}: by its page table, position ${position} has another vector than row ${row}`,
          )
      }
    }
    return pages
  } finally {
    closeSync(descriptor)
  }
}
