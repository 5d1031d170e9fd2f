/** A build's job: what it was asked for, and what it works with. */

import type { Manifest } from "../manifest/manifest.js"
import type { VectorRecord } from "../records.js"
import type { ResolvedSharding } from "../sharding/registry.js"
import type { StrategyContext } from "../sharding/strategy.js"
import type { SigningKey } from "../snapshot/signatures/keys.js"
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
  /** Whose shards may be reused: "nothing", or a snapshot; default: what was live when the run started. */
  readonly reuseFrom?: Pick<Manifest, "shards" | "codes" | "schema"> | "nothing" | undefined
  /** Sign the manifest; none sign nothing. */
  readonly signingKeys?: readonly SigningKey[] | undefined
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
