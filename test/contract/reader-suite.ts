/**
 * What every `Reader` must do, written against the interface: readers of any backend, store and snapshot format, and whatever
 * else has the same interface.
 */
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import type { OpenOptions, Reader, VectorRecord } from "../../src/index.js"
import { bruteForce, FIELDS, makeRecords } from "../support/records.js"

/** What an implementation may lack. */
export type ReaderFeature =
  /** Fields of records, and `context` of the strategy `cel`, which is over them. */
  | "fields"
  /** Ids that are integers. */
  | "integer ids"
  /** A listener for refreshes that fail, and a root whose pointer can be damaged. */
  | "damage"

export type ReaderSharding =
  | { readonly strategy: "explicit"; readonly shards: number }
  | { readonly strategy: "cluster"; readonly shards: number }
  | { readonly strategy: "cel"; readonly shards: number; readonly expression: string }

/** A root of its own, with nothing in it. */
export interface ReaderRoot {
  /** Makes a snapshot of the records live; returns its run. The metric is cosine. */
  publish(records: readonly VectorRecord[], sharding: ReaderSharding): Promise<string>
  open(options?: OpenOptions): Promise<Reader>
  /** Damages what tells which snapshot is live. */
  damage(): Promise<void>
  remove(): Promise<void>
}

export interface ReaderSuite {
  makeRoot(): Promise<ReaderRoot>
  readonly lacks?: readonly ReaderFeature[]
}

const SHARDS = 3
const EXPLICIT = { strategy: "explicit", shards: SHARDS } as const
const RECORDS = makeRecords(60, { dim: 4, shards: SHARDS })
const OTHERS = makeRecords(60, { dim: 4, shards: SHARDS, seed: 8 })
const QUERY = RECORDS[7]!.vector as Float32Array
const ALL = { shards: "all", k: 5 } as const

export function describeReader(title: string, { makeRoot, lacks = [] }: ReaderSuite): void {
  const has = (feature: ReaderFeature): boolean => !lacks.includes(feature)

  async function withRoot(
    work: (root: ReaderRoot) => Promise<void>,
    records: readonly VectorRecord[] = RECORDS,
    sharding: ReaderSharding = EXPLICIT,
  ): Promise<void> {
    const root = await makeRoot()
    try {
      if (records.length > 0) await root.publish(records, sharding)
      await work(root)
    } finally {
      await root.remove()
    }
  }

  describe(title, () => {
    describe("questions", () => {
      let root: ReaderRoot
      let reader: Reader
      beforeAll(async () => {
        root = await makeRoot()
        await root.publish(RECORDS, EXPLICIT)
        reader = await root.open()
      })
      afterAll(async () => {
        await reader?.close()
        await root?.remove()
      })

      it("are answered with the nearest records of all shards, whole", async () => {
        const { hits, complete, shards, snapshot } = await reader.search(QUERY, ALL)
        const nearest = bruteForce(RECORDS, "cosine", QUERY, ALL.k)
        expect(hits.map(({ id }) => id)).toEqual(nearest.map(({ id }) => id))
        for (const [i, { distance }] of hits.entries()) expect(distance).toBeCloseTo(nearest[i]!.distance, 5)
        const { payload, fields } = RECORDS[7]!
        expect(hits[0]).toMatchObject({ id: "id-7", shard: 7 % SHARDS, payload })
        if (has("fields")) expect(hits[0]!.fields).toEqual(fields)
        expect(complete).toBe(true)
        expect({ ...shards, asked: [...shards.asked].sort() }).toMatchObject({ asked: [0, 1, 2], failed: [] })
        expect(snapshot).toBe(reader.snapshot.run)
      })

      it("of several queries are answered in order, as each alone", async () => {
        const queries = RECORDS.slice(0, 6).map(({ vector }) => vector as Float32Array)
        const together = await reader.searchMany(queries, ALL)
        expect(together).toEqual(await Promise.all(queries.map((query) => reader.search(query, ALL))))
        expect(await reader.searchMany([], ALL)).toEqual([])
      })

      it("keep to the shards that they name", async () => {
        const { hits, shards } = await reader.search(QUERY, { shards: [2], k: 100 })
        expect(shards).toEqual({ asked: [2], answered: [2], failed: [] })
        expect(hits.length).toBe(RECORDS.filter(({ shard }) => shard === 2).length)
        expect(new Set(hits.map(({ shard }) => shard))).toEqual(new Set([2]))
      })

      it("by id give records in order, undefined where there is none", async () => {
        const [first, none, again] = await reader.get(["id-4", "no such id", "id-4"])
        expect(first).toMatchObject({ id: "id-4", shard: 4 % SHARDS, payload: RECORDS[4]!.payload })
        expect([...first!.vector]).toEqual([...(RECORDS[4]!.vector as Float32Array)])
        expect(none).toBeUndefined()
        expect(again).toEqual(first)
        expect(await reader.get(["id-4"], { shards: [0] })).toEqual([undefined])
      })

      it.each([
        ["a vector of another dimension", () => reader.search([1, 2], ALL)],
        ["a vector that is not finite", () => reader.search([1, 2, 3, Number.NaN], ALL)],
        ["no neighbours", () => reader.search(QUERY, { ...ALL, k: 0 })],
        ["a shard that does not exist", () => reader.search(QUERY, { shards: [SHARDS] })],
        ["probes besides shards", () => reader.search(QUERY, { shards: [0], probes: 1 })],
        ["a target that is no share", () => reader.search(QUERY, { targetRecall: 2 })],
        ["an id of another type", () => reader.get([7])],
        ["a time limit that is none", () => reader.search(QUERY, { ...ALL, timeoutMs: 0 })],
      ])("for %s are refused as wrong input", async (_, ask) => {
        await expect(ask()).rejects.toMatchObject({ tag: "InvalidInput" })
      })

      it("end at once when their signal has fired", async () => {
        const signal = AbortSignal.abort()
        await expect(reader.search(QUERY, { ...ALL, signal })).rejects.toMatchObject({ tag: "Aborted" })
        await expect(reader.get(["id-4"], { signal })).rejects.toMatchObject({ tag: "Aborted" })
        expect((await reader.search(QUERY, ALL)).complete).toBe(true)
      })

      it("leave figures and a healthy reader", async () => {
        await reader.search(QUERY, ALL)
        expect(await reader.health()).toMatchObject({
          status: "healthy",
          reasons: [],
          snapshot: reader.snapshot.run,
          pinned: false,
        })
        expect(reader.stats()).toMatchObject({ openShards: SHARDS, calls: { running: 0, queued: 0 } })
        expect(reader.snapshot).toMatchObject({
          rows: RECORDS.length,
          dim: 4,
          metric: "cosine",
          idType: "string",
          strategy: "explicit",
          shards: SHARDS,
        })
      })
    })

    it.runIf(has("integer ids"))("hands integer ids back as integers", () =>
      withRoot(
        async (root) => {
          await using reader = await root.open()
          expect((await reader.search(QUERY, { ...ALL, k: 1 })).hits[0]!.id).toBe(2)
          expect((await reader.get([2n]))[0]!.id).toBe(2)
          await expect(reader.get(["2"])).rejects.toMatchObject({ tag: "InvalidInput" })
        },
        makeRecords(60, { dim: 4, ids: "int", shards: SHARDS }),
      ),
    )

    it("ranks shards for a vector, and searches as many as it is told", () =>
      withRoot(
        async (root) => {
          await using reader = await root.open()
          expect(reader.snapshot.strategy).toBe("cluster")
          const one = await reader.search(QUERY, { probes: 1, k: 1 })
          expect(one.shards.asked).toHaveLength(1)
          const two = await reader.search(QUERY, { probes: 2, k: 1 })
          expect(two.shards.asked[0]).toBe(one.shards.asked[0])
          expect(two.shards.asked).toHaveLength(2)
          const all = await reader.search(QUERY, { probes: "all", k: 5 })
          expect(all.hits.map(({ id }) => id)).toEqual(
            bruteForce(RECORDS, "cosine", QUERY, 5).map(({ id }) => id),
          )
        },
        RECORDS,
        { strategy: "cluster", shards: SHARDS },
      ))

    it.runIf(has("fields"))("finds the shard of a context", () =>
      withRoot(
        async (root) => {
          await using reader = await root.open()
          const { shards, hits } = await reader.search(QUERY, { context: CONTEXT, k: 100 })
          expect(shards.asked).toHaveLength(1)
          const ids = hits.map(({ id }) => id)
          const same = RECORDS.filter(({ fields }) => fields!.year === CONTEXT.year)
          expect(ids).toEqual(expect.arrayContaining(same.map(({ id }) => id)))
          await expect(reader.search(QUERY)).rejects.toMatchObject({ tag: "InvalidInput" })
        },
        RECORDS,
        { strategy: "cel", shards: SHARDS, expression: `year % ${SHARDS}` },
      ),
    )

    it("moves to the snapshot that is live, whole, and says so", () =>
      withRoot(async (root) => {
        await using reader = await root.open()
        const { run: from } = reader.snapshot
        const told: unknown[] = []
        const listener = (result: unknown): void => void told.push(result)
        reader.on("refreshed", listener)
        expect(await reader.refresh()).toMatchObject({ changed: false, from, to: from, pinned: false })
        const to = await root.publish(OTHERS, EXPLICIT)
        expect((await reader.search(QUERY, ALL)).snapshot).toBe(from)

        // Searches around the swap: each is of one snapshot, and none of a later one is followed by an earlier.
        let swapped = false
        const runs: string[] = []
        const searching = (async () => {
          while (!swapped) runs.push((await reader.search(QUERY, ALL)).snapshot)
        })()
        const results = await Promise.all([reader.refresh(), reader.refresh()])
        swapped = true
        await searching
        expect(results).toEqual([results[0], results[0]])
        expect(results[0]).toMatchObject({ changed: true, from, to })
        expect(runs).toEqual(runs.toSorted((a, b) => [from, to].indexOf(a) - [from, to].indexOf(b)))

        const { snapshot, hits } = await reader.search(QUERY, ALL)
        expect(snapshot).toBe(to)
        expect(hits.map(({ id }) => id)).toEqual(
          bruteForce(OTHERS, "cosine", QUERY, ALL.k).map(({ id }) => id),
        )
        expect(told).toEqual([results[0]])
        reader.off("refreshed", listener)
      }))

    it("stays with the snapshot that it was told to", () =>
      withRoot(async (root) => {
        const first = await root.publish(OTHERS, EXPLICIT)
        await root.publish(RECORDS, EXPLICIT)
        await using reader = await root.open({ snapshot: first })
        expect(await reader.refresh()).toMatchObject({ changed: false, to: first, pinned: true })
        expect((await reader.search(QUERY, ALL)).snapshot).toBe(first)
        expect((await reader.health()).pinned).toBe(true)
      }))

    it("answers nothing once it is closed, and tells how it was", () =>
      withRoot(async (root) => {
        const reader = await root.open()
        const running = reader.search(QUERY, ALL)
        await Promise.all([reader.close(), reader.close()])
        expect((await running).complete).toBe(true)
        for (const call of [
          () => reader.search(QUERY, ALL),
          () => reader.searchMany([QUERY], ALL),
          () => reader.get(["id-4"]),
          () => reader.refresh(),
          () => reader.warm(),
        ])
          await expect(call()).rejects.toMatchObject({ tag: "Closed" })
        expect(() => reader.snapshot).toThrow("this reader is closed")
        expect(await reader.health()).toMatchObject({
          status: "unhealthy",
          reasons: ["this reader is closed"],
        })
      }))

    it("is not opened where nothing is published", () =>
      withRoot(async (root) => {
        await expect(root.open()).rejects.toMatchObject({ tag: "NotFound" })
      }, []))

    it.runIf(has("damage"))("is not opened on a damaged root; an open one stays as it is, and says so", () =>
      withRoot(async (root) => {
        await using reader = await root.open()
        const { run } = reader.snapshot
        const failures: unknown[] = []
        reader.on("refresh-failed", ({ error }) => void failures.push(error))
        await root.damage()
        await expect(root.open()).rejects.toMatchObject({ tag: "Corrupt" })
        await expect(reader.refresh()).rejects.toMatchObject({ tag: "Corrupt" })
        expect(failures).toMatchObject([{ tag: "Corrupt" }])
        expect((await reader.search(QUERY, ALL)).snapshot).toBe(run)
        expect((await reader.health()).status).toBe("degraded")
      }),
    )
  })
}

const CONTEXT = { year: 1997 }

/** The declared fields of the records that the suite publishes. */
export const SUITE_FIELDS = FIELDS
