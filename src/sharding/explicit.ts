/**
 * The `explicit` strategy: every record names its shard, and so does every query.
 */
import { invalidInput } from "../errors.js"
import { rowPlace } from "../records.js"
import { resolveTable, SHARDS } from "./options.js"
import { allShards, namedShards, probeLimit } from "./ranking.js"
import type { Strategy, StrategyType } from "./strategy.js"

export interface ExplicitOptions {
  readonly strategy: "explicit"
  /** Number of shards. Records name theirs by number, 0 <= shard < shards. */
  readonly shards: number
}

export type ResolvedExplicit = Readonly<ExplicitOptions>

const OPTIONS = { shards: SHARDS }

export const explicitType: StrategyType<"explicit", ExplicitOptions, ResolvedExplicit> = {
  name: "explicit",
  queriesBy: "shards",
  trained: false,
  options: OPTIONS,
  resolve: (options) => Object.freeze({ strategy: "explicit", ...resolveTable(OPTIONS, { ...options }) }),
  load: async () => ({ create: createExplicit, restore: createExplicit }),
}

function createExplicit({ shards }: ResolvedExplicit): Strategy {
  return Object.freeze<Strategy>({
    name: "explicit",
    shards,
    measured: false,

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

    rank(selection, present) {
      if (selection.shards !== undefined) return { shards: namedShards(selection.shards, shards, present) }
      // Any other number says how many shards but not which.
      if (probeLimit(selection, shards) === Number.POSITIVE_INFINITY)
        return { shards: allShards(shards, present) }
      throw invalidInput('the explicit strategy needs the shards to search: a list of numbers, or "all"')
    },

    describe: () => ({ strategy: "explicit", shards, options: {} }),
    artifacts: () => ({}),
  })
}
