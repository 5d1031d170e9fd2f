/**
 * Arrays of NumPy: vectors of an `.npy` file; their ids are in a file beside it, or the places of the rows.
 */
import { isUtf8 } from "node:buffer"
import { open } from "node:fs/promises"
import { corrupt, invalidInput, unsupported } from "../../errors.js"
import { copyInHostOrder, float16, NPY_HEADER_BYTES, parseNpyLayout } from "../../vectors/npy.js"
import type { FileFormat } from "../format.js"
import { assertSize, type FindMatrix, matrixReader, type OpenFile, readUpTo } from "../matrix.js"
import { BadValue } from "../rows.js"

export const npy: FileFormat<"npy"> = {
  name: "npy",
  extensions: ["npy"],
  magic: ["\x93NUMPY"],
  reads: "file",
  idsBeside: true,
  open: async ({ name, path, ids }) => matrixReader(name, path, ids, findArray),
}

/** An array in a file, from its header. */
export interface NpyFile {
  readonly shape: readonly number[]
  readonly type: ItemType
  readonly start: number
  readonly items: number
}

type Items = ArrayLike<unknown> & Iterable<unknown>

interface ItemType {
  readonly bytes: number
  readonly isNumber: boolean
  decode(bytes: Uint8Array): Items
}

type TypedArrayOf = new (buffer: ArrayBuffer) => Items

const NUMBERS: Readonly<Record<string, { readonly bytes: number; readonly array: TypedArrayOf }>> = {
  f2: { bytes: 2, array: Uint16Array },
  f4: { bytes: 4, array: Float32Array },
  f8: { bytes: 8, array: Float64Array },
  i1: { bytes: 1, array: Int8Array },
  i2: { bytes: 2, array: Int16Array },
  i4: { bytes: 4, array: Int32Array },
  i8: { bytes: 8, array: BigInt64Array },
  u1: { bytes: 1, array: Uint8Array },
  u2: { bytes: 2, array: Uint16Array },
  u4: { bytes: 4, array: Uint32Array },
  u8: { bytes: 8, array: BigUint64Array },
}

/**
 * Reads the header. Throws `Unsupported` for a type or order that is not read, `Corrupt` if the file has
 * another size.
 */
export async function openArray(input: OpenFile): Promise<NpyFile> {
  const { handle, file } = input
  const head = await readUpTo(handle, 0, NPY_HEADER_BYTES)
  const { descr, fortranOrder, shape, dataStart } = parseNpyLayout(head, file)
  const type = itemType(descr, file)
  if (fortranOrder && shape.length > 1)
    throw unsupported(`${file} is in Fortran order; save it with numpy.ascontiguousarray(...)`, { file })
  const items = shape.reduce((product, length) => product * length, 1)
  if (!Number.isSafeInteger(items * type.bytes))
    throw corrupt(`${file} has shape (${shape.join(", ")}), which is more than a file can hold`, { file })
  assertSize(input, dataStart + items * type.bytes)
  return { shape, type, start: dataStart, items }
}

function itemType(descr: string, file: string): ItemType {
  const [, order, kind, size] = /^([<>|=]?)([a-zA-Z])(\d*)$/.exec(descr) ?? []
  const bigEndian = order === ">"
  const numbers = NUMBERS[`${kind}${size}`]
  if (numbers !== undefined) {
    const decode = (bytes: Uint8Array): Items => {
      const values = new numbers.array(copyInHostOrder(bytes, bigEndian, numbers.bytes).buffer)
      return kind === "f" && numbers.bytes === 2 ? Float32Array.from(values as Uint16Array, float16) : values
    }
    return { bytes: numbers.bytes, isNumber: true, decode }
  }
  const length = Number(size)
  if (kind === "U" && length > 0)
    return {
      bytes: length * 4,
      isNumber: false,
      decode: (bytes) => texts(bytes, length * 4, (item) => utf32(item, bigEndian)),
    }
  if (kind === "S" && length > 0)
    return { bytes: length, isNumber: false, decode: (bytes) => texts(bytes, length, utf8) }
  throw unsupported(`${file} holds ${describeType(descr, kind)}`, { file, descr })
}

function describeType(descr: string, kind: string | undefined): string {
  const expected = "expected float, int or uint"
  if (descr.startsWith("["))
    return `records of several fields, ${expected}: save the field alone, numpy.save(f, a["vector"])`
  if (kind === "O") return `Python objects, ${expected}: rows of different lengths become objects in NumPy`
  const hint = kind === "V" ? ", as bfloat16 is saved: save it with a.astype('float32')" : ""
  return `values of type '${descr}'${hint === "" ? `, ${expected}` : hint}`
}

function texts(bytes: Uint8Array, itemBytes: number, decode: (item: Buffer) => unknown): unknown[] {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  return Array.from({ length: bytes.length / itemBytes }, (_, i) =>
    decode(buffer.subarray(i * itemBytes, (i + 1) * itemBytes)),
  )
}

// NumPy fills texts up with NUL.
function utf32(item: Buffer, bigEndian: boolean): unknown {
  let text = ""
  for (let at = 0; at < item.length; at += 4) {
    const point = bigEndian ? item.readUInt32BE(at) : item.readUInt32LE(at)
    if (point > 0x10_ffff) return new BadValue("id", `holds the code point ${point}, which Unicode has not`)
    text += String.fromCodePoint(point)
  }
  return text.replace(/\0+$/, "")
}

function utf8(item: Buffer): unknown {
  const text = item.subarray(0, item.findLastIndex((byte) => byte !== 0) + 1)
  return isUtf8(text) ? text.toString("utf8") : new BadValue("id", "is not UTF-8")
}

/** Finds the vectors of an array of shape (rows, dimension). */
export const findArray: FindMatrix = async (input) => {
  const { file } = input
  const { shape, type, start } = await openArray(input)
  const [rows, dim] = shape
  if (rows === undefined || dim === undefined || dim === 0 || shape.length !== 2) {
    throw invalidInput(
      `${file} has shape (${shape.join(", ")}), expected (rows, dimension) with a dimension of at least 1`,
      { file, shape: shape.join(", ") },
    )
  }
  if (!type.isNumber) throw invalidInput(`${file} holds texts, expected numbers`, { file })
  return { rows, dim, start, rowBytes: dim * type.bytes, decode: (bytes) => floats(type.decode(bytes)) }
}

/** Integers as the float32 values that they are stored as. */
function floats(items: Items): Float32Array | Float64Array {
  return items instanceof Float32Array || items instanceof Float64Array
    ? items
    : Float32Array.from(items, Number)
}

const BLOCK_ITEMS = 2 ** 18

/** The values of a local `.npy` file of one axis; `file` is for messages. */
export async function* idsOfNpy(file: string, path: string): AsyncGenerator<unknown> {
  const handle = await open(path)
  try {
    const { size } = await handle.stat()
    const { shape, type, start, items } = await openArray({ handle, file, size })
    if (shape.length !== 1)
      throw invalidInput(`${file} has ${shape.length} axes, expected one of ids`, { file })
    for (let first = 0; first < items; first += BLOCK_ITEMS) {
      const count = Math.min(BLOCK_ITEMS, items - first)
      const bytes = await readUpTo(handle, start + first * type.bytes, count * type.bytes)
      if (bytes.length < count * type.bytes) throw corrupt(`${file} ended within its ids`, { file })
      const ids = type.decode(bytes)
      if (ids instanceof Float32Array || ids instanceof Float64Array)
        throw invalidInput(`${file} holds floating-point numbers, expected ids: integers or texts`, { file })
      yield* ids
    }
  } finally {
    await handle.close()
  }
}
