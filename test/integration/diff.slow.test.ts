import { readdir } from "node:fs/promises"
import fc from "fast-check"
import { describe, expect, it } from "vitest"
import { run } from "../../cli/run.js"
import {
  buildSnapshot,
  diffSnapshots,
  openStore,
  type RowChange,
  stringifyJson,
  type VectorRecord,
} from "../../src/index.js"
import { compareIds } from "../../src/records.js"
import { makeRecords, FIELDS as RECORD_FIELDS } from "../support/records.js"
import { withTempDir } from "../support/stores.js"
import { captureIo } from "../unit/cli/capture.js"

const FIELDS = { tag: "string", n: "int64" } as const
let roots = 0

/** The diff by its definition, in memory. */
function plainDiff(before: readonly VectorRecord[], after: readonly VectorRecord[]): RowChange[] {
  const old = new Map(before.map((record) => [record.id, record]))
  const changes: RowChange[] = []
  for (const record of after) {
    const { id } = record
    const earlier = old.get(id)
    old.delete(id)
    if (earlier === undefined) {
      changes.push({ id, change: "added" })
      continue
    }
    const parts = (["vector", "fields", "payload"] as const).filter(
      (part) => stringifyJson(record[part] ?? null) !== stringifyJson(earlier[part] ?? null),
    )
    const moved = earlier.shard === record.shard ? {} : { fromShard: earlier.shard!, toShard: record.shard! }
    if (parts.length > 0) changes.push({ id, change: "changed", parts, ...moved })
    else if (earlier.shard !== record.shard) changes.push({ id, change: "moved", ...moved })
  }
  for (const id of old.keys()) changes.push({ id, change: "removed" })
  return changes.sort((a, b) => compareIds(a.id, b.id))
}

const recordsOf = (ids: fc.Arbitrary<string | number>): fc.Arbitrary<VectorRecord[]> =>
  fc.uniqueArray(
    fc.record({
      id: ids,
      vector: fc.constantFrom([1, 2], [2, 1], [0.5, -1]),
      fields: fc.record({ tag: fc.constantFrom("a", "b", null), n: fc.constantFrom(1, 2, null) }),
      payload: fc.constantFrom(null, "x", { deep: [1] }),
      shard: fc.nat(2),
    }),
    { minLength: 1, maxLength: 25, selector: ({ id }) => id },
  )

describe.each(["sqlite-vec", "lancedb"] as const)("the diff of two %s snapshots", (backend) => {
  const IDS = {
    string: fc.oneof(
      fc.integer({ min: 0, max: 30 }).map((n) => `r${n}`),
      fc.string({ unit: "grapheme", minLength: 1, maxLength: 3 }),
    ),
    int64: fc.integer({ min: -15, max: 15 }),
  }

  it.each(["string", "int64"] as const)("is that of a plain comparison, with %s ids", async (type) => {
    const records = recordsOf(IDS[type])
    await fc.assert(
      fc.asyncProperty(records, records, fc.constantFrom(2, 1000), async (before, after, rowsPerBucket) => {
        const store = openStore(`memory://diff-${roots++}`)
        const sharding = { strategy: "explicit", shards: 3 } as const
        const options = { to: store, backend, fields: FIELDS, sharding, metric: "l2" } as const
        const a = await buildSnapshot(before, options)
        const b = await buildSnapshot(after, options)
        const rows: RowChange[] = []
        const diff = await diffSnapshots(store, a.run, b.run, {
          limit: 3,
          rowsPerBucket,
          onRow: (row) => void rows.push(row),
        })
        const expected = plainDiff(before, after)
        expect(rows.sort((a, b) => compareIds(a.id, b.id))).toEqual(expected)
        const ids = (keep: (row: RowChange) => boolean) => expected.filter(keep).map(({ id }) => id)
        for (const change of ["added", "removed", "changed"] as const) {
          const wanted = ids((row) => row.change === change)
          expect(diff.rows[change]).toMatchObject({ count: wanted.length, ids: wanted.slice(0, 3) })
        }
        const moved = ids(({ toShard }) => toShard !== undefined)
        expect(diff.rows.moved).toEqual({ count: moved.length, ids: moved.slice(0, 3) })
        const changed = expected.filter(({ change }) => change === "changed")
        for (const part of ["vector", "fields", "payload"] as const)
          expect(diff.rows.changed[part]).toBe(changed.filter(({ parts }) => parts!.includes(part)).length)
        const { added, unchanged } = diff.rows
        expect(unchanged + added.count + diff.rows.changed.count).toBe(after.length)
        store.close()
      }),
      { numRuns: 3, seed: 5 },
    )
  })
})

describe("a diff", () => {
  it("does not read shards whose content is the same, and leaves no file behind", async () => {
    const store = openStore(`memory://diff-${roots++}`)
    const records = makeRecords(80, { dim: 4 })
    const sharding = { strategy: "explicit", shards: 4 } as const
    const options = { to: store, sharding, fields: RECORD_FIELDS }
    await buildSnapshot(records, options)
    await buildSnapshot(records.slice(0, -1), options)
    await withTempDir(async (tempDir) => {
      const diff = await diffSnapshots(store, "previous", "live", { tempDir })
      expect(diff.shards).toEqual({ same: 3, read: 2 })
      expect(diff.rows).toMatchObject({ removed: { count: 1, ids: ["id-79"] }, unchanged: 79 })
      expect(diff.routing).toEqual({ centroids: undefined, elsewhere: undefined })
      expect(await readdir(tempDir)).toEqual([])
    })
  })

  it("tells how far routing drifted, and which parameters changed", async () => {
    const store = openStore(`memory://diff-${roots++}`)
    const records = makeRecords(200, { dim: 4 })
    const base = { to: store, metric: "l2", model: "m1", fields: RECORD_FIELDS } as const
    const first = await buildSnapshot(records, { ...base, sharding: { strategy: "cluster", shards: 4 } })
    await buildSnapshot(records, { ...base, sharding: { strategy: "cluster", shards: 4 } })
    const same = await diffSnapshots(store, first.run, "live")
    expect(same.routing.elsewhere).toBe(0)
    expect(same.routing.centroids).toEqual(
      [0, 1, 2, 3].map((shard) => ({ shard, nearest: shard, distance: 0 })),
    )
    expect(same.parameters).toEqual([])

    // All of it ten to the right: shards keep their rows, and the earlier routing would not find them.
    const shifted = records.map((record) => ({ ...record, vector: Array.from(record.vector, (x) => x + 10) }))
    await buildSnapshot(shifted, {
      ...base,
      model: "m2",
      allow: ["model"],
      sharding: { strategy: "cluster", shards: 4, probes: 3 },
    })
    const drift = await diffSnapshots(store, first.run, "live")
    expect(Math.min(...drift.routing.centroids!.map(({ distance }) => distance))).toBeGreaterThan(15)
    expect(drift.routing.elsewhere).toBeGreaterThan(50)
    expect(drift.rows.changed).toMatchObject({ count: 200, vector: 200, fields: 0, payload: 0 })
    expect(drift.parameters).toEqual([
      { name: "model", before: '"m1"', after: '"m2"' },
      { name: "sharding.probes", before: "1", after: "3" },
    ])
  })

  it("takes an integer and a text for different ids", async () => {
    const store = openStore(`memory://diff-${roots++}`)
    const sharding = { strategy: "explicit", shards: 1 } as const
    await buildSnapshot([{ id: 1, vector: [1, 2], shard: 0 }], { to: store, sharding })
    await buildSnapshot([{ id: "1", vector: [1, 2], shard: 0 }], { to: store, sharding })
    const { rows } = await diffSnapshots(store, "previous", "live")
    expect([rows.added.ids, rows.removed.ids]).toEqual([["1"], [1]])
  })

  it("has a command line, with lines of JSON for every row", async () => {
    const store = openStore(`memory://diff-${roots++}`)
    const sharding = { strategy: "explicit", shards: 2 } as const
    const record = (id: string, x: number, shard: number) => ({ id, vector: [x, 1], shard })
    const first = await buildSnapshot([record("a", 1, 0), record("b", 1, 0)], { to: store, sharding })
    expect(await run(["diff", store.url, "previous", "live"], captureIo())).toBe(3)
    await buildSnapshot([record("b", 2, 1), record("c", 1, 1)], { to: store, sharding })
    const lines = captureIo()
    expect(await run(["diff", store.url, first.run, "live", "--ids"], lines)).toBe(0)
    expect(
      lines
        .out()
        .trim()
        .split("\n")
        .map((line) => JSON.parse(line))
        .sort((a, b) => (a.id < b.id ? -1 : 1)),
    ).toEqual([
      { id: "a", change: "removed" },
      { id: "b", change: "changed", parts: ["vector"], fromShard: 0, toShard: 1 },
      { id: "c", change: "added" },
    ])
    expect(lines.err()).toContain("added      1: c\n")
    const json = captureIo()
    expect(await run(["diff", store.url, "previous", "live", "--json", "--limit", "0"], json)).toBe(0)
    expect(JSON.parse(json.out())).toMatchObject({
      rows: { added: { count: 1, ids: [] }, moved: { count: 1 }, unchanged: 0 },
      routing: { centroids: null, elsewhere: null },
    })
    expect(await run(["diff", store.url, "nonsense", "live"], captureIo())).toBe(2)
  })
})
