import { describe, expect, test } from "vitest"
import { resolveDescription, resolveSharding, type ShardingOptions } from "../../../src/sharding/registry.js"

const resolve = (options: unknown) => resolveSharding(options as ShardingOptions)

describe("defaults", () => {
  test("are filled in, and the result is frozen", () => {
    expect(resolve({ strategy: "cluster", shards: 16 })).toEqual({
      strategy: "cluster",
      shards: 16,
      probes: 2,
      sampleRows: 20_000,
      iterations: 20,
      seed: 1,
      layout: "auto",
      replication: { budget: 1.2 },
    })
    expect(resolve({ strategy: "cluster", shards: 16, layout: "affinity" })).toMatchObject({
      replication: { budget: 1.2 },
    })
    expect(resolve({ strategy: "cluster", shards: 1000 })).toMatchObject({ probes: 125, sampleRows: 256_000 })
    expect(resolve({ strategy: "lsh", shards: 100 })).toEqual({
      strategy: "lsh",
      shards: 100,
      bits: 9,
      probes: 13,
      seed: 1,
      probeOrder: "margin",
    })
    expect(resolve({ strategy: "lsh", shards: 1 })).toMatchObject({ bits: 8, probes: 1 })
    expect(resolve({ strategy: "explicit", shards: 3 })).toEqual({ strategy: "explicit", shards: 3 })
    const options = resolve({ strategy: "cel", values: ["a", 1], expression: "x" })
    expect(options).toEqual({ strategy: "cel", shards: 2, expression: "x", values: ["a", 1n] })
    expect(Object.isFrozen(options)).toBe(true)
  })
})

test.each([
  [undefined, "sharding must be an object with a strategy; got nothing"],
  [{}, "sharding.strategy must be one of cluster, lsh, explicit, cel; got nothing"],
  [{ strategy: "hash" }, 'sharding.strategy must be one of cluster, lsh, explicit, cel; got "hash"'],
  [{ strategy: "cluster" }, "sharding.shards must be an integer from 1 to 65536; got nothing"],
  [{ strategy: "cluster", shards: 0 }, "sharding.shards must be an integer from 1 to 65536; got 0"],
  [{ strategy: "cluster", shards: "16" }, 'sharding.shards must be an integer from 1 to 65536; got "16"'],
  [
    { strategy: "cluster", shards: 4, probes: 1.5 },
    "sharding.probes must be an integer from 1 to 65536; got 1.5",
  ],
  [
    { strategy: "cluster", shards: 4, sampleRows: 3 },
    "sharding.sampleRows must be an integer from 4 to 67108864; got 3",
  ],
  [
    { strategy: "cluster", shards: 4, bits: 3 },
    "the cluster strategy has no option sharding.bits; it has shards, probes, sampleRows, iterations, seed, layout, replication",
  ],
  [
    { strategy: "cluster", shards: 4, layout: "best" },
    'sharding.layout must be one of auto, affinity, fast, plain; got "best"',
  ],
  [
    { strategy: "cluster", shards: 4, layout: "affinity", replication: { budget: 0.9 } },
    "sharding.replication.budget must be a number from 1 to 16; got 0.9",
  ],
  [
    { strategy: "cluster", shards: 4, layout: "plain", replication: { budget: 1.1 } },
    "sharding.replication.budget must be 1 with the layout plain, which makes no copies; got 1.1",
  ],
  [
    { strategy: "cluster", shards: 4, layout: "fast", replication: { budget: 2.1 } },
    "sharding.replication.budget must be a number from 1 to 2 with the layout fast; got 2.1",
  ],
  [
    { strategy: "cluster", shards: 4, layout: "affinity", replication: { copies: 2 } },
    "sharding.replication has no option copies; it has budget",
  ],
  [{ strategy: "lsh", shards: 100, bits: 6 }, "sharding.bits must be an integer from 7 to 1024; got 6"],
  [
    { strategy: "lsh", shards: 4, probeOrder: "best" },
    'sharding.probeOrder must be "margin" or "bit"; got "best"',
  ],
  [
    { strategy: "cel", shards: 4 },
    "sharding.expression must be CEL text, for example `shard_hash(tenant) % 16u`; got nothing",
  ],
  [{ strategy: "cel", expression: "x" }, "sharding.shards must be an integer from 1 to 65536; got nothing"],
  [
    { strategy: "cel", expression: "x", values: ["a"], shards: 2 },
    "sharding.shards must be 1, the number of sharding.values, or nothing; got 2",
  ],
  [
    { strategy: "cel", expression: "x", values: [] },
    "sharding.values must be a list of 1 to 65536 strings or integers; got 0 values",
  ],
  [
    { strategy: "cel", expression: "x", values: [0.5] },
    "sharding.values[0] must be a string without NUL, or an integer; got 0.5",
  ],
  [
    { strategy: "cel", expression: "x", values: ["a\0b"] },
    'sharding.values[0] must be a string without NUL, or an integer; got "a\\u0000b"',
  ],
  [
    { strategy: "cel", expression: "x", values: [1, 1n] },
    "sharding.values must be distinct values; got 1 twice",
  ],
])("%o is refused", (options, message) => {
  expect(() => resolve(options)).toThrow(expect.objectContaining({ tag: "InvalidInput", message }))
})

describe("descriptions of manifests", () => {
  test("ignore options of later versions", () => {
    expect(resolveDescription({ strategy: "explicit", shards: 3, options: { colour: "red" } }).shards).toBe(3)
  })

  test("that are wrong are Corrupt", () => {
    expect(() => resolveDescription({ strategy: "lsh", shards: 3, options: { bits: 0 } })).toThrow(
      expect.objectContaining({
        tag: "Corrupt",
        message: "the manifest's sharding is damaged: sharding.bits must be an integer from 1 to 1024; got 0",
      }),
    )
    expect(() =>
      resolveDescription({ strategy: "cel", shards: 3, options: { expression: "x", values: ["a"] } }),
    ).toThrow(expect.objectContaining({ tag: "Corrupt" }))
  })
})
