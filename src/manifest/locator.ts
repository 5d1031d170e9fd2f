/**
 * The id locator: which shard each id of a snapshot is in, as one object that is read in pieces. Pure.
 *
 * `routing/<run>/ids.bin` holds an entry per row, sorted by (hash of the id, shard), in blocks of equal
 * length, then an index of the blocks. A reader fetches the index once, and then the few blocks that the ids
 * asked for can be in. Each block is covered by a checksum in the index, and the index by one in the
 * manifest, so what is read in pieces is verified like what is read whole.
 *
 * An entry names a shard that holds some id with that hash: a candidate, since different ids may share a
 * hash.
 *
 * All integers are little-endian and unsigned; docs/format.md has the layout and an example.
 *
 * ```
 * block   ENTRY_BYTES per entry:  hash u64, shard u32
 * index   header:                 magic "VSNAPIDS", version u32, entries per block u32, entries u64
 *         per block:              first hash u64, last hash u64, checksum of the block u64
 * ```
 */
import { corrupt, unsupported } from "../errors.js"
import type { Id } from "../records.js"
import { hashValue } from "../sharding/hash.js"
import type { LocatorEntry } from "./manifest.js"

/** The longest index that is read, into memory: that of 11 billion rows. */
export const INDEX_MAX_BYTES = 64 * 2 ** 20

/** Name of the locator among the routing artifacts of its run. */
export const LOCATOR_FILE = "ids.bin"
export const ENTRY_BYTES = 12
/** 48 KiB a block: a request for one takes about as long as a request for a byte. */
export const ENTRIES_PER_BLOCK = 4096

const MAGIC = Buffer.from("VSNAPIDS")
const VERSION = 1
const HEADER_BYTES = 24
const INDEX_ROW_BYTES = 24
/** Blocks are read into memory several at a time. */
const ENTRIES_PER_BLOCK_MAX = 65_536
const INT64_MIN = -(2n ** 63n)
const INT64_MAX = 2n ** 63n - 1n

/**
 * What the index says of one block. Blocks touch if equal hashes continue in the next one, and never overlap.
 */
export interface LocatorBlock {
  readonly firstHash: bigint
  readonly lastHash: bigint
  /** Of the block's bytes, by {@link blockChecksum}. */
  readonly checksum: bigint
}

export interface LocatorIndex {
  readonly entries: number
  readonly entriesPerBlock: number
  readonly blocks: readonly LocatorBlock[]
}

/**
 * The hash under which an id is filed; `undefined` for an integer beyond 64 bits, which no snapshot can hold.
 */
export function hashOfId(id: Id): bigint | undefined {
  if (typeof id === "string") return hashValue(id)
  const integer = BigInt(id)
  return integer < INT64_MIN || integer > INT64_MAX ? undefined : hashValue(integer)
}

/** XXH3-64 of a block's bytes. */
export const blockChecksum = (block: Uint8Array): bigint => hashValue(block)

export function encodeLocatorIndex({ entries, entriesPerBlock, blocks }: LocatorIndex): Buffer {
  const bytes = Buffer.alloc(HEADER_BYTES + blocks.length * INDEX_ROW_BYTES)
  MAGIC.copy(bytes)
  bytes.writeUInt32LE(VERSION, 8)
  bytes.writeUInt32LE(entriesPerBlock, 12)
  bytes.writeBigUInt64LE(BigInt(entries), 16)
  let at = HEADER_BYTES
  for (const { firstHash, lastHash, checksum } of blocks) {
    bytes.writeBigUInt64LE(firstHash, at)
    bytes.writeBigUInt64LE(lastHash, at + 8)
    bytes.writeBigUInt64LE(checksum, at + 16)
    at += INDEX_ROW_BYTES
  }
  return bytes
}

/**
 * Reads an index whose bytes match the manifest's checksum. Throws `Corrupt` if it does not fit the object or
 * the snapshot, `Unsupported` for a later version; both name the object.
 *
 * @param rows of the snapshot, each of which has an entry
 */
export function decodeLocatorIndex(bytes: Uint8Array, locator: LocatorEntry, rows: number): LocatorIndex {
  const { key } = locator
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  if (buffer.length < HEADER_BYTES || !buffer.subarray(0, MAGIC.length).equals(MAGIC)) {
    throw corrupt(`${key} has an index that does not begin with ${MAGIC}`, { key })
  }
  const version = buffer.readUInt32LE(8)
  if (version !== VERSION) {
    throw unsupported(
      `${key} has version ${version}; this vecsnap reads version ${VERSION}: use a newer one`,
      {
        key,
        version,
      },
    )
  }
  const entriesPerBlock = buffer.readUInt32LE(12)
  if (entriesPerBlock < 1 || entriesPerBlock > ENTRIES_PER_BLOCK_MAX) {
    throw corrupt(`${key} has blocks of ${entriesPerBlock} entries, expected 1 to ${ENTRIES_PER_BLOCK_MAX}`, {
      key,
      expected: ENTRIES_PER_BLOCK_MAX,
      actual: entriesPerBlock,
    })
  }
  const entries = Number(buffer.readBigUInt64LE(16))
  if (entries !== rows) {
    throw corrupt(`${key} has ${entries} entries, but its snapshot has ${rows} rows`, {
      key,
      expected: rows,
      actual: entries,
    })
  }
  const blockCount = Math.ceil(entries / entriesPerBlock)
  const sizeBytes = entries * ENTRY_BYTES + HEADER_BYTES + blockCount * INDEX_ROW_BYTES
  if (sizeBytes !== locator.size || sizeBytes - entries * ENTRY_BYTES !== buffer.length) {
    throw corrupt(
      `${key} has ${locator.size} bytes with an index of ${buffer.length}, but ${entries} entries take ${sizeBytes}`,
      { key, expected: sizeBytes, actual: locator.size },
    )
  }
  const blocks = Array.from({ length: blockCount }, (_, block): LocatorBlock => {
    const at = HEADER_BYTES + block * INDEX_ROW_BYTES
    return {
      firstHash: buffer.readBigUInt64LE(at),
      lastHash: buffer.readBigUInt64LE(at + 8),
      checksum: buffer.readBigUInt64LE(at + 16),
    }
  })
  const unordered = blocks.findIndex(
    ({ firstHash, lastHash }, i) => firstHash > lastHash || (i > 0 && firstHash < blocks[i - 1]!.lastHash),
  )
  if (unordered >= 0) throw corrupt(`${key} has an index that is out of order at block ${unordered}`, { key })
  return { entries, entriesPerBlock, blocks }
}

/** Where a block lies in the object. */
export function blockRange(
  { entries, entriesPerBlock }: LocatorIndex,
  block: number,
): { readonly start: number; readonly end: number } {
  const first = block * entriesPerBlock
  return {
    start: first * ENTRY_BYTES,
    end: Math.min(first + entriesPerBlock, entries) * ENTRY_BYTES,
  }
}

/**
 * The blocks that hold entries with this hash, if any do: none or one, more only where equal hashes straddle.
 */
export function blocksWith({ blocks }: LocatorIndex, hash: bigint): readonly number[] {
  const found: number[] = []
  let block = lowerBound(blocks.length, (i) => blocks[i]!.lastHash >= hash)
  while (block < blocks.length && blocks[block]!.firstHash <= hash) found.push(block++)
  return found
}

/** Shards of the entries with this hash in a block, by rising number. */
export function shardsWith(block: Uint8Array, hash: bigint): readonly number[] {
  const view = new DataView(block.buffer, block.byteOffset, block.byteLength)
  const entries = block.byteLength / ENTRY_BYTES
  const hashAt = (entry: number): bigint => view.getBigUint64(entry * ENTRY_BYTES, true)
  const shards = new Set<number>()
  let entry = lowerBound(entries, (i) => hashAt(i) >= hash)
  for (; entry < entries && hashAt(entry) === hash; entry++) {
    shards.add(view.getUint32(entry * ENTRY_BYTES + 8, true))
  }
  return [...shards]
}

/** The first of 0 … `length` - 1 that `holds`, else `length`; once it holds it must hold to the end. */
function lowerBound(length: number, holds: (i: number) => boolean): number {
  let low = 0
  let high = length
  while (low < high) {
    const middle = (low + high) >>> 1
    if (holds(middle)) high = middle
    else low = middle + 1
  }
  return low
}
