/**
 * A strategy that nobody should use, to show what it takes to add one: this file, and one line that registers
 * it. Rows are dealt to shards in turn; a query begins at a shard that its vector chooses, so that queries
 * spread too.
 */
import { PROBES, resolveTable, SHARDS } from "../../src/sharding/options.js"
import { namedShards, presentShards, probeLimit, queryVector } from "../../src/sharding/ranking.js"
import type { Strategy, StrategyContext, StrategyType } from "../../src/sharding/strategy.js"

export interface RoundRobinOptions {
  readonly strategy: "round-robin"
  readonly shards: number
  readonly probes?: number
}

type ResolvedRoundRobin = Readonly<Required<RoundRobinOptions>>

const OPTIONS = { shards: SHARDS, probes: PROBES }

export const roundRobin: StrategyType<"round-robin", RoundRobinOptions, ResolvedRoundRobin> = {
  name: "round-robin",
  queriesBy: "vector",
  trained: false,
  options: OPTIONS,
  resolve: (options) => Object.freeze({ strategy: "round-robin", ...resolveTable(OPTIONS, { ...options }) }),
  load: async () => ({ create, restore: create }),
}

function create({ shards, probes }: ResolvedRoundRobin, context: StrategyContext): Strategy {
  return Object.freeze<Strategy>({
    name: roundRobin.name,
    shards,
    measured: false,

    assign: ({ rows }) => Int32Array.from({ length: rows }, (_, row) => row % shards),

    rank(selection, present) {
      if (selection.shards !== undefined) return { shards: namedShards(selection.shards, shards, present) }
      const vector = queryVector(selection, roundRobin.name, context)
      const sum = vector.reduce((total, value) => total + Math.abs(value), 0)
      const first = Math.floor(sum * 1000) % shards
      const turn = (shard: number) => (shard - first + shards) % shards
      const inTurn = presentShards(shards, present).sort((a, b) => turn(a) - turn(b))
      const ranked = inTurn.map((shard) => ({ shard, score: turn(shard) }))
      return { shards: ranked.slice(0, probeLimit(selection, probes)) }
    },

    describe: () => ({ strategy: roundRobin.name, shards, options: { probes } }),
    artifacts: () => ({}),
  })
}
