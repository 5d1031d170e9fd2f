/**
 * What a row holds besides its id, reduced to hashes: equal for equal rows, whichever shard or snapshot they
 * are in.
 */
import { stringifyJson } from "../json.js"
import type { FieldSpec, StoredRecord } from "../records.js"
import { hashValue } from "../sharding/hash.js"

export const ROW_PARTS = ["vector", "fields", "payload"] as const
export type RowPart = (typeof ROW_PARTS)[number]

/** Bytes of the hashes of a row, 8 for each part, in the order of {@link ROW_PARTS}. */
export const ROW_HASHES_BYTES = 8 * ROW_PARTS.length

/** Writes the hash of each part at `at`. */
export function writeRowHashes(
  { vector, fields, payload }: StoredRecord,
  specs: readonly FieldSpec[],
  bytes: Buffer,
  at: number,
): void {
  const hashes = [
    hashValue(new Uint8Array(vector.buffer, vector.byteOffset, vector.byteLength)),
    hashValue(fieldsText(fields, specs)),
    hashValue(stringifyJson(payload)),
  ]
  hashes.forEach((hash, i) => void bytes.writeBigUInt64LE(hash, at + 8 * i))
}

/**
 * Equal for equal values, in whatever order fields are declared; a field without value is as if it were not
 * declared.
 */
function fieldsText(fields: StoredRecord["fields"], specs: readonly FieldSpec[]): string {
  const named = specs
    .filter(({ name }) => fields[name] !== null)
    .map(({ name, type }) => [name, type, fields[name]] as const)
  named.sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0))
  return stringifyJson(named)
}
