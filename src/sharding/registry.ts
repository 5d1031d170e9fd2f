/**
 * Making strategies: from options, where a snapshot is built; from a manifest and its artifacts, where one is opened.
 */
import { corrupt, invalidInput } from "../errors.js"
import { type AnyNpyArray, hasFloats, type NpyArray } from "../vectors/npy.js"
import { createCel } from "./cel/strategy.js"
import { type TrainingProgress, trainCentroids } from "./cluster/layout/kmeans.js"
import { hasDescriptors, ROUTING_FILES, type Routing, unpackRouting } from "./cluster/routing/routing.js"
import { CENTROIDS_FILE, createCluster } from "./cluster/strategy.js"
import { createExplicit } from "./explicit.js"
import { createLsh, drawHyperplanes, HYPERPLANES_FILE } from "./lsh.js"
import { asCorrupt, type ResolvedCluster, type ResolvedSharding, resolveDescription } from "./options.js"
import type { ShardingDescription, Strategy, StrategyContext } from "./strategy.js"

export { type ResolvedSharding, resolveSharding } from "./options.js"

/** Whether a strategy must see a sample of `resolved.sampleRows` rows before it can assign any. */
export function needsTraining(resolved: ResolvedSharding): resolved is ResolvedCluster {
  return resolved.strategy === "cluster"
}

/** A strategy that needs no training. Throws `InvalidInput` if it does not suit the declared fields. */
export function createStrategy(
  resolved: Exclude<ResolvedSharding, ResolvedCluster>,
  context: StrategyContext,
): Strategy {
  switch (resolved.strategy) {
    case "lsh":
      return createLsh(resolved, context, drawHyperplanes(resolved.bits, context.dim, resolved.seed))
    case "explicit":
      return createExplicit(resolved)
    case "cel":
      return createCel(resolved, context)
  }
}

/**
 * Trains a strategy on a uniform sample of the rows, row-major. Takes seconds to minutes of this thread; `onIteration`
 * is told after every round. Throws `InvalidInput` if the sample has fewer rows than there are shards.
 */
export function trainStrategy(
  resolved: ResolvedCluster,
  context: StrategyContext,
  sample: Float32Array,
  onIteration?: (progress: TrainingProgress) => void,
): Strategy {
  const { dim, metric } = context
  const { shards, iterations, seed } = resolved
  const trained = trainCentroids(sample, { metric, dim, clusters: shards, iterations, seed, onIteration })
  return createCluster(resolved, context, { shape: [shards, dim], data: trained.centroids })
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

/**
 * The strategy that a manifest describes. Its `artifacts()` are the arrays given, by file name. Throws `Corrupt` if
 * options or artifacts are missing or do not fit the snapshot.
 */
export function restoreStrategy(
  description: ShardingDescription,
  artifacts: Readonly<Record<string, AnyNpyArray>>,
  context: StrategyContext,
): Strategy {
  const resolved = resolveDescription(description)
  const { shards } = resolved
  const { dim } = context
  switch (resolved.strategy) {
    case "cluster":
      return createCluster(
        resolved,
        context,
        checkedArtifact(artifacts, CENTROIDS_FILE, [shards, dim]),
        restoreRouting(resolved, artifacts, context),
      )
    case "lsh":
      return createLsh(resolved, context, checkedArtifact(artifacts, HYPERPLANES_FILE, [resolved.bits, dim]))
    case "explicit":
      return createExplicit(resolved)
    case "cel":
      return asCorrupt("the manifest's sharding", () => createCel(resolved, context))
  }
}

function checkedArtifact(
  artifacts: Readonly<Record<string, AnyNpyArray>>,
  name: string,
  shape: readonly number[],
): NpyArray {
  const array = artifacts[name]
  if (array === undefined) throw corrupt(`the routing artifact ${name} is missing`, { artifact: name })
  return checkedArray(array, shape, (problem) =>
    corrupt(`the routing artifact ${name} has ${problem}`, { artifact: name }),
  )
}

function restoreRouting(
  { layout, shards }: ResolvedCluster,
  artifacts: Readonly<Record<string, AnyNpyArray>>,
  { metric, dim }: StrategyContext,
): Routing | undefined {
  if (hasDescriptors(artifacts)) return unpackRouting(artifacts, { metric, dim, shards })
  if (layout === "plain") return undefined
  const artifact = ROUTING_FILES.descriptors
  throw corrupt(`the routing artifact ${artifact} of the layout ${layout} is missing`, { artifact })
}

/** Finite floating-point numbers of a shape. What is not so is told in words that follow "has". */
function checkedArray(
  array: AnyNpyArray,
  shape: readonly number[],
  error: (problem: string) => Error,
): NpyArray {
  if (!hasFloats(array)) throw error("integers, expected floating-point numbers")
  const problem = arrayProblem(array, shape)
  if (problem !== undefined) throw error(problem)
  return array
}

function arrayProblem(array: NpyArray, shape: readonly number[]): string | undefined {
  if (array.shape.length !== shape.length || shape.some((length, axis) => array.shape[axis] !== length)) {
    return `shape (${array.shape.join(", ")}), expected (${shape.join(", ")})`
  }
  const bad = array.data.findIndex((value) => !Number.isFinite(value))
  return bad < 0 ? undefined : `${array.data[bad]} at position ${bad}, expected finite values`
}
