/**
 * The sample and train stages: from options to a strategy that can assign rows.
 */
import { invalidInput } from "../errors.js"
import { readArtifacts } from "../manifest/artifacts.js"
import { readLive } from "../manifest/current.js"
import type { RecordBatch } from "../records.js"
import { type ResolvedSharding, restoreStrategy } from "../sharding/strategies.js"
import type { Strategy, StrategyContext } from "../sharding/strategy.js"
import type { ObjectStore } from "../storage/store.js"
import { Reservoir } from "../vectors/random.js"

/** Reads the whole input and keeps a uniform sample of its vectors (reservoir sampling), the same for the same seed. */
export async function sampleVectors(
  batches: AsyncIterable<RecordBatch>,
  { sampleRows, seed }: { readonly sampleRows: number; readonly seed: number },
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

/** Takes the routing of a published snapshot, so that no training is needed and shards keep their meaning. */
export async function strategyFromSnapshot(
  store: ObjectStore,
  asked: ResolvedSharding,
  context: StrategyContext,
  signal: AbortSignal | undefined,
): Promise<Strategy> {
  const { manifest } = await readLive(store, { signal })
  const { schema, sharding } = manifest
  const differs = (what: string, found: unknown, expected: unknown): Error =>
    invalidInput(`routingFrom ${store.url} has ${what} ${found}, but this build has ${expected}`, { what, found, expected })
  if (sharding.strategy !== asked.strategy) throw differs("strategy", sharding.strategy, asked.strategy)
  if (sharding.shards !== asked.shards) throw differs("shards", sharding.shards, asked.shards)
  if (schema.dim !== context.dim) throw differs("dimension", schema.dim, context.dim)
  if (schema.metric !== context.metric) throw differs("metric", schema.metric, context.metric)
  return restoreStrategy(sharding, await readArtifacts(store, manifest, { signal }), context)
}
