/**
 * The `explicit` strategy: every record names its shard, and so does every query.
 */
import { invalidInput } from "../errors.js"
import { rowPlace } from "../records.js"
import type { ResolvedExplicit } from "./options.js"
import { allShards, probeLimit, requestedShards } from "./route.js"
import type { Strategy } from "./strategy.js"

export function createExplicit(resolved: ResolvedExplicit): Strategy {
  const { shards } = resolved
  return Object.freeze<Strategy>({
    name: "explicit",
    shards,

    assign(batch) {
      if (batch.shards === undefined) {
        throw invalidInput(`${batch.origin.file} has no shard column, which the explicit strategy needs`)
      }
      for (let row = 0; row < batch.rows; row++) {
        const shard = batch.shards[row]!
        if (shard < 0 || shard >= shards) {
          throw invalidInput(
            `${rowPlace(batch.origin, row)}: shard is ${shard}, expected 0 to ${shards - 1}`,
            {
              shard,
              shards,
            },
          )
        }
      }
      return batch.shards
    },

    route(request) {
      const requested = requestedShards(request, shards)
      if (requested !== undefined) return requested
      // Any other number says how many shards but not which.
      if (probeLimit(request, shards) === Number.POSITIVE_INFINITY) return allShards(request, shards)
      throw invalidInput('the explicit strategy needs the shards to search: a list of numbers, or "all"')
    },

    describe: () => ({ strategy: "explicit", shards, options: {} }),
    artifacts: () => ({}),
  })
}
