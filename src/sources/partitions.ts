/**
 * Columns that stand in the names of folders, as Hive, Spark and DuckDB write them:
 * `dt=2026-01-01/lang=en/part-0.parquet`.
 */
import type { FileReader, RawColumns } from "./columns.js"
import { WrittenValue } from "./plain.js"

/** Values by name of column; null where the writer had none. */
export type Partitions = Readonly<Record<string, string | null>>

const NO_VALUE = "__HIVE_DEFAULT_PARTITION__"

/** What the folders of a path say; an empty object for most paths. */
export function partitionsOf(path: string): Partitions {
  const folders = path.split("/").slice(0, -1)
  const found = folders.flatMap((folder) => {
    const [, name, value] = /^([^=]+)=(.*)$/s.exec(folder) ?? []
    return name === undefined
      ? []
      : [[unescaped(name), value === NO_VALUE ? null : unescaped(value!)] as const]
  })
  return Object.fromEntries(found)
}

/** Writers escape what a file system would not take. */
function unescaped(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}

/**
 * The reader of a file with columns of its folders besides its own; where both have one, it is the file's.
 */
export function withPartitions(reader: FileReader, partitions: Partitions): FileReader {
  const added = Object.keys(partitions)
  if (added.length === 0) return reader
  return {
    ...reader,
    async *read(options) {
      const select: typeof options.select = ({ names, vectorNames }) =>
        options.select({ names: joined(names, added), vectorNames }).filter((name) => names.includes(name))
      for await (const columns of reader.read({ ...options, select })) yield withColumns(columns, partitions)
    },
  }
}

function withColumns(columns: RawColumns, partitions: Partitions): RawColumns {
  const added = Object.keys(partitions)
  return {
    ...columns,
    ...(columns.names && { names: joined(columns.names, added) }),
    namesOf: (row) => joined(columns.namesOf(row), added),
    column(name) {
      const own = columns.column(name)
      if (!Object.hasOwn(partitions, name)) return own
      const text = partitions[name]!
      const value = text === null ? null : new WrittenValue(text, text)
      return (row) => {
        const found = own(row)
        return found === undefined ? value : found
      }
    },
  }
}

const joined = (names: readonly string[], added: readonly string[]): readonly string[] => [
  ...new Set([...names, ...added]),
]
