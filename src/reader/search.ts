/**
 * The fan-out: asks the shards of each query, and merges what they answer.
 */
import { invalidInput, isVecsnapError, messageOf, unavailable } from "../errors.js"
import { checkRoute, queriesByShard, routeQuery } from "../sharding/route.js"
import type { ShardHit, ShardReader } from "../shards/backend.js"
import { prepareQuery } from "../shards/query.js"
import { mergeTopK, type ShardHits } from "../vectors/topk.js"
import { traceRoute } from "./report/telemetry.js"
import type { SnapshotState } from "./state.js"
import type { Hit, QueryVector, SearchOptions, SearchResult } from "./types.js"

/** Runs `work` with an open shard of a state, within the reader's bounds on concurrency and open shards. */
export type UseShard = <T>(
  shard: number,
  work: (reader: ShardReader) => Promise<T>,
  signal: AbortSignal | undefined,
) => Promise<T>

interface SearchHooks {
  readonly failOnMissing?: boolean
  readonly noteUnlike?: (unlike: boolean) => void
}

const DEFAULT_K = 10

/**
 * Answers several queries on one snapshot. Queries are grouped by shard, so that each shard is opened once,
 * whatever the number of queries that need it. What goes on when this throws is for `signal` to stop.
 *
 * @param failOnMissing throw `NotFound` for a shard whose files storage does not have, even where partial
 * answers are allowed, so that the caller can look for a newer snapshot
 * @param useShard of the state
 * @param noteUnlike is told of each query whether it is unlike the rows, where the snapshot's routing says so
 */
export async function searchState(
  state: SnapshotState,
  vectors: readonly QueryVector[],
  { signal, ...options }: SearchOptions,
  useShard: UseShard,
  { failOnMissing = false, noteUnlike = () => {} }: SearchHooks = {},
): Promise<readonly SearchResult[]> {
  const { k = DEFAULT_K, partial = "fail" } = options
  if (!Number.isSafeInteger(k) || k < 1)
    throw invalidInput(`k is ${JSON.stringify(k)}, expected a whole number from 1`, { k })
  checkRoute(state.routed, options)
  const queries = vectors.map((vector, index) => {
    const name = vectors.length > 1 ? `query vector ${index}` : undefined
    return prepareQuery(vector, k, state.spec, { signal, name })
  })
  const routes = traceRoute(() => queries.map(({ vector }) => routeQuery(state.routed, vector, options)))
  for (const { unlike } of routes) if (unlike !== undefined) noteUnlike(unlike)
  const asked = routes.map(({ shards }) => shards.map(({ shard }) => shard))
  const answers = new Map<number, ShardAnswer>()
  await Promise.all(
    Array.from(queriesByShard(asked), async ([shard, waiting]) => {
      answers.set(shard, await askShard(shard, waiting))
    }),
  )
  return asked.map((shards, query) => assemble(query, shards))

  async function askShard(shard: number, waiting: readonly number[]): Promise<ShardAnswer> {
    try {
      const found = await useShard(
        shard,
        (reader) => Promise.all(waiting.map((query) => reader.search(queries[query]!))),
        signal,
      )
      return { hits: new Map(waiting.map((query, i) => [query, found[i]!])) }
    } catch (error) {
      if (partial === "fail" || signal?.aborted) throw error
      if (failOnMissing && isVecsnapError(error, "NotFound")) throw error
      return { error }
    }
  }

  function assemble(query: number, shards: readonly number[]): SearchResult {
    const lists: ShardHits<ShardHit>[] = []
    const answered: number[] = []
    const failed: { shard: number; reason: string }[] = []
    for (const shard of shards) {
      const answer = answers.get(shard)!
      if ("error" in answer) {
        failed.push({
          shard,
          reason: messageOf(answer.error),
        })
      } else {
        answered.push(shard)
        lists.push({ shard, hits: answer.hits.get(query)! })
      }
    }
    if (shards.length > 0 && answered.length === 0) {
      throw unavailable(
        `none of the ${shards.length} shards asked has answered; the first: ${failed[0]!.reason}`,
        { failed },
      )
    }
    const { expectedRecall } = routes[query]!
    return {
      snapshot: state.info.run,
      hits: mergeTopK(lists, k).map(({ shard, hit }) => toHit(shard, hit)),
      shards: { asked: shards, answered, failed },
      complete: failed.length === 0,
      ...(expectedRecall !== undefined && { expectedRecall }),
    }
  }
}

type ShardAnswer = { readonly hits: ReadonlyMap<number, readonly ShardHit[]> } | { readonly error: unknown }

const toHit = (shard: number, { id, distance, fields, payload }: ShardHit): Hit => ({
  id,
  distance,
  shard,
  fields,
  payload,
})
