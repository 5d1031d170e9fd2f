/** The `cluster` strategy and its options, without what it takes to make one. */

import type { Defined } from "../../defined.js"
import {
  choiceOption,
  integerOption,
  type OptionDeclaration,
  PROBES,
  resolveTable,
  SEED,
  SHARDS,
  wrongOption,
} from "../options.js"
import type { ResolvedOptions, StrategyType } from "../strategy.js"

/** How `cluster` divides rows; see docs/layout.md. */
export const LAYOUTS = ["auto", "affinity", "fast", "plain"] as const
export type LayoutName = (typeof LAYOUTS)[number]

export interface ClusterOptions {
  readonly strategy: "cluster"
  /** Number of shards, K >= 1. */
  readonly shards: number
  /** Shards searched per query unless the query says otherwise; default max(1, ceil(K / 8)). */
  readonly probes?: number | undefined
  /** Rows of the sample that k-means trains on; default max(20_000, 256 K). */
  readonly sampleRows?: number | undefined
  /** Rounds of refinement at most; default 20. */
  readonly iterations?: number | undefined
  /** Seed of every random choice; default 1. */
  readonly seed?: number | undefined
  /**
   * "plain": k-means on a sample, routing by centroid. "fast": shards of nearly equal size, routing by up to
   * 128 descriptors a shard, and `targetRecall`. "affinity": that, with neighbours kept together and copies
   * of rows that many others are near to. "auto" (default): "affinity" up to a million rows, as far as
   * `memoryLimit` allows, otherwise "fast"; "plain" for fewer than 2,000 rows.
   */
  readonly layout?: LayoutName | undefined
  /** Copies of rows in further shards, with the layouts `affinity` and `fast`. */
  readonly replication?:
    | {
        /**
         * Rows stored over rows, from 1 (no copies) to 16, with `fast` to 2; default 1.2 with `affinity`, 1
         * with `fast`.
         */
        readonly budget?: number | undefined
      }
    | undefined
}

export interface ResolvedCluster extends Defined<ClusterOptions> {
  /** A budget of 1, no copies, with the layout `plain`, and with `fast` unless it was asked for. */
  readonly replication: { readonly budget: number }
}

const MAX_SAMPLE_ROWS = 2 ** 26
const MAX_ITERATIONS = 10_000
const DEFAULT_BUDGET = 1.2
/** A row near a border has one copy in the layout `fast`. */
const MAX_BUDGET: Readonly<Record<LayoutName, number>> = { auto: 16, affinity: 16, fast: 2, plain: 1 }

const replication: OptionDeclaration<ResolvedCluster["replication"]> = {
  about: "rows stored over rows, copies included, with the layouts affinity and fast",
  default: DEFAULT_BUDGET,
  setting: {
    type: { kind: "number", least: 1, most: MAX_BUDGET.affinity },
    toOption: (budget) => ({ budget }),
  },
  parts: ["budget"],
  resolve: (value, option, { layout }) =>
    Object.freeze({ budget: budgetOf(value, option, layout as LayoutName) }),
}

const OPTIONS = {
  shards: SHARDS,
  probes: PROBES,
  sampleRows: integerOption({
    about: "rows to train on, with the layouts plain and fast",
    from: ({ shards }) => shards as number,
    to: MAX_SAMPLE_ROWS,
    default: ({ shards }) => Math.max(20_000, 256 * (shards as number)),
  }),
  iterations: integerOption({
    about: "rounds of k-means at most",
    from: 1,
    to: MAX_ITERATIONS,
    default: 20,
  }),
  seed: SEED,
  layout: choiceOption({ about: "how rows are divided", names: LAYOUTS, default: "auto" }),
  replication,
}

export const clusterType: StrategyType<"cluster", ClusterOptions, ResolvedCluster> = {
  name: "cluster",
  queriesBy: "vector",
  trained: true,
  options: OPTIONS,
  resolve: (options) => Object.freeze({ strategy: "cluster", ...resolveTable(OPTIONS, { ...options }) }),
  // One without a layout is of a time before there were others.
  described: ({ shards, options }) => ({ layout: "plain", ...options, shards }),
  load: async () => (await import("./strategy.js")).clusterMaker,
}

/** Whether rows are divided by a layout, which takes more than centroids of a sample. */
export const asksForLayout = (resolved: ResolvedOptions): resolved is ResolvedCluster =>
  resolved.strategy === clusterType.name && (resolved as ResolvedCluster).layout !== "plain"

function budgetOf(value: unknown, option: string, layout: LayoutName): number {
  const most = MAX_BUDGET[layout]
  const defaultBudget = layout === "affinity" || layout === "auto" ? DEFAULT_BUDGET : 1
  if (value === undefined) return defaultBudget
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw wrongOption(option, "an object with a budget", value)
  }
  const { budget = defaultBudget } = value as { budget?: unknown }
  if (typeof budget === "number" && budget > 1 && most === 1) {
    throw wrongOption(`${option}.budget`, `1 with the layout ${layout}, which makes no copies`, budget)
  }
  if (typeof budget !== "number" || !(budget >= 1 && budget <= most)) {
    const where = most === MAX_BUDGET.affinity ? "" : ` with the layout ${layout}`
    throw wrongOption(`${option}.budget`, `a number from 1 to ${most}${where}`, budget)
  }
  return budget
}
