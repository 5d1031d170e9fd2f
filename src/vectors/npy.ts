/**
 * NumPy's `.npy` format, versions 1.0 to 3.0: magic, version, length of the header, a Python dict literal
 * that gives type, order and shape, then the values. Specified in numpy/lib/format.py.
 */
import { endianness } from "node:os"
import { corrupt, invalidInput } from "../errors.js"
import { listOf, shortened } from "../wording.js"

/** An array as in a NumPy `.npy` file: C order in memory, whatever the file had. */
export interface NpyArray {
  readonly shape: readonly number[]
  readonly data: Float32Array | Float64Array
}

/** An array of any type that we read and write; the integer types serve for ids and routing. */
export interface AnyNpyArray {
  readonly shape: readonly number[]
  readonly data: NpyData
}

/** Whether an array is one of floating-point numbers. */
export const hasFloats = (array: AnyNpyArray): array is NpyArray =>
  array.data instanceof Float32Array || array.data instanceof Float64Array

export type NpyData = Float32Array | Float64Array | Int32Array | BigInt64Array

/** The types that we read; `f2` becomes float32. */
const ITEM_BYTES = { f2: 2, f4: 4, f8: 8, i4: 4, i8: 8 } as const
type ItemType = keyof typeof ITEM_BYTES

/** What every header says. */
export interface NpyLayout {
  /** Type of the values as NumPy writes it: "<f4", "|O"; a list of fields if they are records. */
  readonly descr: string
  /** Whether the values are stored with the first index running fastest. */
  readonly fortranOrder: boolean
  readonly shape: readonly number[]
  /** Where the values start in the file. */
  readonly dataStart: number
}

/** Of an array whose type we read. */
export interface NpyHeader extends Omit<NpyLayout, "descr"> {
  readonly type: ItemType
  readonly bigEndian: boolean
  /** Bytes of one value. */
  readonly itemBytes: number
  /** Number of values. */
  readonly items: number
}

const MAGIC = Uint8Array.of(0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59) // \x93NUMPY

/** A header of ours takes 118 bytes; one of a plain array never needs more than a few hundred. */
const MAX_HEADER_BYTES = 65_536

/** NumPy's own limit. Bringing an array into C order looks at every axis for every value. */
const MAX_AXES = 64

/** This many bytes from the start of a file always hold its whole header. */
export const NPY_HEADER_BYTES = MAGIC.length + 2 + 4 + MAX_HEADER_BYTES

/**
 * Reads the header from the start of a file: all of it or its first {@link NPY_HEADER_BYTES}. `name` is for
 * messages. Throws `Corrupt` if it is not the header of an array, of whatever type.
 */
export function parseNpyLayout(bytes: Uint8Array, name: string): NpyLayout {
  if (bytes.length < 10 || MAGIC.some((byte, i) => bytes[i] !== byte)) {
    throw corrupt(`${name} is not an .npy file: it does not start with \\x93NUMPY`, { name })
  }
  const major = bytes[6]!
  const minor = bytes[7]!
  if (major < 1 || major > 3 || minor !== 0) {
    throw corrupt(`${name} has .npy version ${major}.${minor}, expected 1.0, 2.0 or 3.0`, { name })
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const textStart = major === 1 ? 10 : 12
  if (bytes.length < textStart) throw truncatedHeader(name, textStart, bytes.length)
  const textBytes = major === 1 ? view.getUint16(8, true) : view.getUint32(8, true)
  if (textBytes > MAX_HEADER_BYTES) {
    throw corrupt(`${name} has a header of ${textBytes} bytes, expected ${MAX_HEADER_BYTES} at most`, {
      name,
    })
  }
  const dataStart = textStart + textBytes
  if (bytes.length < dataStart) throw truncatedHeader(name, dataStart, bytes.length)
  const text = Buffer.from(bytes.buffer, bytes.byteOffset + textStart, textBytes).toString("latin1")
  const layout = parseHeaderText(text, name)
  if (layout.shape.length > MAX_AXES) {
    throw corrupt(`${name} has ${layout.shape.length} axes, expected ${MAX_AXES} at most`, { name })
  }
  return { ...layout, dataStart }
}

/**
 * {@link parseNpyLayout} for arrays whose type we read, with what follows from that. Others are `Corrupt`.
 */
export function parseNpyHeader(bytes: Uint8Array, name: string): NpyHeader {
  const { descr, fortranOrder, shape, dataStart } = parseNpyLayout(bytes, name)
  const type = descr.slice(1)
  if (!/^[<>]/.test(descr) || !isItemType(type)) {
    const expected = Object.keys(ITEM_BYTES).join(", ")
    throw corrupt(`${name} holds values of type '${descr}', expected < or > followed by one of ${expected}`, {
      name,
      descr,
    })
  }
  const items = shape.reduce((product, length) => product * length, 1)
  const itemBytes = ITEM_BYTES[type]
  if (!Number.isSafeInteger(items * itemBytes)) {
    throw corrupt(`${name} has shape ${formatShape(shape)}, which is more than a file can hold`, {
      name,
      shape,
    })
  }
  return { type, bigEndian: descr.startsWith(">"), fortranOrder, shape, itemBytes, items, dataStart }
}

function truncatedHeader(name: string, expected: number, got: number): Error {
  return corrupt(`${name} ends within its header: expected ${expected} bytes or more, got ${got}`, { name })
}

function isItemType(type: string): type is ItemType {
  return Object.hasOwn(ITEM_BYTES, type)
}

const HEADER_ENTRY =
  /\s*(?:'(\w+)'|"(\w+)")\s*:\s*(?:'([^'\\]*)'|"([^"\\]*)"|(True|False)|(\([\d\sL,]*\))|(\[.*?\](?=\s*(?:,\s*['"](?:fortran_order|shape)['"]|,?\s*\}))))\s*(?:,|(?=\}))/y

/**
 * Parses the dict literal. Only the literals that NumPy writes there are understood, and nothing is
 * evaluated.
 */
function parseHeaderText(text: string, name: string) {
  const fail = (reason: string) =>
    corrupt(`${name} has a broken .npy header: ${reason}`, { name, header: text })
  const literal = text.trim()
  if (!literal.startsWith("{") || !literal.endsWith("}")) throw fail("expected a dict")

  const entries = new Map<string, string | boolean | number[]>()
  HEADER_ENTRY.lastIndex = 1
  for (;;) {
    const start = HEADER_ENTRY.lastIndex
    if (literal.slice(start).trim() === "}") break
    const match = HEADER_ENTRY.exec(literal)
    if (match === null) throw fail(`cannot read ${JSON.stringify(literal.slice(start, start + 60))}`)
    const key = match[1] ?? match[2]!
    if (entries.has(key)) throw fail(`'${key}' is given twice`)
    if (match[5] !== undefined) entries.set(key, match[5] === "True")
    else if (match[6] !== undefined) entries.set(key, parseShape(match[6]) ?? match[6])
    else entries.set(key, match[3] ?? match[4] ?? match[7]!)
  }

  const descr = entries.get("descr")
  const fortranOrder = entries.get("fortran_order")
  const shape = entries.get("shape")
  if (entries.size !== 3) {
    throw fail(
      `expected the keys descr, fortran_order and shape, got ${listOf([...entries.keys()], shortened)}`,
    )
  }
  if (typeof descr !== "string") throw fail("'descr' is not a string")
  if (typeof fortranOrder !== "boolean") throw fail("'fortran_order' is neither True nor False")
  if (!Array.isArray(shape)) throw fail("'shape' is not a tuple of integers")
  return { descr, fortranOrder, shape }
}

/** The lengths in `(3, 8)`, `(3,)` or `()`; Python 2 wrote `(3L, 8L)`. `(3)` is no tuple. */
function parseShape(tuple: string): number[] | undefined {
  const inner = tuple.slice(1, -1).trim()
  if (inner === "") return []
  if (!inner.includes(",")) return undefined
  const parts = inner.replace(/,$/, "").split(",")
  const lengths = parts.map((part) => (/^\s*\d+L?\s*$/.test(part) ? Number.parseInt(part, 10) : Number.NaN))
  return lengths.every(Number.isSafeInteger) ? lengths : undefined
}

/**
 * Values of the header's type from their bytes, in the order of the file. `bytes` holds a whole number of
 * them.
 */
export function decodeNpyItems(bytes: Uint8Array, header: Pick<NpyHeader, "type" | "bigEndian">): NpyData {
  const { buffer } = copyInHostOrder(bytes, header.bigEndian, ITEM_BYTES[header.type])
  switch (header.type) {
    case "f2":
      return Float32Array.from(new Uint16Array(buffer), float16)
    case "f4":
      return new Float32Array(buffer)
    case "f8":
      return new Float64Array(buffer)
    case "i4":
      return new Int32Array(buffer)
    case "i8":
      return new BigInt64Array(buffer)
  }
}

const HOST_IS_BIG_ENDIAN = endianness() === "BE"

/**
 * A copy at the start of a buffer of its own, its items with their bytes swapped if the host's order is the
 * other.
 */
export function copyInHostOrder(
  bytes: Uint8Array,
  bigEndian: boolean,
  itemBytes: number,
): Uint8Array<ArrayBuffer> {
  const copy = new Uint8Array(bytes)
  if (itemBytes > 1 && bigEndian !== HOST_IS_BIG_ENDIAN) {
    const view = Buffer.from(copy.buffer)
    if (itemBytes === 2) view.swap16()
    else if (itemBytes === 4) view.swap32()
    else view.swap64()
  }
  return copy
}

/** IEEE 754 binary16 from its bits. */
export function float16(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1
  const exponent = (bits >> 10) & 0x1f
  const fraction = bits & 0x3ff
  if (exponent === 0) return sign * fraction * 2 ** -24
  if (exponent === 0x1f) return fraction === 0 ? sign * Infinity : Number.NaN
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15)
}

/**
 * Reads a whole file. `name` is for messages. Throws `Corrupt` if it is not exactly an array that we read.
 */
export function decodeAnyNpy(bytes: Uint8Array, name: string): AnyNpyArray {
  const header = parseNpyHeader(bytes, name)
  const expected = header.items * header.itemBytes
  const got = bytes.length - header.dataStart
  if (got !== expected) {
    throw corrupt(
      `${name} has ${got} bytes of values, expected ${expected} for shape ${formatShape(header.shape)}`,
      {
        name,
        expected,
        got,
      },
    )
  }
  const data = decodeNpyItems(bytes.subarray(header.dataStart), header)
  return { shape: header.shape, data: header.fortranOrder ? toCOrder(data, header.shape) : data }
}

/** {@link decodeAnyNpy} for arrays of floating-point numbers; integers are `Corrupt`. */
export function decodeNpy(bytes: Uint8Array, name: string): NpyArray {
  const array = decodeAnyNpy(bytes, name)
  if (!hasFloats(array)) throw corrupt(`${name} holds integers, expected floating-point numbers`, { name })
  return array
}

function toCOrder(data: NpyData, shape: readonly number[]): NpyData {
  if (data instanceof BigInt64Array) {
    const copy = new BigInt64Array(data.length)
    for (const [to, from] of fortranPlaces(shape)) copy[to] = data[from]!
    return copy
  }
  const copy = data.slice()
  for (const [to, from] of fortranPlaces(shape)) copy[to] = data[from]!
  return copy
}

/** For each place in C order, its place in Fortran order. */
function* fortranPlaces(shape: readonly number[]): Generator<readonly [number, number]> {
  const items = shape.reduce((product, length) => product * length, 1)
  const strides: number[] = []
  let stride = 1
  for (const length of shape) {
    strides.push(stride)
    stride *= length
  }
  const index = shape.map(() => 0)
  let from = 0
  for (let to = 0; to < items; to++) {
    yield [to, from]
    // Counts up like a mileometer: the last index runs fastest.
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      from += strides[axis]!
      if (++index[axis]! < shape[axis]!) break
      from -= strides[axis]! * shape[axis]!
      index[axis] = 0
    }
  }
}

// NumPy leaves room for the first length to grow to this many digits in place, so its files have the same
// padding.
const GROWTH_DIGITS = 21
const ALIGNMENT = 64

/**
 * A file as `numpy.save` writes it, byte for byte: version 1.0, `<f4`, `<f8`, `<i4` or `<i8`, C order. Throws
 * `InvalidInput` if shape and number of values do not fit.
 */
export function encodeNpy(array: AnyNpyArray): Uint8Array {
  const { shape, data } = array
  const items = shape.reduce((product, length) => product * length, 1)
  if (items !== data.length) {
    throw invalidInput(`an array of shape ${formatShape(shape)} has ${items} values, got ${data.length}`, {
      shape,
    })
  }
  const type = itemTypeOf(data)
  const growth = shape.length === 0 ? 0 : GROWTH_DIGITS - String(shape[0]).length
  const dict = `{'descr': '<${type}', 'fortran_order': False, 'shape': ${formatShape(shape)}, }${" ".repeat(growth)}`
  const unpadded = MAGIC.length + 4 + dict.length + 1
  const dataStart = Math.ceil(unpadded / ALIGNMENT) * ALIGNMENT
  const text = `${dict}${" ".repeat(dataStart - unpadded)}\n`

  const bytes = new Uint8Array(dataStart + data.byteLength)
  const view = new DataView(bytes.buffer)
  bytes.set(MAGIC)
  view.setUint8(6, 1)
  view.setUint16(8, text.length, true)
  bytes.set(Buffer.from(text, "latin1"), 10)
  const values = new Uint8Array(data.buffer, data.byteOffset, data.byteLength)
  // Swapping is its own inverse: from the host's order to little-endian is the same step as back.
  bytes.set(copyInHostOrder(values, false, ITEM_BYTES[type]), dataStart)
  return bytes
}

function itemTypeOf(data: NpyData): Exclude<ItemType, "f2"> {
  if (data instanceof Float32Array) return "f4"
  if (data instanceof Float64Array) return "f8"
  return data instanceof Int32Array ? "i4" : "i8"
}

/** As Python prints a tuple. */
function formatShape(shape: readonly number[]): string {
  return shape.length === 1 ? `(${shape[0]},)` : `(${shape.join(", ")})`
}
