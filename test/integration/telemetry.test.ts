import { AsyncLocalStorage } from "node:async_hooks"
import { randomUUID } from "node:crypto"
import { join } from "node:path"
import { type Context, type ContextManager, context, metrics, ROOT_CONTEXT, trace } from "@opentelemetry/api"
import {
  AggregationTemporality,
  InMemoryMetricExporter,
  MeterProvider,
  PeriodicExportingMetricReader,
} from "@opentelemetry/sdk-metrics"
import { BasicTracerProvider, InMemorySpanExporter, SimpleSpanProcessor } from "@opentelemetry/sdk-trace-base"
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest"
import { buildSnapshot, openSnapshot, openStore } from "../../src/index.js"
import { FIELDS, makeRecords } from "../support/records.js"
import { withTempDir } from "../support/stores.js"

const RECORDS = makeRecords(120, { dim: 8 })
const QUERY = RECORDS[3]!.vector as Float32Array

/** What keeps a span's children together, as the SDK for Node does it. */
function asyncContext(): ContextManager {
  const storage = new AsyncLocalStorage<Context>()
  const manager: ContextManager = {
    active: () => storage.getStore() ?? ROOT_CONTEXT,
    with: (active, work, thisArg, ...args) => storage.run(active, () => work.call(thisArg as never, ...args)),
    bind: (_, target) => target,
    enable: () => manager,
    disable: () => manager,
  }
  return manager
}

const spans = new InMemorySpanExporter()
const metricReader = new PeriodicExportingMetricReader({
  // Changes since the last collection, so that what is no longer observed is no longer there.
  exporter: new InMemoryMetricExporter(AggregationTemporality.DELTA),
  exportIntervalMillis: 1e9,
})
beforeAll(() => {
  trace.setGlobalTracerProvider(new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(spans)] }))
  metrics.setGlobalMeterProvider(new MeterProvider({ readers: [metricReader] }))
  context.setGlobalContextManager(asyncContext())
})
afterAll(() => {
  for (const api of [trace, metrics, context]) api.disable()
})
beforeEach(() => spans.reset())

interface Point {
  readonly attributes: Record<string, unknown>
  readonly value: unknown
}

/** The points of one root, by metric; without the attribute that names the root. */
async function collect(root: string): Promise<Record<string, Point[]>> {
  const { resourceMetrics } = await metricReader.collect()
  const collected: Record<string, Point[]> = {}
  for (const { descriptor, dataPoints } of resourceMetrics.scopeMetrics.flatMap((scope) => scope.metrics)) {
    for (const { attributes, value } of dataPoints) {
      const { "vecsnap.root": of, ...rest } = attributes
      if (of !== root) continue
      collected[descriptor.name] ??= []
      collected[descriptor.name]!.push({ attributes: rest, value })
    }
  }
  return collected
}

const spanTree = () => {
  const finished = spans.getFinishedSpans()
  const nameOf = new Map(finished.map((span) => [span.spanContext().spanId, span.name]))
  return finished.map((span) => [span.name, nameOf.get(span.parentSpanContext?.spanId ?? "")])
}

function withRoot(work: (root: string, cacheDir: string) => Promise<void>): Promise<void> {
  return withTempDir(async (dir) => {
    const root = `memory://telemetry-${randomUUID()}`
    await build(root)
    spans.reset()
    await work(root, join(dir, "cache"))
  })
}

const notOfBuilds = (name: string): boolean => !name.startsWith("vecsnap.build.")

const build = (to: string, shards = 3) =>
  buildSnapshot(RECORDS, { to, fields: FIELDS, sharding: { strategy: "cluster", shards } })

describe("telemetry of a reader", () => {
  it("counts searches, opens, downloads and refreshes, and observes age, open shards and queue", () =>
    withRoot(async (root, cacheDir) => {
      {
        await using reader = await openSnapshot(root, { cacheDir })
        await reader.search(QUERY, { probes: 2 })
        await reader.searchMany([QUERY, QUERY, QUERY], { probes: "all" })
        await reader.refresh()
        await build(root, 2)
        await reader.refresh()
        const collected = await collect(root)
        expect(Object.keys(collected).filter(notOfBuilds).sort()).toEqual([
          "vecsnap.open_shards",
          "vecsnap.queue.length",
          "vecsnap.refreshes",
          "vecsnap.search.duration",
          "vecsnap.search.shards",
          "vecsnap.shard.download.bytes",
          "vecsnap.shard.downloads",
          "vecsnap.shard.opens",
          "vecsnap.snapshot.age",
        ])
        const [duration, ...otherDurations] = collected["vecsnap.search.duration"]!
        expect(otherDurations).toEqual([])
        expect(duration!.attributes).toEqual({ "vecsnap.outcome": "complete" })
        expect(duration!.value).toMatchObject({ count: 2 })
        expect(collected["vecsnap.search.shards"]).toMatchObject([{ value: { count: 4, sum: 2 + 3 * 3 } }])
        const { shardOpens, shardDownloads, openShards, requests } = reader.stats()
        expect(collected["vecsnap.shard.opens"]).toEqual([{ attributes: {}, value: shardOpens }])
        expect(collected["vecsnap.shard.downloads"]).toEqual([{ attributes: {}, value: shardDownloads }])
        const [bytes] = collected["vecsnap.shard.download.bytes"]!
        expect(bytes!.value).toBeGreaterThan(1000)
        expect(bytes!.value).toBeLessThan(requests.bytesRead)
        expect(collected["vecsnap.refreshes"]).toEqual([
          { attributes: { "vecsnap.outcome": "unchanged" }, value: 1 },
          { attributes: { "vecsnap.outcome": "changed" }, value: 1 },
        ])
        expect(collected["vecsnap.open_shards"]).toEqual([{ attributes: {}, value: openShards }])
        expect(collected["vecsnap.queue.length"]).toEqual([{ attributes: {}, value: 0 }])
        const [age] = collected["vecsnap.snapshot.age"]!
        expect(age!.value).toBeGreaterThanOrEqual(0)
        expect(age!.value).toBeLessThan(60)
      }
      // What is closed is observed no more.
      expect(await collect(root)).not.toHaveProperty(["vecsnap.open_shards"])
    }))

  it("traces a search with its route, and the downloads and opens that it needs", () =>
    withRoot(async (root, cacheDir) => {
      await using reader = await openSnapshot(root, { cacheDir })
      await reader.search(QUERY, { probes: 1 })
      expect(spanTree()).toEqual([
        ["vecsnap.route", "vecsnap.search"],
        ["vecsnap.download", "vecsnap.search"],
        ["vecsnap.open", "vecsnap.search"],
        ["vecsnap.search", undefined],
      ])
      const search = spans.getFinishedSpans().at(-1)!
      expect(search.attributes).toEqual({ "vecsnap.root": root, "vecsnap.queries": 1, "vecsnap.shards": 1 })
      spans.reset()
      await reader.get(["id-1"])
      await reader.refresh()
      expect(spanTree().map(([name]) => name)).toEqual(
        expect.arrayContaining(["vecsnap.get", "vecsnap.refresh"]),
      )
    }))

  it("tells errors by operation and tag, and partial answers from complete ones", () =>
    withRoot(async (root, cacheDir) => {
      const store = openStore(root)
      for await (const { key } of store.list("shards/")) {
        await store.put(key, Buffer.from("not a shard"))
        break
      }
      await using reader = await openSnapshot(root, { cacheDir })
      await expect(reader.search([1, 2])).rejects.toMatchObject({ tag: "InvalidInput" })
      expect(spans.getFinishedSpans().at(-1)).toMatchObject({
        name: "vecsnap.search",
        attributes: { "error.type": "InvalidInput" },
        status: { code: 2 },
      })
      await reader.search(QUERY, { probes: "all", partial: "allow" })
      await store.put("_CURRENT", Buffer.from("{}"))
      await expect(reader.refresh()).rejects.toMatchObject({ tag: "Corrupt" })
      const collected = await collect(root)
      const failures = collected["vecsnap.errors"]!.map(({ attributes }) => attributes)
      for (const [operation, tag] of [
        ["search", "InvalidInput"],
        ["download", "Corrupt"],
        ["refresh", "Corrupt"],
      ])
        expect(failures).toContainEqual({ "vecsnap.operation": operation, "error.type": tag })
      expect(failures).not.toContainEqual({ "vecsnap.operation": "search", "error.type": "Corrupt" })
      const outcomes = collected["vecsnap.search.duration"]!.map(
        ({ attributes }) => attributes["vecsnap.outcome"],
      )
      expect(outcomes.sort()).toEqual(["failed", "partial"])
      expect(collected["vecsnap.refreshes"]).toEqual([
        { attributes: { "vecsnap.outcome": "failed" }, value: 1 },
      ])
    }))
})

describe("telemetry of a build", () => {
  const options = { fields: FIELDS, sharding: { strategy: "lsh", shards: 2 } } as const

  it("records durations, outcome and figures, in a span with one for each stage", async () => {
    const to = `memory://telemetry-${randomUUID()}`
    const report = await buildSnapshot(RECORDS, { to, ...options, publish: false })
    const collected = await collect(to)
    expect(collected["vecsnap.build.duration"]).toMatchObject([
      { attributes: { "vecsnap.outcome": "unpublished" }, value: { count: 1 } },
    ])
    expect(collected["vecsnap.build.rows"]).toEqual([{ attributes: {}, value: 120 }])
    expect(collected["vecsnap.build.size"]).toEqual([{ attributes: {}, value: report.bytes }])
    const stages = collected["vecsnap.build.stage.duration"]!.map(
      ({ attributes }) => attributes["vecsnap.stage"],
    )
    expect(stages).toEqual(expect.arrayContaining(["partition", "shards", "manifest"]))
    expect(spanTree()).toEqual(
      expect.arrayContaining([
        ["vecsnap.build", undefined],
        ["vecsnap.build.partition", "vecsnap.build"],
        ["vecsnap.build.shards", "vecsnap.build"],
      ]),
    )
  })

  it("counts what failed, by tag", async () => {
    const to = `memory://telemetry-${randomUUID()}`
    await expect(buildSnapshot([RECORDS[0]!, RECORDS[0]!], { to, ...options })).rejects.toThrow()
    const collected = await collect(to)
    expect(collected["vecsnap.build.duration"]).toMatchObject([
      { attributes: { "vecsnap.outcome": "failed" } },
    ])
    expect(collected["vecsnap.errors"]).toEqual([
      { attributes: { "vecsnap.operation": "build", "error.type": "InvalidInput" }, value: 1 },
    ])
  })
})
