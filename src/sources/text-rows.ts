import type { RawColumns } from "./columns.js"

/**
 * What became of a line of a text, or of several that belong together: a row, or what is wrong with it, in
 * words.
 */
export type ParsedLine<T> = { readonly line: number } & ({ readonly row: T } | { readonly problem: string })

/**
 * Gathers rows, and reports lines that are none in their place between them, so that the first bad row is the
 * first.
 */
export async function* gatherRows<T>(
  pieces: AsyncIterable<readonly ParsedLine<T>[]>,
  toColumns: (rows: readonly T[], lines: readonly number[]) => RawColumns,
  onBadRow: (line: number, problem: string) => void,
): AsyncGenerator<RawColumns> {
  for await (const piece of pieces) {
    let rows: T[] = []
    let lines: number[] = []
    for (const parsed of piece) {
      if ("row" in parsed) {
        rows.push(parsed.row)
        lines.push(parsed.line)
        continue
      }
      if (rows.length > 0) yield toColumns(rows, lines)
      rows = []
      lines = []
      onBadRow(parsed.line, parsed.problem)
    }
    if (rows.length > 0) yield toColumns(rows, lines)
  }
}
