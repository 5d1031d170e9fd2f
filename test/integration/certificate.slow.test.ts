import { readFile, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { describe, expect, it } from "vitest"
import { run as runCommand } from "../../cli/run.js"
import {
  type BuildOptions,
  buildSnapshot,
  evaluateSnapshot,
  type Id,
  type Manifest,
  openSnapshot,
  openStore,
  type RecallCertificate,
  readLive,
  type ShardingOptions,
  type VectorRecord,
} from "../../src/index.js"
import { readArtifacts } from "../../src/manifest/artifacts.js"
import { splitQueries } from "../../src/recall/queries.js"
import { drawKeys, idHashes, orderByKey } from "../../src/writer/rows/draw.js"
import { readPlaces } from "../support/copies.js"
import { bruteForce, makeRecords, seededRandom } from "../support/records.js"
import { withTempDir } from "../support/stores.js"
import { captureIo } from "../unit/cli/capture.js"

const ROWS = 1000
const DIM = 8
const SHARDS = 8
const PLAIN = { strategy: "cluster", shards: SHARDS, probes: 2, layout: "plain" } as const
const FAST = { ...PLAIN, layout: "fast" } as const
const AFFINITY = { ...PLAIN, layout: "affinity" } as const
const LSH = { strategy: "lsh", shards: SHARDS, probes: 2 } as const
const RECORDS = spread(makeRecords(ROWS, { dim: DIM }))
const HELD_OUT = heldOutRows(RECORDS, 50)

/** Numbers of the rows that a build with seed 1 holds out, by rising key. */
function heldOutRows(records: readonly VectorRecord[], count: number): readonly number[] {
  const values = records.map(({ id }) => String(id))
  return [...orderByKey(drawKeys(idHashes({ type: "string", values }), 1))].slice(0, count)
}

/** Noise, so that neighbours fall into different shards. */
function spread(records: readonly VectorRecord[]): VectorRecord[] {
  const random = seededRandom(3)
  return records.map(({ id, vector }, row) => ({
    id,
    shard: Math.floor(row / 8) % 4,
    vector: Float32Array.from(vector, (value) => value + 3 * (random() - 0.5)),
  }))
}

function drawQueries(count: number, seed: number): Float32Array[] {
  const random = seededRandom(seed)
  return Array.from({ length: count }, () => {
    const { vector } = RECORDS[Math.floor(random() * ROWS)]!
    return Float32Array.from(vector, (value) => value + 0.4 * (random() - 0.5))
  })
}

let roots = 0
function setUp(tempDir: string) {
  const to = `memory://certificate-${process.pid}-${roots++}`
  const build = async (
    sharding: ShardingOptions,
    records: readonly VectorRecord[] = RECORDS,
    options: Partial<BuildOptions> = {},
  ): Promise<Manifest> => {
    await buildSnapshot(records, { to, tempDir, sharding, parallelism: 1, ...options })
    return (await readLive(openStore(to))).manifest
  }
  return { to, build }
}

const withoutSelf = (record: VectorRecord) => RECORDS.filter(({ id }) => id !== record.id)
const at = ({ curves, probes }: RecallCertificate, k: number, count: number): number =>
  curves.find((curve) => curve.k === k)!.recall[probes.indexOf(count)]!

/**
 * Recall by definition, of the nearest 1 and 10 at each number of probes: routes by the reader, neighbours by brute force, who holds what
 * by the shards' files.
 */
async function recallByHand(
  to: string,
  manifest: Manifest,
  probes: readonly number[],
): Promise<ReadonlyMap<string, number>> {
  const places = await readPlaces(to, manifest)
  const sums = new Map<string, number>()
  await using reader = await openSnapshot(to)
  const queries = Array.from(HELD_OUT, (row) => RECORDS[row]!)
  const nearest = queries.map((record) => bruteForce(withoutSelf(record), "cosine", record.vector, 10))
  for (const count of probes) {
    const vectors = queries.map(({ vector }) => vector as Float32Array)
    const answers = await reader.searchMany(vectors, { k: 1, probes: count })
    for (const [query, { shards }] of answers.entries()) {
      const isFound = ({ id }: { id: Id }) =>
        places.get(id)!.shards.some((shard) => shards.asked.includes(shard))
      for (const k of [1, 10]) {
        const share = nearest[query]!.slice(0, k).filter(isFound).length / k
        sums.set(`${k} at ${count}`, (sums.get(`${k} at ${count}`) ?? 0) + share / queries.length)
      }
    }
  }
  return sums
}

describe("the recall certificate", () => {
  it.each<[string, ShardingOptions]>([
    ["plain", PLAIN],
    ["affinity, with copies", AFFINITY],
    ["lsh", LSH],
  ])("is what routes and true neighbours of the held-out rows say, none its own: %s", (_, sharding) =>
    withTempDir(async (tempDir) => {
      const { to, build } = setUp(tempDir)
      const manifest = await build(sharding)
      const recall = manifest.recall!
      expect(recall.queries).toEqual({ kind: "rows", count: 50, seed: 1 })
      expect(recall).toMatchObject({ rows: ROWS - 1, routedBy: "vector" })
      expect(recall.notes[0]).toMatch(/^the queries were rows/)
      expect(recall.curves.map(({ k }) => k)).toEqual([1, 10, 100])
      const byHand = await recallByHand(to, manifest, [1, 3])
      for (const probes of [1, 3]) {
        for (const k of [1, 10])
          expect(at(recall, k, probes)).toBeCloseTo(byHand.get(`${k} at ${probes}`)!, 3)
      }
      expect(at(recall, 10, 1)).toBeLessThan(0.95)
      for (const { recall: all } of recall.curves) expect(all.at(-1)).toBe(1)
      expect(recall.targets.map(({ target }) => target)).toEqual([0.9, 0.95, 0.98])
    }),
  )

  it.each([
    ["plain", PLAIN],
    ["affinity", AFFINITY],
  ])("is measured with rows that nothing learned from: %s", (_, sharding) =>
    withTempDir(async (tempDir) => {
      const { build } = setUp(tempDir)
      const artifacts = async (changed: readonly number[]): Promise<readonly unknown[]> => {
        const rows = new Set(changed)
        const records = RECORDS.map((record, row) =>
          rows.has(row)
            ? { ...record, vector: Float32Array.from(record.vector, (value) => -2 * value) }
            : record,
        )
        const { artifacts } = await build(sharding, records)
        return artifacts.map(({ key, sha256 }) => [key.split("/").at(-1), sha256])
      }
      const before = await artifacts([])
      expect(await artifacts([...HELD_OUT])).toEqual(before)
      // One other row is enough.
      const other = [...Array(ROWS).keys()].find((row) => !HELD_OUT.includes(row))!
      expect(await artifacts([other])).not.toEqual(before)
    }),
  )

  it("says of strategies whose queries name shards what a row's own shard holds", () =>
    withTempDir(async (tempDir) => {
      const { build, to } = setUp(tempDir)
      const { recall } = await build({ strategy: "explicit", shards: 4 })
      expect(recall).toMatchObject({ routedBy: "row", targets: [] })
      const curve = recall!.curves.find(({ k }) => k === 10)!
      expect(new Set(curve.recall).size).toBe(1)
      expect(curve.recall[0]).toBeLessThan(0.6)
      const evaluation = await evaluateSnapshot(to, { tempDir, sample: 400, ks: [10] })
      expect(evaluation).toMatchObject({ routedBy: "row", probes: [1], compared: [{ agrees: true }] })
      await expect(evaluateSnapshot(to, { tempDir, queries: drawQueries(20, 1) })).rejects.toMatchObject({
        tag: "Unsupported",
      })
      await expect(
        build({ strategy: "explicit", shards: 4 }, RECORDS, { queries: drawQueries(20, 1) }),
      ).rejects.toThrow("option queries goes with strategies that rank shards for a vector")
    }))

  it("is absent where it is not wanted or rows are few, and leaves out rows that lost as duplicates", () =>
    withTempDir(async (tempDir) => {
      const { build } = setUp(tempDir)
      expect((await build(PLAIN, RECORDS, { certificate: false })).recall).toBeUndefined()
      expect((await build(PLAIN, RECORDS.slice(0, 399))).recall).toBeUndefined()
      const small = await build(PLAIN, RECORDS, { certificate: { rows: 25 } })
      expect(small.recall?.queries.count).toBe(25)
      // Every row once more, and the second one counts: of 100 rows held out those remain that are second.
      const twice = [...RECORDS, ...RECORDS]
      const held = heldOutRows(twice, 100)
      const { recall } = await build(PLAIN, twice, { onDuplicate: "last" })
      expect(recall!.queries.count).toBe(held.filter((row) => row >= ROWS).length)
      expect(recall!.rows).toBe(ROWS - 1)
    }))
})

describe("thresholds of a layout made of a sample", () => {
  const MANY = 8000
  /** 1,000 rows make the layout. */
  const options = { memoryLimit: 1, sharding: { ...FAST, shards: 12, sampleRows: 1000 } }
  const records = spread(makeRecords(MANY, { dim: DIM }))

  it("are chosen by every second held-out row with its neighbours among all rows; the others measure targets", () =>
    withTempDir(async (tempDir) => {
      const { to, build } = setUp(tempDir)
      const recall = (await build(options.sharding, records, options)).recall!
      expect(recall.queries).toEqual({ kind: "rows", count: 400, seed: 1, choosing: 200 })
      const heldOut = heldOutRows(records, 400).map((row) => records[row]!)
      await using reader = await openSnapshot(to)
      /** Of each row, by a search: what it finds of its ten nearest, with how many shards, and what it is told to find. */
      const searched = await Promise.all(
        heldOut.map(async ({ id, vector }) => {
          const { hits, shards, expectedRecall } = await reader.search(vector as Float32Array, {
            k: 11,
            targetRecall: 0.9,
          })
          const found = new Set(hits.map((hit) => hit.id))
          const nearest = bruteForce(records, "cosine", vector, 11).filter((row) => row.id !== id)
          const recall = nearest.slice(0, 10).filter((row) => found.has(row.id)).length / 10
          return { recall, probes: shards.asked.length, expected: expectedRecall! }
        }),
      )
      const mean = (values: readonly number[]) =>
        values.reduce((sum, value) => sum + value, 0) / values.length
      const [choosing, measuring] = [0, 1].map((half) => searched.filter((_, place) => place % 2 === half))
      // What a search is told to find is what the rows that chose, familiar or unfamiliar ones, have found.
      const sides = [...new Set(searched.map(({ expected }) => expected))]
      expect(sides).toHaveLength(2)
      for (const side of sides) {
        const reached = mean(
          choosing!.filter(({ expected }) => expected === side).map(({ recall }) => recall),
        )
        expect(side).toBeCloseTo(reached, 6)
        expect(side).toBeGreaterThan(0.9)
      }
      const { probes, recall: reached } = recall.targets[0]!
      expect(probes).toBeCloseTo(mean(measuring!.map((row) => row.probes)), 3)
      expect(reached).toBeCloseTo(mean(measuring!.map((row) => row.recall)), 3)
      expect(probes).toBeLessThan(12)
    }))

  it("are those of the layout without a certificate, or if too few rows could choose; given queries all choose", () =>
    withTempDir(async (tempDir) => {
      const { to, build } = setUp(tempDir)
      const thresholdsOf = async (more: Partial<BuildOptions>) => {
        const manifest = await build(options.sharding, records, { ...options, ...more })
        const { recall } = manifest
        const arrays = await readArtifacts(openStore(to), manifest)
        return { recall, thresholds: arrays["thresholds.npy"]!.data }
      }
      expect((await thresholdsOf({ certificate: false })).recall).toBeUndefined()
      const few = await thresholdsOf({ certificate: { rows: 398 } })
      expect(few.recall!.queries).toEqual({ kind: "rows", count: 398, seed: 1 })
      expect((await thresholdsOf({})).thresholds).not.toEqual(few.thresholds)
      const queries = drawQueries(60, 5)
      const given = await thresholdsOf({ queries })
      expect(given.recall!.queries).toEqual({ kind: "given", count: 60, seed: 1, choseThresholds: true })
      // One side for all, and every target is met by the queries themselves.
      const [unfamiliar, familiar] = [0, 101].map((from) => given.thresholds.slice(from, from + 101))
      expect(unfamiliar).toEqual(familiar)
      for (const { target, recall } of given.recall!.targets) expect(recall).toBeGreaterThanOrEqual(target)
    }))
})

describe("real queries", () => {
  it("measure what a search for them finds: the certificate equals an evaluation with the same ones", () =>
    withTempDir(async (tempDir) => {
      for (const [sharding, metric] of [
        [PLAIN, "l2"],
        [FAST, "cosine"],
      ] as const) {
        const { to, build } = setUp(tempDir)
        const queries = drawQueries(60, 5)
        const { recall } = await build(sharding, RECORDS, { queries, metric })
        expect(recall!.queries).toMatchObject({ kind: "given", count: 60 })
        expect(recall!.queries.demand).toBeUndefined()
        expect(recall!.queries.choseThresholds).toBe(sharding === FAST ? true : undefined)
        expect(recall!.rows).toBe(ROWS)
        const evaluation = await evaluateSnapshot(to, { tempDir, queries, probes: [1, 2, 5, 8] })
        expect(evaluation.queries).toMatchObject({ kind: "given", count: 60 })
        expect(evaluation.compared).toHaveLength(12)
        for (const { difference, agrees } of evaluation.compared)
          expect([difference, agrees]).toEqual([0, true])
        expect(evaluation.targets).toEqual(recall!.targets)
      }
    }))

  it("are split where copies are made: one half is demand, the other chooses thresholds and measures", () =>
    withTempDir(async (tempDir) => {
      const { to, build } = setUp(tempDir)
      const queries = drawQueries(80, 6)
      const first = await build(AFFINITY, RECORDS, { queries })
      expect(first.recall!.queries).toEqual({
        kind: "given",
        count: 40,
        seed: 1,
        demand: 40,
        choseThresholds: true,
      })
      const content = ({ shards }: Manifest) => shards.map(({ fingerprint }) => fingerprint)
      const artifact = async (manifest: Manifest, name: string) =>
        (await readArtifacts(openStore(to), manifest))[name]!.data
      const { demand, measuring } = splitQueries(
        Float32Array.from(queries.flatMap((query) => [...query])),
        DIM,
        1,
        true,
      )
      const placeOf = (half: Float32Array) =>
        queries.findIndex((query) => query.every((value, i) => value === half[i]))
      const turned = (place: number) =>
        queries.with(
          place,
          Float32Array.from(queries[place]!, (value) => -value),
        )
      const other = await build(AFFINITY, RECORDS, { queries: turned(placeOf(measuring)) })
      expect(content(other)).toEqual(content(first))
      expect(await artifact(other, "descriptors.npy")).toEqual(await artifact(first, "descriptors.npy"))
      expect(await artifact(other, "thresholds.npy")).not.toEqual(await artifact(first, "thresholds.npy"))
      expect(other.recall!.curves).not.toEqual(first.recall!.curves)
      const wanted = await build(AFFINITY, RECORDS, { queries: turned(placeOf(demand)) })
      expect(content(wanted)).not.toEqual(content(first))
    }))

  it("are checked before they are used", () =>
    withTempDir(async (tempDir) => {
      const { build } = setUp(tempDir)
      const queries = drawQueries(20, 1)
      await expect(build(PLAIN, RECORDS, { queries: queries.slice(1) })).rejects.toThrow(
        "there are 19 queries, expected 20 or more",
      )
      await expect(build(FAST, RECORDS, { queries: queries.with(7, new Float32Array(9)) })).rejects.toThrow(
        "query 7: the vector has 9 values, expected 8",
      )
    }))
})

describe("targetRecall without a rule to stop by", () => {
  it.each([
    ["plain", PLAIN],
    ["lsh", LSH],
  ])("takes the fewest probes whose lower bound meets the target: %s", (_, sharding) =>
    withTempDir(async (tempDir) => {
      const { to, build } = setUp(tempDir)
      const recall = (await build(sharding)).recall!
      const curve = recall.curves.find(({ k }) => k === 10)!
      await using reader = await openSnapshot(to)
      expect(reader.snapshot.recall).toEqual(recall)
      for (const targetRecall of [0.5, 0.8, 1]) {
        const answer = await reader.search(RECORDS[5]!.vector as Float32Array, { targetRecall })
        const meets = curve.low.findIndex((low) => low >= targetRecall)
        const place = meets < 0 ? recall.probes.length - 1 : meets
        expect(answer.shards.asked).toHaveLength(recall.probes[place]!)
        expect(answer.expectedRecall).toBe(curve.recall[place])
      }
      expect((await reader.health()).recall).toMatchObject({ k: 10, probes: 2, mean: curve.recall[1] })
    }),
  )
})

describe("vecsnap build, info, history and eval", () => {
  it("take files of queries, and tell what was measured; the page fetches nothing", () =>
    withTempDir(async (dir) => {
      const lines = (records: readonly { id: unknown; vector: ArrayLike<number> }[]) =>
        records.map(({ id, vector }) => `${JSON.stringify({ id, vector: Array.from(vector) })}\n`).join("")
      await writeFile(join(dir, "rows.jsonl"), lines(RECORDS))
      const queries = drawQueries(40, 9).map((vector, id) => ({ id, vector }))
      await writeFile(join(dir, "queries.jsonl"), lines(queries))
      await writeFile(
        join(dir, "vecsnap.yaml"),
        `to: ${dir}/root\ninput: ${dir}/rows.jsonl\nsharding: { strategy: cluster, shards: 6 }\nqueries: ${dir}/queries.jsonl\ngates: { recall: { min: 0.5, probes: 2 } }\n`,
      )
      const json = async (...argv: string[]) => {
        const io = { ...captureIo(), cwd: dir }
        const code = await runCommand([...argv, "--json"], io)
        expect([code, io.err()]).toEqual([0, expect.anything()])
        return JSON.parse(io.out())
      }
      const built = await json("build", "-q")
      expect(built.recall.queries).toMatchObject({ kind: "given", count: 40 })
      expect(built.gates.at(-1)).toMatchObject({
        gate: "recall",
        verdict: "passed",
        limit: "at least 0.5 of 10 at 2 probes",
      })
      const info = await json("info")
      expect(info.recall).toEqual(built.recall)
      const history = await json("history")
      expect(history.publications[0].recall).toBe(at(info.recall, 10, 1))
      const evaluated = await json(
        ...[
          "eval",
          "--queries",
          `${dir}/queries.jsonl`,
          "--k",
          "1,10",
          "--probes",
          "1,2",
          "--report",
          "r.html",
        ],
      )
      expect(evaluated.compared.map((one: { difference: number }) => one.difference)).toEqual([0, 0, 0, 0])
      expect(
        evaluated.shards.reduce((sum: number, { probed }: { probed: number }) => sum + probed, 0),
      ).toBeCloseTo(1)

      const page = await readFile(join(dir, "r.html"), "utf8")
      expect(page).toContain("uPlot")
      expect(page).toContain(`Recall of snapshot ${built.run}`)
      // Neither markup nor style nor script loads anything, and the page forbids it.
      expect(page).toContain("default-src 'none'")
      expect(page).not.toMatch(
        /<link|<img|<iframe|\ssrc\s*=|\shref\s*=|url\(|@import|fetch\(|XMLHttpRequest|WebSocket|import\(/i,
      )
      const scripts = Array.from(page.matchAll(/<script>([\s\S]*?)<\/script>/g), ([, script]) => script!)
      expect(scripts).toHaveLength(2)
      for (const script of scripts) expect(() => new Function(script)).not.toThrow()
    }))
})
