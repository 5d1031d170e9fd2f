/** The full word set for benchmarks: vectors in memory, and files for builds. */
import { existsSync } from "node:fs"
import { openSource } from "../src/index.js"
import { fromRepository } from "./paths.js"

export const WORDS_FILE = fromRepository(".cache/words/words-full.parquet")

export interface Words {
  readonly rows: number
  readonly dim: number
  readonly ids: readonly string[]
  /** `rows × dim`. */
  readonly vectors: Float32Array
}

/** All 341,479 words in file order. Fails, saying how to make it, if the file is not there. */
export async function loadWords(file: string = WORDS_FILE): Promise<Words> {
  if (!existsSync(file)) throw new Error(`${file} is missing: make it with \`npm run words:full\``)
  const source = await openSource([file])
  const parts: Float32Array[] = []
  const ids: string[] = []
  let dim = 0
  for await (const batch of source.read({})) {
    parts.push(batch.vectors.slice())
    ids.push(...(batch.ids.values as readonly string[]))
    dim = batch.dim
  }
  const vectors = new Float32Array(ids.length * dim)
  let offset = 0
  for (const part of parts) {
    vectors.set(part, offset)
    offset += part.length
  }
  return { rows: ids.length, dim, ids, vectors }
}

export const vectorOf = ({ vectors, dim }: Words, row: number): Float32Array =>
  vectors.subarray(row * dim, (row + 1) * dim)

/** Some of the rows, one after another. */
export function pickRows(
  { ids, vectors, dim }: Words,
  rows: readonly number[],
): Pick<Words, "ids" | "vectors" | "dim"> {
  const picked = new Float32Array(rows.length * dim)
  for (const [i, row] of rows.entries()) picked.set(vectors.subarray(row * dim, (row + 1) * dim), i * dim)
  return { ids: rows.map((row) => ids[row]!), vectors: picked, dim }
}

/** The rows that are left without some, and the SQL that reads them from the file. */
export function withoutRows(
  words: Words,
  rows: readonly number[],
): { readonly kept: readonly number[]; readonly sql: string } {
  const out = new Set(rows)
  const kept = Array.from({ length: words.rows }, (_, row) => row).filter((row) => !out.has(row))
  const ids = rows.map((row) => `'${words.ids[row]!.replaceAll("'", "''")}'`).join(",")
  return { kept, sql: `select id, vector from '${WORDS_FILE}' where id not in (${ids})` }
}

/**
 * Rows held out of a build as queries: the first `count` by a hash of the row number, so that every
 * implementation in any language can take the same ones.
 */
export function heldOutRows(rows: number, count: number): number[] {
  const order = Array.from({ length: rows }, (_, row) => ({ row, hash: hash32(row, 1) }))
  order.sort((a, b) => a.hash - b.hash || a.row - b.row)
  return order.slice(0, count).map(({ row }) => row)
}

/** Murmur3's finaliser over index and salt. */
function hash32(index: number, salt: number): number {
  let x = (index + Math.imul(salt, 0x9e3779b9)) >>> 0
  x = Math.imul(x ^ (x >>> 16), 0x85ebca6b)
  x = Math.imul(x ^ (x >>> 13), 0xc2b2ae35)
  return (x ^ (x >>> 16)) >>> 0
}
