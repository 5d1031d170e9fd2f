/** What the benchmarks share: a server, builds in processes of their own, truth by brute force, figures. */
import { execFile } from "node:child_process"
import { mkdtemp, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { promisify } from "node:util"
import { CreateBucketCommand, S3Client } from "@aws-sdk/client-s3"
import { startServer } from "../localstack/servers.js"
import type { BuildReport, StoreOptions } from "../src/index.js"
import { createScanTable, scan } from "../src/vectors/scan.js"
import type { BuildRequest } from "./build-child.js"
import { fromRepository } from "./paths.js"
import { pickRows, type Words } from "./words.js"

const run = promisify(execFile)

/** Builds in a child process, so that its peak memory is the build's and nothing else's. */
export async function build(
  request: BuildRequest,
): Promise<{ report: BuildReport; peakBytes: number; cpuSeconds: number }> {
  const child = fromRepository("dist/bench/build-child.js")
  const { stdout } = await run(process.execPath, [child, JSON.stringify(request)], { maxBuffer: 2 ** 26 })
  return JSON.parse(stdout)
}

/** A directory for the duration of `work`. */
export async function withDirectory<T>(work: (dir: string) => Promise<T>): Promise<T> {
  const dir = await mkdtemp(join(tmpdir(), "vecsnap-bench-"))
  try {
    return await work(dir)
  } finally {
    await rm(dir, { recursive: true, force: true })
  }
}

/** A MinIO with an empty bucket for the duration of `work`. */
export async function withMinio<T>(work: (root: string, store: StoreOptions) => Promise<T>): Promise<T> {
  const { endpoint, region, accessKeyId, secretAccessKey, stop } = await startServer("minio")
  try {
    const credentials = { accessKeyId, secretAccessKey }
    const client = new S3Client({ endpoint, region, credentials, forcePathStyle: true })
    await client.send(new CreateBucketCommand({ Bucket: "bench" }))
    client.destroy()
    return await work("s3://bench", { s3: { endpoint, region, credentials } })
  } finally {
    await stop()
  }
}

export interface Found {
  /** Ids found for each query, nearest first. */
  readonly ids: readonly (readonly string[])[]
  /** Average milliseconds per query. */
  readonly ms: number
}

/** The nearest k of the rows `kept` to each query, by a scan of all of them on one thread. */
export function bruteForce(
  words: Words,
  kept: readonly number[],
  queries: readonly Float32Array[],
  k: number,
): Found {
  const { vectors } = pickRows(words, kept)
  const table = createScanTable("cosine", vectors, words.dim)
  const start = performance.now()
  const ids = queries.map((query) => Array.from(scan(table, query, k).ranks, (row) => words.ids[kept[row]!]!))
  return { ids, ms: (performance.now() - start) / queries.length }
}

/** Average share of the true neighbours that were found. */
export function recall(found: Found["ids"], truth: Found["ids"]): number {
  const shares = truth.map(
    (expected, i) => expected.filter((id) => found[i]!.includes(id)).length / expected.length,
  )
  return shares.reduce((sum, share) => sum + share, 0) / shares.length
}

export interface Load {
  readonly inFlight: number
  readonly queriesPerSecond: number
  readonly p50Ms: number
  readonly p95Ms: number
  readonly p99Ms: number
  /**
   * Processor time per query over all threads of the process: what counts where other processes take their
   * share.
   */
  readonly cpuMs: number
}

/** Answers all queries, `inFlight` at a time. */
export async function underLoad(
  queries: readonly Float32Array[],
  inFlight: number,
  search: (query: Float32Array) => Promise<unknown>,
): Promise<Load> {
  const times: number[] = []
  let next = 0
  const client = async (): Promise<void> => {
    while (next < queries.length) {
      const query = queries[next++]!
      const start = performance.now()
      await search(query)
      times.push(performance.now() - start)
    }
  }
  const start = performance.now()
  const before = process.cpuUsage()
  await Promise.all(Array.from({ length: inFlight }, client))
  const seconds = (performance.now() - start) / 1000
  const { user, system } = process.cpuUsage(before)
  times.sort((a, b) => a - b)
  const percentile = (share: number): number =>
    round(times[Math.min(times.length - 1, Math.floor(times.length * share))]!)
  return {
    inFlight,
    queriesPerSecond: Math.round(queries.length / seconds),
    p50Ms: percentile(0.5),
    p95Ms: percentile(0.95),
    p99Ms: percentile(0.99),
    cpuMs: round((user + system) / 1000 / queries.length, 3),
  }
}

/** The middle one; of an even number the upper of the two. */
export const median = (values: readonly number[]): number =>
  [...values].sort((a, b) => a - b)[values.length >> 1]!

export const round = (value: number, digits = 2): number => Number(value.toFixed(digits))

/** A Markdown table. */
export function table(titles: readonly string[], rows: readonly (readonly (string | number)[])[]): string {
  return [titles, titles.map(() => "---"), ...rows].map((cells) => `| ${cells.join(" | ")} |`).join("\n")
}
