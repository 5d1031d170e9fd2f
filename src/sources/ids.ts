/**
 * Ids of vectors that have none in their own file: one per line of a text, or an `.npy` file of integers. Without such a
 * file they are the places of the rows, from 0, as NumPy counts.
 */
import { invalidInput } from "../errors.js"
import { decompressed, splitLines } from "./bytes.js"

/** Hands out ids in the order of the rows, over all files of one reading. */
export interface RowIds {
  /** The next `count` ids, for rows of `file`. Throws `InvalidInput` if there are fewer. */
  take(count: number, file: string): Promise<readonly unknown[]>
  /** After the last row of all files. Throws `InvalidInput` if ids are left over. */
  end(files: string): Promise<void>
  close(): Promise<void>
}

/** Counts from 0. */
export function countedIds(): RowIds {
  let next = 0
  return {
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
export function idsFrom(values: AsyncGenerator<unknown>, idsFile: string): RowIds {
  let taken = 0
  return {
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
  for await (const lines of splitLines(decompressed(openBytes(), file), file))
    for (const line of lines) yield line.toString("utf8").replace(/\r$/, "") || null
}
