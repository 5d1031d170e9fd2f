/**
 * The main job on the full word set: 341,479 × 100, cosine, 64 cluster shards, on MinIO, with both backends.
 *
 * ```
 * npm run words:full && npm run servers:install && npm run bench:core
 * ```
 *
 * Prints, for each backend: build time by stage and peak memory; whether a search of all shards equals brute force;
 * requests and bytes of a cold query. Then recall@10 against probes on 1,000 rows that the build never saw. The peer in
 * the same run is brute force over all rows on one thread.
 */
import { execFile } from "node:child_process"
import { mkdtemp, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { promisify } from "node:util"
import { CreateBucketCommand, S3Client } from "@aws-sdk/client-s3"
import { startServer } from "../localstack/servers.js"
import {
  type BackendName,
  type BuildReport,
  openSnapshot,
  type Reader,
  type StoreOptions,
} from "../src/index.js"
import { createScanTable, scan } from "../src/vectors/scan.js"
import type { BuildRequest } from "./build-child.js"
import { fromRepository } from "./paths.js"
import { heldOutRows, loadWords, WORDS_FILE, type Words } from "./words.js"

const SHARDS = 64
const K = 10
const HELD_OUT = 1000
const EXACT_QUERIES = 200
const PROBES = [1, 4, 8, 16]
const BUCKET = "bench"

const run = promisify(execFile)

async function build(request: BuildRequest): Promise<{ report: BuildReport; peakBytes: number }> {
  const child = fromRepository("dist/bench/build-child.js")
  const { stdout } = await run(process.execPath, [child, JSON.stringify(request)], { maxBuffer: 2 ** 26 })
  return JSON.parse(stdout)
}

/** The ids of the nearest K rows to each query, and the milliseconds per query, by a scan of all rows. */
function bruteForce(
  words: Words,
  kept: readonly number[],
  queries: readonly Float32Array[],
): { ids: string[][]; ms: number } {
  const vectors = new Float32Array(kept.length * words.dim)
  for (const [i, row] of kept.entries()) vectors.set(vectorOf(words, row), i * words.dim)
  const table = createScanTable("cosine", vectors, words.dim)
  const start = performance.now()
  const ids = queries.map((query) => Array.from(scan(table, query, K).ranks, (row) => words.ids[kept[row]!]!))
  return { ids, ms: (performance.now() - start) / queries.length }
}

const vectorOf = ({ vectors, dim }: Words, row: number): Float32Array =>
  vectors.subarray(row * dim, (row + 1) * dim)

/** A query in a fresh process's situation: nothing open, nothing on disk. */
async function coldQuery(url: string, store: StoreOptions, query: Float32Array, probes: number) {
  const cacheDir = await mkdtemp(join(tmpdir(), "vecsnap-bench-"))
  try {
    const start = performance.now()
    await using reader = await openSnapshot(url, { store, cacheDir })
    await reader.search(query, { k: K, probes })
    const ms = performance.now() - start
    const { get, getFile, head, list, bytesRead } = reader.stats().requests
    return { probes, ms: Math.round(ms), gets: get + getFile, heads: head, lists: list, bytes: bytesRead }
  } finally {
    await rm(cacheDir, { recursive: true, force: true })
  }
}

async function searchAll(reader: Reader, queries: readonly Float32Array[], probes: number | "all") {
  const start = performance.now()
  const ids: string[][] = []
  for (const query of queries) {
    const { hits } = await reader.search(query, { k: K, probes })
    ids.push(hits.map(({ id }) => String(id)))
  }
  return { ids, ms: (performance.now() - start) / queries.length }
}

function recall(found: readonly string[][], truth: readonly string[][]): number {
  const shares = truth.map(
    (expected, i) => expected.filter((id) => found[i]!.includes(id)).length / expected.length,
  )
  return shares.reduce((sum, share) => sum + share, 0) / shares.length
}

const words = await loadWords()
const held = heldOutRows(words.rows, HELD_OUT)
const queries = held.map((row) => vectorOf(words, row).slice())
const everything = Array.from({ length: words.rows }, (_, row) => row)

const minio = await startServer("minio")
const { endpoint, region, accessKeyId, secretAccessKey } = minio
const credentials = { accessKeyId, secretAccessKey }
const store: StoreOptions = { s3: { endpoint, region, credentials } }
const workDir = await mkdtemp(join(tmpdir(), "vecsnap-bench-"))
const results: Record<string, unknown> = { rows: words.rows, dim: words.dim, shards: SHARDS }
try {
  const client = new S3Client({ endpoint, region, credentials, forcePathStyle: true })
  await client.send(new CreateBucketCommand({ Bucket: BUCKET }))
  client.destroy()

  const exactQueries = queries.slice(0, EXACT_QUERIES)
  const truthOfAll = bruteForce(words, everything, exactQueries)
  for (const backend of ["sqlite-vec", "lancedb"] satisfies BackendName[]) {
    const to = `s3://${BUCKET}/${backend}`
    const { report, peakBytes } = await build({ input: WORDS_FILE, to, store, backend, shards: SHARDS })
    const cold = []
    for (const probes of [1, 8]) cold.push(await coldQuery(to, store, queries[0]!, probes))
    await using reader = await openSnapshot(to, { store, cacheDir: join(workDir, "cache") })
    const all = await searchAll(reader, exactQueries, "all")
    const equal = all.ids.filter((ids, i) => ids.join("\0") === truthOfAll.ids[i]!.join("\0")).length
    results[backend] = {
      buildSeconds: report.timingsMs.total! / 1000,
      timingsMs: report.timingsMs,
      peakMiB: Math.round(peakBytes / 2 ** 20),
      snapshotMiB: Math.round(report.bytes / 2 ** 20),
      skew: report.shards.skew,
      allShards: {
        queries: EXACT_QUERIES,
        equalToBruteForce: equal,
        ms: all.ms,
        bruteForceMs: truthOfAll.ms,
      },
      cold,
    }
    console.error(JSON.stringify({ [backend]: results[backend] }, null, 2))
  }

  const out = new Set(held)
  const kept = everything.filter((row) => !out.has(row))
  const truth = bruteForce(words, kept, queries)
  const heldIds = held.map((row) => `'${words.ids[row]!.replaceAll("'", "''")}'`).join(",")
  const sql = `select id, vector from '${WORDS_FILE}' where id not in (${heldIds})`
  const to = join(workDir, "held-out")
  await build({ input: WORDS_FILE, sql, to, store: {}, backend: "sqlite-vec", shards: SHARDS })
  await using reader = await openSnapshot(to, { cacheDir: join(workDir, "cache") })
  const curve: Record<string, unknown> = {}
  for (const probes of PROBES) {
    const found = await searchAll(reader, queries, probes)
    curve[probes] = {
      recall: recall(found.ids, truth.ids),
      ms: found.ms,
      timesBruteForce: truth.ms / found.ms,
    }
  }
  results.recallAt10 = { queries: HELD_OUT, bruteForceMs: truth.ms, probes: curve }
  console.log(JSON.stringify(results, null, 2))
} finally {
  await minio.stop()
  await rm(workDir, { recursive: true, force: true })
}
