/** A live query once more, over all rows of the snapshot. */
import { throwIfAborted, unavailable } from "../../errors.js"
import type { Id } from "../../records.js"
import { prepareQuery } from "../../shards/query.js"
import { mergeTopK } from "../../vectors/topk.js"
import type { OpenShards, Question } from "../shards/open-shards.js"
import type { SnapshotState } from "../state.js"
import type { AuditedQuery } from "./audit.js"

/** Shards asked at a time. */
const SHARDS_AT_ONCE = 4
/** How often somebody else may ask meanwhile, before the query is given up. */
const WAITS_MAX = 1000

export interface AskAgain {
  readonly shards: Pick<OpenShards, "ask" | "isOpen" | "letGo">
  readonly maxOpenShards: number
  readonly isIdle: () => boolean
  /** Resolves after a moment in which others can run. */
  readonly moment: () => Promise<unknown>
}

/**
 * Share of the `k` nearest rows that the query has found: hits at most as far as the k-th nearest of all
 * count, so that of equal distances each is as good. Undefined for a snapshot without rows.
 *
 * A few shards at a time, open ones first, and each time only when nobody else asks. Those that it has opened
 * are closed again, so that of the shards that others use no more than these few make way.
 *
 * Throws what a shard throws, and `Unavailable` if others ask all the time.
 */
export async function recallOf(
  state: SnapshotState,
  query: AuditedQuery,
  { shards, maxOpenShards, isIdle, moment }: AskAgain,
  signal: AbortSignal,
): Promise<number | undefined> {
  const { vector, k, distances } = query
  const exact = prepareQuery(vector, k, state.spec, { signal })
  const atOnce = Math.max(1, Math.min(SHARDS_AT_ONCE, Math.floor(maxOpenShards / 4)))
  const open = [...state.shards.keys()].filter((shard) => shards.isOpen(state, shard))
  const closed = [...state.shards.keys()].filter((shard) => !open.includes(shard))
  let nearest: Near[] = []
  let waits = 0
  for (const part of [...portions(open, atOnce), ...portions(closed, atOnce)]) {
    do {
      await moment()
      throwIfAborted(signal)
      if (waits++ > WAITS_MAX) throw unavailable("others ask all the time")
    } while (!isIdle())
    const opens = part.filter((shard) => !shards.isOpen(state, shard))
    const question: Question = { query: exact, shards: part, answers: [] }
    await shards.ask(state, [question], signal, true)
    for (const shard of opens) shards.letGo(state, shard)
    const found = question.answers.flatMap((answer) => (answer && "hits" in answer ? answer.hits : []))
    nearest = mergeTopK([{ shard: 0, hits: [...nearest, ...found] }], k).map(({ hit }) => hit)
  }
  const kth = nearest.at(-1)?.distance
  if (kth === undefined) return undefined
  return distances.filter((distance) => distance <= kth).length / nearest.length
}

interface Near {
  readonly id: Id
  readonly distance: number
}

function* portions(shards: readonly number[], size: number): Iterable<readonly number[]> {
  for (let first = 0; first < shards.length; first += size) yield shards.slice(first, first + size)
}
