/**
 * The formats of benchmarks for nearest neighbours. `.fvecs` and `.bvecs` (TEXMEX): each row has its
 * dimension in four bytes before its numbers. `.fbin`, `.u8bin`, `.i8bin` (Big ANN Benchmarks, DiskANN): the
 * numbers of rows and dimensions, four bytes each, then the numbers. All little-endian; ids are beside them
 * or the places of the rows.
 */
import { corrupt, invalidInput } from "../../errors.js"
import { unpackVector, type VectorEncoding } from "../../vectors/packed.js"
import type { FileFormat } from "../format.js"
import { assertSize, type FindMatrix, type Matrix, matrixReader, type OpenFile, readUpTo } from "../matrix.js"

const ITEM_BYTES: Readonly<Record<VectorEncoding, number>> = { float32: 4, int8: 1, uint8: 1 }

const format = <Name extends string>(name: Name, find: FindMatrix): FileFormat<Name> => ({
  name,
  extensions: [name],
  magic: [],
  reads: "file",
  idsBeside: true,
  open: async ({ name: file, path, ids }) => matrixReader(file, path, ids, find),
})

const DIM_BYTES = 4
const HEADER_BYTES = 8

/** Rows with their dimension before them. */
const rowsWithDim =
  (encoding: VectorEncoding): FindMatrix =>
  async (input) => {
    const { file, size } = input
    if (size === 0) return { rows: 0, dim: 1, start: 0, rowBytes: 1, decode: () => new Float32Array(0) }
    const dim = (await headOf(input, DIM_BYTES)).readInt32LE(0)
    const itemBytes = dim * ITEM_BYTES[encoding]
    const rowBytes = DIM_BYTES + itemBytes
    if (dim < 1 || size % rowBytes !== 0)
      throw corrupt(
        `${file} has ${size} bytes, expected a multiple of the ${rowBytes} of a row of ${dim} values`,
        { file },
      )
    const decode = (bytes: Uint8Array, first: number): Float32Array => {
      const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
      const count = bytes.length / rowBytes
      const values = new Float32Array(count * dim)
      for (let row = 0; row < count; row++) {
        const found = view.getInt32(row * rowBytes, true)
        if (found !== dim)
          throw invalidInput(
            `${file}, row ${first + row + 1} has ${found} values, expected ${dim} as in the rows before`,
            { file },
          )
        const start = row * rowBytes + DIM_BYTES
        values.set(numbersOf(bytes.subarray(start, start + itemBytes), encoding), row * dim)
      }
      return values
    }
    return { rows: size / rowBytes, dim, start: 0, rowBytes, decode }
  }

/** Rows after a header that counts them. */
const countedRows =
  (encoding: VectorEncoding): FindMatrix =>
  async (input): Promise<Matrix> => {
    const head = await headOf(input, HEADER_BYTES)
    const rows = head.readUInt32LE(0)
    const dim = head.readUInt32LE(4)
    const rowBytes = dim * ITEM_BYTES[encoding]
    assertSize(input, HEADER_BYTES + rows * rowBytes)
    if (dim === 0)
      throw invalidInput(`${input.file} has a dimension of 0, expected at least 1`, { file: input.file })
    const decode = (bytes: Uint8Array) => Float32Array.from(numbersOf(bytes, encoding))
    return { rows, dim, start: HEADER_BYTES, rowBytes, decode }
  }

async function headOf({ handle, file, size }: OpenFile, length: number): Promise<Buffer> {
  if (size < length) throw corrupt(`${file} has ${size} bytes, expected a header of ${length}`, { file })
  return readUpTo(handle, 0, length)
}

/** Whole values, so that there is nothing wrong with them. */
const numbersOf = (bytes: Uint8Array, encoding: VectorEncoding): ArrayLike<number> =>
  unpackVector(bytes, { encoding }) as ArrayLike<number>

export const fvecs = format("fvecs", rowsWithDim("float32"))
export const bvecs = format("bvecs", rowsWithDim("uint8"))
export const fbin = format("fbin", countedRows("float32"))
export const u8bin = format("u8bin", countedRows("uint8"))
export const i8bin = format("i8bin", countedRows("int8"))
