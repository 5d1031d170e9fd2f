/**
 * Searches at equal recall: a snapshot of the words (341,479 × 100) and one of the sentences (40,713 ×
 * 384), against one LanceDB table of the same rows and, where Python is there, hnswlib and faiss HNSW:
 *
 * ```
 * npm run words:full && npm run servers:install && npm run bench:search
 * node dist/bench/search.js --sets sentences --targets .95 --rounds 1 --dir kept --skip-minio
 * ```
 *
 * Queries of the words are 2,000 of them, held out of all; those of the sentences are 1,000 real ones. With
 * one half all sides are tuned to recall@10 .90, .95 and .98: ours by `targetRecall`, LanceDB by partitions
 * or candidates, the graphs by candidates. With the other half they are measured, in turns, of which the
 * median counts: ours and LanceDB at 1, 4 and 16 in flight; the graphs by batches of all queries on as many
 * threads as there are cores, beside our 16. LanceDB's index is the one with the most queries per second at
 * that recall: IVF_FLAT, IVF_PQ with exact distances for some, or HNSW_SQ; of several of a kind the one
 * that is best at .95. A cold query has nothing open and nothing on disk.
 *
 * `--sets`: words, sentences, or both. `--layout` of the snapshots (default: affinity, with 1.2 times the
 * rows). `--dir`: keep snapshots, tables, graphs and caches there and use them if they are there already.
 * `--targets` (.95 must be among them) and `--rounds`: fewer for a shorter run. `--skip-minio`: the local
 * directory alone. `--skip-native`: without hnswlib and faiss.
 */
import { existsSync } from "node:fs"
import { join } from "node:path"
import { parseArgs } from "node:util"
import { type LayoutName, openSnapshot, type Reader } from "../src/index.js"
import { POINTER_KEY } from "../src/manifest/keys.js"
import { appendHistory } from "./history.js"
import { type NativePeers, nativePython, startNative } from "./native.js"
import { buildPeer, findAll, leastEffort, openPeer, type Search } from "./peer.js"
import { coldPeer, coldQuery } from "./search-cold.js"
import {
  bestOfKinds,
  effortText,
  K,
  MOST_CANDIDATES,
  MOST_IN_FLIGHT,
  type OpenPeer,
  openPeers,
  peerFolder,
  say,
  type TunedPeer,
  tunedPeers,
} from "./search-peers.js"
import { SEARCH_SETS, type SearchSet } from "./search-sets.js"
import {
  build,
  type Load,
  median,
  recall,
  round,
  table,
  underLoad,
  withDirectory,
  withMinio,
} from "./support.js"

const { values: options } = parseArgs({
  options: {
    sets: { type: "string", default: "words,sentences" },
    layout: { type: "string", default: "affinity" },
    dir: { type: "string" },
    rounds: { type: "string", default: "3" },
    targets: { type: "string", default: ".9,.95,.98" },
    "skip-minio": { type: "boolean", default: false },
    "skip-native": { type: "boolean", default: false },
  },
})
const layout = options.layout as LayoutName
const rounds = Number(options.rounds)
const targets = options.targets.split(",").map(Number)

const BUDGET = 1.2
const IN_FLIGHT = [1, 4, 16]
/**
 * Steps in which our target is raised if it falls short of the recall on the queries that all sides are tuned
 * with.
 */
const TARGET_STEP = 0.0025
type Route = { readonly probes: number | "all" } | { readonly targetRecall: number }

const searchesOf =
  (reader: Reader, route: Route): Search =>
  async (query) =>
    (await reader.search(query, { k: K, ...route })).hits.map(({ id }) => String(id))

/**
 * The smallest route that reaches a recall: a target where the routing has been measured, else a number of
 * probes. All shards if nothing less does.
 */
async function tune(reader: Reader, set: SearchSet, wanted: number): Promise<Route> {
  for (let step = 0; ; step++) {
    const target = round(wanted - 4 * TARGET_STEP + step * TARGET_STEP, 4)
    const isLast = layout === "plain" ? step + 1 >= set.shards : target >= 1
    if (isLast) return { probes: "all" }
    const route = layout === "plain" ? { probes: step + 1 } : { targetRecall: target }
    const reached = recall(await findAll(searchesOf(reader, route), set.tuning), set.tuningTruth)
    if (reached >= wanted) return route
  }
}

async function meanProbes(reader: Reader, set: SearchSet, route: Route): Promise<number> {
  let probes = 0
  for (const query of set.measured)
    probes += (await reader.search(query, { k: K, ...route })).shards.asked.length
  return probes / set.measured.length
}

/** Figures of a side; those of one that answers batches have no latencies. */
type Figures = Pick<Load, "queriesPerSecond" | "cpuMs"> & Partial<Load>

interface Side {
  readonly name: string
  /** What it was tuned to, for people. */
  readonly setting: string
  /** Of the queries that are measured. */
  readonly recall: number
  measure(): Promise<Figures>
}

/** All sides in turn; the median of each figure. */
async function race(sides: readonly Side[]): Promise<readonly Figures[]> {
  const loads = sides.map((): Figures[] => [])
  for (let turn = 0; turn < rounds; turn++) {
    for (const [i, side] of sides.entries()) loads[i]!.push(await side.measure())
  }
  return loads.map((all) => {
    const names = Object.keys(all[0]!) as (keyof Load)[]
    const middles = names.map((name) => [name, median(all.map((load) => load[name]!))])
    return Object.fromEntries(middles) as unknown as Figures
  })
}

interface Measured extends Figures {
  readonly name: string
  readonly setting: string
  readonly recall: number
}

interface Raced {
  readonly target: number
  readonly inFlight: number
  readonly ours: Measured
  readonly peers: readonly (Measured & {
    /** Our queries per second over the peer's. */
    readonly times: number
    /** The peer's processor time per query over ours. */
    readonly timesLessCpu: number
  })[]
}

interface Contest {
  readonly set: SearchSet
  readonly reader: Reader
  readonly peers: readonly OpenPeer[]
  readonly native: NativePeers | undefined
}

async function warmSearches({ set, reader, peers, native }: Contest, wanted: readonly number[]) {
  const raced: Raced[] = []
  const probes: number[] = []
  const lanceDb: (readonly TunedPeer[])[] = []
  for (const target of wanted) {
    const route = await tune(reader, set, target)
    say(set, `vecsnap finds ${target} with ${JSON.stringify(route)}`)
    const ranked = await tunedPeers(set, peers, target)
    lanceDb.push(ranked)
    // IVF_FLAT is one of them: with all partitions it finds all.
    const best = ranked[0]!
    const recallOf = async (search: Search): Promise<number> =>
      round(recall(await findAll(search, set.measured), set.measuredTruth), 4)
    const mine = searchesOf(reader, route)
    probes.push(await meanProbes(reader, set, route))
    const ours = {
      name: "vecsnap",
      setting: `${round(probes.at(-1)!)} shards`,
      recall: await recallOf(mine),
    }
    const theirs = {
      name: best.name,
      setting: effortText(best),
      recall: await recallOf(best.search),
    }
    const graphs = native === undefined ? [] : await tuneNative(native, set, target)
    for (const inFlight of IN_FLIGHT) {
      const asking = (search: Search) => () => underLoad(set.measured, inFlight, search)
      const sides: readonly Side[] = [
        { ...ours, measure: asking(mine) },
        { ...theirs, measure: asking(best.search) },
        ...(inFlight === MOST_IN_FLIGHT ? graphs : []),
      ]
      const [own, ...others] = await race(sides)
      raced.push({
        target,
        inFlight,
        ours: { ...ours, ...own! },
        peers: others.map((figures, i) => {
          const { name, setting, recall } = sides[i + 1]!
          return {
            ...{ name, setting, recall, ...figures },
            times: round(own!.queriesPerSecond / figures.queriesPerSecond),
            timesLessCpu: round(figures.cpuMs / own!.cpuMs),
          }
        }),
      })
    }
  }
  return { raced, probes, lanceDb }
}

/** The graphs that reach the recall. */
async function tuneNative(native: NativePeers, set: SearchSet, target: number): Promise<readonly Side[]> {
  const sides: Side[] = []
  for (const peer of native.peers) {
    const reachedWith = async (effort: number): Promise<number> =>
      recall(await peer.find("tuning", effort), set.tuningTruth)
    const tuned = await leastEffort(reachedWith, target, MOST_CANDIDATES)
    if (tuned === undefined) continue
    const { effort } = tuned
    sides.push({
      name: peer.name,
      setting: `${Math.max(effort, K)} candidates, batches`,
      recall: round(recall(await peer.find("measured", effort), set.measuredTruth), 4),
      async measure() {
        const { queriesPerSecond, cpuMs } = await peer.measure(effort)
        return { queriesPerSecond: Math.round(queriesPerSecond), cpuMs: round(cpuMs, 3) }
      },
    })
  }
  return sides
}

type Cold = Awaited<ReturnType<typeof coldQuery>> & { readonly peerMs: number }

async function measureSet(set: SearchSet, dir: string, python: string | undefined) {
  const url = join(dir, `snapshot-${layout}`)
  const request = {
    ...set.input,
    backend: "sqlite-vec",
    shards: set.shards,
    layout,
    ...(layout === "affinity" && { budget: BUDGET }),
  } as const
  say(set, "building what is not there")
  if (!existsSync(join(url, POINTER_KEY))) await build({ ...request, to: url, store: {} })
  const reader = await openSnapshot(url, { cacheDir: join(dir, "cache") })
  const peers = await bestOfKinds(set, await openPeers(set, dir))
  const native = python === undefined ? undefined : await startNative(python, join(dir, "native"), set, K)
  const warm = await warmSearches({ set, reader, peers, native }, targets)
  native?.close()

  const place = targets.indexOf(0.95)
  const best = warm.lanceDb[place]![0]!
  const query = set.measured[0]!
  const coldRequest = { query, k: K, probes: Math.ceil(warm.probes[place]!) }
  const peerSearch = { kind: best.index.kind, k: K, refine: best.refine }
  const folder = peerFolder(best.index)
  const cold: Record<string, Cold> = {
    local: {
      ...(await coldQuery(url, {}, coldRequest)),
      peerMs: await coldPeer(join(dir, folder), {}, peerSearch, best.effort, query),
    },
  }
  let warmMinio: readonly Raced[] = []
  if (!options["skip-minio"]) {
    await withMinio(async (root, store) => {
      const [to, peerUrl] = [`${root}/snapshot`, `${root}/${folder}`]
      await build({ ...request, to, store })
      await buildPeer(set, peerUrl, best.index, store)
      cold.minio = {
        ...(await coldQuery(to, store, coldRequest)),
        peerMs: await coldPeer(peerUrl, store, peerSearch, best.effort, query),
      }
      const remote = await openSnapshot(to, { store, cacheDir: join(dir, "cache-minio") })
      const peer = await openPeer(peerUrl, peerSearch, store)
      const contest = { set, reader: remote, peers: [{ ...best, peer }], native: undefined }
      warmMinio = (await warmSearches(contest, [0.95])).raced
      await remote.close()
    })
  }
  await reader.close()
  const { ids, name, shards } = set
  const lanceDb = warm.lanceDb.map((ranked, i) => ({
    target: targets[i],
    ranked: ranked.map(({ name, speed, ...one }) => ({ name, setting: effortText(one), speed })),
  }))
  return { set: name, rows: ids.length, shards, layout, lanceDb, warm: warm.raced, warmMinio, cold }
}

type Results = Awaited<ReturnType<typeof measureSet>>

async function run(dir: string): Promise<void> {
  const found = options["skip-native"] ? { missing: "--skip-native" } : await nativePython()
  const results: Results[] = []
  for (const name of options.sets.split(",")) {
    const set = await SEARCH_SETS[name]!(K)
    results.push(await measureSet(set, join(dir, name), "python" in found ? found.python : undefined))
  }
  console.log("\nWarm, local\n")
  console.log(warmTable(results, ({ warm }) => warm))
  if ("missing" in found) console.log(`\nLeft out: hnswlib and faiss (${found.missing})`)
  if (!options["skip-minio"]) {
    console.log("\nWarm, MinIO\n")
    console.log(warmTable(results, ({ warmMinio }) => warmMinio))
  }
  console.log("\nCold: from opening to the first answer\n")
  console.log(coldTable(results))
  console.log(`\n${JSON.stringify(results)}`)
  appendHistory("search", { results, ...("missing" in found && { nativeLeftOut: found.missing }) })
}

function warmTable(results: readonly Results[], racedOf: (results: Results) => readonly Raced[]): string {
  const titles = [
    "rows",
    "",
    "recall@10",
    "searched",
    "in flight",
    "queries/s",
    "p50 ms",
    "p95 ms",
    "p99 ms",
    "processor ms",
    "vecsnap: times the queries/s",
    "times less processor",
  ]
  const line = (set: string, side: Measured, inFlight: number, ratios: readonly (number | string)[]) => [
    set,
    side.name,
    round(side.recall, 3),
    side.setting,
    inFlight,
    side.queriesPerSecond,
    side.p50Ms ?? "",
    side.p95Ms ?? "",
    side.p99Ms ?? "",
    side.cpuMs,
    ...ratios,
  ]
  return table(
    titles,
    results.flatMap((one) =>
      racedOf(one).flatMap(({ ours, peers, inFlight }) => [
        line(one.set, ours, inFlight, ["", ""]),
        ...peers.map((peer) => line(one.set, peer, inFlight, [peer.times, peer.timesLessCpu])),
      ]),
    ),
  )
}

function coldTable(results: readonly Results[]): string {
  const titles = [
    "rows",
    "root",
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
    results.flatMap(({ set, cold }) =>
      Object.entries(cold).map(([root, figures]) => [set, root, ...Object.values(figures)]),
    ),
  )
}

// LanceDB's native threads would keep the process alive.
if (options.dir === undefined) await withDirectory(run)
else await run(options.dir)
process.exit(0)
