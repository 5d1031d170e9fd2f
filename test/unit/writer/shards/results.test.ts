import fc from "fast-check"
import { describe, expect, it } from "vitest"
import type { ShardEntry } from "../../../../src/manifest/manifest.js"
import { CERTIFIED_NEIGHBOURS, createNeighbourLists } from "../../../../src/recall/certificate.js"
import { createShardResults } from "../../../../src/writer/shards/results.js"
import type { ShardResult } from "../../../../src/writer/shards/task.js"

const entryOf = (shard: number, attempt: number): ShardEntry => ({
  shard,
  rows: shard + 1,
  folder: `shards/k3v9x2m4q7ab/${String(shard).padStart(5, "0")}/${attempt}`,
  files: [],
  index: { kind: "flat" },
  fingerprint: String(shard).padStart(64, "0"),
})

/** One neighbour of one query in each shard, nearer the lower its number. */
function nearestIn(shard: number) {
  const distances = new Float64Array(CERTIFIED_NEIGHBOURS).fill(Infinity)
  distances[0] = shard
  const ids = new Float64Array(CERTIFIED_NEIGHBOURS).fill(shard)
  return { distances, ids, ranks: new Uint32Array(CERTIFIED_NEIGHBOURS) }
}

const results = fc.array(
  fc.record({
    shard: fc.nat(9),
    kind: fc.constantFrom("empty" as const, "reused" as const, "built" as const),
    attempt: fc.nat(3),
  }),
)

describe("results of shard tasks", () => {
  it("become the entries of the shards that hold rows, by number; of several attempts the first counts", () => {
    fc.assert(
      fc.property(results, (drawn) => {
        const neighbours = createNeighbourLists(1)
        const collected = createShardResults(neighbours)
        const expected = new Map<number, ShardEntry>()
        for (const { shard, kind, attempt } of drawn) {
          const result: ShardResult =
            kind === "empty"
              ? { kind, shard }
              : { kind, entry: entryOf(shard, attempt), nearest: nearestIn(shard) }
          collected.add(result)
          if (result.kind !== "empty" && !expected.has(shard)) expected.set(shard, result.entry)
        }
        const numbers = [...expected.keys()].sort((a, b) => a - b)
        expect(collected.entries()).toEqual(numbers.map((shard) => expected.get(shard)))
        expect(neighbours.lists[0]!.map(({ shards }) => shards)).toEqual(numbers.map((shard) => [shard]))
      }),
    )
  })

  it("without queries have no neighbours to tell of", () => {
    const collected = createShardResults(undefined)
    collected.add({ kind: "built", entry: entryOf(2, 0), nearest: undefined })
    expect(collected.entries()).toEqual([entryOf(2, 0)])
  })
})
