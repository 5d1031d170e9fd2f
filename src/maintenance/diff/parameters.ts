/** What two snapshots were built with, where it differs. Pure. */
import { stringifyJson } from "../../json.js"
import type { Manifest } from "../../manifest/manifest.js"

export interface ParameterChange {
  /** "metric", "sharding.probes", … */
  readonly name: string
  /** JSON text; absent if the snapshot has no such parameter. */
  readonly before: string | undefined
  readonly after: string | undefined
}

export function changedParameters(before: Manifest, after: Manifest): readonly ParameterChange[] {
  const left = parametersOf(before)
  const right = parametersOf(after)
  return [...new Set([...left.keys(), ...right.keys()])]
    .map((name) => ({ name, before: left.get(name), after: right.get(name) }))
    .filter((parameter) => parameter.before !== parameter.after)
}

function parametersOf({ schema, sharding, backend, locator, build }: Manifest): ReadonlyMap<string, string> {
  const values: Readonly<Record<string, unknown>> = {
    metric: schema.metric,
    dim: schema.dim,
    idType: schema.id.type,
    model: schema.model,
    backend,
    tool: build.tool,
    locator: locator !== undefined,
    "sharding.strategy": sharding.strategy,
    "sharding.shards": sharding.shards,
    ...prefixed("sharding.", sharding.options),
    ...prefixed("fields.", Object.fromEntries(schema.fields.map(({ name, type }) => [name, type]))),
  }
  return new Map(
    Object.entries(values)
      .filter(([, value]) => value !== undefined)
      .map(([name, value]) => [name, stringifyJson(value)]),
  )
}

const prefixed = (prefix: string, values: Readonly<Record<string, unknown>>): Record<string, unknown> =>
  Object.fromEntries(Object.entries(values).map(([name, value]) => [prefix + name, value]))
