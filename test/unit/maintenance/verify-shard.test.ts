import { describe, expect, it } from "vitest"
import { takenDown } from "../../../src/maintenance/verify/repair.js"
import { checkRecords } from "../../../src/maintenance/verify/shard.js"
import type { Pointer, Publication, PublicationAction } from "../../../src/manifest/pointer.js"
import type { Id, StoredRecord } from "../../../src/records.js"
import type { ShardHit, ShardReader } from "../../../src/shards/backend.js"
import type { ShardQuery } from "../../../src/shards/query.js"
import type { Metric } from "../../../src/vectors/metric.js"
import { naiveDistance, specOf } from "../../contract/shard-rows.js"

const record = (id: Id, ...vector: number[]): StoredRecord => ({
  id,
  vector: Float32Array.from(vector),
  fields: {},
  payload: null,
})
const RECORDS = [record("a", 1, 0), record("b", 0, 1), record("c", 1, 1)]

const hit = (id: Id, distance: number): ShardHit => ({ id, distance, fields: {}, payload: null })

const nearest = (records: readonly StoredRecord[], vector: Float32Array, k: number, metric: Metric) =>
  records
    .map((record) => hit(record.id, naiveDistance(metric, vector, record.vector)))
    .sort((a, b) => a.distance - b.distance)
    .slice(0, k)

/** What is found wrong with a shard that answers so. */
async function check(
  {
    records = RECORDS,
    ...more
  }: { records?: readonly StoredRecord[] } & Partial<Omit<ShardReader, "records">>,
  metric: Metric = "l2",
): Promise<readonly string[]> {
  const reader: ShardReader = {
    rows: records.length,
    bytes: 0,
    async *records() {
      yield records
    },
    get: async ([id]) => [records.find((found) => found.id === id)],
    search: async ({ vector, k }) => nearest(records, vector, k, metric),
    close: async () => {},
    ...more,
  }
  return checkRecords("shard", reader, 3, specOf(2, { metric }), async () => {})
}

describe("the check of a shard", () => {
  it.each(["l2", "cosine", "dot"] as const)("finds nothing in a sound one under %s", async (metric) => {
    expect(await check({}, metric)).toEqual([])
  })

  it("finds missing rows, ids out of order or twice, and vectors that are none", async () => {
    expect(await check({ records: RECORDS.slice(1) })).toEqual(["shard has 2 rows, the manifest says 3"])
    expect(await check({ records: [RECORDS[1]!, RECORDS[0]!, RECORDS[2]!] })).toEqual([
      'shard: id "a" follows "b": expected rising ids, each once',
    ])
    const same = record("a", 1, 0)
    expect(await check({ records: [same, same, same] })).toEqual([
      'shard: id "a" follows "a": expected rising ids, each once (2 such rows)',
    ])
    const [problem] = await check({ records: [RECORDS[0]!, record("b", Number.NaN, 0), RECORDS[2]!] })
    expect(problem).toMatch(/^shard: the vector of "b" .*NaN/)
  })

  it("finds records that a lookup or a search does not", async () => {
    expect(await check({ get: async () => [undefined] })).toHaveLength(3)
    expect((await check({ get: async () => [record("a", 1, 0)] })).join()).toBe(
      'shard: a lookup of id "b" does not give its record,shard: a lookup of id "c" does not give its record',
    )
    const far = async ({ vector, k }: ShardQuery) =>
      k === 1 ? [hit("b", 0.5)] : nearest(RECORDS, vector, k, "l2")
    const [first] = await check({ search: far })
    expect(first).toBe(
      'shard: a search for the vector of id "a" finds "b" at distance 0.5, expected a distance of at most 0',
    )
    const nothing = async ({ vector, k }: ShardQuery) => (k === 1 ? [] : nearest(RECORDS, vector, k, "dot"))
    expect(await check({ search: nothing }, "dot")).toHaveLength(3)
  })

  it("finds what a search for all rows does not find, finds elsewhere, or finds besides", async () => {
    const answer =
      (change: (hits: ShardHit[]) => ShardHit[]) =>
      async ({ vector, k }: ShardQuery) =>
        k === 1 ? nearest(RECORDS, vector, k, "l2") : change(nearest(RECORDS, vector, k, "l2"))
    expect(await check({ search: answer((hits) => hits.slice(0, 2)) })).toEqual([
      'shard: a search for all rows does not find id "b"',
    ])
    expect(await check({ search: answer((hits) => [...hits, hit("z", 9)]) })).toEqual([
      'shard: a search for all rows finds id "z", which is no record',
    ])
    expect(
      await check({ search: answer((hits) => hits.map((one) => hit(one.id, one.distance + 1))) }),
    ).toEqual(['shard: a search finds id "a" at distance 1, expected 0 (3 such rows)'])
    expect(
      await check({ search: answer((hits) => hits.map((one) => hit(one.id, Number.NaN))) }),
    ).toHaveLength(1)
  })
})

describe("what a rollback took down", () => {
  const pointer = (...published: [run: string, action: PublicationAction][]): Pointer => {
    const all = published.map(
      ([run, action], i): Publication => ({
        number: i + 1,
        run,
        manifest: run,
        publishedAt: new Date(0),
        action,
      }),
    )
    const [live, ...history] = all.reverse()
    return { ...live!, history, condemned: [], write: "" }
  }

  it("is the run that was live right before, until it is published again", () => {
    expect([
      ...takenDown(pointer(["a", "publish"], ["b", "publish"], ["a", "rollback"], ["c", "publish"])),
    ]).toEqual(["b"])
    const again = pointer(
      ["a", "publish"],
      ["b", "publish"],
      ["a", "rollback"],
      ["b", "publish"],
      ["c", "publish"],
    )
    expect([...takenDown(again)]).toEqual([])
    expect([...takenDown(pointer(["a", "publish"], ["b", "repair"]))]).toEqual([])
  })
})
