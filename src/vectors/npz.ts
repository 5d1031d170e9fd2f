/**
 * NumPy's `.npz`: several `.npy` arrays in one file, which `numpy.load` opens. A zip archive (PKWARE's
 * APPNOTE 6.3, sections 4.3 and 4.4) whose entries are stored without compression, as `numpy.savez` writes
 * it.
 */
import { crc32 } from "node:zlib"
import { corrupt } from "../errors.js"
import { type AnyNpyArray, decodeAnyNpy, encodeNpy } from "./npy.js"

const LOCAL_HEADER = 0x04034b50
const LOCAL_HEADER_BYTES = 30
const DIRECTORY_ENTRY = 0x02014b50
const DIRECTORY_ENTRY_BYTES = 46
const END = 0x06054b50
const END_BYTES = 22
/** "Version needed to extract": 2.0. */
const VERSION = 20
/** Names are UTF-8. */
const FLAGS = 0x0800
const STORED = 0
/** The first day that the format knows, so that equal arrays make equal files. */
const DATE = 0x21

/**
 * The file of some arrays by name, such as "centroids.npy"; the same for the same arrays. At most 65,535 of
 * them, 4 GiB in all.
 */
export function encodeNpz(arrays: Readonly<Record<string, AnyNpyArray>>): Uint8Array {
  const parts: Buffer[] = []
  const directory: Buffer[] = []
  let offset = 0
  for (const [name, array] of Object.entries(arrays)) {
    const body = encodeNpy(array)
    const encodedName = Buffer.from(name)
    // The fields that the header of an entry and its line in the directory share, in the same order.
    const shared = Buffer.alloc(26)
    shared.writeUInt16LE(VERSION, 0)
    shared.writeUInt16LE(FLAGS, 2)
    shared.writeUInt16LE(STORED, 4)
    shared.writeUInt16LE(DATE, 8)
    shared.writeUInt32LE(crc32(body), 10)
    shared.writeUInt32LE(body.length, 14)
    shared.writeUInt32LE(body.length, 18)
    shared.writeUInt16LE(encodedName.length, 22)
    const header = Buffer.alloc(LOCAL_HEADER_BYTES)
    header.writeUInt32LE(LOCAL_HEADER, 0)
    shared.copy(header, 4)
    const line = Buffer.alloc(DIRECTORY_ENTRY_BYTES)
    line.writeUInt32LE(DIRECTORY_ENTRY, 0)
    line.writeUInt16LE(VERSION, 4)
    shared.copy(line, 6)
    line.writeUInt32LE(offset, 42)
    directory.push(line, encodedName)
    parts.push(header, encodedName, Buffer.from(body.buffer, body.byteOffset, body.length))
    offset += header.length + encodedName.length + body.length
  }
  const directoryBytes = directory.reduce((sum, part) => sum + part.length, 0)
  const end = Buffer.alloc(END_BYTES)
  end.writeUInt32LE(END, 0)
  end.writeUInt16LE(directory.length / 2, 8)
  end.writeUInt16LE(directory.length / 2, 10)
  end.writeUInt32LE(directoryBytes, 12)
  end.writeUInt32LE(offset, 16)
  return Buffer.concat([...parts, ...directory, end])
}

/**
 * The arrays of a file that {@link encodeNpz} wrote, by name. Throws `Corrupt`, naming the file, for any
 * other.
 */
export function decodeNpz(bytes: Uint8Array, name: string): Readonly<Record<string, AnyNpyArray>> {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)
  const arrays: [string, AnyNpyArray][] = []
  let at = 0
  while (at + LOCAL_HEADER_BYTES <= buffer.length && buffer.readUInt32LE(at) === LOCAL_HEADER) {
    const size = buffer.readUInt32LE(at + 18)
    const nameStart = at + LOCAL_HEADER_BYTES
    const start = nameStart + buffer.readUInt16LE(at + 26) + buffer.readUInt16LE(at + 28)
    const entry = buffer.toString("utf8", nameStart, nameStart + buffer.readUInt16LE(at + 26))
    if (buffer.readUInt16LE(at + 8) !== STORED || start + size > buffer.length) {
      throw corrupt(`${name} holds "${entry}" compressed or incomplete, expected ${size} stored bytes`, {
        file: name,
        entry,
      })
    }
    // A copy, so that the numbers lie where arrays of them can.
    arrays.push([entry, decodeAnyNpy(bytes.slice(start, start + size), `${name}: ${entry}`)])
    at = start + size
  }
  if (at + 4 > buffer.length || buffer.readUInt32LE(at) !== DIRECTORY_ENTRY) {
    throw corrupt(`${name} is no .npz file: expected an entry or the directory at byte ${at}`, {
      file: name,
      at,
    })
  }
  return Object.fromEntries(arrays)
}
