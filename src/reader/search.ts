/**
 * The fan-out: asks the shards of each query, and merges what they answer.
 */
import { invalidInput, isVecsnapError, messageOf, unavailable } from "../errors.js"
import { checkRoute, routeQuery } from "../sharding/route.js"
import type { Ranking } from "../sharding/strategy.js"
import type { ShardHit } from "../shards/backend.js"
import { prepareQuery } from "../shards/query.js"
import { mergeTopK, type ShardHits } from "../vectors/topk.js"
import type { AskShards } from "./held.js"
import { traceRoute } from "./report/telemetry.js"
import type { Question } from "./shards/open-shards.js"
import type { SnapshotState } from "./state.js"
import type { Hit, QueryVector, SearchOptions, SearchResult } from "./types.js"

interface SearchHooks {
  readonly failOnMissing?: boolean
  readonly noteUnlike?: (unlike: boolean) => void
}

export const DEFAULT_K = 10

/**
 * Answers several queries on one snapshot. Each shard is opened once, whatever the number of queries that
 * need it. What goes on when this throws is for `signal` to stop.
 *
 * @param failOnMissing throw `NotFound` for a shard whose files storage does not have, even where partial
 * answers are allowed, so that the caller can look for a newer snapshot
 * @param askShards of the state
 * @param noteUnlike is told of each query whether it is unlike the rows, where the snapshot's routing says so
 */
export async function searchState(
  state: SnapshotState,
  vectors: readonly QueryVector[],
  { signal, ...options }: SearchOptions,
  askShards: AskShards,
  { failOnMissing = false, noteUnlike = () => {} }: SearchHooks = {},
): Promise<readonly SearchResult[]> {
  const { k = DEFAULT_K, partial = "fail" } = options
  if (!Number.isSafeInteger(k) || k < 1)
    throw invalidInput(`k is ${JSON.stringify(k)}, expected a whole number from 1`, { k })
  checkRoute(state.routed, options)
  const checked = vectors.map((vector, index) => {
    const name = vectors.length > 1 ? `query vector ${index}` : undefined
    return prepareQuery(vector, k, state.spec, { signal, name })
  })
  const routes = traceRoute(() => checked.map(({ vector }) => routeQuery(state.routed, vector, options)))
  for (const { unlike } of routes) if (unlike !== undefined) noteUnlike(unlike)
  const questions = checked.map((query, place): Question => {
    const { shards, effort } = routes[place]!
    return { query: query.withEffort(effort), shards: shards.map(({ shard }) => shard), answers: [] }
  })
  await askShards(questions, signal, partial === "fail")
  if (failOnMissing) {
    for (const { answers } of questions)
      for (const answer of answers)
        if (answer !== undefined && "error" in answer && isVecsnapError(answer.error, "NotFound"))
          throw answer.error
  }
  return questions.map((question, place) => assemble(state.info.run, question, routes[place]!))
}

/** A query's result. Throws `Unavailable` if none of its shards has answered. */
function assemble(
  run: string,
  { query, shards, answers }: Question,
  { expectedRecall }: Ranking,
): SearchResult {
  const lists: ShardHits<ShardHit>[] = []
  const answered: number[] = []
  const failed: { shard: number; reason: string }[] = []
  for (let place = 0; place < shards.length; place++) {
    const shard = shards[place]!
    const answer = answers[place]!
    if ("error" in answer) {
      failed.push({ shard, reason: messageOf(answer.error) })
    } else {
      answered.push(shard)
      if (answer.hits.length > 0) lists.push({ shard, hits: answer.hits })
    }
  }
  if (shards.length > 0 && answered.length === 0) {
    throw unavailable(
      `none of the ${shards.length} shards asked has answered; the first: ${failed[0]!.reason}`,
      { failed },
    )
  }
  return {
    snapshot: run,
    hits: mergeTopK(lists, query.k).map(({ shard, hit }) => toHit(shard, hit)),
    shards: { asked: shards, answered, failed },
    complete: failed.length === 0,
    ...(expectedRecall !== undefined && { expectedRecall }),
  }
}

const toHit = (shard: number, { id, distance, fields, payload }: ShardHit): Hit => ({
  id,
  distance,
  shard,
  fields,
  payload,
})
