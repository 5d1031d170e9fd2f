/** Vectors of an `.npy` file; their ids are in a file beside it, or the places of the rows. */
import { type FileHandle, open } from "node:fs/promises"
import { corrupt, invalidInput, unsupported } from "../../errors.js"
import {
  decodeNpyItems,
  NPY_HEADER_BYTES,
  type NpyData,
  type NpyHeader,
  parseNpyHeader,
} from "../../vectors/npy.js"
import type { FileReader, RawColumns } from "../columns.js"
import type { FileFormat } from "../format.js"
import type { RowIds } from "../ids.js"

export const npy: FileFormat<"npy"> = {
  name: "npy",
  extensions: ["npy"],
  magic: ["\x93NUMPY"],
  reads: "file",
  idsBeside: true,
  open: async ({ name, path, ids }) => npyReader(name, path, ids),
}

/** Reads a local file of shape (rows, dim); `file` is for messages. The columns are "id" and "vector". */
function npyReader(file: string, path: string, ids: RowIds): FileReader {
  return {
    file,
    unit: "row",
    // Ids in a text file look like integers, or do not.
    text: true,
    async *read() {
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
          yield columnsOf(data, dim, start, await ids.take(count, file))
          start += count
        }
      } finally {
        await array.close()
      }
    },
  }
}

/** The values of a local `.npy` file of one axis; `file` is for messages. */
export async function* idsOfNpy(file: string, path: string): AsyncGenerator<unknown> {
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
  ids: readonly unknown[],
): RawColumns {
  return {
    rows: ids.length,
    rowNumber: (row) => start + row + 1,
    names: NAMES,
    vectorNames: ["vector"],
    namesOf: () => NAMES,
    column(name) {
      if (name === "id") return (row) => ids[row]
      return name === "vector" ? (row) => vectors.subarray(row * dim, (row + 1) * dim) : () => undefined
    },
  }
}
