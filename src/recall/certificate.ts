/**
 * The recall certificate of a build: where the nearest rows of some queries lie, and how many shards their
 * routes probe before they are found.
 *
 * The rows are gone over by the tasks that build the shards, which have them in memory anyway: each finds the
 * nearest of its own, and the lists of all shards are merged here as they come.
 */
import { setImmediate } from "node:timers/promises"
import { strategyType } from "../sharding/registry.js"
import type { Strategy } from "../sharding/strategy.js"
import type { ShardRows, ShardSpec } from "../shards/backend.js"
import type { SnapshotShard } from "../snapshot/snapshot.js"
import { createScanTable, NearestRows } from "../vectors/scan.js"
import { certifyCells } from "./cells/certify.js"
import type { CellSearches } from "./cells/looked-at.js"
import {
  CERTIFIED_TARGETS,
  type CertifiedQueries,
  choosesThresholds,
  fixedProbes,
  probesToMeasure,
  RECALL_KS,
  type RecallCertificate,
  reachedRanks,
  recallCurve,
  targetFigures,
} from "./curves.js"
import { idKey } from "./id-key.js"

/** Neighbours of each query. */
export const CERTIFIED_NEIGHBOURS = Math.max(...RECALL_KS)

/** Queries as the tasks of all shards get them, in memory that threads share. */
export interface CertificateQueries {
  /** `count × dim`. */
  readonly vectors: Float32Array
  /** For rows: {@link idKey} of each, by which a row is no neighbour of itself. */
  readonly own: Float64Array | undefined
}

/** What spares work: it leaves out nothing that will be in the lists of all shards. */
export interface NeighbourHint {
  /** {@link NeighbourLists.within}, as it is when a shard is begun. */
  readonly within: Float64Array
}

/**
 * The nearest rows of one shard to each query, as far as they are not beyond a hint: `count ×
 * CERTIFIED_NEIGHBOURS`, nearest first, Infinity where there are fewer.
 */
export interface ShardNeighbours {
  readonly distances: Float64Array
  /** {@link idKey}s. */
  readonly ids: Float64Array
  /** The place of each id among those of the shard. */
  readonly ranks: Uint32Array
}

/** Runs in the task of a shard. `rows` are sorted by id. */
export function nearestInShard(
  rows: Pick<ShardRows, "vectors" | "rows"> & {
    readonly ids: { readonly values: ArrayLike<string | bigint> }
  },
  { dim, metric }: Pick<ShardSpec, "dim" | "metric">,
  { vectors, own }: CertificateQueries,
  hint?: NeighbourHint,
): ShardNeighbours {
  const count = vectors.length / dim
  const distances = new Float64Array(count * CERTIFIED_NEIGHBOURS).fill(Infinity)
  const ids = new Float64Array(count * CERTIFIED_NEIGHBOURS)
  const ranks = new Uint32Array(count * CERTIFIED_NEIGHBOURS)
  const keys = new Map<number, number>()
  const keyOf = (row: number): number => {
    const known = keys.get(row)
    if (known !== undefined) return known
    const key = idKey(rows.ids.values[row]!)
    keys.set(row, key)
    return key
  }
  // One more, since one may be the query itself.
  const nearest = new NearestRows(metric, vectors, dim, CERTIFIED_NEIGHBOURS + 1, {
    rows: rows.rows,
    within: hint?.within,
  })
  nearest.add(createScanTable(metric, rows.vectors, dim), 0)
  for (const [query, found] of nearest.takeSorted().entries()) {
    let at = query * CERTIFIED_NEIGHBOURS
    const end = at + CERTIFIED_NEIGHBOURS
    for (let i = 0; i < found.ranks.length && at < end; i++) {
      const id = keyOf(found.ranks[i]!)
      if (id === own?.[query]) continue
      distances[at] = found.distances[i]!
      ranks[at] = found.ranks[i]!
      ids[at++] = id
    }
  }
  return { distances, ids, ranks }
}

export interface Neighbour {
  readonly distance: number
  /** {@link idKey}. */
  readonly id: number
  /** Shards that hold it, rising. */
  readonly shards: readonly number[]
  /** The place of its id among those of each of these shards. */
  readonly ranks: readonly number[]
}

export interface NeighbourLists {
  /** Takes in the lists of a shard; shards come in any order. */
  add(shard: number, nearest: ShardNeighbours): void
  /** Of each query, nearest first. */
  readonly lists: readonly (readonly Neighbour[])[]
  /**
   * For each query the distance of the last place so far, Infinity while there are free ones: no row beyond
   * it will be in the list.
   */
  readonly within: Float64Array
}

/**
 * The nearest rows over all shards: by distance, then shard, then id, as searches order their hits. Copies
 * are one row.
 */
export function createNeighbourLists(queries: number): NeighbourLists {
  const lists: Neighbour[][] = Array.from({ length: queries }, () => [])
  const within = new Float64Array(queries).fill(Infinity)
  return {
    add(shard, nearest) {
      for (let query = 0; query < queries; query++) {
        const list = merged(lists[query]!, shard, nearest, query * CERTIFIED_NEIGHBOURS)
        lists[query] = list
        if (list.length === CERTIFIED_NEIGHBOURS) within[query] = list.at(-1)!.distance
      }
    },
    lists,
    within,
  }
}

/** The nearest of a list and of what a shard has found for the same query, which begins at `first`. */
function merged(
  list: Neighbour[],
  shard: number,
  { distances, ids, ranks }: ShardNeighbours,
  first: number,
): Neighbour[] {
  const end = first + CERTIFIED_NEIGHBOURS
  let at = first
  // Infinity where the shard has found no more.
  const next = (): number => (at < end ? distances[at]! : Infinity)
  if (next() === Infinity) return list
  const all: Neighbour[] = []
  for (let i = 0; all.length < CERTIFIED_NEIGHBOURS; ) {
    const distance = Math.min(list[i]?.distance ?? Infinity, next())
    if (distance === Infinity) break
    const from = all.length
    while (list[i]?.distance === distance) all.push(list[i++]!)
    const known = all.length
    for (; next() === distance; at++) {
      const id = ids[at]!
      let same = from
      while (same < known && all[same]!.id !== id) same++
      if (same === known) all.push({ distance, id, shards: [shard], ranks: [ranks[at]!] })
      else all[same] = alsoIn(all[same]!, shard, ranks[at]!)
    }
    if (all.length - from > 1) {
      const equals = all.splice(from)
      all.push(...equals.sort((a, b) => a.shards[0]! - b.shards[0]!))
    }
  }
  all.length = Math.min(all.length, CERTIFIED_NEIGHBOURS)
  return all
}

/** A row that one more shard holds. */
function alsoIn(row: Neighbour, shard: number, rank: number): Neighbour {
  const later = row.shards.findIndex((other) => other > shard)
  const place = later < 0 ? row.shards.length : later
  return {
    ...row,
    shards: row.shards.toSpliced(place, 0, shard),
    ranks: row.ranks.toSpliced(place, 0, rank),
  }
}

export interface Certified {
  readonly strategy: Strategy
  readonly dim: number
  readonly queries: CertifiedQueries
  /** `dim` numbers each: the queries, then stored rows, which only help to find a rule for cells. */
  readonly vectors: Float32Array
  /** Of queries that are rows: the shard of each. */
  readonly homes: ArrayLike<number> | undefined
  readonly neighbours: NeighbourLists
  /** Searches of the snapshot, if its shards have cells; `best`: rows that are to remain of each. */
  readonly cells?: { readonly searches: CellSearches; readonly best: number } | undefined
  /** Shards that hold rows. */
  readonly shards: readonly Pick<SnapshotShard, "shard" | "rows" | "index">[]
  /** Rows of the snapshot. */
  readonly rows: number
  readonly notes: readonly string[]
}

/** Measures the recall of all queries. */
export async function certify(certified: Certified): Promise<RecallCertificate> {
  const { strategy, dim, queries, vectors, homes, shards, rows } = certified
  const routedBy = strategyType(strategy.name).queriesBy === "vector" ? "vector" : "row"
  const present = new Set(shards.map(({ shard }) => shard))
  const holdsRows = (shard: number): boolean => present.has(shard)
  const reached: Int32Array[] = []
  // What is promised by rows that chose thresholds is measured with the others.
  const stopped: Int32Array[] = []
  const stops = CERTIFIED_TARGETS.map((): number[] => [])
  for (const [query, nearest] of certified.neighbours.lists.slice(0, queries.count).entries()) {
    const vector = vectors.subarray(query * dim, (query + 1) * dim)
    const ranking = routedBy === "vector" ? strategy.rank({ vector, probes: "all" }, holdsRows) : undefined
    const route = ranking === undefined ? [homes![query]!] : ranking.shards.map(({ shard }) => shard)
    const ranks = reachedRanks({ route, holders: nearest.map(({ shards }) => shards) })
    reached.push(ranks)
    if (queries.choosing === undefined || !choosesThresholds(queries, query)) {
      stopped.push(ranks)
      for (const [i, targetRecall] of CERTIFIED_TARGETS.entries()) {
        stops[i]!.push(ranking?.probesFor?.(targetRecall) ?? 0)
      }
    }
    // Routing is work of this thread; the lease is renewed in between.
    if (query % 16 === 15) await setImmediate()
  }

  const compared = rows - (queries.kind === "rows" ? 1 : 0)
  const probes = probesToMeasure(shards.length)
  const curves = RECALL_KS.filter((k) => k === 1 || k <= compared).map((k) => recallCurve(reached, k, probes))
  const stopping = strategy.measured ? "rule" : "fixed"
  const fixed = (recall: number): number => fixedProbes({ probes, curves }, recall).probes
  const byCells =
    certified.cells && routedBy === "vector"
      ? await certifyCells(
          {
            strategy,
            dim,
            queries,
            vectors,
            nearest: certified.neighbours.lists,
            holdsRows,
            fixedProbes: fixed,
          },
          certified.cells.searches,
          certified.cells.best,
        )
      : undefined
  const targets =
    byCells?.targets ??
    CERTIFIED_TARGETS.map((target, i) =>
      targetFigures(stopped, target, stopping === "rule" ? stops[i]! : stops[i]!.fill(fixed(target))),
    )
  const insideShards = recallInside(shards)
  return {
    queries,
    rows: compared,
    routedBy,
    probes,
    curves,
    stopping,
    targets: routedBy === "vector" ? targets : [],
    ...(byCells && { cells: byCells.cells }),
    ...(insideShards && { insideShards }),
    notes: [...certified.notes, ...notesOf(queries, routedBy, insideShards)],
  }
}

/** What approximate shards have measured of themselves; absent if all are exact. */
function recallInside(shards: Certified["shards"]): RecallCertificate["insideShards"] {
  const approximate = shards.some(({ index }) => typeof index.recall === "number" && index.recall < 1)
  if (!approximate) return undefined
  const recalls = shards.map(({ rows, index }) => ({ rows, recall: Number(index.recall ?? 1) }))
  const all = recalls.reduce((sum, { rows }) => sum + rows, 0)
  const mean = recalls.reduce((sum, { rows, recall }) => sum + rows * recall, 0) / all
  return { mean, least: Math.min(...recalls.map(({ recall }) => recall)) }
}

function notesOf(
  { kind, choseThresholds }: CertifiedQueries,
  routedBy: RecallCertificate["routedBy"],
  insideShards: RecallCertificate["insideShards"],
): readonly string[] {
  return [
    ...(kind === "rows"
      ? ["the queries were rows: queries unlike the rows find less; give a sample of real ones to know"]
      : []),
    ...(choseThresholds
      ? [
          "the thresholds of targetRecall were chosen with these queries, so that others may reach a little less",
        ]
      : []),
    ...(routedBy === "row" ? ["each row was looked for in its own shard, since queries name theirs"] : []),
    ...(insideShards
      ? ["shards are approximate inside: they find insideShards of what these figures count as found"]
      : []),
  ]
}
