/**
 * What all strategies share in ranking: shards that are named, numbers of probes, and shards without rows.
 */
import { invalidInput } from "../errors.js"
import { vectorProblem } from "../vectors/validate.js"
import type { Effort, NamedShards, Present, RankedShard, RoutedQuery, StrategyContext } from "./strategy.js"

/**
 * Shards that a query names, which go before all that a strategy would choose: each once, in the order given,
 * those without rows left out. Throws `InvalidInput` for an empty list, or a shard that does not exist.
 */
export function namedShards(
  named: NamedShards["shards"],
  shards: number,
  present: Present,
): readonly RankedShard[] {
  if (named === "all") return allShards(shards, present)
  if (named.length === 0) throw invalidInput('shards is an empty list; name one shard or more, or "all"')
  for (const shard of named) {
    if (!Number.isInteger(shard) || shard < 0 || shard >= shards) {
      throw invalidInput(`shard ${shard} does not exist; this snapshot has shards 0 to ${shards - 1}`, {
        shard,
        shards,
      })
    }
  }
  return unranked([...new Set(named)].filter(present))
}

/** All shards that hold rows, by number. */
export function allShards(shards: number, present: Present): readonly RankedShard[] {
  return unranked(presentShards(shards, present))
}

/** Numbers of the shards that hold rows, rising. */
export function presentShards(shards: number, present: Present): number[] {
  return Array.from({ length: shards }, (_, shard) => shard).filter((shard) => present(shard))
}

function unranked(shards: readonly number[]): readonly RankedShard[] {
  return shards.map((shard) => ({ shard, score: 0 }))
}

/**
 * How many shards to search: the number given or else the strategy's, Infinity for "all". Throws
 * `InvalidInput` unless it is an integer of 1 or more.
 */
export function probeLimit({ probes, targetRecall }: Effort, defaultProbes: number): number {
  if (targetRecall !== undefined)
    throw invalidInput(`targetRecall is ${targetRecall}, but the routing of this strategy was not measured`)
  const limit = probes ?? defaultProbes
  if (limit === "all") return Number.POSITIVE_INFINITY
  if (!Number.isInteger(limit) || limit < 1) {
    throw invalidInput(`probes must be an integer of 1 or more, or "all"; got ${limit}`, { probes: limit })
  }
  return limit
}

/** The query's vector. Throws `InvalidInput` if there is none, or one that cannot be compared. */
export function queryVector(
  { vector }: RoutedQuery,
  strategy: string,
  { dim, metric }: StrategyContext,
): Float32Array {
  if (vector === undefined) {
    throw invalidInput(
      `the ${strategy} strategy needs a query vector to choose shards, or shards named: a list or "all"`,
    )
  }
  const problem = vectorProblem(vector, dim, metric)
  if (problem !== undefined) throw invalidInput(`the query vector ${problem}`)
  return vector
}
