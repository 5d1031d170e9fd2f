/**
 * What the writer takes, and how it tells its progress.
 */
import { type Defined, withoutUndefined } from "../defined.js"
import { assertWholeNumber, invalidInput } from "../errors.js"
import { assertJson } from "../json-check.js"
import type { Logger } from "../logger.js"
import { silentLogger } from "../logger.js"
import { buildMemoryDefault, machineLimits } from "../machine.js"
import type { QueryInput } from "../recall/queries.js"
import { FIELD_TYPES, type FieldType, type Json } from "../records.js"
import type { ShardingOptions } from "../sharding/registry.js"
import type { RoutingArtifacts, ShardingDescription } from "../sharding/strategy.js"
import { type IndexOptions, resolveIndexOptions } from "../shards/options.js"
import { BACKEND_NAMES, type BackendName, backendByName, DEFAULT_BACKEND } from "../shards/registry.js"
import type { StoreOptions } from "../storage/open.js"
import { METRICS, type Metric } from "../vectors/metric.js"
import { kindOf } from "../wording.js"

/** The routing of rows that were placed elsewhere, as a manifest describes it, with its arrays. */
export interface Placement {
  readonly sharding: ShardingDescription
  readonly artifacts: RoutingArtifacts
}

export interface WriterOptions {
  /**
   * Default: the strategy `cluster`, with as many shards as `planSnapshot` proposes for the input, which must
   * be one that can be read more than once; then the default of `backend` is what it proposes, too.
   */
  readonly sharding?: ShardingOptions | undefined
  /** Default "cosine". */
  readonly metric?: Metric | undefined
  /** Default "sqlite-vec". */
  readonly backend?: BackendName | undefined
  /**
   * Options of the backend's index, by name; see its `INDEX_OPTIONS`. Shards built with others are not
   * reused.
   */
  readonly index?: IndexOptions | undefined
  /** Declared fields, where the input is records rather than a `Source`, which has its own. */
  readonly fields?: Readonly<Record<string, FieldType>> | undefined
  /**
   * Take trained routing (centroids, hyperplanes) from the live snapshot at this root instead of training.
   */
  readonly routingFrom?: string | undefined
  /**
   * Where rows are placed already: each names its shard, and queries find them by this. In place of
   * `sharding`.
   */
  readonly placedBy?: Placement | undefined
  /** Label of the embedding model, recorded in the manifest. */
  readonly model?: string | undefined
  /** Recorded in the manifest as given: an object of whatever JSON can hold. */
  readonly custom?: Readonly<Record<string, Json>> | object | undefined
  /** What a bad row does: end the build (default) or be left out and counted. */
  readonly onBadRow?: "fail" | "skip" | undefined
  /** With `onBadRow: "skip"`: more bad rows than this end the build; default 1000. */
  readonly maxBadRows?: number | undefined
  /**
   * What a second row with the same id does: end the build (default), or lose against the first or the last.
   */
  readonly onDuplicate?: "fail" | "first" | "last" | undefined
  /** Reuse the files of shards whose content did not change since the live snapshot; default true. */
  readonly reuse?: boolean | undefined
  /** Write an id locator, with which readers look up ids without asking every shard; default true. */
  readonly locator?: boolean | undefined
  /**
   * Shards built, or parts of the layout made, at the same time, each in a thread; default: the number of
   * cores.
   */
  readonly parallelism?: number | undefined
  /**
   * Bytes that a build may take for a layout, rows included; default 1 GiB, or half of the memory of the
   * container or machine if that is less. Where `affinity` needs more, `fast` is made instead, and the report
   * says so if `affinity` was asked for. With `fast` and `plain` a quarter of it may hold the input, so that
   * it is decoded once. As many shards are built at once as stay within it, one at least; what other stages
   * take does not depend on the number of rows.
   */
  readonly memoryLimit?: number | undefined
  /**
   * Measure recall and record it in the manifest; default true, with 1,000 rows held out, at most one in
   * twenty. Fewer than 400 rows are not measured.
   */
  readonly certificate?: boolean | { readonly rows?: number | undefined } | undefined
  /**
   * A sample of real queries to measure recall with, instead of rows. With the layout `affinity`, every other
   * one is demand for copies instead; with a layout, those that measure also choose the thresholds of
   * `targetRecall`.
   */
  readonly queries?: QueryInput | undefined
  /**
   * Where the run's temporary directory is made; default: the system's. Takes about the size of the input's
   * vectors.
   */
  readonly tempDir?: string | undefined
  readonly store?: StoreOptions | undefined
  readonly signal?: AbortSignal | undefined
  readonly onProgress?: ((progress: Progress) => void) | undefined
  readonly logger?: Logger | undefined
}

const STAGES = [
  "sample",
  "train",
  "layout",
  "partition",
  "duplicates",
  "locator",
  "codes",
  "shards",
  "certificate",
  "manifest",
  "gates",
  "publish",
  "collect",
] as const
export type Stage = (typeof STAGES)[number]

export interface Progress {
  readonly stage: Stage
  /** Rows or shards done so far in this stage, by `unit`. */
  readonly done: number
  /** Known for some stages only. */
  readonly total: number | undefined
  readonly unit: "rows" | "rounds" | "steps" | "shards" | "objects" | "gates"
}

/** Options with defaults filled in, checked once. */
export type ResolvedWriterOptions = Defined<
  Pick<
    WriterOptions,
    | "metric"
    | "backend"
    | "onBadRow"
    | "maxBadRows"
    | "onDuplicate"
    | "reuse"
    | "locator"
    | "memoryLimit"
    | "logger"
  >
> &
  Omit<WriterOptions, "custom"> & {
    readonly custom: Readonly<Record<string, Json>>
    /** Rows to hold out; 0 for no certificate. */
    readonly certificateRows: number
  }

const CERTIFICATE_ROWS = 1000

export function resolveWriterOptions(options: WriterOptions): ResolvedWriterOptions {
  oneOf("metric", options.metric, METRICS)
  oneOf("backend", options.backend, BACKEND_NAMES)
  const backend = options.backend ?? DEFAULT_BACKEND
  resolveIndexOptions(backend, backendByName(backend).options, options.index)
  oneOf("onBadRow", options.onBadRow, ["fail", "skip"])
  oneOf("onDuplicate", options.onDuplicate, ["fail", "first", "last"])
  assertWholeNumber("maxBadRows", options.maxBadRows, 0)
  assertWholeNumber("parallelism", options.parallelism, 1)
  assertWholeNumber("memoryLimit", options.memoryLimit, 1)
  const { certificate = true } = options
  if (typeof certificate === "object") assertWholeNumber("certificate.rows", certificate.rows, 1)
  else if (typeof certificate !== "boolean") {
    throw invalidInput(`option certificate is ${certificate}, expected true, false or { rows }`, {
      certificate,
    })
  }
  const certificateRows =
    certificate === false
      ? 0
      : certificate === true
        ? CERTIFICATE_ROWS
        : (certificate.rows ?? CERTIFICATE_ROWS)
  assertCustom(options.custom)
  for (const [name, type] of Object.entries(options.fields ?? {})) oneOf(`fields.${name}`, type, FIELD_TYPES)
  return Object.freeze({
    metric: "cosine",
    backend: DEFAULT_BACKEND,
    onBadRow: "fail",
    maxBadRows: 1000,
    onDuplicate: "fail",
    reuse: true,
    locator: true,
    memoryLimit: buildMemoryDefault(machineLimits()),
    logger: silentLogger,
    ...withoutUndefined(options),
    custom: withoutUndefined((options.custom ?? {}) as Readonly<Record<string, Json>>),
    certificateRows,
  })
}

function assertCustom(custom: unknown): void {
  if (custom === undefined) return
  const fail = (option: string, problem: string): Error =>
    invalidInput(`option ${option} ${problem}`, { option })
  if (typeof custom !== "object" || custom === null || Array.isArray(custom))
    throw fail("custom", `is ${kindOf(custom)}, expected an object`)
  assertJson(custom, "custom", fail)
}

function oneOf(option: string, value: unknown, allowed: readonly string[]): void {
  if (value === undefined || allowed.includes(value as string)) return
  throw invalidInput(`option ${option} is ${JSON.stringify(value)}, expected one of ${allowed.join(", ")}`, {
    option,
    value,
  })
}
