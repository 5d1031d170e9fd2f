/**
 * Zstandard (RFC 8878) through `fzstd`, which neither compares the checksums of frames nor minds a file that
 * ends between the blocks of one. So frames and blocks are told apart here, and every frame is checked.
 */
import { Xxh64 } from "@node-rs/xxhash"
import { Decompress, decompress } from "fzstd"

const MAGIC = 0xfd2fb528

/** Whether these four bytes start a frame to skip, as parallel compressors write it. */
const isSkippable = (start: number): boolean => start >= 0x184d2a50 && start <= 0x184d2a5f

/** Whether a file that starts with `head` is one of zstd. */
export function startsZstd(head: Uint8Array): boolean {
  const start = head.length >= 4 ? Buffer.from(head).readUInt32LE(0) : 0
  return start === MAGIC || isSkippable(start)
}

const MAX_BLOCK_BYTES = 128 * 1024
const CHECKSUM_BYTES = 4

/** What the decoder waits for. */
type Step = "frame" | "block" | "checksum"

/** Decompresses what is pushed, however it is cut. Holds back less than one block. */
export class ZstdStream {
  #pending: Uint8Array = new Uint8Array(0)
  #step: Step = "frame"
  /** Bytes of a skippable frame still to come. */
  #skip = 0
  #frame: { readonly decoder: Decompress; readonly hash: Xxh64 | undefined } | undefined
  #output: Uint8Array[] = []

  /** Throws an `Error` if the data ended within a frame. */
  end(): void {
    if (this.#step !== "frame" || this.#skip > 0 || this.#pending.length > 0)
      throw new Error("it ends within a frame")
  }

  /** The plain bytes that are complete with `chunk`. Throws an `Error` that says what is wrong. */
  *push(chunk: Uint8Array): Generator<Uint8Array> {
    let bytes = this.#pending.length === 0 ? chunk : Buffer.concat([this.#pending, chunk])
    for (;;) {
      const taken = this.#take(bytes)
      // A block stands for 128 KiB at most, so this bounds what one step yields.
      yield* this.#output
      this.#output = []
      if (taken === 0) break
      bytes = bytes.subarray(taken)
    }
    this.#pending = copyOf(bytes)
  }

  /** Takes the next part off the start of `bytes`: how many bytes that is, 0 if there are too few. */
  #take(bytes: Uint8Array): number {
    if (this.#skip > 0) {
      const skipped = Math.min(this.#skip, bytes.length)
      this.#skip -= skipped
      return skipped
    }
    if (this.#step === "frame") return this.#takeFrameHeader(bytes)
    return this.#step === "block" ? this.#takeBlock(bytes) : this.#takeChecksum(bytes)
  }

  #takeFrameHeader(bytes: Uint8Array): number {
    if (bytes.length < 8) return 0
    const view = viewOf(bytes)
    if (isSkippable(view.getUint32(0, true))) {
      this.#skip = view.getUint32(4, true)
      return 8
    }
    const header = frameHeader(bytes)
    if (header === undefined) return 0
    const decoder = new Decompress((data) => {
      if (data.length === 0) return
      this.#frame?.hash?.update(data)
      this.#output.push(data)
    })
    this.#frame = { decoder, hash: header.hasChecksum ? new Xxh64() : undefined }
    this.#step = "block"
    // The decoder need not wait for the checksum.
    const copy = copyOf(bytes.subarray(0, header.bytes))
    copy[4]! &= ~CHECKSUM_FLAG
    decoder.push(copy)
    return header.bytes
  }

  #takeBlock(bytes: Uint8Array): number {
    if (bytes.length < BLOCK_HEADER_BYTES) return 0
    const block = blockHeader(bytes)
    if (bytes.length < block.bytes) return 0
    const { decoder, hash } = this.#frame!
    // The decoder keeps what it cannot use yet, so it gets a copy of its own.
    decoder.push(copyOf(bytes.subarray(0, block.bytes)), block.isLast)
    if (block.isLast) this.#step = hash === undefined ? "frame" : "checksum"
    return block.bytes
  }

  #takeChecksum(bytes: Uint8Array): number {
    if (bytes.length < CHECKSUM_BYTES) return 0
    assertChecksum(viewOf(bytes).getUint32(0, true), this.#frame!.hash!)
    this.#step = "frame"
    return CHECKSUM_BYTES
  }
}

/**
 * Decompresses one frame, which stands for `size` bytes, as a whole. Throws an `Error` that says what is
 * wrong.
 */
export function unzstd(bytes: Uint8Array, size: number): Uint8Array {
  const header = bytes.length < 6 ? undefined : frameHeader(bytes)
  if (header === undefined) throw new Error("it ends within the header of its frame")
  const { hasChecksum, contentBytes = size } = header
  const wrongSize = new Error(`it does not stand for ${size} bytes`)
  // Damage must not ask for all memory: four bytes make a block at most.
  if (contentBytes !== size || size > (bytes.length / 4) * MAX_BLOCK_BYTES) throw wrongSize
  const plain = decompress(bytes)
  if (plain.length !== size) throw wrongSize
  if (hasChecksum) {
    const checksum = viewOf(bytes).getUint32(bytes.length - CHECKSUM_BYTES, true)
    assertChecksum(checksum, new Xxh64().update(plain))
  }
  return plain
}

function assertChecksum(expected: number, hash: Xxh64): void {
  if (Number(hash.digest() & 0xffff_ffffn) !== expected) throw new Error("its checksum is wrong")
}

// `slice` of a Buffer makes no copy.
const copyOf = (bytes: Uint8Array): Uint8Array => new Uint8Array(bytes)

const viewOf = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)

const CHECKSUM_FLAG = 0b100

/** What the program zstd takes without being asked to. */
const MAX_WINDOW_BYTES = 2 ** 27

interface FrameHeader {
  readonly bytes: number
  readonly hasChecksum: boolean
  /** Size of what the frame stands for, if it says so. */
  readonly contentBytes: number | undefined
}

/** What stands before the blocks of a frame; `undefined` if `bytes` ends within it. */
function frameHeader(bytes: Uint8Array): FrameHeader | undefined {
  const view = viewOf(bytes)
  if (view.getUint32(0, true) !== MAGIC) throw new Error("what follows a frame is not one")
  const descriptor = bytes[4]!
  const isSingleSegment = (descriptor & 0b10_0000) !== 0
  const windowBytes = isSingleSegment ? 0 : 1
  const dictionaryBytes = [0, 1, 2, 4][descriptor & 0b11]!
  const sizeBytes = [isSingleSegment ? 1 : 0, 2, 4, 8][descriptor >> 6]!
  const sizeAt = 5 + windowBytes + dictionaryBytes
  if (bytes.length < sizeAt + sizeBytes) return undefined

  const sizeReaders: Readonly<Record<number, () => number>> = {
    1: () => bytes[sizeAt]!,
    2: () => view.getUint16(sizeAt, true) + 256,
    4: () => view.getUint32(sizeAt, true),
    8: () => Number(view.getBigUint64(sizeAt, true)),
  }
  const contentBytes = sizeReaders[sizeBytes]?.()
  const windowByte = bytes[5]!
  const window = isSingleSegment ? contentBytes! : 2 ** (10 + (windowByte >> 3)) * (1 + (windowByte & 7) / 8)
  if (window > MAX_WINDOW_BYTES)
    throw new Error(`it needs a window of ${window} bytes, expected ${MAX_WINDOW_BYTES} at most`)
  const hasChecksum = (descriptor & CHECKSUM_FLAG) !== 0
  return { bytes: sizeAt + sizeBytes, hasChecksum, contentBytes }
}

const BLOCK_HEADER_BYTES = 3

/** `bytes`: of the whole block. */
function blockHeader(bytes: Uint8Array): { readonly bytes: number; readonly isLast: boolean } {
  const bits = bytes[0]! | (bytes[1]! << 8) | (bytes[2]! << 16)
  const isRepeatedByte = ((bits >> 1) & 0b11) === 1
  const size = isRepeatedByte ? 1 : bits >> 3
  if (size > MAX_BLOCK_BYTES)
    throw new Error(`a block has ${size} bytes, expected ${MAX_BLOCK_BYTES} at most`)
  return { bytes: BLOCK_HEADER_BYTES + size, isLast: (bits & 1) !== 0 }
}
