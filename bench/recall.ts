/**
 * Recall against probes of all layouts and strategies, and of every step on the way to them, by the library
 * and without a snapshot. Where the data is the full word set, the figures of the reference trial stand next
 * to ours.
 *
 * ```
 * npm run words:full && npm run bench:recall
 * node dist/bench/recall.js [words | clustered | smooth | vectors.npy | x.parquet] [--shards K] [--rows N]
 *   [--budgets 1.1,1.2] [--seed 1] [--noise .8]
 * ```
 *
 * `clustered` and `smooth` are made by generate.ts, 100,000 × 96 unless `--rows` says otherwise. Cosine only.
 * 2,000 test rows are held out of everything; queries unlike the rows are means of two rows with noise.
 * `rows`, `unlike`: recall reached / mean probes, "two" with thresholds by the mean, "bound" by the lower
 * bound as builds have them, "fixed" the number of probes that would do if it were known.
 */
import { readFileSync } from "node:fs"
import { basename } from "node:path"
import { parseArgs } from "node:util"
import { balancedLayout } from "../src/sharding/cluster/layout/balanced.js"
import { trainClusters } from "../src/sharding/cluster/layout/clusters.js"
import { DEMAND_RANKS, grantCopies, proposeCopies } from "../src/sharding/cluster/layout/copies.js"
import { DEMAND_DESCRIPTORS, describe, describeShards } from "../src/sharding/cluster/layout/describe.js"
import {
  CLUSTERINGS,
  createNeighbourLists,
  insideShare,
  type NeighbourGraph,
  planGraph,
  reverseLists,
  searchCells,
} from "../src/sharding/cluster/layout/graph.js"
import { homesByVotes } from "../src/sharding/cluster/layout/insert.js"
import {
  type Copies,
  gainsByRank,
  type Membership,
  recallAt,
  type Truth,
  tuneBeta,
} from "../src/sharding/cluster/layout/judge.js"
import { propagateLabels } from "../src/sharding/cluster/layout/labels.js"
import { packedLayout } from "../src/sharding/cluster/layout/packing.js"
import {
  createTrials,
  largestThreshold,
  learnGains,
  measureStopping,
  quantile,
  type Trials,
} from "../src/sharding/cluster/layout/thresholds.js"
import {
  createScoring,
  type Descriptors,
  inFourBits,
  type Routings,
  routeAll,
} from "../src/sharding/cluster/routing/descriptors.js"
import { probesAbove, probesFor } from "../src/sharding/cluster/routing/stopping.js"
import { closestPoints, exactNeighbours } from "../src/sharding/cluster/space/compare.js"
import { hash32, hashOrder, SPLIT_SALT, saltOf, splitRows } from "../src/sharding/cluster/space/hash.js"
import { createPoints, prepareRows, type SpaceRows } from "../src/sharding/cluster/space/space.js"
import { createLsh, drawHyperplanes, type ResolvedLsh } from "../src/sharding/lsh.js"
import { resolveSharding } from "../src/sharding/registry.js"
import type { Strategy } from "../src/sharding/strategy.js"
import { kernelInUse } from "../src/vectors/kernel.js"
import { decodeNpy } from "../src/vectors/npy.js"
import { GENERATED, generate } from "./generate.js"
import { appendHistory } from "./history.js"
import { loadWords, WORDS_FILE } from "./words.js"

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    shards: { type: "string", default: "64" },
    rows: { type: "string" },
    budgets: { type: "string", default: "1.1,1.2" },
    seed: { type: "string", default: "1" },
    noise: { type: "string", default: ".8" },
  },
})
const shards = Number(options.shards)
const seed = Number(options.seed)
const noise = Number(options.noise)
const PROBES = [1, 2, 4, 8, 16].filter((probes) => probes <= shards)
const STOP_TARGETS = [0.9, 0.95, 0.98]
const FULL_WORDS = 341_479

/** Figures of the reference trial for 64 shards of the full word set, line by line. */
const REFERENCE: Readonly<Record<string, string>> = {
  "split and exact truth": "truth sum 4018861762",
  "plain k-means, by centroid": "p .527 .720 .864 .947 .984  unlike .343 .520 .714 .865 .954  largest 3.03",
  "graph recall on 1,000 rows": "recall .838 .829",
  "A: balanced k-means": "inside .491  largest 1.10  smallest .44",
  "B: cells packed": "inside at start .508  inside .543  changes 1158  largest 1.10  smallest .85",
  "B: labels propagated": "inside .668  sweeps 10  moved 112605  largest 1.12  smallest .70",
  "A: descriptors and beta": "beta 32  judged .751 (f32 .752)",
  "A x1.0, 4-bit descriptors": "p .522 .698 .836 .926 .978  unlike .344 .503 .671 .820 .930",
  "B: descriptors and beta": "beta 40  judged .802 (f32 .805)",
  "B x1.0, 4-bit descriptors": "p .605 .752 .872 .947 .985  unlike .357 .513 .683 .832 .937",
  "all rows routed": "home is first .867 (128 descriptors)",
  "sample and queries routed": "below 5 percent: rows .058 unlike .339  edge .510",
  "x1.1 copies": "proposals 805579  granted 33747  one copy .919",
  "x1.1, 4-bit descriptors": "p .677 .812 .906 .960 .987  unlike .411 .567 .729 .856 .945  largest 1.20",
  "x1.2 copies": "proposals 805579  granted 67495  one copy .843",
  "x1.2, 4-bit descriptors": "p .704 .832 .917 .965 .989  unlike .431 .590 .749 .868 .950  largest 1.20",
  "x1 stop at 0.9": "rows .894/3.93  unlike .859/8.83",
  "x1 stop at 0.95": "rows .947/6.42  unlike .927/14.2",
  "x1 stop at 0.98": "rows .978/10.3  unlike .977/23.6",
  "x1.1 stop at 0.9": "rows .892/3.12  unlike .850/7.54",
  "x1.1 stop at 0.95": "rows .946/5.33  unlike .928/13.0",
  "x1.1 stop at 0.98": "rows .977/8.89  unlike .970/20.9",
  "x1.2 stop at 0.9": "rows .890/2.79  unlike .849/6.95",
  "x1.2 stop at 0.95": "rows .944/4.59  unlike .921/11.4",
  "x1.2 stop at 0.98": "rows .977/7.93  unlike .970/19.7",
}

type Figures = Readonly<Record<string, number | string | readonly number[]>>
const steps: object[] = []
// Processor time: other processes do not count.
const processorSeconds = (): number => {
  const { user, system } = process.cpuUsage()
  return (user + system) / 1e6
}
let since = processorSeconds()
let total = 0

function step(name: string, figures: Figures = {}): void {
  const seconds = processorSeconds() - since
  total += seconds
  steps.push({ step: name, seconds: Number(seconds.toFixed(1)), ...figures })
  const text = Object.entries(figures).map(([key, value]) => `${key} ${show(value)}`)
  console.log(`${name.padEnd(32)} ${seconds.toFixed(1).padStart(6)} s  ${text.join("  ")}`)
  const reference = all.rows === FULL_WORDS && shards === 64 ? REFERENCE[name] : undefined
  if (reference !== undefined) console.log(`${"reference".padStart(32)}           ${reference}`)
  since = processorSeconds()
}

function show(value: number | string | readonly number[]): string {
  if (typeof value === "string") return value
  if (typeof value !== "number") return value.map((each) => each.toFixed(3)).join(" ")
  return Number.isInteger(value) ? String(value) : value.toFixed(3)
}

const GENERATED_ROWS = 100_000
const GENERATED_DIM = 96

async function load(): Promise<{ vectors: Float32Array; dim: number }> {
  const kind = GENERATED.find((name) => name === positionals[0])
  if (kind !== undefined) {
    const count = Number(options.rows ?? GENERATED_ROWS)
    return { vectors: generate(kind, count, GENERATED_DIM, seed), dim: GENERATED_DIM }
  }
  const file = positionals[0] === undefined || positionals[0] === "words" ? WORDS_FILE : positionals[0]
  if (!file.endsWith(".npy")) return loadWords(file)
  const { data, shape } = decodeNpy(readFileSync(file), basename(file))
  return { vectors: data instanceof Float32Array ? data : Float32Array.from(data), dim: shape[1]! }
}

function take({ vectors, dim, metric }: SpaceRows, members: ArrayLike<number>): SpaceRows {
  const out = new Float32Array(members.length * dim)
  for (let i = 0; i < members.length; i++) {
    out.set(vectors.subarray(members[i]! * dim, (members[i]! + 1) * dim), i * dim)
  }
  return { metric, dim, rows: members.length, vectors: out }
}

const unit = (vector: readonly number[]): number[] => {
  const length = Math.sqrt(vector.reduce((sum, value) => sum + value * value, 0))
  return vector.map((value) => value / Math.max(length, 1e-12))
}

/** As the trial makes them: the mean of two rows, with noise. */
function unlikeQueries({ vectors, dim, rows, metric }: SpaceRows, count: number): SpaceRows {
  const out = new Float32Array(count * dim)
  for (let j = 0; j < count; j++) {
    const a = (hash32(j, 2) % rows) * dim
    const b = (hash32(j, 3) % rows) * dim
    const mixed = unit(Array.from({ length: dim }, (_, i) => vectors[a + i]! + vectors[b + i]!))
    const noisy = mixed.map(
      (value, i) => value + noise * (2 * (hash32(j * dim + i, 4) / 2 ** 32) - 1) * Math.sqrt(3 / dim),
    )
    out.set(unit(noisy), j * dim)
  }
  return { metric, dim, rows: count, vectors: out }
}

const sizes = (membership: Membership, rows: number) => {
  const held = new Float64Array(shards)
  for (let row = 0; row < rows; row++) held[membership.home[row]!]!++
  for (const shard of membership.copies?.shard ?? []) held[shard]!++
  const mean = held.reduce((sum, count) => sum + count, 0) / shards
  return { largest: Math.max(...held) / mean, smallest: Math.min(...held) / mean }
}

/** Rows, then validation rows, which have no copies. */
function withValidation(home: ArrayLike<number>, homes: ArrayLike<number>, copies?: Copies): Membership {
  const rows = home.length + homes.length
  const all = new Int32Array(rows)
  all.set(home)
  all.set(homes, home.length)
  if (copies === undefined) return { shards, home: all, copies }
  const start = new Int32Array(rows + 1).fill(copies.shard.length)
  start.set(copies.start)
  return { shards, home: all, copies: { start, shard: copies.shard } }
}

function tableLine(name: string, routings: readonly Routings[], membership: Membership, rows: number): void {
  const [p, unlike] = [testTruth, unlikeTruth].map((truth, i) =>
    recallAt(gainsByRank(routings[i]!, truth, membership), shards, PROBES),
  )
  step(name, { p: p!, "unlike p": unlike!, ...sizes(membership, rows) })
}

/** All shards as a strategy ranks them; those that it does not reach come last. */
function routeByStrategy(strategy: Strategy, queries: SpaceRows, shown = shards): Routings {
  const ranked = new Uint16Array(queries.rows * shown)
  for (let query = 0; query < queries.rows; query++) {
    const vector = queries.vectors.slice(query * queries.dim, (query + 1) * queries.dim)
    const best = strategy.rank({ vector, probes: shown === shards ? "all" : shown }, () => true).shards
    const order = [...new Set([...best.map(({ shard }) => shard), ...everyShard])]
    ranked.set(order.slice(0, shown), query * shown)
  }
  const scores = new Float32Array(0)
  return { queries: queries.rows, shards, shown, ranked, scores, familiarity: new Float32Array(queries.rows) }
}
const everyShard = Array.from({ length: shards }, (_, shard) => shard)

// --- split -----------------------------------------------------------------------------------------------
const loaded = await load()
let all = prepareRows(
  { metric: "cosine", dim: loaded.dim, origin: new Float32Array(loaded.dim), scale: 1 },
  loaded.vectors,
)
if (options.rows !== undefined) {
  all = take(all, hashOrder(all.rows, 5).subarray(0, Number(options.rows)).sort())
}
console.log(`${all.rows} × ${all.dim}, ${shards} shards, seed ${seed}, kernel ${kernelInUse()}`)
since = processorSeconds()
const heldOut = Math.min(2000, Math.floor(all.rows / 20))
const { built, validation: heldBack } = splitRows(all.rows, heldOut, heldOut)
const rows = take(all, built)
const validation = take(all, heldBack)
const test = take(all, hashOrder(all.rows, SPLIT_SALT).subarray(0, heldOut).sort())
const unlike = unlikeQueries(all, heldOut)
const everything = take(all, [...built, ...heldBack])
const validationTruth: Truth = exactNeighbours(validation, rows, 10)
const testTruth: Truth = exactNeighbours(test, everything, 10)
const unlikeTruth: Truth = exactNeighbours(unlike, everything, 10)
step("split and exact truth", {
  rows: rows.rows,
  "truth sum": validationTruth.ids.reduce((sum, id) => sum + id, 0),
})

// --- baseline, graph -------------------------------------------------------------------------------------
const byCentroid = (points: Float32Array, queries: SpaceRows) => {
  const start = Int32Array.from({ length: shards + 1 }, (_, i) => i)
  const counts = new Int32Array(shards).fill(1)
  const centroids: Descriptors = { metric: "cosine", dim: all.dim, shards, start, vectors: points, counts }
  return routeAll(createScoring(centroids, 1), queries)
}
const centroids = trainClusters(rows, { clusters: shards, iterations: 12, salt: saltOf("shards", seed) })
const points = createPoints(centroids, all.dim, "cosine")
const plain = withValidation(closestPoints(rows, points).point, closestPoints(validation, points).point)
tableLine(
  "plain k-means, by centroid",
  [byCentroid(centroids, test), byCentroid(centroids, unlike)],
  plain,
  everything.rows,
)

{
  const strategy = createLsh(
    resolveSharding({ strategy: "lsh", shards, seed }) as ResolvedLsh,
    { dim: all.dim, metric: "cosine", fields: [] },
    drawHyperplanes(Math.max(8, Math.ceil(Math.log2(shards)) + 2), all.dim, seed),
  )
  const routings = [test, unlike].map((queries) => routeByStrategy(strategy, queries))
  const homeOf = (of: SpaceRows) => routeByStrategy(strategy, of, 1).ranked
  tableLine("lsh", routings, withValidation(homeOf(rows), homeOf(validation)), everything.rows)
}

const lists = createNeighbourLists(rows.rows)
for (let clustering = 0; clustering < CLUSTERINGS; clustering++) {
  const plan = planGraph(rows, clustering, seed)
  const largest = Math.max(
    ...Array.from({ length: plan.cells }, (_, c) => plan.start[c + 1]! - plan.start[c]!),
  )
  step(`graph: clustering ${clustering}`, { cells: plan.cells, largest })
  searchCells(rows, plan, 0, plan.cells, lists)
  step(`graph: search ${clustering}`)
}
const graph: NeighbourGraph = { rows: rows.rows, k: lists.k, ids: lists.ids }
const reverse = reverseLists(rows.rows, [graph])
{
  const sample = hashOrder(rows.rows, SPLIT_SALT).subarray(0, 1000)
  const exact = exactNeighbours(take(rows, sample), rows, graph.k + 1)
  const share = (k: number) => {
    let found = 0
    sample.forEach((row, i) => {
      const own = new Set(graph.ids.subarray(row * graph.k, row * graph.k + k))
      const right = Array.from(exact.ids.subarray(i * exact.k, (i + 1) * exact.k)).filter((id) => id !== row)
      for (const id of right.slice(0, k)) if (own.has(id)) found++
    })
    return found / (k * sample.length)
  }
  step("graph recall on 1,000 rows", { recall: [share(10), share(16)] })
}

// --- layouts ---------------------------------------------------------------------------------------------
const single = (home: ArrayLike<number>): Membership => ({ shards, home, copies: undefined })
const a = balancedLayout(rows, shards, centroids, seed)
step("A: balanced k-means", { inside: insideShare(graph, a), ...sizes(single(a), rows.rows) })
const packed = packedLayout(rows, graph, shards, seed)
step("B: cells packed", {
  "inside at start": insideShare(graph, packed.start),
  inside: insideShare(graph, packed.shardOf),
  changes: packed.changes,
  ...sizes(single(packed.shardOf), rows.rows),
})
const b = packed.shardOf.slice()
const { sweeps, moved } = propagateLabels(graph, reverse, b, shards, seed)
step("B: labels propagated", { inside: insideShare(graph, b), sweeps, moved, ...sizes(single(b), rows.rows) })

const candidates = [
  { name: "A", home: a },
  { name: "B", home: b },
].map(({ name, home }) => {
  const exact = describe(rows, home, shards, seed)
  const descriptors = inFourBits(exact)
  const { beta, judged } = tuneBeta(descriptors, validation, validationTruth, home)
  const f32 = tuneBeta(exact, validation, validationTruth, home).judged
  step(`${name}: descriptors and beta`, {
    beta,
    descriptors: descriptors.counts.length,
    judged,
    "judged f32": f32,
  })
  const homes = homesByVotes(validation, descriptors, beta, validationTruth, home)
  const scoring = createScoring(descriptors, beta)
  const routings = [test, unlike].map((queries) => routeAll(scoring, queries))
  tableLine(`${name} x1.0, 4-bit descriptors`, routings, withValidation(home, homes), everything.rows)
  return { name, home, beta, judged, homes, scoring, routings }
})
const chosen = candidates.reduce((best, next) => (next.judged > best.judged ? next : best))
step(`chosen: ${chosen.name}`)
const { home, homes, scoring, routings } = chosen

// --- copies, stopping ------------------------------------------------------------------------------------
const few = describeShards(rows, home, shards, DEMAND_DESCRIPTORS, saltOf("demand", seed))
const fewBeta = tuneBeta(few, validation, validationTruth, home).beta
const ranks = Math.min(DEMAND_RANKS, shards)
const routes = routeAll(createScoring(few, fewBeta), rows, undefined, ranks, false)
let firsts = 0
for (let row = 0; row < rows.rows; row++) if (routes.ranked[row * ranks] === home[row]) firsts++
step("all rows routed", { "home is first": firsts / rows.rows, beta: fewBeta })
const sampled = hashOrder(rows.rows, saltOf("sample", seed)).subarray(0, 40_000)
const sampleRoutings = routeAll(scoring, rows, sampled)
const sampleTruth: Truth = {
  k: 10,
  ids: Int32Array.from({ length: sampled.length * 10 }, (_, i) => {
    return graph.ids[sampled[Math.floor(i / 10)]! * graph.k + (i % 10)]!
  }),
}
const validationRoutings = routeAll(scoring, validation)
const edge = quantile(validationRoutings.familiarity, 0.05)
step("sample and queries routed", {
  "below 5 percent": routings.map(({ familiarity }) => familiarity.filter((x) => x < edge).length / heldOut),
  edge,
})

function fixedProbes(gains: Float32Array, target: number): number {
  const recall = recallAt(
    gains,
    shards,
    Array.from({ length: shards + 1 }, (_, probes) => probes),
  )
  const p = recall.findIndex((value) => value >= target)
  if (p < 0) return shards
  return p - 1 + (target - recall[p - 1]!) / Math.max(recall[p]! - recall[p - 1]!, 1e-9)
}

function stoppingLines(name: string, copies: Copies | undefined): void {
  const inside: Membership = { shards, home, copies }
  const outside = withValidation(home, homes, copies)
  const table = learnGains(sampleRoutings, gainsByRank(sampleRoutings, sampleTruth, inside))
  const trials = createTrials(
    table,
    validationRoutings,
    gainsByRank(validationRoutings, validationTruth, inside),
  )
  const rule = measureStopping(table, trials, validationRoutings.familiarity)
  const below = Int32Array.from({ length: trials.queries }, (_, i) => i)
  const isLow = (i: number) => trials.familiarity[i]! < rule.unfamiliarBelow
  const sides = [below.filter(isLow), below.filter((i) => !isLow(i))]
  const kinds = [testTruth, unlikeTruth].map((truth, i) =>
    createTrials(table, routings[i]!, gainsByRank(routings[i]!, truth, outside)),
  )
  for (const target of STOP_TARGETS) {
    // As the trial: the mean reaches the target, without a margin.
    const [low, high] = sides.map((side) => largestThreshold(trials, target, side, 0))
    const figures = kinds.flatMap((kind, i) => {
      const label = ["rows", "unlike"][i]!
      const byMean = reachedBy(kind, (query) =>
        probesAbove(
          kind.expected,
          query * shards,
          shards,
          kind.familiarity[query]! < rule.unfamiliarBelow ? low! : high!,
        ),
      )
      const byRule = reachedBy(kind, (query) => {
        const from = query * shards
        const ranked = routings[i]!.ranked.subarray(from, from + shards)
        const scores = routings[i]!.scores.subarray(from, from + shards)
        return probesFor(rule, { shards: ranked, scores, familiarity: kind.familiarity[query]! }, target)
          .probes
      })
      const text = ({ recall, probes }: { recall: number; probes: number }) =>
        `${recall.toFixed(3)}/${probes.toFixed(2)}`
      return [
        [
          label,
          `two ${text(byMean)} bound ${text(byRule)} fixed ${fixedProbes(kind.gained, target).toFixed(2)}`,
        ],
      ]
    })
    step(`${name} stop at ${target}`, Object.fromEntries(figures))
  }
}

function reachedBy(trials: Trials, probesOf: (query: number) => number) {
  let recall = 0
  let probes = 0
  for (let query = 0; query < trials.queries; query++) {
    const probed = probesOf(query)
    probes += probed
    for (let rank = 0; rank < probed; rank++) recall += trials.gained[query * shards + rank]!
  }
  return { recall: recall / trials.queries, probes: probes / trials.queries }
}

stoppingLines("x1", undefined)
const proposals = proposeCopies(home, shards, reverse, routes.ranked, ranks)
for (const budget of options.budgets.split(",").map(Number)) {
  const copies = grantCopies(home, shards, proposals, budget)
  let alone = 0
  for (let row = 0; row < rows.rows; row++) if (copies.start[row] === copies.start[row + 1]) alone++
  step(`x${budget} copies`, {
    proposals: proposals.row.length,
    granted: copies.shard.length,
    "one copy": alone / rows.rows,
  })
  tableLine(`x${budget}, 4-bit descriptors`, routings, withValidation(home, homes, copies), everything.rows)
  stoppingLines(`x${budget}`, copies)
}
console.log(`total ${total.toFixed(1)} s, peak ${(process.resourceUsage().maxRSS / 1024).toFixed(0)} MiB`)
const results = { data: positionals[0] ?? "words", rows: all.rows, dim: all.dim, shards, seed, total, steps }
console.log(`\n${JSON.stringify(results)}`)
appendHistory("recall", results)
