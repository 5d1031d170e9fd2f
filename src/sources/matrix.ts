/**
 * Vectors that stand one after another in a local file, all of one length, as arrays on disk do (.npy,
 * .fvecs, .fbin); their ids come from elsewhere.
 */
import { type FileHandle, open } from "node:fs/promises"
import { corrupt } from "../errors.js"
import type { FileReader, RawColumns } from "./columns.js"
import type { RowIds } from "./ids.js"
import { BadValue } from "./rows.js"

export interface Matrix {
  readonly rows: number
  readonly dim: number
  /** Where the first row starts in the file. */
  readonly start: number
  readonly rowBytes: number
  /** The numbers of some whole rows, the first of which is row `first`. */
  decode(bytes: Uint8Array, first: number): Float32Array | Float64Array
}

/** A file that is being opened: what its header needs. */
export interface OpenFile {
  readonly handle: FileHandle
  /** For messages. */
  readonly file: string
  readonly size: number
}

/** Finds the matrix in a file. Throws if the file is not what it should be. */
export type FindMatrix = (input: OpenFile) => Promise<Matrix>

/** Reads a local file; `file` is for messages. The columns are "id" and "vector". */
export function matrixReader(file: string, path: string, ids: RowIds, find: FindMatrix): FileReader {
  return { file, unit: "row", text: ids.isText, read: () => readMatrix(file, path, ids, find) }
}

const BLOCK_BYTES = 8 * 2 ** 20

export async function* readMatrix(
  file: string,
  path: string,
  ids: RowIds,
  find: FindMatrix,
): AsyncGenerator<RawColumns> {
  const handle = await open(path)
  try {
    const { size } = await handle.stat()
    const { rows, dim, start, rowBytes, decode } = await find({ handle, file, size })
    const rowsPerBlock = Math.max(1, Math.floor(BLOCK_BYTES / rowBytes))
    for (let first = 0; first < rows; first += rowsPerBlock) {
      const count = Math.min(rowsPerBlock, rows - first)
      const place = start + first * rowBytes
      const bytes = await readUpTo(handle, place, count * rowBytes)
      if (bytes.length < count * rowBytes)
        throw corrupt(`${file} ended at byte ${place + bytes.length}, expected more rows`, { file })
      yield columnsOf(decode(bytes, first), dim, first, await ids.take(count, file))
    }
  } finally {
    await handle.close()
  }
}

/** The bytes from `position`, fewer than `length` only at the end of the file. */
export async function readUpTo(handle: FileHandle, position: number, length: number): Promise<Buffer> {
  const buffer = Buffer.alloc(length)
  let filled = 0
  while (filled < length) {
    const { bytesRead } = await handle.read(buffer, filled, length - filled, position + filled)
    if (bytesRead === 0) break
    filled += bytesRead
  }
  return buffer.subarray(0, filled)
}

/** Throws `Corrupt` if a file has not the size that its header says. */
export function assertSize({ file, size }: OpenFile, expected: number): void {
  if (size !== expected)
    throw corrupt(`${file} has ${size} bytes, expected ${expected} by its header`, {
      file,
      expected,
      got: size,
    })
}

const NAMES = ["id", "vector"]

function columnsOf(
  vectors: Float32Array | Float64Array,
  dim: number,
  start: number,
  ids: readonly unknown[],
): RawColumns {
  return {
    rows: ids.length,
    rowNumber: (row) => start + row + 1,
    names: NAMES,
    vectorNames: ["vector"],
    namesOf: () => NAMES,
    column(name) {
      if (name === "id") return (row) => idOf(ids[row])
      return name === "vector" ? (row) => vectors.subarray(row * dim, (row + 1) * dim) : () => undefined
    },
  }
}

function idOf(id: unknown): unknown {
  if (id instanceof BadValue) throw id
  return id
}
