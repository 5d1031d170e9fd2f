/**
 * Ids of vectors that have none in their own file: the lines of a text, the values of an `.npy` file, or a
 * column of a Parquet or Arrow file. Without such a file they are the places of the rows, from 0, as NumPy
 * counts.
 */
import { isUtf8 } from "node:buffer"
import { invalidInput } from "../errors.js"
import { listOf } from "../wording.js"
import { decompressed, splitLines } from "./bytes.js"
import type { FileReader, FileReadOptions } from "./columns.js"
import { BadValue } from "./rows.js"

/** Hands out ids in the order of the rows, over all files of one reading. */
export interface RowIds {
  /** Whether ids are text that may stand for integers, as lines do. */
  readonly isText: boolean
  /** Whether ids are the places of the rows, for want of others. */
  readonly isCounted: boolean
  /**
   * The next `count` ids, for rows of `file`; a {@link BadValue} for one that is none. Throws `InvalidInput`
   * if there are fewer.
   */
  take(count: number, file: string): Promise<readonly unknown[]>
  /** After the last row of all files. Throws `InvalidInput` if ids are left over. */
  end(files: string): Promise<void>
  close(): Promise<void>
}

/** Counts from 0. */
export function countedIds(): RowIds {
  let next = 0
  return {
    isText: false,
    isCounted: true,
    async take(count) {
      const start = next
      next += count
      return Array.from({ length: count }, (_, i) => start + i)
    },
    end: async () => {},
    close: async () => {},
  }
}

/** Ids of a file; `idsFile` is for messages. */
export function idsFrom(values: AsyncGenerator<unknown>, idsFile: string, isText: boolean): RowIds {
  let taken = 0
  return {
    isText,
    isCounted: false,
    async take(count, file) {
      const ids: unknown[] = []
      while (ids.length < count) {
        const next = await values.next()
        if (next.done) {
          const got = taken + ids.length
          throw invalidInput(`${idsFile} has ${got} ids, fewer than ${file} has rows`, { file, got })
        }
        ids.push(next.value)
      }
      taken += count
      return ids
    },
    async end(files) {
      if ((await values.next()).done) return
      throw invalidInput(`${idsFile} has more ids than the ${taken} rows of ${files}`, {
        file: files,
        rows: taken,
      })
    },
    async close() {
      await values.return(undefined)
    },
  }
}

/** The lines of a text, which may be compressed; an empty line is no id. */
export async function* idsOfLines(
  file: string,
  openBytes: () => AsyncIterable<Uint8Array>,
): AsyncGenerator<unknown> {
  let line = 0
  for await (const lines of splitLines(decompressed(openBytes(), file), file)) {
    for (const bytes of lines) {
      line++
      if (isUtf8(bytes)) yield bytes.toString("utf8").replace(/\r$/, "") || null
      else yield new BadValue("id", `is not UTF-8, in line ${line} of ${file}`)
    }
  }
}

/** A column of a file: the one named `idColumn`, else the only one. */
export async function* idsOfColumn(
  reader: FileReader,
  idColumn: string,
  options: Pick<FileReadOptions, "signal" | "memoryLimit">,
): AsyncGenerator<unknown> {
  const { file } = reader
  const onBadRow = (row: number, problem: string): never => {
    throw invalidInput(`${file}, ${reader.unit} ${row}: ${problem}`, { file, row })
  }
  const select = ({ names }: { readonly names: readonly string[] }) => [idColumnOf(names, idColumn, file)]
  for await (const columns of reader.read({ ...options, onBadRow, select })) {
    const name = idColumnOf(columns.names ?? [], idColumn, file)
    const value = columns.column(name)
    for (let row = 0; row < columns.rows; row++) yield idOrProblem(value, row)
  }
}

function idColumnOf(names: readonly string[], idColumn: string, file: string): string {
  const [only, ...others] = names
  if (names.includes(idColumn)) return idColumn
  if (only !== undefined && others.length === 0) return only
  throw invalidInput(
    `${file} has no column ${JSON.stringify(idColumn)}; its columns are ${listOf(names)}; name the right one as the id column`,
    { file, columns: names },
  )
}

function idOrProblem(value: (row: number) => unknown, row: number): unknown {
  try {
    return value(row)
  } catch (error) {
    if (error instanceof BadValue) return error
    throw error
  }
}
