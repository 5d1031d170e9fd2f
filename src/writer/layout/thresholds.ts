/**
 * Thresholds of `targetRecall` where the layout was made of a sample: its own held-out rows know only those
 * of their neighbours that are in the sample, the queries of the certificate know their neighbours among all
 * rows.
 */
import { setImmediate } from "node:timers/promises"
import type { Certified } from "../../recall/certificate.js"
import { type CertifiedQueries, choosesThresholds, reachedRanks } from "../../recall/curves.js"
import { chooseThresholds, type TriedQuery, trialsOf } from "../../sharding/cluster/layout/thresholds.js"
import { createDescriptorRouter, type Routing } from "../../sharding/cluster/routing/routing.js"
import { withoutAbsent } from "../../sharding/cluster/routing/stopping.js"
import type { Strategy } from "../../sharding/strategy.js"

/** A layout made of a sample, whose thresholds are provisional. */
export interface SampledLayout {
  readonly routing: Routing
  /** The strategy with another routing. */
  withRouting(routing: Routing): Strategy
}

/**
 * Fewer rows that choose would leave some fifty unfamiliar ones, and thresholds that say more of chance than
 * of the rows.
 */
const FEWEST_CHOOSING_ROWS = 200

/** How many of `count` held-out rows choose thresholds: every second, or none. */
export function choosingRows(count: number): number | undefined {
  const choosing = Math.ceil(count / 2)
  return choosing < FEWEST_CHOOSING_ROWS ? undefined : choosing
}

/** The strategy with thresholds that the queries have chosen; `undefined` if they choose none. */
export async function strategyByQueries(
  { routing, withRouting }: SampledLayout,
  { queries, vectors, neighbours, shards }: Pick<Certified, "queries" | "vectors" | "neighbours" | "shards">,
): Promise<Strategy | undefined> {
  const choosers = [...neighbours.lists.keys()].filter((query) => choosesThresholds(queries, query))
  if (choosers.length === 0) return undefined
  const { dim, shards: all } = routing.descriptors
  const router = createDescriptorRouter(routing)
  const holdRows = new Set(shards.map(({ shard }) => shard))
  const present = (shard: number): boolean => holdRows.has(shard)
  const tried: TriedQuery[] = []
  for (const [i, query] of choosers.entries()) {
    const ranked = withoutAbsent(router.route(vectors.slice(query * dim, (query + 1) * dim)), present)
    const holders = neighbours.lists[query]!.map(({ shards }) => shards)
    tried.push({ ranked, reached: reachedRanks({ route: ranked.shards, holders }) })
    // Routing is work of this thread; the lease is renewed in between.
    if (i % 16 === 15) await setImmediate()
  }
  const { stopping } = routing
  const thresholds = chooseThresholds(
    trialsOf(stopping, tried, all),
    stopping.unfamiliarBelow,
    choosesApart(queries),
  )
  return withRouting({ ...routing, stopping: { ...stopping, ...thresholds } })
}

/** Real queries hold their unfamiliar ones in the share that they have. */
const choosesApart = ({ kind }: CertifiedQueries): boolean => kind === "rows"
