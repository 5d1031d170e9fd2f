import { describe, expect, test } from "vitest"
import type { BuildFlags } from "../../../cli/arguments.js"
import { resolveBuild, resolveSharding } from "../../../cli/build-request.js"
import { type Config, parseConfig } from "../../../cli/config.js"

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
    [["a"], { to: "x" }, {}, "no strategy is named"],
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
  test("a flag that the strategy does not know is an error", () => {
    expect(() => resolveSharding({ strategy: "cluster", shards: 4, bits: 8 }, {})).toThrow(
      "--bits means nothing to the strategy cluster, which takes shards, probes, seed, iterations, sample-rows",
    )
  })

  test("so is a setting of the configuration for its own strategy", () => {
    expect(() =>
      resolveSharding({}, { sharding: { strategy: "explicit", shards: 4, "sample-rows": 9 } }),
    ).toThrow(
      "sharding.sample-rows of vecsnap.yaml means nothing to the strategy explicit, which takes shards",
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
