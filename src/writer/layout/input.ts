/**
 * What the layout of a `cluster` build is made of: all rows of the input (`affinity`), or a sample of them
 * (`fast`), in memory that threads share.
 */
import type { RecordBatch } from "../../records.js"
import { affinityBytes } from "../../sharding/cluster/layout/layout.js"
import type { LayoutName, ResolvedCluster } from "../../sharding/cluster/options.js"
import { Reservoir } from "../../vectors/random.js"
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
  /** Rows of the input. */
  readonly rows: number
  readonly dim: number
  /** The layout that was asked for, or the best one that the limits allow. */
  readonly layout: Exclude<LayoutName, "auto">
  /** What it is made of: all rows, in memory that threads share; a uniform sample for `fast`. */
  readonly vectors: Float32Array
  /** Of a sample: which row of the input each is. */
  readonly rowNumbers?: Float64Array
  /** Why the layout is not the one that was asked for. */
  readonly notes: readonly string[]
}

/**
 * Reads the whole input: into memory for `affinity` as long as that stays within the limits, otherwise a
 * sample of it. Throws `InvalidInput` if it has no rows.
 */
export async function readLayoutRows(
  batches: AsyncIterable<RecordBatch>,
  sharding: ResolvedCluster,
  memoryLimit: number,
  onRows: (rows: number) => void,
): Promise<LayoutRows> {
  let dim: number | undefined
  let kept: RowStore | undefined
  let sample: Reservoir | undefined
  let rows = 0
  for await (const batch of batches) {
    if (dim === undefined) {
      dim = batch.dim
      kept = createRowStore(dim, mostAffinityRows(sharding, dim, memoryLimit))
    }
    if (kept !== undefined && !kept.add(batch.vectors)) {
      sample = new Reservoir(fastSampleRows(sharding, dim, memoryLimit), dim, sharding.seed)
      sample.add(kept.vectors())
      kept = undefined
    }
    sample?.add(batch.vectors)
    rows += batch.rows
    onRows(rows)
  }
  if (dim === undefined) throw noRows()
  if (kept === undefined) {
    const { vectors, rowNumbers } = sample!
    return {
      rows,
      dim,
      layout: "fast",
      vectors,
      rowNumbers,
      notes: notesOn(sharding, rows, dim, memoryLimit),
    }
  }
  return {
    rows,
    dim,
    layout: layoutOf(sharding, rows, dim, memoryLimit),
    vectors: kept.vectors(),
    notes: [],
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

function fastSampleRows({ sampleRows, shards }: ResolvedCluster, dim: number, memoryLimit: number): number {
  const { perShard, least, most } = FAST_SAMPLE_ROWS
  const affordable = Math.floor((SAMPLE_SHARE * memoryLimit) / (4 * dim))
  return Math.max(sampleRows, Math.min(affordable, most, Math.max(least, perShard * shards)))
}

interface RowStore {
  /** Whether there was room for them. */
  add(vectors: Float32Array): boolean
  vectors(): Float32Array
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
  const maxByteLength = 4 * dim * mostRows
  // Only what is used takes memory; the rest is reserved addresses.
  const buffer = new (SharedArrayBuffer as unknown as GrowableBufferConstructor)(0, { maxByteLength })
  return {
    add(vectors) {
      const start = buffer.byteLength
      const end = start + vectors.byteLength
      if (end > maxByteLength) return false
      buffer.grow(end)
      new Float32Array(buffer, start, vectors.length).set(vectors)
      return true
    },
    // Of fixed length: views that follow the buffer are slower.
    vectors: () => new Float32Array(buffer, 0, buffer.byteLength / 4),
  }
}
