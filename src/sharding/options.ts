/**
 * Sharding options: validated, defaults filled in, copied and frozen.
 */
import { corrupt, invalidInput, isVecsnapError, type VecsnapError } from "../errors.js"
import {
  type ClusterOptions,
  type ExplicitOptions,
  LAYOUTS,
  type LayoutName,
  type LshOptions,
  type ShardingDescription,
  type ShardingOptions,
  STRATEGY_NAMES,
  type StrategyName,
} from "./strategy.js"

export type ResolvedSharding = ResolvedCluster | ResolvedLsh | ResolvedExplicit | ResolvedCel
export interface ResolvedCluster extends Readonly<Required<ClusterOptions>> {
  /** A budget of 1, no copies, with the layouts `fast` and `plain`. */
  readonly replication: { readonly budget: number }
}
export type ResolvedLsh = Readonly<Required<LshOptions>>
export type ResolvedExplicit = Readonly<ExplicitOptions>
export interface ResolvedCel {
  readonly strategy: "cel"
  readonly shards: number
  readonly expression: string
  /** Integers as `bigint`, as CEL has them. Absent: the expression gives the number of the shard. */
  readonly values?: readonly (string | bigint)[]
}

/** More shards than this mean shards too small to be worth a request each. */
export const MAX_SHARDS = 65_536

export const DEFAULT_LAYOUT: LayoutName = "auto"
const DEFAULT_BUDGET = 1.2
const MAX_BUDGET = 16

const MAX_LSH_BITS = 1024
const MAX_SAMPLE_ROWS = 2 ** 26
const MAX_ITERATIONS = 10_000

type Raw = Readonly<Record<string, unknown>>

const RESOLVERS = {
  cluster: {
    resolve: resolveCluster,
    options: ["shards", "probes", "sampleRows", "iterations", "seed", "layout", "replication"],
  },
  lsh: { resolve: resolveLsh, options: ["shards", "bits", "probes", "seed", "probeOrder"] },
  explicit: { resolve: resolveExplicit, options: ["shards"] },
  cel: { resolve: resolveCel, options: ["shards", "expression", "values"] },
} as const satisfies Record<
  StrategyName,
  { resolve: (raw: Raw) => ResolvedSharding; options: readonly string[] }
>

/**
 * Checks options as a user gave them, from code or a configuration file. Throws `InvalidInput` naming the option, what
 * was expected and what was found; an option that the strategy does not have is refused too, since it is likely a typo.
 */
export function resolveSharding(options: ShardingOptions): ResolvedSharding {
  const raw = options as unknown
  if (typeof raw !== "object" || raw === null) throw wrong("sharding", "an object with a strategy", raw)
  const name = strategyName((raw as Raw).strategy)
  const known: readonly string[] = RESOLVERS[name].options
  for (const option of Object.keys(raw)) {
    if (option !== "strategy" && !known.includes(option)) {
      throw invalidInput(
        `the ${name} strategy has no option sharding.${option}; it has ${known.join(", ")}`,
        { option },
      )
    }
  }
  assertOnlyBudget((raw as Raw).replication)
  return RESOLVERS[name].resolve(raw as Raw)
}

/**
 * The options that a manifest recorded. Options unknown to this version are ignored, as everywhere in a manifest.
 * Throws `Corrupt` if one is missing or wrong.
 */
export function resolveDescription(description: ShardingDescription): ResolvedSharding {
  const { strategy, shards, options } = description
  // A list of routing values says how many shards there are; both agree in a manifest that we wrote.
  // One without a layout is of a time before there were others.
  const raw =
    strategy === "cel" && options.values !== undefined ? options : { layout: "plain", ...options, shards }
  const resolved = asCorrupt("the manifest's sharding", () => RESOLVERS[strategyName(strategy)].resolve(raw))
  if (resolved.shards !== shards) {
    throw corrupt(
      `the manifest's sharding has ${resolved.shards} routing values, expected ${shards}, one per shard`,
    )
  }
  return resolved
}

/** Runs `step`; what would be the user's fault in an option is damage in something stored. */
export function asCorrupt<T>(what: string, step: () => T): T {
  try {
    return step()
  } catch (error) {
    if (!isVecsnapError(error, "InvalidInput")) throw error
    throw corrupt(`${what} is damaged: ${error.message}`, error.details, error)
  }
}

function strategyName(value: unknown): StrategyName {
  const name = STRATEGY_NAMES.find((known) => known === value)
  if (name === undefined) throw wrong("strategy", `one of ${STRATEGY_NAMES.join(", ")}`, value)
  return name
}

function resolveCluster(raw: Raw): ResolvedCluster {
  const shards = integer(raw, "shards", { from: 1, to: MAX_SHARDS })
  const layout = LAYOUTS.find((known) => known === (raw.layout ?? DEFAULT_LAYOUT))
  if (layout === undefined) throw wrong("layout", `one of ${LAYOUTS.join(", ")}`, raw.layout)
  return Object.freeze({
    strategy: "cluster",
    shards,
    probes: probesOption(raw, shards),
    sampleRows: integer(raw, "sampleRows", {
      from: shards,
      to: MAX_SAMPLE_ROWS,
      default: Math.max(20_000, 256 * shards),
    }),
    iterations: integer(raw, "iterations", { from: 1, to: MAX_ITERATIONS, default: 20 }),
    seed: seedOption(raw),
    layout,
    replication: Object.freeze({ budget: budgetOption(raw.replication, layout) }),
  })
}

function assertOnlyBudget(replication: unknown): void {
  if (typeof replication !== "object" || replication === null) return
  for (const option of Object.keys(replication)) {
    if (option !== "budget") {
      throw invalidInput(`sharding.replication has no option ${option}; it has budget`, { option })
    }
  }
}

function budgetOption(replication: unknown, layout: LayoutName): number {
  const makesCopies = layout === "affinity" || layout === "auto"
  const defaultBudget = makesCopies ? DEFAULT_BUDGET : 1
  if (replication === undefined) return defaultBudget
  if (typeof replication !== "object" || replication === null || Array.isArray(replication)) {
    throw wrong("replication", "an object with a budget", replication)
  }
  const { budget = defaultBudget } = replication as { budget?: unknown }
  if (typeof budget !== "number" || !(budget >= 1 && budget <= MAX_BUDGET)) {
    throw wrong("replication.budget", `a number from 1 to ${MAX_BUDGET}`, budget)
  }
  if (!makesCopies && budget > 1) {
    throw wrong("replication.budget", `1 with the layout ${layout}, which makes no copies`, budget)
  }
  return budget
}

function resolveLsh(raw: Raw): ResolvedLsh {
  const shards = integer(raw, "shards", { from: 1, to: MAX_SHARDS })
  // Fewer bits would leave shards that no code leads to.
  const fewestBits = Math.max(1, Math.ceil(Math.log2(shards)))
  const probeOrder = raw.probeOrder ?? "margin"
  if (probeOrder !== "margin" && probeOrder !== "bit")
    throw wrong("probeOrder", '"margin" or "bit"', probeOrder)
  return Object.freeze({
    strategy: "lsh",
    shards,
    bits: integer(raw, "bits", { from: fewestBits, to: MAX_LSH_BITS, default: Math.max(8, fewestBits + 2) }),
    probes: probesOption(raw, shards),
    seed: seedOption(raw),
    probeOrder,
  })
}

function resolveExplicit(raw: Raw): ResolvedExplicit {
  return Object.freeze({ strategy: "explicit", shards: integer(raw, "shards", { from: 1, to: MAX_SHARDS }) })
}

function resolveCel(raw: Raw): ResolvedCel {
  const { expression } = raw
  if (typeof expression !== "string" || expression.trim() === "") {
    throw wrong("expression", "CEL text, for example `shard_hash(tenant) % 16u`", expression)
  }
  if (raw.values === undefined) {
    return Object.freeze({
      strategy: "cel",
      shards: integer(raw, "shards", { from: 1, to: MAX_SHARDS }),
      expression,
    })
  }
  const values = routingValues(raw.values)
  if (raw.shards !== undefined && raw.shards !== values.length) {
    throw wrong("shards", `${values.length}, the number of sharding.values, or nothing`, raw.shards)
  }
  return Object.freeze({ strategy: "cel", shards: values.length, expression, values })
}

function routingValues(raw: unknown): readonly (string | bigint)[] {
  const expected = `a list of 1 to ${MAX_SHARDS} strings or integers`
  if (!Array.isArray(raw)) throw wrong("values", expected, raw)
  if (raw.length < 1 || raw.length > MAX_SHARDS) throw wrongText("values", expected, `${raw.length} values`)
  const values = raw.map((value: unknown, i) => {
    // Other readers of such a snapshot cut text at a NUL, which would make two values one.
    if (typeof value === "string" && !value.includes("\0")) return value
    if (typeof value === "bigint" || Number.isSafeInteger(value)) return BigInt(value as number | bigint)
    throw wrong(`values[${i}]`, "a string without NUL, or an integer", value)
  })
  const seen = new Set<string | bigint>()
  for (const value of values) {
    if (seen.has(value)) throw wrongText("values", "distinct values", `${show(value)} twice`)
    seen.add(value)
  }
  return Object.freeze(values)
}

function probesOption(raw: Raw, shards: number): number {
  return integer(raw, "probes", { from: 1, to: MAX_SHARDS, default: Math.max(1, Math.ceil(shards / 8)) })
}

function seedOption(raw: Raw): number {
  return integer(raw, "seed", { from: Number.MIN_SAFE_INTEGER, to: Number.MAX_SAFE_INTEGER, default: 1 })
}

interface IntegerRule {
  readonly from: number
  readonly to: number
  readonly default?: number
}

function integer(raw: Raw, option: string, rule: IntegerRule): number {
  const value = raw[option] ?? rule.default
  if (Number.isInteger(value) && (value as number) >= rule.from && (value as number) <= rule.to) {
    return value as number
  }
  throw wrong(option, `an integer from ${rule.from} to ${rule.to}`, value)
}

function wrong(option: string, expected: string, got: unknown): VecsnapError {
  return wrongText(option, expected, show(got))
}

function wrongText(option: string, expected: string, got: string): VecsnapError {
  const name = option === "sharding" ? option : `sharding.${option}`
  return invalidInput(`${name} must be ${expected}; got ${got}`, { option: name })
}

function show(value: unknown): string {
  if (value === undefined) return "nothing"
  if (typeof value === "string") return JSON.stringify(value)
  if (typeof value === "object" && value !== null) return Array.isArray(value) ? "a list" : "an object"
  return String(value)
}
