import { Command } from "commander"
import { describe, expect, test } from "vitest"
import {
  addBuildOptions,
  addShardingOptions,
  addVectorFileOptions,
  type BuildFlags,
} from "../../../cli/build-options.js"
import {
  resolveBuild,
  resolveIndex,
  resolveQuerySource,
  resolveRelease,
  resolveSharding,
} from "../../../cli/build-request.js"
import { buildCommand } from "../../../cli/commands/build.js"
import { evalCommand } from "../../../cli/commands/eval.js"
import { planCommand } from "../../../cli/commands/plan.js"
import { parseConfig } from "../../../cli/config/check.js"
import type { Config } from "../../../cli/config.js"
import { captureIo } from "./capture.js"

const config = parseConfig(
  `
input: [a.parquet, b.parquet]
format: parquet
to: ./configured
metric: l2
id-column: word
sharding: { strategy: cluster, shards: 64, iterations: 5, sample-rows: 1000 }
custom: { team: search, day: 1 }
storage: { region: eu }
`,
  "vecsnap.yaml",
)

test("the configuration alone is a whole request", () => {
  expect(resolveBuild([], {}, config)).toEqual({
    inputs: ["a.parquet", "b.parquet"],
    source: { format: "parquet", idColumn: "word", store: { s3: { region: "eu" } } },
    build: {
      to: "./configured",
      metric: "l2",
      sharding: { strategy: "cluster", shards: 64, iterations: 5, sampleRows: 1000 },
      custom: { team: "search", day: 1 },
      store: { s3: { region: "eu" } },
    },
  })
})

test("flags override the configuration", () => {
  const flags: BuildFlags = {
    to: "./flag",
    metric: "dot",
    idColumn: "id",
    shards: 8,
    region: "us",
    custom: { day: "2" },
    reuse: false,
    locator: false,
    force: true,
  }
  const { inputs, source, build } = resolveBuild(["c.csv"], flags, config)
  expect(inputs).toEqual(["c.csv"])
  // The format in the configuration is of the configured inputs.
  expect(source).toEqual({ idColumn: "id", store: { s3: { region: "us" } } })
  expect(build).toEqual({
    to: "./flag",
    metric: "dot",
    sharding: { strategy: "cluster", shards: 8, iterations: 5, sampleRows: 1000 },
    custom: { team: "search", day: "2" },
    reuse: false,
    locator: false,
    force: true,
    store: { s3: { region: "us" } },
  })
})

test("SQL as a flag replaces configured inputs", () => {
  const { inputs, source } = resolveBuild([], { sql: "select 1" }, config)
  expect(inputs).toEqual([])
  expect(source).toMatchObject({ sql: "select 1" })
  expect(source).not.toHaveProperty("format")
})

test("reusing shards is not mentioned unless it is turned off", () => {
  expect(resolveBuild([], { reuse: true }, config).build).not.toHaveProperty("reuse")
  expect(resolveBuild([], { locator: true }, config).build).not.toHaveProperty("locator")
})

describe("what is missing or contradicts itself", () => {
  const sharding = { strategy: "explicit", shards: 2 } as const
  test.each<[string[], BuildFlags, Config, string]>([
    [["a"], sharding, {}, "no target is named: give --to <url>, or `to` in vecsnap.yaml"],
    [[], { to: "x", ...sharding }, {}, "nothing to read is named"],
    [["a"], { to: "x", sql: "select 1", ...sharding }, {}, "inputs and sql are both given"],
    [
      ["a"],
      { to: "x", strategy: "cluster" },
      {},
      "the strategy cluster needs a number of shards: give --shards",
    ],
    [["a"], { to: "x", strategy: "cel", shards: 2 }, {}, "the strategy cel needs an expression"],
  ])("%j %j", (inputs, flags, settings, message) => {
    expect(() => resolveBuild(inputs, flags, settings)).toThrow(message)
  })
})

describe("sharding", () => {
  test("is cluster with a number of shards for the input, if no strategy is named", () => {
    expect(resolveBuild(["a"], { to: "x" }, {}).build.sharding).toEqual({
      strategy: "cluster",
      shards: "auto",
    })
    expect(resolveSharding({ shards: 4 }, {})).toEqual({ strategy: "cluster", shards: 4 })
    expect(resolveSharding({}, { sharding: { probes: 2 } })).toEqual({
      strategy: "cluster",
      shards: "auto",
      probes: 2,
    })
    expect(resolveSharding({ shards: 4 }, { sharding: { strategy: "lsh" } })).toEqual({
      strategy: "lsh",
      shards: 4,
    })
  })

  test("a flag that the strategy does not know is an error", () => {
    expect(() => resolveSharding({ strategy: "cluster", shards: 4, bits: 8 }, {})).toThrow(
      "--bits means nothing to the strategy cluster, which takes shards, probes, sample-rows, iterations, seed, layout, replication",
    )
  })

  test("layout and replication are settings of cluster, and a flag overrides each", () => {
    const configured = { strategy: "cluster", shards: 4, layout: "affinity", replication: 1.1 } as const
    const expected = { strategy: "cluster", shards: 4, layout: "affinity" }
    expect(resolveSharding({}, { sharding: configured })).toEqual({
      ...expected,
      replication: { budget: 1.1 },
    })
    expect(resolveSharding({ replication: 1.3 }, { sharding: configured })).toEqual({
      ...expected,
      replication: { budget: 1.3 },
    })
  })

  test("so is a setting of the configuration for its own strategy", () => {
    expect(() =>
      resolveSharding({}, { sharding: { strategy: "explicit", shards: 4, "sample-rows": 9 } }),
    ).toThrow(
      "sharding.sample-rows of vecsnap.yaml means nothing to the strategy explicit, which takes shards",
    )
  })

  test("every option of a strategy has a setting", () => {
    expect(resolveSharding({ strategy: "lsh", shards: 4, probeOrder: "bit" }, {})).toEqual({
      strategy: "lsh",
      shards: 4,
      probeOrder: "bit",
    })
    const configured = parseConfig("sharding: { strategy: lsh, shards: 4, probe-order: bit }", "vecsnap.yaml")
    expect(resolveSharding({}, configured)).toMatchObject({ probeOrder: "bit" })
    const command = addShardingOptions(new Command()).parse(["--probe-order", "margin"], { from: "user" })
    expect(resolveSharding(command.opts(), configured)).toMatchObject({ probeOrder: "margin" })
    expect(() => parseConfig("sharding: { probe-order: best }", "vecsnap.yaml")).toThrow(
      "sharding.probe-order: expected one of margin, bit",
    )
  })

  test("another strategy as a flag leaves behind what it does not know", () => {
    expect(resolveSharding({ strategy: "lsh", bits: 8 }, config)).toEqual({
      strategy: "lsh",
      shards: 64,
      bits: 8,
    })
  })

  test("values and shards of different places do not meet", () => {
    const configured = { sharding: { strategy: "cel", cel: "x", shards: 4 } } as const
    expect(resolveSharding({ values: ["a", "b"] }, configured)).toEqual({
      strategy: "cel",
      expression: "x",
      values: ["a", "b"],
    })
    expect(resolveSharding({}, configured)).toEqual({ strategy: "cel", expression: "x", shards: 4 })
  })
})

describe("release", () => {
  const configured = parseConfig(
    `
gates:
  rows: { min: 1, max-drop-percent: 5, max-grow-percent: 200 }
  allow: [dim, model]
  skipped-rows: { max-percent: 1 }
  duplicates: { max-percent: 2.5 }
  skew: { max: 3 }
  norms: { max-drift-percent: 10 }
  zero-norms: { max-percent: 0 }
  centroid-drift: { max: 0.2 }
  overlap: { min: 0.8, queries: 50, k: 5, probes: all }
retention: { keep-last: 7, keep-days: 30, keep-unpublished-days: 2, grace: 90m }
publish: false
lease-seconds: 60
summary-file: out.json
`,
    "vecsnap.yaml",
  )
  const flagsOf = (...args: string[]): BuildFlags =>
    addBuildOptions(new Command()).parse(args, { from: "user" }).opts()

  test("the configuration alone", () => {
    expect(resolveRelease(flagsOf(), configured)).toEqual({
      gates: {
        rows: { min: 1, maxDropPercent: 5, maxGrowPercent: 200 },
        skippedRows: { maxPercent: 1 },
        duplicates: { maxPercent: 2.5 },
        skew: { max: 3 },
        norms: { maxDriftPercent: 10 },
        zeroNorms: { maxPercent: 0 },
        centroidDrift: { max: 0.2 },
        overlap: { min: 0.8, queries: 50, k: 5, probes: "all" },
      },
      allow: ["dim", "model"],
      retention: { keepLast: 7, keepDays: 30, keepUnpublishedDays: 2, graceSeconds: 5400 },
      publish: false,
      leaseSeconds: 60,
    })
  })

  test("flags override it, and --allow adds to it", () => {
    const flags = flagsOf(
      ...["--publish", "--allow", "skew,dim", "--keep-last", "3", "--keep-days", "0.5"],
      ...["--grace", "2d", "--lease-seconds", "30", "--summary-file", "flag.json"],
    )
    expect(resolveRelease(flags, configured)).toMatchObject({
      allow: ["dim", "model", "skew"],
      retention: { keepLast: 3, keepDays: 0.5, keepUnpublishedDays: 2, graceSeconds: 172_800 },
      publish: true,
      leaseSeconds: 30,
    })
  })

  test("nothing configured: published, nothing checked that can be left out, nothing collected", () => {
    expect(resolveRelease(flagsOf(), {})).toEqual({})
    expect(resolveRelease(flagsOf("--no-publish"), {})).toEqual({ publish: false })
  })
})

test("shards auto is for strategies whose shards are free to choose", () => {
  const auto = parseConfig("sharding: { strategy: cluster, shards: auto }", "vecsnap.yaml")
  expect(resolveSharding({}, auto)).toEqual({ strategy: "cluster", shards: "auto" })
  expect(resolveSharding({ shards: 4 }, auto)).toEqual({ strategy: "cluster", shards: 4 })
  expect(() => resolveSharding({ strategy: "explicit", shards: "auto" }, {})).toThrow(
    "shards auto means nothing to the strategy explicit, whose records say which shards there are: expected a number",
  )
})

describe("options of the shard index", () => {
  const lancedb = { backend: "lancedb", index: { "exact-rows-max": 0, "rows-per-partition": 64 } } as const

  test("have in the library the names of the library; flags override the configuration one by one", () => {
    expect(resolveIndex({}, {})).toBeUndefined()
    expect(resolveIndex({ index: { "rows-per-partition": 8 } }, lancedb)).toEqual({
      exactRowsMax: 0,
      rowsPerPartition: 8,
    })
    const asked = parseConfig(
      "to: ./a\ninput: b.csv\nbackend: lancedb\nindex: { exact-rows-max: 7 }",
      "v.yaml",
    )
    const { build } = resolveBuild([], { strategy: "lsh", shards: 2 }, asked)
    expect(build.index).toEqual({ exactRowsMax: 7 })
  })

  test("that the backend does not have are refused, but left behind with a backend of the configuration", () => {
    expect(resolveIndex({ backend: "sqlite-vec" }, lancedb)).toBeUndefined()
    expect(() => resolveIndex({ index: { "exact-rows-max": 1 } }, {})).toThrow(
      "--index exact-rows-max means nothing to the backend sqlite-vec, which has no options",
    )
    expect(() => resolveIndex({}, { index: { "exact-rows-max": 1 } })).toThrow(
      "index.exact-rows-max of vecsnap.yaml means nothing to the backend sqlite-vec",
    )
  })

  test("are named on the command line one at a time, with a whole number", () => {
    const parse = (...values: string[]): BuildFlags => {
      const command = new Command().exitOverride().configureOutput({ writeErr: () => {} })
      addBuildOptions(command)
      return command
        .parse(
          values.flatMap((value) => ["--index", value]),
          { from: "user" },
        )
        .opts()
    }
    expect(parse("exact-rows-max=0", "rows-per-partition=8").index).toEqual({
      "exact-rows-max": 0,
      "rows-per-partition": 8,
    })
    expect(() => parse("rows-per-partitions=8")).toThrow("Did you mean rows-per-partition?")
    expect(() => parse("exact-rows-max=1", "exact-rows-max=2")).toThrow("exact-rows-max is there twice")
    expect(() => parse("exact-rows-max=x")).toThrow("Expected a whole number from 0.")
  })
})

test("queries are read as the inputs are, but each file has a format of its own, and no payload", () => {
  const mapping = {
    idColumn: "key",
    vectorColumn: "emb",
    vectorEncoding: "int8",
    binaryAsString: true,
  } as const
  const flags: BuildFlags = {
    ...mapping,
    to: "x",
    format: "parquet",
    queries: ["q.npy"],
    payloadColumns: ["title"],
  }
  const { source, queries } = resolveBuild(["a"], flags, {})
  expect(source).toMatchObject({ ...mapping, format: "parquet", payloadColumns: ["title"] })
  expect(queries).toEqual({ inputs: ["q.npy"], source: { ...mapping, payloadColumns: [], store: {} } })
  const alone = resolveQuerySource({ format: "parquet", vectorEncoding: "uint8" }, { "vector-column": "v" })
  expect(alone).toEqual({
    format: "parquet",
    vectorColumn: "v",
    vectorEncoding: "uint8",
    payloadColumns: [],
    store: {},
  })
})

test("every command that reads vectors from files takes the same options for them", () => {
  const longs = (command: Command) => command.options.map(({ long }) => long)
  const shared = longs(addVectorFileOptions(new Command(), "files"))
  expect(shared).toContain("--vector-encoding")
  for (const create of [buildCommand, planCommand, evalCommand])
    expect(longs(create(captureIo()))).toEqual(expect.arrayContaining(shared))
})
