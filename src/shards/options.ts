/**
 * Options of a backend's index. Each backend declares its own once, in a table; all are whole numbers so far.
 * Plain data, quick to import.
 */
import { invalidInput } from "../errors.js"

/** Declarations by name, as in code ("rowsPerPartition"). */
export type IndexOptionTable = Readonly<Record<string, IndexOptionDeclaration>>

export interface IndexOptionDeclaration {
  /** What it is, in words that begin in lower case. */
  readonly about: string
  readonly least: number
  readonly most: number
  readonly default: number
}

/** Options as given: those that are absent have their defaults. */
export type IndexOptions = Readonly<Record<string, number>>

/**
 * All options of a table, defaults filled in. Throws `InvalidInput`, naming the option, for what the table
 * does not allow.
 */
export function resolveIndexOptions<const Table extends IndexOptionTable>(
  backend: string,
  table: Table,
  given: IndexOptions = {},
): { readonly [Name in keyof Table]: number } {
  for (const option of Object.keys(given)) {
    if (Object.hasOwn(table, option)) continue
    const known = Object.keys(table)
    const has = known.length === 0 ? "it has none" : `it has ${known.join(", ")}`
    throw invalidInput(`the ${backend} backend has no option index.${option}; ${has}`, { option })
  }
  const resolved = Object.entries(table).map(([option, { least, most, default: fallback }]) => {
    const value = given[option] ?? fallback
    if (!Number.isSafeInteger(value) || value < least || value > most) {
      throw invalidInput(
        `option index.${option} is ${value}, expected a whole number from ${least} to ${most}`,
        { option: `index.${option}`, value },
      )
    }
    return [option, value] as const
  })
  return Object.fromEntries(resolved) as { readonly [Name in keyof Table]: number }
}
