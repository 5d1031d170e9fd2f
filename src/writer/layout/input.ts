/**
 * What the layout of a `cluster` build is made of: all rows of the input (`affinity`), or a sample of them
 * (`fast`, `plain`), in memory that threads share and by rising key, so that no layout depends on the order
 * in which rows are read.
 */
import type { RecordBatch } from "../../records.js"
import { affinityBytes } from "../../sharding/cluster/layout/layout.js"
import type { LayoutName, ResolvedCluster } from "../../sharding/cluster/options.js"
import { DrawnRows, drawKeys, idHashes, orderByKey } from "../rows/draw.js"
import { type HoldOut, heldOutCount } from "../rows/hold-out.js"
import { noRows } from "../rows/valid-rows.js"

/** More shards than these take too much time and memory to pack. */
const MOST_AFFINITY_SHARDS = 4096
/** Layout `auto` takes `affinity` up to here: some minutes of two cores for rows of dimension 100. */
const MOST_AUTO_AFFINITY_ROWS = 1_000_000
/**
 * With fewer rows `auto` takes `plain`: held-out ones, a twentieth, would be too few to choose and measure
 * anything.
 */
const LEAST_AUTO_LAYOUT_ROWS = 2000
/**
 * A `fast` layout is made of so many rows a shard, within these bounds, or of `sampleRows` where that is
 * more.
 */
const FAST_SAMPLE_ROWS = { perShard: 1024, least: 2 ** 16, most: 2 ** 17 } as const
/**
 * The part of the memory limit that those may take, if that is more than `sampleRows`: they are in memory
 * twice for a moment.
 */
const SAMPLE_SHARE = 1 / 8

export interface LayoutRows {
  /** Rows of the input, and how many of them are held out. */
  readonly rows: number
  readonly heldOutRows: number
  readonly dim: number
  /** The layout that was asked for, or the best one that the limits allow. */
  readonly layout: Exclude<LayoutName, "auto">
  /** What it is made of, without held-out rows. */
  readonly vectors: Float32Array
  /** Where it is made of all rows: what it takes to place them and the held-out ones. */
  readonly all?: AllRows
  /** Why the layout is not the one that was asked for. */
  readonly notes: readonly string[]
}

interface AllRows {
  readonly heldOut: Float32Array
  /** Numbers of the held-out rows in reading order, then those of the others. */
  readonly order: Uint32Array
}

export interface LayoutReading {
  readonly sharding: ResolvedCluster
  readonly memoryLimit: number
  readonly holdOut: HoldOut
  /** Rows of the input, where it is known before: then none are kept in memory in vain. */
  readonly expectedRows?: number | undefined
  /** Told the rows read so far. */
  readonly onRows: (rows: number) => void
}

/**
 * Reads the whole input: into memory for `affinity` as long as that stays within the limits, otherwise a
 * sample of it. Throws `InvalidInput` if it has no rows.
 */
export async function readLayoutRows(
  batches: AsyncIterable<RecordBatch>,
  { sharding, memoryLimit, holdOut, expectedRows = 0, onRows }: LayoutReading,
): Promise<LayoutRows> {
  let dim: number | undefined
  let kept: RowStore | undefined
  let drawn: DrawnRows | undefined
  let rows = 0
  for await (const batch of batches) {
    if (dim === undefined) {
      dim = batch.dim
      const most = mostAffinityRows(sharding, dim, memoryLimit)
      kept = createRowStore(dim, expectedRows > most ? 0 : most)
    }
    const keys = drawKeys(idHashes(batch.ids), holdOut.seed)
    if (kept !== undefined && !kept.add(batch.vectors, keys)) {
      drawn = new DrawnRows(holdOut.wanted + fastSampleRows(sharding, dim, memoryLimit), dim)
      drawn.add(kept.vectors(), kept.keys())
      kept = undefined
    }
    drawn?.add(batch.vectors, keys)
    rows += batch.rows
    onRows(rows)
  }
  if (dim === undefined) throw noRows()
  const heldOutRows = heldOutCount(holdOut, rows, sharding.shards)
  const layout = kept === undefined ? "fast" : layoutOf(sharding, rows, dim, memoryLimit)
  const facts = { rows, heldOutRows, dim, layout }
  if (layout === "affinity") {
    const order = orderByKey(kept!.keys())
    const vectors = kept!.vectors()
    reorderRows(vectors, dim, order)
    const heldOut = vectors.subarray(0, heldOutRows * dim)
    return { ...facts, vectors: vectors.subarray(heldOut.length), all: { heldOut, order }, notes: [] }
  }
  if (kept !== undefined) {
    drawn = new DrawnRows(rows, dim)
    drawn.add(kept.vectors(), kept.keys())
  }
  const most = layout === "plain" ? sharding.sampleRows : fastSampleRows(sharding, dim, memoryLimit)
  const vectors = drawn!.take(heldOutRows, most)
  const notes = kept === undefined ? notesOn(sharding, rows, dim, memoryLimit) : []
  return { ...facts, vectors, notes }
}

/** Moves rows in place so that row `order[i]` becomes row i. */
export function reorderRows(vectors: Float32Array, dim: number, order: Uint32Array): void {
  const isDone = new Uint8Array(order.length)
  for (let first = 0; first < order.length; first++) {
    if (isDone[first]) continue
    // Along the cycle that begins here: each place gets its row, and is then free for that of the next.
    const displaced = vectors.slice(first * dim, (first + 1) * dim)
    let place = first
    for (let from = order[place]!; from !== first; from = order[place]!) {
      vectors.copyWithin(place * dim, from * dim, (from + 1) * dim)
      isDone[place] = 1
      place = from
    }
    vectors.set(displaced, place * dim)
    isDone[place] = 1
  }
}

/** The layout that so many rows get: the one that was asked for, or the best that the limits allow. */
export function layoutOf(
  sharding: Pick<ResolvedCluster, "layout" | "shards">,
  rows: number,
  dim: number,
  memoryLimit: number,
): LayoutRows["layout"] {
  if (sharding.layout === "plain") return "plain"
  if (rows > mostAffinityRows(sharding, dim, memoryLimit)) return "fast"
  return sharding.layout === "auto" && rows < LEAST_AUTO_LAYOUT_ROWS ? "plain" : "affinity"
}

/** More rows of dimension `dim` than these get the layout `fast`. */
function mostAffinityRows(
  { layout, shards }: Pick<ResolvedCluster, "layout" | "shards">,
  dim: number,
  memoryLimit: number,
): number {
  if (layout === "fast" || shards > MOST_AFFINITY_SHARDS) return 0
  const fixed = affinityBytes(0, dim)
  const affordable = Math.max(0, Math.floor((memoryLimit - fixed) / (affinityBytes(1, dim) - fixed)))
  return layout === "auto" ? Math.min(MOST_AUTO_AFFINITY_ROWS, affordable) : affordable
}

/** Why a layout by affinity that was asked for by its name is not made. */
function notesOn(
  { layout, shards }: Pick<ResolvedCluster, "layout" | "shards">,
  rows: number,
  dim: number,
  memoryLimit: number,
): readonly string[] {
  if (layout !== "affinity") return []
  return [
    shards > MOST_AFFINITY_SHARDS
      ? `layout affinity takes at most ${MOST_AFFINITY_SHARDS} shards, got ${shards}; fast is taken instead`
      : `layout affinity of ${rows} rows needs ${affinityBytes(rows, dim)} bytes, the memory limit is ${memoryLimit}; fast is taken instead`,
  ]
}

/** Rows that a `fast` layout is made of, if there are as many. */
export function fastSampleRows(
  { sampleRows, shards }: Pick<ResolvedCluster, "sampleRows" | "shards">,
  dim: number,
  memoryLimit: number,
): number {
  const { perShard, least, most } = FAST_SAMPLE_ROWS
  const affordable = Math.floor((SAMPLE_SHARE * memoryLimit) / (4 * dim))
  return Math.max(sampleRows, Math.min(affordable, most, Math.max(least, perShard * shards)))
}

interface RowStore {
  /** Whether there was room for them. */
  add(vectors: Float32Array, keys: Float64Array): boolean
  vectors(): Float32Array
  keys(): Float64Array
}

/** Of ES2024, which Node 20 has; the compiler knows ES2023. */
interface GrowableBuffer extends SharedArrayBuffer {
  grow(length: number): void
}
type GrowableBufferConstructor = new (
  length: number,
  options: { readonly maxByteLength: number },
) => GrowableBuffer

/** Rows one after another in one buffer that grows in place, so that they are never in memory twice. */
function createRowStore(dim: number, mostRows: number): RowStore {
  const vectors = createGrowing(4 * dim * mostRows)
  const keys = createGrowing(8 * mostRows)
  return {
    add: (someVectors, someKeys) => vectors.add(someVectors) && keys.add(someKeys),
    // Of fixed length: views that follow a buffer are slower.
    vectors: () => new Float32Array(vectors.buffer, 0, vectors.buffer.byteLength / 4),
    keys: () => new Float64Array(keys.buffer, 0, keys.buffer.byteLength / 8),
  }
}

function createGrowing(maxByteLength: number) {
  // Only what is used takes memory; the rest is reserved addresses.
  const buffer = new (SharedArrayBuffer as unknown as GrowableBufferConstructor)(0, { maxByteLength })
  return {
    buffer,
    /** Whether there was room for them. */
    add(numbers: Float32Array | Float64Array): boolean {
      const start = buffer.byteLength
      const end = start + numbers.byteLength
      if (end > maxByteLength) return false
      buffer.grow(end)
      new Uint8Array(buffer, start).set(
        new Uint8Array(numbers.buffer, numbers.byteOffset, numbers.byteLength),
      )
      return true
    },
  }
}
