/**
 * The shard backend contract. One folder per backend with equal file names; what differs is a capability flag.
 *
 * Rules that hold for every backend, and that the contract suite checks:
 *
 * - Vectors are stored as given, float32 bit for bit, and `get` returns them so.
 * - `search` is exact over the shard unless the index says otherwise, its distances are the public distances of
 *   `Metric` computed from the stored vectors (an approximate distance never leaves a shard), and equal distances
 *   order by id.
 * - A shard is built into an empty local directory and consists of the files listed by `build`, nothing else. Opening
 *   reads those files only and never writes beside them.
 * - A search never blocks the caller's event loop.
 */
import type { FieldSpec, FieldValue, Id, IdColumn, IdType, Json, StoredRecord } from "../records.js"
import type { Metric } from "../vectors/metric.js"

export const BACKEND_NAMES = ["sqlite-vec", "lancedb"] as const
export type BackendName = (typeof BACKEND_NAMES)[number]

/** What a shard must know of its snapshot to be built or opened. */
export interface ShardSpec {
  readonly dim: number
  readonly metric: Metric
  readonly id: { readonly type: IdType; readonly wide: boolean }
  readonly fields: readonly FieldSpec[]
}

/** Rows of one shard, sorted by id, without duplicates; columns as in `RecordBatch`. */
export interface ShardRows {
  readonly rows: number
  readonly ids: IdColumn
  readonly vectors: Float32Array
  readonly fields: Readonly<Record<string, readonly FieldValue[]>>
  readonly payloads: readonly (string | null)[]
}

export interface ShardBackend {
  readonly name: BackendName

  /** Throws `Unsupported`, naming the package to install, if a native package that this backend needs is absent. */
  assertInstalled(purpose: "build" | "open"): Promise<void>

  /**
   * Builds the index files of one shard into `dir`, which exists and is empty. `rows.rows >= 1`.
   * Returns what the reader needs to know of the index; it goes into the manifest.
   */
  build(rows: ShardRows, dir: string, spec: ShardSpec): Promise<IndexDescription>

  /** Makes what all open shards of one reader share (worker threads, caches). */
  createPool(options: PoolOptions): ShardPool
}

/** Index parameters as recorded in the manifest, e.g. `{ kind: "flat" }` or `{ kind: "ivf_flat", partitions: 32, probes: 12 }`. */
export interface IndexDescription {
  readonly kind: string
  readonly [parameter: string]: string | number | boolean
}

/** Default of {@link PoolOptions.memoryBytes}: 1 GiB. */
export const MEMORY_BYTES_DEFAULT = 2 ** 30

export interface PoolOptions {
  /** Worker threads, where the backend uses any; default: the number of cores, at most 8. */
  readonly workers?: number | undefined
  /** Bytes of vectors held in memory over all open shards, where the backend holds any; default 1 GiB. */
  readonly memoryBytes?: number | undefined
}

export interface ShardPool {
  /** Opens a shard whose files lie in `dir`. Throws `Corrupt` if they are not what `spec` and `index` say. */
  open(dir: string, spec: ShardSpec, index: IndexDescription): Promise<ShardReader>
  /** Closes what is shared. All readers must be closed before. Idempotent. */
  close(): Promise<void>
}

export interface ShardReader {
  readonly rows: number
  /** Memory held by this shard, in bytes; an estimate where the engine does not tell. */
  readonly bytes: number
  /** The nearest `k` rows (all, if there are fewer), by (distance, id). `k >= 1`. */
  search(query: Float32Array, k: number, options?: ShardSearchOptions): Promise<readonly ShardHit[]>
  /** Records by id, in order of `ids`; `undefined` for an id that is not in this shard. */
  get(ids: readonly Id[]): Promise<readonly (StoredRecord | undefined)[]>
  /** All records, in the order in which they are stored, which is that of their ids; some MiB at a time. */
  records(): AsyncIterable<readonly StoredRecord[]>
  /** Idempotent. Waits for what runs. */
  close(): Promise<void>
}

export interface ShardSearchOptions {
  readonly signal?: AbortSignal | undefined
  /**
   * One object for all searches of one query in several shards. Their vector, k and signal are the same, were checked, and do
   * not change until the last of them has ended. A backend may then answer them together and leave out what cannot be
   * among the nearest k of all: hits that k records with other ids beat which other searches of the same object return.
   */
  readonly together?: object | undefined
}

export interface ShardHit {
  readonly id: Id
  readonly distance: number
  readonly fields: Readonly<Record<string, FieldValue>>
  readonly payload: Json
}
