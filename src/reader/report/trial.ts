/**
 * A search that `health` makes itself, of one shard: what opens and answers for it is what all searches need.
 */
import { isVecsnapError, messageOf } from "../../errors.js"
import { prepareQuery } from "../../shards/query.js"
import { shardBytes } from "../../snapshot/snapshot.js"
import type { Calls } from "../calls/calls.js"
import type { HeldState } from "../held.js"
import { TRIAL_MS, type Trial } from "./health.js"

/**
 * Asks the smallest shard for one row, which downloads and opens it if need be, in {@link TRIAL_MS} at most.
 * Undefined where there is nothing to ask: the snapshot is empty, or the reader closed. Throws only when
 * `signal` has fired.
 */
export async function tryShard(
  held: HeldState,
  calls: Pick<Calls, "bounded" | "ended">,
  signal: AbortSignal | undefined,
): Promise<Trial | undefined> {
  const { spec, shards } = held.state
  const [smallest] = [...shards.values()].sort((a, b) => shardBytes(a) - shardBytes(b) || a.shard - b.shard)
  if (smallest === undefined || calls.ended) return undefined
  const { shard } = smallest
  try {
    await calls.bounded("trial", { signal, timeoutMs: TRIAL_MS }, (bound) => {
      const query = prepareQuery(new Float32Array(spec.dim).fill(1), 1, spec, { signal: bound })
      return held.useShard(shard, (reader) => reader.search(query), bound)
    })
    return { shard, failure: undefined, late: false }
  } catch (error) {
    if (signal?.aborted) throw error
    const late = isVecsnapError(error, "Aborted") || isVecsnapError(error, "Closed")
    return { shard, failure: messageOf(error), late }
  }
}
