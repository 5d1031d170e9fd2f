/**
 * `.npz`, several arrays of NumPy in a zip archive, as `numpy.savez` and `numpy.savez_compressed` write it:
 * the one with rows and dimensions holds the vectors, one named `id` or `ids` their ids. Arrays are unpacked
 * into files first, and checked.
 */
import { createReadStream, createWriteStream } from "node:fs"
import { open, rm } from "node:fs/promises"
import { join } from "node:path"
import { pipeline } from "node:stream/promises"
import { crc32, createInflateRaw } from "node:zlib"
import { corrupt, invalidInput, isVecsnapError, messageOf, unsupported } from "../../errors.js"
import { makeTempDir } from "../../storage/temp-dir.js"
import { listOf } from "../../wording.js"
import type { FileReader } from "../columns.js"
import type { FileFormat, LocalFile } from "../format.js"
import { idsFrom } from "../ids.js"
import { type OpenFile, readMatrix, readUpTo } from "../matrix.js"
import { findArray, idsOfNpy, openArray } from "./npy.js"

export const npz: FileFormat<"npz"> = {
  name: "npz",
  extensions: ["npz"],
  // Every zip archive begins so.
  magic: [],
  reads: "file",
  idsBeside: true,
  open: async (file) => npzReader(file),
}

const VECTOR_NAMES = ["vector", "vectors", "embedding", "embeddings", "emb"]
const ID_NAMES = ["id", "ids"]

function npzReader({ name: file, path, tempDir, ids }: LocalFile): FileReader {
  return {
    file,
    unit: "row",
    text: ids.isText,
    async *read() {
      const dir = await makeTempDir(tempDir, "vecsnap-npz")
      try {
        const arrays = await unpack(file, path, dir)
        const vectors = vectorsOf(arrays, file)
        const own = arrays.find(({ name, axes }) => ID_NAMES.includes(name) && axes === 1)
        const rowIds = own && ids.isCounted ? idsFrom(idsOfNpy(own.label, own.path), own.label, false) : ids
        try {
          yield* readMatrix(vectors.label, vectors.path, rowIds, findArray)
          if (rowIds !== ids) await rowIds.end(vectors.label)
        } finally {
          if (rowIds !== ids) await rowIds.close()
        }
      } finally {
        await rm(dir, { recursive: true, force: true })
      }
    },
  }
}

interface UnpackedArray {
  readonly name: string
  /** For messages. */
  readonly label: string
  readonly path: string
  readonly axes: number
  readonly isNumber: boolean
}

function vectorsOf(arrays: readonly UnpackedArray[], file: string): UnpackedArray {
  const tables = arrays.filter(({ axes, isNumber }) => axes === 2 && isNumber)
  const named = tables.filter(({ name }) => VECTOR_NAMES.includes(name))
  const [found, ...others] = named.length > 0 ? named : tables
  if (found !== undefined && others.length === 0) return found
  const names = arrays.map(({ name }) => name)
  throw invalidInput(
    `${file} has ${found === undefined ? "no array" : "several arrays"} of shape (rows, dimension): its arrays are ${listOf(names)}; name the one of the vectors "vectors"`,
    { file, arrays: names },
  )
}

async function unpack(file: string, path: string, dir: string): Promise<UnpackedArray[]> {
  const handle = await open(path)
  try {
    const { size } = await handle.stat()
    const arrays: UnpackedArray[] = []
    for (const entry of await readDirectory({ handle, file, size })) {
      if (!entry.name.endsWith(".npy")) continue
      const label = `${file}: ${entry.name}`
      const unpacked = join(dir, `${arrays.length}.npy`)
      await unpackEntry({ handle, file, size }, path, entry, unpacked)
      const array = await open(unpacked)
      try {
        const { shape, type } = await openArray({ handle: array, file: label, size: entry.size })
        const name = entry.name.slice(0, -".npy".length)
        arrays.push({ name, label, path: unpacked, axes: shape.length, isNumber: type.isNumber })
      } finally {
        await array.close()
      }
    }
    return arrays
  } finally {
    await handle.close()
  }
}

// ---- Zip (PKWARE's APPNOTE 6.3, sections 4.3 and 4.5.3) ---------------------------------------------------

interface ZipEntry {
  readonly name: string
  readonly isDeflated: boolean
  readonly crc: number
  readonly packedSize: number
  readonly size: number
  /** Of its local header. */
  readonly offset: number
}

const LOCAL_HEADER_BYTES = 30
const ENTRY = 0x02014b50
const ENTRY_BYTES = 46
const END = 0x06054b50
const END_BYTES = 22
const MAX_COMMENT_BYTES = 65_535
const STORED = 0
const DEFLATED = 8
/** Stands for a size or place that is in an extra field with 64 bits. */
const SEE_EXTRA = 0xffff_ffff

async function readDirectory(input: OpenFile): Promise<ZipEntry[]> {
  const { handle, file, size } = input
  const damaged = (reason: string) => corrupt(`${file} is cut off or no .npz file: ${reason}`, { file })
  const tailStart = Math.max(0, size - END_BYTES - MAX_COMMENT_BYTES)
  const tail = await readUpTo(handle, tailStart, size - tailStart)
  let end = tail.length - END_BYTES
  while (end >= 0 && tail.readUInt32LE(end) !== END) end--
  if (end < 0) throw damaged("it has no directory at its end")
  const bytes = await readUpTo(handle, tail.readUInt32LE(end + 16), tail.readUInt32LE(end + 12))
  const entries: ZipEntry[] = []
  for (let at = 0; at + ENTRY_BYTES <= bytes.length; ) {
    if (bytes.readUInt32LE(at) !== ENTRY) throw damaged(`its directory has no entry at byte ${at}`)
    const nameEnd = at + ENTRY_BYTES + bytes.readUInt16LE(at + 28)
    const extraEnd = nameEnd + bytes.readUInt16LE(at + 30)
    const name = bytes.toString("utf8", at + ENTRY_BYTES, nameEnd)
    const method = bytes.readUInt16LE(at + 10)
    if (method !== STORED && method !== DEFLATED)
      throw unsupported(`${file} holds ${name} by a method of compression that is not known, ${method}`, {
        file,
      })
    const wide = wideNumbers(bytes.subarray(nameEnd, extraEnd))
    const number = (place: number): number => {
      const value = bytes.readUInt32LE(place)
      return value === SEE_EXTRA ? (wide.shift() ?? value) : value
    }
    const [full, packedSize, offset] = [number(at + 24), number(at + 20), number(at + 42)] as const
    const crc = bytes.readUInt32LE(at + 16)
    entries.push({ name, isDeflated: method === DEFLATED, crc, packedSize, size: full, offset })
    at = extraEnd + bytes.readUInt16LE(at + 32)
  }
  if (entries.length !== tail.readUInt16LE(end + 10)) throw damaged("its directory has not all entries")
  return entries
}

const WIDE_FIELD = 1

function wideNumbers(extra: Buffer): number[] {
  for (let at = 0; at + 4 <= extra.length; ) {
    const length = extra.readUInt16LE(at + 2)
    if (extra.readUInt16LE(at) === WIDE_FIELD && at + 4 + length <= extra.length)
      return Array.from({ length: length >> 3 }, (_, i) => Number(extra.readBigUInt64LE(at + 4 + i * 8)))
    at += 4 + length
  }
  return []
}

/** Writes an entry to a file. Throws `Corrupt` if it is not what the directory says. */
async function unpackEntry(input: OpenFile, path: string, entry: ZipEntry, to: string): Promise<void> {
  const { file, handle } = input
  const header = await readUpTo(handle, entry.offset, LOCAL_HEADER_BYTES)
  const damaged = (reason: string, cause?: unknown) =>
    corrupt(`${file} is damaged: ${entry.name} ${reason}`, { file, entry: entry.name }, cause)
  if (header.length < LOCAL_HEADER_BYTES) throw damaged("lies outside of the file")
  const start = entry.offset + LOCAL_HEADER_BYTES + header.readUInt16LE(26) + header.readUInt16LE(28)
  let size = 0
  let crc = 0
  const check = async function* (chunks: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
    for await (const chunk of chunks) {
      size += chunk.length
      // Damage must not fill the disk.
      if (size > entry.size) throw damaged(`has more than ${entry.size} bytes`)
      crc = crc32(chunk, crc)
      yield chunk
    }
  }
  try {
    if (entry.packedSize > 0) {
      const packed = createReadStream(path, { start, end: start + entry.packedSize - 1 })
      if (entry.isDeflated) await pipeline(packed, createInflateRaw(), check, createWriteStream(to))
      else await pipeline(packed, check, createWriteStream(to))
    } else await (await open(to, "w")).close()
  } catch (cause) {
    throw isVecsnapError(cause) ? cause : damaged(`cannot be unpacked: ${messageOf(cause)}`, cause)
  }
  if (size !== entry.size || crc !== entry.crc) throw damaged("has a wrong checksum")
}
