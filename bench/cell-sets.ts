/** Data sets of bench:cells and bench:pool: rows, and queries that are none of them. */
import { loadSentences } from "./sentences.js"
import { heldOutRows, loadWords, pickRows, withoutRows } from "./words.js"

export interface CellSet {
  readonly name: string
  readonly dim: number
  /** `rows × dim`, and so many queries likewise. */
  readonly vectors: Float32Array
  readonly queries: Float32Array
}

/** Into how many shards a set is divided, and the cells that are scanned, for about .95 and .98. */
export const CELL_SETS = {
  words: { shards: 64, cells: [190, 380] },
  sentences: { shards: 16, cells: [130, 280] },
} as const
export type CellSetName = keyof typeof CELL_SETS

/** The sets that the command line names; without any, all. */
export function askedSets(): readonly CellSetName[] {
  const named = process.argv.slice(2).filter((name): name is CellSetName => name in CELL_SETS)
  return named.length > 0 ? named : ["sentences", "words"]
}

/** The sentences with `count` of their real queries, or the words, of which so many are held out. */
export async function loadCellSet(name: CellSetName, count: number): Promise<CellSet> {
  if (name === "sentences") {
    const { dim, vectors, queries } = loadSentences()
    return { name, dim, vectors, queries: queries.slice(0, count * dim) }
  }
  const words = await loadWords()
  const held = heldOutRows(words.rows, count)
  const { dim, vectors } = pickRows(words, withoutRows(words, held).kept)
  return { name, dim, vectors, queries: pickRows(words, held).vectors }
}
