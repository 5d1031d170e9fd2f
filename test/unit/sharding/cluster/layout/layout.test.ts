import fc from "fast-check"
import { describe, expect, test } from "vitest"
import {
  createNeighbourLists,
  neighbourGraph,
  planGraph,
  searchCells,
} from "../../../../../src/sharding/cluster/layout/graph.js"
import { gainsByRank } from "../../../../../src/sharding/cluster/layout/judge.js"
import {
  createLayout,
  type Layout,
  type LayoutInput,
  type LayoutOptions,
} from "../../../../../src/sharding/cluster/layout/layout.js"
import { placeRows } from "../../../../../src/sharding/cluster/layout/prices.js"
import { learnGains } from "../../../../../src/sharding/cluster/layout/thresholds.js"
import { createScoring, routeAll } from "../../../../../src/sharding/cluster/routing/descriptors.js"
import { createDescriptorRouter } from "../../../../../src/sharding/cluster/routing/routing.js"
import { exactNeighbours } from "../../../../../src/sharding/cluster/space/compare.js"
import { splitRows } from "../../../../../src/sharding/cluster/space/hash.js"
import {
  fitPreparation,
  prepareQueries,
  prepareRows,
  type SpaceRows,
} from "../../../../../src/sharding/cluster/space/space.js"
import { METRICS, type Metric } from "../../../../../src/vectors/metric.js"
import { countsOf, groups, inSpace } from "../data.js"

/** Splits, fits and prepares, as a build does. */
function inputOf(vectors: Float32Array, dim: number, metric: Metric): LayoutInput {
  const preparation = fitPreparation(vectors, dim, metric)
  const { built, validation } = splitRows(vectors.length / dim)
  const take = (members: Uint32Array) =>
    prepareRows(
      preparation,
      Float32Array.from({ length: members.length * dim }, (_, i) => {
        return vectors[members[Math.floor(i / dim)]! * dim + (i % dim)]!
      }),
    )
  return { preparation, rows: take(built), validation: take(validation) }
}

const affinity = (shards: number, more: Partial<LayoutOptions> = {}): LayoutOptions => ({
  shards,
  layout: "affinity",
  ...more,
})

const areDistinct = ({ vectors, dim, rows }: SpaceRows): boolean =>
  new Set(Array.from({ length: rows }, (_, row) => vectors.slice(row * dim, (row + 1) * dim).join())).size ===
  rows

/** What holds for every layout of any rows. */
function expectSound(
  { rows, validation }: LayoutInput,
  { shards, budget = 1.2, layout: asked }: LayoutOptions,
  layout: Layout,
) {
  const { home, validationHome, copies, routing } = layout
  expect(home).toHaveLength(rows.rows)
  expect(validationHome).toHaveLength(validation.rows)
  for (const shard of [...home, ...validationHome]) {
    expect(Number.isInteger(shard) && shard >= 0 && shard < shards).toBe(true)
  }
  const counts = countsOf(home, shards)
  // Prices cannot divide equal rows, nor those of a line as they like.
  if (asked === "affinity" || (rows.dim > 1 && areDistinct(rows))) {
    expect(Math.max(...counts)).toBeLessThanOrEqual(1.12 * (rows.rows / shards) + 1)
  }
  if (copies !== undefined) {
    expect(copies.shard.length).toBeLessThanOrEqual((budget - 1) * rows.rows + 1e-6)
    for (let row = 0; row < rows.rows; row++) {
      const held = [home[row]!, ...copies.shard.subarray(copies.start[row]!, copies.start[row + 1]!)]
      expect(new Set(held).size).toBe(held.length)
    }
    // Held-out rows, which come after the copies, take room too.
    const full = Math.floor((1.2 * budget * (rows.rows + validation.rows)) / shards)
    for (const shard of validationHome) counts[shard]!++
    const alone = counts.slice()
    for (const shard of copies.shard) counts[shard]!++
    alone.forEach((without, shard) => {
      expect(counts[shard]!).toBeLessThanOrEqual(Math.max(without, full))
    })
  }
  expect(layout.centroids.every(Number.isFinite)).toBe(true)
  expect(routing.descriptors.vectors.every(Number.isFinite)).toBe(true)
  const ranked = createDescriptorRouter(routing).route(new Float32Array(rows.dim).fill(0.5))
  expect([...ranked.shards].sort((a, b) => a - b)).toEqual(Array.from({ length: shards }, (_, i) => i))
  expect(ranked.scores.reduce((sum, score) => sum + score, 0)).toBeCloseTo(1, 4)
}

describe.each(METRICS)("createLayout, %s", (metric) => {
  const dim = 8
  const vectors = groups(3000, dim, 60, 1)
  const input = inputOf(vectors, dim, metric)
  const options = affinity(8)
  const layout = createLayout(input, options)

  test("is sound, keeps capacities and floors, and spends its budget", () => {
    expectSound(input, options, layout)
    if (layout.kind === "packed") {
      expect(Math.min(...countsOf(layout.home, 8))).toBeGreaterThanOrEqual(
        Math.floor(0.7 * (input.rows.rows / 8)),
      )
    }
    expect(layout.copies!.shard.length).toBe(Math.floor(0.2 * input.rows.rows))
  })

  test("finds true neighbours in the first shards, and more with copies", () => {
    const { routing, home, copies } = layout
    const routings = routeAll(createScoring(routing.descriptors, routing.beta), input.validation)
    const truth = exactNeighbours(input.validation, input.rows, 10)
    const recall = (held: Layout["copies"]) => {
      const gains = gainsByRank(routings, truth, { shards: 8, home, copies: held })
      let first = 0
      for (let query = 0; query < routings.queries; query++) first += gains[query * 8]!
      return first / routings.queries
    }
    expect(recall(undefined)).toBeGreaterThan(0.5)
    expect(recall(copies)).toBeGreaterThan(recall(undefined) + 0.02)
  })

  test("is the same for the same seed, and another for another", () => {
    const again = createLayout(input, options)
    expect(again).toEqual(layout)
    const other = createLayout(input, affinity(8, { seed: 2 }))
    expect(other.home).not.toEqual(layout.home)
  })

  test("the router ranks as the build did", () => {
    const { routing } = layout
    const query = vectors.slice(16, 16 + dim)
    const router = createDescriptorRouter(routing)
    const prepared = prepareQueries(input.preparation, query)
    const expected = routeAll(createScoring(routing.descriptors, routing.beta), {
      metric,
      dim,
      rows: 1,
      vectors: prepared,
    })
    const ranked = router.route(query)
    expect([...ranked.shards]).toEqual([...expected.ranked])
    expect(ranked.familiarity).toBeCloseTo(expected.familiarity[0]!, 4)
    expect(() => router.route(query.subarray(1))).toThrow(/the query has 7 elements, expected 8/)
  })

  test.each([
    ["fewer rows than shards", groups(5, 3, 2, 0.1), 3, 9],
    ["one row", Float32Array.of(1, 2), 2, 4],
    ["no rows", new Float32Array(0), 2, 4],
    ["equal rows", new Float32Array(600 * 3).fill(0.25), 3, 5],
    ["zero rows", new Float32Array(200 * 3), 3, 5],
    ["dimension 1", groups(300, 1, 5, 0.5), 1, 4],
    ["one shard", groups(300, 4, 5, 0.5), 4, 1],
  ])("%s", (_, some, width, shards) => {
    const tiny = inputOf(some, width, metric)
    for (const kind of ["affinity", "fast"] as const) {
      const how = { shards, layout: kind }
      expectSound(tiny, how, createLayout(tiny, how))
    }
  })

  test("is sound for any rows", () => {
    const anyRows = fc.record({
      rows: fc.integer({ min: 1, max: 120 }),
      dim: fc.integer({ min: 1, max: 6 }),
      shards: fc.integer({ min: 1, max: 9 }),
      centres: fc.integer({ min: 1, max: 6 }),
      spread: fc.constantFrom(0, 0.2, 2),
      budget: fc.constantFrom(1, 1.2, 2),
    })
    fc.assert(
      fc.property(anyRows, (any) => {
        const some = inputOf(groups(any.rows, any.dim, any.centres, any.spread), any.dim, metric)
        const how = affinity(any.shards, { budget: any.budget })
        expectSound(some, how, createLayout(some, how))
      }),
      { numRuns: 25 },
    )
  })
})

describe("createLayout", () => {
  const input = inputOf(groups(2000, 6, 30, 0.4), 6, "cosine")

  test("refuses what cannot be", () => {
    expect(() => createLayout(input, affinity(0))).toThrow(
      /a layout of 0 shards is not possible, expected 1 to 65536/,
    )
    expect(() => createLayout(input, affinity(4, { budget: 0.5 }))).toThrow(
      /budget is 0.5, expected a number from 1 to 16/,
    )
  })

  test("takes balanced shards where they serve better: rows without clusters on a circle", () => {
    const circle = Float32Array.from({ length: 4000 }, (_, i) => {
      const angle = (Math.floor(i / 2) / 2000) * 2 * Math.PI
      return i % 2 === 0 ? Math.cos(angle) : Math.sin(angle)
    })
    const { judged, kind } = createLayout(inputOf(circle, 2, "cosine"), affinity(8))
    expect(kind).toBe(judged.packed! > judged.balanced ? "packed" : "balanced")
    expect(Math.max(judged.packed!, judged.balanced)).toBeGreaterThan(0.9)
  })

  test("fast: gains are learned from as many neighbours whatever part of the rows the sample is, thresholds are not", () => {
    const make = (sampleOf: number) => createLayout(input, { shards: 8, layout: "fast", sampleOf }).routing
    const [all, half] = [make(input.rows.rows), make(2 * input.rows.rows)]
    expect(half.descriptors).toEqual(all.descriptors)
    expect(half.beta).toBe(all.beta)
    expect(half.stopping.gains).toEqual(all.stopping.gains)
    expect(half.stopping.thresholds).not.toEqual(all.stopping.thresholds)
  })

  test("fast: balanced, no copies, no graph", () => {
    const steps: string[] = []
    const layout = createLayout(input, { shards: 8, layout: "fast", onStep: (step) => steps.push(step) })
    expect(layout.kind).toBe("balanced")
    expect(layout.copies).toBeUndefined()
    expect(steps).toEqual(["truth", "centroids", "balanced", "stopping"])
  })

  test("fast: copies of rows near a border, if there is a budget for them", () => {
    const options: LayoutOptions = { shards: 8, layout: "fast", budget: 1.2 }
    const layout = createLayout(input, options)
    expectSound(input, options, layout)
    expect(Math.abs(layout.copies!.shard.length - 0.2 * input.rows.rows)).toBeLessThan(2)
    const { home, copies } = placeRows(input.rows, layout.placement!)
    expect(layout.home).toEqual(home)
    expect([...layout.copies!.shard]).toEqual([...copies.shard])
  })

  test("real queries pull copies towards themselves", () => {
    // All queries are around one row, half way to another group.
    const { rows, preparation } = input
    const target = rows.vectors.subarray(0, 6)
    const queries = prepareRows(
      preparation,
      Float32Array.from({ length: 200 * 6 }, (_, i) => target[i % 6]! + 0.3 * Math.sin(i * 12.9898)),
    )
    const first = (layout: Layout) => {
      const { routing, home, copies } = layout
      const truth = exactNeighbours(queries, rows, 10)
      const routings = routeAll(createScoring(routing.descriptors, routing.beta), queries)
      const gains = gainsByRank(routings, truth, { shards: 8, home, copies })
      let sum = 0
      for (let query = 0; query < 200; query++) sum += gains[query * 8]!
      return sum / 200
    }
    const without = createLayout(input, affinity(8, { budget: 1.05 }))
    const withQueries = createLayout(
      { ...input, queries: { demand: queries, thresholds: queries } },
      affinity(8, { budget: 1.05 }),
    )
    expect(first(withQueries)).toBeGreaterThan(first(without))
  })
})

describe("the neighbour graph", () => {
  test("finds nearly all neighbours, and the same whoever works on which cells in shared memory", () => {
    const rows = inSpace(groups(4000, 8, 60, 0.5), 8, "cosine")
    const graph = neighbourGraph(rows, 1)
    const exact = exactNeighbours(rows, rows, 10, true)
    let found = 0
    for (let row = 0; row < rows.rows; row++) {
      const own = new Set(graph.ids.subarray(row * 16, row * 16 + 16))
      for (let i = row * 10; i < row * 10 + 10; i++) if (own.has(exact.ids[i]!)) found++
    }
    expect(found / exact.ids.length).toBeGreaterThan(0.97)

    const shared = new Float32Array(new SharedArrayBuffer(rows.vectors.byteLength))
    shared.set(rows.vectors)
    const sharedRows = { ...rows, vectors: shared }
    const lists = createNeighbourLists(rows.rows, true)
    for (const clustering of [0, 1]) {
      const plan = structuredClone(planGraph(sharedRows, clustering, 1))
      const middle = Math.floor(plan.cells / 2)
      searchCells(sharedRows, plan, middle, plan.cells, lists)
      searchCells(sharedRows, plan, 0, middle, lists)
    }
    expect(lists.ids.buffer).toBeInstanceOf(SharedArrayBuffer)
    expect([...lists.ids]).toEqual([...graph.ids])
  })

  test("equal rows are cut into cells of bounded size", () => {
    const rows = inSpace(new Float32Array(8000).fill(1), 1, "l2")
    const plan = planGraph(rows, 0, 1)
    const sizes = Array.from({ length: plan.cells }, (_, cell) => plan.start[cell + 1]! - plan.start[cell]!)
    expect(Math.max(...sizes)).toBeLessThanOrEqual(2640)
    expect(sizes.reduce((sum, size) => sum + size, 0)).toBe(8000)
    for (let cell = 0; cell < plan.cells; cell++) expect(plan.near[cell * plan.reach]).toBe(cell)
  })

  test("no row is its own neighbour, and none is there twice", () => {
    const rows = inSpace(groups(700, 4, 5, 0), 4, "cosine")
    const { ids, k } = neighbourGraph(rows, 1)
    for (let row = 0; row < rows.rows; row++) {
      const own = [...ids.subarray(row * k, (row + 1) * k)].filter((id) => id >= 0)
      expect(own).not.toContain(row)
      expect(new Set(own).size).toBe(own.length)
    }
  })
})

test("a shard that holds all neighbours gains exactly 1, and so is it learned, whatever their number", () => {
  for (let k = 1; k <= 20; k++) {
    const routings = {
      queries: 1,
      shards: 2,
      shown: 2,
      ranked: Uint16Array.of(1, 0),
      scores: Float32Array.of(0.9, 0.1),
      familiarity: Float32Array.of(0.5),
    }
    const truth = { k, ids: Int32Array.from({ length: k }, (_, row) => row) }
    const gained = gainsByRank(routings, truth, {
      shards: 2,
      home: new Int32Array(k).fill(1),
      copies: undefined,
    })
    expect([...gained]).toEqual([1, 0])
    expect(Math.max(...learnGains(routings, gained).gains)).toBe(1)
  }
})
