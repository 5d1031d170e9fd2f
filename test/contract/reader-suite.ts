/**
 * What every `Reader` must do, written against the interface: readers of any backend, store and snapshot format, and whatever
 * else has the same interface.
 */
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import type { OpenOptions, Reader, VectorRecord } from "../../src/index.js"
import { bruteForce, FIELDS, makeRecords, plainDistance } from "../support/records.js"

/** What an implementation may lack. */
export type ReaderFeature =
  /** Fields of records, and `context` of the strategy `cel`, which is over them. */
  | "fields"
  /** Ids that are integers. */
  | "integer ids"
  /** Knows the shard of an id. Without, `get` asks every shard. */
  | "locator"
  /** Recall that the build has measured, and so `targetRecall`. */
  | "measured recall"
  /** Shards opened, and counted, in the process that asks. A fleet has them elsewhere. */
  | "shards of its own"
  /** What is live can be followed: `refresh` and `snapshot`. */
  | "pointer"
  /** Stored files that can be damaged, and reads of them that can be held. */
  | "files"

export type ReaderSharding =
  | { readonly strategy: "explicit"; readonly shards: number }
  | { readonly strategy: "cluster"; readonly shards: number }
  | { readonly strategy: "cel"; readonly shards: number; readonly expression: string }

/** A root of its own, with nothing in it. What a feature names is not called where that feature is lacking. */
export interface ReaderRoot {
  /** Makes a snapshot of the records live; returns its run. The metric is cosine. */
  publish(records: readonly VectorRecord[], sharding: ReaderSharding): Promise<string>
  /** A reader that has no shard yet, neither open nor on disk. */
  open(options?: OpenOptions): Promise<Reader>
  /** Damages what tells which snapshot is live ("pointer"). */
  damagePointer(): Promise<void>
  /** Replaces what tells which snapshot is live by what a later version would write ("pointer"). */
  makeTooNew(): Promise<void>
  /** Damages a shard of the live snapshot ("files"). */
  damageShard(shard: number): Promise<void>
  /** Removes the files of a shard of the live snapshot ("files"). */
  removeShard(shard: number): Promise<void>
  /** Holds reads of shards by readers of this root ("files"). */
  holdShards(): HeldReads
  remove(): Promise<void>
}

export interface HeldReads {
  /** Resolves when a read is held. */
  arrived(): Promise<unknown>
  /** Lets through what is held, and holds nothing any more. */
  release(): void
}

export interface ReaderSuite {
  makeRoot(): Promise<ReaderRoot>
  readonly lacks?: readonly ReaderFeature[]
}

const SHARDS = 3
const EXPLICIT = { strategy: "explicit", shards: SHARDS } as const
const RECORDS = makeRecords(60, { dim: 4, shards: SHARDS })
/** As many as it takes for a build to measure recall. */
const MANY = makeRecords(400, { dim: 4, shards: SHARDS })
/** Enough for shards that are divided within, and the last ones as near to whatever is asked as the first. */
const LARGE = makeRecords(2600, { dim: 4, shards: 2 })
for (const [i, record] of LARGE.slice(2500).entries()) Object.assign(record, { vector: LARGE[2 * i]!.vector })
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

      it("of large shards are answered as exactly, equal ones by shard and id", () =>
        withRoot(
          async (root) => {
            await using reader = await root.open()
            const order = ({ id, shard }: VectorRecord) => `${shard} ${id}`
            for (const record of [LARGE[4]!, LARGE[41]!, LARGE[2501]!]) {
              const query = record.vector as Float32Array
              const { hits } = await reader.search(query, { shards: "all", k: 30 })
              const nearest = LARGE.map((one) => ({
                one,
                distance: plainDistance("cosine", query, one.vector as Float32Array),
              }))
                .sort((a, b) => a.distance - b.distance || (order(a.one) < order(b.one) ? -1 : 1))
                .slice(0, 30)
              expect(hits.map(({ id }) => id)).toEqual(nearest.map(({ one }) => one.id))
              const [found] = await reader.get([record.id as string])
              expect(found).toMatchObject({ payload: record.payload })
              expect([...found!.vector]).toEqual([...query])
            }
          },
          LARGE,
          { strategy: "explicit", shards: 2 },
        ))

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
        expect(await reader.get([])).toEqual([])
        expect(reader.snapshot.locator).toBe(has("locator"))
      })

      it.runIf(has("shards of its own"))(
        "by id open the shards that hold them, or all if none knows",
        async () => {
          await using fresh = await root.open()
          await fresh.get(["id-4", "id-7"])
          expect(fresh.stats().openShards).toBe(has("locator") ? 1 : SHARDS)
        },
      )

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

      it("for a recall that nobody has measured are not possible", async () => {
        await expect(reader.search(QUERY, { targetRecall: 0.9 })).rejects.toMatchObject({
          tag: "Unsupported",
        })
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
        expect(reader.stats().calls).toMatchObject({ running: 0, queued: 0 })
        if (has("shards of its own")) expect(reader.stats().openShards).toBe(SHARDS)
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

    it.runIf(has("shards of its own"))("fetches shards ahead, once, and opens none", () =>
      withRoot(async (root) => {
        await using reader = await root.open()
        expect(await reader.warm({ shards: [1, 1] })).toMatchObject({ shards: 1, downloads: 1 })
        const warmed = await reader.warm()
        expect(warmed).toMatchObject({ shards: SHARDS, downloads: SHARDS - 1 })
        expect(warmed.bytes).toBeGreaterThan(0)
        expect(await reader.warm()).toEqual({ shards: SHARDS, downloads: 0, bytes: 0 })
        expect(reader.stats()).toMatchObject({ openShards: 0, shardDownloads: SHARDS })
        expect((await reader.search(QUERY, ALL)).complete).toBe(true)
        expect(reader.stats()).toMatchObject({ openShards: SHARDS, shardDownloads: SHARDS })
        await expect(reader.warm({ shards: [SHARDS] })).rejects.toMatchObject({ tag: "InvalidInput" })
        const signal = AbortSignal.abort()
        await expect(reader.warm({ verify: true, signal })).rejects.toMatchObject({ tag: "Aborted" })
      }),
    )

    it.runIf(has("files"))("ends calls under way when their signal fires or their time is over", () =>
      withRoot(async (root) => {
        await using reader = await root.open()
        const held = root.holdShards()
        const abort = new AbortController()
        const search = reader.search(QUERY, { ...ALL, signal: abort.signal })
        const lookup = reader.get(["id-4"], { signal: abort.signal, shards: "all" })
        await held.arrived()
        abort.abort()
        await expect(search).rejects.toMatchObject({ tag: "Aborted" })
        await expect(lookup).rejects.toMatchObject({ tag: "Aborted" })
        const late = { tag: "Aborted", details: { timeoutMs: 5 } }
        await expect(reader.search(QUERY, { ...ALL, timeoutMs: 5 })).rejects.toMatchObject(late)
        await expect(reader.search(QUERY, { ...ALL, timeoutMs: 5, partial: "allow" })).rejects.toMatchObject(
          late,
        )
        await expect(reader.get(["id-4"], { timeoutMs: 5, shards: "all" })).rejects.toMatchObject(late)
        expect(reader.stats().calls).toMatchObject({ running: 0, queued: 0 })
        held.release()
        expect((await reader.search(QUERY, ALL)).complete).toBe(true)

        // A reader that is closed meanwhile.
        const other = await root.open({ timeoutMs: 600_000 })
        const again = root.holdShards()
        const cut = other.search(QUERY, ALL)
        await again.arrived()
        const closing = other.close({ abort: true })
        await expect(cut).rejects.toMatchObject({ tag: "Closed" })
        await closing
        again.release()
      }),
    )

    it.runIf(has("files"))("fails where a shard is damaged or missing, or answers without it if it may", () =>
      withRoot(async (root) => {
        await root.damageShard(0)
        await root.removeShard(1)
        await using reader = await root.open()
        expect((await reader.search(QUERY, { shards: [2], k: 5 })).complete).toBe(true)
        await expect(reader.search(QUERY, { shards: [0] })).rejects.toMatchObject({ tag: "Corrupt" })
        await expect(reader.search(QUERY, { shards: [1] })).rejects.toMatchObject({ tag: "NotFound" })
        await expect(reader.search(QUERY, ALL)).rejects.toMatchObject({
          tag: expect.stringMatching(/^(Corrupt|NotFound)$/),
        })
        await expect(reader.get(["id-3"], { shards: [0] })).rejects.toMatchObject({ tag: "Corrupt" })

        const { hits, complete, shards } = await reader.search(QUERY, { ...ALL, partial: "allow" })
        const sound = RECORDS.filter(({ shard }) => shard === 2)
        expect(hits.map(({ id }) => id)).toEqual(
          bruteForce(sound, "cosine", QUERY, ALL.k).map(({ id }) => id),
        )
        expect(complete).toBe(false)
        expect(shards.asked.toSorted()).toEqual([0, 1, 2])
        expect(shards.answered).toEqual([2])
        expect(shards.failed.map(({ shard }) => shard).toSorted()).toEqual([0, 1])
        for (const { reason } of shards.failed) expect(reason).not.toBe("")

        await expect(reader.search(QUERY, { shards: [0, 1], partial: "allow" })).rejects.toMatchObject({
          tag: "Unavailable",
        })
        const { status, reasons } = await reader.health()
        expect(status).toBe("degraded")
        for (const shard of [0, 1]) expect(reasons.join()).toContain(`shard ${shard} fails`)
      }),
    )

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
            bruteForce(MANY, "cosine", QUERY, 5).map(({ id }) => id),
          )

          if (!has("measured recall")) return
          expect(reader.snapshot.recall).toBeDefined()
          const some = await reader.search(QUERY, { targetRecall: 0.5 })
          const most = await reader.search(QUERY, { targetRecall: 1 })
          expect(some.shards.asked.length).toBeLessThanOrEqual(most.shards.asked.length)
          for (const { expectedRecall } of [some, most]) {
            expect(expectedRecall).toBeGreaterThan(0.5)
            expect(expectedRecall).toBeLessThanOrEqual(1)
          }
          expect((await reader.health()).recall).toMatchObject({ k: 10 })
        },
        MANY,
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

    it.runIf(has("pointer"))("moves to the snapshot that is live, whole, and says so", () =>
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
      }),
    )

    it.runIf(has("pointer"))("stays with the snapshot that it was told to", () =>
      withRoot(async (root) => {
        const first = await root.publish(OTHERS, EXPLICIT)
        await root.publish(RECORDS, EXPLICIT)
        await using reader = await root.open({ snapshot: first })
        expect(await reader.refresh()).toMatchObject({ changed: false, to: first, pinned: true })
        expect((await reader.search(QUERY, ALL)).snapshot).toBe(first)
        expect((await reader.health()).pinned).toBe(true)
      }),
    )

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

    it.runIf(has("pointer"))("is not opened on a damaged root; an open one stays as it is, and says so", () =>
      withRoot(async (root) => {
        await using reader = await root.open()
        const { run } = reader.snapshot
        const failures: unknown[] = []
        reader.on("refresh-failed", ({ error }) => void failures.push(error))
        for (const [spoil, tag] of [
          [root.damagePointer, "Corrupt"],
          [root.makeTooNew, "Unsupported"],
        ] as const) {
          await spoil()
          await expect(root.open()).rejects.toMatchObject({ tag })
          await expect(reader.refresh()).rejects.toMatchObject({ tag })
          expect((await reader.search(QUERY, ALL)).snapshot).toBe(run)
          expect((await reader.health()).status).toBe("degraded")
        }
        expect(failures).toMatchObject([{ tag: "Corrupt" }, { tag: "Unsupported" }])
      }),
    )
  })
}

const CONTEXT = { year: 1997 }

/** The declared fields of the records that the suite publishes. */
export const SUITE_FIELDS = FIELDS
