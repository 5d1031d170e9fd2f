/**
 * The text of a configuration, checked: from YAML to settings, or to all that is wrong with it. Pure.
 */
import type { VecsnapError } from "../../src/errors.js"
import { usageError } from "../usage-error.js"
import { describeIssue, describeVariableFault } from "./faults.js"
import { type Path, valueAt, withValueAt } from "./path.js"
import { type Config, schema } from "./schema.js"
import { type Environment, isVariable, scalarOf, substituteVariables } from "./variables.js"
import { parseYaml } from "./yaml.js"

/** Parses and checks the text of a configuration, as `loadConfig` does; `file` is for messages. */
export function parseConfig(content: string, file: string, env: Environment = {}): Config {
  const { config, faults } = checkConfig(content, file, env)
  if (config !== undefined) return config
  const [{ message, details, cause }, ...others] = faults as [VecsnapError, ...VecsnapError[]]
  if (others.length === 0) throw faults[0]
  const more = others.length === 1 ? "1 more fault" : `${others.length} more faults`
  throw usageError(`${message}; and ${more}, which \`vecsnap config check\` lists`, details, cause)
}

export interface CheckedConfig {
  /** Absent if there are faults. */
  readonly config?: Config
  /** What the file says, aliases replaced and variables not; absent if it is not YAML. */
  readonly settings?: unknown
  /** All that is wrong, one `InvalidInput` each. None holds the value of a variable. */
  readonly faults: readonly VecsnapError[]
}

/** Parses and checks the text of a configuration to its end. */
export function checkConfig(content: string, file: string, env: Environment): CheckedConfig {
  const yaml = parseYaml(content, file)
  if ("faults" in yaml) return yaml
  const settings = yaml.data
  const substituted = substituteVariables(settings, env)
  const parsed = parseSettings(substituted.data, settings)
  if (parsed.success && substituted.faults.length === 0) return { config: parsed.data, settings, faults: [] }
  // A text whose variables are not known is not checked either.
  const unknown = new Set(substituted.faults.map(({ path }) => JSON.stringify(path)))
  const issues = (parsed.error?.issues ?? []).filter(({ path }) => !unknown.has(JSON.stringify(path)))
  const faults = [
    ...substituted.faults.map((fault) => describeVariableFault(fault, file)),
    ...issues.flatMap((issue) => describeIssue(issue, settings, file)),
  ]
  // Two rules of one value, "whole" and "from 1", have one message.
  return { settings, faults: [...new Map(faults.map((fault) => [fault.message, fault])).values()] }
}

/**
 * Checks data against the schema. Where the text of a variable is refused, the number or flag it spells is
 * tried.
 */
function parseSettings(data: unknown, settings: unknown): ReturnType<typeof schema.safeParse> {
  const parsed = schema.safeParse(data)
  if (parsed.success) return parsed
  const scalars = parsed.error.issues.flatMap(({ path }) => {
    const text = isVariable(valueAt(settings, path as Path)) ? valueAt(data, path as Path) : undefined
    const scalar = typeof text === "string" ? scalarOf(text) : undefined
    return scalar === undefined ? [] : [{ path: path as Path, scalar }]
  })
  if (scalars.length === 0) return parsed
  return schema.safeParse(
    scalars.reduce((changed, { path, scalar }) => withValueAt(changed, path, scalar), data),
  )
}
