/** A build's job: what it was asked for and what it works with, and the rows and queries that it reads. */
import { invalidInput } from "../errors.js"
import type { HoldOut } from "../recall/hold-out.js"
import { readQueries, type SplitQueries, splitQueries } from "../recall/queries.js"
import { type RecordBatch, rowPlace, type VectorRecord } from "../records.js"
import type { ResolvedSharding } from "../sharding/registry.js"
import type { StrategyContext } from "../sharding/strategy.js"
import type { Source } from "../sources/source.js"
import type { ObjectStore } from "../storage/store.js"
import type { Metric } from "../vectors/metric.js"
import { findBadRows } from "../vectors/validate.js"
import type { ActiveRun } from "./active-run.js"
import type { ResolvedWriterOptions } from "./options.js"
import type { BadRows } from "./rows/bad-rows.js"
import { takeRows } from "./rows/batches.js"
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

/** No row is held out where real queries are given, or no certificate is wanted. */
export const holdOutOf = ({ options, sharding }: Job): HoldOut => ({
  wanted: options.queries === undefined ? options.certificateRows : 0,
  seed: seedOf(sharding),
})

export const seedOf = (sharding: ResolvedSharding): number => ("seed" in sharding ? sharding.seed : 1)

export const contextOf = ({ source, options }: Job, dim: number): StrategyContext => ({
  dim,
  metric: options.metric,
  fields: source.fields,
})

/** The rows of a source that can be stored under the metric; the others are reported as bad. */
export async function* validRows(
  source: Source,
  metric: Metric,
  badRows: BadRows,
  signal: AbortSignal | undefined,
): AsyncGenerator<RecordBatch> {
  for await (const batch of source.read({ signal, onBadRow: badRows.report })) {
    const bad = findBadRows(batch.vectors, batch.dim, metric)
    for (const { row, problem } of bad) {
      const { file, rows } = batch.origin
      badRows.report(
        invalidInput(`${rowPlace(batch.origin, row)}: the vector ${problem}`, { file, row: rows[row] }),
      )
    }
    if (bad.length === 0) yield batch
    else if (bad.length < batch.rows) {
      const left = new Set(bad.map(({ row }) => row))
      yield takeRows(
        batch,
        [...Array(batch.rows).keys()].filter((row) => !left.has(row)),
      )
    }
  }
}

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

export const noRows = (): Error => invalidInput("the input has no rows, so there is nothing to build")

/** A copy in memory that threads share. */
export function inSharedMemory(values: Float32Array): Float32Array {
  const shared = new Float32Array(new SharedArrayBuffer(values.byteLength))
  shared.set(values)
  return shared
}
