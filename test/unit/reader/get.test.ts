import { describe, expect, it } from "vitest"
import { getRecords } from "../../../src/reader/get.js"
import type { UseShard } from "../../../src/reader/held.js"
import type { SnapshotState } from "../../../src/reader/state.js"
import type { Id } from "../../../src/records.js"
import { createStrategy, resolveSharding } from "../../../src/sharding/registry.js"

/** Ids of each shard. */
const SHARDS: readonly (readonly string[])[] = [["a", "b"], ["c"], []]

async function setUp() {
  const resolved = resolveSharding({ strategy: "explicit", shards: SHARDS.length })
  const strategy = await createStrategy(resolved as Parameters<typeof createStrategy>[0], {
    dim: 1,
    metric: "l2",
    fields: [],
  })
  const located: (readonly Id[])[] = []
  const state = {
    spec: { dim: 1, metric: "l2", id: { type: "string", wide: false }, fields: [] },
    routed: { run: "aaaaaaaaaaaa", strategy, present: (shard: number) => SHARDS[shard]!.length > 0 },
    locator: {
      // Every id may be in its own shard, and "a" in another one by its hash.
      locate: async (ids: readonly Id[]) => {
        located.push(ids)
        return ids.map((id) => {
          const own = SHARDS.findIndex((held) => held.includes(id as string))
          return id === "a" ? [own, 1] : own < 0 ? [] : [own]
        })
      },
    },
  } as unknown as SnapshotState
  const asked: [shard: number, ids: readonly Id[]][] = []
  const useShard = (async (shard: number, work: (reader: object) => Promise<unknown>) => {
    return work({
      get: async (ids: readonly Id[]) => {
        asked.push([shard, ids])
        return ids.map((id) => (SHARDS[shard]!.includes(id as string) ? { id } : undefined))
      },
    })
  }) as unknown as UseShard
  return {
    state,
    located,
    asked,
    get: (ids: readonly Id[], route = {}) => getRecords(state, ids, route, useShard),
  }
}

describe("a lookup by id", () => {
  it("asks the shards that may hold the ids, each once, and answers in order", async () => {
    const { get, located, asked } = await setUp()
    expect(await get(["c", "a", "none", "a"])).toEqual([
      { id: "c", shard: 1 },
      { id: "a", shard: 0 },
      undefined,
      { id: "a", shard: 0 },
    ])
    expect(located).toEqual([["c", "a", "none"]])
    expect(asked.sort(([a], [b]) => a - b)).toEqual([
      [0, ["a"]],
      [1, ["c", "a"]],
    ])
  })

  it("asks the shards that it names, and no locator", async () => {
    const { get, located, asked } = await setUp()
    expect(await get(["a", "c"], { shards: [1] })).toEqual([undefined, { id: "c", shard: 1 }])
    expect(await get(["b"], { shards: "all" })).toEqual([{ id: "b", shard: 0 }])
    expect(located).toEqual([])
    expect(asked.map(([shard]) => shard)).toEqual([1, 0, 1])
  })

  it("asks nobody for no ids, nor for ids of another type", async () => {
    const { get, asked } = await setUp()
    expect(await get([])).toEqual([])
    await expect(get(["a", 7])).rejects.toMatchObject({ tag: "InvalidInput" })
    expect(asked).toEqual([])
  })
})
