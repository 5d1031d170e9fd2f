/**
 * How cost grows with the number of rows: the full word set once, and 3 and 10 times with jitter; and rows
 * like the sentences, with real queries.
 *
 * ```
 * npm run words:full && npm run bench:scale
 * node dist/bench/scale.js 100000 1000000 [--layout fast]
 * node dist/bench/scale.js --set sentences 1000000 [--shards 256]
 * ```
 *
 * Rows: by default 100,000, 1,000,000 and 3,414,790 words, or 1,000,000 like the sentences; scale-sets.ts
 * says what they are. Files and true answers are kept in .cache/scale. Each build is a process of its own,
 * with as many shards as `vecsnap plan` proposes or --shards says. For each: build time and peak memory
 * beside what the plan said, size, the time until a process without a cache has its first answer, and at
 * targetRecall .95 the recall and the queries per second with 16 in flight.
 */
import { join } from "node:path"
import { parseArgs } from "node:util"
import { type LayoutName, openSnapshot, openSource, planSnapshot, readInputFacts } from "../src/index.js"
import { appendHistory } from "./history.js"
import { jitteredWords, likeSentences, NEAREST, type ScaleSet } from "./scale-sets.js"
import { build, recall, round, table, underLoad, withDirectory } from "./support.js"

const SETS = { words: jitteredWords, sentences: likeSentences }
const DEFAULT_ROWS = { words: [100_000, 1_000_000, 3_414_790], sentences: [1_000_000] }
const TARGET = 0.95
const MEMORY_LIMIT = 2 ** 32

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    layout: { type: "string", default: "fast" },
    set: { type: "string", default: "words" },
    shards: { type: "string" },
  },
})
const layout = options.layout as LayoutName
const set = options.set as keyof typeof SETS

async function measure({ input, rows, queries, truth }: ScaleSet) {
  const asked = options.shards === undefined ? undefined : Number(options.shards)
  const facts = await readInputFacts(await openSource([input]))
  const plan = planSnapshot(facts, { cores: 2, memoryLimit: MEMORY_LIMIT, ...(asked && { shards: asked }) })
  const { shards } = plan
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
    const first = await reader.search(queries[0]!, { targetRecall: TARGET })
    const firstMs = performance.now() - start
    let probes = 0
    const found: (readonly string[])[] = []
    for (const query of queries) {
      const { hits, shards: probed } = await reader.search(query, { k: NEAREST, targetRecall: TARGET })
      probes += probed.asked.length
      found.push(hits.map(({ id }) => String(id)))
    }
    const load = await underLoad(queries, 16, (query) => reader.search(query, { targetRecall: TARGET }))
    await reader.close()
    return {
      rows,
      shards,
      buildSeconds: round(report.timingsMs.total! / 1000, 1),
      planSeconds: plan.buildSeconds,
      peakMiB: Math.round(peakBytes / 2 ** 20),
      planMiB: Math.round(plan.buildMemoryBytes / 2 ** 20),
      sizeMiB: Math.round(report.bytes / 2 ** 20),
      coldProbes: first.shards.asked.length,
      coldMs: Math.round(firstMs),
      probes: round(probes / queries.length),
      recall: round(recall(found, truth), 4),
      queriesPerSecond: load.queriesPerSecond,
      p99Ms: load.p99Ms,
      cpuMs: load.cpuMs,
    }
  })
}

const results: Awaited<ReturnType<typeof measure>>[] = []
for (const rows of positionals.length > 0 ? positionals.map(Number) : DEFAULT_ROWS[set])
  results.push(await measure(await SETS[set](rows)))
console.log(
  `\n${table(
    [
      "rows",
      "shards",
      "build, s",
      "by plan, s",
      "peak, MiB",
      "by plan, MiB",
      "size, MiB",
      "probes, cold",
      "first answer, ms",
      "probes",
      "recall",
      "queries/s",
      "p99 ms",
      "processor ms",
    ],
    results.map((line) => Object.values(line)),
  )}`,
)
console.log(`\n${JSON.stringify({ set, layout, results })}`)
appendHistory("scale", { set, layout, results })
