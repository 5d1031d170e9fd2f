/**
 * What every shard backend must do; see the rules at the top of src/shards/backend.ts.
 */

import { createHash } from "node:crypto"
import { once } from "node:events"
import { existsSync } from "node:fs"
import { mkdir, mkdtemp, readdir, readFile, rm, truncate, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { Worker } from "node:worker_threads"
import fc from "fast-check"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import type { FieldSpec, Id, StoredRecord } from "../../src/records.js"
import type {
  IndexDescription,
  PoolOptions,
  ShardAnswer,
  ShardHit,
  ShardPool,
  ShardSpec,
} from "../../src/shards/backend.js"
import { createShardPool, type Trust } from "../../src/shards/pools.js"
import { prepareQuery, type ShardQuery } from "../../src/shards/query.js"
import type { BackendName } from "../../src/shards/registry.js"
import { backendByName } from "../../src/shards/registry.js"
import { localDirectory } from "../../src/shards/source.js"
import { METRICS, type Metric } from "../../src/vectors/metric.js"
import { mergeTopK } from "../../src/vectors/topk.js"
import {
  naiveDistance,
  noise,
  noiseRows,
  openShard,
  rowsOf,
  specOf,
  type TestRow,
  type TestShard,
} from "./shard-rows.js"

export interface ShardSuite {
  readonly backend: BackendName
  readonly pool: PoolOptions
  readonly trust?: Trust
  /** Whether shards are opened from sources that have no local copy before one is asked for. */
  readonly isAway?: boolean
  /** Largest value of a vector that the backend takes. */
  readonly largest: number
  /** Shortest vector other than zero that the backend takes under cosine. */
  readonly shortest: number
}

/** Of shards that have all answered. */
const hitsOf = (answers: readonly ShardAnswer[]): (readonly ShardHit[])[] =>
  answers.map((answer) => {
    if ("error" in answer) throw answer.error
    return answer.hits
  })

export function describeShards(title: string, suite: ShardSuite): void {
  const backend = backendByName(suite.backend)

  function createPool(): ShardPool {
    const made = createShardPool(backend, suite.pool, suite)
    if (suite.isAway !== true) return made
    return {
      open: (source, ...facts) => made.open({ ...source, isLocal: false }, ...facts),
      search: (shards, query) => made.search(shards, query),
      close: () => made.close(),
    }
  }

  describe(title, () => {
    let root: string
    let pool: ShardPool
    let built = 0

    beforeAll(async () => {
      root = await mkdtemp(join(tmpdir(), "vecsnap-shards-"))
      pool = createPool()
    })

    afterAll(async () => {
      await pool.close()
      await rm(root, { recursive: true })
    })

    async function emptyDir(): Promise<string> {
      const dir = join(root, String(built++))
      await mkdir(dir)
      return dir
    }

    interface Built {
      readonly dir: string
      readonly spec: ShardSpec
      readonly index: IndexDescription
    }

    async function build(rows: readonly TestRow[], spec: ShardSpec): Promise<Built> {
      const dir = await emptyDir()
      return { dir, spec, index: await backend.build(rowsOf(rows, spec), dir, spec) }
    }

    const askTogether = (shards: readonly TestShard[], query: ShardQuery) =>
      pool.search(
        shards.map(({ reader }) => reader),
        query,
      )

    const open = ({ dir, spec, index }: Built): Promise<TestShard> => openShard(pool, dir, spec, index)

    /** Builds, opens, runs the test and closes. */
    async function withShard(
      rows: readonly TestRow[],
      spec: ShardSpec,
      test: (reader: TestShard) => Promise<void>,
    ): Promise<void> {
      const reader = await open(await build(rows, spec))
      try {
        await test(reader)
      } finally {
        await reader.close()
      }
    }

    /** Hits must be the nearest by brute force, to 1e-5, with equal distances in order of id. */
    async function expectNearest(
      reader: TestShard,
      rows: readonly TestRow[],
      metric: Metric,
      query: Float32Array,
      k: number,
    ): Promise<void> {
      const hits = await reader.search(query, k)
      const truth = new Map<Id, number>(rows.map((row) => [row.id, naiveDistance(metric, query, row.vector)]))
      const sorted = [...truth.values()].sort((a, b) => a - b).slice(0, k)
      expect(hits.length).toBe(sorted.length)
      hits.forEach((hit, i) => {
        const scale = Math.max(1, Math.abs(sorted[i]!))
        expect(Math.abs(hit.distance - sorted[i]!) / scale).toBeLessThan(1e-5)
        expect(Math.abs(hit.distance - truth.get(hit.id)!) / scale).toBeLessThan(1e-5)
        const next = hits[i + 1]
        if (next === undefined) return
        expect(hit.distance < next.distance || (hit.distance === next.distance && hit.id < next.id)).toBe(
          true,
        )
      })
      expect(new Set(hits.map(({ id }) => id)).size).toBe(hits.length)
    }

    describe("records", () => {
      it("come back with string ids of any kind", async () => {
        const ids = [
          "",
          " ",
          "a'b",
          'a"b',
          "a\\b",
          "a\\'",
          "%_",
          "line\nbreak",
          "nul\0nul",
          "nul\0",
          "é",
          "e\u0301",
          "🙂",
          "\uffee",
          "ünïcødé",
          "x".repeat(2000),
          "__proto__",
          "') OR 1=1 --",
        ]
        const rows = ids.map((id, i) => ({ id, vector: [i, 1] }))
        await withShard(rows, specOf(2), async (reader) => {
          const found = await reader.get(ids)
          expect(found.map((record) => record?.id)).toEqual(ids)
          expect(found.map((record) => record?.vector[0])).toEqual(ids.map((_, i) => i))
          const hits = await reader.search(Float32Array.of(0, 1), 100)
          expect(hits.map((hit) => hit.id)).toEqual(ids)
        })
      })

      it("order equal distances by UTF-16 code unit, which is not the order of UTF-8", async () => {
        const ids = ["\uffee", "🙂", "a", "é"]
        const rows = ids.map((id) => ({ id, vector: [1] }))
        await withShard(rows, specOf(1), async (reader) => {
          const hits = await reader.search(Float32Array.of(1), 4)
          expect(hits.map(({ id }) => id)).toEqual(["a", "é", "🙂", "\uffee"])
        })
      })

      it("come back with integer ids as numbers where all fit", async () => {
        const ids = [-(2 ** 53 - 1), -5, 0, 1, 2 ** 53 - 1]
        const rows = ids.map((id, i) => ({ id, vector: [i] }))
        await withShard(rows, specOf(1, { idType: "int64" }), async (reader) => {
          expect((await reader.search(Float32Array.of(0), 9)).map(({ id }) => id)).toEqual(ids)
          const found = await reader.get([1, -5n, 7])
          expect(found.map((record) => record?.id)).toEqual([1, -5, undefined])
        })
      })

      it("come back with integer ids as bigints where some do not fit", async () => {
        const ids = [-(2n ** 63n), -1n, 0n, 2n ** 53n, 2n ** 53n + 1n, 2n ** 63n - 1n]
        const rows = ids.map((id, i) => ({ id, vector: [i] }))
        await withShard(rows, specOf(1, { idType: "int64", wide: true }), async (reader) => {
          expect((await reader.search(Float32Array.of(0), 9)).map(({ id }) => id)).toEqual(ids)
          expect((await reader.get(ids)).map((record) => record?.id)).toEqual(ids)
          expect((await reader.get([0])).map((record) => record?.id)).toEqual([0n])
        })
      })

      it("come back with their payloads", async () => {
        const texts = [
          "null",
          "true",
          "0",
          '""',
          "[]",
          "{}",
          '{"a":null,"b":[1,[2,{"c":"🙂\\u0000\\"é"}]],"__proto__":1}',
          "12345678901234567890",
          '{"big":9007199254740993,"float":1.5e300}',
          JSON.stringify("x".repeat(100_000)),
        ]
        const rows: TestRow[] = texts.map((payload, i) => ({ id: `p${i}`, vector: [i], payload }))
        rows.push({ id: "p-none", vector: [-1] })
        await withShard(rows, specOf(1), async (reader) => {
          const payloads = (await reader.get(rows.map(({ id }) => id))).map((record) => record?.payload)
          const expected = texts.map((text) => JSON.parse(text))
          expected[7] = 12345678901234567890n
          expected[8] = { big: 9007199254740993n, float: 1.5e300 }
          expect(payloads).toEqual([...expected, null])
          expect(JSON.stringify(payloads[6])).toBe(texts[6])
          const hits = await reader.search(Float32Array.of(8), 1)
          expect(hits[0]!.payload).toEqual(expected[8])
        })
      })

      it("come back with fields of all types, nulls and odd names", async () => {
        const fields: FieldSpec[] = [
          { name: "select", type: "string" },
          { name: "a b", type: "int64" },
          { name: "quo\"te'", type: "int64", wide: true },
          { name: "id", type: "float64" },
          { name: "payload", type: "bool" },
          { name: "vector", type: "string" },
          { name: "_distance", type: "float64" },
          { name: "__proto__", type: "string" },
          { name: "Payload", type: "bool" },
        ]
        const names = fields.map(({ name }) => name)
        const columns = [
          ["", -1, -(2n ** 63n), -0, false, "é'\0", Number.MAX_VALUE, "x", true],
          ["🙂", 2 ** 53 - 1, 2n ** 63n - 1n, 0.1, true, "", Number.POSITIVE_INFINITY, "", false],
          names.map(() => null),
          ["n", 0, 0n, 5, null, null, null, null, false],
        ]
        const rows = columns.map((values, i) => ({
          id: `f${i}`,
          vector: [i],
          fields: Object.fromEntries(names.map((name, column) => [name, values[column]!])),
        }))
        await withShard(rows, specOf(1, { fields }), async (reader) => {
          const hits = await reader.search(Float32Array.of(0), 9)
          expect(hits.map((hit) => Object.entries(hit.fields))).toEqual(
            rows.map((row) => Object.entries(row.fields)),
          )
          expect(Object.is(hits[0]!.fields.id, -0)).toBe(true)
          const found = await reader.get(["f1", "f3"])
          expect(found.map((record) => record?.fields)).toEqual([rows[1]!.fields, rows[3]!.fields])
        })
      })

      it("keep their vectors bit for bit", async () => {
        const vector = Float32Array.of(1e-45, -0, suite.largest, -1.17549435e-38, 0.1, 1 / 3)
        await withShard([{ id: "a", vector }], specOf(6), async (reader) => {
          const [record] = await reader.get(["a"])
          expect(Buffer.from(record!.vector.buffer)).toEqual(Buffer.from(vector.buffer))
          expect(record!.vector).toBeInstanceOf(Float32Array)
        })
      })

      it("are found by id in the order asked for, also twice, and missing ones are undefined", async () => {
        const rows = noiseRows(1500, 3)
        await withShard(rows, specOf(3), async (reader) => {
          const ids = ["r1499", "none", "r0000", "r1024", "r0000", ""]
          const found = await reader.get(ids)
          expect(found.map((record) => record?.id)).toEqual([
            "r1499",
            undefined,
            "r0000",
            "r1024",
            "r0000",
            undefined,
          ])
          expect(found[3]!.vector).toEqual(Float32Array.from(rows[1024]!.vector))
          expect(await reader.get([])).toEqual([])
          expect(await reader.get(["none", "none either"])).toEqual([undefined, undefined])
          const all = await reader.get(rows.map(({ id }) => id))
          expect(all.map((record) => record?.id)).toEqual(rows.map(({ id }) => id))
        })
      })

      it("are read all, in order of id, bit for bit, some at a time", async () => {
        const fields: FieldSpec[] = [
          { name: "n", type: "int64" },
          { name: "on", type: "bool" },
        ]
        const rows = noiseRows(2600, 3).map((row, n) => ({
          ...row,
          fields: { n, on: n % 3 === 0 ? null : n % 2 === 0 },
          payload: JSON.stringify({ n, text: "é\n" }),
        }))
        await withShard(rows, specOf(3, { fields }), async (reader) => {
          const batches = await collect(reader.records())
          expect(Math.max(...batches.map((batch) => batch.length))).toBeLessThanOrEqual(1024)
          expect(batches.flat()).toEqual(
            rows.map(({ id, vector, fields, payload }) => ({
              id,
              vector: Float32Array.from(vector),
              fields,
              payload: JSON.parse(payload),
            })),
          )
          await reader.close()
          await expect(collect(reader.records())).rejects.toMatchObject({ tag: "Closed" })
        })
        const vector = Float32Array.of(1e-45, -0, suite.largest, 0.1)
        const wide = specOf(4, { idType: "int64", wide: true })
        await withShard([{ id: 2n ** 60n, vector }], wide, async (reader) => {
          const [[record]] = (await collect(reader.records())) as [[StoredRecord]]
          expect(record.id).toBe(2n ** 60n)
          expect(Buffer.from(record.vector.buffer)).toEqual(Buffer.from(vector.buffer))
        })
      })

      it("cannot be asked for by ids of another type", async () => {
        await withShard([{ id: "1", vector: [1] }], specOf(1), async (reader) => {
          await expect(reader.get([1])).rejects.toMatchObject({ tag: "InvalidInput" })
        })
        await withShard([{ id: 1, vector: [1] }], specOf(1, { idType: "int64" }), async (reader) => {
          for (const id of ["1", 1.5, Number.NaN, 2 ** 53, 2n ** 63n]) {
            await expect(reader.get([id])).rejects.toMatchObject({ tag: "InvalidInput" })
          }
        })
      })
    })

    describe("search", () => {
      it.each(METRICS)("finds the nearest under %s", async (metric) => {
        for (const [count, dim] of [
          [1, 7],
          [2500, 1],
          [1100, 33],
          [9, 4096],
        ] as const) {
          const rows = noiseRows(count, dim, count)
          await withShard(rows, specOf(dim, { metric }), async (reader) => {
            expect(reader.rows).toBe(count)
            for (let i = 0; i < 5; i++) await expectNearest(reader, rows, metric, noise(dim, 77 + i), 10)
            const known = Float32Array.from(rows[count >> 1]!.vector)
            await expectNearest(reader, rows, metric, known, 3)
          })
        }
      })

      it.each(METRICS)("finds the nearest under %s whatever the rows", async (metric) => {
        // Few different values, so that ties are common; lengths vary widely.
        const element = fc.oneof(
          fc.integer({ min: -2, max: 2 }),
          fc.float({ noNaN: true, min: -100, max: 100 }),
        )
        const vector = (dim: number) =>
          fc
            .array(element, { minLength: dim, maxLength: dim })
            .filter((values) => values.some((value) => Math.abs(value) > 2 * suite.shortest))
            .map((values) => Float32Array.from(values))
        const shard = fc.integer({ min: 1, max: 5 }).chain((dim) =>
          fc.record({
            query: vector(dim),
            rows: fc.uniqueArray(
              fc.record({ id: fc.string({ unit: "grapheme", maxLength: 6 }), vector: vector(dim) }),
              { minLength: 1, maxLength: 40, selector: ({ id }) => id },
            ),
            k: fc.integer({ min: 1, max: 50 }),
          }),
        )
        await fc.assert(
          fc.asyncProperty(shard, async ({ query, rows, k }) => {
            await withShard(rows, specOf(query.length, { metric }), (reader) =>
              expectNearest(reader, rows, metric, query, k),
            )
          }),
          { numRuns: 15, seed: 4 },
        )
      })

      it.each(METRICS)("finds the nearest under %s among the largest and smallest values", async (metric) => {
        const sizes = [suite.largest / 2, suite.largest / 3, 1, suite.shortest * 2, suite.shortest * 3]
        const rows = sizes
          .flatMap((size, i) =>
            [
              [size, 0],
              [size, size / 2],
              [-size, size],
            ].map((vector, j) => ({ id: `${i}-${j}`, vector })),
          )
          .map(({ id, vector }) => ({ id, vector: Float32Array.from(vector) }))
        await withShard(rows, specOf(2, { metric }), async (reader) => {
          const extreme = suite.largest / 2
          for (const [x, y] of [
            [1, 1],
            [extreme, -extreme],
            [1e-45, 0],
            [1e10, 1e-10],
          ]) {
            for (const k of [1, 4, 20]) await expectNearest(reader, rows, metric, Float32Array.of(x!, y!), k)
          }
        })
      })

      it("returns all rows if k is larger", async () => {
        const rows = noiseRows(1025, 4)
        await withShard(rows, specOf(4, { metric: "cosine" }), async (reader) => {
          await expectNearest(reader, rows, "cosine", noise(4, 9), 5000)
          await expectNearest(reader, rows, "cosine", noise(4, 9), 1_000_000_000)
          await expectNearest(reader, rows, "cosine", noise(4, 9), 1024)
        })
      })

      it.each(METRICS)("orders thousands of equal distances by id under %s", async (metric) => {
        const rows = noiseRows(3000, 5).map((row, i) => ({
          ...row,
          vector: i === 1700 ? [3, 1, 1, 1, 1] : [1, 1, 1, 1, 3],
        }))
        await withShard(rows, specOf(5, { metric }), async (reader) => {
          const hits = await reader.search(Float32Array.of(3, 1, 1, 1, 1), 6)
          expect(hits.map(({ id }) => id)).toEqual(["r1700", "r0000", "r0001", "r0002", "r0003", "r0004"])
          const all = await reader.search(Float32Array.of(3, 1, 1, 1, 1), 3000)
          expect(all.slice(1).map(({ id }) => id)).toEqual(
            rows.map(({ id }) => id).filter((id) => id !== "r1700"),
          )
        })
      })

      it("tells apart distances that are equal in single precision", async () => {
        // Far from the origin, float32 arithmetic sees hardly any difference between these rows.
        const rows = Array.from({ length: 400 }, (_, i) => ({
          id: `r${String((i * 7919) % 400).padStart(3, "0")}`,
          vector: [4096, 4096 + i / 2048, 1],
        }))
        for (const metric of METRICS) {
          await withShard(rows, specOf(3, { metric }), async (reader) => {
            const query = Float32Array.of(4096, 4096, 1)
            const hits = await reader.search(query, 10)
            const expected = rows
              .map(({ id, vector }) => ({
                id,
                distance: naiveDistance(metric, query, Float32Array.from(vector)),
              }))
              .sort((a, b) => a.distance - b.distance)
              .slice(0, 10)
            expect(hits.map(({ id }) => id).sort()).toEqual(expected.map(({ id }) => id).sort())
          })
        }
      })

      it("refuses a query of another dimension, without direction or not finite, and a bad k", async () => {
        await withShard(noiseRows(3, 2), specOf(2, { metric: "cosine" }), async (reader) => {
          for (const query of [[1], [1, 2, 3], [0, 0], [Number.NaN, 1], [1, Number.POSITIVE_INFINITY]]) {
            await expect(reader.search(Float32Array.from(query), 1)).rejects.toMatchObject({
              tag: "InvalidInput",
            })
          }
          for (const k of [0, -1, 1.5, Number.NaN]) {
            await expect(reader.search(Float32Array.of(1, 1), k)).rejects.toMatchObject({
              tag: "InvalidInput",
            })
          }
        })
      })

      it("serves many searches and gets at once, each with its own answer", async () => {
        const rows = noiseRows(700, 8)
        await withShard(rows, specOf(8), async (reader) => {
          const query = new Float32Array(8)
          const answers = await Promise.all(
            rows.map(async (row) => {
              // The array is reused at once for the next search.
              query.set(row.vector)
              const [hits, [record]] = await Promise.all([reader.search(query, 2), reader.get([row.id])])
              return [hits[0]!.id, hits[0]!.distance, record?.id]
            }),
          )
          expect(answers).toEqual(rows.map(({ id }) => [id, 0, id]))
        })
      })

      it("rejects at once when aborted, and goes on for others", async () => {
        const warnings: Error[] = []
        const onWarning = (warning: Error) => warnings.push(warning)
        process.on("warning", onWarning)
        const rows = noiseRows(2000, 16)
        await withShard(rows, specOf(16), async (reader) => {
          const before = AbortSignal.abort(new Error("no longer wanted"))
          await expect(reader.search(noise(16), 1, { signal: before })).rejects.toMatchObject({
            tag: "Aborted",
          })

          const controller = new AbortController()
          const settled: string[] = []
          const doomed = Array.from({ length: 300 }, () =>
            reader.search(noise(16), 1, { signal: controller.signal }).then(
              () => settled.push("answered"),
              (error) => settled.push(error.tag),
            ),
          )
          const other = reader.search(Float32Array.from(rows[5]!.vector), 1)
          controller.abort()
          await Promise.all(doomed)
          expect(settled).toEqual(Array(300).fill("Aborted"))
          expect((await other)[0]!.id).toBe("r0005")
          // A signal that does not fire serves any number of searches, at once and one after the other.
          const { signal } = new AbortController()
          for (let round = 0; round < 2; round++) {
            await Promise.all(Array.from({ length: 50 }, () => reader.search(noise(16), 1, { signal })))
          }
        })
        process.off("warning", onWarning)
        expect(warnings).toEqual([])
      })
    })

    describe("one query over several shards", () => {
      it("is merged to what each shard by itself gives, copies and equal distances included", async () => {
        // Few places, so that many rows are equally near; every third row lies in two shards.
        const rows = Array.from({ length: 120 }, (_, n) => ({
          id: `r${String(n).padStart(3, "0")}`,
          vector: [n % 5, Math.floor(n / 5) % 4],
        }))
        const spec = specOf(2)
        const shards = await Promise.all(
          [0, 1, 2, 3].map(async (shard) => {
            const held = (n: number) => n % 4 === shard || (n % 3 === 0 && (n + 1) % 4 === shard)
            return open(
              await build(
                rows.filter((_, n) => held(n)),
                spec,
              ),
            )
          }),
        )
        const merge = (lists: readonly (readonly ShardHit[])[], k: number) =>
          mergeTopK(
            lists.map((hits, shard) => ({ shard, hits })),
            k,
          )
        for (const k of [1, 3, 10, 500]) {
          for (const vector of [Float32Array.of(0.1, 3.2), Float32Array.of(2, 2)]) {
            const alone = await Promise.all(shards.map((shard) => shard.search(vector, k)))
            const query = prepareQuery(vector, k, spec)
            const together = await askTogether(shards, query)
            expect(merge(hitsOf(together), k)).toEqual(merge(alone, k))
            // In any order and number of shards.
            const some = await askTogether([shards[2]!, shards[0]!], query)
            expect(merge(hitsOf(some), k)).toEqual(merge([alone[2]!, alone[0]!], k))
          }
        }
        await Promise.all(shards.map((shard) => shard.close()))
      })

      it("may find one of them closed, and is answered by the others", async () => {
        const [one, other] = await Promise.all(
          [1, 2].map(async (seed) => open(await build(noiseRows(20, 4, seed), specOf(4)))),
        )
        await one!.close()
        const query = prepareQuery(noise(4), 3, specOf(4))
        const [first, second] = await askTogether([one!, other!], query)
        expect(first).toMatchObject({ error: { tag: "Closed" } })
        expect(second).toEqual({ hits: await other!.search(noise(4), 3) })
        await other!.close()
      })

      it("fails as a whole when it is aborted, and for shards of another pool", async () => {
        const shard = await build(noiseRows(20, 4), specOf(4))
        const other = createPool()
        const [ours, theirs] = [await open(shard), await openShard(other, shard.dir, shard.spec, shard.index)]
        const controller = new AbortController()
        const query = prepareQuery(noise(4), 3, specOf(4), { signal: controller.signal })
        await expect(askTogether([ours, theirs], query)).rejects.toThrow("not open in this pool")
        const asked = askTogether([ours], query)
        controller.abort()
        await expect(asked).rejects.toMatchObject({ tag: "Aborted" })
        await expect(askTogether([ours], query)).rejects.toMatchObject({ tag: "Aborted" })
        expect(await askTogether([], prepareQuery(noise(4), 3, specOf(4)))).toEqual([])
        await theirs.close()
        await other.close()
        await ours.close()
      })
    })

    describe("lifetime", () => {
      it("close waits for what runs, is idempotent, and ends the reader", async () => {
        const reader = await open(await build(noiseRows(1000, 8), specOf(8)))
        const running = Array.from({ length: 20 }, () => reader.search(noise(8), 1))
        let answered = 0
        for (const search of running) void search.then(() => answered++)
        await Promise.all([reader.close(), reader.close()])
        expect(answered).toBe(20)
        await reader.close()
        await expect(reader.search(noise(8), 1)).rejects.toMatchObject({ tag: "Closed" })
        await expect(reader.get(["r0000"])).rejects.toMatchObject({ tag: "Closed" })
      })

      it("a closed pool opens nothing", async () => {
        const shard = await build(noiseRows(10, 2), specOf(2))
        const other = createPool()
        const reader = await openShard(other, shard.dir, shard.spec, shard.index)
        await reader.close()
        await Promise.all([other.close(), other.close()])
        await other.close()
        await expect(openShard(other, shard.dir, shard.spec, shard.index)).rejects.toMatchObject({
          tag: "Closed",
        })
      })

      it("one shard may be open more than once, and many shards at once", async () => {
        const shards = await Promise.all(
          Array.from({ length: 8 }, (_, i) => build(noiseRows(50, 4, i + 1), specOf(4))),
        )
        const readers = await Promise.all([...shards, shards[0]!].map(open))
        const firsts = await Promise.all(readers.map((reader) => reader.get(["r0000"])))
        expect(firsts.map(([record]) => record!.vector[0])).toEqual(
          [1, 2, 3, 4, 5, 6, 7, 8, 1].map((seed) => noise(1, seed)[0]),
        )
        await readers[8]!.close()
        expect((await readers[0]!.search(noise(4, 1), 1))[0]!.id).toBe("r0000")
        await Promise.all(readers.map((reader) => reader.close()))
      })

      it("reading leaves the files as they are, and none beside them", async () => {
        const shard = await build(noiseRows(300, 8), specOf(8))
        const before = await digest(shard.dir)
        const reader = await open(shard)
        await reader.search(noise(8), 5)
        await reader.get(["r0007"])
        expect(await digest(shard.dir)).toEqual(before)
        await reader.close()
        expect(await digest(shard.dir)).toEqual(before)
      })
    })

    describe("build", () => {
      it("works in a worker thread", async () => {
        const spec = specOf(8, { metric: "cosine", fields: [{ name: "n", type: "int64" }] })
        const dir = await emptyDir()
        const rows = rowsOf(noiseRows(2000, 8), spec)
        const worker = new Worker(new URL("./build-worker.js", import.meta.url), {
          workerData: { backend: suite.backend, rows, dir, spec },
        })
        const [[index]] = await Promise.all([once(worker, "message"), once(worker, "exit")])
        const reader = await open({ dir, spec, index })
        expect((await reader.search(noise(8), 1))[0]!.id).toBe("r0000")
        await reader.close()
      })

      it("refuses a directory that is missing, not a directory or not empty", async () => {
        const rows = rowsOf(noiseRows(3, 2), specOf(2))
        const missing = join(root, "missing")
        const file = join(root, "file")
        await writeFile(file, "")
        const used = await emptyDir()
        await writeFile(join(used, "x"), "")
        for (const dir of [missing, file, join(file, "below"), used]) {
          await expect(backend.build(rows, dir, specOf(2))).rejects.toMatchObject({
            tag: "InvalidInput",
            message: expect.stringContaining(dir),
          })
        }
        expect(existsSync(missing)).toBe(false)
        expect(await readdir(used)).toEqual(["x"])
      })

      it("refuses options that it does not have, and values that they cannot have", async () => {
        const spec = specOf(2)
        const rows = rowsOf(noiseRows(3, 2), spec)
        const wrong = [{ noSuch: 1 }]
        for (const [name, { least, most }] of Object.entries(backend.options))
          for (const value of [least - 1, most + 1, Number.NaN]) wrong.push({ [name]: value } as never)
        for (const options of wrong) {
          const dir = await emptyDir()
          await expect(backend.build(rows, dir, spec, options)).rejects.toMatchObject({
            tag: "InvalidInput",
            message: expect.stringContaining(`index.${Object.keys(options)[0]}`),
          })
          expect(await readdir(dir)).toEqual([])
        }
      })

      it("takes every option that it has, at its default", async () => {
        const spec = specOf(2)
        const rows = rowsOf(noiseRows(3, 2), spec)
        const defaults = Object.entries(backend.options).map(([name, option]) => [name, option.default])
        const index = await backend.build(rows, await emptyDir(), spec, Object.fromEntries(defaults))
        expect(index).toEqual(await backend.build(rows, await emptyDir(), spec))
      })

      it.skipIf(backend.limits.dim === Number.POSITIVE_INFINITY)(
        "takes as many dimensions as it says, and refuses more",
        async () => {
          const { dim } = backend.limits
          await withShard([{ id: "a", vector: noise(dim) }], specOf(dim), async (reader) => {
            expect((await reader.search(noise(dim), 1))[0]).toMatchObject({ id: "a", distance: 0 })
          })
          const spec = specOf(dim + 1)
          const rows = rowsOf([{ id: "a", vector: noise(dim + 1) }], spec)
          await expect(backend.build(rows, await emptyDir(), spec)).rejects.toMatchObject({
            tag: "Unsupported",
          })
        },
      )

      it("refuses rows that are not as promised", async () => {
        const fields: FieldSpec[] = [{ name: "n", type: "int64" }]
        const spec = specOf(2, { fields })
        const good = rowsOf(noiseRows(3, 2), spec)
        const ids = (...values: string[]) => ({ ...good, ids: { type: "string" as const, values } })
        const bad = [
          ids("a", "c", "b"),
          ids("a", "b", "b"),
          ids("a", "b"),
          ids("a", "b", "c\ud800"),
          { ...good, rows: 0 },
          { ...good, vectors: good.vectors.subarray(1) },
          { ...good, payloads: [] },
          { ...good, payloads: [null, null, `[${"1,".repeat(200_001)}1]`] },
          { ...good, fields: {} },
          { ...good, fields: { n: [1n, 2n, "3"] } },
          { ...good, fields: { n: [1n, 2n, 3] } },
          { ...good, fields: { n: [1n, 2n, 2n ** 63n] } },
          { ...good, ids: { type: "int64" as const, values: BigInt64Array.of(1n, 2n, 3n) } },
        ]
        for (const rows of bad) {
          const dir = await emptyDir()
          await expect(backend.build(rows, dir, spec)).rejects.toMatchObject({ tag: "InvalidInput" })
          expect(await readdir(dir)).toEqual([])
        }
      })
    })

    describe("damage", () => {
      const fields: FieldSpec[] = [{ name: "n", type: "int64" }]
      const spec = specOf(8, { metric: "cosine", fields })
      const sample = () => build(noiseRows(1200, 8), spec)

      it("a shard of another snapshot is Corrupt", async () => {
        const shard = await sample()
        const others: ShardSpec[] = [
          { ...spec, dim: 9 },
          { ...spec, metric: "l2" },
          { ...spec, id: { type: "int64", wide: false } },
          { ...spec, fields: [] },
          { ...spec, fields: [{ name: "m", type: "int64" }] },
          { ...spec, fields: [{ name: "n", type: "string" }] },
        ]
        for (const other of others) {
          const opening = open({ ...shard, spec: other })
          // One that is away is looked at when it comes.
          const used = suite.isAway ? opening.then((one) => one.search(noise(other.dim), 1)) : opening
          await expect(used).rejects.toMatchObject({
            tag: "Corrupt",
            message: expect.stringContaining(shard.dir),
          })
        }
        await expect(open({ ...shard, index: { kind: "other" } })).rejects.toMatchObject({ tag: "Corrupt" })
      })

      it("a missing shard is Corrupt, and its directory is not made", async () => {
        const shard = await sample()
        const empty = await emptyDir()
        const missing = join(root, "gone")
        for (const dir of [empty, missing]) {
          await expect(open({ ...shard, dir })).rejects.toMatchObject({
            tag: "Corrupt",
            message: expect.stringContaining(dir),
          })
        }
        expect(existsSync(missing)).toBe(false)
        expect(await readdir(empty)).toEqual([])
      })

      it("any file that is missing, empty or cut is Corrupt at the latest when it is read", async () => {
        const { dir } = await sample()
        const files = (await listFiles(dir)).sort()
        expect(files.length).toBeGreaterThan(0)
        for (const file of files) {
          for (const damage of ["missing", "empty", "halved", "one byte short"] as const) {
            const shard = await sample()
            // LanceDB's names are random; the same place in the sorted list is the same kind of file.
            const path = join(shard.dir, (await listFiles(shard.dir)).sort()[files.indexOf(file)]!)
            const size = (await readFile(path)).length
            if (damage === "missing") await rm(path)
            if (damage === "empty") await truncate(path, 0)
            if (damage === "halved") await truncate(path, size >> 1)
            if (damage === "one byte short") await truncate(path, size - 1)
            await expect(
              (async () => {
                const reader = await open(shard)
                try {
                  await reader.search(noise(8), 1200)
                  await reader.get(["r0000"])
                } finally {
                  await reader.close()
                }
              })(),
              `${path} ${damage}`,
            ).rejects.toMatchObject({ tag: "Corrupt", message: expect.stringContaining(shard.dir) })
          }
        }
      })

      it("whose source has no local copy is opened from ranges, or fails for want of one, as its traits say", async () => {
        const { dir, spec, index } = await sample()
        const noCopy = new Error("there is no local copy")
        const source = { ...localDirectory(dir), isLocal: false, localDir: () => Promise.reject(noCopy) }
        const opening = pool.open(source, spec, index)
        // Another process has no more than the path of a copy.
        if (backend.traits.ranges && suite.trust !== "untrusted") await (await opening).close()
        else await expect(opening).rejects.toBe(noCopy)
      })

      it("leaves the pool able to open other shards", async () => {
        const shard = await sample()
        await expect(open({ ...shard, dir: join(root, "gone") })).rejects.toMatchObject({ tag: "Corrupt" })
        const reader = await open(shard)
        expect(reader.rows).toBe(1200)
        await reader.close()
      })
    })
  })
}

async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = []
  for await (const item of items) all.push(item)
  return all
}

async function listFiles(dir: string): Promise<string[]> {
  const entries = await readdir(dir, { recursive: true, withFileTypes: true })
  return entries
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(dir.length))
}

/** All files below `dir` and what is in them. */
async function digest(dir: string): Promise<Record<string, string>> {
  const files = await listFiles(dir)
  const hashes = await Promise.all(
    files.map(async (file) => [
      file,
      createHash("sha256")
        .update(await readFile(join(dir, file)))
        .digest("hex"),
    ]),
  )
  return Object.fromEntries(hashes)
}
