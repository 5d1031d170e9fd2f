import { join } from "node:path"
import { metrics } from "@opentelemetry/api"
import {
  AggregationTemporality,
  InMemoryMetricExporter,
  MeterProvider,
  PeriodicExportingMetricReader,
} from "@opentelemetry/sdk-metrics"
import fc from "fast-check"
import * as prometheus from "prom-client"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { buildSnapshot, openSnapshot, type Reader } from "../../src/index.js"
import { registerMetrics } from "../../src/reader/report/prometheus.js"
import { createDescriptorRouter } from "../../src/sharding/cluster/routing/routing.js"
import { probesFor } from "../../src/sharding/cluster/routing/stopping.js"
import { runCli } from "../support/cli.js"
import { layoutData, layoutStrategy, nearestIds, publishLayout } from "../support/layout-snapshot.js"
import { withTempDir } from "../support/stores.js"

const SHARDS = 8
const DIM = 8
const DATA = layoutData(1500, DIM)
const QUERIES = Array.from({ length: 100 }, (_, i) => DATA.queries.slice(i * DIM, (i + 1) * DIM))
/** Noise, which is near no centre. */
const UNLIKE = Array.from({ length: 100 }, (_, i) =>
  Float32Array.from({ length: DIM }, (_, j) => Math.sin(97 * i + 31 * j * j)),
)
const made = layoutStrategy(DATA, SHARDS, "affinity")
const ranked = (query: Float32Array) => createDescriptorRouter(made.layout.routing).route(query)

const metricReader = new PeriodicExportingMetricReader({
  exporter: new InMemoryMetricExporter(AggregationTemporality.DELTA),
  exportIntervalMillis: 1e9,
})
let root: string
let cacheDir: string
let leave = (): void => {}
let left: Promise<void>
let reader: Reader
beforeAll(async () => {
  metrics.setGlobalMeterProvider(new MeterProvider({ readers: [metricReader] }))
  await new Promise<void>((resolve, reject) => {
    left = withTempDir(async (dir) => {
      root = join(dir, "root")
      cacheDir = join(dir, "cache")
      await publishLayout(root, "layoutlayout", DATA, made)
      reader = await openSnapshot(root, { cacheDir })
      resolve()
      await new Promise<void>((end) => {
        leave = end
      })
      await reader.close()
    })
    left.catch(reject)
  })
})
afterAll(async () => {
  metrics.disable()
  leave()
  await left
})

describe("targetRecall", () => {
  it("goes to as many of the ranked shards as the measured rule says, for each query by itself", async () => {
    const answers = await reader.searchMany(QUERIES, { targetRecall: 0.95 })
    const counts = answers.map(({ shards, expectedRecall }, i) => {
      const route = ranked(QUERIES[i]!)
      const rule = probesFor(made.layout.routing.stopping, route, 0.95)
      expect(shards.asked).toEqual([...route.shards.subarray(0, rule.probes)])
      expect(expectedRecall).toBe(rule.expectedRecall)
      expect(expectedRecall).toBeGreaterThan(0.9)
      return shards.asked.length
    })
    expect(new Set(counts).size).toBeGreaterThan(1)
  })

  it("reaches the target on average, and 1 asks every shard", async () => {
    for (const targetRecall of [0.9, 0.98]) {
      expect(meanRecall(await reader.searchMany(QUERIES, { targetRecall }))).toBeGreaterThan(
        targetRecall - 0.03,
      )
    }
    const all = await reader.searchMany(QUERIES, { targetRecall: 1 })
    expect(meanRecall(all)).toBe(1)
    for (const { shards, expectedRecall } of all) {
      expect(shards.asked).toHaveLength(SHARDS)
      expect(expectedRecall).toBeCloseTo(1, 6)
    }
  })

  it("says nothing of expected recall without a target", async () => {
    expect(await reader.search(QUERIES[0]!, { probes: 2 })).not.toHaveProperty("expectedRecall")
  })

  it.each([
    [{ probes: 2, targetRecall: 0.9 }, /^probes and targetRecall are both given/],
    [{ shards: [1], targetRecall: 0.9 }, /^targetRecall and shards are both given/],
    [{ shards: [1], probes: "all" as const }, /^probes and shards are both given/],
    [{ targetRecall: 0 }, /^targetRecall is 0, expected a number above 0, at most 1/],
    [{ targetRecall: 1.01 }, /^targetRecall is 1.01/],
  ])("refuses %o", async (options, message) => {
    await expect(reader.search(QUERIES[0]!, options)).rejects.toMatchObject({
      tag: "InvalidInput",
      message: expect.stringMatching(message),
    })
  })

  it("is refused by snapshots whose routing was not measured, with what to do", () =>
    withTempDir(async (dir) => {
      const records = QUERIES.map((vector, id) => ({ id, vector, shard: id % 2 }))
      // Too few rows for a certificate.
      const message =
        /has no recall certificate, .* use probes, or build it again with one, best with the layout affinity or fast$/
      for (const strategy of ["cluster", "lsh"] as const) {
        const to = join(dir, strategy)
        // A layout that is the default one day must not make this pass or fail.
        const sharding =
          strategy === "lsh" ? { strategy, shards: 2 } : { strategy, shards: 2, layout: "plain" as const }
        await buildSnapshot(records, { to, sharding })
        await using plain = await openSnapshot(to, { cacheDir: join(dir, "cache") })
        await expect(plain.search(QUERIES[0]!, { targetRecall: 0.9 })).rejects.toMatchObject({
          tag: "Unsupported",
          message: expect.stringMatching(message),
        })
        expect((await plain.search(QUERIES[0]!, { probes: 1 })).hits).not.toEqual([])
        expect((await plain.health()).unlikeQueries).toBeUndefined()
      }
    }))

  it("is an option of `vecsnap query`, whose answer says what is expected", async () => {
    const args = ["query", root, "--like", "7", "--target-recall", ".95", "--cache-dir", cacheDir]
    const { stdout } = await runCli([...args, "--json"])
    const { hits, shards, expectedRecall } = JSON.parse(stdout)
    expect(hits).toHaveLength(10)
    const rule = probesFor(made.layout.routing.stopping, ranked(DATA.rows.slice(7 * DIM, 8 * DIM)), 0.95)
    expect(shards.asked).toHaveLength(rule.probes)
    expect(expectedRecall).toBe(rule.expectedRecall)
    expect((await runCli(args)).stdout).toContain(
      `; expected recall ${rule.expectedRecall.toFixed(3)}; snapshot`,
    )
    const both = await runCli([...args, "--probes", "2"])
    expect(both).toMatchObject({ code: 2, stderr: expect.stringContaining("probes and targetRecall") })
  })
})

describe("copies of rows", () => {
  it("are in several shards, and in an answer once", async () => {
    expect(reader.snapshot.rows).toBe(1500 + made.layout.copies!.shard.length)
    expect(made.layout.copies!.shard.length).toBeGreaterThan(200)
    for (const query of QUERIES.slice(0, 20)) {
      const { hits } = await reader.search(query, { probes: "all", k: 50 })
      expect(hits.map(({ id }) => id)).toEqual(nearestIds(DATA, query, 50))
    }
    const held = Array.from(made.layout.copies!.start).findIndex((start, row, all) => all[row + 1]! > start)
    const [record] = await reader.get([held], { shards: "all" })
    expect(record!.id).toBe(held)
  })
})

it("recall never falls when probes grow, nor when the target does", async () => {
  const order = fc.record({
    query: fc.nat({ max: QUERIES.length - 1 }),
    probes: fc.integer({ min: 1, max: SHARDS - 1 }),
    target: fc.double({ min: 0.01, max: 0.99, noNaN: true }),
    more: fc.double({ min: 0, max: 0.5, noNaN: true }),
  })
  await fc.assert(
    fc.asyncProperty(order, async ({ query, probes, target, more }) => {
      const vector = QUERIES[query]!
      for (const [less, greater] of [
        [{ probes }, { probes: probes + 1 }],
        [{ targetRecall: target }, { targetRecall: Math.min(1, target + more) }],
      ]) {
        const few = await reader.search(vector, less)
        const many = await reader.search(vector, greater)
        expect(many.shards.asked.slice(0, few.shards.asked.length)).toEqual(few.shards.asked)
        expect(recallOf(many.hits, vector)).toBeGreaterThanOrEqual(recallOf(few.hits, vector))
      }
    }),
    { numRuns: 60 },
  )
})

it("health and metrics tell the share of queries that are unlike the rows", () =>
  withTempDir(async (dir) => {
    await using own = await openSnapshot(root, { cacheDir: join(dir, "cache") })
    const registry = new prometheus.Registry()
    registerMetrics(own, prometheus, registry)
    const gauges = async () => {
      const { resourceMetrics } = await metricReader.collect()
      const found = resourceMetrics.scopeMetrics
        .flatMap((scope) => scope.metrics)
        .filter(({ descriptor }) => descriptor.name === "vecsnap.search.unlike_share")
      const lines = (await registry.metrics()).split("\n")
      return [
        found.flatMap(({ dataPoints }) => dataPoints.map(({ value }) => value)).at(-1),
        lines.find((line) => line.startsWith("vecsnap_search_unlike_share{")),
      ]
    }
    expect((await own.health()).unlikeQueries).toBeUndefined()
    expect((await gauges())[1]).toBeUndefined()

    await own.searchMany(QUERIES, { probes: 1 })
    await own.searchMany(QUERIES, { probes: 1 })
    const like = await own.health()
    expect(like).toMatchObject({ status: "healthy", reasons: [], unlikeQueries: { of: 200 } })
    const { unlikeBelow } = made.layout.routing.stopping
    const isUnlike = (query: Float32Array) => Number(ranked(query).familiarity < unlikeBelow)
    const before = 2 * QUERIES.reduce((sum, query) => sum + isUnlike(query), 0)
    expect(like.unlikeQueries!.share).toBe(before / 200)
    expect(like.unlikeQueries!.share).toBeLessThan(0.15)

    await own.searchMany([...UNLIKE, ...UNLIKE, ...UNLIKE], { targetRecall: 0.9 })
    await own.search(QUERIES[0]!, { shards: [0] }) // says nothing of the query
    const share = (before + 3 * UNLIKE.reduce((sum, query) => sum + isUnlike(query), 0)) / 500
    const health = await own.health()
    expect(health.unlikeQueries).toEqual({ share, of: 500 })
    expect(health.status).toBe("healthy")
    expect(health.reasons).toEqual([
      `${Math.round(100 * share)} % of the last 500 queries are unlike the rows, so that recall is lower than expected: build with a sample of them`,
    ])
    expect(await gauges()).toEqual([share, expect.stringMatching(new RegExp(`} ${share}$`))])
  }))

function recallOf(hits: readonly { readonly id: unknown }[], query: Float32Array): number {
  const wanted = new Set<unknown>(nearestIds(DATA, query, 10))
  return hits.filter(({ id }) => wanted.has(id)).length / 10
}

const meanRecall = (answers: readonly { hits: readonly { id: unknown }[] }[]): number =>
  answers.reduce((sum, { hits }, i) => sum + recallOf(hits, QUERIES[i]!), 0) / answers.length
