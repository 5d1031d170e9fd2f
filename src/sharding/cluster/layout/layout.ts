/**
 * Where rows go: the layout of `cluster` snapshots, from rows to routing. All of it is deterministic for a
 * seed and holds the rows once: besides them it takes 64 bytes a row for neighbour lists (128 while they are
 * made), 64 for the same turned around, and some 60 more, see {@link affinityBytes}. A `fast` layout may be
 * made of a sample.
 */
import { invalidInput } from "../../../errors.js"
import {
  createScoring,
  type Descriptors,
  inFourBits,
  routeAll,
  type ScoringTable,
} from "../routing/descriptors.js"
import type { Routing } from "../routing/routing.js"
import { closestPoints, exactNeighbours } from "../space/compare.js"
import { hashOrder, saltOf } from "../space/hash.js"
import { groupMembers } from "../space/order.js"
import type { Preparation, SpaceRows } from "../space/space.js"
import type { Workers } from "../space/workers.js"
import { balancedCentroids, balancedLayout } from "./balanced.js"
import { sumByGroup, toCentroids, trainClusters } from "./clusters.js"
import { DEMAND_RANKS, grantCopies, proposeCopies } from "./copies.js"
import { DEMAND_DESCRIPTORS, describe, describeShards } from "./describe.js"
import { type NeighbourGraph, neighbourGraph, reverseLists } from "./graph.js"
import { homesByVotes } from "./insert.js"
import { type Copies, gainsByRank, type Membership, type Truth, tuneBeta } from "./judge.js"
import { propagateLabels } from "./labels.js"
import { packedLayout } from "./packing.js"
import { createPlacement, type PlacedRows, type Placement, placeRows } from "./prices.js"
import { createTrials, learnGains, measureStopping } from "./thresholds.js"

/** Ids of shards are 16 bits wide here. */
const MAX_LAYOUT_SHARDS = 65_536

export interface LayoutInput {
  readonly preparation: Preparation
  /** Rows that the layout is made of, in the space. */
  readonly rows: SpaceRows
  /**
   * Held-out rows, which choose and measure and are inserted at the end. May be none; then nothing is
   * measured.
   */
  readonly validation: SpaceRows
  /** Prepared real queries, if there are any. */
  readonly queries?: {
    /** Join the demand for copies, each with its best 100 rows. */
    readonly demand: SpaceRows
    /** Choose the thresholds, in place of the validation rows. */
    readonly thresholds: SpaceRows
  }
}

export interface LayoutOptions {
  readonly shards: number
  /**
   * `affinity` chooses between balanced and packed shards; `fast` takes balanced ones, without a graph, and
   * may be made of a sample of the rows. Its copies are those of rows near a border.
   */
  readonly layout: "affinity" | "fast"
  /** Rows stored over rows: 1 for no copies. Default 1.2, for `fast` 1, and at most 2 there. */
  readonly budget?: number | undefined
  /** Rows that these are a sample of, for `fast`; default: they are all. */
  readonly sampleOf?: number | undefined
  /** Default 1. */
  readonly seed?: number | undefined
  /** Shares the work; all rows must be in shared memory then. The result does not depend on it. */
  readonly workers?: Workers | undefined
  /** Called before each step. May throw to end the work. */
  readonly onStep?: ((step: LayoutStep) => void) | undefined
}

export type LayoutStep =
  | "truth"
  | "centroids"
  | "graph"
  | "balanced"
  | "packed"
  | "descriptors"
  | "demand"
  | "copies"
  | "stopping"

export interface Layout {
  readonly kind: "balanced" | "packed"
  /** The shard of each row, and of each validation row. */
  readonly home: Int32Array
  readonly validationHome: Int32Array
  /** Further shards of rows; validation rows have none. Absent with budget 1. */
  readonly copies: Copies | undefined
  /** Mean recall of validation rows at 1, 2, 4 and 8 probes before copies, for each layout that was made. */
  readonly judged: { readonly balanced: number; readonly packed: number | undefined }
  /** Of the rows of each shard, `shards × dim`, for readers that know no descriptors. */
  readonly centroids: Float32Array
  /** For `fast`: places rows that it was not made of. */
  readonly placement: Placement | undefined
  readonly routing: Routing
}

/** Neighbours that recall is measured on, and those of a query that its demand counts. */
const TRUE_NEIGHBOURS = 10
/**
 * Neighbours of each held-out row that the gain table of a `fast` layout is learned from. Gains, as β, need
 * to be right in order only, since thresholds are measured; and 2,000 rows with the few neighbours that a
 * sample has of their ten best say too little of far ranks.
 */
const LEARNED_NEIGHBOURS = 30
const DEMANDED_NEIGHBOURS = 100
/**
 * Rows that the gain table is learned from at most; fewer for many shards, since each takes 10 bytes a shard.
 */
const SAMPLE_ROWS = 40_000
const SAMPLE_SCORES = 2 ** 23
/**
 * Rows of the largest shard over the average, before copies and validation rows: no packed layout may have
 * more.
 */
const MOST_OF_AVERAGE = 1.12
const PLAIN_ROUNDS = 12
/** Plain k-means sees this many rows at most, or so many a shard where that is more. */
const PLAIN_SAMPLE_ROWS = 32_768
const PLAIN_SAMPLE_ROWS_PER_SHARD = 256

/**
 * Bytes that an `affinity` layout takes at the peak, rows included. Blocks and tables of a fixed size are 64
 * MiB.
 */
export const affinityBytes = (rows: number, dim: number): number => 2 ** 26 + rows * (4 * dim + 200)

/**
 * Throws `InvalidInput` unless `shards` is from 1 to 65,536, the budget from 1 to 16, and rows and validation
 * rows have the dimension of the preparation.
 */
export function createLayout(input: LayoutInput, options: LayoutOptions): Layout {
  const { rows, validation, preparation, queries } = input
  const affinity = options.layout === "affinity"
  const { shards, budget = affinity ? 1.2 : 1, seed = 1, workers, onStep = () => {} } = options
  checkInput(input, shards, budget)

  onStep("truth")
  const most = affinity ? TRUE_NEIGHBOURS : LEARNED_NEIGHBOURS
  const neighbours = exactNeighbours(validation, rows, Math.min(most, rows.rows), false, workers)
  const truth = firstOf(neighbours, TRUE_NEIGHBOURS)
  // So many of a sample are as near as the ten best of all.
  const ofSample = Math.round(TRUE_NEIGHBOURS * Math.min(1, rows.rows / (options.sampleOf ?? rows.rows)))
  const asNear = firstOf(neighbours, Math.max(1, ofSample))

  onStep("centroids")
  const sample = Math.max(PLAIN_SAMPLE_ROWS, PLAIN_SAMPLE_ROWS_PER_SHARD * shards)
  const salt = saltOf("shards", seed)
  const plain = trainClusters(rows, { clusters: shards, iterations: PLAIN_ROUNDS, salt, sample, workers })

  if (affinity) onStep("graph")
  const graph = affinity ? neighbourGraph(rows, seed, workers) : undefined
  const reverse = graph === undefined ? undefined : reverseLists(rows.rows, [graph])

  onStep("balanced")
  const placement = affinity
    ? undefined
    : createPlacement(rows, balancedCentroids(rows, shards, plain, seed, workers), { seed, budget, workers })
  const placed = placement && placeRows(rows, placement, workers)
  const balancedHome = placed?.home ?? balancedLayout(rows, shards, plain, seed, workers)
  const balanced = describeLayout(input, balancedHome, truth, shards, seed, workers)
  let chosen: Described = balanced
  let packed: Described | undefined
  if (graph !== undefined && reverse !== undefined) {
    onStep("packed")
    const { shardOf } = packedLayout(rows, graph, shards, seed, workers)
    propagateLabels(graph, reverse, shardOf, shards, seed)
    packed = describeLayout(input, shardOf, truth, shards, seed, workers)
    // A cell is not divided, so many equal rows can make a shard of any size.
    const fits = largestShard(shardOf, shards) <= (MOST_OF_AVERAGE * rows.rows) / shards + 1
    if (fits && packed.judged > balanced.judged) chosen = packed
  }
  const { home, descriptors, beta } = chosen
  const validationHome =
    placement === undefined
      ? homesByVotes(validation, descriptors, beta, truth, home)
      : closestPoints(validation, placement.points).point

  let copies = placed && budget > 1 ? copiesOf(placed, rows.rows) : undefined
  if (graph !== undefined && budget > 1 && shards > 1) {
    onStep("demand")
    const few = describeShards(rows, home, shards, DEMAND_DESCRIPTORS, saltOf("demand", seed), workers)
    const scoring = createScoring(few, tuneBeta(few, validation, truth, home, workers).beta)
    const ranks = Math.min(DEMAND_RANKS, shards)
    const route = (some: SpaceRows) => routeAll(scoring, some, undefined, ranks, false, workers).ranked
    let demand = reverse!
    let ranked = route(rows)
    if (queries !== undefined && queries.demand.rows > 0) {
      const wanted = exactNeighbours(
        queries.demand,
        rows,
        Math.min(DEMANDED_NEIGHBOURS, rows.rows),
        false,
        workers,
      )
      demand = reverseLists(rows.rows, [graph, wanted])
      const both = new Uint16Array((rows.rows + queries.demand.rows) * ranks)
      both.set(ranked)
      both.set(route(queries.demand), ranked.length)
      ranked = both
    }
    onStep("copies")
    const proposals = proposeCopies(home, shards, demand, ranked, ranks)
    copies = grantCopies(home, shards, proposals, budget, validationHome)
  }

  onStep("stopping")
  const scoring = createScoring(descriptors, beta)
  const membership = { shards, home, copies }
  const held = routeAll(scoring, validation, undefined, undefined, true, workers)
  const table =
    graph === undefined
      ? learnGains(held, gainsByRank(held, neighbours, membership))
      : learnFromGraph(rows, graph, scoring, membership, seed, workers)
  let trials = createTrials(table, held, gainsByRank(held, asNear, membership))
  const real = queries !== undefined && queries.thresholds.rows > 0 ? queries.thresholds : undefined
  if (real !== undefined) {
    const routings = routeAll(scoring, real)
    const wanted = exactNeighbours(real, rows, asNear.k, false, workers)
    trials = createTrials(table, routings, gainsByRank(routings, wanted, membership))
  }
  const stopping = measureStopping(table, trials, held.familiarity, real === undefined)

  const centroids = plain.slice()
  toCentroids(sumByGroup(rows, home, shards), rows.metric, centroids)
  return {
    kind: chosen === balanced ? "balanced" : "packed",
    home,
    validationHome,
    copies,
    judged: { balanced: balanced.judged, packed: packed?.judged },
    centroids,
    placement,
    routing: { preparation, descriptors, beta, stopping },
  }
}

function copiesOf({ copies: { of, shard } }: PlacedRows, rows: number): Copies {
  return { start: groupMembers(of, rows).start, shard: Uint16Array.from(shard) }
}

function checkInput({ rows, validation, preparation }: LayoutInput, shards: number, budget: number): void {
  if (!Number.isInteger(shards) || shards < 1 || shards > MAX_LAYOUT_SHARDS) {
    throw invalidInput(`a layout of ${shards} shards is not possible, expected 1 to ${MAX_LAYOUT_SHARDS}`, {
      shards,
    })
  }
  if (!(budget >= 1 && budget <= 16)) {
    throw invalidInput(`the replication budget is ${budget}, expected a number from 1 to 16`, { budget })
  }
  for (const { dim } of [rows, validation]) {
    if (dim === preparation.dim) continue
    throw invalidInput(`rows have dimension ${dim}, expected ${preparation.dim}`, {
      expected: preparation.dim,
      got: dim,
    })
  }
}

/** The first `count` of each list, or all where they are fewer. */
function firstOf({ k, ids }: Truth, count: number): Truth {
  return { k: Math.min(k, count), ids: ids.filter((_, i) => i % k < count) }
}

function largestShard(shardOf: Int32Array, shards: number): number {
  const counts = new Int32Array(shards)
  for (const shard of shardOf) counts[shard]!++
  return counts.reduce((most, count) => Math.max(most, count), 0)
}

interface Described {
  readonly home: Int32Array
  readonly descriptors: Descriptors
  readonly beta: number
  readonly judged: number
}

/**
 * Descriptors as they are after packing, with the β that suits them. Where a single centroid a shard serves
 * held-out rows better (it may where lengths vary much under `dot`), that is taken instead.
 */
function describeLayout(
  { rows, validation }: LayoutInput,
  home: Int32Array,
  truth: Truth,
  shards: number,
  seed: number,
  workers: Workers | undefined,
): Described {
  const many = inFourBits(describe(rows, home, shards, seed, workers))
  const tuned = { home, descriptors: many, ...tuneBeta(many, validation, truth, home, workers) }
  const one = describeShards(rows, home, shards, 1, saltOf("descriptors", seed), workers)
  const centroids = inFourBits({ ...one, counts: one.counts.map((count) => Math.min(count, 1)) })
  const ranked = { home, descriptors: centroids, ...tuneBeta(centroids, validation, truth, home, workers) }
  return ranked.judged > tuned.judged ? ranked : tuned
}

/** Gains of routed rows, whose true neighbours are their neighbour lists. */
function learnFromGraph(
  rows: SpaceRows,
  graph: NeighbourGraph,
  scoring: ScoringTable,
  membership: Membership,
  seed: number,
  workers: Workers | undefined,
) {
  const sampled = hashOrder(rows.rows, saltOf("sample", seed)).subarray(
    0,
    Math.min(SAMPLE_ROWS, Math.ceil(SAMPLE_SCORES / membership.shards)),
  )
  const k = Math.min(TRUE_NEIGHBOURS, graph.k)
  const ids = Int32Array.from(
    { length: sampled.length * k },
    (_, i) => graph.ids[sampled[Math.floor(i / k)]! * graph.k + (i % k)]!,
  )
  const routings = routeAll(scoring, rows, sampled, undefined, true, workers)
  return learnGains(routings, gainsByRank(routings, { k, ids }, membership))
}
