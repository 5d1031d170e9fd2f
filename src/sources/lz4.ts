/**
 * The LZ4 frame format, which Arrow uses for compressed buffers (the default of pandas and pyarrow). Decoding
 * takes these few lines; the packages there are have either native code for every platform or no checks of
 * what they read.
 *
 * https://github.com/lz4/lz4/blob/dev/doc/lz4_Frame_format.md, lz4_Block_format.md
 */
import { xxh32 } from "@node-rs/xxhash"

const MAGIC = 0x184d2204
const IS_UNCOMPRESSED = 0x8000_0000

/** Decompresses one frame, which stands for `size` bytes. Throws an `Error` that says what is wrong. */
export function unlz4(bytes: Uint8Array, size: number): Uint8Array {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  if (bytes.length < 7 || view.getUint32(0, true) !== MAGIC)
    throw new Error("it does not start as an LZ4 frame")
  const flags = bytes[4]!
  if (flags >> 6 !== 1) throw new Error("its version of LZ4 frames is unknown")
  const hasBlockChecksums = (flags & 0b1_0000) !== 0
  const hasContentSize = (flags & 0b1000) !== 0
  const hasContentChecksum = (flags & 0b100) !== 0
  const hasDictionary = (flags & 0b1) !== 0
  if (hasDictionary) throw new Error("it needs a dictionary")
  const descriptorEnd = 6 + (hasContentSize ? 8 : 0)
  if (bytes.length <= descriptorEnd) throw tooShort()
  if (((xxh32(bytes.subarray(4, descriptorEnd)) >>> 8) & 0xff) !== bytes[descriptorEnd])
    throw new Error("the checksum of its header is wrong")

  // LZ4 makes 255 bytes of one at most; damage must not ask for all memory.
  if (size > bytes.length * 255) throw wrongSize(size)
  const output = new Uint8Array(size)
  let filled = 0
  let at = descriptorEnd + 1
  const readUint32 = (): number => {
    if (at + 4 > bytes.length) throw tooShort()
    at += 4
    return view.getUint32(at - 4, true)
  }
  for (;;) {
    const header = readUint32()
    if (header === 0) break
    const length = header & ~IS_UNCOMPRESSED
    const block = bytes.subarray(at, at + length)
    if (block.length < length) throw tooShort()
    at += length
    if (hasBlockChecksums && readUint32() !== xxh32(block))
      throw new Error("the checksum of a block is wrong")
    if (header >>> 31 === 0) filled = decodeBlock(block, output, filled)
    else {
      if (filled + length > size) throw wrongSize(size)
      output.set(block, filled)
      filled += length
    }
  }
  if (filled !== size) throw wrongSize(size)
  if (hasContentChecksum && readUint32() !== xxh32(output)) throw new Error("its checksum is wrong")
  return output
}

const tooShort = (): Error => new Error("it is cut off")
const wrongSize = (size: number): Error => new Error(`it does not stand for ${size} bytes`)

const MIN_MATCH = 4
/** A length of 15 in four bits goes on in the bytes that follow, up to the first that is not 255. */
const LONG = 15

/** Decodes a block to `output` from `start`; where its values end there. */
function decodeBlock(block: Uint8Array, output: Uint8Array, start: number): number {
  let from = 0
  let to = start
  const longLength = (length: number): number => {
    if (length < LONG) return length
    let total = length
    for (;;) {
      const more = block[from++]
      if (more === undefined) throw tooShort()
      total += more
      if (more < 255) return total
    }
  }
  while (from < block.length) {
    const token = block[from++]!
    const literals = longLength(token >> 4)
    if (from + literals > block.length) throw tooShort()
    if (to + literals > output.length) throw wrongSize(output.length)
    output.set(block.subarray(from, from + literals), to)
    from += literals
    to += literals
    // The last sequence has literals alone.
    if (from === block.length) return to

    if (from + 2 > block.length) throw tooShort()
    const offset = block[from]! | (block[from + 1]! << 8)
    from += 2
    const length = longLength(token & 0b1111) + MIN_MATCH
    if (offset === 0 || offset > to) throw new Error("it refers to what is before its start")
    if (to + length > output.length) throw wrongSize(output.length)
    // A match may reach into itself, which repeats it.
    if (offset >= length) output.copyWithin(to, to - offset, to - offset + length)
    else for (let i = 0; i < length; i++) output[to + i] = output[to + i - offset]!
    to += length
  }
  throw tooShort()
}
