/**
 * Options of strategies. Each strategy declares its own once, in a table; the library, the command line,
 * `vecsnap.yaml` and its JSON Schema all go by that. Plain data and functions, quick to import.
 */
import { invalidInput, type VecsnapError } from "../errors.js"

/** By name, as in code ("sampleRows"). */
export type OptionTable = Readonly<Record<string, OptionDeclaration>>

export interface OptionDeclaration<T = unknown> {
  /** What it is, in words that begin in lower case. */
  readonly about: string
  /** The value without one given, if that does not depend on others. */
  readonly default?: number | string
  /** How the command line and `vecsnap.yaml` have it. */
  readonly setting: Setting
  /** The options that it consists of, if it is an object. */
  readonly parts?: readonly string[]
  /**
   * Checks the value given, `undefined` for none, and fills in the default. `earlier` are the options that
   * stand before this one, resolved. Throws `InvalidInput`.
   */
  resolve(value: unknown, option: string, earlier: Values): T
}

export type Values = Readonly<Record<string, unknown>>

/** An option as one word and one value. */
export interface Setting {
  /** Default: that of the option with hyphens, "sample-rows". */
  readonly name?: string
  readonly type: SettingType
  /** The option of a value; default: the value itself. */
  toOption?(value: unknown): unknown
}

export type SettingType =
  | { readonly kind: "whole"; readonly least: number }
  | { readonly kind: "number"; readonly least: number; readonly most: number }
  | { readonly kind: "choice"; readonly names: readonly string[] }
  | { readonly kind: "text"; readonly example: string }
  /** Texts or integers. */
  | { readonly kind: "values" }

/** A bound or a default that may depend on the options before. */
type Derived = number | ((earlier: Values) => number)

/** A whole number. */
export function integerOption(rule: {
  readonly about: string
  readonly from: Derived
  readonly to: number
  readonly default?: Derived
}): OptionDeclaration<number> {
  const { about, from, to, default: defaultValue } = rule
  const numberOf = (derived: Derived, earlier: Values): number =>
    typeof derived === "number" ? derived : derived(earlier)
  return {
    about,
    ...(typeof defaultValue === "number" && { default: defaultValue }),
    // Texts have no sign; a bound that depends on others is checked when those are known.
    setting: { type: { kind: "whole", least: typeof from === "number" ? Math.max(0, from) : 1 } },
    resolve(value, option, earlier) {
      const given = value ?? (defaultValue === undefined ? undefined : numberOf(defaultValue, earlier))
      const least = numberOf(from, earlier)
      if (Number.isInteger(given) && (given as number) >= least && (given as number) <= to)
        return given as number
      throw wrongOption(option, `an integer from ${least} to ${to}`, given)
    },
  }
}

/** One of some words. */
export function choiceOption<const Name extends string>(rule: {
  readonly about: string
  readonly names: readonly Name[]
  readonly default: NoInfer<Name>
}): OptionDeclaration<Name> {
  const { about, names, default: defaultName } = rule
  return {
    about,
    default: defaultName,
    setting: { type: { kind: "choice", names } },
    resolve(value, option) {
      const name = names.find((known) => known === (value ?? defaultName))
      if (name !== undefined) return name
      const expected = names.length === 2 ? names.map(show).join(" or ") : `one of ${names.join(", ")}`
      throw wrongOption(option, expected, value)
    },
  }
}

/** More shards than this mean shards too small to be worth a request each. */
export const MAX_SHARDS = 65_536

/** Options that several strategies have. */
export const SHARDS = integerOption({ about: "number of shards", from: 1, to: MAX_SHARDS })

export const PROBES = integerOption({
  about: "shards searched per query unless it says otherwise",
  from: 1,
  to: MAX_SHARDS,
  default: ({ shards }) => Math.max(1, Math.ceil((shards as number) / 8)),
})

export const SEED = integerOption({
  about: "seed of all random choices",
  from: Number.MIN_SAFE_INTEGER,
  to: Number.MAX_SAFE_INTEGER,
  default: 1,
})

/** All options of a table, in its order. */
export function resolveTable<const Table extends OptionTable>(
  table: Table,
  given: Values,
): { [Name in keyof Table]: ReturnType<Table[Name]["resolve"]> } {
  const resolved: Record<string, unknown> = {}
  for (const [option, declaration] of Object.entries(table)) {
    resolved[option] = declaration.resolve(given[option], option, resolved)
  }
  return resolved as { [Name in keyof Table]: ReturnType<Table[Name]["resolve"]> }
}

/** Refuses options, or parts of one, that a strategy does not have: they are likely typos. */
export function assertKnownOptions(strategy: string, table: OptionTable, given: Values): void {
  for (const [option, value] of Object.entries(given)) {
    if (option === "strategy") continue
    if (!Object.hasOwn(table, option)) {
      throw invalidInput(
        `the ${strategy} strategy has no option sharding.${option}; it has ${Object.keys(table).join(", ")}`,
        { option },
      )
    }
    const { parts } = table[option]!
    if (parts === undefined || typeof value !== "object" || value === null) continue
    for (const part of Object.keys(value)) {
      if (parts.includes(part)) continue
      throw invalidInput(`sharding.${option} has no option ${part}; it has ${parts.join(", ")}`, {
        option: part,
      })
    }
  }
}

export function wrongOption(option: string, expected: string, got: unknown): VecsnapError {
  return wrongText(option, expected, show(got))
}

export function wrongText(option: string, expected: string, got: string): VecsnapError {
  const name = option === "sharding" ? option : `sharding.${option}`
  return invalidInput(`${name} must be ${expected}; got ${got}`, { option: name })
}

export function show(value: unknown): string {
  if (value === undefined) return "nothing"
  if (typeof value === "string") return JSON.stringify(value)
  if (typeof value === "object" && value !== null) return Array.isArray(value) ? "a list" : "an object"
  return String(value)
}
