/**
 * The `cel` strategy and its options, without what it takes to make one: CEL is loaded for builds and readers
 * only.
 */
import { MAX_SHARDS, type OptionDeclaration, SHARDS, show, wrongOption, wrongText } from "../options.js"
import type { StrategyType } from "../strategy.js"

export interface CelOptions {
  readonly strategy: "cel"
  /** Number of shards; not with `values`, whose length it then is. */
  readonly shards?: number | undefined
  /** CEL over the declared fields, for example `shard_hash(tenant) % 16u`. */
  readonly expression: string
  /** Routing values: the expression's result is looked up here, its position is the shard. */
  readonly values?: readonly (string | number | bigint | Uint8Array)[] | undefined
}

export interface ResolvedCel {
  readonly strategy: "cel"
  readonly shards: number
  readonly expression: string
  /** Integers as `bigint`, as CEL has them. Absent: the expression gives the number of the shard. */
  readonly values?: readonly (string | bigint | Uint8Array)[]
}

const EXAMPLE = "shard_hash(tenant) % 16u"

const expression: OptionDeclaration<string> = {
  about: "expression over the fields that gives a record's shard",
  setting: { name: "cel", type: { kind: "text", example: EXAMPLE } },
  resolve(value, option) {
    if (typeof value === "string" && value.trim() !== "") return value
    throw wrongOption(option, `CEL text, for example \`${EXAMPLE}\``, value)
  },
}

const values: OptionDeclaration<ResolvedCel["values"]> = {
  about: "what the expression may answer; the position is the shard",
  setting: { type: { kind: "values" } },
  resolve: (value, option) => (value === undefined ? undefined : routingValues(value, option)),
}

const OPTIONS = { shards: SHARDS, expression, values }

export const celType: StrategyType<"cel", CelOptions, ResolvedCel> = {
  name: "cel",
  queriesBy: "context",
  trained: false,
  options: OPTIONS,
  resolve: resolveCel,
  // Routing values say how many shards there are; both agree in a manifest that we wrote.
  described: ({ shards, options }) => (options.values === undefined ? { ...options, shards } : options),
  load: async () => (await import("./strategy.js")).celMaker,
}

function resolveCel(given: CelOptions): ResolvedCel {
  const text = expression.resolve(given.expression, "expression", {})
  const listed = values.resolve(given.values, "values", {})
  if (listed === undefined) {
    const shards = SHARDS.resolve(given.shards, "shards", {})
    return Object.freeze({ strategy: "cel", shards, expression: text })
  }
  if (given.shards !== undefined && given.shards !== listed.length) {
    throw wrongOption("shards", `${listed.length}, the number of sharding.values, or nothing`, given.shards)
  }
  return Object.freeze({ strategy: "cel", shards: listed.length, expression: text, values: listed })
}

function routingValues(given: unknown, option: string): NonNullable<ResolvedCel["values"]> {
  const expected = `a list of 1 to ${MAX_SHARDS} strings or integers`
  if (!Array.isArray(given)) throw wrongOption(option, expected, given)
  if (given.length < 1 || given.length > MAX_SHARDS)
    throw wrongText(option, expected, `${given.length} values`)
  const listed = given.map((value: unknown, i) => {
    // Other readers of such a snapshot cut text at a NUL, which would make two values one.
    if (typeof value === "string" && !value.includes("\0")) return value
    if (typeof value === "bigint" || Number.isSafeInteger(value)) return BigInt(value as number | bigint)
    // Of other formats: no manifest of ours has bytes.
    if (value instanceof Uint8Array) return value
    throw wrongOption(`${option}[${i}]`, "a string without NUL, or an integer", value)
  })
  const seen = new Set<string | bigint>()
  for (const value of listed) {
    const key = value instanceof Uint8Array ? `\0${Buffer.from(value).toString("hex")}` : value
    if (seen.has(key)) throw wrongText(option, "distinct values", `${show(value)} twice`)
    seen.add(key)
  }
  return Object.freeze(listed)
}
