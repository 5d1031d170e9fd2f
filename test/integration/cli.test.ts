/**
 * The command line as a user has it: processes of dist/cli/main.js on files in a temporary directory.
 */
import { type ChildProcess, spawn } from "node:child_process"
import { once } from "node:events"
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { text } from "node:stream/consumers"
import { setTimeout as delay } from "node:timers/promises"
import { fileURLToPath } from "node:url"
import { afterAll, beforeAll, describe, expect, test } from "vitest"

const MAIN = fileURLToPath(new URL("../../cli/main.js", import.meta.url))

/** Record i lies at i² on a line, so that all distances to one record differ; record i is in shard i mod 3. */
const RECORDS = Array.from({ length: 12 }, (_, i) => ({
  id: `w${i}`,
  vector: [i * i, 0.5],
  lang: i % 2 === 0 ? "de" : "en",
  year: 2000 + i,
  part: i % 3,
  note: i === 4 ? null : { text: `note ${i}` },
}))

let dir: string
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "vecsnap-cli-"))
  const lines = RECORDS.map((record) => `${JSON.stringify(record)}\n`)
  await writeFile(join(dir, "words.jsonl"), lines.join(""))
})
afterAll(() => rm(dir, { recursive: true, force: true }))

function start(...argv: readonly string[]): ChildProcess {
  const { PATH, HOME } = process.env
  const env = { PATH, HOME, XDG_CACHE_HOME: join(dir, "cache"), AWS_EC2_METADATA_DISABLED: "true" }
  return spawn(process.execPath, [MAIN, ...argv], { cwd: dir, env })
}

interface Finished {
  readonly code: number | null
  readonly out: string
  readonly err: string
}

async function finish(child: ChildProcess): Promise<Finished> {
  const closed = once(child, "close") as Promise<[number | null]>
  const [out, err, [code]] = await Promise.all([text(child.stdout!), text(child.stderr!), closed])
  return { code, out, err }
}

const vecsnap = (...argv: readonly string[]): Promise<Finished> => finish(start(...argv))

/** Runs a command that must succeed, and reads what it prints. */
async function vecsnapJson(...argv: readonly string[]) {
  const { code, out, err } = await vecsnap(...argv, "--json")
  expect(code, err).toBe(0)
  return JSON.parse(out)
}

const BUILD = [
  ...["build", "words.jsonl", "--to", "./words", "--metric", "l2"],
  ...["--strategy", "explicit", "--shards", "4", "--shard-column", "part"],
  ...["--fields", "lang:string,year:int64", "--payload-columns", "note", "--custom", "team=search"],
]

describe("from build to query", () => {
  let run: string

  test("build reports what was built, and prints progress on stderr only", async () => {
    const { code, out, err } = await vecsnap(...BUILD, "--json")
    expect(code, err).toBe(0)
    const report = JSON.parse(out)
    run = report.run
    expect(report).toMatchObject({ rows: 12, dim: 2, replaced: null, skippedRows: 0, duplicateRows: 0 })
    expect(report.shards).toMatchObject({ total: 4, empty: 1, largestRows: 4, smallestRows: 0, skew: 4 / 3 })
    expect(err).toContain("building shards")
  })

  test("query by id leaves the record itself out", async () => {
    const answer = await vecsnapJson("query", "./words", "--like", "w3", "-k", "3", "--shards", "all")
    expect(Object.keys(answer)).toEqual(["snapshot", "hits", "shards", "complete"])
    expect(answer.snapshot).toBe(run)
    expect(answer.complete).toBe(true)
    expect(answer.shards.asked.toSorted()).toEqual([0, 1, 2])
    expect(answer.shards.answered.toSorted()).toEqual([0, 1, 2])
    expect(answer.shards.failed).toEqual([])
    const [first, second, third] = answer.hits
    expect(Object.keys(first)).toEqual(["id", "distance", "shard", "fields", "payload"])
    expect(first).toMatchObject({ id: "w2", shard: 2, fields: { lang: "de", year: 2002 } })
    expect(first.payload).toEqual({ note: { text: "note 2" } })
    expect([second.id, third.id]).toEqual(["w4", "w1"])
    const distances = answer.hits.map((hit: { distance: number }) => hit.distance)
    for (const [i, expected] of [5, 7, 8].entries()) expect(distances[i]).toBeCloseTo(expected, 5)
    expect(distances).toHaveLength(3)
  })

  test("query by vector searches the shards that are named, and no others", async () => {
    await writeFile(join(dir, "query.json"), "[9, 0.5]")
    for (const vector of ["[9,0.5]", "query.json", "@query.json"]) {
      const answer = await vecsnapJson("query", "./words", "--vector", vector, "--shards", "1,2")
      expect(answer.shards.asked.toSorted()).toEqual([1, 2])
      const ids = answer.hits.map((hit: { id: string }) => hit.id)
      expect(ids).toEqual(["w2", "w4", "w1", "w5", "w7", "w8", "w10", "w11"])
    }
  })

  test("query for people is a table, and says where was searched", async () => {
    const { code, out, err } = await vecsnap("query", "./words", "--like", "w3", "-k", "2", "--shards", "all")
    expect(code, err).toBe(0)
    const [titles, first, second, , route] = out.split("\n")
    expect(titles).toMatch(/^#\s+id\s+distance\s+shard\s+lang\s+year\s+payload$/)
    expect(first).toMatch(/^1\s+w2\s+5\.00000\s+2\s+de\s+2002\s+\{"note":\{"text":"note 2"\}\}$/)
    expect(second).toMatch(/^2\s+w4\s+7\.00000\s+1\s+de\s+2004/)
    expect(route).toMatch(/^searched 3 of 4 shards: [012], [012], [012]; snapshot /)
    expect(out).not.toContain("\u001b")
  })

  test("get prints records, one per line; what is missing is named and exits with 3", async () => {
    const { code, out, err } = await vecsnap("get", "./words", "w3", "absent", "w0")
    expect(code).toBe(3)
    const records = out
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line))
    expect(records.map(({ id }) => id)).toEqual(["w3", "w0"])
    expect(records[0]).toMatchObject({ shard: 0, vector: [9, 0.5], fields: { lang: "en", year: 2003 } })
    expect(err).toBe(`error: snapshot ${run} has no record with the id "absent"\n`)
    const document = await vecsnapJson("get", "./words", "w3")
    expect(document).toMatchObject({ snapshot: run, records: [records[0]], missing: [] })
  })

  test("info tells what the snapshot is", async () => {
    const info = await vecsnapJson("info", "./words")
    expect(info).toMatchObject({
      run,
      rows: 12,
      dim: 2,
      metric: "l2",
      idType: "string",
      backend: "sqlite-vec",
      strategy: "explicit",
      base: null,
      custom: { team: "search" },
      shards: { total: 4, empty: 1, reused: 0, largestRows: 4, smallestRows: 0, skew: 4 / 3 },
      // 12 entries of 12 bytes, and an index of one block.
      locator: { bytes: 12 * 12 + 24 + 24 },
    })
    expect(info.fields).toEqual([
      { name: "lang", type: "string" },
      { name: "year", type: "int64" },
    ])
    const { out } = await vecsnap("info", "./words")
    expect(out).toContain(`snapshot ${run} at ./words`)
    expect(out).toMatch(/shards +4 \(1 empty\), 0 to 4 rows, skew 1\.33/)
  })

  test("shards lists those with rows, and names the empty ones", async () => {
    const { snapshot, shards, empty } = await vecsnapJson("shards", "./words")
    expect(snapshot).toBe(run)
    expect(shards.map(({ shard, rows, run }: Record<string, unknown>) => ({ shard, rows, run }))).toEqual(
      [0, 1, 2].map((shard) => ({ shard, rows: 4, run })),
    )
    expect(empty).toEqual([3])
    const { out } = await vecsnap("shards", "./words")
    expect(out).toMatch(/12 rows in 3 shards, .*; empty: 3\n$/)
  })

  test("a second build of the same rows reuses the shards, and history marks it as live", async () => {
    const report = await vecsnapJson(...BUILD, "--quiet")
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
    const { out } = await vecsnap("history", "./words", "--limit", "1")
    expect(out).toContain(`* live: run ${report.run}`)
    expect(out).toContain("1 older not listed (--limit)")
    const shards = await vecsnap("shards", "./words")
    expect(shards.out.match(new RegExp(`run ${run}`, "g"))).toHaveLength(3)
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
    expect(waiting.out).toMatch(new RegExp(`not in the history[^]*${second}`))
    expect(await vecsnapJson("publish", "./released", second)).toMatchObject({
      run: second,
      replaced: first,
      number: 2,
    })
    const again = await vecsnap("publish", "./released", second)
    expect(again.out).toBe(`snapshot ${second} is live already at ./released\n`)
  })

  test("a rollback makes the earlier one live, and another finds none before it", async () => {
    const { out } = await vecsnap("rollback", "./released")
    expect(out).toBe(`rolled back to snapshot ${first} at ./released; before, run ${second} was live\n`)
    const none = await vecsnap("rollback", "./released")
    expect(none.code).toBe(3)
    expect(none.err).toContain(`can't go back by 1 from run ${first}`)
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
    const { out } = await vecsnap("runs", "./released", "--limit", "1")
    expect(out).toContain("1 older not listed (--limit)")
  })
})

test("vecsnap.yaml holds what is repeated; integers of 64 bits come through", async () => {
  const ids = ["9007199254740993", "-5", "42"]
  const lines = ids.map((id, i) => `{"key":${id},"emb":[1,${i}]}\n`)
  await writeFile(join(dir, "ints.jsonl"), lines.join(""))
  const settings = [
    "input: ints.jsonl",
    "to: ./ints",
    "id-column: key",
    "vector-column: emb",
    "metric: dot",
    "sharding: { strategy: cluster, shards: 2 }",
  ]
  await writeFile(join(dir, "ints.yaml"), settings.join("\n"))
  const config = ["--config", "ints.yaml"]
  await vecsnapJson("build", ...config, "--metric", "l2")
  const info = await vecsnapJson("info", ...config)
  expect(info).toMatchObject({ idType: "int64", metric: "l2", strategy: "cluster" })

  const { code, out, err } = await vecsnap("query", ...config, "--like", "42", "--probes", "all", "--json")
  expect(code, err).toBe(0)
  expect(out.match(/"id":-?\d+/g)).toEqual(['"id":-5', '"id":9007199254740993'])

  const refused = await vecsnap("query", ...config, "--like", "4x2")
  expect(refused.code).toBe(2)
  expect(refused.err).toBe(`error: the snapshot's ids are 64-bit integers, got "4x2"\n`)
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
  await rm(join(dir, "warm", "shards"), { recursive: true })
  const found = await vecsnapJson("query", "./warm", "--vector", "[9,0.5]", "--probes", "all", ...cache)
  expect(found.hits).toHaveLength(10)

  // Health tries a shard: without those in the cache it would say that queries fail.
  expect((await vecsnap("health", "./warm")).code).toBe(11)
  expect(await vecsnapJson("health", "./warm", ...cache)).toMatchObject({ status: "healthy", reasons: [] })
  const fresh = await vecsnap("health", "./warm", "--max-age", "2d", ...cache)
  expect(fresh).toMatchObject({ code: 0, err: "" })
  expect(fresh.out).toMatch(new RegExp(`^healthy: snapshot ${run}, published \\d+ (s|min).* ago\n$`))
  await delay(1100)
  const old = await vecsnap("health", "./warm", "--max-age", "0.01", ...cache)
  expect({ code: old.code, err: old.err }).toEqual({ code: 10, err: "" })
  expect(old.out).toMatch(/^degraded: .*\n {2}.*published \d+ s ago/)
  expect((await vecsnap("health", "./nothing")).code).toBe(3)
})

describe("errors are a sentence and an exit code", () => {
  test("nothing published: 3", async () => {
    const { code, out, err } = await vecsnap("query", "./nothing", "--vector", "[1]", "--json")
    expect(code).toBe(3)
    expect(err).toMatch(/^error: no snapshot is published at .*\n$/)
    expect(JSON.parse(out).error.tag).toBe("NotFound")
  })

  test("a bad row: 2, naming file and row; nothing is published", async () => {
    await writeFile(join(dir, "bad.jsonl"), '{"id":"a","vector":[1,2]}\n{"id":"b","vector":[1,"x"]}\n')
    const { code, err } = await vecsnap(
      "build",
      "bad.jsonl",
      "--to",
      "./bad",
      "--strategy",
      "lsh",
      "--shards",
      "2",
    )
    expect(code).toBe(2)
    expect(err).toMatch(/^error: .*bad\.jsonl.*2/m)
    expect((await vecsnap("info", "./bad")).code).toBe(3)
  })

  test("a damaged manifest: 6, naming it; history still lists it", async () => {
    const build = ["build", "words.jsonl", "--to", "./damaged", "--strategy", "lsh", "--shards", "2"]
    const { manifest, run } = await vecsnapJson(...build)
    const path = join(dir, "damaged", manifest)
    await writeFile(path, (await readFile(path, "utf8")).replace('"rows": 12', '"rows": 13'))
    const { code, err } = await vecsnap("info", "./damaged")
    expect(code).toBe(6)
    expect(err).toContain(`error: ${manifest} is damaged`)
    const { publications } = await vecsnapJson("history", "./damaged")
    expect(publications).toMatchObject([{ run, live: true, rows: null }])
    expect(publications[0].problem).toContain("is damaged")
  })
})

test("a reader of the output that goes away is no error", async () => {
  const child = start("--help")
  child.stdout!.destroy()
  const [[code], err] = await Promise.all([once(child, "close"), text(child.stderr!)])
  expect({ code, err }).toEqual({ code: 0, err: "" })
})

test.each([
  ["SIGINT", 130],
  ["SIGTERM", 143],
  // A terminal that is closed.
  ["SIGHUP", 129],
] as const)("%s ends a build with %d; no temporary directory stays", async (signal, code) => {
  const temp = await mkdtemp(join(dir, "temp-"))
  const target = `./stopped-${signal}`
  const sharding = ["--strategy", "lsh", "--shards", "2"]
  const child = start("build", "-", "--format", "jsonl", "--to", target, ...sharding, "--temp-dir", temp)
  try {
    const finished = finish(child)
    // Standard input stays open, so that the build waits for more rows until it is told to stop.
    child.stdin!.write('{"id":"a","vector":[1,2]}\n')
    while ((await readdir(temp)).length === 0 && child.exitCode === null) await delay(20)
    child.kill(signal)
    const { code: actual, err } = await finished
    expect(actual, err).toBe(code)
    expect(err).toContain(`error: stopped by ${signal}\n`)
    expect(await readdir(temp)).toEqual([])
    expect((await vecsnap("info", target)).code).toBe(3)
  } finally {
    child.kill("SIGKILL")
  }
})

test("plan proposes shards, and a build with shards auto has as many", async () => {
  const words = fileURLToPath(new URL("../../../data/words.parquet", import.meta.url))
  const { input, plan } = await vecsnapJson("plan", words)
  expect({ rows: input.rows, shards: plan.shards, backend: plan.backend, layout: plan.layout }).toEqual({
    rows: 10_000,
    shards: 16,
    backend: "sqlite-vec",
    layout: "affinity",
  })
  const { out } = await vecsnap("plan", words, "--shards", "4")
  expect(out).toMatch(/ shards +4\n/)
  const args = [words, "--to", "./auto", "--strategy", "cluster", "--shards", "auto"]
  expect((await vecsnapJson("build", ...args)).shards.total).toBe(16)
  const piped = await vecsnap("build", "-", "--format", "jsonl", "--to", "./piped", ...args.slice(3))
  expect(piped.err).toContain("standard input can be read only once: give --shards")
})
