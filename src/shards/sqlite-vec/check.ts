/**
 * Whether the file of cells says what it should of a shard whose records are known: all of it is made anew
 * from those and compared, apart from which rows are in which cell and where their centres are.
 */

import { stat } from "node:fs/promises"
import { sameBytes } from "../../bytes.js"
import { encodeRows } from "../../vectors/cells/codes.js"
import { type CellsFile, SUM_STRETCH } from "../../vectors/cells/file.js"
import { CODED_ROWS_MIN } from "../../vectors/cells/shard.js"
import { canBeEstimated, inSpace } from "../../vectors/cells/space.js"
import type { IndexDescription, ShardCheck, ShardRows, ShardSpec } from "../backend.js"
import { readCells, sumsOf } from "./cells.js"
import { pageTable } from "./pages/walk.js"
import { CELLS, CELLS_FILE, shardFile } from "./schema.js"

/** Length of a checksum. */
const SUM_BYTES = 32

const NOTHING: ShardCheck = { problems: [], homeRows: undefined }

/** What is wrong in a shard that could be opened and read. `rows`: all of them, in order of id. */
export async function checkCells(
  dir: string,
  rows: Pick<ShardRows, "rows" | "vectors">,
  spec: ShardSpec,
  index: IndexDescription,
): Promise<ShardCheck> {
  if (index.kind !== CELLS) return NOTHING
  const database = shardFile(dir)
  const { size } = await stat(database)
  const cells = readCells(database, spec, { rows: rows.rows, bytes: size })
  const problems = [
    indexProblem(cells, index),
    codesProblem(cells, rows, spec),
    sumsProblem(cells, database),
    pagesProblem(cells, database),
  ]
  return {
    problems: problems
      .filter((problem) => problem !== undefined)
      .map((problem) => `${CELLS_FILE} ${problem}`),
    homeRows: homeRows(cells),
  }
}

function indexProblem({ starts }: CellsFile, { cells }: IndexDescription): string | undefined {
  const count = starts.length - 1
  return count === cells ? undefined : `has ${count} cells, the manifest says ${cells}`
}

function codesProblem(
  { coded, starts, ranks }: CellsFile,
  { rows, vectors }: Pick<ShardRows, "rows" | "vectors">,
  { dim, codes }: ShardSpec,
): string | undefined {
  if (coded === undefined) {
    const shouldHave = codes !== undefined && rows >= CODED_ROWS_MIN && canBeEstimated(vectors, dim)
    return shouldHave ? `has no codes of its ${rows} rows` : undefined
  }
  if (codes === undefined) return "has codes, but its snapshot has no codebook"
  const { space, books } = codes.codebook
  const cells = { ...coded, dim, count: starts.length - 1, starts, order: ranks }
  const expected = encodeRows(space, cells, inSpace(space, vectors), books)
  const parts = ["blocks", "factorScales", "offsetScales"] as const
  const wrong = parts.find((part) => !sameBytes(expected[part], coded[part]))
  return wrong && `has codes that are not those of its rows (${wrong})`
}

function sumsProblem({ database }: CellsFile, file: string): string | undefined {
  const { sums } = sumsOf(file)
  const place = sums.findIndex((byte, i) => byte !== database.sums[i])
  if (place < 0 && sums.length === database.sums.length) return undefined
  const stretch = Math.floor(Math.max(0, place) / SUM_BYTES)
  return `has another checksum for the bytes from ${stretch * SUM_STRETCH} on than shard.db has there`
}

function pagesProblem({ database }: CellsFile, file: string): string | undefined {
  const isSound = sameBytes(pageTable(file), database.pages)
  return isSound ? undefined : "has a page table that is not that of shard.db"
}

function homeRows({ home, rows }: CellsFile): number {
  let count = 0
  for (let row = 0; row < rows; row++) count += (home[row >> 3]! >> (row & 7)) & 1
  return count
}
