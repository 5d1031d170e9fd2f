/**
 * From flags and configuration to what a build is asked for. Pure; flags override the configuration.
 */

import { withoutUndefined } from "../src/defined.js"
import type {
  BuildOptions,
  ClusterOptions,
  GateName,
  GateOptions,
  Json,
  LshOptions,
  RetentionOptions,
  ShardingOptions,
  SigningOptions,
  SourceOptions,
} from "../src/index.js"
import {
  DEFAULT_STRATEGY,
  type ShardingSetting,
  shardingSettings,
  strategyType,
} from "../src/sharding/registry.js"
import { DEFAULT_BACKEND, indexSettings } from "../src/shards/registry.js"
import type {
  BuildFlags,
  MappingFlags,
  ReleaseFlags,
  RetentionFlags,
  ShardingFlags,
  VectorFileFlags,
} from "./build-options.js"
import type { Config } from "./config.js"
import { durationSeconds } from "./duration.js"
import { type StorageFlags, storeOptions } from "./options.js"
import { signingOptions } from "./signing.js"
import { usageError } from "./usage-error.js"

export interface BuildRequest {
  readonly inputs: readonly string[]
  readonly source: SourceOptions
  /** Files of real queries, if there are any. */
  readonly queries?: { readonly inputs: readonly string[]; readonly source: SourceOptions }
  readonly build: Omit<BuildOptions, "sharding"> & {
    readonly to: string
    readonly sharding: RequestedSharding
  }
}

/** Sharding whose number of shards may be still to be chosen, by a look at the input. */
export type RequestedSharding = ShardingOptions | AutoSharding
type AutoSharding = Omit<ClusterOptions | LshOptions, "shards"> & { readonly shards: "auto" }

export const hasAutoShards = (sharding: RequestedSharding): sharding is AutoSharding =>
  "shards" in sharding && sharding.shards === "auto"

/** Throws `InvalidInput` if input, target or sharding is missing or contradicts itself. */
export function resolveBuild(inputs: readonly string[], flags: BuildFlags, config: Config): BuildRequest {
  const to = flags.to ?? config.to
  if (to === undefined) throw usageError("no target is named: give --to <url>, or `to` in vecsnap.yaml")
  const store = storeOptions(flags, config)
  const build = withoutUndefined({
    to,
    sharding: resolveSharding(flags, config),
    metric: flags.metric ?? config.metric,
    backend: flags.backend ?? config.backend,
    index: resolveIndex(flags, config),
    routingFrom: flags.routingFrom ?? config["routing-from"],
    onBadRow: flags.onBadRow ?? config["on-bad-row"],
    maxBadRows: flags.maxBadRows ?? config["max-bad-rows"],
    onDuplicate: flags.onDuplicate ?? config["on-duplicate"],
    reuse: flags.reuse === false ? false : undefined,
    locator: flags.locator === false ? false : undefined,
    certificate: resolveCertificate(flags, config),
    force: flags.force,
    parallelism: flags.parallelism ?? config.parallelism,
    memoryLimit: flags.memoryLimit ?? config["memory-limit"],
    tempDir: flags.tempDir ?? config["temp-dir"],
    model: flags.model ?? config.model,
    custom: mergeCustom(flags, config),
    store,
    ...resolveRelease(flags, config),
  })
  // Names were checked by commander's choices or by the schema of the configuration; the library checks them
  // once more.
  const read = resolveSource(inputs, flags, config)
  return { ...read, ...resolveQueries(flags, config), build: build as BuildRequest["build"] }
}

/**
 * What is read, and how its columns are understood. Throws `InvalidInput` if nothing is named, or both files
 * and SQL.
 */
export function resolveSource(
  inputs: readonly string[],
  flags: MappingFlags & StorageFlags & Pick<BuildFlags, "memoryLimit">,
  config: Config,
): Pick<BuildRequest, "inputs" | "source"> {
  const read = resolveInput(inputs, flags, config)
  const source = withoutUndefined({
    ...read.source,
    ...resolveVectorFile(flags, config),
    fields: flags.fields ?? config.fields,
    payloadColumns: flags.payloadColumns ?? config["payload-columns"],
    shardColumn: flags.shardColumn ?? config["shard-column"],
    memoryLimit: flags.memoryLimit ?? config["memory-limit"],
    store: storeOptions(flags, config),
  })
  return { inputs: read.inputs, source: source as SourceOptions }
}

/** How the vectors of rows, and of queries beside them, are found in files. */
function resolveVectorFile(
  flags: VectorFileFlags,
  config: Config,
): Pick<SourceOptions, "idColumn" | "idType" | "vectorColumn" | "vectorEncoding" | "binaryAsString"> {
  return withoutUndefined({
    idColumn: flags.idColumn ?? config["id-column"],
    idType: flags.idType ?? config["id-type"],
    vectorColumn: flags.vectorColumn ?? config["vector-column"],
    vectorEncoding: flags.vectorEncoding ?? config["vector-encoding"],
    binaryAsString: flags.binaryAsString ?? config["binary-as-string"],
  }) as SourceOptions
}

/**
 * How files of queries are read: as the inputs are, but that each has a format of its own, and that no column
 * of them is payload.
 */
export function resolveQuerySource(flags: VectorFileFlags & StorageFlags, config: Config): SourceOptions {
  return withoutUndefined({
    ...resolveVectorFile(flags, config),
    format: flags.format,
    payloadColumns: [],
    store: storeOptions(flags, config),
  }) as SourceOptions
}

function resolveQueries({ format: _, ...flags }: BuildFlags, config: Config): Pick<BuildRequest, "queries"> {
  const inputs = flags.queries ?? config.queries
  return inputs === undefined ? {} : { queries: { inputs, source: resolveQuerySource(flags, config) } }
}

function resolveCertificate(
  flags: Pick<BuildFlags, "certificate" | "certificateRows">,
  config: Config,
): BuildOptions["certificate"] {
  if (flags.certificate === false) return false
  const rows = flags.certificateRows ?? config["certificate-rows"]
  if (rows === undefined) return undefined
  return rows === 0 ? false : { rows }
}

/** Inputs and SQL exclude one another; either one as a flag replaces whatever the configuration reads. */
function resolveInput(
  inputs: readonly string[],
  flags: MappingFlags,
  config: Config,
): { readonly inputs: readonly string[]; readonly source: Pick<MappingFlags, "sql" | "format" | "ids"> } {
  const given = inputs.length > 0 || flags.sql !== undefined
  const chosen = given
    ? { inputs, sql: flags.sql, format: flags.format, ids: flags.ids }
    : {
        inputs: config.input ?? [],
        sql: config.sql,
        format: flags.format ?? config.format,
        ids: flags.ids ?? config.ids,
      }
  const { inputs: files, ...source } = chosen
  if (files.length > 0 && source.sql !== undefined)
    throw usageError("inputs and sql are both given, expected one: SQL names its files itself")
  if (files.length === 0 && source.sql === undefined)
    throw usageError('nothing to read is named: give files, "-" for standard input, or --sql <query>')
  return { inputs: files, source: withoutUndefined(source) }
}

/**
 * Sharding from flags and configuration: `cluster` with a number of shards for the input, if neither names a
 * strategy. A setting that the strategy does not know is an error, except that another strategy asked for by
 * a flag leaves behind what the configuration says for its own.
 */
export function resolveSharding(flags: ShardingFlags, config: Pick<Config, "sharding">): RequestedSharding {
  const { strategy: configured, ...inFile } = config.sharding ?? {}
  const named = flags.strategy ?? configured
  const strategy = named ?? DEFAULT_STRATEGY
  const { queriesBy, options: declared } = strategyType(strategy)
  const configuredSettings: Readonly<Record<string, unknown>> = inFile
  const onCommandLine: Readonly<Record<string, unknown>> = { ...flags }
  const switched = flags.strategy !== undefined && flags.strategy !== configured
  const options: Record<string, unknown> = {}
  for (const setting of shardingSettings()) {
    const flag = onCommandLine[setting.key]
    const value = flag ?? configuredSettings[setting.name]
    if (value === undefined) continue
    if ((setting.strategies as readonly string[]).includes(strategy)) {
      const { toOption } = setting.declaration.setting
      options[setting.option] = toOption === undefined ? value : toOption(value)
    } else if (flag !== undefined || !switched) throw notForStrategy(setting, strategy, flag !== undefined)
  }
  // `values` says how many shards there are; a number from the other place must not contradict it.
  if (flags.values !== undefined && flags.shards === undefined) delete options.shards
  if (flags.shards !== undefined && flags.values === undefined) delete options.values
  if ("expression" in declared && options.expression === undefined) {
    throw usageError(
      `the strategy ${strategy} needs an expression: give --cel, or sharding.cel in vecsnap.yaml`,
    )
  }
  if (named === undefined) options.shards ??= "auto"
  if (options.shards === undefined && options.values === undefined) {
    const or = "values" in declared ? ", or --values" : ""
    throw usageError(`the strategy ${strategy} needs a number of shards: give --shards${or}`)
  }
  if (options.shards === "auto" && queriesBy !== "vector") {
    throw usageError(
      `shards auto means nothing to the strategy ${strategy}, whose records say which shards there are: expected a number`,
    )
  }
  return { strategy, ...options } as unknown as RequestedSharding
}

function notForStrategy({ name }: ShardingSetting, strategy: string, isFlag: boolean): Error {
  const setting = isFlag ? `--${name}` : `sharding.${name} of vecsnap.yaml`
  const allowed = shardingSettings()
    .filter(({ strategies }) => (strategies as readonly string[]).includes(strategy))
    .map((other) => other.name)
  return usageError(
    `${setting} means nothing to the strategy ${strategy}, which takes ${allowed.join(", ")}`,
    {
      setting: name,
      strategy,
    },
  )
}

/**
 * Options of the shard index. One that the backend does not have is an error, except that another backend
 * asked for by a flag leaves behind what the configuration says for its own.
 */
export function resolveIndex(
  flags: Pick<BuildFlags, "backend" | "index">,
  config: Pick<Config, "backend" | "index">,
): BuildOptions["index"] {
  const backend = flags.backend ?? config.backend ?? DEFAULT_BACKEND
  const switched = flags.backend !== undefined && flags.backend !== config.backend
  const options: Record<string, number> = {}
  for (const { name, option, backends } of indexSettings()) {
    const flag = flags.index?.[name]
    const value = flag ?? config.index?.[name]
    if (value === undefined) continue
    if (backends.includes(backend)) options[option] = value
    else if (flag !== undefined || !switched) throw notForBackend(name, backend, flag !== undefined)
  }
  return Object.keys(options).length === 0 ? undefined : options
}

function notForBackend(name: string, backend: string, isFlag: boolean): Error {
  const setting = isFlag ? `--index ${name}` : `index.${name} of vecsnap.yaml`
  const allowed = indexSettings().flatMap((other) => (other.backends.includes(backend) ? [other.name] : []))
  const takes = allowed.length === 0 ? "has no options" : `takes ${allowed.join(", ")}`
  const message = `${setting} means nothing to the backend ${backend}, which ${takes}`
  return usageError(message, { setting: name, backend })
}

function mergeCustom(flags: BuildFlags, config: Config): Readonly<Record<string, Json>> | undefined {
  if (flags.custom === undefined && config.custom === undefined) return undefined
  return { ...config.custom, ...flags.custom }
}

/** What follows the build, with gates and retention. */
type ReleaseRequest = Pick<
  BuildOptions,
  "gates" | "allow" | "retention" | "publish" | "leaseSeconds" | keyof SigningOptions
>

/**
 * Gates, retention and publishing. Flags override the configuration, except that `--allow` adds to
 * `gates.allow`: who lets one gate pass tonight must not close those that are always open.
 */
export function resolveRelease(flags: ReleaseFlags, config: Config): ReleaseRequest {
  const retention = resolveRetention(flags, config)
  // A grace period alone is a setting for `vecsnap gc`, and no wish to collect after every build.
  const collects = retention.keepLast !== undefined || retention.keepDays !== undefined
  return withoutUndefined({
    gates: config.gates && resolveGates(config),
    allow: config.gates?.allow || flags.allow ? resolveAllow(flags.allow, config) : undefined,
    retention: collects ? retention : undefined,
    publish: flags.publish ?? config.publish,
    leaseSeconds: flags.leaseSeconds ?? config["lease-seconds"],
    ...signingOptions(flags, config),
    trust: config.trust,
  })
}

/** Gates that may fail, without repeats. */
export const resolveAllow = (allow: readonly GateName[] = [], { gates }: Config): readonly GateName[] => [
  ...new Set([...(gates?.allow ?? []), ...allow]),
]

export function resolveGates({ gates = {} }: Config): GateOptions {
  const { rows, norms, overlap, recall } = gates
  return withoutUndefined({
    rows:
      rows &&
      withoutUndefined({
        min: rows.min,
        maxDropPercent: rows["max-drop-percent"],
        maxGrowPercent: rows["max-grow-percent"],
      }),
    skippedRows: maxPercent(gates["skipped-rows"]),
    duplicates: maxPercent(gates.duplicates),
    skew: gates.skew,
    norms: norms && { maxDriftPercent: norms["max-drift-percent"] },
    zeroNorms: maxPercent(gates["zero-norms"]),
    centroidDrift: gates["centroid-drift"],
    overlap: overlap && withoutUndefined(overlap),
    recall: recall && withoutUndefined(recall),
  })
}

const maxPercent = (gate: { readonly "max-percent": number } | undefined) =>
  gate && { maxPercent: gate["max-percent"] }

/** What a collection keeps. */
export function resolveRetention(flags: RetentionFlags, { retention = {} }: Config): RetentionOptions {
  // The schema has checked the text.
  const configuredGrace = retention.grace === undefined ? undefined : durationSeconds(retention.grace)
  return withoutUndefined({
    keepLast: flags.keepLast ?? retention["keep-last"],
    keepDays: flags.keepDays ?? retention["keep-days"],
    keepUnpublishedDays: flags.keepUnpublishedDays ?? retention["keep-unpublished-days"],
    graceSeconds: flags.grace ?? configuredGrace,
  })
}
