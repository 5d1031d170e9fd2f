/**
 * Entries of variable length in files on disk, parted by the hash of an id, so that what belongs together can
 * be brought together in bounded memory: equal ids are in the same bucket, and buckets follow each other by
 * rising hash.
 *
 * An entry is its hash (u64), the length of its bytes (u32), and these, little-endian.
 */
import { appendFile, readFile } from "node:fs/promises"
import { join } from "node:path"

const HEADER_BYTES = 12
/** Bytes that wait in memory over all buckets of one set. */
const BUFFERED_BYTES = 8 * 2 ** 20
const BUCKET_BITS_MAX = 12

/** Default of how many rows a bucket should have: some tens of MB once they are read. */
export const ROWS_PER_BUCKET = 100_000

export interface Entry {
  readonly hash: bigint
  readonly bytes: Buffer
}

export interface Buckets {
  readonly count: number
  add(hash: bigint, bytes: Uint8Array): Promise<void>
  /** Writes out what waits in memory. Call once, after the last `add`. */
  finish(): Promise<void>
  /**
   * The entries of one bucket, by number; those of one hash in the order in which they were added. After
   * `finish`.
   */
  read(bucket: number): Promise<readonly Entry[]>
}

/**
 * Number of bits of the hash that number the buckets, so that `rows` rows make buckets of about
 * `rowsPerBucket`.
 */
export function bucketBits(rows: number, rowsPerBucket: number): number {
  return Math.min(BUCKET_BITS_MAX, Math.ceil(Math.log2(Math.max(1, rows / rowsPerBucket))))
}

/** Buckets in files `<name>-<number>` of the directory: 2^`bits` of them. */
export function createBuckets(dir: string, name: string, bits: number): Buckets {
  const count = 2 ** bits
  const flushBytes = BUFFERED_BYTES / count
  const buckets = Array.from({ length: count }, (_, number) => ({
    path: join(dir, `${name}-${number}`),
    waiting: [] as Uint8Array[],
    waitingBytes: 0,
    written: Promise.resolve(),
  }))
  type Bucket = (typeof buckets)[number]

  function flush(bucket: Bucket): Promise<void> {
    const { waiting, path } = bucket
    if (waiting.length === 0) return bucket.written
    bucket.waiting = []
    bucket.waitingBytes = 0
    // One after the other: shards are read side by side, and their entries must not be mixed up.
    bucket.written = bucket.written.then(() => appendFile(path, Buffer.concat(waiting)))
    return bucket.written
  }

  return {
    count,
    async add(hash, bytes) {
      const bucket = buckets[Number(hash >> BigInt(64 - bits))]!
      const header = Buffer.allocUnsafe(HEADER_BYTES)
      header.writeBigUInt64LE(hash)
      header.writeUInt32LE(bytes.length, 8)
      bucket.waiting.push(header, bytes)
      bucket.waitingBytes += HEADER_BYTES + bytes.length
      if (bucket.waitingBytes >= flushBytes) await flush(bucket)
    },
    async finish() {
      for (const bucket of buckets) await flush(bucket)
    },
    async read(number) {
      const content = await readFile(buckets[number]!.path).catch((error) => {
        // A bucket without entries has no file.
        if (error.code !== "ENOENT") throw error
        return Buffer.alloc(0)
      })
      const entries: Entry[] = []
      for (let at = 0; at < content.length; ) {
        const start = at + HEADER_BYTES
        const end = start + content.readUInt32LE(at + 8)
        entries.push({ hash: content.readBigUInt64LE(at), bytes: content.subarray(start, end) })
        at = end
      }
      return entries
    },
  }
}
