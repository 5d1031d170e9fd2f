/** Each command once, as a user runs it. What else they do is in cli-more.slow.test.ts. */
import { once } from "node:events"
import { mkdtemp, readdir, writeFile } from "node:fs/promises"
import { setTimeout as delay } from "node:timers/promises"
import { describe, expect, test } from "vitest"
import { finished } from "../support/cli.js"
import { BUILD_WORDS, cliFolder } from "../support/cli-folder.js"
import { fromRoot } from "../support/paths.js"
import { ALL } from "../support/scope.js"

const { path, start, vecsnap, vecsnapJson } = cliFolder()

describe("from build to query", () => {
  let run: string

  test("build reports what was built, and prints progress on stderr only", async () => {
    const { code, stdout, stderr } = await vecsnap(...BUILD_WORDS, "--json")
    expect(code, stderr).toBe(0)
    const report = JSON.parse(stdout)
    run = report.run
    expect(report).toMatchObject({ rows: 12, dim: 2, replaced: null, skippedRows: 0, duplicateRows: 0 })
    expect(report.shards).toMatchObject({ total: 4, empty: 1, largestRows: 4, smallestRows: 0, skew: 4 / 3 })
    expect(stderr).toContain("building shards")
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

  test("get prints records, one per line; what is missing is named and exits with 3", async () => {
    const { code, stdout, stderr } = await vecsnap("get", "./words", "w3", "absent", "w0")
    expect(code).toBe(3)
    const records = stdout
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line))
    expect(records.map(({ id }) => id)).toEqual(["w3", "w0"])
    expect(records[0]).toMatchObject({ shard: 0, vector: [9, 0.5], fields: { lang: "en", year: 2003 } })
    expect(stderr).toBe(`error: snapshot ${run} has no record with the id "absent"\n`)
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
  })

  test("shards lists those with rows, and names the empty ones", async () => {
    const { snapshot, shards, empty } = await vecsnapJson("shards", "./words")
    expect(snapshot).toBe(run)
    expect(shards.map(({ shard, rows, run }: Record<string, unknown>) => ({ shard, rows, run }))).toEqual(
      [0, 1, 2].map((shard) => ({ shard, rows: 4, run })),
    )
    expect(empty).toEqual([3])
  })

  test("warm fetches nothing of a directory, and health says that all is well", async () => {
    expect(await vecsnapJson("warm", "./words")).toMatchObject({ snapshot: run, shards: 3, downloads: 0 })
    const { code, stdout } = await vecsnap("health", "./words", "--max-age", "2d")
    expect(stdout).toMatch(new RegExp(`^healthy: snapshot ${run}, published \\d+ (s|min).* ago\n$`))
    expect(code).toBe(0)
  })

  test("a second build of the same rows reuses the shards; published, it can be rolled back", async () => {
    const { run: second, ...report } = await vecsnapJson(...BUILD_WORDS, "--no-publish", "--quiet")
    expect(report).toMatchObject({ published: false, shards: { reused: 3 } })
    expect(await vecsnapJson("publish", "./words", second)).toMatchObject({ replaced: run, number: 2 })
    const { stdout } = await vecsnap("rollback", "./words")
    expect(stdout).toBe(`rolled back to snapshot ${run} at ./words; before, run ${second} was live\n`)
    const history = await vecsnapJson("history", "./words")
    expect(history.live).toBe(run)
    expect(
      history.publications.map(({ run, live, rows, number }: Record<string, unknown>) => [
        number,
        run,
        live,
        rows,
      ]),
    ).toEqual([
      [3, run, true, 12],
      [2, second, false, 12],
      [1, run, false, 12],
    ])
    const { runs } = await vecsnapJson("runs", "./words")
    expect(
      runs.map(({ run, state, published, live }: Record<string, unknown>) => [run, state, published, live]),
    ).toEqual([
      [second, "succeeded", true, false],
      [run, "succeeded", true, true],
    ])
  })
})

describe("errors are a sentence and an exit code", () => {
  test("nothing published: 3", async () => {
    const { code, stdout, stderr } = await vecsnap("query", "./nothing", "--vector", "[1]", "--json")
    expect(code).toBe(3)
    expect(stderr).toMatch(/^error: no snapshot is published at .*\n$/)
    expect(JSON.parse(stdout).error.tag).toBe("NotFound")
  })

  test("a bad row: 2, naming file and row; nothing is published", async () => {
    await writeFile(path("bad.jsonl"), '{"id":"a","vector":[1,2]}\n{"id":"b","vector":[1,"x"]}\n')
    const sharding = ["--strategy", "lsh", "--shards", "2"]
    const { code, stderr } = await vecsnap("build", "bad.jsonl", "--to", "./bad", ...sharding)
    expect(code).toBe(2)
    expect(stderr).toMatch(/^error: .*bad\.jsonl.*2/m)
    expect(await readdir(path("bad"))).not.toContain("_CURRENT")
  })
})

test("a reader of the output that goes away is no error", async () => {
  const child = start("--help")
  child.stdout!.destroy()
  let stderr = ""
  child.stderr!.on("data", (chunk) => (stderr += chunk))
  const [code] = await once(child, "close")
  expect({ code, stderr }).toEqual({ code: 0, stderr: "" })
})

const SIGNALS = [
  ["SIGTERM", 143],
  ["SIGINT", 130],
  // A terminal that is closed.
  ["SIGHUP", 129],
] as const

test.each(ALL ? SIGNALS : SIGNALS.slice(0, 1))(
  "%s ends a build with %d; no temporary directory stays",
  async (signal, code) => {
    const temp = await mkdtemp(path("temp-"))
    const target = `./stopped-${signal}`
    const sharding = ["--strategy", "lsh", "--shards", "2"]
    const child = start("build", "-", "--format", "jsonl", "--to", target, ...sharding, "--temp-dir", temp)
    try {
      const ended = finished(child)
      // Standard input stays open, so that the build waits for more rows until it is told to stop.
      child.stdin!.write('{"id":"a","vector":[1,2]}\n')
      while ((await readdir(temp)).length === 0 && child.exitCode === null) await delay(20)
      child.kill(signal)
      const { code: actual, stderr } = await ended
      expect(actual, stderr).toBe(code)
      expect(stderr).toContain(`error: stopped by ${signal}\n`)
      expect(await readdir(temp)).toEqual([])
      expect((await vecsnap("info", target)).code).toBe(3)
    } finally {
      child.kill("SIGKILL")
    }
  },
)

test("plan proposes shards", async () => {
  const { input, plan } = await vecsnapJson("plan", fromRoot("data/words.parquet"))
  expect({ rows: input.rows, shards: plan.shards, backend: plan.backend, layout: plan.layout }).toEqual({
    rows: 10_000,
    shards: 16,
    backend: "sqlite-vec",
    layout: "affinity",
  })
})
