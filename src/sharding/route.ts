/**
 * The parts of routing that all strategies share: shards named by the request, probe counts, and empty shards.
 */
import { invalidInput } from "../errors.js"
import { vectorProblem } from "../vectors/validate.js"
import type { RankedShard, RouteRequest, StrategyContext } from "./strategy.js"

/**
 * The shards of a request that names them itself, which overrides every strategy; `undefined` if it does not.
 * Each once, in the order given, those without rows left out. Throws `InvalidInput` for a shard that does not exist.
 */
export function requestedShards(request: RouteRequest, shards: number): readonly RankedShard[] | undefined {
  const requested = request.shards
  if (requested === undefined) return undefined
  if (requested === "all") return allShards(request, shards)
  if (requested.length === 0) throw invalidInput('shards is an empty list; name one shard or more, or "all"')
  for (const shard of requested) {
    if (!Number.isInteger(shard) || shard < 0 || shard >= shards) {
      throw invalidInput(`shard ${shard} does not exist; this snapshot has shards 0 to ${shards - 1}`, {
        shard,
        shards,
      })
    }
  }
  return unranked([...new Set(requested)].filter((shard) => request.present(shard)))
}

/** All shards that hold rows, by number. */
export function allShards(request: RouteRequest, shards: number): readonly RankedShard[] {
  return unranked(presentShards(request, shards))
}

/** Numbers of the shards that hold rows, rising. */
export function presentShards(request: RouteRequest, shards: number): number[] {
  return Array.from({ length: shards }, (_, shard) => shard).filter((shard) => request.present(shard))
}

function unranked(shards: readonly number[]): readonly RankedShard[] {
  return shards.map((shard) => ({ shard, score: 0 }))
}

/**
 * How many shards to search: the request's number or else the strategy's, Infinity for "all".
 * Throws `InvalidInput` unless it is an integer of 1 or more.
 */
export function probeLimit(request: RouteRequest, defaultProbes: number): number {
  const probes = request.probes ?? defaultProbes
  if (probes === "all") return Number.POSITIVE_INFINITY
  if (!Number.isInteger(probes) || probes < 1) {
    throw invalidInput(`probes must be an integer of 1 or more, or "all"; got ${probes}`, { probes })
  }
  return probes
}

/** The request's vector. Throws `InvalidInput` if there is none, or one that cannot be compared. */
export function requestedVector(
  request: RouteRequest,
  strategy: string,
  context: StrategyContext,
): Float32Array {
  const { vector } = request
  if (vector === undefined) {
    throw invalidInput(
      `the ${strategy} strategy needs a query vector to choose shards, or shards named: a list or "all"`,
    )
  }
  const problem = vectorProblem(vector, context.dim, context.metric)
  if (problem !== undefined) throw invalidInput(`the query vector ${problem}`)
  return vector
}
