/**
 * The arguments that commands share, and how their text becomes values. Everything is strict: "12x" is not 12.
 *
 * Flags have no defaults here: an absent flag is `undefined`, so that `vecsnap.yaml` and then the library decide.
 */
import { type Command, InvalidArgumentError, Option } from "commander"
import {
  BACKEND_NAMES,
  type BackendName,
  FIELD_TYPES,
  type FieldType,
  type FieldValue,
  GATE_NAMES,
  type GateName,
  type Id,
  LAYOUTS,
  METRICS,
  type Metric,
  parseJson,
  type RouteOptions,
  type SnapshotInfo,
  STRATEGY_NAMES,
  type StoreOptions,
} from "../src/index.js"
import type { Config } from "./config.js"
import { DURATION, durationSeconds } from "./duration.js"
import { nearest, usageError } from "./usage-error.js"

// ---- Values ---------------------------------------------------------------------------------------------------

type Parser<T> = (text: string) => T

/** A parser of whole numbers from `least`. */
export const wholeNumber =
  (least: number): Parser<number> =>
  (text) => {
    const number = /^\d+$/.test(text) ? Number(text) : Number.NaN
    if (Number.isSafeInteger(number) && number >= least) return number
    throw new InvalidArgumentError(`Expected a whole number from ${least}.`)
  }

/** A number of shards, or "auto". */
export const shardCount: Parser<number | "auto"> = (text) => {
  if (text === "auto") return text
  const number = /^\d+$/.test(text) ? Number(text) : Number.NaN
  if (Number.isSafeInteger(number) && number >= 1) return number
  throw new InvalidArgumentError('Expected a whole number from 1, or "auto".')
}

const SECONDS_OF: Readonly<Record<string, number>> = { "": 1, s: 1, m: 60, h: 3600, d: 86_400 }

/** A time above 0, in seconds: "90", "1.5", or with a unit: "90s", "15m", "26h", "2d". */
export function parseSeconds(text: string): number {
  const [, digits, unit] = /^(\d+(?:\.\d+)?)([smhd]?)$/.exec(text) ?? []
  const seconds = Number(digits) * (SECONDS_OF[unit ?? ""] ?? Number.NaN)
  // The longest that a timer of Node takes.
  if (seconds > 0 && seconds * 1000 < 2 ** 31) return seconds
  throw new InvalidArgumentError(
    "Expected seconds above 0, at most 24 days, such as 90, 90s, 15m, 26h or 2d.",
  )
}

/** A time in seconds from a text with a unit: "30m", "6h", "2d". */
export function parseDuration(text: string): number {
  const seconds = durationSeconds(text)
  if (seconds === undefined) throw new InvalidArgumentError(`Expected ${DURATION}.`)
  return seconds
}

/** A number of days above 0: "7", "0.5". */
export function parseDays(text: string): number {
  const days = /^\d{1,9}(\.\d{1,9})?$/.test(text) ? Number(text) : Number.NaN
  if (days > 0) return days
  throw new InvalidArgumentError("Expected a number of days above 0.")
}

/** Rows stored over rows: from 1 to 16, "1.2". */
export function parseBudget(text: string): number {
  const budget = /^\d{1,2}(\.\d{1,9})?$/.test(text) ? Number(text) : Number.NaN
  if (budget >= 1 && budget <= 16) return budget
  throw new InvalidArgumentError("Expected a number from 1 to 16.")
}

/** Names of gates: "rows,skew". */
export function parseGates(text: string): readonly GateName[] {
  return parseNames(text).map((name) => {
    const gate = GATE_NAMES.find((known) => known === name)
    if (gate !== undefined) return gate
    const near = nearest(name, GATE_NAMES)
    const hint = near === undefined ? "" : ` Did you mean ${near}?`
    throw new InvalidArgumentError(`Expected gates out of ${GATE_NAMES.join(", ")}, got ${name}.${hint}`)
  })
}

/** "all" or a whole number from 1. */
export function parseProbes(text: string): number | "all" {
  if (text === "all") return "all"
  try {
    return wholeNumber(1)(text)
  } catch {
    throw new InvalidArgumentError('Expected a whole number from 1, or "all".')
  }
}

/** A share above 0, at most 1: ".95". */
export function parseShare(text: string): number {
  const share = /^(\d+\.?\d*|\.\d+)$/.test(text) ? Number(text) : Number.NaN
  if (share > 0 && share <= 1) return share
  throw new InvalidArgumentError("Expected a number above 0, at most 1.")
}

/** Whole numbers from 1: "1,10,100". */
export const parseCounts = (text: string): readonly number[] =>
  text.split(",").map((part) => wholeNumber(1)(part.trim()))

/** Shares above 0, at most 1: ".9,.95". */
export const parseShareList = (text: string): readonly number[] =>
  text.split(",").map((part) => parseShare(part.trim()))

/** "all" or shard numbers: "1,2". */
export function parseShards(text: string): readonly number[] | "all" {
  if (text === "all") return "all"
  try {
    return text.split(",").map((part) => wholeNumber(0)(part.trim()))
  } catch {
    throw new InvalidArgumentError('Expected shard numbers such as 1,2, or "all".')
  }
}

/** Names parted by commas; an empty text is an empty list. */
export function parseNames(text: string): readonly string[] {
  if (text.trim() === "") return []
  const names = text.split(",").map((name) => name.trim())
  if (names.includes("")) throw new InvalidArgumentError("Expected names parted by single commas.")
  return names
}

/** "lang:string,year:int64". */
export function parseFields(text: string): Readonly<Record<string, FieldType>> {
  const fields = new Map<string, FieldType>()
  for (const part of parseNames(text)) {
    // The last colon parts name and type: a column's name may have colons itself.
    const colon = part.lastIndexOf(":")
    const name = part.slice(0, Math.max(0, colon))
    const type = FIELD_TYPES.find((known) => known === part.slice(colon + 1))
    if (name === "" || type === undefined) {
      const near = nearest(part.slice(colon + 1), FIELD_TYPES)
      const hint = name !== "" && near !== undefined ? ` Did you mean ${name}:${near}?` : ""
      throw new InvalidArgumentError(
        `Expected name:type, type one of ${FIELD_TYPES.join(", ")}, got ${part}.${hint}`,
      )
    }
    if (fields.has(name)) throw new InvalidArgumentError(`The field ${name} is there twice.`)
    fields.set(name, type)
  }
  return Object.fromEntries(fields)
}

/** Routing values: texts parted by commas, or a JSON list where some are numbers. */
export function parseRoutingValues(text: string): readonly (string | number | bigint)[] {
  if (!text.startsWith("[")) return parseNames(text)
  const list = parseJsonArgument(text)
  const isValue = (value: unknown): value is string | number | bigint =>
    ["string", "number", "bigint"].includes(typeof value)
  if (Array.isArray(list) && list.every(isValue)) return list
  throw new InvalidArgumentError('Expected a,b,c or a JSON list of texts and numbers such as ["a",2].')
}

function parseJsonArgument(text: string): unknown {
  try {
    return parseJson(text)
  } catch (error) {
    throw new InvalidArgumentError(`It is not valid JSON: ${(error as Error).message}.`)
  }
}

/** Collects a repeated "key=value" flag; the value may hold "=" itself. */
export function collectPair(
  text: string,
  earlier: Readonly<Record<string, string>> = {},
): Readonly<Record<string, string>> {
  const equals = text.indexOf("=")
  if (equals < 1) throw new InvalidArgumentError("Expected key=value.")
  const key = text.slice(0, equals)
  if (Object.hasOwn(earlier, key)) throw new InvalidArgumentError(`The key ${key} is there twice.`)
  return Object.fromEntries([...Object.entries(earlier), [key, text.slice(equals + 1)]])
}

/** An id as the snapshot has them: text, or an integer of 64 bits. */
export function parseId(text: string, idType: string): Id {
  if (idType !== "int64") return text
  const id = parseInt64(text)
  if (id !== undefined) return id
  throw usageError(`the snapshot's ids are 64-bit integers, got ${JSON.stringify(text)}`, { id: text })
}

function parseInt64(text: string): bigint | undefined {
  if (!/^-?\d{1,19}$/.test(text)) return undefined
  const value = BigInt(text)
  return BigInt.asIntN(64, value) === value ? value : undefined
}

/** Values of `--context`, typed by the snapshot's fields. */
export function parseContext(
  context: Readonly<Record<string, string>>,
  fields: SnapshotInfo["fields"],
): Readonly<Record<string, FieldValue>> {
  const typed = Object.entries(context).map(([name, text]) => {
    const field = fields.find((candidate) => candidate.name === name)
    if (field === undefined) {
      const known = fields.length === 0 ? "it has none" : `it has ${fields.map((f) => f.name).join(", ")}`
      throw usageError(`--context ${name}=…: the snapshot has no field ${name}: ${known}`, { field: name })
    }
    const value = parseFieldValue(text, field.type)
    if (value === undefined) {
      throw usageError(
        `--context ${name}=…: expected a value of type ${field.type}, got ${JSON.stringify(text)}`,
        {
          field: name,
          value: text,
        },
      )
    }
    return [name, value] as const
  })
  return Object.fromEntries(typed)
}

function parseFieldValue(text: string, type: string): FieldValue | undefined {
  if (type === "int64") return parseInt64(text)
  if (type === "float64") return /^[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?$/i.test(text) ? Number(text) : undefined
  if (type === "bool") return text === "true" ? true : text === "false" ? false : undefined
  return text
}

// ---- Options of every command ---------------------------------------------------------------------------------

export interface OutputFlags {
  readonly json?: boolean
  readonly debug?: boolean
}

export interface StorageFlags {
  readonly config?: string
  readonly endpoint?: string
  readonly region?: string
  readonly pathStyle?: boolean
}

export function addOutputOptions(command: Command): Command {
  return command
    .option("--json", "print JSON for scripts")
    .option("--debug", "print the stack of an error, and everything that is logged")
}

export function addStorageOptions(command: Command): Command {
  return command
    .option("--config <file>", "settings; default: vecsnap.yaml in the working directory, if there is one")
    .option("--endpoint <url>", "S3: address of the server; default: AWS_ENDPOINT_URL_S3, else AWS")
    .option("--region <name>", "S3: region; default: from the environment or the AWS profile")
    .option("--path-style", "S3: bucket in the path; default with an endpoint of its own")
    .option("--no-path-style", "S3: bucket in the host name")
}

export interface TimeoutFlags {
  readonly timeout?: number
}

export function addTimeoutOption(command: Command): Command {
  return command.option(
    "--timeout <seconds>",
    "give up after this, opening included; exit code 7; default: none",
    parseSeconds,
  )
}

export interface RouteFlags {
  readonly probes?: number | "all"
  readonly shards?: readonly number[] | "all"
  readonly context?: Readonly<Record<string, string>>
}

export function addRouteOptions(command: Command): Command {
  return command
    .option("--shards <1,2|all>", "search these shards and no others", parseShards)
    .option("--context <field=value>", "cel: what the expression is evaluated on; repeatable", collectPair)
}

/** How a query is routed, with the context typed by the snapshot's fields. */
export const routeOptions = (flags: RouteFlags, fields: SnapshotInfo["fields"]): RouteOptions =>
  withoutUndefined({
    probes: flags.probes,
    shards: flags.shards,
    context: flags.context && parseContext(flags.context, fields),
  })

export interface SnapshotFlags {
  readonly snapshot?: string
}

export function addSnapshotOption(command: Command): Command {
  return command.option(
    "--snapshot <run>",
    "the snapshot of this run, whether live or not; default: the live one",
  )
}

export function addReaderOptions(command: Command): Command {
  return command.option(
    "--cache-dir <dir>",
    "where downloaded shards are kept; default: vecsnap in the user's cache",
  )
}

/** Store settings from flags, then the configuration. Credentials come from the environment or the AWS profile. */
export function storeOptions(flags: StorageFlags, config: Config): StoreOptions {
  const s3 = withoutUndefined({
    endpoint: flags.endpoint ?? config.storage?.endpoint,
    region: flags.region ?? config.storage?.region,
    forcePathStyle: flags.pathStyle ?? config.storage?.["path-style"],
  })
  return Object.keys(s3).length === 0 ? {} : { s3 }
}

/** Root of the snapshots: the argument, else `to` of the configuration. */
export function rootUrl(argument: string | undefined, config: Config): string {
  const url = argument ?? config.to
  if (url !== undefined) return url
  throw usageError("no snapshot is named: give its URL, or `to` in vecsnap.yaml")
}

/** An object without its undefined properties, as `exactOptionalPropertyTypes` wants them. */
export function withoutUndefined<T extends object>(value: T): { [K in keyof T]: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(value).filter(([, item]) => item !== undefined)) as {
    [K in keyof T]: Exclude<T[K], undefined>
  }
}

// ---- Options of build -----------------------------------------------------------------------------------------

export interface MappingFlags {
  readonly sql?: string
  readonly format?: string
  readonly ids?: string
  readonly idColumn?: string
  readonly idType?: string
  readonly vectorColumn?: string
  readonly fields?: Readonly<Record<string, FieldType>>
  readonly payloadColumns?: readonly string[]
  readonly shardColumn?: string
}

export function addMappingOptions(command: Command): Command {
  return command
    .option("--sql <query>", "read the rows of an SQL query over files (DuckDB) instead of inputs")
    .option("--format <name>", "format of the inputs; default: by the file name's ending")
    .option("--ids <file>", "ids of .npy vectors, one per line")
    .option("--id-column <name>", "column of the ids; default: id")
    .addOption(
      new Option("--id-type <type>", "type of the ids; default: by the input").choices(["string", "int64"]),
    )
    .option("--vector-column <name>", "column of the vectors; default: vector")
    .option("--fields <name:type,…>", `typed columns to route on: ${FIELD_TYPES.join(", ")}`, parseFields)
    .option(
      "--payload-columns <names>",
      'columns kept as payload; default: all others; "" for none',
      parseNames,
    )
    .option("--shard-column <name>", "column of the shard numbers, for --strategy explicit")
}

export interface ShardingFlags {
  readonly strategy?: string
  /** "auto": as `vecsnap plan` proposes. */
  readonly shards?: number | "auto"
  readonly probes?: number
  readonly bits?: number
  readonly seed?: number
  readonly iterations?: number
  readonly sampleRows?: number
  readonly layout?: string
  /** Rows stored over rows. */
  readonly replication?: number
  readonly cel?: string
  readonly values?: readonly (string | number | bigint)[]
}

export function addShardingOptions(command: Command): Command {
  return command
    .addOption(
      new Option("--strategy <name>", "how records and queries find shards").choices([...STRATEGY_NAMES]),
    )
    .option("--shards <n|auto>", "number of shards; auto: as vecsnap plan proposes", shardCount)
    .option(
      "--probes <n>",
      "cluster, lsh: shards searched per query unless it says otherwise",
      wholeNumber(1),
    )
    .option("--bits <n>", "lsh: hyperplanes", wholeNumber(1))
    .option("--seed <n>", "cluster, lsh: seed of all random choices; default 1", wholeNumber(0))
    .option("--iterations <n>", "cluster: rounds of k-means at most", wholeNumber(1))
    .option("--sample-rows <n>", "cluster, layouts plain and fast: rows to train on", wholeNumber(1))
    .addOption(
      new Option("--layout <name>", "cluster: how rows are divided; default: auto").choices([...LAYOUTS]),
    )
    .option(
      "--replication <budget>",
      "layout affinity: rows stored over rows, copies included; default: 1.2",
      parseBudget,
    )
    .option("--cel <expression>", "cel: expression over the fields, for example 'shard_hash(tenant) % 16u'")
    .option(
      "--values <a,b,…>",
      "cel: what the expression may answer; the position is the shard",
      parseRoutingValues,
    )
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
export interface ReleaseFlags extends RetentionFlags {
  /** False with --no-publish, true with --publish. */
  readonly publish?: boolean
  readonly allow?: readonly GateName[]
  readonly leaseSeconds?: number
  readonly summaryFile?: string
}

function addReleaseOptions(command: Command): Command {
  addRetentionOptions(command, "after publishing, collect, but ")
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
    .option("--memory-limit <bytes>", "what a layout may take; default: 1 GiB", wholeNumber(1))
}

export function addBuildOptions(command: Command): Command {
  command
    .option("--to <url>", "root of the snapshots: s3://bucket/prefix or a directory")
    .addOption(new Option("--metric <name>", "distance; default: cosine").choices([...METRICS]))
    .addOption(new Option("--backend <name>", "shard index; default: sqlite-vec").choices([...BACKEND_NAMES]))
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
      "what a build may take for a layout; if affinity needs more, fast is made; default: 1 GiB",
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
