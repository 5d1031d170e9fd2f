/**
 * From what a caller asks for to the shards of a query. Pure.
 */
import { invalidInput, unsupported } from "../errors.js"
import { type CellRule, effortFor, shardTarget } from "./effort.js"
import { strategyType } from "./registry.js"
import {
  type Effort,
  type Present,
  type Ranking,
  type RoutedQuery,
  type Strategy,
  TARGET_K,
} from "./strategy.js"

/** What routing goes by in an open snapshot. */
export interface RoutedSnapshot {
  readonly run: string
  readonly strategy: Strategy
  readonly present: Present
  /**
   * How many probes a recall takes by the snapshot's certificate, and the recall that they had; absent if
   * there is none, or if its queries named their shards.
   */
  readonly certified?:
    | ((targetRecall: number) => { readonly probes: number; readonly recall: number })
    | undefined
  /** How much of the shards a recall takes where these have cells; absent: all rows. */
  readonly cells?: CellRule | undefined
  /** What a query gets that has a vector and says nothing of its shards. Default: the strategy's probes. */
  readonly defaultEffort?: Effort | undefined
}

/** Which shards a query goes to, as callers say it: at most one of probes, shards and target. */
export interface RouteChoice {
  readonly probes?: number | "all" | undefined
  readonly shards?: readonly number[] | "all" | undefined
  readonly context?: RoutedQuery["context"]
  readonly targetRecall?: number | undefined
  /** Neighbours that are wanted. Default 10. */
  readonly k?: number | undefined
}

const CHOICES = ["probes", "targetRecall", "shards"] as const

/**
 * Throws `InvalidInput` unless at most one of probes, target and shards is given, and the target is a share;
 * and `Unsupported` for a target if the routing of the snapshot was not measured.
 */
export function checkRoute({ run, strategy, certified }: RoutedSnapshot, choice: RouteChoice): void {
  const { targetRecall } = choice
  if (targetRecall !== undefined && !(targetRecall > 0 && targetRecall <= 1)) {
    throw invalidInput(`targetRecall is ${targetRecall}, expected a number above 0, at most 1`, {
      targetRecall,
    })
  }
  const [one, other] = CHOICES.filter((name) => choice[name] !== undefined)
  if (one !== undefined && other !== undefined) {
    throw invalidInput(
      `${one} and ${other} are both given, expected one of them at most: each says which shards to search`,
    )
  }
  if (targetRecall === undefined || strategy.measured || certified !== undefined) return
  const [reason, advice] =
    strategyType(strategy.name).queriesBy === "vector"
      ? ["has no recall certificate", "or build it again with one, best with the layout affinity or fast"]
      : [`has the strategy ${strategy.name}`, "or build it with the strategy cluster"]
  throw unsupported(
    `snapshot ${run} ${reason}, so that no measured recall turns targetRecall ${targetRecall} into a number of shards: use probes, ${advice}`,
    { targetRecall, snapshot: run },
  )
}

/**
 * The shards that hold rows and that a query goes to, best first, and how much of them is looked at. The
 * choice must have passed {@link checkRoute}.
 */
export function routeQuery(
  snapshot: RoutedSnapshot,
  vector: Float32Array | undefined,
  choice: RouteChoice,
): Ranking {
  const { strategy, present } = snapshot
  const { shards, context, k = TARGET_K } = choice
  if (shards !== undefined) return strategy.rank({ shards }, present)
  const { probes, targetRecall } = effortOf(snapshot, vector, choice)
  if (targetRecall === undefined) return strategy.rank({ vector, context, probes }, present)
  const { cells } = snapshot
  const ranking = rankFor(snapshot, { vector, context }, cells ? shardTarget(targetRecall) : targetRecall)
  if (cells === undefined) return ranking
  const { effort, recall = ranking.expectedRecall } = effortFor(cells, targetRecall, ranking.shards.length, k)
  return { ...ranking, effort, ...(recall !== undefined && { expectedRecall: recall }) }
}

/** What a query asks for, or else what the snapshot says, if that is known to be possible. */
export function effortOf(
  { defaultEffort = {}, strategy, certified }: RoutedSnapshot,
  vector: Float32Array | undefined,
  { probes, targetRecall, context }: RouteChoice,
): Effort {
  if (targetRecall !== undefined) return { targetRecall }
  if (probes !== undefined || vector === undefined || context !== undefined) return { probes }
  const isPossible = defaultEffort.targetRecall === undefined || strategy.measured || certified !== undefined
  return isPossible ? defaultEffort : {}
}

/** As many shards as a recall takes, all of whose rows are looked at. */
function rankFor(
  { strategy, present, certified }: RoutedSnapshot,
  query: RoutedQuery,
  targetRecall: number,
): Ranking {
  if (strategy.measured) return strategy.rank({ ...query, targetRecall }, present)
  const fixed = certified!(targetRecall)
  const { shards } = strategy.rank({ ...query, probes: fixed.probes }, present)
  return { shards, expectedRecall: fixed.recall }
}
