/**
 * What a manifest says, once it is clear that it is one: the rows of its two tables, and what of vectors is
 * in `custom`. Checked as strictly, and taken as leniently, as the reference does. Pure.
 */
import { corrupt, messageOf, unsupported } from "../../errors.js"
import type { Json } from "../../records.js"
import { MAX_SHARDS } from "../../sharding/options.js"
import type { Metric } from "../../vectors/metric.js"
import { kindOf, quoted } from "../../wording.js"
import { parsePythonJson } from "./json.js"
import { parseTime } from "./times.js"

/** A row of a table, by column: values as SQLite has them, integers as `bigint`. */
export type Row = Readonly<Record<string, unknown>>

export interface ForeignManifest {
  readonly run: string
  readonly createdAt: Date
  /** Shards, empty ones included. */
  readonly shards: number
  /** URL of the root that it was written to. */
  readonly prefix: string
  /** Shards that hold rows, by rising number. */
  readonly entries: readonly ForeignShard[]
  readonly vector: VectorMeta
  /** What users put beside it. */
  readonly custom: Readonly<Record<string, Json>>
}

export interface ForeignShard {
  readonly shard: number
  readonly url: string
  readonly rows: number
  readonly bytes: number
}

/** `custom.vector`. */
export interface VectorMeta {
  readonly dim: number
  readonly metric: Metric
  readonly strategy: "cluster" | "lsh" | "explicit" | "cel"
  readonly probes: number
  readonly centroids: string | undefined
  readonly hyperplanes: string | undefined
  readonly cel: CelMeta | undefined
  /** Recorded by those who write it better than the reference. */
  readonly backend: string | undefined
  readonly idType: "string" | "int64" | undefined
  readonly wideIds: boolean
}

export interface CelMeta {
  readonly expression: string
  /** Types of the values of a query's context, in the order in which they are given. */
  readonly columns: Readonly<Record<string, string>>
  readonly values: readonly (string | number | bigint | Uint8Array)[] | undefined
}

export const FORMAT_VERSION = 4

/** Columns of `build_meta`, in order; all must be there. */
export const META_COLUMNS = [
  "run_id",
  "created_at",
  "num_dbs",
  "s3_prefix",
  "key_col",
  "sharding",
  "db_path_template",
  "shard_prefix",
  "format_version",
  "key_encoding",
  "custom",
] as const

/** Columns of `shards`. */
export const SHARD_COLUMNS = [
  "db_id",
  "db_url",
  "attempt",
  "row_count",
  "db_bytes",
  "min_key",
  "max_key",
  "checkpoint_id",
  "writer_info",
] as const

export const METRICS: Readonly<Record<string, Metric>> = { cosine: "cosine", l2: "l2", dot_product: "dot" }
const STRATEGIES = ["cluster", "lsh", "explicit", "cel"] as const
const KEY_ENCODINGS = ["raw", "u64be", "u32be", "utf8"]
const CEL_TYPES = ["int", "uint", "double", "bool", "string", "bytes"] as const

/**
 * The manifest from its rows: one of `build_meta`, and those of `shards`. Throws `Corrupt`, naming `key`,
 * table and column, and `Unsupported` for another version of the format.
 */
export function decodeManifest(key: string, meta: Row | undefined, rows: readonly Row[]): ForeignManifest {
  const at = createChecks(key)
  if (meta === undefined) throw at.wrong("build_meta", "no row", "one")
  const { custom, ...fields } = decodeMeta(at, meta)
  const entries = decodeShards(at, rows, fields.shards)
  const { vector, ...others } = custom
  return { ...fields, entries, vector: decodeVector(at, vector), custom: others }
}

function decodeMeta(at: Checks, meta: Row) {
  const version = at.integer("build_meta.format_version", meta.format_version)
  if (version !== FORMAT_VERSION) {
    throw unsupported(
      `${at.key} is a shardyfusion manifest of version ${version}; this vecsnap reads version ${FORMAT_VERSION}`,
      { key: at.key, version },
    )
  }
  const createdAt = parseTime(meta.created_at)
  if (createdAt === undefined) throw at.wrong("build_meta.created_at", at.shown(meta.created_at), "a time")
  const shards = at.integer("build_meta.num_dbs", meta.num_dbs)
  if (shards < 1) throw at.wrong("build_meta.num_dbs", shards, "1 or more")
  if (shards > MAX_SHARDS)
    throw unsupported(`${at.key} has ${shards} shards; this vecsnap reads at most ${MAX_SHARDS}`, {
      key: at.key,
      shards,
    })
  for (const column of ["key_col", "db_path_template", "shard_prefix"] as const)
    at.text(`build_meta.${column}`, meta[column])
  const encoding = at.text("build_meta.key_encoding", meta.key_encoding)
  if (!KEY_ENCODINGS.includes(encoding))
    throw at.wrong("build_meta.key_encoding", quoted(encoding), `one of ${KEY_ENCODINGS.join(", ")}`)
  checkSharding(at, at.json("build_meta.sharding", meta.sharding), shards)
  const custom = meta.custom === null || meta.custom === "" ? {} : at.json("build_meta.custom", meta.custom)
  return {
    run: at.text("build_meta.run_id", meta.run_id),
    createdAt,
    shards,
    prefix: at.text("build_meta.s3_prefix", meta.s3_prefix),
    custom: at.object("build_meta.custom", custom),
  }
}

const SHARDING_KEYS = ["cel_columns", "cel_expr", "hash_algorithm", "routing_values", "strategy"]

/** What routes keys, which vectors do not go by; the reference refuses it if it is not as it wrote it. */
function checkSharding(at: Checks, value: Json, shards: number): void {
  const name = "build_meta.sharding"
  const sharding = at.object(name, value)
  const unknown = Object.keys(sharding).find((property) => !SHARDING_KEYS.includes(property))
  if (unknown !== undefined)
    throw at.wrong(name, `the property ${quoted(unknown)}`, `only ${SHARDING_KEYS.join(", ")}`)
  const { hash_algorithm: hash, strategy = "hash", cel_expr, cel_columns, routing_values } = sharding
  if (hash !== "xxh3_64") throw at.wrong(`${name}.hash_algorithm`, at.shown(hash), '"xxh3_64"')
  if (strategy !== "hash" && strategy !== "cel")
    throw at.wrong(`${name}.strategy`, at.shown(strategy), '"hash" or "cel"')
  if (strategy === "hash") {
    for (const [property, given] of Object.entries({ cel_expr, cel_columns, routing_values })) {
      if (given !== undefined && given !== null)
        throw at.wrong(`${name}.${property}`, at.shown(given), 'null where the strategy is "hash"')
    }
    return
  }
  if (typeof cel_expr !== "string" || cel_expr === "")
    throw at.wrong(`${name}.cel_expr`, at.shown(cel_expr), "an expression")
  if (Object.keys(at.object(`${name}.cel_columns`, cel_columns)).length === 0)
    throw at.wrong(`${name}.cel_columns`, "no column", "one or more")
  if (routing_values === undefined || routing_values === null) return
  const values = routingValues(at, `${name}.routing_values`, routing_values)
  const expected = Math.max(1, values.length)
  if (shards !== expected) throw at.wrong("build_meta.num_dbs", shards, `${expected}, one per routing value`)
}

function decodeShards(at: Checks, rows: readonly Row[], shards: number): readonly ForeignShard[] {
  if (rows.length > shards) throw at.wrong("shards", `more than ${shards} rows`, "one per shard at most")
  const seen = new Set<number>()
  const entries: ForeignShard[] = []
  for (const row of rows) {
    const shard = at.integer("shards.db_id", row.db_id)
    if (shard < 0 || shard >= shards) throw at.wrong("shards.db_id", shard, `0 to ${shards - 1}`)
    if (seen.has(shard)) throw at.wrong("shards.db_id", `${shard} twice`, "each once")
    seen.add(shard)
    const count = (column: "attempt" | "row_count" | "db_bytes"): number => {
      const value = at.integer(`shards.${column} of shard ${shard}`, row[column])
      if (value < 0) throw at.wrong(`shards.${column} of shard ${shard}`, value, "0 or more")
      return value
    }
    count("attempt")
    for (const column of ["min_key", "max_key"] as const) {
      const name = `shards.${column} of shard ${shard}`
      const bound = row[column] === null ? null : at.json(name, row[column])
      if (bound !== null && typeof bound !== "string" && !isInteger(bound))
        throw at.wrong(name, at.shown(bound), "an integer or a string")
    }
    if (row.checkpoint_id !== null) at.text(`shards.checkpoint_id of shard ${shard}`, row.checkpoint_id)
    const info = `shards.writer_info of shard ${shard}`
    at.object(info, at.json(info, row.writer_info))
    const [rowCount, bytes] = [count("row_count"), count("db_bytes")]
    // Without a URL it is empty, and without rows too: there is nothing to be found in it.
    if (row.db_url === null || rowCount === 0) continue
    entries.push({
      shard,
      url: at.text(`shards.db_url of shard ${shard}`, row.db_url),
      rows: rowCount,
      bytes,
    })
  }
  return entries.sort((a, b) => a.shard - b.shard)
}

function decodeVector(at: Checks, given: Json | undefined): VectorMeta {
  const name = "custom.vector"
  if (given === undefined || given === null) {
    throw unsupported(`${at.key} is a shardyfusion manifest without ${name}: it is no snapshot of vectors`, {
      key: at.key,
    })
  }
  const vector = at.object(name, given)
  if (Object.keys(vector).length === 0) throw at.wrong(name, "an empty object", "what vectors there are")
  if (vector.unified === true)
    throw unsupported(`${at.key} is of a shardyfusion snapshot of keys and vectors, expected vectors only`, {
      key: at.key,
    })
  const text = (property: string): string | undefined => {
    const value = vector[property]
    return value === undefined || value === null ? undefined : at.text(`${name}.${property}`, value)
  }
  const choice = <T extends string>(property: string, names: readonly T[], fallback: T): T => {
    const value = text(property) ?? fallback
    if (!names.includes(value as T))
      throw at.wrong(`${name}.${property}`, quoted(value), `one of ${names.join(", ")}`)
    return value as T
  }
  const integer = (property: string, fallback: number): number => {
    const value = vector[property]
    return value === undefined ? fallback : at.integer(`${name}.${property}`, value)
  }
  const metric = choice("metric", Object.keys(METRICS), "cosine")
  const strategy = choice("sharding_strategy", STRATEGIES, "explicit")
  // Nobody gains by refusing it: the reference then returns nothing unless a query says more.
  const probes = Math.max(1, integer("num_probes", 1))
  return {
    dim: integer("dim", 0),
    metric: METRICS[metric]!,
    strategy,
    probes,
    centroids: text("centroids_ref"),
    hyperplanes: text("hyperplanes_ref"),
    cel: strategy === "cel" ? decodeCel(at, vector) : undefined,
    backend: text("backend"),
    ...decodeIds(at, vector.vecsnap),
  }
}

/** Of those that we write: the type of the ids, which the format itself does not tell. */
function decodeIds(at: Checks, given: Json | undefined): Pick<VectorMeta, "idType" | "wideIds"> {
  if (given === undefined) return { idType: undefined, wideIds: false }
  const { id_type: idType, wide_ids: wideIds } = at.object("custom.vector.vecsnap", given)
  if (idType !== undefined && idType !== "string" && idType !== "int64")
    throw at.wrong("custom.vector.vecsnap.id_type", at.shown(idType), '"string" or "int64"')
  return { idType, wideIds: wideIds === true }
}

function decodeCel(at: Checks, vector: Readonly<Record<string, Json>>): CelMeta {
  const expression = at.text("custom.vector.cel_expr", vector.cel_expr)
  const given = at.object("custom.vector.cel_columns", vector.cel_columns)
  const columns: [string, string][] = Object.entries(given).map(([column, type]) => {
    const name = `custom.vector.cel_columns.${column}`
    const known = CEL_TYPES.find((one) => one === type)
    if (known === undefined) throw at.wrong(name, at.shown(type), `one of ${CEL_TYPES.join(", ")}`)
    return [column, known]
  })
  const values = vector.routing_values
  return {
    expression,
    columns: Object.fromEntries(columns),
    values:
      values === undefined || values === null
        ? undefined
        : routingValues(at, "custom.vector.routing_values", values),
  }
}

/** Distinct values of one type: integers, texts, or bytes as `{"__bytes_hex__": "00ff"}`. */
function routingValues(
  at: Checks,
  name: string,
  given: Json,
): readonly (string | number | bigint | Uint8Array)[] {
  if (!Array.isArray(given)) throw at.wrong(name, kindOf(given), "a list")
  const values = given.map((value: Json, place) => {
    if (typeof value === "string" || isInteger(value)) return value as string | number | bigint
    const hex =
      typeof value === "object" && value !== null && !Array.isArray(value)
        ? (value as Readonly<Record<string, Json>>).__bytes_hex__
        : undefined
    if (typeof hex === "string" && /^([0-9a-f]{2})*$/i.test(hex))
      return new Uint8Array(Buffer.from(hex, "hex"))
    throw at.wrong(`${name}[${place}]`, at.shown(value), "an integer, a string or bytes")
  })
  const kinds = new Set(values.map((value) => (typeof value === "bigint" ? "number" : typeof value)))
  if (kinds.size > 1) throw at.wrong(name, "values of several types", "values of one type")
  const seen = new Set<string>()
  for (const value of values) {
    const text = value instanceof Uint8Array ? Buffer.from(value).toString("hex") : String(value)
    if (seen.has(text)) throw at.wrong(name, `${quoted(text)} twice`, "each value once")
    seen.add(text)
  }
  return values
}

const isInteger = (value: Json): boolean => typeof value === "bigint" || Number.isSafeInteger(value)

/** Checks of values that say which column they are of. All throw `Corrupt`. */
interface Checks {
  readonly key: string
  wrong(name: string, got: unknown, expected: string): Error
  /** A value in a message. */
  shown(value: unknown): string
  text(name: string, value: unknown): string
  /** Also text of digits and whole floats, as the reference takes them. */
  integer(name: string, value: unknown): number
  json(name: string, value: unknown): Json
  object(name: string, value: Json | undefined): Readonly<Record<string, Json>>
}

const INTEGER = /^\s*[+-]?\d+(?:\.0*)?\s*$/

function createChecks(key: string): Checks {
  const wrong = (name: string, got: unknown, expected: string): Error =>
    corrupt(`${key}: ${name} has ${got}, expected ${expected}`, { key })
  const shown = (value: unknown): string => {
    if (typeof value === "string") return quoted(value)
    return typeof value === "number" || typeof value === "bigint" ? String(value) : kindOf(value)
  }
  return {
    key,
    wrong,
    shown,
    text(name, value) {
      if (typeof value === "string") return value
      throw wrong(name, shown(value), "text")
    },
    integer(name, value) {
      const isNumeric =
        typeof value === "bigint" ||
        typeof value === "number" ||
        (typeof value === "string" && INTEGER.test(value))
      const number = isNumeric ? Number(value) : Number.NaN
      if (Number.isSafeInteger(number)) return number
      throw wrong(name, shown(value), "an integer")
    },
    json(name, value) {
      if (typeof value !== "string") throw wrong(name, shown(value), "JSON text")
      try {
        return parsePythonJson(value)
      } catch (error) {
        throw wrong(name, `${quoted(value)}: ${messageOf(error)}`, "JSON")
      }
    },
    object(name, value) {
      if (typeof value === "object" && value !== null && !Array.isArray(value))
        return value as Readonly<Record<string, Json>>
      throw wrong(name, kindOf(value), "a JSON object")
    },
  }
}
