/**
 * What the reader takes and answers.
 */
import type { Logger } from "../logger.js"
import type { FieldValue, Id, Json, StoredRecord } from "../records.js"
import type { StoreOptions } from "../storage/open.js"
import type { RequestCounts } from "../storage/with-counting.js"

export interface OpenOptions {
  /**
   * Local directory for downloaded shards; shared by processes and kept across restarts.
   * Default: `vecsnap` in the user's cache directory (`$XDG_CACHE_HOME`, else `~/.cache`).
   */
  readonly cacheDir?: string
  /** Shards open at the same time, at most; default 256. Least recently used ones are closed. */
  readonly maxOpenShards?: number
  /** Vectors held in memory over all open shards, in bytes; default 1 GiB. Beyond, shards are scanned from disk. */
  readonly memoryBytes?: number
  /** Threads that search; default: one fewer than the cores, at least 1, at most 8. */
  readonly workers?: number
  /** Shards downloaded, opened or searched at the same time, over all searches; default 64. */
  readonly concurrency?: number
  readonly store?: StoreOptions
  readonly signal?: AbortSignal
  readonly logger?: Logger
}

/** How a query finds its shards; see the strategies. */
export interface RouteOptions {
  /** Shards to search: a number (of those that hold rows), or "all"; default: the snapshot's. */
  readonly probes?: number | "all"
  /** These shards and no others; required by `explicit` snapshots. "all" searches every shard. */
  readonly shards?: readonly number[] | "all"
  /** For `cel` snapshots: values of the expression's variables. */
  readonly context?: Readonly<Record<string, FieldValue>>
}

export interface SearchOptions extends RouteOptions {
  /** Hits wanted; default 10. */
  readonly k?: number
  /** Whether a shard that fails fails the search (default), or is left out and named in the answer. */
  readonly partial?: "fail" | "allow"
  readonly signal?: AbortSignal
}

/** Which shards may hold the ids; if neither is given, the snapshot's locator is asked. */
export interface GetOptions extends Pick<RouteOptions, "shards" | "context"> {
  readonly signal?: AbortSignal
}

/** `Payload` is the type that the caller knows the payloads to have; nothing checks it. */
export interface Hit<Payload = Json> {
  readonly id: Id
  /** By the snapshot's metric; smaller is nearer. See `Metric`. */
  readonly distance: number
  readonly shard: number
  readonly fields: Readonly<Record<string, FieldValue>>
  /** Null if the record has none. */
  readonly payload: Payload | null
}

export interface SearchResult<Payload = Json> {
  /** Run id of the snapshot that answered; all hits are from it. */
  readonly snapshot: string
  /** Nearest first; equal distances by shard, then id. Fewer than `k` only if the shards asked hold no more. */
  readonly hits: readonly Hit<Payload>[]
  readonly shards: {
    /** Shards that were searched, in order of the route. */
    readonly asked: readonly number[]
    readonly answered: readonly number[]
    readonly failed: readonly { readonly shard: number; readonly reason: string }[]
  }
  /** Whether every shard asked has answered. */
  readonly complete: boolean
}

export type FoundRecord<Payload = Json> = Omit<StoredRecord, "payload"> & {
  readonly payload: Payload | null
  readonly shard: number
}

/** What a snapshot is, for people and programs. */
export interface SnapshotInfo {
  readonly run: string
  readonly url: string
  readonly createdAt: Date
  readonly publishedAt: Date
  readonly rows: number
  readonly bytes: number
  readonly dim: number
  readonly metric: string
  readonly idType: string
  readonly fields: readonly { readonly name: string; readonly type: string }[]
  readonly model: string | undefined
  readonly backend: string
  readonly strategy: string
  readonly shards: number
  /** Whether it has an id locator. Without one, `get` asks every shard, unless told which. */
  readonly locator: boolean
}

export interface RefreshResult {
  /** Whether another snapshot is open now. */
  readonly changed: boolean
  readonly from: string
  readonly to: string
  /** Shards whose content did not change, so that they stayed open. */
  readonly keptShards: number
}

export interface ReaderStats {
  readonly openShards: number
  /** Shards opened since the reader was. */
  readonly shardOpens: number
  /** Shards downloaded since the reader was opened. */
  readonly shardDownloads: number
  /** Calls to the store by operation, and bytes read from it, since the reader was opened. */
  readonly requests: Readonly<RequestCounts>
}
