import { mkdtemp, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, beforeAll, describe, expect, inject, it } from "vitest"
import {
  buildSnapshot,
  METRICS,
  openSnapshot,
  type SearchOptions,
  type ShardingOptions,
} from "../../src/index.js"
import { bruteForce, FIELDS, makeRecords, plainDistance } from "../support/records.js"
import { ALL } from "../support/scope.js"
import { s3Root, type TestRoot } from "../support/stores.js"

const SHARDS = 6
const K = 12
const RECORDS = makeRecords(600, { shards: SHARDS })
const byId = new Map(RECORDS.map((record) => [record.id, record]))
const QUERIES = makeRecords(15, { seed: 99 }).map(({ vector }) => Float32Array.from(vector))

const STRATEGIES: { sharding: ShardingOptions; route: SearchOptions; asked: number }[] = [
  { sharding: { strategy: "cluster", shards: SHARDS }, route: { probes: 2 }, asked: 2 },
  { sharding: { strategy: "lsh", shards: SHARDS, bits: 8 }, route: { probes: 3 }, asked: 3 },
  { sharding: { strategy: "explicit", shards: SHARDS }, route: { shards: [4, 1] }, asked: 2 },
  {
    sharding: { strategy: "cel", shards: SHARDS, expression: 'shard_hash(lang + ":" + string(year)) % 6u' },
    route: { context: { lang: "en", year: 1991 } },
    asked: 1,
  },
]

let dir: string
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "vecsnap-test-"))
})
afterAll(() => rm(dir, { recursive: true, force: true }))

const ROOTS: Record<string, (name: string) => TestRoot> = {
  "local directory": (name) => ({ url: join(dir, name), store: {} }),
  [inject("s3").name]: s3Root,
}

for (const [rootName, makeRoot] of Object.entries(ROOTS)) {
  for (const backend of ["sqlite-vec", "lancedb"] as const) {
    describe.each(STRATEGIES)(`$sharding.strategy, ${backend}, ${rootName}`, ({ sharding, route, asked }) => {
      // Metrics differ in shards and routing, not in storage: one will do for the second root, and, unless all is
      // tested, for LanceDB, whose contract suite has them all.
      const everyMetric = rootName === "local directory" && (ALL || backend === "sqlite-vec")
      const metrics = everyMetric ? METRICS : METRICS.slice(0, 1)
      it.each(metrics)("%s: every hit equals brute force over the shards asked", async (metric) => {
        const { url, store } = makeRoot(`${sharding.strategy}-${backend}-${metric}`)
        const report = await buildSnapshot(RECORDS, {
          to: url,
          store,
          sharding,
          metric,
          backend,
          fields: FIELDS,
        })
        expect(report.rows).toBe(RECORDS.length)

        await using reader = await openSnapshot(url, { store, cacheDir: join(dir, "cache") })
        const records = await reader.get(
          RECORDS.map(({ id }) => id),
          { shards: "all" },
        )
        const shardOf = new Map(records.map((record) => [record!.id, record!.shard]))
        expect(records.map((record) => record!.vector)).toEqual(RECORDS.map(({ vector }) => vector))
        expect(records.map((record) => record!.fields)).toEqual(RECORDS.map(({ fields }) => fields))
        expect(records.map((record) => record!.payload)).toEqual(RECORDS.map(({ payload }) => payload))

        for (const query of QUERIES) {
          const { hits, shards, complete, snapshot } = await reader.search(query, { k: K, ...route })
          expect({ complete, snapshot, asked: shards.asked.length }).toEqual({
            complete: true,
            snapshot: report.run,
            asked,
          })
          expect(shards.answered).toEqual(shards.asked)
          const candidates = RECORDS.filter(({ id }) => shards.asked.includes(shardOf.get(id)!))
          const expected = bruteForce(candidates, metric, query, K)
          expect(hits.length).toBe(expected.length)
          for (const [rank, hit] of hits.entries()) {
            const record = byId.get(hit.id)!
            expect(hit.distance).toBeCloseTo(expected[rank]!.distance, 5)
            expect(hit.distance).toBeCloseTo(plainDistance(metric, query, record.vector), 5)
            expect(hit).toMatchObject({
              shard: shardOf.get(hit.id),
              fields: record.fields,
              payload: record.payload,
            })
          }
        }

        const all = await reader.searchMany(QUERIES, { k: K, shards: "all" })
        for (const [i, { hits }] of all.entries()) {
          expect(hits.map(({ id }) => id)).toEqual(
            bruteForce(RECORDS, metric, QUERIES[i]!, K).map(({ id }) => id),
          )
        }
      })
    })
  }
}
