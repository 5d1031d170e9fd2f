/**
 * Advice before a build: how many shards, which backend and layout, and what that will take. Pure: from a few
 * facts of the input to figures, each with a sentence that says why.
 *
 * The figures are estimates for choosing by, not promises: constants come from docs/performance.md and
 * docs/layout.md.
 */
import { buildMemoryDefault, machineLimits } from "../../machine.js"
import { affinityBytes } from "../../sharding/cluster/layout/layout.js"
import { clusterType } from "../../sharding/cluster/options.js"
import { DEFAULT_STRATEGY } from "../../sharding/registry.js"
import type { ShardBackend } from "../../shards/backend.js"
import { allBackends, type BackendName, backendByName } from "../../shards/registry.js"
import type { Metric } from "../../vectors/metric.js"
import { vectorMemoryBytes } from "../../vectors/scan.js"
import { fastSampleRows, type LayoutRows, layoutOf } from "../layout/input.js"
import type { InputFacts } from "./input-facts.js"

export interface PlanOptions {
  /** Default "cosine". */
  readonly metric?: Metric | undefined
  /** Default: chosen. */
  readonly backend?: BackendName | undefined
  /** Default: chosen. */
  readonly shards?: number | undefined
  /** As for a build, with the same default. */
  readonly memoryLimit?: number | undefined
  /** Cores that the build has. */
  readonly cores: number
}

export interface SnapshotPlan {
  readonly shards: number
  readonly backend: BackendName
  readonly layout: LayoutRows["layout"]
  /** Rows stored over rows. */
  readonly replication: number
  /** Of the stored snapshot. */
  readonly sizeBytes: number
  readonly shardBytes: number
  /** At the peak of a build. */
  readonly buildMemoryBytes: number
  readonly buildSeconds: number
  /** Of a reader with all shards open. */
  readonly readerMemoryBytes: number
  /** Shards that a query looks at for a recall of .95. */
  readonly probes: number
  /** Of a query with nothing in memory or on disk: pointer, manifest, routing and shards. */
  readonly coldRequests: number
  readonly coldBytes: number
  /** Why each figure is what it is, a sentence each. */
  readonly reasons: Readonly<Record<PlanReason, string>>
}

export type PlanReason = "shards" | "backend" | "layout" | "size" | "memory" | "query" | "time"

const MIB = 2 ** 20
const REPLICATION = 1.2
/**
 * A snapshot of n shards has shards of n times this size: as many shards as each has units of 48 kB. So the
 * requests of a query and the bytes of each grow alike, and the word set (197 MB) gets the 64 shards that it
 * was measured with.
 */
const SHARD_UNIT_BYTES = 48_000
const MOST_SHARDS = 4096
/** Fewer rows than these are not worth a request. */
const FEWEST_ROWS_PER_SHARD = 256
/** What a row takes besides its vector, id, fields and payload: row numbers and indexes. */
const ROW_BYTES = 90
/**
 * Probes for a recall of .95 over the root of the number of shards, measured on the word set with 64 shards.
 * Other data differ: what counts is the recall that a build measures.
 */
const PROBES_PER_ROOT: Readonly<Record<SnapshotPlan["layout"], number>> = {
  affinity: 0.62,
  fast: 1,
  plain: 1.05,
}
/** Processor seconds of a layout by affinity per element of the vectors; the word set has 34 million. */
const AFFINITY_SECONDS = 3.2e-6
/** Of all else: reading, placing, building and uploading, per element that is stored. */
const WRITE_SECONDS = 0.38e-6
/** Of the products that a layout is mostly made of, with all that goes on in between. */
const SECONDS_PER_PRODUCT = 1.8e-10
/** What a build takes however small it is. */
const LEAST_SECONDS = 1
/**
 * Times that a layout made of a sample compares its rows with all shards: `fast` does so in rounds of
 * k-means, of balancing and of prices, `plain` in rounds of k-means alone.
 */
const ROUNDS = { fast: 50, plain: 20 } as const
/** Rows of the sample that each round sees at most, or so many a shard where that is more. */
const ROUND_ROWS = 65_536
const ROUND_ROWS_PER_SHARD = 256
/** Rows that the whole sample of `fast` is compared with: held-out rows, and descriptors in their rounds. */
const MEASURED_ROWS = 2900
/** A Node process with DuckDB, before it has read anything. */
const PROCESS_BYTES = 300 * MIB
/** A thread that lays out or builds shards. */
const THREAD_BYTES = 40 * MIB
/** Rows on their way: batches that are read, and spills that wait to be written. */
const BUFFER_BYTES = 128 * MIB
/** A shard that is built is in memory as it was spilled, sorted, and as its backend has it. */
const SHARD_COPIES = 3
const LAYOUT_REASONS: Readonly<Record<SnapshotPlan["layout"], string>> = {
  affinity: `affinity with x${REPLICATION} rows stored: a query looks at the fewest shards`,
  fast: "fast: affinity would take more time or memory than a build may",
  plain: "plain: too few rows to lay out and measure anything",
}
/** What an open shard takes besides its vectors. */
const OPEN_SHARD_BYTES = 0.8 * MIB
/** Requests of a cold query besides those for shards: pointer, manifest and routing artifacts. */
const FIXED_REQUESTS = 4

/** Proposes how to build a snapshot of an input. Throws nothing: every input with rows has a plan. */
export function planSnapshot(facts: InputFacts, options: PlanOptions): SnapshotPlan {
  const { rows, dim } = facts
  const { memoryLimit = buildMemoryDefault(machineLimits()), metric = "cosine", cores } = options
  const bytesPerRow = 4 * dim + facts.otherBytesPerRow + ROW_BYTES
  const shards = options.shards ?? chooseShards(rows, rows * bytesPerRow * REPLICATION)
  const layout = layoutOf({ layout: "auto", shards }, rows, dim, memoryLimit)
  const replication = layout === "affinity" ? REPLICATION : 1
  const storedRows = Math.ceil(rows * replication)
  const vectorBytesPerShard = (storedRows * 4 * dim) / shards
  const backend = options.backend ?? chooseBackend(dim, vectorBytesPerShard)
  const { vectorCopies, cellBytes } = backendByName(backend).figures
  const besidesBytes = (vectorCopies - 1) * 4 * dim + (cellBytes?.(dim, storedRows / shards) ?? 0)
  const sizeBytes = Math.round(storedRows * (bytesPerRow + besidesBytes))
  const shardBytes = Math.round(sizeBytes / shards)
  const probes = Math.min(shards, Math.max(1, Math.ceil(PROBES_PER_ROOT[layout] * Math.sqrt(shards))))
  const building: Building = { rows, dim, shards, layout, memoryLimit, cores, storedRows, shardBytes }
  const buildSeconds = secondsOf(building)
  const buildMemoryBytes = memoryOf(building)
  const readerMemoryBytes = Math.round(
    shards * (OPEN_SHARD_BYTES + vectorMemoryBytes(metric, Math.ceil(storedRows / shards), dim)),
  )
  const mib = (bytes: number): string =>
    `${bytes < 10 * MIB ? Math.max(0.1, bytes / MIB).toFixed(1) : Math.round(bytes / MIB)} MiB`
  return {
    shards,
    backend,
    layout,
    replication,
    sizeBytes,
    shardBytes,
    buildMemoryBytes,
    buildSeconds,
    readerMemoryBytes,
    probes,
    coldRequests: probes + FIXED_REQUESTS,
    coldBytes: probes * shardBytes,
    reasons: {
      shards:
        options.shards === undefined
          ? `${shards === 1 ? "1 shard" : `${shards} shards`} of ${mib(shardBytes)}: more would cost more requests a query${shards === 1 ? "" : ", fewer more bytes"}`
          : `${shards} shards of ${mib(shardBytes)}, as asked for`,
      backend: backendReason(backend, options.backend !== undefined, dim, mib(vectorBytesPerShard)),
      layout: LAYOUT_REASONS[layout],
      size: `${rows} rows of ${dim} × 4 bytes, ${Math.round(facts.otherBytesPerRow)} bytes of id, fields and payload and ${ROW_BYTES} of indexes${besidesBytes > 0 ? `, and ${besidesBytes} of the index over vectors` : ""}, stored x${replication}`,
      memory: `a build holds ${layout === "affinity" ? "all rows and their layout" : "a sample of the rows, twice"}, at most the memory limit of ${mib(memoryLimit)}, and besides what Node, threads and rows on their way take; a reader with all shards open ${mib(readerMemoryBytes)}`,
      query: `about ${probes} of ${shards} shards for a recall of .95, as measured on the word set: pass targetRecall and let the build measure yours`,
      time: `${rows * dim} elements on ${cores} cores, by the speed of the machine of docs/performance.md`,
    },
  }
}

interface Building extends Pick<SnapshotPlan, "shards" | "layout" | "shardBytes"> {
  readonly rows: number
  readonly dim: number
  readonly storedRows: number
  readonly memoryLimit: number
  readonly cores: number
}

function secondsOf({ rows, dim, shards, layout, memoryLimit, cores, storedRows }: Building): number {
  const write = WRITE_SECONDS * storedRows * dim
  const layoutSeconds = (): number => {
    if (layout === "affinity") return AFFINITY_SECONDS * rows * dim
    const sample = sampleOf(rows, dim, shards, layout, memoryLimit)
    const inRounds = Math.min(sample, Math.max(ROUND_ROWS, ROUND_ROWS_PER_SHARD * shards))
    const measured = layout === "fast" ? MEASURED_ROWS * sample : 0
    return SECONDS_PER_PRODUCT * dim * (ROUNDS[layout] * inRounds * shards + measured)
  }
  return Math.ceil(LEAST_SECONDS + (layoutSeconds() + write) / cores)
}

function memoryOf({ rows, dim, shards, layout, memoryLimit, cores, shardBytes }: Building): number {
  const learned =
    layout === "affinity"
      ? affinityBytes(rows, dim)
      : 2 * 4 * dim * sampleOf(rows, dim, shards, layout, memoryLimit)
  const stored = BUFFER_BYTES + cores * SHARD_COPIES * shardBytes
  return PROCESS_BYTES + cores * THREAD_BYTES + Math.max(learned, stored)
}

/** Rows that a layout is made of which is not made of all. */
function sampleOf(
  rows: number,
  dim: number,
  shards: number,
  layout: "fast" | "plain",
  memoryLimit: number,
): number {
  const { sampleRows } = clusterType.resolve({ strategy: DEFAULT_STRATEGY, shards })
  const most = layout === "fast" ? fastSampleRows({ sampleRows, shards }, dim, memoryLimit) : sampleRows
  return Math.min(rows, most)
}

/**
 * As many shards as each has units of {@link SHARD_UNIT_BYTES}, as a power of two, none too small to be worth
 * a request.
 */
function chooseShards(rows: number, sizeBytes: number): number {
  const wanted = 2 ** Math.round(Math.log2(Math.sqrt(Math.max(1, sizeBytes / SHARD_UNIT_BYTES))))
  const most = 2 ** Math.floor(Math.log2(Math.max(1, rows / FEWEST_ROWS_PER_SHARD)))
  return Math.min(wanted, most, MOST_SHARDS)
}

/**
 * The first that takes the vectors and searches a shard of them fast; failing that, the last that takes them.
 */
function chooseBackend(dim: number, vectorBytesPerShard: number): BackendName {
  const able = allBackends().filter(({ limits }) => dim <= limits.dim)
  const fast = able.find(({ figures }) => vectorBytesPerShard <= figures.vectorBytes)
  return (fast ?? able.at(-1) ?? allBackends()[0]!).name as BackendName
}

function backendReason(name: BackendName, wasAskedFor: boolean, dim: number, shardSize: string): string {
  if (wasAskedFor) return `${name}, as asked for`
  const [preferred] = allBackends() as [ShardBackend]
  if (name === preferred.name)
    return `${name}: ${shardSize} of vectors a shard are scanned exactly in milliseconds`
  if (dim > preferred.limits.dim)
    return `${name}: ${preferred.name} takes at most ${preferred.limits.dim} dimensions, got ${dim}`
  return `${name}: ${shardSize} of vectors a shard are too many to scan for every query`
}
