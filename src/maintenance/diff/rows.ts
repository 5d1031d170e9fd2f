/**
 * Which rows differ between two snapshots, by id, in bounded memory: each row is reduced to its id, shard and
 * three hashes, which go to buckets on disk by the hash of the id; then the buckets are compared one by one.
 * Copies of a row meet in a bucket and count once.
 */
import { hashOfId } from "../../manifest/locator.js"
import type { SnapshotSchema } from "../../manifest/manifest.js"
import type { FieldSpec, Id, StoredRecord } from "../../records.js"
import type { Buckets, Entry } from "../buckets.js"
import { ROW_HASHES_BYTES, ROW_PARTS, type RowPart, writeRowHashes } from "../row-hashes.js"

/** A row that is not the same in both snapshots. */
export interface RowChange {
  readonly id: Id
  /** "moved": nothing but the shard differs. */
  readonly change: "added" | "removed" | "changed" | "moved"
  /** Of a changed row: what differs. */
  readonly parts?: readonly RowPart[]
  /**
   * Shards of the row before and after, if both are there and differ. With copies: if none of its shards is
   * the same; then the lowest of each.
   */
  readonly fromShard?: number
  readonly toShard?: number
}

const ID_AT = 4 + ROW_HASHES_BYTES

/** Adds a row: shard u32, then the hashes of vector, fields and payload, then the id as UTF-8. */
export async function addRow(
  buckets: Buckets,
  record: StoredRecord,
  shard: number,
  specs: readonly FieldSpec[],
): Promise<void> {
  const text = Buffer.from(String(record.id))
  const bytes = Buffer.allocUnsafe(ID_AT + text.length)
  bytes.writeUInt32LE(shard)
  writeRowHashes(record, specs, bytes, 4)
  text.copy(bytes, ID_AT)
  await buckets.add(hashOfId(record.id)!, bytes)
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
  const left = rowsOf(before)
  const changes: RowChange[] = []
  for (const [text, row] of rowsOf(after)) {
    const id = idOf(text, schemas.after.type, wide)
    const old = sameType ? left.get(text) : undefined
    if (old === undefined) {
      changes.push({ id, change: "added" })
      continue
    }
    left.delete(text)
    const stayed = row.shards.some((shard) => old.shards.includes(shard))
    const moved = stayed ? {} : { fromShard: Math.min(...old.shards), toShard: Math.min(...row.shards) }
    const parts = ROW_PARTS.filter((_, i) => hashAt(old.bytes, i) !== hashAt(row.bytes, i))
    if (parts.length > 0) changes.push({ id, change: "changed", parts, ...moved })
    else if (!stayed) changes.push({ id, change: "moved", ...moved })
  }
  for (const text of left.keys())
    changes.push({ id: idOf(text, schemas.before.type, wide), change: "removed" })
  return changes
}

/** Rows of a bucket by the text of their ids, with all shards that hold each. */
function rowsOf(
  entries: readonly Entry[],
): Map<string, { readonly bytes: Buffer; readonly shards: number[] }> {
  const rows = new Map<string, { readonly bytes: Buffer; readonly shards: number[] }>()
  for (const { bytes } of entries) {
    const text = bytes.toString("utf8", ID_AT)
    const shard = bytes.readUInt32LE()
    const row = rows.get(text)
    if (row === undefined) rows.set(text, { bytes, shards: [shard] })
    else row.shards.push(shard)
  }
  return rows
}

const hashAt = (bytes: Buffer, part: number): bigint => bytes.readBigUInt64LE(4 + 8 * part)

function idOf(text: string, type: SnapshotSchema["id"]["type"], wide: boolean): Id {
  if (type === "string") return text
  return wide ? BigInt(text) : Number(text)
}
