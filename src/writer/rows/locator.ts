/**
 * Writes the id locator from the bucket files of the id log, in the memory of one bucket. Of a row with
 * copies it names the home.
 *
 * Buckets are by the first byte of the hash, so the sorted buckets one after another are all entries sorted.
 */
import { createHash } from "node:crypto"
import {
  blockChecksum,
  ENTRIES_PER_BLOCK,
  ENTRY_BYTES,
  encodeLocatorIndex,
  type LocatorBlock,
} from "../../manifest/locator.js"
import type { LocatorEntry } from "../../manifest/manifest.js"
import type { Scratch } from "../scratch.js"
import { type Duplicates, isCopy, type LoggedIds, readBucket } from "./id-log.js"

/**
 * Writes the locator of a snapshot to the scratch file `name`, which must not exist yet.
 *
 * @param buckets of the id log, in its order
 * @param drop rows that are not in the snapshot, since they lost against others with the same id
 * @returns what the manifest says of the file, but its key
 */
export async function writeLocator(
  scratch: Scratch,
  name: string,
  buckets: readonly string[],
  drop: Duplicates["drop"],
  entriesPerBlock = ENTRIES_PER_BLOCK,
): Promise<Omit<LocatorEntry, "key">> {
  const blocks = createBlockWriter((bytes) => scratch.append(name, bytes), entriesPerBlock)
  for (const bucket of buckets) {
    const logged = readBucket(await scratch.readWhole(bucket))
    for (const i of sortedOrder(logged)) {
      if (isCopy(logged, i)) continue
      const shard = logged.shard[i]!
      if (drop.get(shard)?.has(logged.position[i]!)) continue
      blocks.add(logged.hash[i]!, shard)
      if (blocks.full) await blocks.flush()
    }
  }
  return blocks.finish()
}

/** Indexes of the entries by rising hash, then shard: an order that does not depend on that of the input. */
function sortedOrder({ hash, shard }: LoggedIds): Uint32Array {
  // Halves as numbers: comparing bigints would take several times as long.
  const halves = new Uint32Array(hash.buffer, hash.byteOffset, hash.length * 2)
  return Uint32Array.from(hash.keys()).sort(
    (a, b) =>
      halves[2 * a + HIGH]! - halves[2 * b + HIGH]! ||
      halves[2 * a + 1 - HIGH]! - halves[2 * b + 1 - HIGH]! ||
      shard[a]! - shard[b]!,
  )
}

/** Which half of a 64-bit element in memory is the upper one: the second on little-endian machines. */
const HIGH = new Uint32Array(BigUint64Array.of(1n).buffer)[0] === 1 ? 1 : 0

function createBlockWriter(append: (bytes: Buffer) => Promise<void>, entriesPerBlock: number) {
  const digest = createHash("sha256")
  const block = Buffer.alloc(entriesPerBlock * ENTRY_BYTES)
  const blocks: LocatorBlock[] = []
  let filledBytes = 0
  let entries = 0

  const write = async (bytes: Buffer): Promise<void> => {
    digest.update(bytes)
    await append(bytes)
  }
  const flush = async (): Promise<void> => {
    if (filledBytes === 0) return
    const bytes = block.subarray(0, filledBytes)
    blocks.push({
      firstHash: bytes.readBigUInt64LE(0),
      lastHash: bytes.readBigUInt64LE(filledBytes - ENTRY_BYTES),
      checksum: blockChecksum(bytes),
    })
    await write(bytes)
    filledBytes = 0
  }

  return {
    /** Whether the current block must be flushed before the next entry. */
    get full(): boolean {
      return filledBytes === block.length
    },
    flush,
    add(hash: bigint, shard: number): void {
      block.writeBigUInt64LE(hash, filledBytes)
      block.writeUInt32LE(shard, filledBytes + 8)
      filledBytes += ENTRY_BYTES
      entries++
    },
    async finish(): Promise<Omit<LocatorEntry, "key">> {
      await flush()
      const index = encodeLocatorIndex({ entries, entriesPerBlock, blocks })
      await write(index)
      return {
        size: entries * ENTRY_BYTES + index.length,
        sha256: digest.digest("hex"),
        index: { size: index.length, sha256: createHash("sha256").update(index).digest("hex") },
      }
    },
  }
}
