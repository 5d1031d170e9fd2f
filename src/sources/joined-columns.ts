/**
 * Vectors with a column for each dimension, as data frames hold them: `emb_0 … emb_767`, named together as
 * `emb_*`.
 */
import type { RawColumns } from "./columns.js"

const DECIMAL = /^\s*[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?\s*$/i

/** Whether the name of a vector column stands for several: it ends with `*`. */
export const isJoinedName = (name: string): boolean => name.length > 1 && name.endsWith("*")

/**
 * The columns that `name` stands for, by their numbers; none where a number is missing between the first and
 * the last.
 */
export function joinedNames(names: readonly string[], name: string): readonly string[] {
  const prefix = name.slice(0, -1)
  const numbered = names
    .filter((member) => member.startsWith(prefix) && /^\d+$/.test(member.slice(prefix.length)))
    .map((member) => ({ member, number: Number(member.slice(prefix.length)) }))
    .sort((a, b) => a.number - b.number)
  const first = numbered[0]?.number ?? 0
  const isWhole = first <= 1 && numbered.every(({ number }, i) => number === first + i)
  return isWhole ? numbered.map(({ member }) => member) : []
}

/**
 * The columns with those that `name` stands for as one. The same columns if there are none, so that it is
 * missed by its name.
 */
export function joinColumns(columns: RawColumns, name: string): RawColumns {
  if (columns.rows === 0) return columns
  const members = joinedNames(columns.names ?? columns.namesOf(0), name)
  if (members.length === 0) return columns
  const joined = new Set(members)
  const others = (names: readonly string[]) => [name, ...names.filter((other) => !joined.has(other))]
  return {
    ...columns,
    ...(columns.names && { names: others(columns.names) }),
    ...(columns.vectorNames && { vectorNames: [name] }),
    namesOf: (row) => others(columns.namesOf(row)),
    column(wanted) {
      if (wanted !== name) return columns.column(wanted)
      const values = members.map((member) => columns.column(member))
      return (row) => values.map((value) => numberFrom(value(row)))
    },
  }
}

/**
 * Cells of text that are numbers as numbers; whatever else as it is, to be found when the vector is checked.
 */
const numberFrom = (value: unknown): unknown =>
  typeof value === "string" && DECIMAL.test(value) ? Number(value) : (value ?? null)

/**
 * Names like `emb_*` for columns of numbers that may be one vector together, so that a message can propose
 * them.
 */
export function joinableNames(columns: RawColumns, names: readonly string[]): readonly string[] {
  const numeric = names.filter(
    (name) => /\d$/.test(name) && typeof numberFrom(columns.column(name)(0)) === "number",
  )
  const prefixes = new Set(numeric.map((name) => name.replace(/\d+$/, "")).filter((prefix) => prefix !== ""))
  return [...prefixes].map((prefix) => `${prefix}*`).filter((name) => joinedNames(names, name).length > 1)
}
