/**
 * The `cluster` strategy: K centroids; records go to the nearest, queries to the nearest few.
 *
 * - `l2`: records and queries are compared with centroids by Euclidean distance.
 * - `cosine`: by angle alone, whatever the lengths.
 * - `dot`: records by angle, queries by inner product with centroids that are as long as their records reach. To assign
 *   records by inner product would send most of them to the longest centroids. Distance, the other candidate, puts the
 *   long vectors, which answer most queries, into many small shards: where lengths vary much, the largest of 64 shards
 *   then had 13 times the average (3 times by angle), and 8 probes found 0.46 of the ten best (0.63 by angle). Where
 *   lengths vary little the two are alike.
 *
 * With a layout (`affinity`, `fast`) records and queries go by descriptors instead; see docs/layout.md. Centroids are
 * there then for `diff` and for builds that keep the routing of an older one.
 */

import { corrupt, invalidInput } from "../../errors.js"
import { bestPoints, createPointTable, type PointTable, pointScores } from "../../vectors/kernel.js"
import type { Metric } from "../../vectors/metric.js"
import type { AnyNpyArray, NpyArray } from "../../vectors/npy.js"
import { checkedArray, checkedArtifact } from "../artifacts.js"
import { namedShards, probeLimit, queryVector } from "../ranking.js"
import type {
  Present,
  RankedShard,
  RoutingArtifacts,
  Strategy,
  StrategyContext,
  StrategyMaker,
} from "../strategy.js"
import type { ResolvedCluster } from "./options.js"
import { homesOf } from "./routing/insert.js"
import {
  createDescriptorRouter,
  hasDescriptors,
  isUnlike,
  packRouting,
  ROUTING_FILES,
  type Routing,
  unpackRouting,
} from "./routing/routing.js"
import { probesFor, type RankedQuery } from "./routing/stopping.js"
import { prepareRows } from "./space/space.js"

export const CENTROIDS_FILE = "centroids.npy"

export const clusterMaker: StrategyMaker<ResolvedCluster> = {
  async create(resolved, context, training) {
    // Who only reads snapshots need not load what trains.
    const { trainCentroids } = await import("./layout/kmeans.js")
    const { dim, metric } = context
    const { shards, iterations, seed } = resolved
    const { sample, onIteration: told } = training!
    const onIteration =
      told && (({ iteration }: { iteration: number }) => told({ iteration, of: iterations }))
    const trained = trainCentroids(sample, { metric, dim, clusters: shards, iterations, seed, onIteration })
    return createCluster(resolved, context, { shape: [shards, dim], data: trained.centroids })
  },

  restore(resolved, context, artifacts) {
    const centroids = checkedArtifact(artifacts, CENTROIDS_FILE, [resolved.shards, context.dim])
    return createCluster(resolved, context, centroids, restoreRouting(resolved, artifacts, context))
  },

  adopt: (resolved, context, artifacts) =>
    clusterFromCentroids(resolved, context, artifacts[CENTROIDS_FILE]!),
}

function restoreRouting(
  { layout, shards }: ResolvedCluster,
  artifacts: RoutingArtifacts,
  { metric, dim }: StrategyContext,
): Routing | undefined {
  if (hasDescriptors(artifacts)) return unpackRouting(artifacts, { metric, dim, shards })
  if (layout === "plain") return undefined
  const artifact = ROUTING_FILES.descriptors
  throw corrupt(`the routing artifact ${artifact} of the layout ${layout} is missing`, { artifact })
}

/**
 * A trained strategy from centroids that are at hand, `shards × dim`, so that nothing needs to be trained. Throws
 * `InvalidInput` if they have another shape or values that are not finite.
 */
export function clusterFromCentroids(
  resolved: ResolvedCluster,
  context: StrategyContext,
  centroids: AnyNpyArray,
): Strategy {
  const checked = checkedArray(centroids, [resolved.shards, context.dim], (problem) =>
    invalidInput(`the array of given centroids has ${problem}`),
  )
  return createCluster(resolved, context, checked)
}

/** Compares records with centroids, to assign them. */
export function assignmentTable(metric: Metric, centroids: NpyArray["data"], dim: number): PointTable {
  return routingTable(metric === "dot" ? "cosine" : metric, centroids, dim)
}

/** Compares queries with centroids, to rank them. */
export function routingTable(metric: Metric, centroids: NpyArray["data"], dim: number): PointTable {
  const squaredNorm = (point: number): number => {
    let sum = 0
    for (let i = point * dim; i < (point + 1) * dim; i++) sum += centroids[i]! * centroids[i]!
    return sum
  }
  const zero = () => 0
  switch (metric) {
    case "l2": // the squared distance, less the squared length of the query
      return createPointTable(centroids, dim, squaredNorm, () => 2)
    case "cosine": // -cos times the length of the query; 0 for a centroid that is zero
      return createPointTable(centroids, dim, zero, (point) => 1 / Math.sqrt(squaredNorm(point) || Infinity))
    case "dot":
      return createPointTable(centroids, dim, zero, () => 1)
  }
}

/** All centroids with their scores, best first; of equal ones the one with the lower number first. */
export function rankCentroids(table: PointTable, query: ArrayLike<number>): RankedShard[] {
  return Array.from(pointScores(query, table), (score, shard) => ({ shard, score })).sort(
    (a, b) => a.score - b.score || a.shard - b.shard,
  )
}

/** `centroids`: `shards × dim`; `routing`: what a layout has made, where there is one. */
export function createCluster(
  resolved: ResolvedCluster,
  context: StrategyContext,
  centroids: NpyArray,
  routing?: Routing,
): Strategy {
  const { shards } = resolved
  return Object.freeze<Strategy>({
    name: "cluster",
    shards,
    ...(routing === undefined
      ? byCentroids(resolved, context, centroids)
      : byDescriptors(resolved, context, routing)),

    describe: () => ({
      strategy: "cluster",
      shards,
      options: {
        probes: resolved.probes,
        sampleRows: resolved.sampleRows,
        iterations: resolved.iterations,
        seed: resolved.seed,
        ...(routing && { layout: resolved.layout, replication: resolved.replication }),
      },
    }),
    artifacts: () => ({ [CENTROIDS_FILE]: centroids, ...(routing && packRouting(routing)) }),
  })
}

type Routes = Pick<Strategy, "measured" | "assign" | "rank">

function byCentroids(
  { shards, probes }: ResolvedCluster,
  context: StrategyContext,
  { data }: NpyArray,
): Routes {
  const { metric, dim } = context
  const assignment = assignmentTable(metric, data, dim)
  const table = routingTable(metric, data, dim)
  return {
    measured: false,
    assign: (batch) => bestPoints(batch.vectors, assignment),

    rank(selection, present) {
      if (selection.shards !== undefined) return { shards: namedShards(selection.shards, shards, present) }
      const vector = queryVector(selection, "cluster", context)
      const limit = probeLimit(selection, probes)
      const ranked = rankCentroids(table, vector).filter(({ shard }) => present(shard))
      return { shards: ranked.slice(0, limit) }
    },
  }
}

function byDescriptors(
  { shards, probes }: ResolvedCluster,
  context: StrategyContext,
  routing: Routing,
): Routes {
  const { preparation, descriptors, beta, stopping } = routing
  const router = createDescriptorRouter(routing)

  return {
    measured: true,
    assign: (batch) => homesOf(prepareRows(preparation, batch.vectors.slice()), descriptors, beta),

    rank(selection, present) {
      if (selection.shards !== undefined) return { shards: namedShards(selection.shards, shards, present) }
      const { targetRecall } = selection
      const vector = queryVector(selection, "cluster", context)
      const limit = targetRecall === undefined ? probeLimit(selection, probes) : Infinity
      const ranked = withoutAbsent(router.route(vector), present)
      const stop = targetRecall === undefined ? undefined : probesFor(stopping, ranked, targetRecall)
      const count = Math.min(ranked.shards.length, stop?.probes ?? limit)
      return {
        shards: Array.from({ length: count }, (_, rank) => ({
          shard: ranked.shards[rank]!,
          score: 0 - ranked.scores[rank]!,
        })),
        // A mean of sums in float32 may be 1 and a little.
        ...(stop && { expectedRecall: Math.min(1, stop.expectedRecall) }),
        ...(Number.isFinite(stopping.unlikeBelow) && { unlike: isUnlike(routing, ranked) }),
        probesFor: (target) => probesFor(stopping, ranked, target).probes,
      }
    },
  }
}

/** Before probes are counted: a shard without rows gains nothing. */
export function withoutAbsent(query: RankedQuery, present: Present): RankedQuery {
  const ranks = [...query.shards.keys()].filter((rank) => present(query.shards[rank]!))
  if (ranks.length === query.shards.length) return query
  return {
    shards: Uint16Array.from(ranks, (rank) => query.shards[rank]!),
    scores: Float32Array.from(ranks, (rank) => query.scores[rank]!),
    familiarity: query.familiarity,
  }
}
