/**
 * How much of a query's shards is looked at for a target recall, where shards have cells. All cells of the
 * shards that are taken compete for a number of rows, which grows with the root of the number of shards: so a
 * query whose neighbours a few shards hold, as routing sees it, looks at few rows, and one that many shards
 * are taken for at many. With as many rows for all, rows that are stored and queries unlike them would reach
 * recalls further apart, and with rows in proportion to shards, too.
 *
 * Of the neighbours that a target lets go, half may lie in shards that are not taken, and half in cells that
 * are not looked at: shards are taken for {@link shardTarget}. The rows are learned when a snapshot is
 * built, by searching it: see recall/cells/.
 */
import { corrupt } from "../errors.js"
import type { CellEffort } from "../vectors/cells/effort.js"
import { type Effort, type ShardingDescription, TARGET_K } from "./strategy.js"

/** Rows to look at by target, as a build has measured them. Lists are of one length, which may be 0. */
export interface CellRule {
  /** Rising, each between 0 and 1. Beyond the last one all rows are looked at. */
  readonly targets: readonly number[]
  /** Never falling: for a query that one shard is taken for. */
  readonly rows: readonly number[]
  /** Mean recall that queries reached with them. */
  readonly recall: readonly number[]
  /** Rows that remain for their exact distances, if the ten nearest are wanted. Never falling. */
  readonly best: readonly number[]
  /** Of all shards with cells, on average. */
  readonly rowsPerCell: number
}

/** The recall for which shards are taken, if in the end a target is to be reached. */
export const shardTarget = (target: number): number => 1 - (1 - target) / 2

/**
 * Cells are looked at in groups of eight. The best groups with so many times the cells that are wanted have
 * nearly all of them.
 */
const GROUP_SHARE = 0.7

/** What a target comes to with a rule. */
export interface RuledEffort {
  /** Undefined: all rows of the shards. */
  readonly effort: CellEffort | undefined
  /** The mean recall that queries of the build reached; undefined with all rows. */
  readonly recall: number | undefined
}

/**
 * The effort for the `k` nearest in so many shards. More rows for a higher target, never fewer. Between two
 * targets of the rule the logarithm of rows is interpolated along that of what a target lets go; below the
 * first one its rows are taken.
 */
export function effortFor(rule: CellRule, target: number, shards: number, k: number): RuledEffort {
  const { targets, rowsPerCell } = rule
  const above = targets.findIndex((measured) => measured >= target)
  if (above < 0) return { effort: undefined, recall: undefined }
  const below = Math.max(0, above - 1)
  const letGo = (at: number) => Math.log(1 - at)
  const width = letGo(targets[above]!) - letGo(targets[below]!)
  const share = width === 0 ? 1 : (letGo(target) - letGo(targets[below]!)) / width
  const between = ({ [below]: low, [above]: high }: readonly number[]) => low! + (high! - low!) * share
  const ofOneShard = Math.exp(between(rule.rows.map(Math.log)))
  // Copies of one row take places of others, so that twice as many are wanted at least.
  const rows = Math.max(Math.round(ofOneShard * Math.sqrt(shards)), 2 * k)
  return {
    effort: {
      rows,
      groups: Math.ceil((GROUP_SHARE * rows) / rowsPerCell),
      best: bestFor(rule.best[above]!, k),
    },
    recall: between(rule.recall),
  }
}

/** Beyond so many neighbours, an estimate that is off hardly ever moves a row out of twice as many. */
const MANY = 100

/** Rows that remain for `k` neighbours: as the number of these, up to a hundred. */
function bestFor(best: number, k: number): number {
  const times = Math.max(1, Math.min(k, MANY) / TARGET_K)
  return Math.ceil(best * times) + 2 * Math.max(0, k - MANY)
}

/** What queries get that say nothing of their shards, in snapshots whose cells were measured. */
const DEFAULT_TARGET = 0.95

/**
 * A description that says what queries get by default, if it was measured what targets take in cells: the
 * probes that the user gave, else a target. Otherwise it says nothing, and queries get the strategy's probes.
 */
export function withEffort(
  description: ShardingDescription,
  givenProbes: number | undefined,
  recall: { readonly cells?: CellRule | undefined } | undefined,
): ShardingDescription {
  if (recall?.cells === undefined) return description
  const effort = givenProbes === undefined ? { targetRecall: DEFAULT_TARGET } : { probes: givenProbes }
  return { ...description, options: { ...description.options, effort } }
}

/** What {@link withEffort} has noted, if it has. Throws `Corrupt` for what it does not write. */
export function describedEffort({ options }: Pick<ShardingDescription, "options">): Effort | undefined {
  const { effort } = options
  if (effort === undefined) return undefined
  const { probes, targetRecall } = (effort ?? {}) as Readonly<Record<string, unknown>>
  if (typeof probes === "number" && Number.isInteger(probes) && probes >= 1 && targetRecall === undefined)
    return { probes }
  if (typeof targetRecall === "number" && targetRecall > 0 && targetRecall <= 1 && probes === undefined)
    return { targetRecall }
  throw corrupt(
    `the manifest's sharding has the effort ${JSON.stringify(effort)}, expected probes or a targetRecall`,
  )
}
