/** Where a value is in a configuration: keys and positions from the top. */
export type Path = readonly (string | number)[]

type Node = Readonly<Record<string | number, unknown>>

/** The value there; `undefined` if there is none. */
export const valueAt = (data: unknown, path: Path): unknown =>
  path.reduce<unknown>(
    (value, key) => (isNode(value) && Object.hasOwn(value, key) ? value[key] : undefined),
    data,
  )

/** A copy with another value there. */
export function withValueAt(data: unknown, [key, ...rest]: Path, value: unknown): unknown {
  if (key === undefined) return value
  const changed = withValueAt((data as Node)[key], rest, value)
  if (Array.isArray(data)) return data.with(key as number, changed)
  return { ...(data as Node), [key]: changed }
}

const isNode = (value: unknown): value is Node => typeof value === "object" && value !== null
