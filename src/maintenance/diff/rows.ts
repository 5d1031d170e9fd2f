/**
 * Which rows differ between two snapshots, by id, in bounded memory: each row is reduced to its id, shard and three hashes,
 * which go to buckets on disk by the hash of the id; then the buckets are compared one by one.
 */
import { stringifyJson } from "../../json.js"
import { hashOfId } from "../../manifest/locator.js"
import type { SnapshotSchema } from "../../manifest/manifest.js"
import type { FieldSpec, Id, StoredRecord } from "../../records.js"
import { hashValue } from "../../sharding/hash.js"
import type { Buckets, Entry } from "../buckets.js"

export const ROW_PARTS = ["vector", "fields", "payload"] as const
export type RowPart = (typeof ROW_PARTS)[number]

/** A row that is not the same in both snapshots. */
export interface RowChange {
  readonly id: Id
  /** "moved": nothing but the shard differs. */
  readonly change: "added" | "removed" | "changed" | "moved"
  /** Of a changed row: what differs. */
  readonly parts?: readonly RowPart[]
  /** Shards of the row before and after, if both are there and differ. */
  readonly fromShard?: number
  readonly toShard?: number
}

const HASH_BYTES = 8
const ID_AT = 4 + ROW_PARTS.length * HASH_BYTES

/** Adds a row: shard u32, then the hashes of vector, fields and payload, then the id as UTF-8. */
export async function addRow(
  buckets: Buckets,
  { id, vector, fields, payload }: StoredRecord,
  shard: number,
  specs: readonly FieldSpec[],
): Promise<void> {
  const text = Buffer.from(String(id))
  const bytes = Buffer.allocUnsafe(ID_AT + text.length)
  bytes.writeUInt32LE(shard)
  const hashes = [
    hashValue(new Uint8Array(vector.buffer, vector.byteOffset, vector.byteLength)),
    hashValue(fieldsText(fields, specs)),
    hashValue(stringifyJson(payload)),
  ]
  hashes.forEach((hash, i) => void bytes.writeBigUInt64LE(hash, 4 + i * HASH_BYTES))
  text.copy(bytes, ID_AT)
  await buckets.add(hashOfId(id)!, bytes)
}

/** Equal for equal values, in whatever order fields are declared; a field without value is as if it were not declared. */
function fieldsText(fields: StoredRecord["fields"], specs: readonly FieldSpec[]): string {
  const named = specs
    .filter(({ name }) => fields[name] !== null)
    .map(({ name, type }) => [name, type, fields[name]] as const)
  named.sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0))
  return stringifyJson(named)
}

/** Compares two buckets of the same number. Rows that are equal in all are not told. */
export function compareBuckets(
  before: readonly Entry[],
  after: readonly Entry[],
  schemas: { readonly before: SnapshotSchema["id"]; readonly after: SnapshotSchema["id"] },
): readonly RowChange[] {
  // An integer and a text are different ids, even if they look the same.
  const sameType = schemas.before.type === schemas.after.type
  const wide = schemas.before.wide || schemas.after.wide
  const left = new Map(before.map(({ bytes }) => [bytes.toString("utf8", ID_AT), bytes]))
  const changes: RowChange[] = []
  for (const { bytes } of after) {
    const text = bytes.toString("utf8", ID_AT)
    const id = idOf(text, schemas.after.type, wide)
    const old = sameType ? left.get(text) : undefined
    if (old === undefined) {
      changes.push({ id, change: "added" })
      continue
    }
    left.delete(text)
    const fromShard = old.readUInt32LE()
    const toShard = bytes.readUInt32LE()
    const moved = fromShard === toShard ? {} : { fromShard, toShard }
    const parts = ROW_PARTS.filter((_, i) => hashAt(old, i) !== hashAt(bytes, i))
    if (parts.length > 0) changes.push({ id, change: "changed", parts, ...moved })
    else if (fromShard !== toShard) changes.push({ id, change: "moved", ...moved })
  }
  for (const text of left.keys())
    changes.push({ id: idOf(text, schemas.before.type, wide), change: "removed" })
  return changes
}

const hashAt = (bytes: Buffer, part: number): bigint => bytes.readBigUInt64LE(4 + part * HASH_BYTES)

function idOf(text: string, type: SnapshotSchema["id"]["type"], wide: boolean): Id {
  if (type === "string") return text
  return wide ? BigInt(text) : Number(text)
}
