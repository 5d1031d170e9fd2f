/**
 * How cost grows with the number of rows: the full word set once, and 3 and 10 times with jitter.
 *
 * ```
 * npm run words:full && npm run bench:scale
 * node dist/bench/scale.js 100000 1000000 [--layout fast]
 * ```
 *
 * Rows: by default 100,000, 1,000,000 and 3,414,790. Row i is word i mod 341,479, times 1 plus Gaussian noise
 * of a tenth for each element but for the first copy; DuckDB writes them to Parquet files in .cache/scale as
 * they are made, once. Each build is a process of its own, with as many shards as `vecsnap plan` proposes.
 * For each: build time and peak memory, size, the time until a process without a cache has its first answer,
 * and queries per second with 16 in flight at targetRecall .95.
 */
import { existsSync, mkdirSync, renameSync } from "node:fs"
import { join } from "node:path"
import { parseArgs } from "node:util"
import { DuckDBInstance } from "@duckdb/node-api"
import { type LayoutName, openSnapshot, openSource, planSnapshot, readInputFacts } from "../src/index.js"
import { appendHistory } from "./history.js"
import { fromRepository } from "./paths.js"
import { build, round, table, underLoad, withDirectory } from "./support.js"
import { heldOutRows, loadWords, vectorOf, WORDS_FILE } from "./words.js"

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: { layout: { type: "string", default: "fast" } },
})
const ROWS = positionals.length > 0 ? positionals.map(Number) : [100_000, 1_000_000, 3_414_790]
const layout = options.layout as LayoutName
const QUERIES = 1000
const WORDS = 341_479
const NOISE = 0.1
const MEMORY_LIMIT = 2 ** 32

/** The Parquet file of so many rows; made if it is not there. */
async function jitteredWords(rows: number): Promise<string> {
  const dir = fromRepository(".cache/scale")
  const file = join(dir, `words-${rows}.parquet`)
  if (existsSync(file)) return file
  mkdirSync(dir, { recursive: true })
  const instance = await DuckDBInstance.create(":memory:", { memory_limit: "2GB", threads: "2" })
  const connection = await instance.connect()
  const copies = Math.ceil(rows / WORDS)
  // Box and Muller's normal numbers, from a hash, so that the rows are the same each time.
  const uniform = (salt: string): string => `((hash(id, n, i, '${salt}') % 1000000007 + 1) / 1000000009.0)`
  await connection.run(`COPY (
    SELECT id || '#' || n AS id,
      CASE WHEN n = 0 THEN vector::FLOAT[] ELSE list_transform(vector::FLOAT[], (x, i) ->
        (x * (1 + ${NOISE} * sqrt(-2 * ln(${uniform("a")})) * cos(2 * pi() * ${uniform("b")})))::FLOAT) END AS vector
    FROM range(${copies}) AS copies(n), read_parquet('${WORDS_FILE.replaceAll("'", "''")}') LIMIT ${rows}
  ) TO '${file}.part' (FORMAT parquet, ROW_GROUP_SIZE 100000)`)
  connection.closeSync()
  instance.closeSync()
  renameSync(`${file}.part`, file)
  return file
}

async function measure(rows: number, queries: readonly Float32Array[]) {
  const input = await jitteredWords(rows)
  const { shards } = planSnapshot(await readInputFacts(await openSource([input])), { cores: 2 })
  return withDirectory(async (dir) => {
    const [to, cacheDir] = [join(dir, "snapshot"), join(dir, "cache")]
    const request = {
      input,
      to,
      store: {},
      backend: "sqlite-vec",
      shards,
      layout,
      memoryLimit: MEMORY_LIMIT,
    } as const
    const { report, peakBytes } = await build(request)
    const start = performance.now()
    const reader = await openSnapshot(to, { cacheDir })
    const first = await reader.search(queries[0]!, { targetRecall: 0.95 })
    const firstMs = performance.now() - start
    let probes = 0
    for (const query of queries) {
      probes += (await reader.search(query, { targetRecall: 0.95 })).shards.asked.length
    }
    const load = await underLoad(queries, 16, (query) => reader.search(query, { targetRecall: 0.95 }))
    await reader.close()
    return {
      rows,
      shards,
      buildSeconds: round(report.timingsMs.total! / 1000, 1),
      peakMiB: Math.round(peakBytes / 2 ** 20),
      sizeMiB: Math.round(report.bytes / 2 ** 20),
      coldProbes: first.shards.asked.length,
      coldMs: Math.round(firstMs),
      probes: round(probes / queries.length),
      queriesPerSecond: load.queriesPerSecond,
      p99Ms: load.p99Ms,
      cpuMs: load.cpuMs,
    }
  })
}

const words = await loadWords()
const queries = heldOutRows(words.rows, QUERIES).map((row) => vectorOf(words, row).slice())
const results: Awaited<ReturnType<typeof measure>>[] = []
for (const rows of ROWS) results.push(await measure(rows, queries))
console.log(
  `\n${table(
    [
      "rows",
      "shards",
      "build, s",
      "peak, MiB",
      "size, MiB",
      "probes, cold",
      "first answer, ms",
      "probes",
      "queries/s",
      "p99 ms",
      "processor ms",
    ],
    results.map((line) => Object.values(line)),
  )}`,
)
console.log(`\n${JSON.stringify({ layout, results })}`)
appendHistory("scale", { layout, results })
