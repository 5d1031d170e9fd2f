/** Gates on real builds: what each is for makes it refuse, and what is refused is never live. */
import { mkdir, readdir, rm, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { describe, expect, it, test } from "vitest"
import { run as runCommand } from "../../cli/run.js"
import {
  type BuildOptions,
  buildSnapshot,
  type GateName,
  type GateOptions,
  type GateResult,
  isVecsnapError,
  openSnapshot,
  openStore,
  readLive,
  readManifest,
  type VecsnapError,
  type VectorRecord,
} from "../../src/index.js"
import { silentLogger } from "../../src/logger.js"
import { runKey } from "../../src/manifest/keys.js"
import { readRunRecord } from "../../src/manifest/run-record.js"
import { checkGates } from "../../src/release/gates/check.js"
import { FIELDS, makeRecords, plainDistance } from "../support/records.js"
import { withTempDir } from "../support/stores.js"

const RECORDS = makeRecords(240, { dim: 8 })
const CLUSTER = { strategy: "cluster", shards: 4, probes: 2 } as const
const ALL: GateOptions = {
  rows: { min: 1, maxDropPercent: 0, maxGrowPercent: 0 },
  skippedRows: { maxPercent: 0 },
  duplicates: { maxPercent: 0 },
  skew: { max: 4 },
  norms: { maxDriftPercent: 0 },
  zeroNorms: { maxPercent: 0 },
  centroidDrift: { max: 1e-12 },
  overlap: { min: 1, queries: 40, k: 5 },
}

let roots = 0
function setUp(tempDir: string) {
  const to = `memory://gates-${process.pid}-${roots++}`
  const build = (records: readonly VectorRecord[], options: Partial<BuildOptions> = {}) =>
    buildSnapshot(records, { to, tempDir, sharding: CLUSTER, fields: FIELDS, ...options })
  const live = async (): Promise<string> => (await readLive(openStore(to))).manifest.run
  return { to, build, live, store: openStore(to) }
}

const verdicts = (results: readonly GateResult[]): Readonly<Record<string, string>> =>
  Object.fromEntries(results.map(({ gate, verdict }) => [gate, verdict]))

/** What a build was refused with. */
async function refusal(build: Promise<unknown>): Promise<VecsnapError> {
  const error = await build.then(
    () => new Error("it was published"),
    (thrown: unknown) => thrown,
  )
  if (!isVecsnapError(error, "GateRefused")) throw error
  return error
}

const gatesOf = ({ details }: VecsnapError): readonly GateResult[] => details.gates as readonly GateResult[]

const scaled = (factor: number, records = RECORDS): VectorRecord[] =>
  records.map((record) => ({
    ...record,
    vector: Float32Array.from(record.vector as Float32Array, (value) => value * factor),
  }))

describe("a build with gates", () => {
  it("of the same data passes all of them, and leaves no files behind", () =>
    withTempDir(async (tempDir) => {
      const { build } = setUp(tempDir)
      const first = await build(RECORDS, { gates: ALL, model: "m" })
      expect(verdicts(first.gates)).toMatchObject({ rows: "passed", overlap: "not applicable" })
      const { gates, timingsMs } = await build(RECORDS, { gates: ALL, model: "m" })
      expect(gates.filter(({ verdict }) => verdict !== "passed")).toEqual([])
      expect(gates).toHaveLength(11)
      expect(gates.find(({ gate }) => gate === "overlap")).toMatchObject({
        value: 1,
        reason: "of the 5 nearest live records 100.0% are found, by 40 searches for records in both",
      })
      expect(timingsMs.gates).toBeTypeOf("number")
      expect(await readdir(tempDir)).toEqual([])
    }))

  it("that lost half of the rows is refused; the old snapshot stays live, and the new one can be looked at", () =>
    withTempDir(async (tempDir) => {
      const { to, build, live, store } = setUp(tempDir)
      const { run: before } = await build(RECORDS)
      const gates = { rows: { maxDropPercent: 49 }, skew: { max: 4 } }
      const error = await refusal(build(RECORDS.slice(0, 120), { gates }))
      const run = error.details.run as string
      expect(error.message).toBe(
        `run ${run} is not published: rows is 120, expected at most 49% fewer than 240; ` +
          `to look at it, vecsnap query ${to} --snapshot ${run}; ` +
          `to publish it as it is, vecsnap publish ${to} ${run} --allow rows, or build with --allow rows`,
      )
      expect(verdicts(gatesOf(error))).toEqual({
        rows: "refused",
        dim: "passed",
        metric: "passed",
        model: "not applicable",
        skew: "passed",
      })
      expect(await live()).toBe(before)
      expect((await readManifest(store, error.details.manifest as string)).rows).toBe(120)
      expect((await readRunRecord(store, runKey(run)))?.record).toMatchObject({
        state: "failed",
        published: false,
        manifest: error.details.manifest,
        counts: { rows: 120 },
        error: { tag: "GateRefused" },
      })
      await using reader = await openSnapshot(to, { snapshot: run, cacheDir: join(tempDir, "cache") })
      const { hits } = await reader.search(RECORDS[7]!.vector as Float32Array, { k: 1, probes: "all" })
      expect(hits[0]).toMatchObject({ id: "id-7" })

      const allowed = await build(RECORDS.slice(0, 120), { gates, allow: ["rows"] })
      expect(verdicts(allowed.gates)).toMatchObject({ rows: "allowed", dim: "passed" })
      expect(await live()).toBe(allowed.run)
    }))

  it("that is not to be published is not checked", () =>
    withTempDir(async (tempDir) => {
      const { build, live } = setUp(tempDir)
      const { run } = await build(RECORDS)
      const unpublished = await build(RECORDS.slice(0, 9), { gates: ALL, publish: false })
      expect(unpublished).toMatchObject({ published: false, gates: [] })
      expect(await live()).toBe(run)
    }))

  it("that is forced is compared with what is live by then", () =>
    withTempDir(async (tempDir) => {
      const { build, live } = setUp(tempDir)
      await build(RECORDS)
      let published: string | undefined
      async function* interrupted() {
        yield* RECORDS.slice(0, 200)
        published = (await build(RECORDS.slice(0, 60))).run
      }
      const options = { sharding: { strategy: "lsh", shards: 2 }, force: true } as const
      const forced = buildSnapshot(interrupted(), {
        ...{ to: `memory://gates-${process.pid}-${roots - 1}`, tempDir },
        ...options,
        fields: FIELDS,
        gates: { rows: { maxGrowPercent: 100, maxDropPercent: 20 } },
      })
      // 200 rows are fewer than the 240 that were live at the start, but within 20%; of the 60 they are too many.
      const error = await refusal(forced)
      expect(gatesOf(error)[0]).toMatchObject({ gate: "rows", value: 200, verdict: "refused" })
      expect(gatesOf(error)[0]?.limit).toContain("60")
      expect(await live()).toBe(published)
    }))

  it("checks options before it reads anything", async () => {
    const read = [RECORDS[0]!]
    read[Symbol.iterator] = () => {
      throw new Error("it was read")
    }
    const bad = { to: `memory://gates-${process.pid}-none`, sharding: CLUSTER }
    await expect(buildSnapshot(read, { ...bad, allow: ["row" as GateName] })).rejects.toMatchObject({
      tag: "InvalidInput",
      details: { option: "allow" },
    })
    await expect(buildSnapshot(read, { ...bad, gates: { skew: { max: 0 } } })).rejects.toMatchObject({
      tag: "InvalidInput",
      details: { option: "gates.skew.max" },
    })
  })
})

interface Cause {
  readonly before?: readonly VectorRecord[]
  readonly after: readonly VectorRecord[]
  /** Of both builds. */
  readonly both?: Partial<BuildOptions>
  /** Of the second build only. */
  readonly options?: Partial<BuildOptions>
}

const EXPLICIT = { strategy: "explicit", shards: 4 } as const
const shuffled = RECORDS.map((record, i) => ({ ...record, vector: RECORDS[(i * 77 + 13) % 240]!.vector }))

const CAUSES: Readonly<Record<GateName, Cause>> = {
  rows: { after: RECORDS.slice(0, 200), options: { gates: { rows: { maxDropPercent: 10 } } } },
  dim: { after: makeRecords(240, { dim: 9 }) },
  metric: { after: RECORDS, options: { metric: "l2" } },
  model: { after: RECORDS, both: { model: "small-1" }, options: { model: "small-2" } },
  "skipped-rows": {
    after: [
      ...RECORDS.slice(0, 230),
      ...RECORDS.slice(230).map((one) => ({ ...one, vector: Array(8).fill(0) })),
    ],
    options: { onBadRow: "skip", gates: { skippedRows: { maxPercent: 4 } } },
  },
  duplicates: {
    after: [...RECORDS, ...RECORDS.slice(0, 10)],
    options: { onDuplicate: "first", gates: { duplicates: { maxPercent: 3.9 } } },
  },
  skew: {
    after: RECORDS.map((record, i) => ({ ...record, shard: i % 8 < 5 ? 0 : i % 4 })),
    both: { sharding: EXPLICIT },
    options: { gates: { skew: { max: 1.5 } } },
  },
  norms: { after: scaled(1.3), options: { gates: { norms: { maxDriftPercent: 29 } } } },
  "zero-norms": {
    after: [...RECORDS.slice(0, 235), ...scaled(0, RECORDS.slice(235))],
    both: { metric: "l2" },
    options: { gates: { zeroNorms: { maxPercent: 2 } } },
  },
  "centroid-drift": {
    after: scaled(-1),
    options: { gates: { centroidDrift: { max: 0.05 } } },
  },
  // The same vectors under other ids: every other figure is the same.
  overlap: { after: shuffled, options: { gates: { overlap: { min: 0.5 } } } },
  recall: {
    after: makeRecords(800, { dim: 8 }),
    options: { gates: { recall: { min: 0.999, k: 100, probes: 1 } } },
  },
}

describe("a real cause makes each gate refuse", () => {
  test.each(Object.entries(CAUSES))("%s", (gate, { before = RECORDS, after, both, options }) =>
    withTempDir(async (tempDir) => {
      const { build, live } = setUp(tempDir)
      const { run } = await build(before, both)
      const error = await refusal(build(after, { ...both, ...options }))
      expect(
        gatesOf(error)
          .filter(({ verdict }) => verdict === "refused")
          .map((one) => one.gate),
      ).toEqual([gate])
      expect(await live()).toBe(run)
      expect(await readdir(tempDir)).toEqual([])
      const allowed = await build(after, { ...both, ...options, allow: [gate as GateName] })
      expect(verdicts(allowed.gates)[gate]).toBe("allowed")
      expect(await live()).toBe(allowed.run)
    }),
  )
})

describe("overlap", () => {
  const gates = { overlap: { min: 0, queries: 240, k: 4, probes: "all" } } as const
  const overlapOf = (results: readonly GateResult[]) => results.find(({ gate }) => gate === "overlap")!

  it("is the mean share of the live snapshot's hits, as brute force finds it", () =>
    withTempDir(async (tempDir) => {
      const { build } = setUp(tempDir)
      const moved = RECORDS.map((record, i) =>
        i % 3 === 0
          ? { ...record, vector: (record.vector as Float32Array).map((x, at) => x + ((i + at) % 5) / 10) }
          : record,
      )
      await build(RECORDS)
      const { value } = overlapOf((await build(moved, { gates })).gates)
      const nearest = (records: readonly VectorRecord[], { id, vector }: VectorRecord) =>
        records
          .filter((one) => one.id !== id)
          .map((one) => ({ id: one.id, distance: plainDistance("cosine", vector, one.vector) }))
          .sort((a, b) => a.distance - b.distance)
          .slice(0, 4)
          .map((one) => one.id)
      const shares = moved.map((record) => {
        const found = new Set(nearest(moved, record))
        return nearest(RECORDS, record).filter((id) => found.has(id)).length / 4
      })
      expect(value).toBeCloseTo(shares.reduce((sum, share) => sum + share, 0) / 240, 10)
      expect(value).toBeLessThan(1)
    }))

  it("searches for records that are in both, and is 0 if there are none", () =>
    withTempDir(async (tempDir) => {
      const { build } = setUp(tempDir)
      await build(RECORDS)
      const half = RECORDS.map((record, i) => (i % 2 === 0 ? record : { ...record, id: `new-${i}` }))
      const some = overlapOf((await build(half, { gates })).gates)
      expect(some.reason).toContain("by 120 searches")
      const renamed = RECORDS.map((record, i) => ({ ...record, id: `renamed-${i}` }))
      expect(overlapOf((await build(renamed, { gates })).gates)).toMatchObject({
        value: 0,
        reason: "none of 240 records drawn is in the live snapshot",
      })
      const numbered = RECORDS.map((record, i) => ({ ...record, id: i }))
      expect(overlapOf((await build(numbered, { gates })).gates)).toMatchObject({
        value: 0,
        reason: "ids were of type string and are int64 now: none is in both",
      })
    }))

  it("draws from a large snapshot as many records as it has queries, the same ones each time", () =>
    withTempDir(async (tempDir) => {
      const { build, store } = setUp(tempDir)
      const many = makeRecords(1500, { dim: 4 })
      await build(many)
      const moved = many.map((record, i) =>
        i % 2 === 0
          ? record
          : { ...record, vector: (record.vector as Float32Array).map((x) => x + (i % 7) / 10) },
      )
      const { manifest: key } = await build(moved, { publish: false })
      const candidate = await readManifest(store, key)
      const { manifest: live } = await readLive(store)
      const check = {
        store,
        candidate,
        live,
        options: { overlap: { min: 0 } },
        logger: silentLogger,
        tempDir,
      }
      const once = overlapOf(await checkGates(check))
      expect(once.reason).toContain("by 100 searches")
      expect(once.value).toBeGreaterThan(0)
      expect(once.value).toBeLessThan(1)
      expect(overlapOf(await checkGates(check))).toEqual(once)
    }))

  test.each([
    ["explicit", EXPLICIT],
    ["lsh", { strategy: "lsh", shards: 4 }],
    ["cel", { strategy: "cel", shards: 3, expression: "shard_hash(lang) % 3u" }],
  ] as const)("works for the strategy %s", (_, sharding) =>
    withTempDir(async (tempDir) => {
      const { build } = setUp(tempDir)
      const options = { sharding, gates: { overlap: { min: 1 } } }
      await build(RECORDS, options)
      expect(overlapOf((await build(RECORDS, options)).gates)).toMatchObject({ value: 1, verdict: "passed" })
    }),
  )

  it("compares integer ids that are wide in one snapshot only", () =>
    withTempDir(async (tempDir) => {
      const { build } = setUp(tempDir)
      const numbered = RECORDS.map((record, i) => ({ ...record, id: i }))
      const wide = [...numbered.slice(0, 239), { ...numbered[239]!, id: 2n ** 60n }]
      await build(numbered)
      const { value } = overlapOf((await build(wide, { gates })).gates)
      expect(value).toBeGreaterThan(0.9)
    }))

  it("fails with the error of the store if it can't be measured, unless it is allowed", () =>
    withTempDir(async (dir) => {
      const tempDir = join(dir, "tmp")
      await mkdir(tempDir)
      const to = join(dir, "root")
      const build = (records: readonly VectorRecord[], options: Partial<BuildOptions> = {}) =>
        buildSnapshot(records, { to, tempDir, sharding: CLUSTER, fields: FIELDS, reuse: false, ...options })
      const { run } = await build(RECORDS)
      // Other content: shards of equal content would be read from the new run.
      await rm(join(to, "shards", run), { recursive: true })
      await expect(build(scaled(1.5), { gates })).rejects.toMatchObject({ tag: "NotFound" })
      expect((await readLive(openStore(to))).manifest.run).toBe(run)
      expect(await readdir(tempDir)).toEqual([])
      const allowed = await build(scaled(1.5), { gates, allow: ["overlap"] })
      expect(overlapOf(allowed.gates)).toMatchObject({ verdict: "allowed", value: null })
    }))
})

describe("checkGates", () => {
  it("needs stored data only, so that a run can be published later", () =>
    withTempDir(async (tempDir) => {
      const { build, store } = setUp(tempDir)
      await build(RECORDS, { model: "m" })
      const { manifest: key } = await build(RECORDS, { model: "m", publish: false })
      const candidate = await readManifest(store, key)
      const { manifest: live } = await readLive(store)
      const results = await checkGates({
        store,
        candidate,
        live,
        options: ALL,
        logger: silentLogger,
        tempDir,
      })
      expect(results.map(({ verdict }) => verdict)).toEqual(Array(11).fill("passed"))
    }))

  it("stops when it is aborted, also in a gate that is allowed", () =>
    withTempDir(async (tempDir) => {
      const { build, store } = setUp(tempDir)
      await build(RECORDS)
      const { manifest: key } = await build(RECORDS, { publish: false })
      const candidate = await readManifest(store, key)
      const { manifest: live } = await readLive(store)
      const check = { store, candidate, live, options: ALL, logger: silentLogger, tempDir }
      const signal = AbortSignal.abort()
      await expect(
        checkGates({ ...check, allow: ["centroid-drift", "overlap"], signal }),
      ).rejects.toMatchObject({
        tag: "Aborted",
      })
    }))
})

describe("the command line", () => {
  /** Runs a command in this process. */
  async function vecsnap(cwd: string, ...argv: readonly string[]) {
    const printed = { out: "", err: "" }
    const code = await runCommand(argv, {
      stdout: { write: (text) => (printed.out += text) },
      stderr: { write: (text) => (printed.err += text) },
      env: { ...process.env },
      cwd,
      signal: new AbortController().signal,
    })
    return { code, ...printed }
  }

  it("exits 5 with a table on stderr, shows the refused run, and publishes it when told to", () =>
    withTempDir(async (dir) => {
      const line = (i: number): string =>
        `${JSON.stringify({ id: `w${i}`, vector: [i * i, 1], shard: i % 2 })}\n`
      const lines = Array.from({ length: 10 }, (_, i) => line(i))
      await writeFile(join(dir, "words.jsonl"), lines.join(""))
      await writeFile(
        join(dir, "vecsnap.yaml"),
        `input: ${join(dir, "words.jsonl")}\nto: ${join(dir, "root")}\nmetric: l2\n` +
          "sharding: { strategy: explicit, shards: 2 }\nshard-column: shard\n" +
          "gates: { rows: { max-drop-percent: 20 }, skew: { max: 2 } }\n",
      )
      const first = await vecsnap(dir, "build", "-q")
      expect(first.code, first.err).toBe(0)
      expect(first.out).toMatch(/^skew +at most 2 +1 +passed$/m)
      const live = JSON.parse((await vecsnap(dir, "info", "--json")).out)
      expect(live).toMatchObject({ rows: 10, live: true })

      await writeFile(join(dir, "words.jsonl"), lines.slice(0, 5).join(""))
      const refused = await vecsnap(dir, "build", "-q")
      expect(refused.code).toBe(5)
      expect(refused.out).toBe("")
      const run = /run (\w+) is not published/.exec(refused.err)?.[1] as string
      expect(refused.err).toBe(`gate    limit                      value  verdict
rows    at most 20% fewer than 10  5      refused
dim     2                          2      passed
metric  l2                         l2     passed
model   -                          -      not applicable
skew    at most 2                  1.2    passed

  rows: it has 5 rows, 50% fewer than the 10 of the live snapshot
  model: neither snapshot has a model label

error: run ${run} is not published: rows is 5, expected at most 20% fewer than 10; to look at it, vecsnap query ${live.url} --snapshot ${run}; to publish it as it is, vecsnap publish ${live.url} ${run} --allow rows, or build with --allow rows
`)
      expect(JSON.parse((await vecsnap(dir, "info", "--json")).out).run).toBe(live.run)

      const cache = ["--cache-dir", join(dir, "cache")]
      const pinned = ["--snapshot", run, "--json"]
      const query = await vecsnap(
        dir,
        "query",
        "--vector",
        "[4,1]",
        "-k",
        "1",
        "--shards",
        "all",
        ...cache,
        ...pinned,
      )
      expect(JSON.parse(query.out)).toMatchObject({ snapshot: run, hits: [{ id: "w2" }] })
      const got = await vecsnap(dir, "get", join(dir, "root"), "w4", ...cache, ...pinned)
      expect(JSON.parse(got.out)).toMatchObject({ snapshot: run, records: [{ id: "w4" }] })
      expect(JSON.parse((await vecsnap(dir, "info", ...pinned)).out)).toMatchObject({
        run,
        rows: 5,
        live: false,
        publishedAt: null,
      })
      expect(JSON.parse((await vecsnap(dir, "shards", ...pinned)).out)).toMatchObject({ snapshot: run })
      expect((await vecsnap(dir, "info", "--snapshot", run)).out).toContain("not live")
      expect((await vecsnap(dir, "info", "--snapshot", "000000000000")).code).toBe(3)

      const json = await vecsnap(dir, "build", "-q", "--json")
      expect(json.code).toBe(5)
      expect(json.err).not.toContain("verdict")
      expect(JSON.parse(json.out).error).toMatchObject({
        tag: "GateRefused",
        details: { gates: [{ gate: "rows", value: 5, verdict: "refused" }, {}, {}, {}, { gate: "skew" }] },
      })

      const typo = await vecsnap(dir, "build", "-q", "--allow", "row")
      expect(typo.code).toBe(2)
      expect(typo.err).toContain("Did you mean rows?")

      const allowed = await vecsnap(dir, "build", "-q", "--allow", "rows")
      expect(allowed.code, allowed.err).toBe(0)
      expect(allowed.out).toContain("allowed")
      expect(JSON.parse((await vecsnap(dir, "info", "--json")).out)).toMatchObject({ rows: 5, live: true })
    }))
})
