/** The part of a certificate that says what searches through cells find: the rule, and its figures. */
import type { Strategy } from "../../sharding/strategy.js"
import type { NeighbourLists } from "../certificate.js"
import {
  CERTIFIED_TARGETS,
  type CertifiedCells,
  type CertifiedQueries,
  choosesThresholds,
  type TargetFigures,
  targetFiguresOf,
} from "../curves.js"
import { type KnownQuery, learnCellRule, searchByRule } from "./learn.js"
import type { CellSearches } from "./looked-at.js"

/** Queries of all kinds, as {@link certifyCells} wants them. */
export interface KnownQueries {
  readonly strategy: Strategy
  readonly dim: number
  readonly queries: CertifiedQueries
  /** `dim` numbers each: first `queries.count` queries, then stored rows. */
  readonly vectors: Float32Array
  /** Of each, nearest first. */
  readonly nearest: NeighbourLists["lists"]
  readonly holdsRows: (shard: number) => boolean
  /** How many shards a recall takes where the strategy does not say it by query. */
  readonly fixedProbes: (recall: number) => number
}

/**
 * Each kind of queries by itself meets its target by its mean less so many standard errors. With more, kinds
 * that are easier would go far beyond what is asked for.
 */
const STANDARD_ERRORS = 0.5

/** The rule for cells, and what the targets reach: of the queries that did not choose it, if some did not. */
export async function certifyCells(
  known: KnownQueries,
  searches: CellSearches,
  best: number,
): Promise<{ readonly cells: CertifiedCells; readonly targets: readonly TargetFigures[] }> {
  const { queries } = known
  const all = known.nearest.map((_, query) => knownQuery(known, query))
  const own = all.slice(0, queries.count)
  const stored = all.slice(queries.count)
  const chooses = (query: number) => queries.choosing === undefined || choosesThresholds(queries, query)
  const measures = (query: number) => queries.choosing === undefined || !chooses(query)
  const kinds = [own.filter((_, query) => chooses(query)), stored]
  const rule = await learnCellRule(
    searches,
    kinds.map((queries) => ({ queries, standardErrors: STANDARD_ERRORS })),
    best,
  )
  const figures = async (some: readonly KnownQuery[]) => {
    const reached: TargetFigures[] = []
    for (const target of CERTIFIED_TARGETS) {
      const { shares, probes, rows } = await searchByRule(searches, rule, some, target)
      reached.push(targetFiguresOf(target, shares, probes, rows))
    }
    return reached
  }
  const targets = await figures(own.filter((_, query) => measures(query)))
  const cells = {
    ...rule,
    ...(stored.length > 0 && { stored: { count: stored.length, targets: await figures(stored) } }),
  }
  return { cells, targets }
}

function knownQuery(known: KnownQueries, query: number): KnownQuery {
  const { strategy, dim, vectors, nearest, holdsRows, fixedProbes } = known
  const vector = vectors.slice(query * dim, (query + 1) * dim)
  const ranking = strategy.rank({ vector, probes: "all" }, holdsRows)
  const shards = ranking.shards.map(({ shard }) => shard)
  const probesFor = ranking.probesFor ?? fixedProbes
  return { vector, nearest: nearest[query]!, shardsFor: (recall) => shards.slice(0, probesFor(recall)) }
}
