/** Snapshots as earlier versions have stored them: opened and searched by this one. */
import { cp } from "node:fs/promises"
import { join } from "node:path"
import { describe, expect, it } from "vitest"
import { openSnapshot, verifyRoot } from "../../src/index.js"
import { naiveDistance, noise } from "../contract/shard-rows.js"
import { fromRoot } from "../support/paths.js"
import { withTempDir } from "../support/stores.js"

const [ROWS, DIM] = [2400, 8]

/** What each of them was built from; shards have more than 1,024 rows. */
function recordsOf() {
  const vectors = noise(ROWS * DIM)
  return Array.from({ length: ROWS }, (_, i) => ({
    id: `r${String(i).padStart(4, "0")}`,
    vector: vectors.subarray(i * DIM, (i + 1) * DIM),
    fields: { n: i % 7 },
    payload: i % 10 === 0 ? { i } : null,
  }))
}

describe.each(["root-v1", "root-v2"])("the golden snapshot %s", (name) => {
  it("is whole, and has all records and their nearest", () =>
    withTempDir(async (dir) => {
      const root = join(dir, "root")
      await cp(fromRoot("test/data/golden", name), root, { recursive: true })
      expect(await verifyRoot(`file://${root}`, { deep: true })).toMatchObject({ intact: true })
      await using reader = await openSnapshot(`file://${root}`, { cacheDir: join(dir, "cache") })
      const records = recordsOf()
      const found = await reader.get(records.map(({ id }) => id))
      for (const [i, record] of records.entries()) expect(found[i]).toMatchObject(record)
      for (let i = 0; i < 20; i++) {
        const query = noise(DIM, 100 + i)
        const { hits } = await reader.search(query, { k: 10, probes: "all" })
        const nearest = records
          .map(({ id, vector }) => ({ id, distance: naiveDistance("cosine", query, vector) }))
          .sort((a, b) => a.distance - b.distance)
          .slice(0, 10)
        expect(hits.map(({ id }) => id)).toEqual(nearest.map(({ id }) => id))
        for (const [j, hit] of hits.entries()) expect(hit.distance).toBeCloseTo(nearest[j]!.distance, 6)
      }
    }))
})
