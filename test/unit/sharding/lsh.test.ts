import fc from "fast-check"
import { describe, expect, test } from "vitest"
import {
  bucketsByBit,
  bucketsByMargin,
  createLsh,
  createLshTable,
  drawHyperplanes,
  type LshOptions,
  lshCode,
  type ResolvedLsh,
} from "../../../src/sharding/lsh.js"
import { resolveSharding } from "../../../src/sharding/registry.js"
import { batchOf, everyShard, gaussians } from "./batches.js"

function lsh(dim: number, options: Omit<LshOptions, "strategy">) {
  const resolved = resolveSharding({ strategy: "lsh", ...options }) as ResolvedLsh
  return createLsh(
    resolved,
    { dim, metric: "cosine", fields: [] },
    drawHyperplanes(resolved.bits, dim, resolved.seed),
  )
}

const distinctShards = (buckets: Iterable<{ shard: number }>) => [
  ...new Set(Array.from(buckets, ({ shard }) => shard)),
]

describe("reference values of shardyfusion", () => {
  const hyperplanes = { shape: [3, 2], data: Float32Array.of(1, 0, 0, 1, 0, -1) }

  test("bits 1, 0, 1 are code 5, of 3 shards the shard 2", () => {
    const code = (shards: number) => lshCode(createLshTable(hyperplanes, shards), Float32Array.of(1, -2))
    expect(code(8).shard).toBe(5)
    expect(code(3).shard).toBe(2)
    expect(distinctShards(bucketsByBit(code(3), 3))).toEqual([2, 1])
  })

  test.each([
    [1, [2]],
    [2, [2, 1]],
    // Where the reference has no more, ours goes on with what no single flip leads to.
    [3, [2, 1, 0]],
    [4, [2, 1, 0]],
  ])("%i probes ask the shards %j", (probes, shards) => {
    const resolved = resolveSharding({
      strategy: "lsh",
      shards: 3,
      bits: 3,
      probeOrder: "bit",
    } as LshOptions) as ResolvedLsh
    const strategy = createLsh(resolved, { dim: 2, metric: "l2", fields: [] }, hyperplanes)
    const ranked = strategy.rank({ vector: Float32Array.of(1, -2), probes }, everyShard)
    expect(ranked.shards.map(({ shard }) => shard)).toEqual(shards)
  })

  test("the sides are strict: a zero vector has code 0", () => {
    expect(lshCode(createLshTable(hyperplanes, 8), Float32Array.of(0, 0)).shard).toBe(0)
  })
})

/** Section 6.2 of the format by definition, with codes as BigInt. */
function codeByDefinition(data: Float32Array, dim: number, bits: number, vector: Float32Array): bigint {
  let code = 0n
  for (let bit = 0; bit < bits; bit++) {
    let product = 0
    for (let i = 0; i < dim; i++) product += data[bit * dim + i]! * vector[i]!
    if (product > 0) code |= 1n << BigInt(bit)
  }
  return code
}

const cases = fc.record({
  bits: fc.integer({ min: 1, max: 130 }),
  shards: fc.integer({ min: 1, max: 1000 }),
  dim: fc.integer({ min: 1, max: 4 }),
  seed: fc.integer(),
})

describe("codes beyond 53 bits", () => {
  test("shard and single flips agree with BigInt arithmetic", () => {
    fc.assert(
      fc.property(cases, ({ bits, shards, dim, seed }) => {
        const hyperplanes = drawHyperplanes(bits, dim, seed)
        const vector = gaussians(1, dim, seed + 1)
        const code = codeByDefinition(hyperplanes.data as Float32Array, dim, bits, vector)
        const n = BigInt(shards)
        const expected = [Number(code % n)]
        for (let bit = 0n; bit < bits; bit++) expected.push(Number((code ^ (1n << bit)) % n))
        const found = lshCode(createLshTable(hyperplanes, shards), vector)
        expect(Array.from(bucketsByBit(found, shards), ({ shard }) => shard)).toEqual(expected)
      }),
    )
  })
})

describe("buckets by margin", () => {
  test("come by rising sum of margins crossed, every set of flips once", () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 7 }), fc.integer(), (bits, seed) => {
        const shards = 2 ** bits // the shard is the code: every set of flips has one of its own
        const dim = 3
        const hyperplanes = drawHyperplanes(bits, dim, seed)
        const vector = gaussians(1, dim, seed + 1)
        const code = lshCode(createLshTable(hyperplanes, shards), vector)
        const buckets = [...bucketsByMargin(code, shards)]
        expect(new Set(buckets.map(({ shard }) => shard)).size).toBe(shards)
        const own = Number(codeByDefinition(hyperplanes.data as Float32Array, dim, bits, vector))
        for (const [place, { shard, score }] of buckets.entries()) {
          const flips = shard ^ own
          const sum = code.margins.reduce(
            (total, margin, bit) => (flips & (1 << bit) ? total + margin : total),
            0,
          )
          expect(score).toBeCloseTo(sum, 10)
          if (place > 0) expect(score).toBeGreaterThanOrEqual(buckets[place - 1]!.score)
        }
      }),
    )
  })

  test("a margin is the distance from the hyperplane, whatever the length of its normal", () => {
    const table = createLshTable({ shape: [2, 2], data: Float32Array.of(10, 0, 0, 0.5) }, 4)
    expect([...lshCode(table, Float32Array.of(3, -4)).margins]).toEqual([3, 4])
  })
})

describe("strategy", () => {
  test("a record's shard is the first of its own route", () => {
    for (const probeOrder of ["margin", "bit"] as const) {
      const strategy = lsh(5, { shards: 6, probeOrder })
      const vectors = gaussians(50, 5, 3)
      const assigned = strategy.assign(batchOf(vectors, 5))
      for (const [row, shard] of assigned.entries()) {
        const vector = vectors.slice(row * 5, (row + 1) * 5)
        expect(strategy.rank({ vector }, everyShard).shards[0]!.shard).toBe(shard)
      }
      expect(new Set(assigned).size).toBe(6)
    }
  })

  test("gives different present shards, as many as probes while there are, and the best of all first", () => {
    const requests = fc.record({
      probeOrder: fc.constantFrom("margin" as const, "bit" as const),
      bits: fc.integer({ min: 4, max: 80 }),
      present: fc.array(fc.boolean(), { minLength: 11, maxLength: 11 }),
      probes: fc.oneof(fc.integer({ min: 1, max: 14 }), fc.constant("all" as const)),
      seed: fc.integer(),
    })
    fc.assert(
      fc.property(requests, ({ probeOrder, bits, present, probes, seed }) => {
        const strategy = lsh(3, { shards: 11, bits, probeOrder })
        const vector = gaussians(1, 3, seed)
        const ranked = strategy.rank({ vector, probes: "all" }, everyShard).shards
        expect(ranked.map(({ shard }) => shard).toSorted((a, b) => a - b)).toEqual([...Array(11).keys()])
        const expected = ranked.filter(({ shard }) => present[shard]).slice(0, probes === "all" ? 11 : probes)
        const routed = strategy.rank({ vector, probes }, (shard) => present[shard]!).shards
        expect(routed.map(({ shard }) => shard)).toEqual(expected.map(({ shard }) => shard))
      }),
    )
  })

  test("many shards, few of them with rows, are found without end of flips", () => {
    const strategy = lsh(3, { shards: 1000, bits: 200 })
    const routed = strategy.rank(
      { vector: gaussians(1, 3, 1), probes: 5 },
      (shard) => shard % 250 === 7,
    ).shards
    expect(routed.map(({ shard }) => shard).toSorted((a, b) => a - b)).toEqual([7, 257, 507, 757])
  })

  test("hyperplanes repeat for a seed", () => {
    expect(drawHyperplanes(4, 3, 1)).toEqual(drawHyperplanes(4, 3, 1))
    expect(drawHyperplanes(4, 3, 1)).not.toEqual(drawHyperplanes(4, 3, 2))
  })
})
