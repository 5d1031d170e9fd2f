/** Strategies that are one file and one line each are built, published, opened, searched and verified like those of vecsnap. */
import { join } from "node:path"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import {
  buildSnapshot,
  openSnapshot,
  openStore,
  readLive,
  type ShardingOptions,
  verifyRoot,
} from "../../src/index.js"
import { registerStrategy } from "../../src/sharding/registry.js"
import { distance } from "../../src/vectors/distance.js"
import { noiseRows } from "../contract/shard-rows.js"
import { pivots } from "../support/pivots.js"
import { roundRobin } from "../support/round-robin.js"
import { withTempDir } from "../support/stores.js"

const RECORDS = noiseRows(600, 8).map(({ id, vector }, n) => ({
  id: String(id),
  vector: Float32Array.from(vector),
  payload: { n },
}))

const registered: (() => void)[] = []
beforeAll(() => {
  registered.push(registerStrategy(roundRobin), registerStrategy(pivots))
})
afterAll(() => {
  for (const takeAway of registered) takeAway()
})

describe.each(["round-robin", "pivots"])("the strategy %s", (strategy) => {
  const sharding = { strategy, shards: 4, probes: 2 } as unknown as ShardingOptions

  it("builds a snapshot that is published, measured, searched and sound", () =>
    withTempDir(async (dir) => {
      const root = join(dir, "root")
      await buildSnapshot(RECORDS, { to: root, metric: "l2", sharding })
      const { manifest } = (await readLive(openStore(root)))!
      expect(manifest.sharding).toMatchObject({ strategy, shards: 4, options: { probes: 2 } })
      expect(manifest.shards).toHaveLength(4)
      expect(manifest.recall).toMatchObject({ routedBy: "vector", stopping: "fixed" })

      await using reader = await openSnapshot(root, { cacheDir: join(dir, "cache") })
      const query = Float32Array.from(RECORDS[7]!.vector, (x) => x + 0.01)
      const truth = RECORDS.map(({ id, vector }) => ({ id, distance: distance("l2", query, vector) }))
        .sort((a, b) => a.distance - b.distance)
        .slice(0, 10)
      const { hits, complete } = await reader.search(query, { k: 10, probes: "all" })
      expect(hits.map(({ id, distance }) => ({ id, distance }))).toEqual(truth)
      expect(complete).toBe(true)
      const routed = await reader.search(query, { k: 10 })
      expect(routed.shards.asked).toHaveLength(2)
      expect((await reader.search(query, { k: 10, targetRecall: 0.9 })).expectedRecall).toBeGreaterThan(0)
      expect((await reader.get(["r0042"]))[0]).toMatchObject({ id: "r0042", payload: { n: 42 } })

      expect(await verifyRoot(openStore(root), { deep: true })).toMatchObject({ faults: [] })
    }))

  it("is refused an option that it does not have, by name", async () => {
    const wrong = { strategy, shards: 4, colour: "red" } as unknown as ShardingOptions
    await expect(buildSnapshot(RECORDS, { to: "/nowhere", sharding: wrong })).rejects.toMatchObject({
      tag: "InvalidInput",
      message: expect.stringMatching(
        `^the ${strategy} strategy has no option sharding.colour; it has shards, probes`,
      ),
    })
  })
})

it("a trained strategy takes over the routing of an older snapshot", () =>
  withTempDir(async (dir) => {
    const [older, newer] = [join(dir, "older"), join(dir, "newer")]
    const sharding = { strategy: "pivots", shards: 4 } as unknown as ShardingOptions
    await buildSnapshot(RECORDS, { to: older, metric: "l2", sharding })
    await buildSnapshot(RECORDS.slice(0, 500), { to: newer, metric: "l2", sharding, routingFrom: older })
    const artifactOf = async (root: string) => (await readLive(openStore(root)))!.manifest.artifacts
    expect((await artifactOf(newer)).map(({ sha256 }) => sha256)).toEqual(
      (await artifactOf(older)).map(({ sha256 }) => sha256),
    )
  }))
