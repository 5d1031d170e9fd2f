/**
 * Vectors of an `.npy` file, and their ids from a file beside it: one per line, or an `.npy` file of integers. Without
 * ids, they are the places of the rows, from 0, as NumPy counts.
 */
import { type FileHandle, open } from "node:fs/promises"
import { corrupt, invalidInput, unsupported } from "../../errors.js"
import {
  decodeNpyItems,
  NPY_HEADER_BYTES,
  type NpyData,
  type NpyHeader,
  parseNpyHeader,
} from "../../vectors/npy.js"
import { decompressed, splitLines } from "../bytes.js"
import type { FileReader, RawColumns } from "../columns.js"

/** A local file of ids; `file` is for messages. */
export interface IdsFile {
  readonly file: string
  readonly path: string
  readonly isNpy: boolean
  openBytes(): AsyncIterable<Uint8Array>
}

/** Reads a local file of shape (rows, dim); `file` is for messages. The columns are "id" and "vector". */
export function npyReader(file: string, path: string, idsFile: IdsFile | undefined): FileReader {
  return {
    file,
    unit: "row",
    // Ids in a text file look like integers, or do not.
    text: true,
    async *read() {
      const ids = idsFile && (idsFile.isNpy ? idsOfNpy(idsFile) : idsOfLines(idsFile))
      const array = await openNpy(path, file)
      try {
        const [rows, dim] = array.header.shape
        if (rows === undefined || dim === undefined || dim === 0 || array.header.shape.length !== 2) {
          const shape = array.header.shape.join(", ")
          throw invalidInput(
            `${file} has shape (${shape}), expected (rows, dimension) with a dimension of at least 1`,
            { file, shape },
          )
        }
        let start = 0
        for await (const data of array.blocks(dim)) {
          if (data instanceof BigInt64Array || data instanceof Int32Array)
            throw invalidInput(`${file} holds integers, expected floating-point vectors`, { file })
          const count = data.length / dim
          yield columnsOf(data, dim, start, await takeIds(ids, idsFile, start, count, file))
          start += count
        }
        if (ids !== undefined && !(await ids.next()).done)
          throw invalidInput(`${idsFile!.file} has more ids than the ${rows} rows of ${file}`, { file, rows })
      } finally {
        await array.close()
        await ids?.return(undefined)
      }
    },
  }
}

type NpyId = string | number | bigint

async function takeIds(
  ids: AsyncGenerator<NpyId> | undefined,
  idsFile: IdsFile | undefined,
  start: number,
  count: number,
  file: string,
): Promise<NpyId[]> {
  if (ids === undefined) return Array.from({ length: count }, (_, i) => start + i)
  const taken: NpyId[] = []
  while (taken.length < count) {
    const next = await ids.next()
    if (next.done) {
      const got = start + taken.length
      throw invalidInput(`${idsFile!.file} has ${got} ids, fewer than ${file} has rows`, { file, got })
    }
    taken.push(next.value)
  }
  return taken
}

async function* idsOfLines({ file, openBytes }: IdsFile): AsyncGenerator<NpyId> {
  for await (const lines of splitLines(decompressed(openBytes(), file), file))
    for (const line of lines) yield line.toString("utf8").replace(/\r$/, "")
}

async function* idsOfNpy({ file, path }: IdsFile): AsyncGenerator<NpyId> {
  const array = await openNpy(path, file)
  try {
    if (array.header.shape.length !== 1)
      throw invalidInput(`${file} has ${array.header.shape.length} axes, expected one of ids`, { file })
    for await (const data of array.blocks(1)) {
      if (!(data instanceof BigInt64Array || data instanceof Int32Array))
        throw invalidInput(`${file} holds floating-point numbers, expected integer ids`, { file })
      yield* data
    }
  } finally {
    await array.close()
  }
}

const BLOCK_BYTES = 8 * 2 ** 20

interface OpenNpy {
  readonly header: NpyHeader
  /** The values in order, in blocks of whole rows of `rowItems` values. */
  blocks(rowItems: number): AsyncGenerator<NpyData>
  close(): Promise<void>
}

async function openNpy(path: string, file: string): Promise<OpenNpy> {
  const handle = await open(path)
  try {
    const head = await readUpTo(handle, 0, NPY_HEADER_BYTES)
    const header = parseNpyHeader(head, file)
    if (header.fortranOrder && header.shape.length > 1)
      throw unsupported(`${file} is in Fortran order; save it with numpy.ascontiguousarray(...)`, { file })
    const expected = header.dataStart + header.items * header.itemBytes
    const { size } = await handle.stat()
    if (size !== expected)
      throw corrupt(`${file} has ${size} bytes, expected ${expected} by its header`, {
        file,
        expected,
        got: size,
      })
    return {
      header,
      blocks: (rowItems) => readBlocks(handle, header, rowItems, file),
      close: () => handle.close(),
    }
  } catch (error) {
    await handle.close()
    throw error
  }
}

async function* readBlocks(
  handle: FileHandle,
  header: NpyHeader,
  rowItems: number,
  file: string,
): AsyncGenerator<NpyData> {
  const rowBytes = rowItems * header.itemBytes
  const blockBytes = Math.max(1, Math.floor(BLOCK_BYTES / rowBytes)) * rowBytes
  const end = header.dataStart + header.items * header.itemBytes
  for (let start = header.dataStart; start < end; start += blockBytes) {
    const length = Math.min(blockBytes, end - start)
    const bytes = await readUpTo(handle, start, length)
    if (bytes.length < length)
      throw corrupt(`${file} ended at byte ${start + bytes.length}, expected ${end}`, { file })
    yield decodeNpyItems(bytes, header)
  }
}

/** The bytes from `position`, fewer than `length` only at the end of the file. */
async function readUpTo(handle: FileHandle, position: number, length: number): Promise<Uint8Array> {
  const buffer = Buffer.alloc(length)
  let filled = 0
  while (filled < length) {
    const { bytesRead } = await handle.read(buffer, filled, length - filled, position + filled)
    if (bytesRead === 0) break
    filled += bytesRead
  }
  return buffer.subarray(0, filled)
}

const NAMES = ["id", "vector"]

function columnsOf(
  vectors: Float32Array | Float64Array,
  dim: number,
  start: number,
  ids: readonly NpyId[],
): RawColumns {
  return {
    rows: ids.length,
    rowNumber: (row) => start + row + 1,
    names: NAMES,
    vectorNames: ["vector"],
    namesOf: () => NAMES,
    column(name) {
      if (name === "id") return (row) => (ids[row] === "" ? null : ids[row])
      return name === "vector" ? (row) => vectors.subarray(row * dim, (row + 1) * dim) : () => undefined
    },
  }
}
