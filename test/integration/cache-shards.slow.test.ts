import { describe, expect, it } from "vitest"
import { buildSnapshot, openSnapshot } from "../../src/index.js"
import { bruteForce, FIELDS, makeRecords } from "../support/records.js"
import { withTempDir } from "../support/stores.js"

const RECORDS = makeRecords(320, { dim: 8, shards: 16 })
const SEARCHES = 32

describe.each(["sqlite-vec", "lancedb"] as const)("two places for 16 %s shards", (backend) => {
  it("give 32 concurrent searches right answers, never from a closed shard", () =>
    withTempDir(async (dir) => {
      const to = `memory://cache-shards-${backend}-${process.pid}`
      await buildSnapshot(RECORDS, {
        to,
        backend,
        fields: FIELDS,
        sharding: { strategy: "explicit", shards: 16 },
      })
      await using reader = await openSnapshot(to, { cacheDir: dir, maxOpenShards: 2 })
      const queries = RECORDS.slice(0, SEARCHES).map(({ vector }) => vector as Float32Array)
      let mostOpen = 0
      const watch = setInterval(() => {
        mostOpen = Math.max(mostOpen, reader.stats().openShards)
      }, 1)
      const answers = await Promise.all(queries.map((query) => reader.search(query, { k: 5, shards: "all" })))
      clearInterval(watch)
      for (const [i, { hits, complete }] of answers.entries()) {
        expect(complete).toBe(true)
        expect(hits.map(({ id }) => id)).toEqual(
          bruteForce(RECORDS, "cosine", queries[i]!, 5).map(({ id }) => id),
        )
      }
      const { shardOpens, shardDownloads, openShards } = reader.stats()
      expect(shardDownloads).toBe(16)
      expect(openShards).toBe(2)
      expect(mostOpen).toBeLessThanOrEqual(2)
      // Searches that wait for the same shard share one open: far fewer than one for each search and shard.
      expect(shardOpens).toBeGreaterThanOrEqual(16)
      expect(shardOpens).toBeLessThanOrEqual((16 * SEARCHES) / 2)
    }))
})
