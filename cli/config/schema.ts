/**
 * The keys of `vecsnap.yaml`, their types and what they mean. Keys are named like the flags of `vecsnap
 * build`.
 *
 * Defaults are not applied here: an absent key is absent, so that a flag and then the library decide. Those
 * in the descriptions are for people and for editors.
 */
import { z } from "zod"
import {
  BACKEND_NAMES,
  FIELD_TYPES,
  GATE_NAMES,
  type Json,
  METRICS,
  SOURCE_FORMATS,
  STRATEGY_NAMES,
  TRUSTS,
  VECTOR_ENCODINGS,
} from "../../src/index.js"
import { BUILD_MEMORY_RULE } from "../../src/machine.js"
import {
  aboutSetting,
  type SettingKey,
  type ShardingSetting,
  shardingSettings,
} from "../../src/sharding/registry.js"
import { indexSettings } from "../../src/shards/registry.js"
import { DURATION, durationSeconds } from "../duration.js"

// The message of every leaf says what was expected; what was found is added when a fault is reported.
const text = z.string("a text").min(1, "a text that is not empty")
const flag = z.boolean("true or false")
const wholeNumber = (least: number, expected = `a whole number from ${least}`): z.ZodNumber => {
  return z.number(expected).int(expected).min(least, expected)
}
const numberFrom = (least: number): z.ZodNumber => {
  const expected = `a number from ${least}`
  return z.number(expected).min(least, expected)
}
const numberBetween = (least: number, most: number): z.ZodNumber => {
  const expected = `a number from ${least} to ${most}`
  return z.number(expected).min(least, expected).max(most, expected)
}
const percent = numberBetween(0, 100)
const duration = z.string(DURATION).refine((value) => durationSeconds(value) !== undefined, DURATION)
const oneOf = <const T extends readonly string[]>(names: T) => z.enum(names, `one of ${names.join(", ")}`)
const oneOrMoreTexts = z.union([text, z.array(text).min(1, "at least one text")], "a text or a list of texts")

const json: z.ZodType<Json> = z
  .lazy(() =>
    z.union(
      [z.string(), z.number(), z.bigint(), z.boolean(), z.null(), z.array(json), z.record(z.string(), json)],
      "a JSON value",
    ),
  )
  .meta({ id: "json" })

const SHARD_COUNT = 'a whole number from 1, or "auto"'

/** The values of a setting, as its strategy declares it. */
function settingValue({ name, declaration }: ShardingSetting): z.ZodType {
  if (name === "shards")
    return z.union([wholeNumber(1, SHARD_COUNT), z.literal("auto", SHARD_COUNT)], SHARD_COUNT)
  const { type } = declaration.setting
  switch (type.kind) {
    case "whole":
      return wholeNumber(type.least)
    case "number":
      return numberBetween(type.least, type.most)
    case "choice":
      return oneOf(type.names)
    case "text":
      return text
    case "values":
      return z
        .array(z.union([z.string(), z.number(), z.bigint()]), "a list of texts or whole numbers")
        .min(1, "at least one value")
  }
}

function settingDescription(setting: ShardingSetting): string {
  if (setting.name === "shards")
    return "Number of shards; auto, for cluster and lsh: as `vecsnap plan` proposes. Default, without a strategy: auto."
  const { about, default: value } = aboutSetting(setting)
  return value === undefined ? `${about}.` : `${about}. Default: ${value}.`
}

/** "sampleRows" as "sample-rows". */
type Hyphened<Text extends string> = Text extends `${infer First}${infer Rest}`
  ? `${First extends Lowercase<First> ? First : `-${Lowercase<First>}`}${Hyphened<Rest>}`
  : Text
interface SettingValues extends Record<SettingKey, unknown> {
  shards: number | "auto"
  values: (string | number | bigint)[]
}
type SettingsShape = {
  [Key in SettingKey as Hyphened<Key>]: z.ZodOptional<z.ZodType<SettingValues[Key]>>
}

const settings = Object.fromEntries(
  shardingSettings().map((setting) => [
    setting.name,
    settingValue(setting).optional().describe(settingDescription(setting)),
  ]),
) as SettingsShape

const sharding = z.strictObject({
  strategy: oneOf(STRATEGY_NAMES)
    .optional()
    .describe("How records and queries find shards. Default: cluster."),
  ...settings,
})

const index = z.strictObject(
  Object.fromEntries(
    indexSettings().map(({ name, declaration, backends }) => {
      const { about, least, most, default: value } = declaration
      const expected = `a whole number from ${least} to ${most}`
      const number = wholeNumber(least, expected).max(most, expected).optional()
      return [name, number.describe(`${backends.join(", ")}: ${about}. Default: ${value}.`)]
    }),
  ),
)

const ENCRYPTIONS = ["AES256", "aws:kms", "aws:kms:dsse"] as const

const storage = z.strictObject({
  endpoint: text.optional().describe("S3: address of the server. Default: AWS_ENDPOINT_URL_S3, else AWS."),
  region: text.optional().describe("S3: region. Default: from the environment or the AWS profile."),
  "path-style": flag
    .optional()
    .describe(
      "S3: bucket in the path rather than in the host name. Default: true with an endpoint of its own.",
    ),
  proxy: text
    .optional()
    .describe("S3: proxy on the way, http://host:port. Default: as HTTPS_PROXY and NO_PROXY say."),
  "ca-file": text
    .optional()
    .describe("S3: PEM file of authorities to trust beside Node's own. Default: AWS_CA_BUNDLE."),
  encryption: oneOf(ENCRYPTIONS)
    .optional()
    .describe("S3: how the store encrypts what is written. Default: by the bucket's own rule."),
  "kms-key": text.optional().describe("S3: key of KMS to encrypt with; means encryption: aws:kms."),
  "storage-class": text.optional().describe("S3: storage class of what is written. Default: the bucket's."),
  acl: text.optional().describe("S3: ACL of what is written, as in bucket-owner-full-control."),
  "requester-pays": flag
    .optional()
    .describe("S3: whether we, not the bucket's owner, pay for requests. Default: false."),
  headers: z
    .record(z.string(), text, "a map of header names to texts")
    .optional()
    .describe("S3: headers of every request."),
})

// A gate with one limit needs it: `skew: {}` would look like a gate and be none.
const gates = z.strictObject({
  allow: z
    .array(oneOf(GATE_NAMES), "a list of gate names")
    .optional()
    .describe("Gates that may fail; --allow adds to them."),
  rows: z
    .strictObject({
      min: wholeNumber(0).optional().describe("Fewest rows."),
      "max-drop-percent": percent
        .optional()
        .describe("How much smaller than the live snapshot it may be, in percent of that."),
      "max-grow-percent": numberFrom(0)
        .optional()
        .describe("How much larger than the live snapshot it may be, in percent of that."),
    })
    .optional()
    .describe("Number of rows, alone and against the live snapshot."),
  "skipped-rows": z
    .strictObject({ "max-percent": percent.describe("In percent, from 0 to 100.") })
    .optional()
    .describe("Share of the rows read that were bad and left out."),
  duplicates: z
    .strictObject({ "max-percent": percent.describe("In percent, from 0 to 100.") })
    .optional()
    .describe("Share of the rows read whose id was there before."),
  skew: z
    .strictObject({ max: numberFrom(1).describe("At least 1.") })
    .optional()
    .describe("Rows of the largest shard over the average."),
  norms: z
    .strictObject({ "max-drift-percent": numberFrom(0).describe("In percent of the live snapshot's.") })
    .optional()
    .describe("How far the median norm of the vectors is from the live snapshot's."),
  "zero-norms": z
    .strictObject({ "max-percent": percent.describe("In percent, from 0 to 100.") })
    .optional()
    .describe("Share of the vectors that are all zeros."),
  "centroid-drift": z
    .strictObject({ max: numberFrom(0).describe("At least 0.") })
    .optional()
    .describe("cluster: how far the centroids are from the nearest ones of the live snapshot, on average."),
  overlap: z
    .strictObject({
      min: numberBetween(0, 1).describe("Least share of equal hits, from 0 to 1."),
      queries: wholeNumber(1).optional().describe("Sample queries. Default: 100."),
      k: wholeNumber(1).optional().describe("Hits per query. Default: 10."),
      probes: z
        .union([wholeNumber(1), z.literal("all")], 'a whole number from 1, or "all"')
        .optional()
        .describe('Shards searched per query, or "all". Default: the snapshot\'s.'),
    })
    .optional()
    .describe("Sample queries on both snapshots: share of equal hits, for ids in both."),
  recall: z
    .strictObject({
      min: numberBetween(0, 1).describe("Least recall, from 0 to 1."),
      k: z
        .union([z.literal(1), z.literal(10), z.literal(100)], "1, 10 or 100")
        .optional()
        .describe("Of how many nearest records: 1, 10 or 100. Default: 10."),
      probes: wholeNumber(1).optional().describe("Shards searched. Default: the snapshot's."),
    })
    .optional()
    .describe("Recall that the build has measured."),
})

const KEY_FILE = "the path of a key file"
// A configuration is no place for a secret, and lies where others read it.
const keyFile = text.refine((value) => !value.includes("-----BEGIN"), KEY_FILE)
const keyFiles = z
  .union([keyFile, z.array(keyFile).min(1, KEY_FILE)], `${KEY_FILE}, or a list of them`)
  .transform((files) => (typeof files === "string" ? [files] : files))

const trustedKey = z.union(
  [
    keyFile,
    z.strictObject({
      key: keyFile.describe("Path of the key's file."),
      "valid-until": z.iso.datetime({ offset: true, error: "a time such as 2027-01-31T00:00:00Z" }),
    }),
  ],
  `${KEY_FILE}, or { key, valid-until }`,
)
const trustedKeys = z
  .union([keyFile, z.array(trustedKey).min(1, KEY_FILE)], `${KEY_FILE}, or a list of them`)
  .transform((keys) =>
    (typeof keys === "string" ? [keys] : keys).map((one) =>
      typeof one === "string" ? one : { key: one.key, validUntil: new Date(one["valid-until"]) },
    ),
  )

const retention = z.strictObject({
  "keep-last": wholeNumber(1)
    .optional()
    .describe(
      "Published snapshots kept, the live one included; 1 to 100. Default: 3. A build collects if it is set.",
    ),
  "keep-days": numberFrom(0)
    .optional()
    .describe("Snapshots built within so many days are kept too. A build collects if it is set."),
  "keep-unpublished-days": numberFrom(0)
    .optional()
    .describe("Days that snapshots which were never published are kept. Default: 7."),
  grace: duration
    .optional()
    .describe(
      "Nothing written or live within this time is collected: a number with s, m, h or d. Default: 6h.",
    ),
})

export const schema = z.strictObject({
  input: oneOrMoreTexts
    .transform((input) => (typeof input === "string" ? [input] : input))
    .optional()
    .describe("Files, globs or s3:// objects; a list or one."),
  sql: text.optional().describe("Reads the rows of an SQL query over files (DuckDB) instead of inputs."),
  format: oneOf(SOURCE_FORMATS)
    .optional()
    .describe("Format of the inputs. Default: by the file name or its first bytes."),
  ids: text
    .optional()
    .describe("Ids of vectors that have none (.npy, .fvecs …): a file with one per line, .npy or Parquet."),
  "id-column": text.optional().describe("Column of the ids. Default: id."),
  "id-type": oneOf(["string", "int64"]).optional().describe("Type of the ids. Default: by the input."),
  "vector-column": text
    .optional()
    .describe('Column of the vectors, or "emb_*" for one per dimension. Default: vector.'),
  "vector-encoding": oneOf(VECTOR_ENCODINGS)
    .optional()
    .describe("What the bytes of vectors in binary columns are."),
  "binary-as-string": flag.optional().describe("Take binary data in all other columns for text."),
  fields: z
    .record(z.string(), oneOf(FIELD_TYPES), "a map of field names to types")
    .optional()
    .describe("Typed columns to route and filter on: a map of names to types."),
  "payload-columns": z
    .array(text, "a list of column names")
    .optional()
    .describe("Columns kept as payload. Default: all others; [] for none."),
  "shard-column": text.optional().describe("Column of the shard numbers, for the strategy explicit."),
  to: text.optional().describe("Root of the snapshots: s3://bucket/prefix or a directory."),
  metric: oneOf(METRICS).optional().describe("Distance. Default: cosine."),
  backend: oneOf(BACKEND_NAMES)
    .optional()
    .describe("Shard index. Default: sqlite-vec; with shards: auto, as `vecsnap plan` proposes."),
  index: index.optional().describe("Options of the shard index."),
  sharding: sharding.optional().describe("How the records are parted."),
  "routing-from": text
    .optional()
    .describe("Takes trained routing from the live snapshot there instead of training."),
  "on-bad-row": oneOf(["fail", "skip"])
    .optional()
    .describe("Whether a bad row ends the build or is left out. Default: fail."),
  "max-bad-rows": wholeNumber(0)
    .optional()
    .describe("With on-bad-row: skip, more end the build. Default: 1000."),
  "on-duplicate": oneOf(["fail", "first", "last"])
    .optional()
    .describe("Which of the rows with one id counts. Default: fail."),
  parallelism: wholeNumber(1)
    .optional()
    .describe("Shards built at the same time. Default: the number of cores."),
  "memory-limit": wholeNumber(1)
    .optional()
    .describe(
      `Bytes that a build may take for a layout; if affinity needs more, fast is made. Default: ${BUILD_MEMORY_RULE}.`,
    ),
  queries: oneOrMoreTexts
    .transform((queries) => (typeof queries === "string" ? [queries] : queries))
    .optional()
    .describe("Files of real queries to measure recall with, read as the inputs are; a list or one."),
  "certificate-rows": wholeNumber(0)
    .optional()
    .describe(
      "Without queries, rows held out to measure recall with; 0 to measure none. Default: 1000, at most one in twenty.",
    ),
  "temp-dir": text.optional().describe("Where the temporary directory is made. Default: the system's."),
  model: text.optional().describe("Label of the embedding model, recorded in the snapshot."),
  custom: z.record(z.string(), json, "a map").optional().describe("Anything else to record in the snapshot."),
  gates: gates.optional().describe("Limits that a built snapshot must keep before it is published."),
  retention: retention.optional().describe("What is collected after publishing. Default: nothing."),
  publish: flag.optional().describe("Whether what was built becomes live. Default: true."),
  "lease-seconds": wholeNumber(30)
    .optional()
    .describe("A run that is silent for this long counts as dead. Default: 120."),
  trust: oneOf(TRUSTS)
    .optional()
    .describe(
      "Whether those who can write to the root are trusted; if not, commands read shards in a process of their own. Default: trusted.",
    ),
  "summary-file": text.optional().describe("The JSON summary of a build is written to this file too."),
  "sign-key": keyFiles
    .optional()
    .describe("Files of private keys that sign what is published; a list or one. Default: not signed."),
  "trusted-keys": trustedKeys
    .optional()
    .describe("Files of public keys: only what one of them has signed is opened. Default: all is."),
  storage: storage
    .optional()
    .describe(
      "How the object store is reached. Credentials have no key: they come from the AWS environment or profile.",
    ),
})

/** Settings of the file, checked; keys as in the file. */
export type Config = z.output<typeof schema>

/** Keys of each map of settings, by its path: "" is the file itself, "gates.rows" a group in a group. */
export const KEYS_OF_GROUPS: ReadonlyMap<string, readonly string[]> = new Map(groupsOf("", schema))

function groupsOf(path: string, group: z.ZodObject): [path: string, keys: readonly string[]][] {
  const nested = Object.entries(group.shape).flatMap(([key, value]) => {
    const inner = value instanceof z.ZodOptional ? value.unwrap() : value
    return inner instanceof z.ZodObject ? groupsOf(path === "" ? key : `${path}.${key}`, inner) : []
  })
  return [[path, Object.keys(group.shape)], ...nested]
}
