import { join } from "node:path"
import { expect, it } from "vitest"
import { buildSnapshot, openSnapshot } from "../../src/index.js"
import { ALL } from "../support/scope.js"
import { withTempDir } from "../support/stores.js"

const SHARDS = ALL ? 64 : 16

it(`answers k = 10,000 over ${SHARDS} shards with thousands of equal distances exactly, and every time the same`, () =>
  withTempDir(async (dir) => {
    // Four distances only; ids are spread over the shards.
    const records = Array.from({ length: 12_800 }, (_, n) => ({
      id: n,
      vector: [1 + (n % 4), 0],
      shard: (n * 7) % SHARDS,
    }))
    await buildSnapshot(records, {
      to: join(dir, "root"),
      metric: "l2",
      sharding: { strategy: "explicit", shards: SHARDS },
    })
    const expected = records
      .map(({ id, vector, shard }) => ({ id, distance: vector[0]!, shard }))
      .sort((a, b) => a.distance - b.distance || a.shard - b.shard || a.id - b.id)
      .slice(0, 10_000)
    await using reader = await openSnapshot(join(dir, "root"), {
      cacheDir: join(dir, "cache"),
      concurrency: 8,
    })
    for (const _ of [1, 2]) {
      const { hits, complete } = await reader.search([0, 0], { k: 10_000, shards: "all" })
      expect(complete).toBe(true)
      expect(hits.map(({ id, distance, shard }) => ({ id, distance, shard }))).toEqual(expected)
    }
  }))
