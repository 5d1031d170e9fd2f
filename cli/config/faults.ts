/**
 * What is wrong with a configuration, in words. Found values are shown as the file has them, so a variable
 * shows as its name and never as its value.
 */
import type { z } from "zod"
import { stringifyJson, type VecsnapError } from "../../src/index.js"
import { nearest, usageError } from "../usage-error.js"
import { type Path, valueAt } from "./path.js"
import { KEYS_OF_GROUPS } from "./schema.js"
import { isVariable, type VariableFault, variablesIn } from "./variables.js"

export function describeVariableFault(
  { path, problem, variable }: VariableFault,
  file: string,
): VecsnapError {
  const key = path.join(".")
  return usageError(`${file}: ${key === "" ? "" : `${key}: `}${problem}`, { file, key, variable })
}

/**
 * The faults behind one issue of the schema. `settings` is the data of the file, its variables not replaced.
 */
export function describeIssue(
  issue: z.core.$ZodIssue,
  settings: unknown,
  file: string,
): readonly VecsnapError[] {
  const path = issue.path as Path
  if (issue.code === "unrecognized_keys") return issue.keys.map((key) => unknownKey(path, key, file))
  const found = withoutKey(valueAt(settings, path))
  const key = path.join(".")
  const expected = path.length === 0 ? "a map of settings" : issue.message
  return [
    usageError(`${file}: ${key === "" ? "" : `${key}: `}expected ${expected}, found ${shownValue(found)}`, {
      file,
      key,
      found,
    }),
  ]
}

function unknownKey(path: Path, key: string, file: string): VecsnapError {
  const siblings = KEYS_OF_GROUPS.get(path.join(".")) ?? []
  const near = nearest(key, siblings)
  const sibling = near === undefined ? undefined : [...path, near].join(".")
  // "shards" at the top: right word, wrong place. Within a group, a slip is likelier than a wrong group.
  const suggestion = path.length === 0 ? (placeOf(key) ?? sibling) : (sibling ?? placeOf(key))
  const hint =
    suggestion === undefined ? `expected one of ${siblings.join(", ")}` : `did you mean ${suggestion}?`
  const name = [...path, key].join(".")
  return usageError(`${file}: unknown key ${name}: ${hint}`, { file, key: name })
}

/** Where a key of that name is, if anywhere. */
function placeOf(key: string): string | undefined {
  for (const [group, keys] of KEYS_OF_GROUPS) {
    if (keys.includes(key)) return group === "" ? key : `${group}.${key}`
  }
  return undefined
}

/** Who pastes a private key where the path of one belongs does not find it in a log. */
const withoutKey = (value: unknown): unknown =>
  value !== undefined && shownJson(value).includes("PRIVATE KEY-----") ? "a private key" : value

const MAX_SHOWN = 200

function shownValue(value: unknown): string {
  if (value === undefined) return "nothing"
  if (isVariable(value)) return `the value of \${${variablesIn(value)[0]}}`
  const text = typeof value === "bigint" ? String(value) : shownJson(value)
  const shown = text.length > MAX_SHOWN ? `${text.slice(0, MAX_SHOWN)}…` : text
  const filled = typeof value === "string" && variablesIn(value).length > 0
  return filled ? `${shown} with the values of its variables` : shown
}

/** JSON, except that numbers which JSON does not know, `.nan` and `.inf` in YAML, are named. */
const shownJson = (value: unknown): string =>
  typeof value === "number" ? String(value) : stringifyJson(value)
