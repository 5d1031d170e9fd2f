/**
 * A strategy that is trained and not one of vecsnap's, to show that it takes no more than another: one file,
 * and one line that registers it. Its training takes the first rows of the sample as pivots; rows and queries
 * go to the nearest ones.
 */
import { checkedArtifact } from "../../src/sharding/artifacts.js"
import { PROBES, resolveTable, SEED, SHARDS } from "../../src/sharding/options.js"
import { namedShards, presentShards, probeLimit, queryVector } from "../../src/sharding/ranking.js"
import type { Strategy, StrategyContext, StrategyType, TrainedOptions } from "../../src/sharding/strategy.js"
import { distance } from "../../src/vectors/distance.js"
import type { NpyArray } from "../../src/vectors/npy.js"

export interface PivotOptions {
  readonly strategy: "pivots"
  readonly shards: number
  readonly probes?: number
  readonly seed?: number
}

type ResolvedPivots = TrainedOptions<"pivots"> & { readonly probes: number }

const OPTIONS = { shards: SHARDS, probes: PROBES, seed: SEED }
const FILE = "pivots.npy"

export const pivots: StrategyType<"pivots", PivotOptions, ResolvedPivots> = {
  name: "pivots",
  queriesBy: "vector",
  trained: true,
  options: OPTIONS,
  resolve(options) {
    const resolved = resolveTable(OPTIONS, { ...options })
    return Object.freeze({ strategy: "pivots", ...resolved, sampleRows: 16 * resolved.shards })
  },
  load: async () => {
    const restore = (
      resolved: ResolvedPivots,
      context: StrategyContext,
      artifacts: ReturnType<Strategy["artifacts"]>,
    ) => create(resolved, context, checkedArtifact(artifacts, FILE, [resolved.shards, context.dim]))
    return {
      create(resolved, context, training) {
        const data = training!.sample.slice(0, resolved.shards * context.dim)
        return create(resolved, context, { shape: [resolved.shards, context.dim], data })
      },
      restore,
      adopt: restore,
    }
  },
}

function create(
  { shards, probes, seed }: ResolvedPivots,
  context: StrategyContext,
  stored: NpyArray,
): Strategy {
  const { dim, metric } = context
  const points = Array.from({ length: shards }, (_, shard) =>
    Float32Array.from(stored.data.subarray(shard * dim, (shard + 1) * dim)),
  )
  const rankedFor = (vector: Float32Array, among: readonly number[]) =>
    among
      .map((shard) => ({ shard, score: distance(metric, vector, points[shard]!) }))
      .sort((a, b) => a.score - b.score || a.shard - b.shard)
  const all = [...points.keys()]
  return Object.freeze<Strategy>({
    name: pivots.name,
    shards,
    measured: false,

    assign: ({ rows, vectors }) =>
      Int32Array.from(
        { length: rows },
        (_, row) => rankedFor(vectors.slice(row * dim, (row + 1) * dim), all)[0]!.shard,
      ),

    rank(selection, present) {
      if (selection.shards !== undefined) return { shards: namedShards(selection.shards, shards, present) }
      const ranked = rankedFor(queryVector(selection, pivots.name, context), presentShards(shards, present))
      return { shards: ranked.slice(0, probeLimit(selection, probes)) }
    },

    describe: () => ({ strategy: pivots.name, shards, options: { probes, seed } }),
    artifacts: () => ({ [FILE]: stored }),
  })
}
