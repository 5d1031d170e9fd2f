import fc from "fast-check"
import { describe, expect, test } from "vitest"
import { createLayout } from "../../../../../src/sharding/cluster/layout/layout.js"
import { fromFourBits, toFourBits } from "../../../../../src/sharding/cluster/routing/descriptors.js"
import {
  createDescriptorRouter,
  hasDescriptors,
  isUnlike,
  packRouting,
  ROUTING_FILES,
  type RoutingArray,
  unpackRouting,
} from "../../../../../src/sharding/cluster/routing/routing.js"
import { expectedGains, probesFor, TARGETS } from "../../../../../src/sharding/cluster/routing/stopping.js"
import { hash32, hashOrder, unhash32 } from "../../../../../src/sharding/cluster/space/hash.js"
import { groupMembers, orderByFalling } from "../../../../../src/sharding/cluster/space/order.js"
import { fitPreparation } from "../../../../../src/sharding/cluster/space/space.js"
import { METRICS } from "../../../../../src/vectors/metric.js"
import { groups, inSpace } from "../data.js"

const vectors = groups(2400, 9, 50, 0.5)
const held = groups(300, 9, 50, 0.5, 2)
const SHARDS = 12

const layoutFor = (metric: (typeof METRICS)[number]) => {
  const preparation = fitPreparation(vectors, 9, metric)
  const rows = inSpace(vectors, 9, metric)
  return createLayout(
    { preparation, rows, validation: inSpace(held, 9, metric) },
    { shards: SHARDS, layout: "affinity" },
  )
}
const layout = layoutFor("cosine")
const queryOf = (row: number) => held.slice(row * 9, (row + 1) * 9)

describe("routing arrays", () => {
  test.each(METRICS)("give the same routing back, %s", (metric) => {
    const { routing } = layoutFor(metric)
    const back = unpackRouting(packRouting(routing), { metric, dim: 9, shards: SHARDS })
    expect(back.stopping).toEqual(routing.stopping)
    const before = createDescriptorRouter(routing)
    const after = createDescriptorRouter(back)
    for (let row = 0; row < 50; row++) expect(after.route(queryOf(row))).toEqual(before.route(queryOf(row)))
  })

  test("are told from those of older snapshots", () => {
    expect(hasDescriptors(packRouting(layout.routing))).toBe(true)
    expect(hasDescriptors({ "centroids.npy": 0 })).toBe(false)
  })

  const expected = { metric: "cosine", dim: 9, shards: SHARDS } as const
  const arrays = packRouting(layout.routing)
  const broken: [string, string, (array: RoutingArray) => RoutingArray | undefined, RegExp][] = [
    ["missing", ROUTING_FILES.scales, () => undefined, /the routing has no descriptor-scales.npy/],
    [
      "of another type",
      ROUTING_FILES.counts,
      (array) => ({ ...array, data: Float32Array.from(array.data) }),
      /descriptor-counts.npy holds a Float32Array, expected a Int32Array/,
    ],
    [
      "of another shape",
      ROUTING_FILES.gains,
      (array) => ({ ...array, shape: [11, 8, 32] }),
      /gains.npy has shape \(11, 8, 32\), expected \(11, 32, 8\)/,
    ],
    [
      "falling starts",
      ROUTING_FILES.starts,
      changed(3, 0),
      /descriptor-starts.npy has 0 at place 3; .* rise from 0/,
    ],
    [
      "more descriptors than memory is for",
      ROUTING_FILES.starts,
      changed(SHARDS, 2 ** 30),
      /1073741824 descriptors of 9 dimensions, 268435456 numbers are the most/,
    ],
    ["a negative count", ROUTING_FILES.counts, changed(0, -1), /descriptor-counts.npy has -1 at place 0/],
    [
      "an infinite scale",
      ROUTING_FILES.scales,
      changed(1, Infinity),
      /descriptor-scales.npy has Infinity at place 1/,
    ],
    ["β of 0", ROUTING_FILES.space, changed(0, 0), /routing-space.npy has 0 at place 0/],
    ["a gain above 1", ROUTING_FILES.gains, changed(5, 2), /gains.npy has 2 at place 5/],
    ["NaN as edge", ROUTING_FILES.familiarity, changed(8, Number.NaN), /familiarity.npy has NaN at place 8/],
    ["octiles that fall", ROUTING_FILES.familiarity, changed(6, -9), /familiarity.npy has -9 at place 6/],
    [
      "thresholds that rise",
      ROUTING_FILES.thresholds,
      changed(100, 0.9),
      /thresholds.npy has 0.8999\d* at place 100/,
    ],
  ]
  test.each(broken)("are refused: %s", (_, file, change, message) => {
    const wrong = { ...arrays, [file]: change(arrays[file as keyof typeof arrays]) }
    expect(() => unpackRouting(wrong, expected)).toThrow(message)
  })
})

function changed(place: number, value: number) {
  return (array: RoutingArray): RoutingArray => {
    const data = array.data.slice()
    data[place] = value
    return { ...array, data }
  }
}

describe("probesFor", () => {
  const { routing } = layout
  const router = createDescriptorRouter(routing)

  test("never probes fewer shards for a higher target, and all of them for 1", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: 299 }),
        fc.double({ min: 0.01, max: 1, noNaN: true }),
        fc.double({ min: 0.01, max: 1, noNaN: true }),
        (row, a, b) => {
          const ranked = router.route(queryOf(row))
          const [low, high] = [Math.min(a, b), Math.max(a, b)].map((target) =>
            probesFor(routing.stopping, ranked, target),
          )
          expect(low!.probes).toBeLessThanOrEqual(high!.probes)
          expect(low!.probes).toBeGreaterThanOrEqual(1)
        },
      ),
    )
    const all = probesFor(routing.stopping, router.route(queryOf(0)), 1)
    expect(all).toEqual({ probes: SHARDS, expectedRecall: expect.closeTo(1, 5) as number })
  })

  test("expects at least the target, by the lower bound on held-out rows", () => {
    for (const side of [0, TARGETS.length]) {
      TARGETS.forEach((target, i) => {
        expect(routing.stopping.reached[side + i]!).toBeGreaterThanOrEqual(target - 1e-5)
      })
    }
  })

  test("unfamiliar queries have a threshold of their own", () => {
    const ranked = router.route(queryOf(3))
    const rule = { ...routing.stopping, unfamiliarBelow: ranked.familiarity }
    const thresholds = new Float32Array(rule.thresholds.length)
    thresholds.fill(1, TARGETS.length) // familiar queries stop at once, unfamiliar ones never
    const asFamiliar = probesFor({ ...rule, thresholds }, ranked, 0.9)
    const asUnfamiliar = probesFor({ ...rule, thresholds, unfamiliarBelow: 2 }, ranked, 0.9)
    expect([asFamiliar.probes, asUnfamiliar.probes]).toEqual([1, SHARDS])
  })

  test("expects no more of a later shard than of an earlier one, whatever the table says", () => {
    const gains = new Float32Array(11 * 32 * 8).fill(0.1)
    gains.fill(0.4, 2 * 32 * 8, 3 * 32 * 8) // rank 2
    const out = new Float32Array(3)
    expectedGains({ octiles: new Float32Array(7), gains }, [0.5, 0.3, 0.2], 0, 3, 0, out)
    expect([...out]).toEqual([Math.fround(0.1), Math.fround(0.1), Math.fround(0.1)])
  })

  test("tells queries that are unlike the rows", () => {
    const unlike = Array.from({ length: 300 }, (_, row) => isUnlike(routing, router.route(queryOf(row))))
    expect(unlike.filter(Boolean)).toHaveLength(15)
  })
})

describe("building blocks", () => {
  test("hashes can be undone", () => {
    fc.assert(
      fc.property(fc.nat(0xffffffff), fc.nat(70_000), (index, salt) => {
        expect(unhash32(hash32(index, salt), salt)).toBe(index)
      }),
    )
    const order = hashOrder(1000, 5)
    for (let i = 1; i < 1000; i++) expect(hash32(order[i]!, 5)).toBeGreaterThan(hash32(order[i - 1]!, 5))
  })

  test("orderByFalling is a stable sort", () => {
    const any = fc.float32Array({ noNaN: true, maxLength: 60 })
    const few = fc.array(fc.constantFrom(0, -0, 1, -1, 2, Infinity, -Infinity), { maxLength: 60 })
    fc.assert(
      fc.property(
        fc.oneof(
          any,
          few.map((values) => Float32Array.from(values)),
        ),
        (keys) => {
          const expected = Array.from(keys.keys()).sort((a, b) =>
            keys[b]! > keys[a]! ? 1 : keys[b]! < keys[a]! ? -1 : a - b,
          )
          expect([...orderByFalling(keys)]).toEqual(expected)
        },
      ),
    )
  })

  test("groupMembers lists each group's members in order", () => {
    const { start, members } = groupMembers([2, 0, 2, 1], 4)
    expect([...start]).toEqual([0, 1, 2, 4, 4])
    expect([...members]).toEqual([1, 3, 0, 2])
  })

  test("four bits: whole numbers from -7 to 7 survive, others are off by half a step at most", () => {
    const exact = Float32Array.of(7, -7, 0, 3, -4, 1, -1, 6, 5, -2)
    expect([...fromFourBits(toFourBits(exact, 10), 10)]).toEqual([...exact])
    expect([...toFourBits(exact, 10).packed].map((word) => (word >>> 0).toString(16))).toEqual([
      "6f1c3097",
      "e5",
    ])
    const some = groups(20, 9, 3, 1)
    const { scales } = toFourBits(some, 9)
    const back = fromFourBits(toFourBits(some, 9), 9)
    some.forEach((value, i) => {
      expect(Math.abs(value - back[i]!)).toBeLessThanOrEqual(0.5001 * scales[Math.floor(i / 9)]!)
    })
  })
})
