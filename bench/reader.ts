/**
 * The reader on the full word set in 64 cluster shards, against one unsharded LanceDB table of the same
 * vectors at equal recall, in the same run.
 *
 * ```
 * npm run words:full && npm run servers:install && npm run bench:reader
 * ```
 *
 * 1,000 rows are held out of both and serve as queries. Ours searches 8 probes; LanceDB, with an IVF_FLAT
 * index of √N partitions on local disk, as many partitions as it needs for the same recall@10.
 */
import { execFile } from "node:child_process"
import { join } from "node:path"
import { monitorEventLoopDelay } from "node:perf_hooks"
import { promisify } from "node:util"
import { buildSnapshot, openSnapshot, type Reader, type StoreOptions } from "../src/index.js"
import { createRandom } from "../src/vectors/random.js"
import type { BuildRequest } from "./build-child.js"
import { appendHistory } from "./history.js"
import { fromRepository } from "./paths.js"
import { buildPeer, openPeer, type Search, tunePeer } from "./peer.js"
import {
  bruteForce,
  build,
  type Load,
  recall,
  round,
  table,
  underLoad,
  withDirectory,
  withMinio,
} from "./support.js"
import { heldOutRows, loadWords, pickRows, vectorOf, WORDS_FILE, withoutRows } from "./words.js"

const SHARDS = 64
const PROBES = 8
const K = 10
const HELD_OUT = 1000
const IN_FLIGHT = [1, 4, 16]

const run = promisify(execFile)

/** Event-loop delay while `work` runs, in milliseconds. */
async function withDelay<T>(work: () => Promise<T>): Promise<{ result: T; p99Ms: number }> {
  const delay = monitorEventLoopDelay({ resolution: 1 })
  delay.enable()
  const result = await work()
  delay.disable()
  return { result, p99Ms: round(delay.percentile(99) / 1e6) }
}

async function coldOpen(url: string, store: StoreOptions, query: Float32Array) {
  return withDirectory(async (cacheDir) => {
    const start = performance.now()
    await using reader = await openSnapshot(url, { store, cacheDir })
    const openMs = performance.now() - start
    await reader.search(query, { k: K, probes: PROBES })
    const ms = performance.now() - start
    const { get, getFile, head, list, bytesRead } = reader.stats().requests
    // Pointer, manifest, routing one after another, then all shards at once.
    return {
      openMs: Math.round(openMs),
      ms: Math.round(ms),
      requests: get + getFile + head,
      lists: list,
      roundTrips: get + 1,
      mib: round(bytesRead / 2 ** 20, 1),
    }
  })
}

/** Resident memory that all shards take when they are open, in a process of their own, by shard. */
async function memoryPerShard(url: string, cacheDir: string): Promise<number> {
  const { stdout } = await run(process.execPath, [
    fromRepository("dist/bench/memory-child.js"),
    url,
    cacheDir,
  ])
  return Number(stdout) / SHARDS
}

/** 5,000 searches of shards of 20,000 × 100, 16 in flight: how long the event loop is held up. */
async function largeShards(dir: string): Promise<{ load: Load; delayMs: number }> {
  const rows = 20_000
  const random = createRandom(1)
  const record = (n: number) => ({
    id: n,
    vector: Float32Array.from({ length: 100 }, () => random.gaussian()),
    shard: n % 2,
  })
  const url = join(dir, "large")
  await buildSnapshot(
    Array.from({ length: 2 * rows }, (_, n) => record(n)),
    { to: url, sharding: { strategy: "explicit", shards: 2 } },
  )
  await using reader = await openSnapshot(url, { cacheDir: join(dir, "cache") })
  const asked = Array.from({ length: 5000 }, (_, n) => record(n).vector)
  await reader.search(asked[0]!, { shards: "all" })
  let next = 0
  const search = (query: Float32Array) => reader.search(query, { k: K, shards: [next++ % 2] })
  const { result, p99Ms } = await withDelay(() => underLoad(asked, 16, search))
  return { load: result, delayMs: p99Ms }
}

/** `rebuild`: what the reader's snapshot was built by. */
async function refreshes(reader: Reader, rebuild: BuildRequest): Promise<(string | number)[][]> {
  const rows: (string | number)[][] = []
  for (const [name, change] of [
    ["no shard changed", { routingFrom: rebuild.to }],
    ["all shards changed", { seed: 2 }],
  ] as const) {
    await build({ ...rebuild, ...change })
    const before = reader.stats()
    const start = performance.now()
    const { keptShards } = await reader.refresh()
    const ms = performance.now() - start
    const after = reader.stats()
    rows.push([
      name,
      keptShards,
      after.shardDownloads - before.shardDownloads,
      after.requests.get - before.requests.get,
      Math.round(ms),
    ])
  }
  return rows
}

const words = await loadWords()
const heldOut = heldOutRows(words.rows, HELD_OUT)
const queries = heldOut.map((row) => vectorOf(words, row).slice())
const { kept, sql } = withoutRows(words, heldOut)
const truth = bruteForce(words, kept, queries, K)

await withDirectory(async (dir) => {
  const url = join(dir, "snapshot")
  const cacheDir = join(dir, "cache")
  const request = {
    input: WORDS_FILE,
    sql,
    to: url,
    store: {},
    backend: "sqlite-vec",
    shards: SHARDS,
    layout: "plain",
  } as const
  await build(request)

  await using reader = await openSnapshot(url, { cacheDir })
  const ours: Search = async (query) =>
    (await reader.search(query, { k: K, probes: PROBES })).hits.map(({ id }) => String(id))
  const oursIds = []
  for (const query of queries) oursIds.push(await ours(query))
  const oursRecall = recall(oursIds, truth.ids)
  const peerDir = join(dir, "peer")
  const partitions = Math.round(Math.sqrt(kept.length))
  await buildPeer(pickRows(words, kept), peerDir, { kind: "IVF_FLAT", partitions })
  const lanceDb = await openPeer(peerDir, { kind: "IVF_FLAT", k: K })
  const peer = (await tunePeer(lanceDb, queries, truth.ids, oursRecall, partitions))!

  const loads: (string | number)[][] = []
  const row = (
    name: string,
    reached: number,
    { inFlight, queriesPerSecond, p50Ms, p95Ms, p99Ms }: Load,
    delayMs: number,
  ) => loads.push([name, round(reached, 3), inFlight, queriesPerSecond, p50Ms, p95Ms, p99Ms, delayMs])
  for (const inFlight of IN_FLIGHT) {
    const mine = await withDelay(() => underLoad(queries, inFlight, ours))
    row(`vecsnap, ${PROBES} of ${SHARDS} shards`, oursRecall, mine.result, mine.p99Ms)
    const theirs = await withDelay(() => underLoad(queries, inFlight, lanceDb(peer.effort)))
    row(`one LanceDB table, ${peer.effort} partitions`, peer.reached, theirs.result, theirs.p99Ms)
  }
  console.log(
    `\n${table(["", "recall@10", "in flight", "queries/s", "p50 ms", "p95 ms", "p99 ms", "loop delay p99 ms"], loads)}`,
  )

  const shardMemory = await memoryPerShard(url, cacheDir)
  const held = reader.stats().openShardBytes / reader.stats().openShards
  console.log(
    `\nResident memory per open shard: ${round(shardMemory / 2 ** 20, 1)} MiB, of which vectors ${round(held / 2 ** 20, 1)} MiB (${Math.round(kept.length / SHARDS)} rows on average)`,
  )
  const large = await largeShards(dir)
  console.log(
    `5,000 searches of shards of 20,000 × 100, 16 in flight: event-loop delay p99 ${large.delayMs} ms, ${large.load.queriesPerSecond} queries/s, p99 ${large.load.p99Ms} ms`,
  )

  const changes = await refreshes(reader, request)
  console.log(`\n${table(["refresh", "shards kept", "downloads", "GETs", "ms"], changes)}`)

  await withMinio(async (root, store) => {
    const to = `${root}/cold`
    await build({ ...request, to, store })
    const { openMs, ms, requests, lists, roundTrips, mib } = await coldOpen(to, store, queries[0]!)
    console.log(
      `\n${table(["cold open on MinIO", "requests", "lists", "round trips", "MiB", "open ms", "first answer ms"], [["", requests, lists, roundTrips, mib, openMs, ms]])}`,
    )
    const results = {
      rows: kept.length,
      shards: SHARDS,
      loads,
      memoryPerShard: Math.round(shardMemory),
      largeShards: large,
      refreshes: changes,
      cold: { openMs, ms, requests, lists, roundTrips, mib },
    }
    console.log(`\n${JSON.stringify(results)}`)
    appendHistory("reader", results)
  })
})
