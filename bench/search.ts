/**
 * Searches of a snapshot of the full word set (341,479 × 100, cosine) against one LanceDB table at equal
 * recall:
 *
 * ```
 * npm run words:full && npm run servers:install && npm run bench:search
 * node dist/bench/search.js --layout fast --dir kept --skip-minio
 * ```
 *
 * 2,000 rows are held out of both and serve as queries; what they should find is brute force over all other
 * rows. With the first 1,000 both sides are tuned to recall@10 .90, .95 and .98: ours by `targetRecall`, the
 * peer by the number of IVF_FLAT partitions that it searches. With the other 1,000, queries per second and
 * latencies are measured at 1, 4 and 16 in flight, the sides taking turns; the median of the rounds counts. A
 * cold query has nothing open and nothing on disk.
 *
 * `--layout` of the snapshot (default: affinity, with 1.2 times the rows). `--dir`: keep snapshot, table and
 * cache there and use them if they are there already. `--partitions 292,584,1168`: the peer's index with the
 * most queries per second at .95 counts. `--targets` (.95 must be among them) and `--rounds`: fewer for a
 * shorter run. `--skip-minio`: the local directory alone.
 */
import { existsSync } from "node:fs"
import { join } from "node:path"
import { setTimeout } from "node:timers/promises"
import { parseArgs } from "node:util"
import { type LayoutName, openSnapshot, type Reader, type StoreOptions } from "../src/index.js"
import { openStore } from "../src/storage/open.js"
import { wrapStore } from "../src/storage/wrap-store.js"
import { appendHistory } from "./history.js"
import { buildPeer, openPeer, type Peer, type Search, tunePeer } from "./peer.js"
import {
  bruteForce,
  build,
  type Found,
  type Load,
  median,
  recall,
  round,
  table,
  underLoad,
  withDirectory,
  withMinio,
} from "./support.js"
import { heldOutRows, loadWords, vectorOf, WORDS_FILE, withoutRows } from "./words.js"

const { values: options } = parseArgs({
  options: {
    layout: { type: "string", default: "affinity" },
    dir: { type: "string" },
    partitions: { type: "string", default: "292,584,1168" },
    rounds: { type: "string", default: "3" },
    targets: { type: "string", default: ".9,.95,.98" },
    "skip-minio": { type: "boolean", default: false },
  },
})
const layout = options.layout as LayoutName
const rounds = Number(options.rounds)

const SHARDS = 64
const BUDGET = 1.2
const K = 10
const HELD_OUT = 2000
const IN_FLIGHT = [1, 4, 16]
/**
 * Steps in which our target is raised if it falls short of the recall on the queries that both sides are
 * tuned with.
 */
const TARGET_STEP = 0.0025

const words = await loadWords()
const heldOut = heldOutRows(words.rows, HELD_OUT)
const { kept, sql } = withoutRows(words, heldOut)
const queries = heldOut.map((row) => vectorOf(words, row).slice())
const [tuning, measured] = [queries.slice(0, HELD_OUT / 2), queries.slice(HELD_OUT / 2)]
const truth = bruteForce(words, kept, queries, K).ids
const [tuningTruth, measuredTruth] = [truth.slice(0, HELD_OUT / 2), truth.slice(HELD_OUT / 2)]

type Route = { readonly probes: number } | { readonly targetRecall: number }

const searchesOf =
  (reader: Reader, route: Route): Search =>
  async (query) =>
    (await reader.search(query, { k: K, ...route })).hits.map(({ id }) => String(id))

async function findAll(search: Search, asked: readonly Float32Array[]): Promise<Found["ids"]> {
  const ids: (readonly string[])[] = []
  for (const query of asked) ids.push(await search(query))
  return ids
}

/**
 * The smallest route that reaches a recall: a target where the routing has been measured, else a number of
 * probes.
 */
async function tune(reader: Reader, wanted: number): Promise<Route> {
  for (let step = 0; ; step++) {
    const route =
      layout === "plain"
        ? { probes: step + 1 }
        : { targetRecall: Math.min(1, round(wanted - 4 * TARGET_STEP + step * TARGET_STEP, 4)) }
    const reached = recall(await findAll(searchesOf(reader, route), tuning), tuningTruth)
    if (reached >= wanted) return route
  }
}

async function meanProbes(reader: Reader, route: Route): Promise<number> {
  let probes = 0
  for (const query of measured) {
    probes += (await reader.search(query, { k: K, ...route })).shards.asked.length
  }
  return probes / measured.length
}

interface Side {
  readonly name: string
  readonly search: Search
  readonly loads: Load[]
}

/** Both sides in turn; the median of each figure. */
async function race(sides: readonly Omit<Side, "loads">[], inFlight: number): Promise<readonly Load[]> {
  const runs: Side[] = sides.map((side) => ({ ...side, loads: [] }))
  for (let turn = 0; turn < rounds; turn++) {
    for (const { search, loads } of runs) loads.push(await underLoad(measured, inFlight, search))
  }
  return runs.map(({ loads }) => ({
    inFlight,
    queriesPerSecond: median(loads.map((load) => load.queriesPerSecond)),
    p50Ms: median(loads.map((load) => load.p50Ms)),
    p95Ms: median(loads.map((load) => load.p95Ms)),
    p99Ms: median(loads.map((load) => load.p99Ms)),
    cpuMs: median(loads.map((load) => load.cpuMs)),
  }))
}

interface Raced {
  readonly target: number
  readonly inFlight: number
  readonly ours: Load & { readonly recall: number; readonly probes: number }
  readonly peer: Load & { readonly recall: number; readonly partitions: number }
  /** Our queries per second over the peer's. */
  readonly times: number
  /** The peer's processor time per query over ours. */
  readonly timesLessCpu: number
}

async function warmSearches(reader: Reader, peer: Peer, targets: readonly number[]): Promise<Raced[]> {
  const raced: Raced[] = []
  for (const target of targets) {
    const route = await tune(reader, target)
    const tuned = await tunePeer(peer, tuning, tuningTruth, target)
    const mine = searchesOf(reader, route)
    const facts = {
      ours: {
        recall: round(recall(await findAll(mine, measured), measuredTruth), 4),
        probes: round(await meanProbes(reader, route)),
      },
      peer: {
        recall: round(recall(await findAll(tuned.search, measured), measuredTruth), 4),
        partitions: tuned.partitions,
      },
    }
    for (const inFlight of IN_FLIGHT) {
      const [ours, theirs] = await race(
        [
          { name: "vecsnap", search: mine },
          { name: "LanceDB", search: tuned.search },
        ],
        inFlight,
      )
      raced.push({
        target,
        inFlight,
        ours: { ...facts.ours, ...ours! },
        peer: { ...facts.peer, ...theirs! },
        times: round(ours!.queriesPerSecond / theirs!.queriesPerSecond),
        timesLessCpu: round(theirs!.cpuMs / ours!.cpuMs),
      })
    }
  }
  return raced
}

/** The index of the peer that answers most queries per second at a recall of .95 with 16 in flight. */
async function bestPeer(dir: string): Promise<{ readonly peer: Peer; readonly partitions: number }> {
  let best: { readonly peer: Peer; readonly partitions: number; readonly speed: number } | undefined
  for (const partitions of options.partitions.split(",").map(Number)) {
    const url = join(dir, `peer-${partitions}`)
    if (!existsSync(url)) await buildPeer(words, kept, url, partitions)
    const peer = await openPeer(url, K)
    const { search } = await tunePeer(peer, tuning, tuningTruth, 0.95)
    const speed = (await underLoad(measured, 16, search)).queriesPerSecond
    if (best === undefined || speed > best.speed) best = { peer, partitions, speed }
  }
  return best!
}

/**
 * How much longer each request takes where round trips are counted: short ones that merely begin one after
 * another look like a chain.
 */
const HELD_MS = 50

/**
 * A query in a fresh process's situation: what it asks of the store, and once more with slow requests, how
 * often it waits for them.
 */
async function coldQuery(url: string, store: StoreOptions, route: Route) {
  const { requests: _, ...figures } = await firstAnswer(url, store, route, 0)
  const { requests } = await firstAnswer(url, store, route, HELD_MS)
  const { probes, asked, lists, mib, openMs, firstMs } = figures
  return { probes, requests: asked, lists, roundTrips: longestChain(requests), mib, openMs, firstMs }
}

/** Opens with nothing open and nothing on disk, asks once, and times every request to the store. */
async function firstAnswer(url: string, store: StoreOptions, route: Route, heldMs: number) {
  return withDirectory(async (cacheDir) => {
    const requests: { readonly startMs: number; endMs: number }[] = []
    const opened = openStore(url, store)
    const timed = wrapStore(opened, async (_what, work) => {
      const request = { startMs: performance.now(), endMs: Infinity }
      requests.push(request)
      try {
        if (heldMs > 0) await setTimeout(heldMs)
        return await work()
      } finally {
        request.endMs = performance.now()
      }
    })
    const start = performance.now()
    const reader = await openSnapshot(timed, { cacheDir })
    const openMs = performance.now() - start
    const { shards } = await reader.search(measured[0]!, { k: K, ...route })
    const firstMs = performance.now() - start
    const { get, getFile, head, list, bytesRead } = reader.stats().requests
    await reader.close()
    opened.close()
    return {
      probes: shards.asked.length,
      asked: get + getFile + head,
      lists: list,
      mib: round(bytesRead / 2 ** 20, 1),
      openMs: Math.round(openMs),
      firstMs: Math.round(firstMs),
      requests,
    }
  })
}

/**
 * How many requests have had to wait for one another: the most of them of which each began after the one
 * before had ended.
 */
function longestChain(requests: readonly { readonly startMs: number; readonly endMs: number }[]): number {
  let length = 0
  let freeAtMs = -Infinity
  for (const { startMs, endMs } of [...requests].sort((a, b) => a.endMs - b.endMs)) {
    if (startMs < freeAtMs) continue
    length++
    freeAtMs = endMs
  }
  return length
}

/** Until the peer's first answer, with nothing in its caches. */
async function coldPeer(url: string, store: StoreOptions, partitions: number): Promise<number> {
  const start = performance.now()
  const peer = await openPeer(url, K, store)
  await peer(partitions)(measured[0]!)
  return Math.round(performance.now() - start)
}

async function run(dir: string) {
  const url = join(dir, `snapshot-${layout}`)
  const request = {
    input: WORDS_FILE,
    sql,
    backend: "sqlite-vec",
    shards: SHARDS,
    layout,
    ...(layout === "affinity" && { budget: BUDGET }),
  } as const
  if (!existsSync(url)) await build({ ...request, to: url, store: {} })
  const reader = await openSnapshot(url, { cacheDir: join(dir, "cache") })
  const { peer, partitions } = await bestPeer(dir)
  const warm = await warmSearches(reader, peer, options.targets.split(",").map(Number))
  console.log(`\nWarm, local: ${layout} layout of ${SHARDS} shards; peer with ${partitions} partitions\n`)
  console.log(warmTable(warm))

  const at95 = warm.find(({ target }) => target === 0.95)!
  const route = { probes: Math.ceil(at95.ours.probes) }
  const peerDir = join(dir, `peer-${partitions}`)
  const cold: Record<string, Awaited<ReturnType<typeof coldQuery>> & { readonly peerMs: number }> = {
    local: {
      ...(await coldQuery(url, {}, route)),
      peerMs: await coldPeer(peerDir, {}, at95.peer.partitions),
    },
  }
  let warmMinio: readonly Raced[] = []
  if (!options["skip-minio"]) {
    await withMinio(async (root, store) => {
      const [to, peerUrl] = [`${root}/snapshot`, `${root}/peer`]
      await build({ ...request, to, store })
      await buildPeer(words, kept, peerUrl, partitions, store)
      cold.minio = {
        ...(await coldQuery(to, store, route)),
        peerMs: await coldPeer(peerUrl, store, at95.peer.partitions),
      }
      const remote = await openSnapshot(to, { store, cacheDir: join(dir, "cache-minio") })
      warmMinio = await warmSearches(remote, await openPeer(peerUrl, K, store), [0.95])
      await remote.close()
    })
    console.log("\nWarm, MinIO\n")
    console.log(warmTable(warmMinio))
  }
  await reader.close()
  console.log("\nCold: from opening to the first answer\n")
  console.log(coldTable(cold))
  const results = { rows: kept.length, shards: SHARDS, layout, partitions, warm, warmMinio, cold }
  console.log(`\n${JSON.stringify(results)}`)
  appendHistory("search", results)
}

function warmTable(raced: readonly Raced[]): string {
  const titles = [
    "",
    "recall@10",
    "searched",
    "in flight",
    "queries/s",
    "p50 ms",
    "p95 ms",
    "p99 ms",
    "processor ms",
    "times the queries/s",
    "times less processor",
  ]
  const line = (
    name: string,
    reached: number,
    searched: string,
    load: Load,
    [times, timesLessCpu]: readonly (number | string)[],
  ) => [
    name,
    round(reached, 3),
    searched,
    load.inFlight,
    load.queriesPerSecond,
    load.p50Ms,
    load.p95Ms,
    load.p99Ms,
    load.cpuMs,
    times!,
    timesLessCpu!,
  ]
  return table(
    titles,
    raced.flatMap(({ ours, peer, times, timesLessCpu }) => [
      line("vecsnap", ours.recall, `${ours.probes} shards`, ours, [times, timesLessCpu]),
      line("LanceDB", peer.recall, `${peer.partitions} partitions`, peer, ["", ""]),
    ]),
  )
}

function coldTable(
  cold: Readonly<Record<string, Awaited<ReturnType<typeof coldQuery>> & { readonly peerMs: number }>>,
): string {
  const titles = [
    "",
    "probes",
    "requests",
    "lists",
    "round trips",
    "MiB",
    "open, ms",
    "first answer, ms",
    "LanceDB, ms",
  ]
  return table(
    titles,
    Object.entries(cold).map(([name, figures]) => [name, ...Object.values(figures)]),
  )
}

// LanceDB's native threads would keep the process alive.
if (options.dir === undefined) await withDirectory(run)
else await run(options.dir)
process.exit(0)
