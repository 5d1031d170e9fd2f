/**
 * The main job on the full word set: 341,479 × 100, cosine, 64 cluster shards, on MinIO, with both backends.
 *
 * ```
 * npm run words:full && npm run servers:install && npm run bench:core
 * ```
 *
 * Prints, for each backend: build time by stage and peak memory; whether a search of all shards equals brute
 * force; requests and bytes of a cold query. Then recall@10 against probes on 1,000 rows that the build never
 * saw. The peer in the same run is brute force over all rows on one thread.
 */
import { join } from "node:path"
import { type BackendName, openSnapshot, type Reader, type StoreOptions } from "../src/index.js"
import { appendHistory } from "./history.js"
import { bruteForce, build, type Found, recall, round, table, withDirectory, withMinio } from "./support.js"
import { heldOutRows, loadWords, vectorOf, WORDS_FILE, withoutRows } from "./words.js"

const SHARDS = 64
const K = 10
const HELD_OUT = 1000
const EXACT_QUERIES = 200
const PROBES = [1, 4, 8, 16]

/** A query in a fresh process's situation: nothing open, nothing on disk. */
async function coldQuery(url: string, store: StoreOptions, query: Float32Array, probes: number) {
  return withDirectory(async (cacheDir) => {
    const start = performance.now()
    await using reader = await openSnapshot(url, { store, cacheDir })
    await reader.search(query, { k: K, probes })
    const ms = Math.round(performance.now() - start)
    const { get, getFile, head, list, bytesRead } = reader.stats().requests
    return { probes, ms, requests: get + getFile + head, lists: list, bytes: bytesRead }
  })
}

async function searchAll(
  reader: Reader,
  queries: readonly Float32Array[],
  probes: number | "all",
): Promise<Found> {
  const start = performance.now()
  const ids: string[][] = []
  for (const query of queries) {
    const { hits } = await reader.search(query, { k: K, probes })
    ids.push(hits.map(({ id }) => String(id)))
  }
  return { ids, ms: (performance.now() - start) / queries.length }
}

const words = await loadWords()
const held = heldOutRows(words.rows, HELD_OUT)
const queries = held.map((row) => vectorOf(words, row).slice())
const everything = Array.from({ length: words.rows }, (_, row) => row)
const exactQueries = queries.slice(0, EXACT_QUERIES)
const truthOfAll = bruteForce(words, everything, exactQueries, K)
const results: Record<string, unknown> = { rows: words.rows, dim: words.dim, shards: SHARDS }

await withDirectory((dir) =>
  withMinio(async (root, store) => {
    const builds: (string | number)[][] = []
    const colds: (string | number)[][] = []
    for (const backend of ["sqlite-vec", "lancedb"] satisfies BackendName[]) {
      const to = `${root}/${backend}`
      const { report, peakBytes } = await build({
        input: WORDS_FILE,
        to,
        store,
        backend,
        shards: SHARDS,
        layout: "plain",
      })
      const cold = [await coldQuery(to, store, queries[0]!, 1), await coldQuery(to, store, queries[0]!, 8)]
      await using reader = await openSnapshot(to, { store, cacheDir: join(dir, "cache") })
      const all = await searchAll(reader, exactQueries, "all")
      const equal = all.ids.filter((ids, i) => ids.join("\0") === truthOfAll.ids[i]!.join("\0")).length
      const { total, ...stagesMs } = report.timingsMs
      const peakMiB = Math.round(peakBytes / 2 ** 20)
      const sizeMiB = Math.round(report.bytes / 2 ** 20)
      results[backend] = { totalMs: total, stagesMs, peakMiB, sizeMiB, skew: report.shards.skew, equal, cold }
      builds.push([backend, round(total! / 1000, 1), peakMiB, sizeMiB, `${equal} of ${EXACT_QUERIES}`])
      for (const { probes, requests, lists, bytes, ms } of cold) {
        colds.push([backend, probes, requests, lists, round(bytes / 2 ** 20, 1), ms])
      }
    }
    console.log(
      `\n${table(["backend", "build, s", "peak, MiB", "size, MiB", "all shards = brute force"], builds)}`,
    )
    console.log(`\n${table(["cold query", "probes", "requests", "lists", "MiB", "ms"], colds)}`)

    const { kept, sql } = withoutRows(words, held)
    const truth = bruteForce(words, kept, queries, K)
    const to = join(dir, "held-out")
    await build({
      input: WORDS_FILE,
      sql,
      to,
      store: {},
      backend: "sqlite-vec",
      shards: SHARDS,
      layout: "plain",
    })
    await using reader = await openSnapshot(to, { cacheDir: join(dir, "cache") })
    const curve: (string | number)[][] = []
    // All shards open, and all code compiled.
    await searchAll(reader, queries, "all")
    for (const probes of PROBES) {
      const found = await searchAll(reader, queries, probes)
      curve.push([
        probes,
        round(recall(found.ids, truth.ids), 3),
        round(found.ms),
        round(truth.ms / found.ms, 1),
      ])
    }
    results.recall = curve
    console.log(`\n${table(["probes", "recall@10", "ms", "times as fast as brute force"], curve)}`)
  }),
)
console.log(`\n${JSON.stringify(results)}`)
appendHistory("core", results)
