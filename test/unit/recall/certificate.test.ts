import { describe, expect, it } from "vitest"
import {
  CERTIFIED_NEIGHBOURS,
  certify,
  createNeighbourLists,
  nearestInShard,
  type ShardNeighbours,
} from "../../../src/recall/certificate.js"
import { idKey } from "../../../src/recall/id-key.js"
import type { Strategy } from "../../../src/sharding/strategy.js"

/** Lists of one query: ids with their distances, nearest first. */
function listOf(...pairs: readonly (readonly [id: number, distance: number])[]): ShardNeighbours {
  const distances = new Float64Array(CERTIFIED_NEIGHBOURS).fill(Infinity)
  const ids = new Float64Array(CERTIFIED_NEIGHBOURS)
  for (const [place, [id, distance]] of pairs.entries()) {
    ids[place] = id
    distances[place] = distance
  }
  return { distances, ids, ranks: Uint32Array.from(ids, (id) => id % 10) }
}

describe("true neighbours", () => {
  it("of a shard are its nearest rows without the query itself, by distance, then id", () => {
    const ids = { type: "string", values: ["a", "b", "c", "d"] } as const
    const rows = { rows: 4, ids, vectors: Float32Array.of(0, 0, 2, 0, 1, 0, 0, 1) }
    const queries = {
      vectors: Float32Array.of(0, 0, 9, 0),
      own: Float64Array.of(idKey("a"), idKey("x")),
    }
    const hint = { within: Float64Array.of(Infinity, 9) }
    const { distances, ids: found, ranks } = nearestInShard(rows, { dim: 2, metric: "l2" }, queries, hint)
    const namesOf = (query: number) =>
      Array.from({ length: 5 }, (_, place) => {
        const at = query * CERTIFIED_NEIGHBOURS + place
        return distances[at] === Infinity ? "" : ids.values.find((id) => idKey(id) === found[at])
      })
    expect(namesOf(0)).toEqual(["c", "d", "b", "", ""])
    // "a" is at its bound, "d" beyond it.
    expect(namesOf(1)).toEqual(["b", "c", "a", "", ""])
    expect(Array.from(ranks.subarray(0, 3))).toEqual([2, 3, 1])
  })

  it("of all shards are the same in whatever order these come: copies are one, equal distances by shard", () => {
    const shards = new Map([
      [0, { ...listOf([10, 0.1], [11, 0.3]), ranks: Uint32Array.of(7, 9) }],
      [1, listOf([12, 0.1], [11, 0.3], [13, 0.3])],
      [2, listOf([10, 0.1], [11, 0.3])],
      [3, listOf([14, 0.05])],
    ])
    for (const order of [
      [0, 1, 2, 3],
      [3, 2, 1, 0],
      [2, 0, 3, 1],
    ]) {
      const neighbours = createNeighbourLists(1)
      for (const shard of order) neighbours.add(shard, shards.get(shard)!)
      expect(neighbours.lists[0]!.map(({ id, shards }) => [id, ...shards])).toEqual([
        [14, 3],
        [10, 0, 2],
        [12, 1],
        [11, 0, 1, 2],
        [13, 1],
      ])
      expect(neighbours.lists[0]!.map(({ ranks }) => ranks)).toEqual([[4], [7, 0], [2], [9, 1, 1], [3]])
    }
  })

  it("are a hundred at most", () => {
    const far = Array.from({ length: 100 }, (_, i) => [i, 1 + i] as const)
    const near = Array.from({ length: 60 }, (_, i) => [1000 + i, i / 100] as const)
    const neighbours = createNeighbourLists(1)
    neighbours.add(0, listOf(...far))
    neighbours.add(1, listOf(...near))
    const ids = neighbours.lists[0]!.map(({ id }) => id)
    expect(ids).toHaveLength(100)
    expect([ids[0], ids[59], ids[60], ids[99]]).toEqual([1000, 1059, 0, 39])
  })
})

describe("certify", () => {
  const strategy = {
    name: "cluster",
    shards: 2,
    rank: () => ({
      shards: [
        { shard: 1, score: 0 },
        { shard: 0, score: 1 },
      ],
    }),
  } as unknown as Strategy

  it("gives the recall inside approximate shards beside the curves, by rows, and says so", async () => {
    const neighbours = createNeighbourLists(1)
    neighbours.add(0, listOf([1, 0.1]))
    neighbours.add(1, listOf([2, 0.2]))
    const certificate = await certify({
      strategy,
      dim: 2,
      queries: { kind: "given", count: 1, seed: 1 },
      vectors: Float32Array.of(1, 0),
      homes: undefined,
      neighbours,
      shards: [
        { shard: 0, rows: 300, index: { kind: "ivf_flat", partitions: 8, probes: 2, recall: 0.98 } },
        { shard: 1, rows: 100, index: { kind: "ivf_flat", partitions: 1, probes: 1 } },
      ],
      rows: 400,
      notes: ["from elsewhere"],
    })
    expect(certificate.insideShards).toEqual({ mean: expect.closeTo(0.985, 10), least: 0.98 })
    expect(certificate.curves.map(({ k, recall }) => [k, ...recall])).toEqual([
      [1, 0, 1],
      [10, 0.5, 1],
      [100, 0.5, 1],
    ])
    expect(certificate.notes).toEqual([
      "from elsewhere",
      expect.stringMatching(/^shards are approximate inside/),
    ])
    expect(certificate.rows).toBe(400)
  })

  it("measures targets with the rows that chose no thresholds, curves with all", async () => {
    // Queries 0 and 2 have their neighbour in the shard that is probed first, query 1 in the other.
    const neighbours = createNeighbourLists(3)
    const at = [1, 0, 1]
    for (const shard of [0, 1]) {
      const lists = at.map((home) => (home === shard ? listOf([1, 0.1]) : listOf()))
      neighbours.add(shard, {
        distances: Float64Array.from(lists.flatMap(({ distances }) => [...distances])),
        ids: Float64Array.from(lists.flatMap(({ ids }) => [...ids])),
        ranks: new Uint32Array(3 * CERTIFIED_NEIGHBOURS),
      })
    }
    const stopping = {
      ...strategy,
      measured: true,
      rank: ({ vector }: { vector: Float32Array }, present: never) => ({
        ...strategy.rank({}, present),
        probesFor: (target: number) => (vector[0]! > 0 && target > 0.9 ? 2 : 1),
      }),
    } as unknown as Strategy
    const certificateOf = (choosing: object) =>
      certify({
        strategy: stopping,
        dim: 2,
        queries: { kind: "rows", count: 3, seed: 1, ...choosing },
        vectors: Float32Array.of(1, 0, -1, 0, 1, 0),
        homes: [0, 0, 0],
        neighbours,
        shards: [0, 1].map((shard) => ({ shard, rows: 100, index: { kind: "flat" } })),
        rows: 200,
        notes: [],
      })
    const figures = ({ targets }: Awaited<ReturnType<typeof certificateOf>>) =>
      targets.map(({ probes, recall }) => [probes, recall])
    const [all, halves] = [await certificateOf({}), await certificateOf({ choosing: 2 })]
    expect(figures(all)).toEqual([
      [1, 0.6667],
      [1.6667, 0.6667],
      [1.6667, 0.6667],
    ])
    expect(figures(halves)).toEqual([
      [1, 0],
      [1, 0],
      [1, 0],
    ])
    expect(halves.curves).toEqual(all.curves)
  })
})
