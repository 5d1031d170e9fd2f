import type { StoredRecord } from "../records.js"

/** Bytes of vectors read at a time, and rows at most: payloads may be much larger than their vectors. */
const BATCH_BYTES = 4 * 2 ** 20
const BATCH_ROWS_MAX = 1024

/** Reads the rows 0 … `rows` - 1 of a shard by `read`, which is given the first one and how many. */
export async function* readAll(
  rows: number,
  dim: number,
  read: (first: number, count: number) => Promise<readonly StoredRecord[]>,
): AsyncGenerator<readonly StoredRecord[]> {
  const batchRows = Math.min(BATCH_ROWS_MAX, Math.max(1, Math.floor(BATCH_BYTES / (dim * 4))))
  for (let first = 0; first < rows; first += batchRows) {
    yield await read(first, Math.min(batchRows, rows - first))
  }
}
