import { mkdtemp, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { run } from "../../cli/run.js"
import { buildSnapshot, openSnapshot, openSource, type VectorRecord } from "../../src/index.js"
import { ALL } from "../support/scope.js"
import { captureIo } from "../unit/cli/capture.js"
import { runSql } from "../unit/sources/helpers.js"

let dir: string
const path = (name: string) => join(dir, name)

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "vecsnap-first-"))
  await runSql(
    `COPY (SELECT 'r' || range AS id, [sin(range), cos(range), sin(range * 7)]::FLOAT[] AS emb, 'title ' || range AS title
     FROM range(3000)) TO '${path("rows.parquet")}'`,
  )
  await runSql(
    `COPY (SELECT range AS id, [1, range]::FLOAT[] AS embedding, [range, 1]::FLOAT[] AS other FROM range(20))
     TO '${path("two.parquet")}'`,
  )
})
afterAll(() => rm(dir, { recursive: true, force: true }))

async function vecsnap(...argv: string[]) {
  const io = captureIo()
  const code = await run(argv, io)
  return { code, out: io.out(), err: io.err() }
}

const records = (count: number): VectorRecord[] =>
  Array.from({ length: count }, (_, i) => ({ id: i, vector: [Math.sin(i), Math.cos(i)] }))

describe("vecsnap build rows.parquet --to ./snap", () => {
  it("chooses the settings, says them first as flags, and builds", async () => {
    const { code, out, err } = await vecsnap("build", path("rows.parquet"), "--to", path("snap"))
    expect(code).toBe(0)
    expect(out).toMatch(/^published snapshot/)
    expect(err).toContain(
      "settings: --strategy cluster --shards 4 --backend sqlite-vec --metric cosine --id-column id --vector-column emb --payload-columns title\nshards auto: 4 shards of",
    )
    expect(err.indexOf("settings: ")).toBe(0)
    await using snapshot = await openSnapshot(path("snap"), { cacheDir: path("cache") })
    expect(snapshot.snapshot).toMatchObject({ strategy: "cluster", shards: 4 })
    const [hit] = (await snapshot.search([Math.sin(7), Math.cos(7), Math.sin(49)], { k: 1 })).hits
    expect(hit).toMatchObject({ id: "r7", payload: { title: "title 7" } })
  })

  it.runIf(ALL)(
    "builds as it says: with these flags it chooses nothing, and the shards are the same",
    async () => {
      const first = await vecsnap("build", path("rows.parquet"), "--to", path("same"), "--json")
      const flags = /settings: (.*)/.exec(first.err)![1]!.split(" ")
      const second = await vecsnap("build", path("rows.parquet"), "--to", path("same"), "--json", ...flags)
      expect(second.err).not.toContain("settings: ")
      const [one, two] = [JSON.parse(first.out), JSON.parse(second.out)]
      expect(two.shards).toEqual({ ...one.shards, reused: one.shards.total })
    },
  )

  it.runIf(ALL)("keeps what is named", async () => {
    const named = ["--shards", "3", "--metric", "l2", "--payload-columns", ""]
    const { code, err } = await vecsnap("build", path("rows.parquet"), "--to", path("named"), ...named)
    expect(code).toBe(0)
    expect(err).not.toContain("settings: ")
    await using snapshot = await openSnapshot(path("named"), { cacheDir: path("cache") })
    expect(snapshot.snapshot).toMatchObject({ metric: "l2", strategy: "cluster", shards: 3 })
  })

  it("lists the columns if none is the ids", async () => {
    await runSql(`COPY (SELECT 1 AS key, [1, 2]::FLOAT[] AS vector) TO '${path("key.parquet")}'`)
    const { code, err } = await vecsnap("build", path("key.parquet"), "--to", path("none"))
    expect(code).toBe(2)
    expect(err).toContain('has no column "id"; its columns are "key", "vector"')
  })

  it("says that another vector becomes payload, unless payload columns are named", async () => {
    const two = ["build", path("two.parquet"), "--to", path("two"), "--shards", "1"]
    const warning =
      'the payload of every record holds "other", a list of numbers, as text; name the payload columns'
    expect((await vecsnap(...two)).err).toContain(warning)
    expect((await vecsnap(...two, "--payload-columns", "")).err).not.toContain("payload of every record")
    const plan = await vecsnap("plan", path("two.parquet"))
    expect(plan.out).toMatch(/vectors +"embedding"\n +payload +"other"\n +"other": vectors too, as text/)
    expect(JSON.parse((await vecsnap("plan", path("two.parquet"), "--json")).out).input).toMatchObject({
      columns: { id: "id", vector: "embedding", payload: ["other"], payloadVectors: ["other"] },
      notes: [],
    })
  })

  it("leaves bad rows out of what it looks at, if they are to be skipped", async () => {
    const lines = records(30).map(({ id, vector }) => JSON.stringify({ id, vector }))
    await writeFile(
      path("bad.jsonl"),
      [...lines, "{", ...lines.map((line) => line.replace("id", "di"))].join("\n"),
    )
    const { code, out } = await vecsnap(
      ...["build", path("bad.jsonl"), "--to", path("bad"), "--on-bad-row", "skip", "--json"],
    )
    expect(code).toBe(0)
    expect(JSON.parse(out)).toMatchObject({ rows: 30, skippedRows: 31, shards: { total: 1 } })
  })
})

describe("buildSnapshot without sharding", () => {
  it("chooses it for records and for files", async () => {
    const told: string[] = []
    const say = (_: object, message: string) => void told.push(message)
    const logger = { debug() {}, info: say, warn: say, error: say }
    const report = await buildSnapshot(records(2000), { to: "memory://first-records", logger })
    expect(report.shards.total).toBe(2)
    expect(told[0]).toMatch(/^sharding chosen by the input: 2 shards of/)
    const source = await openSource(path("rows.parquet"))
    expect((await buildSnapshot(source, { to: "memory://first-file", logger })).shards.total).toBe(4)
    expect(told).toContain('ids are column "id", vectors "emb", the payload "title"')
  })

  it("is refused for what can be read only once", async () => {
    await expect(buildSnapshot(records(3).values(), { to: "memory://first-once" })).rejects.toMatchObject({
      tag: "InvalidInput",
      message:
        'no sharding is given, and records cannot be looked at first, since it may be read only once; expected option sharding, for example { strategy: "cluster", shards: 16 }',
    })
  })
})
