/**
 * The `cluster` strategy: K centroids; records go to the nearest, queries to the nearest few.
 *
 * - `l2`: records and queries are compared with centroids by Euclidean distance.
 * - `cosine`: by angle alone, whatever the lengths.
 * - `dot`: records by angle, queries by inner product with centroids that are as long as their records reach.
 *   To assign records by inner product would send most of them to the longest centroids. Distance, the other
 *   candidate, puts the long vectors, which answer most queries, into many small shards: where lengths vary
 *   much, the largest of 64 shards then had 13 times the average (3 times by angle), and 8 probes found 0.46
 *   of the ten best (0.63 by angle). Where lengths vary little the two are alike.
 *
 * With a layout (`affinity`, `fast`) records and queries go by descriptors instead; see docs/layout.md.
 * Centroids are there then for `diff` and for builds that keep the routing of an older one.
 */

import { corrupt, invalidInput } from "../../errors.js"
import { bestPoints } from "../../vectors/kernel.js"
import type { AnyNpyArray, NpyArray } from "../../vectors/npy.js"
import { checkedArray, checkedArtifact } from "../artifacts.js"
import { namedShards, probeLimit, queryVector } from "../ranking.js"
import type { RoutingArtifacts, Strategy, StrategyContext, StrategyMaker } from "../strategy.js"
import type { ResolvedCluster } from "./options.js"
import { assignmentTable, rankCentroids, routingTable } from "./routing/centroids.js"
import { homesByScore } from "./routing/insert.js"
import {
  createDescriptorRouter,
  hasDescriptors,
  isUnlike,
  packRouting,
  ROUTING_FILES,
  type Routing,
  unpackRouting,
} from "./routing/routing.js"
import { probesFor, withoutAbsent } from "./routing/stopping.js"
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
 * A trained strategy from centroids that are at hand, `shards × dim`, so that nothing needs to be trained.
 * Throws `InvalidInput` if they have another shape or values that are not finite.
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
    assign: (batch) => homesByScore(prepareRows(preparation, batch.vectors.slice()), descriptors, beta),

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
