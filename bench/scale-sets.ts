/** Data sets of bench:scale: files of any number of rows, made once, queries, and what they should find. */
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs"
import { open } from "node:fs/promises"
import { join } from "node:path"
import { DuckDBInstance } from "@duckdb/node-api"
import { openSource } from "../src/index.js"
import { createRandom } from "../src/vectors/random.js"
import { createScanTable, NearestRows } from "../src/vectors/scan.js"
import { fromRepository } from "./paths.js"
import { loadSentences } from "./sentences.js"
import { heldOutRows, loadWords, vectorOf, WORDS_FILE } from "./words.js"

export interface ScaleSet {
  readonly input: string
  readonly rows: number
  readonly queries: readonly Float32Array[]
  /** Ids of the nearest {@link NEAREST} rows of each query, nearest first. */
  readonly truth: readonly (readonly string[])[]
}

export const NEAREST = 10
const QUERIES = 1000
const WORDS = 341_479
const WORD_NOISE = 0.1
const ROW_GROUP = 16_384

function cached(name: string): string {
  const dir = fromRepository(".cache/scale")
  mkdirSync(dir, { recursive: true })
  return join(dir, name)
}

/**
 * Row i is word i mod 341,479, times 1 plus Gaussian noise of a tenth for each element but for the first
 * copy. Queries are words, and may find themselves.
 */
export async function jitteredWords(rows: number): Promise<ScaleSet> {
  const input = cached(`words-${rows}.parquet`)
  if (!existsSync(input)) await writeWords(input, rows)
  const words = await loadWords()
  const queries = heldOutRows(words.rows, QUERIES).map((row) => vectorOf(words, row).slice())
  return { input, rows, queries, truth: await truthOf(input, queries) }
}

async function writeWords(file: string, rows: number): Promise<void> {
  const instance = await DuckDBInstance.create(":memory:", { memory_limit: "2GB", threads: "2" })
  const connection = await instance.connect()
  const copies = Math.ceil(rows / WORDS)
  // Box and Muller's normal numbers, from a hash, so that the rows are the same each time.
  const uniform = (salt: string): string => `((hash(id, n, i, '${salt}') % 1000000007 + 1) / 1000000009.0)`
  await connection.run(`COPY (
    SELECT id || '#' || n AS id,
      CASE WHEN n = 0 THEN vector::FLOAT[] ELSE list_transform(vector::FLOAT[], (x, i) ->
        (x * (1 + ${WORD_NOISE} * sqrt(-2 * ln(${uniform("a")})) * cos(2 * pi() * ${uniform("b")})))::FLOAT) END AS vector
    FROM range(${copies}) AS copies(n), read_parquet('${WORDS_FILE.replaceAll("'", "''")}') LIMIT ${rows}
  ) TO '${file}.part' (FORMAT parquet, ROW_GROUP_SIZE 100000)`)
  connection.closeSync()
  instance.closeSync()
  renameSync(`${file}.part`, file)
}

/**
 * Rows like the sentences: each is a + .35 b + noise of length .25, at length 1, a and b being sentences
 * drawn at random. The queries are the real ones.
 */
export async function likeSentences(rows: number): Promise<ScaleSet> {
  const input = cached(`sentences-${rows}.npy`)
  const sentences = loadSentences()
  if (!existsSync(input)) await writeSentences(input, rows)
  const { queries: all, dim } = sentences
  const queries = Array.from({ length: all.length / dim }, (_, i) => all.slice(i * dim, (i + 1) * dim))
  return { input, rows, queries, truth: await truthOf(input, queries) }
}

async function writeSentences(file: string, rows: number): Promise<void> {
  const { vectors, rows: sentences, dim } = loadSentences()
  const random = createRandom(7)
  const header = `{'descr': '<f4', 'fortran_order': False, 'shape': (${rows}, ${dim}), }`
  const handle = await open(`${file}.part`, "w")
  try {
    const length = Math.ceil((10 + header.length + 1) / 64) * 64 - 10
    const preamble = Buffer.from([0x93, ...Buffer.from("NUMPY"), 1, 0, length & 255, length >> 8])
    await handle.write(Buffer.concat([preamble, Buffer.from(`${header.padEnd(length - 1)}\n`)]))
    for (let first = 0; first < rows; first += ROW_GROUP) {
      const count = Math.min(ROW_GROUP, rows - first)
      const block = new Float32Array(count * dim)
      for (let row = 0; row < count; row++) {
        const [a, b] = [random.below(sentences) * dim, random.below(sentences) * dim]
        const noise = Float64Array.from({ length: dim }, random.gaussian)
        const scale = 0.25 / Math.hypot(...noise)
        const out = block.subarray(row * dim, (row + 1) * dim)
        for (let i = 0; i < dim; i++) out[i] = vectors[a + i]! + 0.35 * vectors[b + i]! + scale * noise[i]!
        const norm = Math.hypot(...out)
        for (let i = 0; i < dim; i++) out[i]! /= norm
      }
      await handle.write(new Uint8Array(block.buffer))
    }
  } finally {
    await handle.close()
  }
  renameSync(`${file}.part`, file)
}

/** By brute force over the file; kept beside it. */
async function truthOf(input: string, queries: readonly Float32Array[]): Promise<ScaleSet["truth"]> {
  const file = `${input}.truth.json`
  if (existsSync(file)) return JSON.parse(readFileSync(file, "utf8")) as ScaleSet["truth"]
  const dim = queries[0]!.length
  const packed = new Float32Array(queries.length * dim)
  for (const [i, query] of queries.entries()) packed.set(query, i * dim)
  const nearest = new NearestRows("cosine", packed, dim, NEAREST)
  const ids: string[] = []
  for await (const batch of (await openSource([input])).read({})) {
    nearest.add(createScanTable("cosine", batch.vectors.slice(), dim), ids.length)
    for (const id of batch.ids.values) ids.push(String(id))
  }
  const truth = nearest.takeSorted().map(({ ranks }) => Array.from(ranks, (row) => ids[row]!))
  writeFileSync(file, JSON.stringify(truth))
  return truth
}
