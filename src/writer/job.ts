/** A build's job: what it was asked for and what it works with, and the queries that it is given. */
import { readQueries, type SplitQueries, splitQueries } from "../recall/queries.js"
import type { VectorRecord } from "../records.js"
import type { ResolvedSharding } from "../sharding/registry.js"
import type { StrategyContext } from "../sharding/strategy.js"
import type { Source } from "../sources/source.js"
import type { ObjectStore } from "../storage/store.js"
import type { ActiveRun } from "./active-run.js"
import type { ResolvedWriterOptions } from "./options.js"
import type { Scratch } from "./scratch.js"
import type { StageClock } from "./stages.js"

/** What a build reads: a source made by `openSource`, or records in memory or from anywhere. */
export type BuildInput = Source | Iterable<VectorRecord> | AsyncIterable<VectorRecord>

/** A build whose options are checked. */
export interface BuildPlan {
  readonly source: Source
  readonly options: ResolvedWriterOptions
  readonly sharding: ResolvedSharding
}

export interface BuildContext {
  readonly store: ObjectStore
  readonly run: Pick<ActiveRun, "run" | "startedAt" | "base" | "note" | "renew">
  readonly clock: StageClock
  /** Ends the build with whatever is the signal's reason. */
  readonly signal: AbortSignal
}

export interface Job extends BuildPlan, BuildContext {
  /** Of this run alone. */
  readonly scratch: Scratch
}

export const seedOf = (sharding: ResolvedSharding): number => ("seed" in sharding ? sharding.seed : 1)

export const contextOf = ({ source, options }: Job, dim: number): StrategyContext => ({
  dim,
  metric: options.metric,
  fields: source.fields,
})

/** Given queries, read and split; undefined if none are given. `hasDemand`: half of them may ask for copies. */
export async function splitGivenQueries(
  { options, sharding, signal }: Job,
  dim: number,
  hasDemand: boolean,
): Promise<SplitQueries | undefined> {
  const { queries, metric } = options
  if (queries === undefined) return undefined
  return splitQueries(await readQueries(queries, { dim, metric }, signal), dim, seedOf(sharding), hasDemand)
}

/** A copy in memory that threads share. */
export function inSharedMemory(values: Float32Array): Float32Array {
  const shared = new Float32Array(new SharedArrayBuffer(values.byteLength))
  shared.set(values)
  return shared
}
