/**
 * The partition stage: every row goes to the spill file of its shard. Memory is bounded whatever the number
 * of rows.
 */
import { throwIfAborted } from "../../errors.js"
import type { FieldSpec, FieldType, IdType, RecordBatch } from "../../records.js"
import type { Strategy } from "../../sharding/strategy.js"
import type { ShardSpec } from "../../shards/backend.js"
import type { Metric } from "../../vectors/metric.js"
import type { Scratch } from "../scratch.js"
import { appendBlocks, batchBytes, joinBatches, takeRows } from "./batches.js"

/**
 * Rows wait in memory until they come to so many bytes over all shards; so writes are large even with many
 * shards.
 */
const PENDING_BYTES = 64 * 2 ** 20

/** Says which shards the rows of an input go to, in the order in which they are read. */
export interface Assignment {
  readonly strategy: Strategy
  /** To be called with each batch once, in order. */
  assign(batch: RecordBatch): RowShards
}

/**
 * The shards of the rows of a batch, row by row: the home of each first, then those of its copies, all
 * different.
 */
export interface RowShards {
  /** For each of `shards`, which row of the batch goes there; absent if each row has just its home. */
  readonly rows: Int32Array | undefined
  readonly shards: Int32Array
}

/** Whether the shard at this place is the home of its row: the first one. */
export const isHome = ({ rows }: RowShards, place: number): boolean =>
  rows === undefined || place === 0 || rows[place - 1] !== rows[place]

/** Rows go where the strategy assigns them. */
export const assignmentBy = (strategy: Strategy): Assignment => ({
  strategy,
  assign: (batch) => ({ rows: undefined, shards: strategy.assign(batch) }),
})

export interface Partition {
  /** Rows of the input. */
  readonly rows: number
  readonly strategy: Strategy
  /** Rows and copies of each shard. */
  readonly rowsByShard: Float64Array
  /** Positions, in the spill of a shard, of rows whose home is another one. */
  readonly copiesByShard: ReadonlyMap<number, Float64Array>
  readonly schema: ShardSpec
}

export interface PartitionOptions {
  /** Says where rows go once the dimension is known. */
  readonly assignmentFor: (dim: number) => Promise<Assignment>
  readonly metric: Metric
  readonly fields: readonly { readonly name: string; readonly type: FieldType }[]
  /** Where the spill files are. */
  readonly scratch: Scratch
  /**
   * Told of each batch in order, with the shards of its rows, and the position that each row has in their
   * spills.
   */
  readonly onAssigned: (batch: RecordBatch, rowShards: RowShards, positions: Float64Array) => Promise<void>
  /** Told the rows done so far. */
  readonly onRows: (rows: number) => void
  readonly signal: AbortSignal | undefined
}

/** Scratch file of the rows of a shard. */
export const spillName = (shard: number): string => `spill-${shard}`

/** Reads all batches and spills them. `undefined` if there are no rows. */
export async function partition(
  batches: AsyncIterable<RecordBatch>,
  options: PartitionOptions,
): Promise<Partition | undefined> {
  const { metric, fields, scratch, onAssigned, signal } = options
  const wide = createWideness(fields)
  const copies = new Map<number, number[]>()
  const pending = new Map<number, RecordBatch[]>()
  let pendingBytes = 0
  let partition:
    | { assignment: Assignment; rowsByShard: Float64Array; dim: number; idType: IdType }
    | undefined
  let rows = 0

  const flush = async (): Promise<void> => {
    for (const [shard, parts] of pending) await appendBlocks(scratch, spillName(shard), joinBatches(parts))
    pending.clear()
    pendingBytes = 0
  }

  for await (const batch of batches) {
    throwIfAborted(signal)
    if (partition === undefined) {
      const assignment = await options.assignmentFor(batch.dim)
      const rowsByShard = new Float64Array(assignment.strategy.shards)
      partition = { assignment, rowsByShard, dim: batch.dim, idType: batch.ids.type }
    }
    const { assignment, rowsByShard } = partition
    const rowShards = assignment.assign(batch)
    wide.note(batch)
    const positions = new Float64Array(rowShards.shards.length)
    const members = new Map<number, number[]>()
    for (let place = 0; place < positions.length; place++) {
      const row = rowShards.rows === undefined ? place : rowShards.rows[place]!
      const shard = rowShards.shards[place]!
      positions[place] = rowsByShard[shard]!++
      if (!isHome(rowShards, place)) listIn(copies, shard).push(positions[place]!)
      listIn(members, shard).push(row)
    }
    await onAssigned(batch, rowShards, positions)
    for (const [shard, rowsOfShard] of members) {
      const part = takeRows(batch, rowsOfShard)
      listIn(pending, shard).push(part)
      pendingBytes += batchBytes(part)
    }
    if (pendingBytes >= PENDING_BYTES) await flush()
    rows += batch.rows
    options.onRows(rows)
  }
  await flush()
  if (partition === undefined) return undefined
  const { assignment, rowsByShard, dim, idType } = partition
  const schema = { dim, metric, id: { type: idType, wide: wide.ids() }, fields: wide.fields() }
  const copiesByShard = new Map(Array.from(copies, ([shard, own]) => [shard, Float64Array.from(own)]))
  return { rows, strategy: assignment.strategy, rowsByShard, copiesByShard, schema }
}

function listIn<T>(lists: Map<number, T[]>, shard: number): T[] {
  const known = lists.get(shard)
  if (known !== undefined) return known
  const list: T[] = []
  lists.set(shard, list)
  return list
}

const isWide = (value: bigint): boolean => value !== BigInt.asIntN(54, value) || value === -(2n ** 53n)

/** Finds out which 64-bit columns need `bigint` on the way back. */
function createWideness(fields: readonly { readonly name: string; readonly type: FieldType }[]) {
  const integers = fields.filter((field) => field.type === "int64").map((field) => field.name)
  const wide = new Set<string>()
  let wideIds = false
  return {
    note(batch: RecordBatch): void {
      if (batch.ids.type === "int64" && !wideIds) wideIds = batch.ids.values.some(isWide)
      for (const name of integers) {
        if (
          !wide.has(name) &&
          batch.fields[name]!.some((value) => typeof value === "bigint" && isWide(value))
        )
          wide.add(name)
      }
    },
    ids: (): boolean => wideIds,
    fields: (): FieldSpec[] => fields.map(({ name, type }) => ({ name, type, wide: wide.has(name) })),
  }
}
