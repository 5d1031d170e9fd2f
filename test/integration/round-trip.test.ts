/** What goes into a snapshot comes out of it, through a real store: ids, fields, payloads and vectors, values and types. */
import { mkdtemp, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import {
  BACKEND_NAMES,
  buildSnapshot,
  type Id,
  type Json,
  openSnapshot,
  type VectorRecord,
} from "../../src/index.js"
import { ALL } from "../support/scope.js"
import { s3Root } from "../support/stores.js"

let dir: string
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "vecsnap-test-"))
})
afterAll(() => rm(dir, { recursive: true, force: true }))

let caches = 0
const newCache = (): string => join(dir, `cache-${caches++}`)

const SAFE = Number.MAX_SAFE_INTEGER
const IDS: Record<string, { given: readonly Id[]; back: readonly Id[]; other: Id }> = {
  strings: {
    given: ["a", "A", "1", " ", "naïve", "日本", "🜚", "it's", 'q"uote', "back\\slash", "x".repeat(500)],
    back: ["a", "A", "1", " ", "naïve", "日本", "🜚", "it's", 'q"uote', "back\\slash", "x".repeat(500)],
    other: "b",
  },
  "integers that fit in 53 bits": {
    given: [0, 1, -1, 42n, SAFE, -SAFE, 2n ** 40n],
    back: [0, 1, -1, 42, SAFE, -SAFE, 2 ** 40],
    other: 2,
  },
  "integers beyond 53 bits": {
    given: [0, 7n, 2n ** 53n, 2n ** 53n + 1n, -(2n ** 53n) - 1n, 2n ** 63n - 1n, -(2n ** 63n)],
    back: [0n, 7n, 2n ** 53n, 2n ** 53n + 1n, -(2n ** 53n) - 1n, 2n ** 63n - 1n, -(2n ** 63n)],
    other: 2n ** 53n + 2n,
  },
}

describe.each(ALL ? BACKEND_NAMES : BACKEND_NAMES.slice(0, 1))("%s, through a store", (backend) => {
  it.each(Object.entries(IDS))(
    "gives back %s as they were, from get and search",
    async (_, { given, back, other }) => {
      const { url, store } = s3Root(`ids-${backend}`)
      const vectorOf = (i: number) => [Math.cos(i), Math.sin(i)]
      const records = given.map((id, i) => ({ id, vector: vectorOf(i), payload: i, shard: i % 3 }))
      await buildSnapshot(records, { to: url, store, backend, sharding: { strategy: "explicit", shards: 3 } })
      await using reader = await openSnapshot(url, { store, cacheDir: newCache() })

      const found = await reader.get([...given, other])
      expect(found.map((record) => record?.id)).toEqual([...back, undefined])
      expect(found.slice(0, -1).map((record) => record?.payload)).toEqual(given.map((_, i) => i))
      // Ids that came back lead to the same records, and so does asking every shard.
      for (const route of [{}, { shards: "all" }] as const) {
        expect(await reader.get(back, route)).toEqual(found.slice(0, -1))
      }
      for (const [i, id] of back.entries()) {
        const { hits } = await reader.search(vectorOf(i), { k: 1, shards: "all" })
        expect(hits.map((hit) => hit.id)).toEqual([id])
      }
    },
  )

  it("gives back every type of field and shape of payload as it was", async () => {
    const payloads: Json[] = [
      null,
      true,
      false,
      0,
      -0.5,
      1e300,
      SAFE,
      2n ** 53n + 1n,
      -(2n ** 80n),
      "",
      'text with \u0000, \u2028, "quotes", 🜚 and 日本',
      [],
      {},
      [1, [2, [3, [null]]], { deep: [{ er: true }] }],
      { "": 1, "a.b": { c: [] }, constructor: null, "1": "one", big: 9007199254740993n },
      "x".repeat(100_000),
      Array.from({ length: 2000 }, (_, i) => ({ i, text: `value ${i}` })),
    ]
    const fields = [
      { text: "", whole: 0, wide: 0n, real: 0, flag: false },
      { text: "日本 🜚 'quoted' \"twice\" \n", whole: -SAFE, wide: -(2n ** 63n), real: -1.5, flag: true },
      { text: "x".repeat(10_000), whole: SAFE, wide: 2n ** 63n - 1n, real: 5e-324, flag: null },
      { text: null, whole: null, wide: null, real: null, flag: null },
      { text: "NULL", whole: 1, wide: 2n ** 53n + 1n, real: Number.MAX_VALUE, flag: false },
    ]
    const FLOATS = [1.1, -2.5e9, 1.401298464324817e-45, 16777217]
    const records: VectorRecord[] = payloads.map((payload, i) => ({
      id: i,
      vector: FLOATS.map((x) => x / (i + 1)),
      fields: fields[i % fields.length]!,
      payload,
      shard: i % 2,
    }))
    const { url, store } = s3Root(`values-${backend}`)
    await buildSnapshot(records, {
      to: url,
      store,
      backend,
      metric: "dot",
      fields: { text: "string", whole: "int64", wide: "int64", real: "float64", flag: "bool" },
      sharding: { strategy: "explicit", shards: 2 },
    })
    await using reader = await openSnapshot(url, { store, cacheDir: newCache() })
    const found = await reader.get(records.map(({ id }) => id))
    const { hits } = await reader.search([1, 0, 0, 0], { k: 100, shards: "all" })
    expect(hits.length).toBe(records.length)
    for (const [i, record] of records.entries()) {
      const hit = hits.find(({ id }) => id === i)!
      for (const answer of [found[i]!, hit]) {
        expect(answer.id).toBe(i)
        expect(answer.payload).toStrictEqual(payloads[i])
        // A column of integers is `bigint` as a whole if one of them needs it: `wide` is, `whole` is not.
        expect(answer.fields).toStrictEqual(record.fields)
      }
      expect(found[i]!.vector).toEqual(Float32Array.from(record.vector))
    }
  })
})
