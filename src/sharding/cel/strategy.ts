/**
 * The `cel` strategy: a CEL expression over the declared fields gives the shard, for records from their
 * fields and for queries from their context. One query, one shard. The expression's result is the number of
 * the shard or, with routing values, looked up among them.
 */
import { invalidInput } from "../../errors.js"
import { rowPlace } from "../../records.js"
import { allShards, namedShards, probeLimit } from "../ranking.js"
import type { Strategy, StrategyContext, StrategyMaker } from "../strategy.js"
import type { ResolvedCel } from "./options.js"
import { type CelResult, type ContextValue, compileCel, type Field, quote, show } from "./program.js"

export const celMaker: StrategyMaker<ResolvedCel> = { create: createCel, restore: createCel }

export function createCel(resolved: ResolvedCel, context: StrategyContext): Strategy {
  const { shards, expression, values } = resolved
  const program = compileCel(expression, context.fields)
  const shardOf = values === undefined ? numberedShard(shards) : listedShard(values)

  const evaluate = (
    fieldValue: (field: Field) => ContextValue,
    where: () => string,
    read = (result: CelResult) => result,
  ): number => {
    const result = program.evaluate(fieldValue, where)
    const shard = shardOf(read(result))
    if (typeof shard === "number") return shard
    throw invalidInput(
      `${where()}: the sharding expression ${quote(expression)} gives ${show(result)}, expected ${shard.expected}`,
      { expression, shards },
    )
  }

  return Object.freeze<Strategy>({
    name: "cel",
    shards,
    measured: false,

    assign(batch) {
      const assigned = new Int32Array(batch.rows)
      for (let row = 0; row < batch.rows; row++) {
        assigned[row] = evaluate(
          (field) => batch.fields[field.name]?.[row],
          () => rowPlace(batch.origin, row),
        )
      }
      return assigned
    },

    rank(selection, present) {
      if (selection.shards !== undefined) return { shards: namedShards(selection.shards, shards, present) }
      if (probeLimit(selection, 1) === Number.POSITIVE_INFINITY) return { shards: allShards(shards, present) }
      const given = selection.context
      if (given === undefined && program.fields.length > 0) {
        const needed = program.fields.map((field) => `${field.name} (${field.type})`).join(", ")
        throw invalidInput(
          `the cel strategy needs a query context with ${needed}, or shards named: a list or "all"`,
        )
      }
      const shard = evaluate(
        (field) => given?.[field.name],
        () => "the query context",
        values === undefined ? digitsAsNumber : undefined,
      )
      return { shards: present(shard) ? [{ shard, score: 0 }] : [] }
    },

    describe: () => ({
      strategy: "cel",
      shards,
      options: values === undefined ? { expression } : { expression, values },
    }),
    artifacts: () => ({}),
  })
}

/**
 * Text of digits as the number. No build takes it for one; but rows that another program has placed by it can
 * be found so.
 */
const digitsAsNumber = (result: CelResult): CelResult =>
  typeof result === "string" && /^\d{1,9}$/.test(result) ? BigInt(result) : result

/** The shard of a result, or what was expected of it. */
type ShardOf = (result: CelResult) => number | { readonly expected: string }

function numberedShard(shards: number): ShardOf {
  return (result) =>
    typeof result === "bigint" && result >= 0n && result < BigInt(shards)
      ? Number(result)
      : { expected: `a shard number from 0 to ${shards - 1}` }
}

// How many routing values a message lists.
const VALUES_SHOWN = 10

function listedShard(values: readonly CelResult[]): ShardOf {
  // Text of routing values has no NUL, with which the key of bytes begins.
  const keyOf = (value: CelResult): bigint | string =>
    value instanceof Uint8Array ? `\0${Buffer.from(value).toString("hex")}` : value
  const shardByValue = new Map(values.map((value, shard) => [keyOf(value), shard]))
  const listed = values.slice(0, VALUES_SHOWN).map(show).join(", ")
  const expected = `one of the routing values ${listed}${values.length > VALUES_SHOWN ? ", …" : ""}`
  return (result) => shardByValue.get(keyOf(result)) ?? { expected }
}
