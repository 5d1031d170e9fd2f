/**
 * What the reader takes and answers.
 */
import type { Logger } from "../logger.js"
import type { DefaultRecall, RecallCertificate } from "../recall/curves.js"
import type { FieldType, FieldValue, Id, Json, SnapshotIdType, StoredRecord } from "../records.js"
import type { StrategyName } from "../sharding/registry.js"
import type { ContextType, QueryContext } from "../sharding/strategy.js"
import type { TrustOptions } from "../shards/pools.js"
import type { BackendName } from "../shards/registry.js"
import type { TrustedKeyOption } from "../snapshot/signatures/keys.js"
import type { StoreOptions } from "../storage/open.js"
import type { RequestCounts } from "../storage/with-counting.js"
import type { Metric } from "../vectors/metric.js"
import type { AuditOptions } from "./audit/audit.js"
import type { ReaderPool } from "./reader-pool.js"
import type { WarmOptions, WarmResult } from "./shards/warm.js"

/** Checks and types payloads as they leave the reader; a zod schema fits as it is. */
export interface PayloadSchema<Payload> {
  /** The payload as the caller wants it. Throws if it is not what is expected. */
  parse(value: unknown): Payload
}

/** How often a reader looks for another snapshot by itself. */
export interface AutoRefresh {
  /** Seconds from the end of a refresh to the next, on average. */
  readonly everySeconds: number
  /**
   * Share by which that varies at random, from 0 to 1, so that many readers don't come at once; default 0.1.
   */
  readonly jitter?: number | undefined
}

export interface OpenOptions<Payload = Json> extends TrustOptions {
  /**
   * Local directory for downloaded shards; shared by processes and kept across restarts.
   * Default: `vecsnap` in the user's cache directory (`$XDG_CACHE_HOME`, else `~/.cache`).
   */
  readonly cacheDir?: string | undefined
  /**
   * Bytes of downloaded shards in `cacheDir`, at most; default 20 GiB, or half of what it holds and the disk
   * has free, whichever is less. Beyond, the least recently used are removed, never those that this or
   * another process has open.
   */
  readonly cacheBytes?: number | undefined
  /**
   * What to do when `cacheDir` cannot be written: "fail" (default), or "temporary": go on with a private
   * temporary directory, which `close` removes. Shards that are in `cacheDir` already are used either way.
   */
  readonly whenCacheFails?: "fail" | "temporary" | undefined
  /**
   * How files of shards come to be read. "auto" (default): those of a root that is a local directory where
   * they lie, where what is read is compared with its checksum, unless the root is untrusted or `trustedKeys`
   * are given; all others from the disk cache, where whole shards are downloaded to. A shard of 1 MiB or more
   * that is asked for the first time may be opened from ranges of its files, where its backend can do that,
   * and is downloaded when it is asked for again. "ranges": the same, and it is not downloaded before all of
   * it is needed. "whole": through the disk cache always, whole.
   */
  readonly fetch?: "auto" | "ranges" | "whole" | undefined
  /**
   * Shards open at the same time, at most; default 256, or a quarter of `ulimit -n` if that is less. Least
   * recently used ones are closed.
   */
  readonly maxOpenShards?: number | undefined
  /**
   * Memory of open shards, in bytes: beyond, idle ones are closed, least recently used first. Default: no
   * bound.
   */
  readonly openShardBytes?: number | undefined
  /** Closes shards that no search has used for so long, in seconds. Default: never. */
  readonly idleSeconds?: number | undefined
  /**
   * Threads and memory that the reader shares with others. Default: one pool for all readers of the process
   * that set neither this nor `workers` nor `memoryBytes`; an untrusted root has threads of its own.
   */
  readonly pool?: ReaderPool | undefined
  /** A pool for this reader alone with so many bytes for vectors; see `ReaderPoolOptions`. */
  readonly memoryBytes?: number | undefined
  /** A pool for this reader alone with so many threads that search; see `ReaderPoolOptions`. */
  readonly workers?: number | undefined
  /**
   * Calls that run at the same time, others wait in order; and shards downloaded or opened at the same time,
   * over all calls. Default 64, or an eighth of `ulimit -n` if that is less.
   */
  readonly concurrency?: number | undefined
  /** Calls (`search`, `searchMany`, `get`) that may wait; default 1,000. Beyond: `Unavailable`, at once. */
  readonly maxQueued?: number | undefined
  /**
   * The longest that a call waits for its turn, in milliseconds; default 10,000. Then it is `Unavailable`.
   */
  readonly queueTimeoutMs?: number | undefined
  /**
   * Time limit of `openSnapshot` as a whole, retries included, in milliseconds; default 120,000. Then it
   * throws `Aborted`. Single requests that stall are tried again long before; see `store.s3`.
   */
  readonly openTimeoutMs?: number | undefined
  /** Time limit of every call, in milliseconds, for waiting, downloading and searching; default: none. */
  readonly timeoutMs?: number | undefined
  /**
   * Opens the snapshot of this run, whether live or not, and stays with it. If it is not the live one, it is
   * looked for among the manifests: the only case in which a reader lists, so that it needs permission to.
   */
  readonly snapshot?: string | undefined
  /**
   * Protects the snapshot from collection for as long as it is open, by a small object below `readers/` that
   * is renewed while the reader lives and lapses `seconds` (1 to 86,400, default 300) after it died. Needs
   * permission to write and delete there. Default: none; then the grace period of the collection must be
   * longer than a reader stays with one snapshot.
   */
  readonly lease?: boolean | { readonly seconds: number } | undefined
  /**
   * Asks some live queries again over all rows, when nobody else asks, and compares: what recall users get,
   * in `health`, `stats` and metrics. It opens and downloads shards that queries have not needed yet. Queries
   * with `shards` or `context` do not count. Default: none.
   */
  readonly audit?: AuditOptions | undefined
  /**
   * With `audit`: a file ending in ".fvecs" to which the vectors of audited queries are added, for
   * `--queries` of the next build; readable for its owner alone. They are what users asked for, so keep it
   * like that.
   */
  readonly auditFile?: string | undefined
  /** Bytes of `auditFile` at most; default 64 MiB. Then no more is added. */
  readonly auditFileBytes?: number | undefined
  /** Refreshes in the background; default: never. */
  readonly autoRefresh?: AutoRefresh | undefined
  /**
   * Age of the snapshot, in seconds since it was published, beyond which `health` reports it; default: none.
   */
  readonly maxAgeSeconds?: number | undefined
  /**
   * Public ed25519 keys, each in PEM or the path of its file, or `{ key, validUntil }`: what none of them has
   * signed is refused as `Corrupt` with `details.distrust`, when opening and when refreshing, and so is a
   * publication with a lower number than one that was seen before, which `cacheDir` remembers. Default: none,
   * and signatures are not looked at.
   */
  readonly trustedKeys?: readonly TrustedKeyOption[] | undefined
  /** Applied to the payload of each hit and record, unless it has none. */
  readonly payloadSchema?: PayloadSchema<Payload> | undefined
  readonly store?: StoreOptions | undefined
  readonly signal?: AbortSignal | undefined
  readonly logger?: Logger | undefined
}

/** How a query finds its shards; see the strategies. At most one of `probes` and `shards`. */
export interface RouteOptions {
  /** Shards to search: a number (of those that hold rows), or "all"; default: the snapshot's. */
  readonly probes?: number | "all" | undefined
  /** These shards and no others; required by `explicit` snapshots. "all" searches every shard. */
  readonly shards?: readonly number[] | "all" | undefined
  /** For `cel` snapshots: values of the expression's variables. */
  readonly context?: QueryContext | undefined
}

export interface SearchOptions extends RouteOptions {
  /** Hits wanted; default 10. */
  readonly k?: number | undefined
  /** Whether a shard that fails fails the search (default), or is left out and named in the answer. */
  readonly partial?: "fail" | "allow" | undefined
  /**
   * Share of the true nearest ten that is wanted on average, above 0 and at most 1, instead of `probes` or
   * `shards`: each query then goes to as many shards as it takes by what the build has measured: a number of
   * its own with a layout, else the same fixed number for all, by the recall certificate. Where shards have
   * cells, it looks at as many rows of them as that takes. `Unsupported` if the snapshot has neither.
   */
  readonly targetRecall?: number | undefined
  /** Time limit of this call in milliseconds; default: the reader's. */
  readonly timeoutMs?: number | undefined
  readonly signal?: AbortSignal | undefined
}

/** Which shards may hold the ids; if neither is given, the snapshot's locator is asked. */
export interface GetOptions extends Pick<RouteOptions, "shards" | "context"> {
  /** Time limit of this call in milliseconds; default: the reader's. */
  readonly timeoutMs?: number | undefined
  readonly signal?: AbortSignal | undefined
}

/**
 * `Payload` is the type that the caller knows the payloads to have; `payloadSchema` checks it, nothing else
 * does.
 */
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
  /**
   * Nearest first; equal distances by shard, then id. Fewer than `k` only if the shards asked hold no more.
   */
  readonly hits: readonly Hit<Payload>[]
  readonly shards: {
    /** Shards that were searched, in order of the route. */
    readonly asked: readonly number[]
    readonly answered: readonly number[]
    readonly failed: readonly { readonly shard: number; readonly reason: string }[]
  }
  /** Whether every shard asked has answered. */
  readonly complete: boolean
  /**
   * With `targetRecall`: the recall that queries of the build as familiar as this one reached on average by
   * the same rule. Not a measurement of this answer, and for queries unlike the rows too high; see `health`.
   */
  readonly expectedRecall?: number
}

export type FoundRecord<Payload = Json> = Omit<StoredRecord, "payload"> & {
  readonly payload: Payload | null
  readonly shard: number
}

/** What a snapshot is, for people and programs. */
export interface SnapshotInfo {
  readonly run: string
  /** How it is described on storage: "vecsnap", or the name of another format. */
  readonly format: string
  readonly url: string
  readonly createdAt: Date
  /** When it became live; of a pinned snapshot that is not live, when it was created. */
  readonly publishedAt: Date
  readonly rows: number
  readonly bytes: number
  readonly dim: number
  readonly metric: Metric
  readonly idType: SnapshotIdType
  readonly fields: readonly { readonly name: string; readonly type: FieldType }[]
  /** What queries may be routed by: its fields, or what the format says in their place. */
  readonly context: readonly { readonly name: string; readonly type: ContextType }[]
  readonly model: string | undefined
  readonly backend: BackendName
  readonly strategy: StrategyName
  readonly shards: number
  /** Recall as the build has measured it; `undefined` if it has not. */
  readonly recall: RecallCertificate | undefined
  /** Ids of those of `trustedKeys` that signed it; `undefined` if none were given. */
  readonly signedBy: readonly string[] | undefined
  /** Whether it has an id locator. Without one, `get` asks every shard, unless told which. */
  readonly locator: boolean
  /** What is odd about it, as sentences; empty if nothing is. */
  readonly notes: readonly string[]
}

export interface RefreshResult {
  /** Whether another snapshot is open now. */
  readonly changed: boolean
  readonly from: string
  readonly to: string
  /** Shards whose content did not change, so that they stayed open. */
  readonly keptShards: number
  /** Whether the reader is pinned to its snapshot, so that nothing was looked for. */
  readonly pinned: boolean
}

/** How a refresh went. */
export interface RefreshReport {
  /** When it ended. */
  readonly at: Date
  /** Whether it opened another snapshot. */
  readonly changed: boolean
  /** Why it failed; `undefined` if it did not. */
  readonly error: string | undefined
}

/** What happens to a reader, by name of the event, with what listeners are given. */
export interface ReaderEvents {
  /** Another snapshot answers from now on. */
  readonly refreshed: RefreshResult
  /** A refresh has failed; the old snapshot goes on answering. */
  readonly "refresh-failed": { readonly error: unknown }
}

/** See the table in `health.ts` for what each status means. */
export interface Health {
  readonly status: "healthy" | "degraded" | "unhealthy"
  /** A sentence each, the gravest first, advice last; if healthy none but advice. */
  readonly reasons: readonly string[]
  /** Run id of the snapshot that answers. */
  readonly snapshot: string
  /** How it is described on storage: "vecsnap", or the name of another format. */
  readonly format: string
  /** Since it was published. */
  readonly ageSeconds: number
  readonly pinned: boolean
  /** Ids of those of `trustedKeys` that signed the snapshot; `undefined` if none were given. */
  readonly signedBy: readonly string[] | undefined
  readonly lastRefresh: RefreshReport | undefined
  /** When the pointer was last read with success; of a pinned reader never, unless its snapshot was live. */
  readonly pointerReadAt: Date | undefined
  /** How the latest calls went: at most 20, of the last minute. `refused` ones were turned away for load. */
  readonly calls: { readonly answered: number; readonly failed: number; readonly refused: number }
  /**
   * Recall of the ten nearest that queries get by default, as the build has measured it; `undefined` if it
   * has not. With a `target` each query has its own number of probes, of which `probes` is the mean.
   */
  readonly recall: ({ readonly k: number } & DefaultRecall) | undefined
  /** `undefined` if the snapshot has no layout, or nobody has asked it. */
  readonly unlikeQueries: UnlikeQueries | undefined
  /** `undefined` without the option `audit`, or before the first query was asked again. */
  readonly observedRecall: ObservedRecall | undefined
}

/** Recall of the latest queries that were asked again on this snapshot, at most 1,000. */
export interface ObservedRecall {
  readonly queries: number
  /** Mean over the queries, from 0 to 1. */
  readonly recall: number
  /** Where the mean of all queries lies, with a probability of 95 %: from here … */
  readonly low: number
  /** … to here. */
  readonly high: number
  /** Mean of what they asked for; `undefined` if some of them named no target. */
  readonly target: number | undefined
}

/**
 * How many of the latest queries, at most 1,000 on this snapshot, were unlike its rows: less familiar than 19
 * of 20 rows. Of queries like the rows that is .05. Queries with `shards` don't count.
 */
export interface UnlikeQueries {
  /** From 0 to 1. */
  readonly share: number
  readonly of: number
}

/**
 * Numbers, or the bytes of as many float32 values as the snapshot has dimensions, little-endian (`Buffer`,
 * `Uint8Array`).
 */
export type QueryVector = readonly number[] | Float32Array | Float64Array | Uint8Array

/** Is told what happened. What it throws is logged. */
export type ReaderListener<Event extends keyof ReaderEvents> = (facts: ReaderEvents[Event]) => void

/**
 * An open snapshot. After `close`, all that asks the snapshot throws `Closed`.
 *
 * A call throws `Unavailable` with `details.retryAfterMs` if too many wait already (`maxQueued`,
 * `queueTimeoutMs`), and `Aborted` when its signal fires or its `timeoutMs` have passed, wherever it is:
 * waiting, downloading or searching.
 */
export interface Reader<Payload = Json> extends AsyncDisposable {
  /** The snapshot that answers now; another one after a refresh. */
  readonly snapshot: SnapshotInfo
  /** The nearest records to a vector of `dim` numbers. */
  search(vector: QueryVector, options?: SearchOptions): Promise<SearchResult<Payload>>
  /** Several queries at once, answered in order, all from one snapshot. */
  searchMany(
    vectors: readonly QueryVector[],
    options?: SearchOptions,
  ): Promise<readonly SearchResult<Payload>[]>
  /**
   * Records by id, in order; `undefined` for ids that are not there. Opens the shards that hold them, which
   * the snapshot's id locator knows, or else those that `shards` or `context` name. A snapshot that was built
   * without a locator is asked in every shard, with a warning.
   */
  get(ids: readonly Id[], options?: GetOptions): Promise<readonly (FoundRecord<Payload> | undefined)[]>
  /**
   * Opens the snapshot that is live now, if it is another one: completely, shards that were in use included,
   * before it answers. Searches under way finish on the old one. If it fails, the old one stays. Calls at the
   * same time share one refresh. A pinned reader stays as it is, and says so.
   */
  refresh(): Promise<RefreshResult>
  /**
   * How the reader does; works after `close`, too. Reads the pointer if that was not done in the last 5
   * seconds, waits 2 seconds for it at most, and does no other I/O unless a
   * trial is asked for.
   */
  health(options?: HealthOptions): Promise<Health>
  /** Calls `listener` whenever `event` happens, until `off`. What it throws is logged. */
  on<Event extends keyof ReaderEvents>(event: Event, listener: ReaderListener<Event>): void
  off<Event extends keyof ReaderEvents>(event: Event, listener: ReaderListener<Event>): void
  /** Downloads shards of this snapshot into the disk cache, without opening them. */
  warm(options?: WarmOptions): Promise<WarmResult>
  stats(): ReaderStats
  /** Waits for what runs, or aborts it, then releases files, threads and connections. Idempotent. */
  close(options?: CloseOptions): Promise<void>
}

export interface HealthOptions {
  /**
   * Also asks the smallest shard for one row, which downloads and opens it if need be, in 10 seconds at most:
   * for who has made no searches to judge by. Default false.
   */
  readonly trial?: boolean | undefined
  /** Ends the trial, with `Aborted`. */
  readonly signal?: AbortSignal | undefined
}

export interface CloseOptions {
  /** Stop what runs, which then throws `Closed`, instead of waiting for it; default false. */
  readonly abort?: boolean | undefined
}

export interface ReaderStats {
  readonly openShards: number
  /** Memory that they hold, in bytes, as their backends say. */
  readonly openShardBytes: number
  /** Shards that somebody waits for because `maxOpenShards` are in use. */
  readonly waitingForShards: number
  /** Shards opened since the reader was. */
  readonly shardOpens: number
  /** Shards downloaded since the reader was opened. */
  readonly shardDownloads: number
  /** Calls to the store by operation, and bytes read from it, since the reader was opened. */
  readonly requests: Readonly<RequestCounts>
  /** Calls that run, that wait for their turn, and that were turned away since the reader was opened. */
  readonly calls: { readonly running: number; readonly queued: number; readonly refused: number }
  /**
   * With the option `audit`: live queries that were asked again, and that were drawn but dropped since the
   * reader was busy, since the reader was opened; and what came of the latest.
   */
  readonly audit:
    | {
        readonly audited: number
        readonly dropped: number
        readonly observedRecall: ObservedRecall | undefined
      }
    | undefined
}
