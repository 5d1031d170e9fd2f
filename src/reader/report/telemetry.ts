/**
 * What a reader tells of itself while it runs: spans and metrics through the OpenTelemetry API, which do
 * nothing unless the application has set up an SDK, and the same facts for other observers (see
 * prometheus.ts).
 *
 * Names and attributes are documented in docs/metrics.md. Attributes have few values: roots, outcomes, error
 * tags; never an id, a key or a query.
 */
import { type Attributes, type BatchObservableResult, metrics, type Span } from "@opentelemetry/api"
import { invalidInput } from "../../errors.js"
import { type FailureTag, inSpan, markFailed, SCOPE, tagOf, tracer } from "../../tracing.js"
import { VERSION } from "../../version.js"
import type { ObservedRecall, RefreshResult, SearchResult } from "../types.js"

/** Seconds; a search in memory takes a millisecond, one that downloads shards takes seconds. */
export const DURATION_BOUNDS = [
  0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30,
]
export const SHARD_BOUNDS = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512]

/** What a reader does for its caller, or by itself. */
export type Operation = "search" | "get" | "open" | "download" | "refresh"
/** Of a search: `partial` if a shard has failed and that was allowed. */
export type SearchOutcome = (typeof SEARCH_OUTCOMES)[number]
const SEARCH_OUTCOMES = ["complete", "partial", "failed"] as const
export type RefreshOutcome = "changed" | "unchanged" | "failed"

/** Is told what happens in a reader. Must not throw. */
export interface ReaderObserver {
  /**
   * A call of `search` or `searchMany` has ended; `shards` asked by each of its queries, none if it failed.
   */
  searched(seconds: number, outcome: SearchOutcome, shards: readonly number[]): void
  shardOpened(): void
  shardDownloaded(bytes: number): void
  refreshed(outcome: RefreshOutcome): void
  failed(operation: Operation, tag: FailureTag): void
}

/** What metrics tell of observed recall: the end of each name, its value, what it is. */
export const OBSERVED_GAUGES: readonly (readonly [string, (of: ObservedRecall) => number, string])[] = [
  ["", ({ recall }) => recall, "Recall of live queries that were asked again over all rows"],
  ["low", ({ low }) => low, "Lower end of the 95 % interval of observed recall"],
  ["high", ({ high }) => high, "Upper end of the 95 % interval of observed recall"],
  ["queries", ({ queries }) => queries, "Queries that observed recall is the mean of"],
]

/** What can be read of a reader at any time. */
export interface ReaderGauges {
  /** When the open snapshot was published; undefined while the first one is being opened. */
  readonly publishedAt: Date | undefined
  readonly openShards: number
  /** Searches of shards that wait for their turn. */
  readonly queueLength: number
  /** Share of the latest queries that are unlike the rows; undefined where nothing tells. */
  readonly unlikeShare: number | undefined
  /** Undefined before a query was asked again. */
  readonly observedRecall: ObservedRecall | undefined
}

/** Runs the operations of a reader, and tells about them. What an operation throws is thrown on. */
export interface Telemetry {
  search(work: () => Promise<readonly SearchResult[]>): Promise<readonly SearchResult[]>
  get<T>(work: () => Promise<T>): Promise<T>
  open<T>(shard: number, work: () => Promise<T>): Promise<T>
  download<T>(shard: number, bytes: number, work: () => Promise<T>): Promise<T>
  refresh(work: () => Promise<RefreshResult>): Promise<RefreshResult>
  /** Ends the observation of gauges. Idempotent. */
  close(): void
}

const observedReaders = new WeakMap<object, ObservedReader>()

/**
 * Telemetry of one reader. `root` is the store's URL, `gauges` is asked whenever metrics are collected.
 *
 * Instruments come from the meter provider that is registered now: an SDK must be set up before a reader is
 * opened.
 */
export function createTelemetry(reader: object, root: string, gauges: () => ReaderGauges): Telemetry {
  const otel = createOtelObserver(root, gauges)
  const observers = new Set<ReaderObserver>([otel])
  observedReaders.set(reader, {
    root,
    gauges,
    observe(observer) {
      observers.add(observer)
      return () => void observers.delete(observer)
    },
  })
  const tell = (inform: (observer: ReaderObserver) => void): void => {
    for (const observer of observers) inform(observer)
  }

  function run<T>(
    operation: Operation,
    attributes: Attributes,
    work: (span: Span) => Promise<T>,
  ): Promise<T> {
    return inSpan(operation, { "vecsnap.root": root, ...attributes }, async (span) => {
      try {
        return await work(span)
      } catch (error) {
        tell((observer) => observer.failed(operation, tagOf(error)))
        throw error
      }
    })
  }

  return {
    async search(work) {
      const startMs = performance.now()
      let results: readonly SearchResult[] | undefined
      try {
        results = await run("search", {}, async (span) => {
          const answer = await work()
          if (span.isRecording()) {
            span.setAttribute("vecsnap.queries", answer.length)
            const asked = new Set(answer.flatMap(({ shards }) => shards.asked))
            span.setAttribute("vecsnap.shards", asked.size)
          }
          return answer
        })
        return results
      } finally {
        const seconds = (performance.now() - startMs) / 1000
        const outcome = outcomeOf(results)
        const shards = results?.map(({ shards: { asked } }) => asked.length) ?? []
        tell((observer) => observer.searched(seconds, outcome, shards))
      }
    },
    get: (work) => run("get", {}, work),
    open: (shard, work) =>
      run("open", { "vecsnap.shard": shard }, async () => {
        const result = await work()
        tell((observer) => observer.shardOpened())
        return result
      }),
    download: (shard, bytes, work) =>
      run("download", { "vecsnap.shard": shard, "vecsnap.bytes": bytes }, async () => {
        const result = await work()
        tell((observer) => observer.shardDownloaded(bytes))
        return result
      }),
    async refresh(work) {
      let outcome: RefreshOutcome = "failed"
      try {
        const result = await run("refresh", {}, work)
        outcome = result.changed ? "changed" : "unchanged"
        return result
      } finally {
        tell((observer) => observer.refreshed(outcome))
      }
    },
    close() {
      otel.stop()
      observedReaders.delete(reader)
    },
  }
}

/** Traces the choice of shards, inside a search; pure work, so without metrics of its own. */
export const traceRoute = <T>(work: () => T): T =>
  tracer().startActiveSpan("vecsnap.route", (span) => {
    try {
      return work()
    } catch (error) {
      markFailed(span, error)
      throw error
    } finally {
      span.end()
    }
  })

/** A reader that is observed. */
export interface ObservedReader {
  /** The store's URL. */
  readonly root: string
  gauges(): ReaderGauges
  /** Tells `observer` what happens from now on, until the function that is returned is called. */
  observe(observer: ReaderObserver): () => void
}

/** Throws `InvalidInput` for anything that is not an open reader of this installation of vecsnap. */
export function observedReader(reader: object): ObservedReader {
  const found = observedReaders.get(reader)
  if (found === undefined) {
    throw invalidInput("only an open reader, as openSnapshot returns it, can be observed; got something else")
  }
  return found
}

function createOtelObserver(
  root: string,
  gauges: () => ReaderGauges,
): ReaderObserver & { readonly stop: () => void } {
  const meter = metrics.getMeter(SCOPE, VERSION)
  const ofRoot: Attributes = { "vecsnap.root": root }
  const histogram = (name: string, unit: string, bounds: number[], description: string) =>
    meter.createHistogram(name, { description, unit, advice: { explicitBucketBoundaries: bounds } })
  const counter = (name: string, unit: string, description: string) =>
    meter.createCounter(name, { description, unit })
  const gauge = (name: string, unit: string, description: string) =>
    meter.createObservableGauge(name, { description, unit })
  const duration = histogram(
    "vecsnap.search.duration",
    "s",
    DURATION_BOUNDS,
    "Duration of searches, by outcome",
  )
  const searchShards = histogram("vecsnap.search.shards", "{shard}", SHARD_BOUNDS, "Shards asked per query")
  const opens = counter("vecsnap.shard.opens", "{shard}", "Shards opened")
  const downloads = counter("vecsnap.shard.downloads", "{shard}", "Shards downloaded")
  const downloadBytes = counter("vecsnap.shard.download.bytes", "By", "Bytes of shards downloaded")
  const refreshes = counter("vecsnap.refreshes", "{refresh}", "Refreshes, by outcome")
  const errors = counter("vecsnap.errors", "{error}", "Errors, by operation and tag")
  const age = gauge("vecsnap.snapshot.age", "s", "Time since the live snapshot was published")
  const openShards = gauge("vecsnap.open_shards", "{shard}", "Shards that are open")
  const queueLength = gauge("vecsnap.queue.length", "{search}", "Searches of shards that wait for their turn")
  const unlikeShare = gauge(
    "vecsnap.search.unlike_share",
    "1",
    "Share of the latest queries that are unlike the rows",
  )
  const ofObserved = OBSERVED_GAUGES.map(([name, read, description]) => ({
    gauge: gauge(`vecsnap.observed_recall${name && `.${name}`}`, "1", description),
    read,
  }))
  const observables = [age, openShards, queueLength, unlikeShare, ...ofObserved.map((one) => one.gauge)]
  const observe = (result: BatchObservableResult): void => {
    const now = gauges()
    if (now.publishedAt !== undefined) result.observe(age, ageSeconds(now.publishedAt), ofRoot)
    result.observe(openShards, now.openShards, ofRoot)
    result.observe(queueLength, now.queueLength, ofRoot)
    if (now.unlikeShare !== undefined) result.observe(unlikeShare, now.unlikeShare, ofRoot)
    if (now.observedRecall !== undefined)
      for (const { gauge, read } of ofObserved) result.observe(gauge, read(now.observedRecall), ofRoot)
  }
  meter.addBatchObservableCallback(observe, observables)

  const ofOutcome = new Map(
    SEARCH_OUTCOMES.map((outcome): [SearchOutcome, Attributes] => [
      outcome,
      { ...ofRoot, "vecsnap.outcome": outcome },
    ]),
  )

  return {
    searched(seconds, outcome, shards) {
      duration.record(seconds, ofOutcome.get(outcome))
      for (const count of shards) searchShards.record(count, ofRoot)
    },
    shardOpened: () => opens.add(1, ofRoot),
    shardDownloaded(bytes) {
      downloads.add(1, ofRoot)
      downloadBytes.add(bytes, ofRoot)
    },
    refreshed: (outcome) => refreshes.add(1, { ...ofRoot, "vecsnap.outcome": outcome }),
    failed: (operation, tag) =>
      errors.add(1, { ...ofRoot, "vecsnap.operation": operation, "error.type": tag }),
    stop: () => meter.removeBatchObservableCallback(observe, observables),
  }
}

/** Seconds since a snapshot was published. */
export const ageSeconds = (publishedAt: Date): number => (Date.now() - publishedAt.getTime()) / 1000

function outcomeOf(results: readonly SearchResult[] | undefined): SearchOutcome {
  if (results === undefined) return "failed"
  return results.every(({ complete }) => complete) ? "complete" : "partial"
}
