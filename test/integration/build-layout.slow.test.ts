import { readdir } from "node:fs/promises"
import { join } from "node:path"
import { describe, expect, it } from "vitest"
import {
  type BackendName,
  type BuildOptions,
  buildSnapshot,
  diffSnapshots,
  type Id,
  type Manifest,
  openSnapshot,
  openStore,
  readLive,
  type VectorRecord,
  verifyRoot,
} from "../../src/index.js"
import { readPlaces } from "../support/copies.js"
import { bruteForce, FIELDS, makeRecords } from "../support/records.js"
import { withTempDir } from "../support/stores.js"

const ROWS = 1500
const SHARDS = 12
const AFFINITY = { strategy: "cluster", shards: SHARDS, layout: "affinity" } as const
const FAST = { strategy: "cluster", shards: SHARDS, layout: "fast" } as const
const RECORDS = makeRecords(ROWS, { dim: 8 })

let roots = 0
function setUp(tempDir: string): {
  to: string
  build: (input: unknown, options?: Partial<BuildOptions>) => ReturnType<typeof buildSnapshot>
} {
  const to = `memory://layout-${process.pid}-${roots++}`
  return {
    to,
    build: (input, options) =>
      buildSnapshot(input as VectorRecord[], { to, tempDir, sharding: AFFINITY, fields: FIELDS, ...options }),
  }
}

const liveManifest = async (to: string): Promise<Manifest> => (await readLive(openStore(to))).manifest
const fingerprints = ({ shards }: Manifest) => shards.map(({ shard, fingerprint }) => [shard, fingerprint])

async function* once<T>(items: readonly T[]): AsyncGenerator<T> {
  yield* items
}

describe("a build with a layout", () => {
  it.each<[BackendName, "string" | "int", typeof AFFINITY | typeof FAST]>([
    ["sqlite-vec", "string", AFFINITY],
    ["sqlite-vec", "int", FAST],
    ["lancedb", "int", AFFINITY],
  ])("stores every row, and copies within the budget: %s, %s ids, %o", (backend, ids, sharding) =>
    withTempDir(async (tempDir) => {
      const records = makeRecords(ROWS, { dim: 8, ids })
      const { to, build } = setUp(tempDir)
      const report = await build(records, { backend, sharding })
      const manifest = await liveManifest(to)
      const stored = manifest.shards.reduce((sum, { rows }) => sum + rows, 0)
      const copies = stored - ROWS
      expect(report).toMatchObject({ rows: ROWS, copies, notes: [] })
      expect(manifest.rows).toBe(ROWS)
      expect(manifest.sharding.options).toMatchObject({ layout: sharding.layout })
      if (sharding.layout === "fast") {
        expect(manifest.copies).toBeUndefined()
        expect(copies).toBe(0)
      } else {
        expect(manifest.copies).toBe(copies)
        expect(copies).toBeGreaterThan(ROWS / 20)
        expect(copies).toBeLessThanOrEqual(0.2 * ROWS)
        // Rows held out for the certificate, one in twenty, are placed after all others whatever has room.
        const largest = Math.max(...manifest.shards.map(({ rows }) => rows))
        expect(largest).toBeLessThanOrEqual((1.1 * 1.2 * 1.2 * ROWS) / SHARDS)
      }

      // Each row is at its home by the locator, and its copies are equal to it.
      const places = await readPlaces(to, manifest)
      expect(places.size).toBe(ROWS)
      expect([...places.values()].reduce((sum, { shards }) => sum + shards.length, 0)).toBe(stored)
      for (const { shards } of places.values()) expect(new Set(shards).size).toBe(shards.length)

      const reader = await openSnapshot(to)
      try {
        const found = await reader.get(records.map(({ id }) => id))
        expect(found.map((record) => record?.id)).toEqual(records.map(({ id }) => id))
        for (const [i, record] of found.entries()) {
          const { vector, fields, payload } = records[i]!
          expect(record).toMatchObject({ vector, fields, payload })
          const place = places.get(records[i]!.id)!
          expect(place.shards).toContain(record!.shard)
          expect(place.located).toEqual([record!.shard])
        }
        for (const query of records.slice(0, 20)) {
          const { hits } = await reader.search(Float32Array.from(query.vector), { k: 10, probes: "all" })
          const expected = bruteForce(records, "cosine", query.vector, 10)
          expect(hits.map(({ id }) => id)).toEqual(expected.map(({ id }) => id))
        }
      } finally {
        await reader.close()
      }
      expect((await verifyRoot(openStore(to), { deep: true })).intact).toBe(true)
      expect(await readdir(tempDir)).toEqual([])
    }),
  )

  it("makes the same shards of the same rows, however many threads there are and however often they can be read", () =>
    withTempDir(async (tempDir) => {
      const { to, build } = setUp(tempDir)
      await build(RECORDS, { parallelism: 1 })
      const first = await liveManifest(to)
      const second = await build(once(RECORDS), { parallelism: 3 })
      expect(fingerprints(await liveManifest(to))).toEqual(fingerprints(first))
      expect(second.shards.reused).toBe(first.shards.length)
      const elsewhere = await build(RECORDS, { sharding: { ...AFFINITY, seed: 2 } })
      expect(elsewhere.shards.reused).toBeLessThan(first.shards.length)
    }))

  it("drops a row that loses as a duplicate in all its shards", () =>
    withTempDir(async (tempDir) => {
      const { to, build } = setUp(tempDir)
      // Each row twice, its second one with another payload.
      const twice = [
        ...RECORDS.slice(0, 750),
        ...RECORDS.slice(0, 750).map((record) => ({ ...record, payload: "second" })),
      ]
      await expect(build(twice)).rejects.toThrow(
        'id "id-0" occurs twice: records, row 1 and records, row 751 (750 duplicate rows in all)',
      )
      for (const onDuplicate of ["first", "last"] as const) {
        const report = await build(twice, { onDuplicate })
        expect(report).toMatchObject({ rows: 750, duplicateRows: 750 })
        expect(report.copies).toBeGreaterThan(0)
        const manifest = await liveManifest(to)
        const places = await readPlaces(to, manifest)
        expect(places.size).toBe(750)
        for (const { payloads, located, shards } of places.values()) {
          expect(located).toHaveLength(1)
          expect(shards).toContain(located[0])
          for (const payload of payloads) expect(payload === '"second"').toBe(onDuplicate === "last")
        }
        expect((await verifyRoot(openStore(to), { deep: true })).intact).toBe(true)
      }
    }))

  it("leaves bad rows out in both readings", () =>
    withTempDir(async (tempDir) => {
      const { to, build } = setUp(tempDir)
      const bad = RECORDS.map((record, i) =>
        i % 100 === 7 ? { ...record, vector: new Float32Array(8) } : record,
      )
      const report = await build(bad, { onBadRow: "skip" })
      expect(report).toMatchObject({ rows: ROWS - 15, skippedRows: 15 })
      const reader = await openSnapshot(to)
      try {
        const ids: Id[] = RECORDS.map(({ id }) => id)
        const found = await reader.get(ids)
        expect(found.filter((record) => record === undefined)).toHaveLength(15)
        // The right row in the right place: its vector is its own.
        expect(found[8]).toMatchObject({ vector: RECORDS[8]!.vector })
      } finally {
        await reader.close()
      }
    }))

  it("takes fast where affinity needs more memory than allowed, and says so if it was asked for", () =>
    withTempDir(async (tempDir) => {
      const { to, build } = setUp(tempDir)
      const warnings: string[] = []
      const silent = () => {}
      const logger = {
        debug: silent,
        info: silent,
        error: silent,
        warn: (_: object, text: string) => warnings.push(text),
      }
      const needed = 2 ** 26 + ROWS * (32 + 200)
      for (const memoryLimit of [needed, needed - 1, 1]) {
        warnings.length = 0
        const report = await build(RECORDS, { memoryLimit, logger, publish: false })
        const notes =
          memoryLimit === needed
            ? []
            : [
                `layout affinity of ${ROWS} rows needs ${needed} bytes, the memory limit is ${memoryLimit}; fast is taken instead`,
              ]
        expect(report.notes).toEqual(notes)
        expect(warnings.filter((text) => text.startsWith("layout "))).toEqual(notes)
        expect(report.copies > 0).toBe(memoryLimit === needed)
      }
      await build(RECORDS, { memoryLimit: 1 })
      const stepped = await liveManifest(to)
      expect(stepped.sharding.options).toMatchObject({ layout: "fast", replication: { budget: 1 } })
      // Just as if it had been asked for.
      await build(RECORDS, { sharding: FAST })
      expect(fingerprints(await liveManifest(to))).toEqual(fingerprints(stepped))
    }))

  it("of a sample places every row, and shards are nearly equal as far as a sample can tell", () =>
    withTempDir(async (tempDir) => {
      const { to, build } = setUp(tempDir)
      // The rows of one group come first, then those of others: prices are those of all.
      const records = makeRecords(4000, { dim: 8 }).sort((a, b) => a.vector[0]! - b.vector[0]!)
      await build(records, { sharding: { ...FAST, sampleRows: 1000 }, memoryLimit: 1 })
      const { shards } = await liveManifest(to)
      const sizes = shards.map(({ rows }) => rows)
      expect(sizes.reduce((sum, rows) => sum + rows)).toBe(4000)
      expect(Math.max(...sizes)).toBeLessThanOrEqual(Math.ceil((1.25 * 4000) / SHARDS))
      const reader = await openSnapshot(to)
      try {
        const found = await reader.search(Float32Array.from(records[7]!.vector), { k: 1, targetRecall: 0.9 })
        expect(found.hits[0]!.id).toBe(records[7]!.id)
      } finally {
        await reader.close()
      }
    }))

  it("of a sample copies rows near a border, if there is a budget for them", () =>
    withTempDir(async (tempDir) => {
      const { to, build } = setUp(tempDir)
      const records = makeRecords(4000, { dim: 8 })
      const sharding = { ...FAST, sampleRows: 1000, replication: { budget: 1.2 } }
      const { copies } = await build(records, { sharding, memoryLimit: 1 })
      expect(Math.abs(copies - 800)).toBeLessThan(120)
      const manifest = await liveManifest(to)
      expect(manifest.sharding.options).toMatchObject({ layout: "fast", replication: { budget: 1.2 } })
      expect(manifest.rows).toBe(4000)
      expect(manifest.shards.reduce((sum, { rows }) => sum + rows, 0)).toBe(4000 + copies)
      await using reader = await openSnapshot(to)
      const { hits } = await reader.search(Float32Array.from(records[7]!.vector), { k: 50, probes: "all" })
      expect(new Set(hits.map(({ id }) => id)).size).toBe(50)
    }))

  it("is by affinity if nothing is said, but plain for too few rows to measure anything", () =>
    withTempDir(async (tempDir) => {
      const { to, build } = setUp(tempDir)
      const sharding = { strategy: "cluster", shards: SHARDS } as const
      const records = makeRecords(2000, { dim: 8 })
      expect((await build(records, { sharding })).copies).toBeGreaterThan(0)
      expect((await liveManifest(to)).sharding.options).toMatchObject({ layout: "affinity" })
      expect(await build(records.slice(1), { sharding, allow: ["rows"] })).toMatchObject({
        copies: 0,
        notes: [],
      })
      const plain = await liveManifest(to)
      expect(plain.sharding.options.layout).toBeUndefined()
      await build(records.slice(1), { sharding: { ...sharding, layout: "plain" } })
      expect(fingerprints(await liveManifest(to))).toEqual(fingerprints(plain))
    }))

  it("is aborted at any stage and any step, and leaves nothing behind", () =>
    withTempDir(async (tempDir) => {
      const { to, build } = setUp(tempDir)
      const seen: string[] = []
      await build(RECORDS, {
        publish: false,
        onProgress: ({ stage, done }) => {
          if (stage === "layout") seen.push(`${stage} ${done}`)
          else if (!seen.includes(stage)) seen.push(stage)
        },
      })
      const expected = Array.from({ length: 9 }, (_, i) => `layout ${i + 1}`)
      expect(seen.filter((name) => name.startsWith("layout"))).toEqual(expected)
      for (const name of seen) {
        const controller = new AbortController()
        const aborted = build(RECORDS, {
          signal: controller.signal,
          onProgress: ({ stage, done }) => {
            if (name === stage || name === `${stage} ${done}`) controller.abort()
          },
        })
        await expect(aborted, name).rejects.toMatchObject({ tag: "Aborted" })
        expect(await readdir(tempDir)).toEqual([])
      }
      await expect(readLive(openStore(to))).rejects.toMatchObject({ tag: "NotFound" })
    }))

  it("keeps the main thread free while rows are laid out", () =>
    withTempDir(async (tempDir) => {
      const { build } = setUp(tempDir)
      let step = ""
      const stepsWithTicks = new Set<string>()
      const ticks = setInterval(() => stepsWithTicks.add(step), 1)
      try {
        await build(RECORDS, {
          onProgress: ({ stage, done }) => {
            step = `${stage} ${done}`
          },
        })
      } finally {
        clearInterval(ticks)
      }
      // The steps are told one by one while they run, not all at the end.
      expect([...stepsWithTicks].filter((name) => name.startsWith("layout")).length).toBeGreaterThan(5)
    }))

  it("refuses fewer rows than shards, and an input that changes between its readings", () =>
    withTempDir(async (tempDir) => {
      const { build } = setUp(tempDir)
      await expect(build(RECORDS.slice(0, 11))).rejects.toThrow(
        "12 cluster shards need 12 rows or more, got 11; ask for 11 shards or fewer",
      )
      expect(await build(RECORDS.slice(0, SHARDS))).toMatchObject({ rows: SHARDS })
      for (const [first, second] of [
        [600, 700],
        [700, 600],
      ] as const) {
        const changing = RECORDS.slice(0, first)
        const change = ({ stage }: { stage: string }) => {
          if (stage === "layout") changing.splice(0, first, ...RECORDS.slice(0, second))
        }
        await expect(build(changing, { onProgress: change })).rejects.toThrow(
          /had \d+ rows when first read and .* when read again/,
        )
      }
      expect(await readdir(join(tempDir))).toEqual([])
    }))

  it("is compared by rows: a copy is no row of its own, and a row moves with its home", () =>
    withTempDir(async (tempDir) => {
      const { to, build } = setUp(tempDir)
      await build(RECORDS)
      const before = await liveManifest(to)
      const changed = RECORDS.slice(10).map((record, i) => (i === 0 ? { ...record, payload: "new" } : record))
      await build(changed)
      const diff = await diffSnapshots(openStore(to), before.run, "live", { limit: 20 })
      expect(diff.rows.removed.ids).toEqual(RECORDS.slice(0, 10).map(({ id }) => id))
      expect(diff.rows.added.count).toBe(0)
      expect(diff.rows.changed).toMatchObject({ count: 1, ids: ["id-10"], payload: 1 })
      expect(diff.rows.unchanged).toBe(ROWS - 11)
    }))
})
