/**
 * The sample and train stages: from options to a strategy that can assign rows.
 */
import { invalidInput } from "../errors.js"
import { readArtifacts } from "../manifest/artifacts.js"
import { readLive } from "../manifest/current.js"
import type { RecordBatch } from "../records.js"
import { CENTROIDS_FILE } from "../sharding/cluster.js"
import type { ResolvedCluster } from "../sharding/options.js"
import { clusterFromCentroids } from "../sharding/strategies.js"
import type { Strategy, StrategyContext } from "../sharding/strategy.js"
import type { ObjectStore } from "../storage/store.js"
import { Reservoir } from "../vectors/random.js"

/** Reads the whole input and keeps a uniform sample of its vectors (reservoir sampling), the same for the same seed. */
export async function sampleVectors(
  batches: AsyncIterable<RecordBatch>,
  { sampleRows, seed }: ResolvedCluster,
  onRows: (rows: number) => void,
): Promise<{ readonly sample: Reservoir; readonly dim: number }> {
  let sampled: { readonly sample: Reservoir; readonly dim: number } | undefined
  for await (const { dim, vectors } of batches) {
    sampled ??= { sample: new Reservoir(sampleRows, dim, seed), dim }
    sampled.sample.add(vectors)
    onRows(sampled.sample.seen)
  }
  if (sampled === undefined) throw noRows()
  return sampled
}

export const noRows = (): Error => invalidInput("the input has no rows, so there is nothing to build")

/** A trained strategy with the centroids of a published snapshot, so that shards keep their meaning. */
export async function strategyFromSnapshot(
  store: ObjectStore,
  asked: ResolvedCluster,
  context: StrategyContext,
  signal: AbortSignal | undefined,
): Promise<Strategy> {
  const { manifest } = await readLive(store, { signal })
  const { schema, sharding } = manifest
  const facts: readonly (readonly [string, unknown, unknown])[] = [
    ["strategy", sharding.strategy, asked.strategy],
    ["shards", sharding.shards, asked.shards],
    ["dimension", schema.dim, context.dim],
    ["metric", schema.metric, context.metric],
  ]
  for (const [what, found, expected] of facts) {
    if (found === expected) continue
    throw invalidInput(`routingFrom ${store.url} has ${what} ${found}, but this build has ${expected}`, {
      what,
      found,
      expected,
    })
  }
  const artifacts = await readArtifacts(store, manifest, { signal })
  return clusterFromCentroids(asked, context, artifacts[CENTROIDS_FILE]!)
}
