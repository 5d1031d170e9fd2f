/**
 * Finds ids that occur more than once in the whole snapshot, in bounded memory.
 *
 * Rows with the same id may fall into different shards, so no shard can find them alone. While rows are
 * partitioned, (hash of the id, where it went) is appended to one of 256 bucket files by the hash's first
 * byte; equal ids meet in the same bucket. Afterwards each bucket is sorted by itself. Equal 64-bit hashes
 * are only suspects: their ids are read back from the spill and compared. A row that is stored more than once
 * has an entry for each copy, all with its position in the input: those are no duplicates. The id locator is
 * made from the same buckets (locator.ts).
 */
import { invalidInput } from "../../errors.js"
import { type Id, rowPlace } from "../../records.js"
import type { Scratch } from "../scratch.js"
import { readBlocks } from "./batches.js"
import { type RowShards, spillName } from "./partition.js"

const BUCKETS = 256
const ENTRY_BYTES = 24
/** A bucket is written out when it holds so many entries: 256 × 2,048 × 24 bytes = 12 MiB in all. */
const ENTRIES_BUFFERED = 2048

export interface IdLog {
  /** Notes where each row of a batch went, by the hash of its id: shards, and positions in their spills. */
  add(hashes: BigUint64Array, rowShards: RowShards, positions: Float64Array): Promise<void>
  /** Names of the bucket files that exist, by rising hashes, after everything was written out. */
  finish(): Promise<readonly string[]>
}

/** Row that shares the hash of its id with another one. */
interface Suspect {
  /** Position in the input. */
  readonly order: number
  /** Its home. */
  readonly shard: number
  readonly position: number
  readonly copies: readonly Pick<Suspect, "shard" | "position">[]
}

export function createIdLog(scratch: Scratch): IdLog {
  const buckets: { readonly name: string; readonly buffer: Buffer; filled: number; written: boolean }[] =
    Array.from({ length: BUCKETS }, (_, bucket) => ({
      name: `ids-${bucket}`,
      buffer: Buffer.allocUnsafe(ENTRIES_BUFFERED * ENTRY_BYTES),
      filled: 0,
      written: false,
    }))
  let order = 0

  const flush = async (bucket: (typeof buckets)[number]): Promise<void> => {
    if (bucket.filled === 0) return
    await scratch.append(bucket.name, bucket.buffer.subarray(0, bucket.filled))
    bucket.filled = 0
    bucket.written = true
  }

  return {
    async add(hashes, { rows, shards }, positions) {
      for (let place = 0; place < shards.length; place++) {
        const row = rows === undefined ? place : rows[place]!
        const hash = hashes[row]!
        const bucket = buckets[Number(hash >> 56n)]!
        bucket.buffer.writeBigUInt64LE(hash, bucket.filled)
        bucket.buffer.writeDoubleLE(order + row, bucket.filled + 8)
        bucket.buffer.writeUInt32LE(shards[place]!, bucket.filled + 16)
        bucket.buffer.writeUInt32LE(positions[place]!, bucket.filled + 20)
        bucket.filled += ENTRY_BYTES
        if (bucket.filled === bucket.buffer.length) await flush(bucket)
      }
      order += hashes.length
    },
    async finish() {
      for (const bucket of buckets) await flush(bucket)
      return buckets.filter((bucket) => bucket.written).map((bucket) => bucket.name)
    },
  }
}

export interface Duplicates {
  /** Rows to leave out, each with all its copies. */
  readonly rows: number
  /** Positions to leave out of each shard's spill, by shard. */
  readonly drop: ReadonlyMap<number, ReadonlySet<number>>
}

/**
 * Decides which rows lose against others with the same id, from the `buckets` of an id log. Throws
 * `InvalidInput`, naming the id and both rows, if `mode` is "fail" and there are any. Memory grows with the
 * number of duplicates only.
 */
export async function findDuplicates(
  scratch: Scratch,
  buckets: readonly string[],
  mode: "fail" | "first" | "last",
): Promise<Duplicates> {
  const suspects: Suspect[] = []
  for (const name of buckets) suspects.push(...suspectsOf(readBucket(await scratch.readWhole(name))))
  const groups = await groupById(scratch, suspects)

  const drop = new Map<number, Set<number>>()
  let rows = 0
  let firstRepeat: { readonly id: Id; readonly kept: Located; readonly repeated: Located } | undefined
  for (const [id, group] of groups) {
    if (group.length < 2) continue
    group.sort((a, b) => a.order - b.order)
    if (firstRepeat === undefined || group[1]!.order < firstRepeat.repeated.order) {
      firstRepeat = { id, kept: group[0]!, repeated: group[1]! }
    }
    for (const loser of mode === "last" ? group.slice(0, -1) : group.slice(1)) {
      for (const { shard, position } of [loser, ...loser.copies]) {
        if (!drop.has(shard)) drop.set(shard, new Set())
        drop.get(shard)!.add(position)
      }
      rows++
    }
  }
  if (mode === "fail" && firstRepeat !== undefined) throw duplicateId(firstRepeat, rows)
  return { rows, drop }
}

function duplicateId(
  { id, kept, repeated }: { readonly id: Id; readonly kept: Located; readonly repeated: Located },
  rows: number,
): Error {
  const shown = typeof id === "string" ? JSON.stringify(id) : String(id)
  const more = rows > 1 ? ` (${rows} duplicate rows in all)` : ""
  return invalidInput(
    `id ${shown} occurs twice: ${kept.place} and ${repeated.place}${more}; ` +
      "make ids unique, or say which row wins: the first or the last (onDuplicate, --on-duplicate)",
    { id, first: kept.place, second: repeated.place, duplicateRows: rows },
  )
}

/** Entries of one bucket, in columns, in the order in which they were logged. */
export interface LoggedIds {
  readonly hash: BigUint64Array
  /** Position in the input. */
  readonly order: Float64Array
  readonly shard: Uint32Array
  /** Position in the shard's spill. */
  readonly position: Uint32Array
}

/** Reads the content of a bucket file. */
export function readBucket(bucket: Buffer): LoggedIds {
  const count = bucket.length / ENTRY_BYTES
  const columns = {
    hash: new BigUint64Array(count),
    order: new Float64Array(count),
    shard: new Uint32Array(count),
    position: new Uint32Array(count),
  }
  for (let i = 0, at = 0; i < count; i++, at += ENTRY_BYTES) {
    columns.hash[i] = bucket.readBigUInt64LE(at)
    columns.order[i] = bucket.readDoubleLE(at + 8)
    columns.shard[i] = bucket.readUInt32LE(at + 16)
    columns.position[i] = bucket.readUInt32LE(at + 20)
  }
  return columns
}

/** Whether an entry is a copy. Those of one row follow each other, its home first. */
export const isCopy = ({ order }: LoggedIds, entry: number): boolean =>
  entry > 0 && order[entry] === order[entry - 1]

/** Rows of one bucket whose hash is that of another row too. */
function suspectsOf(logged: LoggedIds): Suspect[] {
  const { hash, order, shard, position } = logged
  const homes = hash.filter((_, entry) => !isCopy(logged, entry)).sort()
  const repeated = new Set<bigint>()
  for (let i = 1; i < homes.length; i++) if (homes[i] === homes[i - 1]) repeated.add(homes[i]!)
  if (repeated.size === 0) return []
  const suspects: (Suspect & { readonly copies: Pick<Suspect, "shard" | "position">[] })[] = []
  for (let i = 0; i < hash.length; i++) {
    if (!repeated.has(hash[i]!)) continue
    const place = { shard: shard[i]!, position: position[i]! }
    if (isCopy(logged, i)) suspects.at(-1)!.copies.push(place)
    else suspects.push({ order: order[i]!, ...place, copies: [] })
  }
  return suspects
}

interface Located extends Suspect {
  readonly place: string
}

/** Reads the ids of suspects from the spill of each shard concerned, once, and groups them by id. */
async function groupById(
  scratch: Scratch,
  suspects: readonly Suspect[],
): Promise<ReadonlyMap<Id, Located[]>> {
  const byShard = new Map<number, Map<number, Suspect>>()
  for (const suspect of suspects) {
    if (!byShard.has(suspect.shard)) byShard.set(suspect.shard, new Map())
    byShard.get(suspect.shard)!.set(suspect.position, suspect)
  }
  const groups = new Map<Id, Located[]>()
  for (const [shard, wanted] of byShard) {
    let position = 0
    for await (const batch of readBlocks(scratch, spillName(shard))) {
      for (let row = 0; row < batch.rows; row++, position++) {
        const suspect = wanted.get(position)
        if (suspect === undefined) continue
        const id = batch.ids.values[row]!
        const located = { ...suspect, place: rowPlace(batch.origin, row) }
        const group = groups.get(id)
        if (group === undefined) groups.set(id, [located])
        else group.push(located)
      }
    }
  }
  return groups
}
