/**
 * The shard backend contract. One folder per backend with equal file names, and one line in `registry.ts`;
 * what differs between backends is said by each of them, so that nothing outside compares their names.
 *
 * Rules that hold for every backend, and that the contract suite checks:
 *
 * - Vectors are stored as given, float32 bit for bit, and `get` returns them so.
 * - `search` is exact over a small shard, and over any shard if the backend says `exact`. Its distances are
 *   the public distances of `Metric` computed from the stored vectors (an approximate distance never leaves a
 *   shard), and equal distances order by id.
 * - A shard is built into an empty local directory and consists of the files listed by `build`, nothing else.
 *   Opening reads those files only and never writes beside them.
 * - A search never blocks the caller's event loop.
 */
import type { FieldSpec, FieldValue, Id, IdColumn, Json, SnapshotIdType, StoredRecord } from "../records.js"
import type { SnapshotCodes } from "../vectors/cells/codebook.js"
import type { Metric } from "../vectors/metric.js"
import type { IndexOptions, IndexOptionTable } from "./options.js"
import type { ShardQuery } from "./query.js"
import type { ShardSource } from "./source.js"

/** What a shard must know of its snapshot to be built or opened. */
export interface ShardSpec {
  readonly dim: number
  readonly metric: Metric
  /** "mixed" only where shards are opened, and built by others. */
  readonly id: { readonly type: SnapshotIdType; readonly wide: boolean }
  readonly fields: readonly FieldSpec[]
  /** Absent where no shard has codes, and where they are not to be looked at. */
  readonly codes?: SnapshotCodes | undefined
}

/** Rows of one shard, sorted by id, without duplicates; columns as in `RecordBatch`. */
export interface ShardRows {
  readonly rows: number
  /** A bit a row, the lowest first: whether this shard is its home. Absent: it is that of all rows. */
  readonly home?: Uint8Array | undefined
  readonly ids: IdColumn
  readonly vectors: Float32Array
  readonly fields: Readonly<Record<string, readonly FieldValue[]>>
  readonly payloads: readonly (string | null)[]
}

/**
 * What opens shards: a backend, or a variant of one that opens what others have built. Shards are what the
 * rules above say, whoever opens them.
 */
export interface ShardOpener {
  /** Of a registered backend its name; of a variant that of the backend. */
  readonly name: string

  /**
   * Of a variant: URL of the module that exports it as `opener`, by which another process finds it.
   */
  readonly module?: string

  readonly traits: BackendTraits

  /**
   * Throws `Unsupported`, naming the package to install, if a native package that is needed is absent.
   */
  assertInstalled(purpose: "build" | "open"): Promise<void>

  /** Makes what all open shards of one reader share (worker threads, caches). */
  createPool(options: PoolOptions): ShardPool
}

export interface ShardBackend<Name extends string = string> extends ShardOpener {
  readonly name: Name

  readonly limits: {
    /** The most dimensions that a vector may have. */
    readonly dim: number
  }

  /** For plans, before anything is built. */
  readonly figures: {
    /** How often a shard's files hold each vector. */
    readonly vectorCopies: number
    /** Bytes a row that cells and codes take, about, in a shard of so many rows. Absent: none. */
    readonly cellBytes?: ((dim: number, rows: number) => number) | undefined
    /** Bytes of vectors in a shard up to which every query of it takes a few milliseconds. */
    readonly vectorBytes: number
  }

  /**
   * Whether its shards may have a file of this name, a path below the shard's folder. A manifest that lists
   * another one is refused, unless it says that the file is optional.
   */
  knowsFile(name: string): boolean

  /**
   * What a reader must know to open a shard with this index, by names of the manifest's `requires`; of the
   * first version's shards nothing. Absent: nothing at all.
   */
  requires?(index: IndexDescription): readonly string[]

  /**
   * What shapes a shard's files besides the columns of its rows, the spec's other properties and the options
   * of its index: with another value they are built anew. Absent: nothing.
   */
  shapedBy?(rows: ShardRows, spec: ShardSpec): Readonly<Record<string, Json>>

  /**
   * Rows from which on its shards are searched through cells, for which their snapshot must have a codebook.
   * Absent: none are.
   */
  readonly codedRows?: number | undefined

  /** Name of the file of cells among those of its shards; absent if these have none. */
  readonly cellsFile?: string | undefined

  /**
   * What is wrong with the files of a shard, in the local directory `dir`, that opening it and reading its
   * records does not show. `rows`: all of them, in order of id. May throw `Corrupt`, too. Absent: nothing.
   */
  check?(
    dir: string,
    rows: Pick<ShardRows, "rows" | "vectors">,
    spec: ShardSpec,
    index: IndexDescription,
  ): Promise<ShardCheck>

  /** What users may set of its index. */
  readonly options: IndexOptionTable

  /**
   * Builds the index files of one shard into `dir`, which exists and is empty. `rows.rows >= 1`.
   * Returns what the reader needs to know of the index; it goes into the manifest. Throws `Unsupported`
   * beyond the limits, `InvalidInput` for options that are not in the table.
   */
  build(rows: ShardRows, dir: string, spec: ShardSpec, options?: IndexOptions): Promise<IndexDescription>
}

export interface ShardCheck {
  /** As sentences that do not name the shard. */
  readonly problems: readonly string[]
  /** How many rows are at home in the shard, where its files say so. */
  readonly homeRows: number | undefined
}

/** What a backend can do. Each is true or false for all of its shards. */
export interface BackendTraits {
  /** Every search finds the nearest rows of a shard, however large it is. */
  readonly exact: boolean
  /** Searches take a condition on fields. */
  readonly filters: boolean
  /** Searches take words. */
  readonly text: boolean
  /** Shards can be opened from a source that gives ranges of their files, without a local copy. */
  readonly ranges: boolean
}

/**
 * Index parameters as recorded in the manifest, for example `{ kind: "flat" }` or
 * `{ kind: "ivf_flat", partitions: 32, probes: 12 }`.
 */
export interface IndexDescription {
  readonly kind: string
  readonly [parameter: string]: string | number | boolean
}

export interface PoolOptions {
  /** Worker threads, where the backend uses any; default: see `readerDefaults`. */
  readonly workers?: number | undefined
  /**
   * Bytes of vectors held in memory over all open shards, where the backend holds any; default: see
   * `readerDefaults`.
   */
  readonly memoryBytes?: number | undefined
}

export interface ShardPool {
  /**
   * Opens a shard. Throws `Corrupt` if its files are not what `spec` and `index` say, or have not as many
   * rows as `rows`, which is what the manifest says, where that is given.
   */
  open(
    source: ShardSource,
    spec: ShardSpec,
    index: IndexDescription,
    rows?: number | undefined,
  ): Promise<ShardReader>
  /**
   * One query over some shards, which this pool has open: an answer of each, in their order. Hits that cannot
   * be among the nearest `query.k` records of all the shards together may be left out, those that as many
   * records with other ids beat; so may, with `query.effort`, rows that are not looked at. What is wrong with
   * one shard is its answer, and the others then lack nothing. Throws `Aborted` when the query's signal
   * fires, `Error` for readers of another pool.
   */
  search(shards: readonly ShardReader[], query: ShardQuery): Promise<readonly ShardAnswer[]>
  /** Closes what is shared. All readers must be closed before. Idempotent. */
  close(): Promise<void>
}

export interface ShardReader {
  readonly rows: number
  /** Memory held by this shard, in bytes; an estimate where the engine does not tell. */
  readonly bytes: number
  /**
   * The nearest `query.k` rows (all, if there are fewer), by (distance, id): a query over this shard alone.
   * It was prepared for the shard's snapshot.
   */
  search(query: ShardQuery): Promise<readonly ShardHit[]>
  /** Records by id, in order of `ids`; `undefined` for an id that is not in this shard. */
  get(ids: readonly Id[]): Promise<readonly (StoredRecord | undefined)[]>
  /** All records, in the order in which they are stored, which is that of their ids; some MiB at a time. */
  records(): AsyncIterable<readonly StoredRecord[]>
  /** Idempotent. Waits for what runs. */
  close(): Promise<void>
}

/** What one of several shards has to say to a query: hits by (distance, id). */
export type ShardAnswer = { readonly hits: readonly ShardHit[] } | { readonly error: unknown }

export interface ShardHit {
  readonly id: Id
  readonly distance: number
  readonly fields: Readonly<Record<string, FieldValue>>
  readonly payload: Json
}
