/** What the commands of cli.test.ts do besides: for people, with other options, and where something is wrong. */
import { readFile, rm, writeFile } from "node:fs/promises"
import { setTimeout as delay } from "node:timers/promises"
import { beforeAll, describe, expect, test } from "vitest"
import { BUILD_WORDS, cliFolder } from "../support/cli-folder.js"
import { fromRoot } from "../support/paths.js"

const { path, vecsnap, vecsnapJson } = cliFolder()

describe("from build to query", () => {
  let run: string

  beforeAll(async () => {
    run = (await vecsnapJson(...BUILD_WORDS)).run
  })

  test("query by vector searches the shards that are named, and no others", async () => {
    await writeFile(path("query.json"), "[9, 0.5]")
    for (const vector of ["[9,0.5]", "query.json", "@query.json"]) {
      const answer = await vecsnapJson("query", "./words", "--vector", vector, "--shards", "1,2")
      expect(answer.shards.asked.toSorted()).toEqual([1, 2])
      const ids = answer.hits.map((hit: { id: string }) => hit.id)
      expect(ids).toEqual(["w2", "w4", "w1", "w5", "w7", "w8", "w10", "w11"])
    }
  })

  test("query for people is a table, and says where was searched", async () => {
    const {
      code,
      stdout: out,
      stderr: err,
    } = await vecsnap("query", "./words", "--like", "w3", "-k", "2", "--shards", "all")
    expect(code, err).toBe(0)
    const [titles, first, second, , route] = out.split("\n")
    expect(titles).toMatch(/^#\s+id\s+distance\s+shard\s+lang\s+year\s+payload$/)
    expect(first).toMatch(/^1\s+w2\s+5\.00000\s+2\s+de\s+2002\s+\{"note":\{"text":"note 2"\}\}$/)
    expect(second).toMatch(/^2\s+w4\s+7\.00000\s+1\s+de\s+2004/)
    expect(route).toMatch(/^searched 3 of 4 shards: [012], [012], [012]; snapshot /)
    expect(out).not.toContain("\u001b")
  })

  test("get of one record is a document, and info and shards are tables for people", async () => {
    expect(await vecsnapJson("get", "./words", "w3")).toMatchObject({
      snapshot: run,
      records: [{ id: "w3", vector: [9, 0.5], fields: { lang: "en", year: 2003 } }],
      missing: [],
    })
    const { stdout: info } = await vecsnap("info", "./words")
    expect(info).toContain(`snapshot ${run} at ./words`)
    expect(info).toMatch(/shards +4 \(1 empty\), 0 to 4 rows, skew 1\.33/)
    const { stdout: shards } = await vecsnap("shards", "./words")
    expect(shards).toMatch(/12 rows in 3 shards, .*; empty: 3\n$/)
  })

  test("a second build of the same rows reuses the shards, and history marks it as live", async () => {
    const report = await vecsnapJson(...BUILD_WORDS, "--quiet")
    expect(report.replaced).toBe(run)
    expect(report.shards.reused).toBe(3)
    const history = await vecsnapJson("history", "./words")
    expect(history.live).toBe(report.run)
    expect(
      history.publications.map(({ run, live, rows, number }: Record<string, unknown>) => [
        number,
        run,
        live,
        rows,
      ]),
    ).toEqual([
      [2, report.run, true, 12],
      [1, run, false, 12],
    ])
    expect(history.publications[1].replacedBy.run).toBe(report.run)
    const { stdout: out } = await vecsnap("history", "./words", "--limit", "1")
    expect(out).toContain(`* live: run ${report.run}`)
    expect(out).toContain("1 older not listed (--limit)")
    const shards = await vecsnap("shards", "./words")
    expect(shards.stdout.match(new RegExp(`run ${run}`, "g"))).toHaveLength(3)
  })
})

describe("releases", () => {
  const BUILD = [
    "build",
    "words.jsonl",
    "--to",
    "./released",
    "--strategy",
    "explicit",
    "--shards",
    "3",
    "--shard-column",
    "part",
  ]
  let first: string
  let second: string
  beforeAll(async () => {
    first = (await vecsnapJson(...BUILD)).run
    const report = await vecsnapJson(...BUILD, "--no-publish")
    expect(report).toMatchObject({ published: false, replaced: null })
    second = report.run
  })

  test("what was built with --no-publish can be queried, and is live once it is published", async () => {
    expect((await vecsnapJson("info", "./released")).run).toBe(first)
    const query = ["query", "./released", "--vector", "[1,0.5]", "--shards", "all", "-k", "1"]
    expect(await vecsnapJson(...query, "--snapshot", second)).toMatchObject({
      snapshot: second,
      hits: [{ id: "w1" }],
    })
    expect((await vecsnapJson(...query)).snapshot).toBe(first)
    const waiting = await vecsnap("history", "./released")
    expect(waiting.stdout).toMatch(new RegExp(`not in the history[^]*${second}`))
    expect(await vecsnapJson("publish", "./released", second)).toMatchObject({
      run: second,
      replaced: first,
      number: 2,
    })
    const again = await vecsnap("publish", "./released", second)
    expect(again.stdout).toBe(`snapshot ${second} is live already at ./released\n`)
  })

  test("a rollback makes the earlier one live, and another finds none before it", async () => {
    const { stdout: out } = await vecsnap("rollback", "./released")
    expect(out).toBe(`rolled back to snapshot ${first} at ./released; before, run ${second} was live\n`)
    const none = await vecsnap("rollback", "./released")
    expect(none.code).toBe(3)
    expect(none.stderr).toContain(`can't go back by 1 from run ${first}`)
    expect(await vecsnapJson("rollback", "./released", "--to", second)).toMatchObject({
      action: "rollback",
      number: 4,
    })
  })

  test("runs tells how each of them ended", async () => {
    const failed = await vecsnap(
      "build",
      "bad-path.jsonl",
      "--to",
      "./released",
      "--strategy",
      "lsh",
      "--shards",
      "2",
    )
    expect(failed.code).not.toBe(0)
    const { runs } = await vecsnapJson("runs", "./released")
    expect(
      runs.map(({ run, state, published, live }: Record<string, unknown>) => [run, state, published, live]),
    ).toEqual([
      [second, "succeeded", true, true],
      [first, "succeeded", true, false],
    ])
    const { stdout: out } = await vecsnap("runs", "./released", "--limit", "1")
    expect(out).toContain("1 older not listed (--limit)")
  })
})

test("vecsnap.yaml holds what is repeated; integers of 64 bits come through", async () => {
  const ids = ["9007199254740993", "-5", "42"]
  const lines = ids.map((id, i) => `{"key":${id},"emb":[1,${i}]}\n`)
  await writeFile(path("ints.jsonl"), lines.join(""))
  const settings = [
    "input: ints.jsonl",
    "to: ./ints",
    "id-column: key",
    "vector-column: emb",
    "metric: dot",
    "sharding: { strategy: cluster, shards: 2 }",
  ]
  await writeFile(path("ints.yaml"), settings.join("\n"))
  const config = ["--config", "ints.yaml"]
  await vecsnapJson("build", ...config, "--metric", "l2")
  const info = await vecsnapJson("info", ...config)
  expect(info).toMatchObject({ idType: "int64", metric: "l2", strategy: "cluster" })

  const {
    code,
    stdout: out,
    stderr: err,
  } = await vecsnap("query", ...config, "--like", "42", "--probes", "all", "--json")
  expect(code, err).toBe(0)
  expect(out.match(/"id":-?\d+/g)).toEqual(['"id":-5', '"id":9007199254740993'])

  const refused = await vecsnap("query", ...config, "--like", "4x2")
  expect(refused.code).toBe(2)
  expect(refused.stderr).toBe(`error: the snapshot's ids are 64-bit integers, got "4x2"\n`)
})

test("warm fills a cache directory, which a query then reads; health says how old the snapshot is", async () => {
  const build = ["build", "words.jsonl", "--to", "./warm", "--strategy", "lsh", "--shards", "2"]
  const { run } = await vecsnapJson(...build)
  const cache = ["--cache-dir", "./warm-cache", "--fetch", "whole"]
  const first = await vecsnapJson("warm", "./warm", ...cache)
  expect(first).toMatchObject({ snapshot: run, shards: first.downloads })
  expect(first.bytes).toBeGreaterThan(1000)
  expect(await vecsnapJson("warm", "./warm", ...cache)).toMatchObject({ downloads: 0, bytes: 0 })
  // What is warm needs no shard of the root.
  await rm(path("warm", "shards"), { recursive: true })
  const found = await vecsnapJson("query", "./warm", "--vector", "[9,0.5]", "--probes", "all", ...cache)
  expect(found.hits).toHaveLength(10)

  // Health tries a shard: without those in the cache it would say that queries fail.
  expect((await vecsnap("health", "./warm")).code).toBe(11)
  expect(await vecsnapJson("health", "./warm", ...cache)).toMatchObject({ status: "healthy", reasons: [] })
  const fresh = await vecsnap("health", "./warm", "--max-age", "2d", ...cache)
  expect(fresh).toMatchObject({ code: 0, stderr: "" })
  expect(fresh.stdout).toMatch(new RegExp(`^healthy: snapshot ${run}, published \\d+ (s|min).* ago\n$`))
  await delay(1100)
  const old = await vecsnap("health", "./warm", "--max-age", "0.01", ...cache)
  expect({ code: old.code, stderr: old.stderr }).toEqual({ code: 10, stderr: "" })
  expect(old.stdout).toMatch(/^degraded: .*\n {2}.*published \d+ s ago/)
  expect((await vecsnap("health", "./nothing")).code).toBe(3)
})

test("a damaged manifest: 6, naming it; history still lists it", async () => {
  const build = ["build", "words.jsonl", "--to", "./damaged", "--strategy", "lsh", "--shards", "2"]
  const { manifest, run } = await vecsnapJson(...build)
  const file = path("damaged", manifest)
  await writeFile(file, (await readFile(file, "utf8")).replace('"rows": 12', '"rows": 13'))
  const { code, stderr: err } = await vecsnap("info", "./damaged")
  expect(code).toBe(6)
  expect(err).toContain(`error: ${manifest} is damaged`)
  const { publications } = await vecsnapJson("history", "./damaged")
  expect(publications).toMatchObject([{ run, live: true, rows: null }])
  expect(publications[0].problem).toContain("is damaged")
})

test("plan takes a number of shards, and a build with shards auto has as many as it proposes", async () => {
  const words = fromRoot("data/words.parquet")
  const { stdout: out } = await vecsnap("plan", words, "--shards", "4")
  expect(out).toMatch(/ shards +4\n/)
  const args = [words, "--to", "./auto", "--strategy", "cluster", "--shards", "auto"]
  expect((await vecsnapJson("build", ...args)).shards.total).toBe(16)
  const piped = await vecsnap("build", "-", "--format", "jsonl", "--to", "./piped", ...args.slice(3))
  expect(piped.stderr).toContain("standard input can be read only once: give --shards")
})
