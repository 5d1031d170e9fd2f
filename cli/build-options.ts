/**
 * The options of `vecsnap build`, and of the commands that share a part of them. As those of all commands,
 * they have no defaults here.
 */
import { type Command, Option } from "commander"
import {
  BACKEND_NAMES,
  type BackendName,
  FIELD_TYPES,
  type FieldType,
  GATE_NAMES,
  type GateName,
  METRICS,
  type Metric,
  SOURCE_FORMATS,
  STRATEGY_NAMES,
  VECTOR_ENCODINGS,
} from "../src/index.js"
import { BUILD_MEMORY_RULE } from "../src/machine.js"
import {
  aboutSetting,
  type SettingKey,
  type ShardingSetting,
  shardingSettings,
} from "../src/sharding/registry.js"
import { indexSettings } from "../src/shards/registry.js"
import type { OutputFlags, StorageFlags } from "./options.js"
import {
  collectIndexOption,
  collectPair,
  numberBetween,
  parseDays,
  parseDuration,
  parseFields,
  parseGates,
  parseNames,
  parseRoutingValues,
  shardCount,
  wholeNumber,
} from "./parse.js"
import { addSigningOptions, type SigningFlags } from "./signing.js"

/** How the vectors of a file are found, whether they are rows or queries. */
export interface VectorFileFlags {
  readonly format?: string
  readonly idColumn?: string
  readonly idType?: string
  readonly vectorColumn?: string
  readonly vectorEncoding?: string
  readonly binaryAsString?: boolean
}

export interface MappingFlags extends VectorFileFlags {
  readonly sql?: string
  readonly ids?: string
  readonly fields?: Readonly<Record<string, FieldType>>
  readonly payloadColumns?: readonly string[]
  readonly shardColumn?: string
}

/** For every command that reads vectors from files; `files` is what they are to it. */
export function addVectorFileOptions(command: Command, files: string): Command {
  return command
    .option(
      "--format <name>",
      `format of the ${files}: ${SOURCE_FORMATS.join(", ")}; default: by the file name or its first bytes`,
    )
    .option("--id-column <name>", `column of the ids of ${files}; default: id`)
    .addOption(
      new Option("--id-type <type>", "type of the ids; default: by the input").choices(["string", "int64"]),
    )
    .option(
      "--vector-column <name>",
      'column of the vectors, or "emb_*" for one per dimension; default: vector',
    )
    .addOption(
      new Option("--vector-encoding <type>", "what the bytes of vectors in binary columns are").choices([
        ...VECTOR_ENCODINGS,
      ]),
    )
    .option("--binary-as-string", "take binary data in all other columns for text")
}

export function addMappingOptions(command: Command): Command {
  command.option("--sql <query>", "read the rows of an SQL query over files (DuckDB) instead of inputs")
  addVectorFileOptions(command, "inputs")
  return command
    .option("--ids <file>", "ids of vectors that have none (.npy, .fvecs …): one per line, .npy or Parquet")
    .option("--fields <name:type,…>", `typed columns to route on: ${FIELD_TYPES.join(", ")}`, parseFields)
    .option(
      "--payload-columns <names>",
      'columns kept as payload; default: all others; "" for none',
      parseNames,
    )
    .option("--shard-column <name>", "column of the shard numbers, for --strategy explicit")
}

/** The settings of all strategies. */
export type ShardingFlags = { readonly strategy?: string } & { readonly [Key in SettingKey]?: unknown }

export function addShardingOptions(command: Command): Command {
  command.addOption(
    new Option("--strategy <name>", "how records and queries find shards").choices([...STRATEGY_NAMES]),
  )
  for (const setting of shardingSettings()) command.addOption(settingOption(setting))
  return command
}

function settingOption(setting: ShardingSetting): Option {
  const { name, declaration } = setting
  if (name === "shards") {
    return new Option("--shards <n|auto>", "number of shards; auto: as vecsnap plan proposes").argParser(
      shardCount,
    )
  }
  const { about, default: value } = aboutSetting(setting)
  const option = (placeholder: string): Option =>
    new Option(`--${name} <${placeholder}>`, value === undefined ? about : `${about}; default: ${value}`)
  const { type } = declaration.setting
  switch (type.kind) {
    case "whole":
      return option("n").argParser(wholeNumber(type.least))
    case "number":
      return option("number").argParser(numberBetween(type.least, type.most))
    case "choice":
      return option("name").choices([...type.names])
    case "text":
      return option("text")
    case "values":
      return option("a,b,…").argParser(parseRoutingValues)
  }
}

export interface RetentionFlags {
  readonly keepLast?: number
  readonly keepDays?: number
  readonly keepUnpublishedDays?: number
  /** Seconds. */
  readonly grace?: number
}

/** What a collection keeps; `when` precedes what the flags say. */
export function addRetentionOptions(command: Command, when = ""): Command {
  return command
    .option("--keep-last <n>", `${when}keep the last n that were live, 1 to 100; default: 3`, wholeNumber(1))
    .option("--keep-days <days>", `${when}keep what was built within so many days; default: 0`, parseDays)
    .option(
      "--keep-unpublished-days <days>",
      `${when}keep what was never live, and records of failed runs, for so many days; default: 7`,
      parseDays,
    )
    .option(
      "--grace <duration>",
      `${when}keep what was written or live within this time, such as 30m or 2d; default: 6h`,
      parseDuration,
    )
}

/** What happens after the build: gates, publishing, retention. */
export interface ReleaseFlags extends RetentionFlags, SigningFlags {
  /** False with --no-publish, true with --publish. */
  readonly publish?: boolean
  readonly allow?: readonly GateName[]
  readonly leaseSeconds?: number
  readonly summaryFile?: string
}

function addReleaseOptions(command: Command): Command {
  addRetentionOptions(command, "after publishing, collect, but ")
  addSigningOptions(command)
  return (
    command
      // The positive one first: else commander sets `true` where neither is given.
      .option("--publish", "publish even if vecsnap.yaml says not to")
      .option("--no-publish", "build only; `vecsnap publish` makes the snapshot live later")
      .option("--allow <gates>", `gates that may fail: ${GATE_NAMES.join(", ")}`, parseGates)
      .option(
        "--lease-seconds <n>",
        "a run that is silent for this long counts as dead; default: 120",
        wholeNumber(30),
      )
      .option("--summary-file <file>", "write the JSON summary to this file too, also after a failure")
  )
}

export interface BuildFlags extends MappingFlags, ShardingFlags, ReleaseFlags, StorageFlags, OutputFlags {
  readonly to?: string
  readonly metric?: string
  readonly backend?: string
  /** By the names in `vecsnap.yaml`. */
  readonly index?: Readonly<Record<string, number>>
  readonly routingFrom?: string
  readonly onBadRow?: string
  readonly maxBadRows?: number
  readonly onDuplicate?: string
  /** False with --no-reuse, else true. */
  readonly reuse?: boolean
  /** False with --no-locator, else true. */
  readonly locator?: boolean
  readonly force?: boolean
  readonly parallelism?: number
  /** Bytes. */
  readonly memoryLimit?: number
  /** Files of real queries. */
  readonly queries?: readonly string[]
  /** False with --no-certificate, else true. */
  readonly certificate?: boolean
  readonly certificateRows?: number
  readonly tempDir?: string
  readonly model?: string
  readonly custom?: Readonly<Record<string, string>>
  readonly quiet?: boolean
}

export type PlanFlags = MappingFlags &
  StorageFlags &
  OutputFlags &
  Pick<BuildFlags, "parallelism" | "memoryLimit"> & {
    readonly metric?: Metric
    readonly backend?: BackendName
    readonly shards?: number
  }

export function addPlanOptions(command: Command): Command {
  return command
    .addOption(new Option("--metric <name>", "distance; default: cosine").choices([...METRICS]))
    .addOption(
      new Option("--backend <name>", "shard index; default: chosen by the size of the shards").choices([
        ...BACKEND_NAMES,
      ]),
    )
    .option("--shards <n>", "number of shards; default: chosen", wholeNumber(1))
    .option("--parallelism <n>", "cores that the build has; default: those of this machine", wholeNumber(1))
    .option("--memory-limit <bytes>", `what a layout may take; default: ${BUILD_MEMORY_RULE}`, wholeNumber(1))
}

export function addBuildOptions(command: Command): Command {
  command
    .option("--to <url>", "root of the snapshots: s3://bucket/prefix or a directory")
    .addOption(new Option("--metric <name>", "distance; default: cosine").choices([...METRICS]))
    .addOption(new Option("--backend <name>", "shard index; default: sqlite-vec").choices([...BACKEND_NAMES]))
    .option(
      "--index <option=n>",
      `option of the shard index; repeatable: ${indexSettings()
        .map(({ name }) => name)
        .join(", ")}`,
      collectIndexOption,
    )
    .option("--routing-from <url>", "take trained routing from the live snapshot there instead of training")
    .addOption(new Option("--on-bad-row <what>", "default: fail").choices(["fail", "skip"]))
    .option("--max-bad-rows <n>", "with --on-bad-row skip: more end the build; default 1000", wholeNumber(0))
    .addOption(
      new Option("--on-duplicate <what>", "which of the rows with one id counts; default: fail").choices([
        "fail",
        "first",
        "last",
      ]),
    )
    .option("--no-reuse", "build all shards, also those whose content did not change")
    .option("--no-locator", "write no id locator: smaller, but a lookup by id then asks every shard")
    .option("--force", "publish even if another run was published meanwhile")
    .option(
      "--parallelism <n>",
      "shards built at the same time; default: the number of cores",
      wholeNumber(1),
    )
    .option(
      "--memory-limit <bytes>",
      `what a build may take for a layout; if affinity needs more, fast is made; default: ${BUILD_MEMORY_RULE}`,
      wholeNumber(1),
    )
    .option("--queries <files...>", "real queries to measure recall with; read as the inputs are")
    .option(
      "--certificate-rows <n>",
      "without queries, rows held out to measure recall with; default: 1000, at most one in twenty",
      wholeNumber(1),
    )
    .option("--no-certificate", "measure no recall")
    .option("--temp-dir <dir>", "where the temporary directory is made; default: the system's")
    .option("--model <label>", "embedding model, recorded in the snapshot")
    .option("--custom <key=value>", "recorded in the snapshot; repeatable", collectPair)
    .option("-q, --quiet", "no progress on stderr")
  return addReleaseOptions(command)
}
