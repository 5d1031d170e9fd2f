/**
 * The strategy contract: how records and queries find shards. Data plus pure functions, no I/O.
 *
 * A strategy is made in one of two ways: the writer makes one from options (and a sample, for `cluster`), the reader
 * restores one from the manifest's description and its `.npy` artifacts. Both then behave alike.
 */
import type { FieldType, FieldValue, RecordBatch } from "../records.js"
import type { Metric } from "../vectors/metric.js"
import type { AnyNpyArray } from "../vectors/npy.js"

export const STRATEGY_NAMES = ["cluster", "lsh", "explicit", "cel"] as const
export type StrategyName = (typeof STRATEGY_NAMES)[number]

/** What a user asks for. Defaults are filled in by `resolveSharding`. */
export type ShardingOptions = ClusterOptions | LshOptions | ExplicitOptions | CelOptions

/** How `cluster` divides rows; see docs/layout.md. */
export const LAYOUTS = ["auto", "affinity", "fast", "plain"] as const
export type LayoutName = (typeof LAYOUTS)[number]

export interface ClusterOptions {
  readonly strategy: "cluster"
  /** Number of shards, K >= 1. */
  readonly shards: number
  /** Shards searched per query unless the query says otherwise; default max(1, ceil(K / 8)). */
  readonly probes?: number
  /** Rows of the reservoir sample that k-means trains on; default max(20_000, 256 K). */
  readonly sampleRows?: number
  /** Rounds of refinement at most; default 20. */
  readonly iterations?: number
  /** Seed of every random choice; default 1. */
  readonly seed?: number
  /**
   * "plain": k-means on a sample, routing by centroid. "fast": shards of nearly equal size, routing by up to 128
   * descriptors a shard, and `targetRecall`. "affinity": that, with neighbours kept together and copies of rows that many
   * others are near to. "auto" (default): "affinity" up to a million rows, as far as `memoryLimit` allows, otherwise
   * "fast"; "plain" for fewer than 2,000 rows.
   */
  readonly layout?: LayoutName
  /** Copies of rows in further shards, where the layout is `affinity`. */
  readonly replication?: {
    /** Rows stored over rows, from 1 (no copies) to 16; default 1.2. */
    readonly budget?: number
  }
}

export interface LshOptions {
  readonly strategy: "lsh"
  readonly shards: number
  /** Hyperplanes; default max(8, ceil(log2 K) + 2). */
  readonly bits?: number
  /** Default max(1, ceil(K / 8)). */
  readonly probes?: number
  /** Default 1. */
  readonly seed?: number
  /**
   * Order of the neighbouring buckets: "margin" (default), flips of one or more bits by how little the query would have
   * to move; "bit", flips of single bits from the lowest up, as shardyfusion does.
   */
  readonly probeOrder?: "margin" | "bit"
}

export interface ExplicitOptions {
  readonly strategy: "explicit"
  /** Number of shards. Records name theirs by number, 0 <= shard < shards. */
  readonly shards: number
}

export interface CelOptions {
  readonly strategy: "cel"
  /** Number of shards; not with `values`, whose length it then is. */
  readonly shards?: number
  /** CEL over the declared fields, for example `shard_hash(tenant) % 16u`. */
  readonly expression: string
  /** Routing values: the expression's result is looked up here, its position is the shard. */
  readonly values?: readonly (string | number | bigint)[]
}

/** The part of the manifest that, with the artifacts, restores a strategy. Plain JSON. */
export interface ShardingDescription {
  readonly strategy: StrategyName
  readonly shards: number
  /** Strategy-specific, validated by the strategy itself when it is restored. */
  readonly options: Readonly<Record<string, unknown>>
}

/** What every strategy must know of the snapshot. */
export interface StrategyContext {
  readonly dim: number
  readonly metric: Metric
  /** Declared fields, in order: the variables of a CEL expression. */
  readonly fields: readonly { readonly name: string; readonly type: FieldType }[]
}

export interface Strategy {
  readonly name: StrategyName
  /** Number of shards, empty ones included. */
  readonly shards: number

  /** Shard of each row of the batch. Throws `InvalidInput` naming file and row if a row has no valid shard. */
  assign(batch: RecordBatch): Int32Array

  /**
   * The shards to search, best first, each once. Pure: `request.present` tells which shards hold rows, so that empty
   * ones never use up a probe. Throws `InvalidInput` if the request lacks what the strategy needs, or names a shard that
   * does not exist.
   */
  route(request: RouteRequest): readonly RankedShard[]

  /**
   * {@link Strategy.route} with what the strategy knows of the query, and with as many shards as `request.targetRecall`
   * takes, if that is given. Only strategies whose routing was measured have it.
   */
  readonly routeInformed?: (request: RouteRequest) => InformedRoute

  describe(): ShardingDescription

  /** Arrays that `route` needs, by file name ("centroids.npy"). */
  artifacts(): Readonly<Record<string, AnyNpyArray>>
}

export interface RouteRequest {
  /** The query vector, as given, `dim` values. Absent when routing without one (a lookup by id, say). */
  readonly vector?: Float32Array
  /** How many shards to search; the strategy's own default if absent. "all" searches every shard that has rows. */
  readonly probes?: number | "all" | undefined
  /**
   * As many shards as this recall takes, above 0 and at most 1; goes before `probes`. For `routeInformed` only.
   */
  readonly targetRecall?: number | undefined
  /** Overrides every strategy: these shards, in this order; "all" said aloud. */
  readonly shards?: readonly number[] | "all" | undefined
  /** For `cel`: values of the expression's variables. */
  readonly context?: Readonly<Record<string, FieldValue>> | undefined
  /** Whether a shard holds rows. */
  present(shard: number): boolean
}

export interface InformedRoute {
  readonly shards: readonly RankedShard[]
  /** For a request with a target: the mean recall that held-out queries reached with the same rule. */
  readonly expectedRecall?: number
  /** Whether the query is less familiar than 19 of 20 rows; absent if no rows were held out, or no ranking was needed. */
  readonly unlike?: boolean
  /** How many shards a target takes of this query, which need not be ranked again; absent if no ranking was needed. */
  readonly probesFor?: (targetRecall: number) => number
}

export interface RankedShard {
  readonly shard: number
  /** Smaller is better; comparable within one route only. */
  readonly score: number
}
