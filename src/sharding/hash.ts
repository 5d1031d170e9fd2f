/** The hash of `shard_hash` in CEL, and of ids. */
import { xxh3 } from "@node-rs/xxhash"

/** Of the integer that is hashed just now: to make one for each takes longer than to hash it. */
const integerBytes = Buffer.alloc(8)

/**
 * XXH3-64 with seed 0 of a string's UTF-8, of bytes, or of an integer's 8 bytes with sign, little-endian.
 * Throws `RangeError` for an integer that does not fit in them.
 */
export function hashValue(value: bigint | string | Uint8Array): bigint {
  if (typeof value !== "bigint") return xxh3.xxh64(value)
  integerBytes.writeBigInt64LE(value)
  return xxh3.xxh64(integerBytes)
}
