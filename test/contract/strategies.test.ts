import { expect, it } from "vitest"
import { registerStrategy, type ShardingOptions, strategyTypes } from "../../src/sharding/registry.js"
import { pivots } from "../support/pivots.js"
import { roundRobin } from "../support/round-robin.js"
import { describeStrategy } from "./strategy-suite.js"

registerStrategy(roundRobin)
registerStrategy(pivots)

const tested = new Set<string>()
function strategy(title: string, options: ShardingOptions): void {
  tested.add(options.strategy)
  describeStrategy(title, options)
}

strategy("cluster", { strategy: "cluster", shards: 7, layout: "plain" })
strategy("lsh", { strategy: "lsh", shards: 7 })
strategy("lsh, probes by bit", { strategy: "lsh", shards: 7, bits: 70, probeOrder: "bit" })
strategy("explicit", { strategy: "explicit", shards: 7 })
strategy("cel, numbers", { strategy: "cel", shards: 7, expression: "shard_hash(tier) % 7u" })
strategy("cel, values", {
  strategy: "cel",
  values: ["odd", 2n ** 60n, "even", -1],
  expression: "tier % 2 == 0 ? 'even' : 'odd'",
})
strategy("a strategy that tests register", {
  strategy: "round-robin",
  shards: 7,
} as unknown as ShardingOptions)
strategy("a trained strategy that tests register", {
  strategy: "pivots",
  shards: 7,
} as unknown as ShardingOptions)

it("every strategy that is registered passes the suite", () => {
  expect([...tested]).toEqual(strategyTypes().map(({ name }) => name))
})
