import { describe, expect, it } from "vitest"
import { invalidInput } from "../../../src/errors.js"
import { collect, pin, unpin } from "../../../src/index.js"
import { silentLogger } from "../../../src/logger.js"
import { readManifest, readPointer } from "../../../src/manifest/current.js"
import { findManifest } from "../../../src/manifest/history.js"
import { POINTER_KEY, pinKey, probeKey, readerKey, routingKey, runKey } from "../../../src/manifest/keys.js"
import { withCondemned } from "../../../src/manifest/pointer.js"
import { publishManifest, swapPointer } from "../../../src/manifest/publish.js"
import { encodeReaderLease } from "../../../src/manifest/reader-lease.js"
import { createSnapshotLease } from "../../../src/reader/follow/lease.js"
import { snapshotFiles } from "../../../src/snapshot/snapshot.js"
import type { ObjectStore } from "../../../src/storage/store.js"
import {
  keysOf,
  publishSnapshot,
  runId,
  shardKey,
  storeRecord,
  storeSnapshot,
  type TimedStore,
  timedStore,
} from "../../support/roots.js"

const [A, B, C, D, E, F] = ["a", "b", "c", "d", "e", "f"].map(runId) as [
  string,
  string,
  string,
  string,
  string,
  string,
]
const HOUR = 3600
const DAY = 24 * HOUR
const YES = { yes: true, keepLast: 1 }

/**
 * A, then B which shares a shard of A, then C which shares one of B; a day apart, C live, and a day later.
 */
async function threeDays(): Promise<TimedStore> {
  const timed = timedStore()
  await publishSnapshot(timed, A)
  timed.pass(DAY)
  await publishSnapshot(timed, B, [A])
  timed.pass(DAY)
  await publishSnapshot(timed, C, [B])
  timed.pass(DAY)
  return timed
}

const runsOf = (items: readonly { readonly run: string }[]): string[] => items.map(({ run }) => run)

async function snapshotRuns(store: ObjectStore): Promise<string[]> {
  const keys = await keysOf(store)
  return keys.filter((key) => key.startsWith("manifests/")).map((key) => key.slice(-17, -5))
}

async function assertComplete(store: ObjectStore, run: string): Promise<void> {
  const { key } = await findManifest(store, run)
  for (const file of snapshotFiles(await readManifest(store, key)))
    expect(await store.head(file.key), file.key).toBeDefined()
}

async function publish(store: ObjectStore, run: string): Promise<void> {
  const { key } = await findManifest(store, run)
  const manifest = await readManifest(store, key)
  await publishManifest(store, key, manifest, { action: "rollback", expected: "any" })
}

const lease = (store: ObjectStore, runs: readonly string[], id = "l".repeat(12)) =>
  store.put(readerKey(id), encodeReaderLease({ runs, leaseSeconds: 300, host: "h", pid: 1 }))

describe("a collection", () => {
  it("removes what no rule keeps, and no shard that a kept snapshot shares", async () => {
    const { store } = await threeDays()
    const report = await collect(store, YES)
    expect(report).toMatchObject({
      dryRun: false,
      clock: "store",
      kept: [{ run: C, reasons: ["live"] }],
      failed: [],
      problems: [],
      foreign: { objects: 0 },
    })
    expect(runsOf(report.removed.snapshots)).toEqual([A, B])
    expect(report.removed.byKind).toMatchObject({
      manifest: { objects: 2 },
      shard: { objects: 1, bytes: 7 },
      routing: { objects: 2, bytes: 14 },
      run: { objects: 0 },
    })
    expect(report.removed.objects).toBe(5)
    expect(await keysOf(store)).toEqual([
      (await findManifest(store, C)).key,
      routingKey(C, "centroids.npy"),
      shardKey(B),
      shardKey(C),
    ])
    await assertComplete(store, C)
    expect((await readPointer(store))!.condemned).toEqual([])
  })

  it("removes nothing by itself, and reports the same as if it did", async () => {
    const { store } = await threeDays()
    await store.put("shards/readme.txt", Buffer.from("not ours"))
    const before = await keysOf(store)
    const pointer = await readPointer(store)
    const dry = await collect(store, { keepLast: 1 })
    expect(await keysOf(store)).toEqual(before)
    expect(await readPointer(store)).toEqual(pointer)
    const real = await collect(store, YES)
    expect({ ...dry, dryRun: false }).toEqual(real)
    expect(real.foreign).toEqual({ objects: 1, keys: ["shards/readme.txt"] })
    expect(await keysOf(store)).toContain("shards/readme.txt")
  })

  it("finds nothing more to remove when it comes again", async () => {
    const { store } = await threeDays()
    await collect(store, YES)
    const pointer = await readPointer(store)
    expect((await collect(store, YES)).removed.objects).toBe(0)
    expect(await readPointer(store)).toEqual(pointer)
  })

  it("collects nothing where nothing is published, or where the live manifest is damaged", async () => {
    const timed = timedStore()
    await storeSnapshot(timed, A)
    timed.pass(30 * DAY)
    expect(await collect(timed.store, YES)).toMatchObject({
      removed: { objects: 0 },
      problems: [expect.stringMatching(/no snapshot is published/)],
    })
    const { store } = await threeDays()
    const { key } = await findManifest(store, C)
    await store.put(key, Buffer.from("{}"))
    const before = await keysOf(store)
    await expect(collect(store, YES)).rejects.toMatchObject({ tag: "Corrupt" })
    await store.delete([key])
    await expect(collect(store, YES)).rejects.toThrow(/live snapshot is damaged/)
    expect(await keysOf(store)).toEqual(before.filter((other) => other !== key))
  })

  it.each<[string, (timed: TimedStore) => Promise<unknown>, object, string]>([
    ["the last that were live", async () => {}, { keepLast: 2 }, "one of the last 2 that were live"],
    ["young ones", async () => {}, { keepDays: 3 }, "built within 3 days"],
    ["pinned ones", ({ store }) => pin(store, B), {}, "pinned"],
    ["what a reader has open", ({ store }) => lease(store, [B]), {}, "open in a reader (h, process 1)"],
    [
      "what a run builds on",
      (timed) => storeRecord(timed, D, { base: B }),
      {},
      `run ${D}, which is going on, builds on it`,
    ],
    ["what was live of late", async () => {}, { graceSeconds: DAY + 1 }, "was live within the grace period"],
  ])("keeps %s", async (_, prepare, options, reason) => {
    const timed = await threeDays()
    await prepare(timed)
    const report = await collect(timed.store, { ...YES, ...options })
    expect(report.kept).toMatchObject([{ run: C }, { run: B, reasons: [reason] }])
    expect(runsOf(report.removed.snapshots)).toEqual([A])
    await assertComplete(timed.store, B)
  })

  it("counts the grace period from when the pointer moved, however long the publisher stood still before that", async () => {
    const timed = await threeDays()
    const { store } = timed
    const { key, manifest } = await storeSnapshot(timed, D)
    // Right before it moves the pointer, and after it asked for the time.
    const confirm = async (): Promise<void> => timed.pass(DAY)
    await publishManifest(store, key, manifest, { action: "publish", expected: "any", confirm })
    timed.pass(HOUR)
    // Twice: the first writes the pointer anew, and the time must outlive that.
    for (let round = 0; round < 2; round++) {
      const { kept } = await collect(store, YES)
      expect(kept).toEqual([
        expect.objectContaining({ run: D, reasons: ["live"] }),
        expect.objectContaining({ run: C, reasons: ["was live within the grace period"] }),
      ])
    }
    await publishSnapshot(timed, E)
    expect(runsOf((await collect(store, YES)).kept)).toEqual([E, D, C])
  })

  it("counts the latest time that a snapshot was live", async () => {
    const timed = await threeDays()
    await publish(timed.store, A)
    await publish(timed.store, C)
    timed.pass(6 * HOUR - 1)
    expect(runsOf((await collect(timed.store, YES)).kept)).toEqual([C, A])
    timed.pass(1)
    expect(runsOf((await collect(timed.store, YES)).kept)).toEqual([C])
  })

  it("keeps what was never live for a week, and what a failed run left for the grace period", async () => {
    const timed = await threeDays()
    await storeSnapshot(timed, D, [C])
    await storeRecord(timed, D, { state: "succeeded" })
    await timed.store.put(shardKey(E), Buffer.from("x"))
    await storeRecord(timed, E, { state: "failed" })
    await timed.store.put(probeKey(F, "time"), Buffer.from("x"))
    timed.pass(6 * HOUR)
    const first = await collect(timed.store, { yes: true })
    expect(first.kept[0]).toEqual({
      run: D,
      manifest: expect.any(String),
      reasons: ["never live, built within 7 days"],
    })
    expect(first.removed.byKind).toMatchObject({
      shard: { objects: 1 },
      probe: { objects: 1 },
      run: { objects: 0 },
    })
    timed.pass(7 * DAY)
    const second = await collect(timed.store, { yes: true })
    expect(runsOf(second.removed.snapshots)).toEqual([D])
    expect(second.removed.byKind).toMatchObject({ shard: { objects: 1 }, run: { objects: 1 } })
    // The record of D goes once its snapshot has gone.
    expect((await collect(timed.store, { yes: true })).removed.byKind.run.objects).toBe(1)
    expect((await keysOf(timed.store)).filter((key) => key.startsWith("runs/"))).toEqual([])
  })

  it("leaves a run alone while its lease and the grace period last, then ends it", async () => {
    const timed = await threeDays()
    await timed.store.put(shardKey(D), Buffer.from("x"))
    timed.pass(DAY)
    await storeRecord(timed, D)
    timed.pass(120 + 6 * HOUR - 1)
    expect(await collect(timed.store, YES)).toMatchObject({
      protectedRuns: [{ run: D, reason: "it is going on" }],
    })
    expect(await timed.store.head(shardKey(D))).toBeDefined()
    timed.pass(1)
    expect((await collect(timed.store, YES)).removed.byKind.shard.objects).toBe(1)
    const record = await timed.store.get(runKey(D))
    expect(Buffer.from(record!.body).toString()).toContain('"state": "abandoned"')
  })

  it("removes a lost attempt below a kept run, without condemning the run", async () => {
    const lost = shardKey(C).replace("/0/shard.db", "/1/shard.db")
    const timed = timedStore()
    await publishSnapshot(timed, C)
    await timed.store.put(lost, Buffer.from("x"))
    timed.pass(DAY)
    await collect(timed.store, YES)
    expect(await timed.store.head(lost)).toBeUndefined()
    await assertComplete(timed.store, C)
  })

  it("keeps a manifest that it can't read with the files of its run, and reports it", async () => {
    const { store } = await threeDays()
    const { key } = await findManifest(store, A)
    await store.put(key, Buffer.from("{}"))
    const report = await collect(store, { ...YES, graceSeconds: 0 })
    expect(report.kept).toMatchObject([
      { run: C },
      { run: A, reasons: expect.arrayContaining(["can't be read"]) },
    ])
    expect(report.problems).toEqual([expect.stringContaining(key)])
    expect(await store.head(shardKey(A))).toBeDefined()
    expect(await snapshotRuns(store)).toEqual([A, C])
  })

  it("removes no snapshot next to one of a later version, nor next to a lease that it can't read", async () => {
    const { store, pass } = await threeDays()
    await store.put(readerKey("x".repeat(12)), Buffer.from("{}"))
    expect(await collect(store, YES)).toMatchObject({
      removed: { objects: 0 },
      problems: [expect.stringContaining("a reader's lease can't be read"), expect.anything()],
    })
    pass(DAY)
    expect(runsOf((await collect(store, YES)).removed.snapshots)).toEqual([A, B])
  })

  it("removes leases that are long over and pins of what is not there, and no others", async () => {
    const { store, pass } = await threeDays()
    await lease(store, [C])
    await store.put(pinKey(F), Buffer.from("{}"))
    pass(300 + 6 * HOUR - 1)
    expect((await collect(store, YES)).removed.byKind).toMatchObject({
      reader: { objects: 0 },
      pin: { objects: 1 },
    })
    pass(1)
    expect((await collect(store, YES)).removed.byKind.reader.objects).toBe(1)
  })

  it("reports what can't be removed, keeps the run condemned, and goes on the next time", async () => {
    const { store } = await threeDays()
    const refusing: ObjectStore = {
      ...store,
      delete: async (keys, options) => {
        const [refused] = keys.filter((key) => key === shardKey(A))
        await store.delete(
          keys.filter((key) => key !== refused),
          options,
        )
        return refused === undefined ? [] : [{ key: refused, reason: "access denied" }]
      },
    }
    const report = await collect(refusing, YES)
    expect(report.failed).toEqual([{ key: shardKey(A), reason: "access denied" }])
    expect(report.removed.objects).toBe(4)
    expect((await readPointer(store))!.condemned).toEqual([A])
    expect((await collect(store, YES)).removed.objects).toBe(1)
    expect((await readPointer(store))!.condemned).toEqual([])
  })

  it("takes several passes if more runs are to go than can be condemned at a time", async () => {
    const timed = timedStore()
    const runs = Array.from({ length: 501 }, (_, n) => `r${String(n).padStart(11, "0")}`)
    for (const run of runs) await storeSnapshot(timed, run)
    await publishSnapshot(timed, A, [runs[500]!])
    timed.pass(8 * DAY)
    const report = await collect(timed.store, YES)
    expect(report.removed.snapshots).toHaveLength(501)
    expect(report.removed.objects).toBe(501 * 3 - 1)
    expect((await readPointer(timed.store))!.condemned).toEqual([])
    await assertComplete(timed.store, A)
  })

  it("heeds an abort between steps", async () => {
    const { store } = await threeDays()
    const stop = new AbortController()
    const stopping = { ...YES, signal: stop.signal, onProgress: () => stop.abort() }
    await expect(collect(store, stopping)).rejects.toMatchObject({ tag: "Aborted" })
    expect(await snapshotRuns(store)).toEqual([A, B, C])
  })

  it.each([
    [{ keepLast: 0 }, /keepLast/],
    [{ keepLast: 101 }, /keepLast/],
    [{ keepDays: -1 }, /keepDays/],
    [{ graceSeconds: Number.NaN }, /graceSeconds/],
  ])("refuses %o", async (options, message) => {
    await expect(collect(timedStore().store, options)).rejects.toThrow(message)
  })

  it("tells what would go to one who may only read, by the clock of this machine", async () => {
    const { store } = await threeDays()
    const readOnly: ObjectStore = {
      ...store,
      put: async () => {
        throw invalidInput("access denied")
      },
    }
    expect(await collect(readOnly, {})).toMatchObject({ clock: "machine", dryRun: true })
    await expect(collect(readOnly, YES)).rejects.toThrow("access denied")
  })
})

/** Calls `act` once, before the first operation that matches. */
function before(
  store: ObjectStore,
  matches: (operation: string, key: string) => boolean,
  act: () => Promise<unknown>,
): ObjectStore {
  let pending = true
  const meet = async (operation: string, key: string): Promise<void> => {
    if (!pending || !matches(operation, key)) return
    pending = false
    await act()
  }
  return {
    ...store,
    get: async (key, options) => {
      await meet("get", key)
      return store.get(key, options)
    },
    head: async (key, options) => {
      await meet("head", key)
      return store.head(key, options)
    },
    put: async (key, body, options) => {
      await meet("put", key)
      return store.put(key, body, options)
    },
    async *list(prefix, options) {
      await meet("list", prefix)
      yield* store.list(prefix, options)
    },
    delete: async (keys, options) => {
      for (const key of keys) await meet("delete", key)
      return store.delete(keys, options)
    },
  }
}

/** Every operation of a collection, as a predicate on its number. */
async function operationsOf(store: ObjectStore): Promise<number> {
  let count = 0
  await collect(
    before(
      store,
      () => {
        count++
        return false
      },
      async () => {},
    ),
    YES,
  )
  return count
}

describe("whoever comes between the steps of a collection", () => {
  const arrivals: readonly [string, (store: ObjectStore) => Promise<unknown>][] = [
    ["a rollback", (store) => publish(store, B)],
    ["a pin", (store) => pin(store, B)],
    [
      "a reader's lease",
      async (store) => {
        await createSnapshotLease(store, true, silentLogger)!.protect(B, undefined)
        await findManifest(store, B)
      },
    ],
  ]
  it.each(arrivals)("%s is told no, or gets a snapshot that is complete", async (what, arrive) => {
    const operations = await operationsOf((await threeDays()).store)
    expect(operations).toBeGreaterThan(20)
    const outcomes = new Set<string>()
    for (let at = 1; at <= operations; at++) {
      const timed = await threeDays()
      let made = 0
      let outcome = "not reached"
      const meeting = before(
        timed.store,
        () => ++made === at,
        () =>
          arrive(timed.store).then(
            () => (outcome = "yes"),
            (error) => (outcome = error.tag),
          ),
      )
      await collect(meeting, YES)
      outcomes.add(outcome)
      const live = await readPointer(timed.store)
      await assertComplete(timed.store, live!.run)
      if (outcome !== "yes") continue
      await assertComplete(timed.store, B)
      await collect(timed.store, YES)
      await assertComplete(timed.store, B)
      // What a reader has open may stay condemned until it has gone; nothing else.
      const condemned = (await readPointer(timed.store))!.condemned
      expect(what === "a reader's lease" ? [] : condemned).toEqual([])
      expect(condemned.filter((run) => run !== B)).toEqual([])
    }
    expect([...outcomes].sort()).toEqual(["NotFound", "yes"])
  })

  it("a lease saves its snapshot, which goes when the reader has gone", async () => {
    const { store, pass } = await threeDays()
    const meeting = before(
      store,
      (operation, key) => operation === "put" && key === POINTER_KEY,
      () => lease(store, [B]),
    )
    expect(runsOf((await collect(meeting, YES)).kept)).toEqual([C, B])
    await assertComplete(store, B)
    expect((await readPointer(store))!.condemned).toEqual([B])
    await expect(publish(store, B)).rejects.toMatchObject({ tag: "NotFound" })
    pass(301)
    expect(runsOf((await collect(store, YES)).removed.snapshots)).toEqual([B])
    expect((await readPointer(store))!.condemned).toEqual([])
  })

  it("a heartbeat saves a run that was taken for dead", async () => {
    const timed = await threeDays()
    await timed.store.put(shardKey(D), Buffer.from("x"))
    await storeRecord(timed, D, { base: B })
    timed.pass(DAY)
    const meeting = before(
      timed.store,
      (operation, key) => operation === "put" && key === runKey(D),
      () => storeRecord(timed, D, { base: B }),
    )
    const report = await collect(meeting, YES)
    expect(report.protectedRuns).toEqual([{ run: D, reason: "it is going on" }])
    expect(runsOf(report.kept)).toEqual([C, B])
    expect(await timed.store.head(shardKey(D))).toBeDefined()
    await assertComplete(timed.store, B)
  })

  it("another collection does the same work once", async () => {
    const operations = await operationsOf((await threeDays()).store)
    const { store: undisturbed } = await threeDays()
    await collect(undisturbed, YES)
    for (let at = 1; at <= operations; at++) {
      const { store } = await threeDays()
      let made = 0
      await collect(
        before(
          store,
          () => ++made === at,
          () => collect(store, YES),
        ),
        YES,
      )
      expect(await keysOf(store)).toEqual(await keysOf(undisturbed))
      expect((await readPointer(store))!.condemned).toEqual([])
    }
  })

  it("another that frees a pinned snapshot stops this one from removing it, though the pin goes at once", async () => {
    const operations = await operationsOf((await threeDays()).store)
    let published = 0
    for (let at = 1; at <= operations + 5; at++) {
      const { store } = await threeDays()
      await pin(store, B)
      const live = (await readPointer(store))!
      await swapPointer(store, live, withCondemned(live, [B]))
      const freed = async () => {
        await collect(store, YES)
        await unpin(store, B)
      }
      let made = 0
      const meeting = before(store, () => ++made === at, freed)
      // Whoever publishes it right before this collection removes something must find it complete then and
      // later.
      const publishing = before(
        meeting,
        (operation, key) => operation === "delete" && !key.startsWith("probes/"),
        () =>
          publish(store, B).then(
            () => published++,
            () => {},
          ),
      )
      await collect(publishing, YES)
      await assertComplete(store, (await readPointer(store))!.run)
    }
    expect(published).toBeGreaterThan(0)
  })
})

describe("a collection that dies", () => {
  it("at any operation leaves what is live complete, and the next one ends its work", async () => {
    const operations = await operationsOf((await threeDays()).store)
    const { store: undisturbed } = await threeDays()
    await collect(undisturbed, YES)
    const wanted = await keysOf(undisturbed)
    for (let at = 1; at <= operations; at++) {
      const { store } = await threeDays()
      let made = 0
      const guard = async <T>(work: () => Promise<T>): Promise<T> => {
        if (++made >= at) throw new Error("died")
        return work()
      }
      const crashing: ObjectStore = {
        ...store,
        get: (key, options) => guard(() => store.get(key, options)),
        head: (key, options) => guard(() => store.head(key, options)),
        put: (key, body, options) => guard(() => store.put(key, body, options)),
        async *list(prefix, options) {
          await guard(async () => {})
          yield* store.list(prefix, options)
        },
        delete: (keys, options) => guard(() => store.delete(keys, options)),
      }
      await collect(crashing, YES).catch((error) => expect(error.message).toBe("died"))
      await assertComplete(store, C)
      await collect(store, YES)
      expect((await keysOf(store)).filter((key) => !key.startsWith("probes/"))).toEqual(wanted)
      expect((await readPointer(store))!.condemned).toEqual([])
    }
  })
})
