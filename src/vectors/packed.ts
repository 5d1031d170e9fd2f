/** Vectors that come as bytes, as databases and array libraries pack them, little-endian. */
import { decodeNpyItems } from "./npy.js"

/** What the bytes of a packed vector are. */
export const VECTOR_ENCODINGS = ["float32", "int8", "uint8"] as const
export type VectorEncoding = (typeof VECTOR_ENCODINGS)[number]

export interface PackedReading {
  /** Said by the user. */
  readonly encoding?: VectorEncoding | undefined
  /** Without an encoding, bytes are float32 if that makes so many values. */
  readonly dim?: number | undefined
}

/**
 * The numbers that the bytes stand for; else what is wrong with them, in words that follow "the vector".
 * Bytes alone do not say whether they are numbers of one byte or of four, so they are never taken for one of
 * these by a guess.
 */
export function unpackVector(
  bytes: Uint8Array,
  { encoding, dim }: PackedReading,
): ArrayLike<number> | string {
  const { length } = bytes
  const floats = length / Float32Array.BYTES_PER_ELEMENT
  const isFloat32 = encoding === undefined ? floats === dim : encoding === "float32"
  if (isFloat32) {
    if (Number.isInteger(floats)) return float32Of(bytes)
    return `is ${length} bytes, expected a multiple of 4, as float32 values have`
  }
  if (encoding === "int8") return new Int8Array(bytes.buffer, bytes.byteOffset, length)
  if (encoding === "uint8") return bytes
  const readings = Number.isInteger(floats) ? `${floats} float32 or ${length} int8` : `${length} int8`
  const expected = dim === undefined ? "" : `, expected ${dim} values`
  return `is ${length} bytes: ${readings}${expected}; set the vector encoding to float32, int8 or uint8`
}

const float32Of = (bytes: Uint8Array): Float32Array =>
  decodeNpyItems(bytes, { type: "f4", bigEndian: false }) as Float32Array
