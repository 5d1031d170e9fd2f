import { describe, expect, test } from "vitest"
import { createStrategy, resolveSharding } from "../../../src/sharding/registry.js"
import { checkRoute, type RouteChoice, routeQuery } from "../../../src/sharding/route.js"
import { everyShard, gaussians } from "./batches.js"

describe("a route", async () => {
  const context = { dim: 4, metric: "l2", fields: [] } as const
  const strategy = await createStrategy(resolveSharding({ strategy: "lsh", shards: 5, probes: 2 }), context)
  const routed = { run: "r1", strategy, present: everyShard }
  const certified = (target: number) => ({ probes: target > 0.9 ? 4 : 3, recall: 0.97 })
  const vector = gaussians(1, 4, 7)

  test.each<[RouteChoice, string]>([
    [{ probes: 1, shards: [1] }, "probes and shards are both given"],
    [{ probes: 1, targetRecall: 0.9 }, "probes and targetRecall are both given"],
    [{ shards: "all", targetRecall: 0.9 }, "targetRecall and shards are both given"],
    [{ targetRecall: 0 }, "targetRecall is 0, expected a number above 0, at most 1"],
    [{ targetRecall: 1.1 }, "targetRecall is 1.1, expected a number above 0, at most 1"],
  ])("refuses %o", (choice, problem) => {
    expect(() => checkRoute({ ...routed, certified }, choice)).toThrow(
      expect.objectContaining({ tag: "InvalidInput", message: expect.stringContaining(problem) }),
    )
  })

  test("by a target takes a measured routing or a certificate", () => {
    expect(() => checkRoute(routed, { targetRecall: 0.9 })).toThrow(
      expect.objectContaining({
        tag: "Unsupported",
        message: expect.stringContaining("snapshot r1 has no recall certificate"),
      }),
    )
    expect(() => checkRoute({ ...routed, certified }, { targetRecall: 0.9 })).not.toThrow()
  })

  test("goes to the shards named, to as many as probes say, or to as many as the certificate says", () => {
    const shards = (choice: RouteChoice) =>
      routeQuery({ ...routed, certified }, vector, choice).shards.map(({ shard }) => shard)
    const all = shards({ probes: "all" })
    expect(all).toHaveLength(5)
    expect(shards({})).toEqual(all.slice(0, 2))
    expect(shards({ probes: 3 })).toEqual(all.slice(0, 3))
    expect(shards({ shards: [4, 1] })).toEqual([4, 1])
    expect(shards({ targetRecall: 0.95 })).toEqual(all.slice(0, 4))
    expect(routeQuery({ ...routed, certified }, vector, { targetRecall: 0.9 })).toMatchObject({
      shards: all.slice(0, 3).map((shard) => ({ shard })),
      expectedRecall: 0.97,
    })
  })

  test("takes shards for half of what a target lets go, and rows as the rule for cells says", () => {
    const rule = {
      targets: [0.9, 0.95],
      rows: [100, 200],
      recall: [0.91, 0.96],
      best: [30, 40],
      rowsPerCell: 10,
    }
    const asked: number[] = []
    const counting = (target: number) => {
      asked.push(target)
      return certified(target)
    }
    const snapshot = { ...routed, certified: counting, cells: rule }
    const { shards, effort, expectedRecall } = routeQuery(snapshot, vector, { targetRecall: 0.9 })
    expect(asked).toEqual([0.95])
    expect([shards.length, expectedRecall]).toEqual([4, 0.91])
    expect(effort).toEqual({ rows: 200, groups: 14, best: 30 })
    expect(routeQuery(snapshot, vector, { targetRecall: 0.9, k: 100 }).effort).toMatchObject({ best: 300 })
    // Beyond the rule all rows are looked at.
    const beyond = routeQuery(snapshot, vector, { targetRecall: 0.96 })
    expect(beyond).toMatchObject({ effort: undefined, expectedRecall: 0.97 })
    for (const choice of [{ probes: 2 }, { shards: [1] }, {}] satisfies RouteChoice[]) {
      expect(routeQuery(snapshot, vector, choice).effort).toBeUndefined()
    }
  })

  test("is by default as the snapshot says, if that is possible, for queries that have a vector alone", () => {
    const lengthOf = (snapshot: object, choice: RouteChoice = {}) =>
      routeQuery({ ...routed, ...snapshot }, vector, choice).shards.length
    expect(lengthOf({ defaultEffort: { probes: 3 } })).toBe(3)
    expect(lengthOf({ defaultEffort: { targetRecall: 0.95 }, certified })).toBe(4)
    expect(lengthOf({ defaultEffort: { targetRecall: 0.95 } })).toBe(2)
    expect(lengthOf({ defaultEffort: { probes: 3 } }, { probes: 1 })).toBe(1)
    expect(lengthOf({ defaultEffort: { targetRecall: 0.95 }, certified }, { context: {} })).toBe(2)
    expect(lengthOf({ defaultEffort: { targetRecall: 0.95 }, certified }, { targetRecall: 0.8 })).toBe(3)
  })
})
