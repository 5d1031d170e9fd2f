import { describe, expect, it } from "vitest"
import { PoolShard, toGiveWay } from "../../../../../src/shards/sqlite-vec/memory/shard.js"
import { specOf } from "../../../../contract/shard-rows.js"

const shard = (asked: number, isInUse = false) => ({ asked, isInUse })

describe("rows that give way to those of a shard that is asked again", () => {
  it.each([
    ["of those that were asked before its last query, the oldest", [shard(5), shard(3), shard(4)], 6, 3],
    ["none that was asked since", [shard(6), shard(7)], 6, undefined],
    ["none in use", [shard(3, true), shard(4)], 6, 4],
    ["none if it is asked for the first time", [shard(3)], -1, undefined],
  ])("are %s", (_name, holders, askedBefore, asked) => {
    expect(toGiveWay(holders, askedBefore)?.asked).toBe(asked)
  })
})

describe("a shard of a pool", () => {
  it("is drained when the last who uses it has ended", async () => {
    const used = new PoolShard(1, "file", specOf(1), undefined)
    await used.drained()
    used.begin()
    used.begin()
    let isDrained = false
    const drained = used.drained().then(() => {
      isDrained = true
    })
    used.end()
    await Promise.resolve()
    expect([isDrained, used.isInUse]).toEqual([false, true])
    used.end()
    await drained
    expect(used.isInUse).toBe(false)
  })
})
