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

import { bestPoints, createPointTable, type PointTable, pointScores } from "../../vectors/kernel.js"
import type { Metric } from "../../vectors/metric.js"
import type { NpyArray } from "../../vectors/npy.js"
import type { ResolvedCluster } from "../options.js"
import { probeLimit, requestedShards, requestedVector } from "../route.js"
import type { InformedRoute, RankedShard, RouteRequest, Strategy, StrategyContext } from "../strategy.js"
import { homesOf } from "./routing/insert.js"
import { createDescriptorRouter, isUnlike, packRouting, type Routing } from "./routing/routing.js"
import { probesFor, type RankedQuery } from "./routing/stopping.js"
import { prepareRows } from "./space/space.js"

export const CENTROIDS_FILE = "centroids.npy"

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

type Routes = Pick<Strategy, "assign" | "route" | "routeInformed">

function byCentroids(
  { shards, probes }: ResolvedCluster,
  context: StrategyContext,
  { data }: NpyArray,
): Routes {
  const { metric, dim } = context
  const assignment = assignmentTable(metric, data, dim)
  const table = routingTable(metric, data, dim)
  return {
    assign: (batch) => bestPoints(batch.vectors, assignment),

    route(request) {
      const requested = requestedShards(request, shards)
      if (requested !== undefined) return requested
      const vector = requestedVector(request, "cluster", context)
      return rankCentroids(table, vector)
        .filter(({ shard }) => request.present(shard))
        .slice(0, probeLimit(request, probes))
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

  function routeInformed(request: RouteRequest): InformedRoute {
    const requested = requestedShards(request, shards)
    if (requested !== undefined) return { shards: requested }
    const { targetRecall } = request
    const vector = requestedVector(request, "cluster", context)
    const limit = targetRecall === undefined ? probeLimit(request, probes) : Infinity
    const ranked = withoutAbsent(router.route(vector), request)
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
  }

  return {
    assign: (batch) => homesOf(prepareRows(preparation, batch.vectors.slice()), descriptors, beta),
    route: (request) => routeInformed(request).shards,
    routeInformed,
  }
}

/** Before probes are counted: a shard without rows gains nothing. */
export function withoutAbsent(query: RankedQuery, { present }: Pick<RouteRequest, "present">): RankedQuery {
  const ranks = [...query.shards.keys()].filter((rank) => present(query.shards[rank]!))
  if (ranks.length === query.shards.length) return query
  return {
    shards: Uint16Array.from(ranks, (rank) => query.shards[rank]!),
    scores: Float32Array.from(ranks, (rank) => query.scores[rank]!),
    familiarity: query.familiarity,
  }
}
