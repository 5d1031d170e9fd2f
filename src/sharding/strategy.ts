/**
 * The strategy contract: how records and queries find shards. Data plus pure functions, no I/O.
 *
 * A {@link StrategyType} says what there is to know of a strategy before there is one: its name, its traits
 * and its options. It makes strategies in one of two ways: for the writer from options (and a sample, if it
 * is trained), for the reader from the manifest's description and its `.npy` artifacts. Both then behave
 * alike. See registry.ts for all types.
 */

import type { FieldType, FieldValue, RecordBatch } from "../records.js"
import type { CellEffort } from "../vectors/cells/effort.js"
import type { Metric } from "../vectors/metric.js"
import type { AnyNpyArray } from "../vectors/npy.js"
import type { OptionTable } from "./options.js"

/** A strategy as it is registered. Light to import: what needs much code is loaded by `load`. */
export interface StrategyType<
  Name extends string = string,
  Options = unknown,
  Resolved extends ResolvedOptions<Name> = ResolvedOptions<Name>,
> {
  readonly name: Name
  /**
   * What tells where a query goes: `vector`, shards are ranked for its vector; `context`, values of fields
   * that come with it; `shards`, nothing, so that every query must name its shards.
   */
  readonly queriesBy: "vector" | "context" | "shards"
  /**
   * Whether it must see a sample before it can assign any row. Its options are then {@link TrainedOptions}.
   */
  readonly trained: boolean
  /** All options besides `strategy`, in the order in which they are told to people. */
  readonly options: OptionTable
  /**
   * Checks options, which may come from anywhere, fills in defaults, copies and freezes. Throws
   * `InvalidInput` naming the option, what was expected and what was found.
   */
  resolve(options: Options): Resolved
  /** Options as a manifest of any version describes them; default: as they are, with the number of shards. */
  described?(description: ShardingDescription): Readonly<Record<string, unknown>>
  /** {@link resolve} for what a manifest describes, where that may be what nobody would choose. */
  restored?(options: Options): Resolved
  load(): Promise<StrategyMaker<Resolved>>
}

export interface ResolvedOptions<Name extends string = string> {
  readonly strategy: Name
  readonly shards: number
}

/** What a strategy that is trained has among its options: by them the writer draws the sample. */
export interface TrainedOptions<Name extends string = string> extends ResolvedOptions<Name> {
  /** Rows of the sample at most. */
  readonly sampleRows: number
  readonly seed: number
}

/** Makes strategies of one type. */
export interface StrategyMaker<Resolved> {
  /**
   * From options. `training` is there if the type is trained. Throws `InvalidInput` if they do not suit the
   * declared fields, or the sample has fewer rows than there are shards.
   */
  create(
    resolved: Resolved,
    context: StrategyContext,
    training?: StrategyTraining,
  ): Strategy | Promise<Strategy>
  /**
   * From a manifest: `artifacts` are the arrays that are given, by file name. Throws `Corrupt` if they do not
   * fit.
   */
  restore(resolved: Resolved, context: StrategyContext, artifacts: RoutingArtifacts): Strategy
  /**
   * From options and the artifacts of another snapshot of the same type and as many shards, so that shards
   * keep their meaning and nothing is trained. Only if the type is trained. Throws `InvalidInput` if they do
   * not fit.
   */
  adopt?(resolved: Resolved, context: StrategyContext, artifacts: RoutingArtifacts): Strategy
}

export interface StrategyTraining {
  /** A uniform sample of the rows, row-major. */
  readonly sample: Float32Array
  /** Told after every round, of so many at most. */
  readonly onIteration?: ((progress: { readonly iteration: number; readonly of: number }) => void) | undefined
}

export type RoutingArtifacts = Readonly<Record<string, AnyNpyArray>>

/** The part of the manifest that, with the artifacts, restores a strategy. Plain JSON. */
export interface ShardingDescription {
  /** Name of a registered type. */
  readonly strategy: string
  readonly shards: number
  /** Strategy-specific, validated by the strategy itself when it is restored. */
  readonly options: Readonly<Record<string, unknown>>
}

/** What every strategy must know of the snapshot. */
export interface StrategyContext {
  readonly dim: number
  readonly metric: Metric
  /** Declared fields, in order: the variables of a CEL expression. */
  readonly fields: readonly ContextField[]
}

export interface ContextField {
  readonly name: string
  readonly type: ContextType
  /** Refused are text and bytes with a NUL, where rows were placed by what comes before it. */
  readonly withoutNul?: boolean
}

/** Types of values that come with a query. Beyond those of fields there are some in other formats only. */
export type ContextType = FieldType | "uint64" | "bytes"

/** Values that come with a query, by name. */
export type QueryContext = Readonly<Record<string, FieldValue | Uint8Array>>

export interface Strategy {
  /** Name of its type. */
  readonly name: string
  /** Number of shards, empty ones included. */
  readonly shards: number
  /** Whether its routing was measured, so that {@link Strategy.rank} takes a target recall. */
  readonly measured: boolean

  /**
   * Shard of each row of the batch. Throws `InvalidInput` naming file and row if a row has no valid shard.
   */
  assign(batch: RecordBatch): Int32Array

  /**
   * The shards to search, best first, each once. Pure: `present` tells which shards hold rows, so that empty
   * ones never use up a probe. Throws `InvalidInput` if the selection lacks what the strategy needs, or names
   * a shard that does not exist.
   */
  rank(selection: Selection, present: Present): Ranking

  describe(): ShardingDescription

  /** Arrays that `rank` needs, by file name ("centroids.npy"). */
  artifacts(): RoutingArtifacts
}

/** Whether a shard holds rows. */
export type Present = (shard: number) => boolean

/**
 * Which shards a query goes to: those that it names, or those that the strategy chooses, as many as the
 * effort says.
 */
export type Selection = NamedShards | ChosenShards

export interface NamedShards {
  /** These shards, in this order; or all that hold rows. No strategy has a say in it. */
  readonly shards: readonly number[] | "all"
  readonly probes?: undefined
  readonly targetRecall?: undefined
}

export type ChosenShards = RoutedQuery & Effort

/** A query as strategies see it. */
export interface RoutedQuery {
  readonly shards?: undefined
  /** The query vector, as given, `dim` values. Absent when routing without one (a lookup by id, say). */
  readonly vector?: Float32Array | undefined
  /** Values of fields, by name. */
  readonly context?: QueryContext | undefined
}

/** How many shards are searched. */
export type Effort =
  | {
      /** So many; the strategy's own default if absent. "all" searches every shard that has rows. */
      readonly probes?: number | "all" | undefined
      readonly targetRecall?: undefined
    }
  | {
      readonly probes?: undefined
      /**
       * As many as this recall of the ten nearest takes, above 0 and at most 1. Only if the strategy is
       * measured.
       */
      readonly targetRecall: number
    }

/** The number of neighbours that a target recall is about. */
export const TARGET_K = 10

/**
 * For each true neighbour of a query, nearest first, how many shards are probed before the first one that
 * holds it.
 */
export type ReachedRanks = Int32Array

export interface Ranking {
  readonly shards: readonly RankedShard[]
  /** How much of the shards is looked at, all of them together; absent: all rows. */
  readonly effort?: CellEffort | undefined
  /** For a target recall: the mean recall that held-out queries reached with the same rule. */
  readonly expectedRecall?: number
  /**
   * Whether the query is less familiar than 19 of 20 rows; absent if no rows were held out, or no ranking was
   * needed.
   */
  readonly unlike?: boolean
  /**
   * How many shards a target takes of this query, which need not be ranked again; absent if no ranking was
   * needed.
   */
  readonly probesFor?: (targetRecall: number) => number
}

export interface RankedShard {
  readonly shard: number
  /** Smaller is better; comparable within one ranking only. */
  readonly score: number
}
