/**
 * Environment variables in the texts of a configuration: `${NAME}`, `${NAME:-text if unset or empty}`, and
 * `$${` for `${` itself.
 *
 * They are replaced in values that were parsed already, never in the YAML, so no value of a variable can add
 * a key; and once only, so a value that holds `${` stays what it is. Keys are left alone.
 */

import type { Path } from "./path.js"

export type Environment = Readonly<Record<string, string | undefined>>

export interface VariableFault {
  readonly path: Path
  readonly problem: string
  readonly variable?: string
}

export interface Substituted {
  /** The same data, texts with their variables replaced. A text with a fault is left as it is. */
  readonly data: unknown
  readonly faults: readonly VariableFault[]
}

const NAME = "[A-Za-z_][A-Za-z0-9_]*"
const VARIABLE = `\\$\\{(${NAME})(?::-((?:(?!\\$\\{)[^}])*))?\\}`
const EXACTLY_ONE = new RegExp(`^${VARIABLE}$`)
/** In this order: an escaped `${`, a variable, and a `${` that starts none. */
const REFERENCES = new RegExp(`\\$\\$\\{|${VARIABLE}|\\$\\{`, "g")

/**
 * A text that a configuration may have in place of a number, a flag or one of some words. For the JSON
 * Schema.
 */
export const VARIABLE_PATTERN = EXACTLY_ONE.source

/** The names of the variables in a text, in order. */
export const variablesIn = (text: string): readonly string[] =>
  Array.from(text.matchAll(REFERENCES), ([, name]) => name).filter((name) => name !== undefined)

/** Whether a text is one variable and nothing else. */
export const isVariable = (value: unknown): value is string =>
  typeof value === "string" && EXACTLY_ONE.test(value)

/** Replaces the variables in all texts of `data`. */
export function substituteVariables(data: unknown, environment: Environment): Substituted {
  const faults: VariableFault[] = []
  const walk = (value: unknown, path: Path): unknown => {
    if (typeof value === "string") {
      const found = problemIn(value, environment)
      if (found === undefined) return replaced(value, environment)
      faults.push({ path, ...found })
      return value
    }
    if (Array.isArray(value)) return value.map((item, i) => walk(item, [...path, i]))
    if (value === null || typeof value !== "object") return value
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, walk(item, [...path, key])]))
  }
  return { data: walk(data, []), faults }
}

function problemIn(text: string, environment: Environment): Omit<VariableFault, "path"> | undefined {
  for (const [reference, name, fallback] of text.matchAll(REFERENCES)) {
    if (reference === "${")
      return {
        problem: `a \${ starts no variable, expected \${NAME} or \${NAME:-default}, or $\${ for the characters themselves`,
      }
    if (name !== undefined && fallback === undefined && environmentValue(name, environment) === undefined)
      return { problem: `the environment variable \${${name}} is not set`, variable: name }
  }
  return undefined
}

const replaced = (text: string, environment: Environment): string =>
  text.replace(REFERENCES, (_reference, name?: string, fallback?: string) => {
    if (name === undefined) return "${"
    const value = environmentValue(name, environment)
    return fallback === undefined ? value! : value || fallback
  })

const environmentValue = (name: string, environment: Environment): string | undefined =>
  Object.hasOwn(environment, name) ? environment[name] : undefined

/**
 * The number or flag that a variable's text spells, for where a text is refused: "8" is 8, "true" is true;
 * "08", " 8" and "yes" are neither.
 */
export function scalarOf(text: string): number | boolean | undefined {
  if (text === "true" || text === "false") return text === "true"
  if (!/^-?(0|[1-9]\d*)(\.\d+)?([eE][-+]?\d+)?$/.test(text)) return undefined
  const number = Number(text)
  return Number.isInteger(number) && !Number.isSafeInteger(number) ? undefined : number
}
