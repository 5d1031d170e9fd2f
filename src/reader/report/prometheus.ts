/**
 * The metrics of readers for `prom-client`, which stays optional: it is passed in, never imported. Imported
 * as `vecsnap/prometheus`. Names are documented in docs/metrics.md.
 *
 * ```ts
 * import * as prometheus from "prom-client"
 * import { registerMetrics } from "vecsnap/prometheus"
 *
 * registerMetrics(reader, prometheus)
 * ```
 */
import type { Reader } from "../types.js"
import {
  ageSeconds,
  DURATION_BOUNDS,
  OBSERVED_GAUGES,
  type ObservedReader,
  observedReader,
  type ReaderGauges,
  type ReaderObserver,
  SHARD_BOUNDS,
} from "./telemetry.js"

/**
 * The parts of the `prom-client` module that are used, from version 14 on. `Registry` is its own type for
 * registries.
 */
export interface PromClient<Registry extends object> {
  readonly register: Registry
  readonly Counter: new (
    configuration: MetricConfiguration<Registry>,
  ) => { inc(labels: Labels, value: number): void }
  readonly Histogram: new (
    configuration: MetricConfiguration<Registry> & { buckets: number[] },
  ) => { observe(labels: Labels, value: number): void }
  readonly Gauge: new (
    configuration: MetricConfiguration<Registry> & { collect: () => void },
  ) => { set(labels: Labels, value: number): void; reset(): void }
}

interface MetricConfiguration<Registry> {
  name: string
  help: string
  labelNames: string[]
  registers: Registry[]
}

type Labels = Record<string, string>

/** What was made in a registry, for all readers that are registered there. */
interface Metrics {
  /** Readers whose gauges are read when the registry is. */
  readonly readers: Set<ObservedReader>
  observerOf(root: string): ReaderObserver
}

const metricsOf = new WeakMap<object, Metrics>()

/**
 * Adds the metrics of `reader` to a registry of `prom-client`, by default the global one; several readers may
 * share it, and are told apart by the label `root`. Counts start at zero with this call. Returns what ends
 * it; the counts stay in the registry.
 *
 * Throws `InvalidInput` if the reader is closed, or wrapped in something else.
 */
export function registerMetrics<Registry extends object>(
  reader: Pick<Reader, "search">,
  client: PromClient<Registry>,
  registry: Registry = client.register,
): () => void {
  const observed = observedReader(reader)
  let metrics = metricsOf.get(registry)
  if (metrics === undefined) {
    metrics = createMetrics(client, registry)
    metricsOf.set(registry, metrics)
  }
  const { readers, observerOf } = metrics
  const stop = observed.observe(observerOf(observed.root))
  readers.add(observed)
  return () => {
    stop()
    readers.delete(observed)
  }
}

function createMetrics<Registry extends object>(client: PromClient<Registry>, registry: Registry): Metrics {
  const readers = new Set<ObservedReader>()
  const describe = (name: string, help: string, ...labelNames: string[]): MetricConfiguration<Registry> => ({
    name: `vecsnap_${name}`,
    help,
    labelNames: ["root", ...labelNames],
    registers: [registry],
  })
  const counter = (...args: Parameters<typeof describe>) => new client.Counter(describe(...args))
  const gauge = (name: string, help: string, read: (of: ReaderGauges) => number | undefined): void => {
    const created = new client.Gauge({
      ...describe(name, help),
      collect: () => {
        // Afresh each time, so that a reader that is closed leaves no value behind.
        created.reset()
        for (const { root, gauges } of readers) {
          const value = read(gauges())
          if (value !== undefined) created.set({ root }, value)
        }
      },
    })
  }

  const durations = new client.Histogram({
    ...describe("search_duration_seconds", "Duration of searches, by outcome", "outcome"),
    buckets: [...DURATION_BOUNDS],
  })
  const searchShards = new client.Histogram({
    ...describe("search_shards", "Shards asked per query"),
    buckets: [...SHARD_BOUNDS],
  })
  const opens = counter("shard_opens_total", "Shards opened")
  const downloads = counter("shard_downloads_total", "Shards downloaded")
  const downloadBytes = counter("shard_download_bytes_total", "Bytes of shards downloaded")
  const refreshes = counter("refreshes_total", "Refreshes, by outcome", "outcome")
  const errors = counter("errors_total", "Errors, by operation and tag", "operation", "tag")
  gauge(
    "snapshot_age_seconds",
    "Time since the open snapshot was published",
    ({ publishedAt }) => publishedAt && ageSeconds(publishedAt),
  )
  gauge("open_shards", "Shards that are open", ({ openShards }) => openShards)
  gauge("queue_length", "Searches that wait for their turn", ({ queueLength }) => queueLength)
  gauge(
    "search_unlike_share",
    "Share of the latest queries that are unlike the rows",
    ({ unlikeShare }) => unlikeShare,
  )
  for (const [name, read, help] of OBSERVED_GAUGES)
    gauge(
      `observed_recall${name && `_${name}`}`,
      help,
      ({ observedRecall }) => observedRecall && read(observedRecall),
    )

  return {
    readers,
    observerOf: (root) => ({
      searched(seconds, outcome, shards) {
        durations.observe({ root, outcome }, seconds)
        for (const count of shards) searchShards.observe({ root }, count)
      },
      shardOpened: () => opens.inc({ root }, 1),
      shardDownloaded(bytes) {
        downloads.inc({ root }, 1)
        downloadBytes.inc({ root }, bytes)
      },
      refreshed: (outcome) => refreshes.inc({ root, outcome }, 1),
      failed: (operation, tag) => errors.inc({ root, operation, tag }, 1),
    }),
  }
}
