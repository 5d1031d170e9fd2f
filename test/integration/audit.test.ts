/** Live queries that are asked again: what readers tell of the recall that users get. */
import { join } from "node:path"
import * as prometheus from "prom-client"
import { expect, it, vi } from "vitest"
import {
  buildSnapshot,
  type OpenOptions,
  openSnapshot,
  openSource,
  type SearchOptions,
} from "../../src/index.js"
import { registerMetrics } from "../../src/reader/report/prometheus.js"
import { noiseRows } from "../contract/shard-rows.js"
import { withTempDir } from "../support/stores.js"

const recordsOf = (rows: number) =>
  noiseRows(rows, 8).map(({ id, vector }) => ({ id: String(id), vector: Float32Array.from(vector) }))
const RECORDS = recordsOf(600)
const ASKED = noiseRows(20, 8, 77).map(({ vector }) => Float32Array.from(vector))
const QUERIES = ASKED.slice(0, 3)
const K = 10

async function withRoot(
  work: (root: string, dir: string) => Promise<void>,
  { records = RECORDS, shards = 8 } = {},
): Promise<void> {
  await withTempDir(async (dir) => {
    const root = join(dir, "root")
    await buildSnapshot(records, { to: root, sharding: { strategy: "cluster", shards } })
    await work(root, dir)
  })
}

it("have their recall told by stats, health and metrics, and their vectors kept for the next build", () =>
  withRoot(async (root, dir) => {
    const auditFile = join(dir, "asked.fvecs")
    const options: OpenOptions = { audit: { share: 1 }, auditFile }
    await using reader = await openSnapshot(root, { ...options, cacheDir: join(dir, "cache") })
    const registry = new prometheus.Registry()
    registerMetrics(reader, prometheus, registry)
    expect(reader.stats().audit).toEqual({ audited: 0, dropped: 0, observedRecall: undefined })
    expect(await registry.metrics()).not.toMatch(/^vecsnap_observed_recall\{/m)
    let found = 0
    for (const query of QUERIES) {
      const near = await reader.search(query, { k: K, probes: 2 })
      const all = await reader.search(query, { k: K, probes: "all" })
      const ids = new Set(all.hits.map(({ id }) => id))
      found += near.hits.filter(({ id }) => ids.has(id)).length
      const { audited } = reader.stats().audit!
      await vi.waitFor(() => expect(reader.stats().audit!.audited).toBe(audited + 1), { timeout: 60_000 })
      // Those that say which shards they want are none of these.
      await reader.search(query, { shards: [0] })
      await reader.search(query, { shards: "all" })
    }
    const recall = found / (QUERIES.length * K)
    expect(recall).toBeLessThan(1)
    const observed = { queries: QUERIES.length, recall: expect.closeTo(recall, 9), target: undefined }
    expect(reader.stats().audit).toMatchObject({ audited: 3, dropped: 0, observedRecall: observed })
    expect((await reader.health()).observedRecall).toMatchObject(observed)
    const metrics = await registry.metrics()
    for (const [name, value] of [
      ["vecsnap_observed_recall", recall],
      ["vecsnap_observed_recall_queries", QUERIES.length],
    ] as const) {
      const [, told] = new RegExp(`^${name}\\{.*\\} (.*)$`, "m").exec(metrics)!
      expect(Number(told)).toBeCloseTo(value, 9)
    }
    // Whether there is time for the others or not.
    for (const query of ASKED.slice(QUERIES.length)) await reader.search(query, { k: K })
    await reader.close()

    const queries = await openSource([auditFile])
    const { rows } = await buildSnapshot(RECORDS, {
      to: join(dir, "next"),
      queries,
      sharding: { strategy: "cluster", shards: 8 },
    })
    expect(rows).toBe(RECORDS.length)
    await using next = await openSnapshot(join(dir, "next"))
    expect(next.snapshot.recall!.queries).toMatchObject({ count: ASKED.length })
  }))

it("are none unless that is asked for", () =>
  withRoot(async (root, dir) => {
    await using reader = await openSnapshot(root, { cacheDir: join(dir, "cache") })
    await reader.search(QUERIES[0]!, { probes: 2 })
    expect(reader.stats().audit).toBeUndefined()
    expect((await reader.health()).observedRecall).toBeUndefined()
  }))

it("are compared with the recall that queries asked for, or that the snapshot gives by default", () =>
  withRoot(
    async (root, dir) => {
      await using reader = await openSnapshot(root, { audit: { share: 1 }, cacheDir: join(dir, "cache") })
      const targetOf = async (options: SearchOptions, audited: number) => {
        await reader.search(QUERIES[0]!, { k: K, ...options })
        await vi.waitFor(() => expect(reader.stats().audit!.audited).toBe(audited), { timeout: 60_000 })
        return reader.stats().audit!.observedRecall!.target
      }
      expect(await targetOf({ targetRecall: 0.8 }, 1)).toBe(0.8)
      expect(await targetOf({}, 2)).toBeCloseTo((0.8 + 0.95) / 2, 9)
      expect(await targetOf({ probes: 1 }, 3)).toBeUndefined()
    },
    // Enough rows a shard for cells, of which the build then learns how many a target takes.
    { records: recordsOf(4000), shards: 2 },
  ))
