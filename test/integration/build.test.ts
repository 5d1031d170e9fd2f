import { mkdir, readdir } from "node:fs/promises"
import { join } from "node:path"
import { describe, expect, it } from "vitest"
import {
  type BuildOptions,
  buildSnapshot,
  openSnapshot,
  openStore,
  type Progress,
  readLive,
  type VectorRecord,
} from "../../src/index.js"
import { FIELDS, makeRecords } from "../support/records.js"
import { withTempDir } from "../support/stores.js"

const RECORDS = makeRecords(300, { dim: 8 })
const CLUSTER = { strategy: "cluster", shards: 4 } as const

let roots = 0
/** A fresh root in memory; the build's temporary directory is given, so that what it leaves can be seen. */
function setUp(tempDir: string): {
  to: string
  build: (input: unknown, options?: Partial<BuildOptions>) => ReturnType<typeof buildSnapshot>
} {
  const to = `memory://build-${process.pid}-${roots++}`
  return {
    to,
    build: (input, options) =>
      buildSnapshot(input as VectorRecord[], { to, tempDir, sharding: CLUSTER, fields: FIELDS, ...options }),
  }
}

async function liveRun(to: string): Promise<string | undefined> {
  return readLive(openStore(to)).then(
    ({ manifest }) => manifest.run,
    () => undefined,
  )
}

async function* once<T>(items: readonly T[]): AsyncGenerator<T> {
  yield* items
}

describe("a build", () => {
  it("reports what it did, and the manifest says the same", () =>
    withTempDir(async (tempDir) => {
      const { to, build } = setUp(tempDir)
      const stages = new Set<Progress["stage"]>()
      const report = await build(RECORDS, {
        model: "test-model",
        custom: { team: "search" },
        onProgress: ({ stage }) => stages.add(stage),
      })
      expect(report).toMatchObject({
        url: to,
        rows: 300,
        dim: 8,
        skippedRows: 0,
        duplicateRows: 0,
        replaced: undefined,
      })
      expect(report.shards).toMatchObject({ total: 4, empty: 0, reused: 0 })
      // A look at the manifest and each of the ten files before the snapshot may become live, and at the store's time.
      expect(report.requests).toMatchObject({ list: 0, head: 1 + 10 + 1, failed: 0 })
      // Four shards of two files, centroids, id locator, manifest, pointer, the store's time; and the run's record when it begins,
      // with a precondition that must be refused, before the manifest, before the pointer moves, and at the end.
      expect(report.requests.put).toBe(8 + 1 + 1 + 1 + 1 + 1 + 5)
      expect([...stages]).toEqual(["sample", "train", "partition", "shards"])

      const { manifest } = await readLive(openStore(to))
      expect(manifest).toMatchObject({
        run: report.run,
        rows: 300,
        base: undefined,
        custom: { team: "search" },
      })
      expect(manifest.schema).toMatchObject({
        dim: 8,
        metric: "cosine",
        model: "test-model",
        id: { type: "string", wide: false },
      })
      expect(await readdir(tempDir)).toEqual([])
    }))

  it("of an input that can be read only once is the same as of one that can be read again", () =>
    withTempDir(async (tempDir) => {
      const fingerprints = []
      for (const input of [RECORDS, once(RECORDS)]) {
        const { to, build } = setUp(tempDir)
        await build(input)
        fingerprints.push(
          (await readLive(openStore(to))).manifest.shards.map(({ fingerprint }) => fingerprint),
        )
      }
      expect(fingerprints[1]).toEqual(fingerprints[0])
      expect(await readdir(tempDir)).toEqual([])
    }))

  it("reads the input once where nothing is trained, twice where something is", () =>
    withTempDir(async (tempDir) => {
      const readings = async (options: Partial<BuildOptions>): Promise<number> => {
        let count = 0
        class Counted extends Array<VectorRecord> {
          override [Symbol.iterator]() {
            count++
            return super[Symbol.iterator]()
          }
        }
        await setUp(tempDir).build(Counted.from(RECORDS), options)
        return count
      }
      const from = setUp(tempDir)
      await from.build(RECORDS)
      const made = await readings({ sharding: { strategy: "lsh", shards: 4 } })
      expect((await readings({})) - made).toBe(1)
      expect((await readings({ routingFrom: from.to })) - made).toBe(0)
    }))

  it("takes the centroids of another snapshot, so that unchanged shards are neither built nor uploaded again", () =>
    withTempDir(async (tempDir) => {
      const { to, build } = setUp(tempDir)
      const first = await build(RECORDS)
      const same = await build(RECORDS, { routingFrom: to })
      expect(same.shards.reused).toBe(4)
      expect(same.replaced).toBe(first.run)
      expect(same.requests.put).toBe(1 + 1 + 1 + 1 + 1 + 5)

      const changed = RECORDS.map((record, n) => (n === 17 ? { ...record, payload: "changed" } : record))
      const one = await build(changed, { routingFrom: to })
      expect(one.shards.reused).toBe(3)
      expect((await build(changed, { routingFrom: to, reuse: false })).shards.reused).toBe(0)

      await using reader = await openSnapshot(to, { cacheDir: join(tempDir, "cache") })
      expect((await reader.get(["id-17"]))[0]?.payload).toBe("changed")
    }))

  it.each<[string, Partial<BuildOptions>, RegExp]>([
    ["another dimension", { sharding: CLUSTER }, /dimension 8, but this build has 3/],
    [
      "another number of shards",
      { sharding: { strategy: "cluster", shards: 5 } },
      /shards 4, but this build has 5/,
    ],
    ["another metric", { metric: "l2" }, /metric cosine, but this build has l2/],
    ["a strategy that is not trained", { sharding: { strategy: "lsh", shards: 4 } }, /lsh is not trained/],
  ])("refuses the routing of a snapshot with %s", (what, options, message) =>
    withTempDir(async (tempDir) => {
      const { to, build } = setUp(tempDir)
      await build(RECORDS)
      const records = what === "another dimension" ? makeRecords(50, { dim: 3 }) : RECORDS
      await expect(build(records, { routingFrom: to, ...options })).rejects.toThrow(message)
    }),
  )

  it("fails on an id that occurs twice, even in different shards, naming both rows", () =>
    withTempDir(async (tempDir) => {
      const { to, build } = setUp(tempDir)
      const records = [...RECORDS, { ...RECORDS[3]!, vector: RECORDS[4]!.vector }]
      await expect(build(records)).rejects.toThrow(
        'id "id-3" occurs twice: records, row 4 and records, row 301',
      )
      expect(await liveRun(to)).toBeUndefined()
      expect(await readdir(tempDir)).toEqual([])
    }))

  it.each([
    ["first", RECORDS[3]!.vector],
    ["last", RECORDS[4]!.vector],
  ] as const)("keeps the %s of rows with the same id when asked to", (onDuplicate, vector) =>
    withTempDir(async (tempDir) => {
      const { to, build } = setUp(tempDir)
      const report = await build([...RECORDS, { ...RECORDS[3]!, vector: RECORDS[4]!.vector }], {
        onDuplicate,
      })
      expect(report).toMatchObject({ rows: 300, duplicateRows: 1 })
      await using reader = await openSnapshot(to, { cacheDir: join(tempDir, "cache") })
      expect((await reader.get(["id-3"]))[0]?.vector).toEqual(vector)
    }),
  )

  it("fails on a zero vector under cosine, and may leave it out", () =>
    withTempDir(async (tempDir) => {
      const records = [...RECORDS, { id: "zero", vector: new Float32Array(8), shard: 0 }]
      await expect(setUp(tempDir).build(records)).rejects.toThrow(/^records, row 301: the vector is zero/)
      const report = await setUp(tempDir).build(records, { onBadRow: "skip" })
      expect(report).toMatchObject({ rows: 300, skippedRows: 1 })
      expect(report.skippedReasons[0]).toMatch(/^records, row 301/)
      expect((await setUp(tempDir).build(records, { metric: "l2" })).rows).toBe(301)
    }))

  it("ends with an error when bad rows are more than allowed", () =>
    withTempDir(async (tempDir) => {
      const bad = Array.from({ length: 3 }, (_, n) => ({ id: `bad-${n}`, vector: [1, 2] }))
      const { to, build } = setUp(tempDir)
      await expect(build([...RECORDS, ...bad], { onBadRow: "skip", maxBadRows: 2 })).rejects.toThrow(
        /3 bad rows, more than the 2 allowed/,
      )
      expect(await liveRun(to)).toBeUndefined()
    }))

  it("of nothing is an error", () =>
    withTempDir(async (tempDir) => {
      await expect(setUp(tempDir).build([])).rejects.toThrow("the input has no rows")
      await expect(setUp(tempDir).build([], { sharding: { strategy: "lsh", shards: 2 } })).rejects.toThrow(
        "the input has no rows",
      )
    }))

  it("leaves the live snapshot alone when its input fails half-way, and says so in its run record", () =>
    withTempDir(async (tempDir) => {
      const { to, build } = setUp(tempDir)
      const { run } = await build(RECORDS)
      async function* failing() {
        yield* RECORDS.slice(0, 100)
        throw new Error("the source broke")
      }
      await expect(build(failing())).rejects.toThrow("the source broke")
      expect(await liveRun(to)).toBe(run)
      expect(await readdir(tempDir)).toEqual([])
      const states: string[] = []
      const store = openStore(to)
      for await (const { key } of store.list("runs/")) {
        const { state, error } = JSON.parse(Buffer.from((await store.get(key))!.body).toString())
        states.push(`${state} ${error?.message ?? ""}`.trim())
      }
      expect(states.sort()).toEqual(["failed the source broke", "succeeded"])
    }))

  it("is aborted by its signal, at any stage, and leaves nothing behind", () =>
    withTempDir(async (tempDir) => {
      for (const stage of ["sample", "partition", "shards"]) {
        const { to, build } = setUp(tempDir)
        const controller = new AbortController()
        const aborted = build(RECORDS, {
          signal: controller.signal,
          onProgress: (progress) => progress.stage === stage && controller.abort(),
        })
        await expect(aborted, stage).rejects.toMatchObject({ tag: "Aborted" })
        expect(await liveRun(to)).toBeUndefined()
        expect(await readdir(tempDir)).toEqual([])
      }
    }))

  it("loses with Conflict against a run that was published meanwhile, unless forced", () =>
    withTempDir(async (tempDir) => {
      const { to, build } = setUp(tempDir)
      let between: string | undefined
      async function* slow() {
        yield* RECORDS.slice(0, 150)
        between ??= (await build(RECORDS)).run
        yield* RECORDS.slice(150)
      }
      await expect(build(slow())).rejects.toMatchObject({ tag: "Conflict" })
      expect(await liveRun(to)).toBe(between)
      between = undefined
      const forced = await build(slow(), { force: true })
      expect(await liveRun(to)).toBe(forced.run)
    }))

  it("of two that race for the pointer lets exactly one win", () =>
    withTempDir(async (tempDir) => {
      const { to, build } = setUp(tempDir)
      const outcomes = await Promise.allSettled([build(RECORDS), build(RECORDS), build(RECORDS)])
      const winners = outcomes.filter((outcome) => outcome.status === "fulfilled")
      expect(winners.length).toBe(1)
      expect(await liveRun(to)).toBe(winners[0]!.value.run)
      for (const outcome of outcomes) {
        if (outcome.status === "rejected") expect(outcome.reason).toMatchObject({ tag: "Conflict" })
      }
    }))

  it.each<[string, object, RegExp]>([
    ["metric", { metric: "manhattan" }, /option metric is "manhattan", expected one of cosine, l2, dot/],
    ["backend", { backend: "faiss" }, /option backend is "faiss"/],
    ["parallelism", { parallelism: 0 }, /option parallelism is 0, expected a whole number from 1/],
    ["strategy", { sharding: { strategy: "magic", shards: 2 } }, /magic/],
  ])("refuses a wrong %s before it touches anything", (_, options, message) =>
    withTempDir(async (tempDir) => {
      await mkdir(join(tempDir, "t"))
      const { to, build } = setUp(join(tempDir, "t"))
      await expect(build(RECORDS, options)).rejects.toThrow(message)
      const keys = []
      for await (const { key } of openStore(to).list("")) keys.push(key)
      expect(keys).toEqual([])
    }),
  )

  it.each(["string", "int", "wide"] as const)("keeps %s ids as they are", (ids) =>
    withTempDir(async (tempDir) => {
      for (const backend of ["sqlite-vec", "lancedb"] as const) {
        const records = makeRecords(40, { dim: 4, ids })
        const { to, build } = setUp(tempDir)
        await build(records, { backend, sharding: { strategy: "cluster", shards: 2 } })
        await using reader = await openSnapshot(to, { cacheDir: join(tempDir, "cache") })
        const { hits } = await reader.search(records[7]!.vector as Float32Array, { k: 1, probes: "all" })
        expect(hits[0]!.id).toBe(records[7]!.id)
        const found = await reader.get(records.map(({ id }) => id))
        expect(found.map((record) => record?.id)).toEqual(records.map(({ id }) => id))
        expect(found.map((record) => record?.fields.year)).toEqual(records.map(({ fields }) => fields?.year))
      }
    }),
  )
})
