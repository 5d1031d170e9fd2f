import fc from "fast-check"
import { afterEach, describe, expect, test, vi } from "vitest"
import { distance } from "../../../src/vectors/distance.js"
import { METRICS, type Metric } from "../../../src/vectors/metric.js"
import { createRandom } from "../../../src/vectors/random.js"
import * as scanning from "../../../src/vectors/scan.js"
import type { RankedRows } from "../../../src/vectors/topk.js"

/** By definition: all distances, sorted by (distance, row). */
function bruteForce(
  metric: Metric,
  vectors: Float32Array,
  query: Float32Array,
  k: number,
  isAllowed: (row: number) => boolean = () => true,
) {
  const dim = query.length
  const all = Array.from({ length: vectors.length / dim }, (_, row) => ({
    row,
    distance: distance(metric, query, vectors.subarray(row * dim, (row + 1) * dim)),
  })).filter(({ row }) => isAllowed(row))
  return all.sort((a, b) => a.distance - b.distance || a.row - b.row).slice(0, k)
}

function expectSame(found: RankedRows, expected: ReturnType<typeof bruteForce>): void {
  expect([...found.ranks]).toEqual(expected.map((hit) => hit.row))
  expect([...found.distances]).toEqual(expected.map((hit) => hit.distance))
}

/** Few values, so that ties are common; tenths, so that rounding is; and what overflows or vanishes in float32. */
const ORDINARY = [-1, -0.5, 0, 0.1, 1, 3]
const NEARLY_EQUAL = [0.1, 0.1 + 2 ** -27, 0.1 + 2 ** -26, 0.1 - 2 ** -27]
const EXTREME = [0, 1e-45, -1e-45, 1e-30, 1e-13, 1, 1e12, -1e12, 1e20, -3.4e38, 3.4e38]
const TINY = [1e-45, 3e-45, -4e-45, 1e-44]

afterEach(() => {
  vi.restoreAllMocks()
  vi.unstubAllEnvs()
  vi.resetModules()
})

describe.each(["simd", "plain"] as const)("the %s kernel", (kernel) => {
  /** A copy of the modules under test that has the kernel asked for. */
  async function load(): Promise<typeof scanning> {
    vi.resetModules()
    if (kernel === "plain") vi.stubEnv("VECSNAP_KERNEL", "plain")
    const { kernelInUse } = await import("../../../src/vectors/kernel.js")
    expect(kernelInUse()).toBe(kernel)
    return import("../../../src/vectors/scan.js")
  }

  describe.each(METRICS)("%s", (metric) => {
    test.each([
      ["ordinary", ORDINARY, ORDINARY],
      ["nearly equal", NEARLY_EQUAL, ORDINARY],
      ["extreme", EXTREME, EXTREME],
      ["ordinary rows, extreme queries", ORDINARY, EXTREME],
      ["ordinary rows, tiny queries", ORDINARY, TINY],
      ["tiny rows, ordinary queries", TINY, ORDINARY],
    ])("equals sorting all distances, to the last bit: %s", async (_, values, queryValues) => {
      const { allocateVectors, createScanTable, NearestRows, scanMany } = await load()
      const cases = fc.record({
        dim: fc.integer({ min: 1, max: 21 }),
        rows: fc.integer({ min: 0, max: 90 }),
        k: fc.integer({ min: 1, max: 40 }),
        queries: fc.integer({ min: 1, max: 11 }),
        bound: fc.nat(90),
        inPlace: fc.boolean(),
        allowed: fc.option(fc.uint8Array({ minLength: 12, maxLength: 12 })),
        elements: fc.infiniteStream(fc.constantFrom(...values)),
        queryElements: fc.infiniteStream(fc.constantFrom(...queryValues)),
      })
      fc.assert(
        fc.property(cases, ({ dim, rows, k, queries, bound, inPlace, allowed, elements, queryElements }) => {
          const vectors = inPlace ? allocateVectors(metric, rows, dim) : new Float32Array(rows * dim)
          vectors.set([...elements.take(rows * dim)])
          const asked = Float32Array.from(queryElements.take(queries * dim))
          const options = { allowed: allowed ?? undefined }
          const table = createScanTable(metric, vectors, dim)
          const found = scanMany(table, asked, k, options)
          const isAllowed = (row: number) => allowed === null || ((allowed[row >> 3]! >> (row & 7)) & 1) === 1
          expect(found.length).toBe(queries)
          const expected = found.map((_, i) =>
            bruteForce(metric, vectors, asked.subarray(i * dim, (i + 1) * dim), k, isAllowed),
          )
          for (const [i, ranked] of found.entries()) expectSame(ranked, expected[i]!)

          // Up to the distance of one of them, equal ones included.
          const within = expected.map((hits) => hits[bound % Math.max(1, hits.length)]?.distance ?? Infinity)
          const nearest = new NearestRows(metric, asked, dim, k, { rows, within })
          nearest.add(table, 0, options)
          for (const [i, ranked] of nearest.takeSorted().entries())
            expectSame(
              ranked,
              expected[i]!.filter(({ distance }) => distance <= within[i]!),
            )
        }),
      )
    })

    test("copies: all rows as near as the given number of different distances, in tables of bytes and others", async () => {
      const { allocateVectors, createScanTable, NearestRows } = await load()
      const cases = fc.record({
        dim: fc.integer({ min: 1, max: 17 }),
        rows: fc.integer({ min: 1, max: 40 }),
        copies: fc.array(fc.nat(39), { maxLength: 40 }),
        distinct: fc.integer({ min: 1, max: 8 }),
        more: fc.integer({ min: 0, max: 30 }),
        inPlace: fc.boolean(),
        seed: fc.nat(1000),
      })
      fc.assert(
        fc.property(cases, ({ dim, rows, copies, distinct, more, inPlace, seed }) => {
          const random = createRandom(seed)
          const first = allocateVectors(metric, rows, dim)
          for (let i = 0; i < first.length; i++) first[i] = random.gaussian()
          const second = inPlace
            ? allocateVectors(metric, copies.length, dim)
            : new Float32Array(copies.length * dim)
          for (const [to, row] of copies.entries()) {
            second.set(first.subarray((row % rows) * dim, ((row % rows) + 1) * dim), to * dim)
          }
          const query = Float32Array.from({ length: dim }, random.gaussian)
          const k = distinct + more
          const nearest = new NearestRows(metric, query, dim, k, { rows: rows + copies.length, distinct })
          nearest.add(createScanTable(metric, second, dim), 0)
          nearest.add(createScanTable(metric, first, dim), copies.length)
          const [found] = nearest.takeSorted()

          const all = bruteForce(metric, new Float32Array([...second, ...first]), query, k)
          const different = [...new Set(all.map(({ distance }) => distance))]
          const wanted = all.filter(({ distance }) => distance <= (different[distinct - 1] ?? Infinity))
          const count = wanted.length
          expectSame(
            { ranks: found!.ranks.slice(0, count), distances: found!.distances.slice(0, count) },
            wanted,
          )
          for (const distance of found!.distances.slice(count)) {
            expect(distance).toBeGreaterThan(wanted.at(-1)!.distance)
          }
        }),
      )
    })

    test.each([3, 2500])("over many steps of the kernel, k = %i", async (k) => {
      const { allocateVectors, createScanTable, scan, scanMany } = await load()
      const random = createRandom(1)
      const dim = 7
      const vectors = allocateVectors(metric, 6001, dim)
      for (let i = 0; i < vectors.length; i++) vectors[i] = random.gaussian()
      const queries = Float32Array.from({ length: 3 * dim }, random.gaussian)
      const found = scanMany(createScanTable(metric, vectors, dim), queries, k)
      for (let i = 0; i < 3; i++) {
        const query = queries.subarray(i * dim, (i + 1) * dim)
        const expected = bruteForce(metric, vectors, query, k)
        expectSame(found[i]!, expected)
        expectSame(scan(createScanTable(metric, vectors.slice(), dim), query, k), expected)
      }
    })

    test("over several tables, of long rows first and then of short ones", async () => {
      const { createScanTable, NearestRows } = await load()
      const random = createRandom(2)
      const dim = 8
      const query = Float32Array.from({ length: dim }, random.gaussian)
      const long = Float32Array.from({ length: 200 * dim }, () => random.gaussian() * 2 ** 30)
      const short = Float32Array.from({ length: 200 * dim }, () => random.gaussian() * 2 ** 4)
      for (let start = 0; start < long.length; start += dim) {
        // Products of the same size as those of the short rows, but off by as much in float32.
        let sum = 0
        for (let i = 0; i < dim - 1; i++) sum += long[start + i]! * query[i]!
        long[start + dim - 1] = -sum / query[dim - 1]!
      }
      const nearest = new NearestRows(metric, query, dim, 100)
      nearest.add(createScanTable(metric, long, dim), 0)
      nearest.add(createScanTable(metric, short, dim), 200)
      const all = new Float32Array([...long, ...short])
      expectSame(nearest.takeSorted()[0]!, bruteForce(metric, all, query, 100))
    })

    test("tables in any order, ordinary and not", async () => {
      const { createScanTable, NearestRows } = await load()
      const random = createRandom(4)
      const dim = 5
      const scales = [1, 2 ** 100, 2 ** -10, 2 ** -100]
      const vectors = Float32Array.from({ length: 400 * dim }, (_, i) => {
        return random.gaussian() * scales[Math.floor(i / dim / 100)]!
      })
      const query = Float32Array.from({ length: dim }, random.gaussian)
      const nearest = new NearestRows(metric, query, dim, 150)
      for (const part of [2, 1, 3, 0]) {
        const rows = vectors.slice(part * 100 * dim, (part + 1) * 100 * dim)
        nearest.add(createScanTable(metric, rows, dim), part * 100)
      }
      expectSame(nearest.takeSorted()[0]!, bruteForce(metric, vectors, query, 150))
    })
  })

  test("k that is not an integer of 1 or more is refused", async () => {
    const { createScanTable, scan } = await load()
    const table = createScanTable("l2", Float32Array.of(1), 1)
    for (const k of [0, -1, 1.5, Number.NaN]) {
      expect(() => scan(table, Float32Array.of(1), k)).toThrow(`k must be an integer of 1 or more, got ${k}`)
    }
  })
})

test("differences that float32 cannot see decide all the same", () => {
  const { allocateVectors, createScanTable, scan } = scanning
  const random = createRandom(3)
  const dim = 300
  const base = Float32Array.from({ length: dim }, random.gaussian)
  for (const [metric, bits] of METRICS.flatMap((metric) =>
    [22, 20, 18].map((bits) => [metric, bits] as const),
  )) {
    const vectors = allocateVectors(metric, 3000, dim)
    for (let row = 0; row < 3000; row++) {
      // A few of the last bits: the sums differ by about as much as float32 loses in them.
      for (let i = 0; i < dim; i++) vectors[row * dim + i] = base[i]! * (1 + random.gaussian() * 2 ** -bits)
    }
    const query = Float32Array.from({ length: dim }, random.gaussian)
    expectSame(scan(createScanTable(metric, vectors, dim), query, 10), bruteForce(metric, vectors, query, 10))
  }
})

test("memory for vectors is that of the kernel, and as much as is said", () => {
  const vectors = scanning.allocateVectors("l2", 1000, 100)
  expect(vectors.length).toBe(100_000)
  const stated = scanning.vectorMemoryBytes("l2", 1000, 100)
  expect(stated).toBeGreaterThan(400_000)
  // Whole pages of 64 KiB.
  expect(vectors.buffer.byteLength).toBe(Math.ceil(stated / 2 ** 16) * 2 ** 16)
})

test("where the system refuses memory for the kernel, all goes on without", async () => {
  vi.resetModules()
  vi.spyOn(WebAssembly, "Memory").mockImplementation(function refuse() {
    throw new RangeError("WebAssembly.Memory(): could not allocate memory")
  })
  const { allocateVectors, createScanTable, scan } = await import("../../../src/vectors/scan.js")
  const { bestPoints, createPointTable } = await import("../../../src/vectors/kernel.js")
  const vectors = allocateVectors("l2", 3, 2)
  expect(vectors.buffer.byteLength).toBe(24)
  vectors.set([0, 0, 3, 4, 1, 0])
  const found = scan(createScanTable("l2", vectors, 2), Float32Array.of(0, 0), 2)
  expect([...found.ranks]).toEqual([0, 2])
  expect([...found.distances]).toEqual([0, 1])
  const points = createPointTable(
    Float32Array.of(1, 0, 0, 1),
    2,
    () => 0,
    () => 1,
  )
  expect([...bestPoints(vectors, points)]).toEqual([0, 1, 0])
})
