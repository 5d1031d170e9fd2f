/**
 * From what a caller asks for to the shards of a query. Pure.
 */
import { invalidInput, unsupported } from "../errors.js"
import { strategyType } from "./registry.js"
import type { Present, Ranking, RoutedQuery, Selection, Strategy } from "./strategy.js"

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
}

/** Which shards a query goes to, as callers say it: at most one of probes, shards and target. */
export interface RouteChoice {
  readonly probes?: number | "all" | undefined
  readonly shards?: readonly number[] | "all" | undefined
  readonly context?: RoutedQuery["context"]
  readonly targetRecall?: number | undefined
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
 * The shards that hold rows and that a query goes to, best first. The choice must have passed {@link
 * checkRoute}.
 */
export function routeQuery(
  { strategy, present, certified }: RoutedSnapshot,
  vector: Float32Array | undefined,
  { probes, shards, context, targetRecall }: RouteChoice,
): Ranking {
  if (shards !== undefined) return strategy.rank({ shards }, present)
  if (targetRecall === undefined) return strategy.rank({ vector, context, probes }, present)
  if (strategy.measured) return strategy.rank({ vector, context, targetRecall }, present)
  const fixed = certified!(targetRecall)
  const selection: Selection = { vector, context, probes: fixed.probes }
  return { shards: strategy.rank(selection, present).shards, expectedRecall: fixed.recall }
}
