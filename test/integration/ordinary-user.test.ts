/**
 * What a user without rights meets: directories and files that may not be read, written or listed. As root,
 * who may do all, commands run as nobody.
 */
import { spawn, spawnSync } from "node:child_process"
import { chmod, chown, cp, mkdir, mkdtemp, readdir, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { buildSnapshot, openSnapshot } from "../../src/index.js"
import { finished } from "../support/cli.js"
import { fromRoot } from "../support/paths.js"
import { makeRecords } from "../support/records.js"

const NOBODY = 65534
const isRoot = process.getuid?.() === 0
const user = isRoot ? { uid: NOBODY, gid: NOBODY } : {}
const COMMAND = fromRoot("dist/cli/main.js")

/** Whether the user can run this Node and read this checkout; nobody can do neither below a home directory of root. */
const canRun =
  spawnSync(process.execPath, ["-e", `fs.accessSync(${JSON.stringify(COMMAND)})`], { ...user, cwd: "/" })
    .status === 0

/** Everybody may look at it; `own` is the user's, `root` is a snapshot of two shards, `cache` has them. */
let dir: string

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "vecsnap-test-"))
  await chmod(dir, 0o755)
  await mkdir(join(dir, "own"))
  if (isRoot) await chown(join(dir, "own"), NOBODY, NOBODY)
  const records = makeRecords(40, { dim: 4 }).map(({ id, vector }) => ({ id, vector }))
  await buildSnapshot(records, { to: join(dir, "root"), sharding: { strategy: "lsh", shards: 2 } })
  await using reader = await openSnapshot(join(dir, "root"), { cacheDir: join(dir, "cache"), fetch: "whole" })
  await reader.warm()
})
afterAll(() => rm(dir, { recursive: true, force: true }))

/** Runs a command in `dir` as the user. */
const run = (...args: string[]) =>
  finished(
    spawn(process.execPath, [COMMAND, ...args], {
      ...user,
      cwd: dir,
      env: { PATH: process.env.PATH, TMPDIR: join(dir, "own") },
      stdio: ["ignore", "pipe", "pipe"],
    }),
  )
const build = (input: string, to = "./own/built") =>
  run("build", input, "--to", to, "--strategy", "lsh", "--shards", "1")
const WHOLE = ["--fetch", "whole", "--cache-dir"]
const query = (cache: string) =>
  run("query", "./root", "--vector", "[1,0,0,0]", "--probes", "all", "-k", "1", "--json", ...WHOLE, cache)

const isShard = (name: string): boolean => !name.startsWith(".")

/** A copy of the cache, which belongs to whoever runs this. */
async function cacheCopy(name: string): Promise<string> {
  const copy = join(dir, name)
  await cp(join(dir, "cache"), copy, { recursive: true })
  return copy
}

// Permissions of this kind bind nobody on Windows.
describe.skipIf(process.platform === "win32" || !canRun)("without the permission", () => {
  it("to read an input, a build tells which", async () => {
    await writeFile(join(dir, "in.jsonl"), '{"id":"a","vector":[1,2]}\n', { mode: 0 })
    expect(await build("in.jsonl")).toMatchObject({
      code: 7,
      stderr: expect.stringContaining("error: cannot open in.jsonl: permission denied\n"),
    })
  })

  it("to list a folder among the inputs, a build does not leave it out", async () => {
    await mkdir(join(dir, "days", "closed"), { recursive: true })
    await writeFile(join(dir, "days", "1.jsonl"), '{"id":"a","vector":[1,2]}\n')
    await chmod(join(dir, "days", "closed"), 0)
    for (const input of ["days", "days/**/*.jsonl"])
      expect(await build(input)).toMatchObject({
        code: 7,
        stderr: expect.stringContaining("error: cannot list days/closed: permission denied\n"),
      })
  })

  it("to read the configuration, a command tells which", async () => {
    await writeFile(join(dir, "c.yaml"), "to: ./root\n", { mode: 0 })
    expect(await run("info", "--config", "c.yaml")).toMatchObject({
      code: 7,
      stderr: expect.stringContaining("error: cannot read the configuration c.yaml: permission denied\n"),
    })
  })

  it("to write to the root, a build says so", async () => {
    await chmod(join(dir, "root"), 0o555)
    await writeFile(join(dir, "ok.jsonl"), '{"id":"a","vector":[1,2]}\n')
    expect(await build("ok.jsonl", "./root")).toMatchObject({
      code: 7,
      stderr: expect.stringMatching(/error: cannot .*\/root.*: permission denied/),
    })
  })

  it("to write to the cache, what lies in it is used", async () => {
    const cache = await cacheCopy("read-only")
    for (const shard of (await readdir(cache)).filter(isShard)) {
      await chmod(join(cache, shard), 0o555)
      for (const file of await readdir(join(cache, shard))) await chmod(join(cache, shard, file), 0o444)
    }
    await chmod(cache, 0o555)
    const { code, stdout, stderr } = await query(cache)
    expect([code, stderr]).toEqual([0, ""])
    expect(JSON.parse(stdout).hits).toHaveLength(1)
  })

  it("to write to an empty cache, a query and health fail and name it", async () => {
    const cache = join(dir, "empty")
    await mkdir(cache, { mode: 0o555 })
    const told = `the cache directory ${cache} cannot be used`
    expect(await query(cache)).toMatchObject({ code: 7, stderr: expect.stringContaining(told) })
    expect(await run("health", "./root", ...WHOLE, cache)).toMatchObject({
      code: 11,
      stdout: expect.stringContaining(told),
    })
  })

  it.each([
    ["files", 0o755, 0],
    ["directories", 0, 0o600],
  ])("to read the %s of a cache, they are downloaded again", async (_, folderMode, fileMode) => {
    const cache = await cacheCopy(`odd-${folderMode}`)
    const shards = (await readdir(cache)).filter(isShard)
    expect(shards).toHaveLength(2)
    for (const shard of shards) {
      for (const file of await readdir(join(cache, shard))) await chmod(join(cache, shard, file), fileMode)
      await chmod(join(cache, shard), folderMode)
    }
    // Names in it may be replaced, as in a volume of the user's that another has filled.
    if (isRoot) {
      await chown(cache, NOBODY, NOBODY)
      for (const name of await readdir(cache))
        if (!isShard(name)) await chown(join(cache, name), NOBODY, NOBODY)
    }
    const { code, stdout, stderr } = await query(cache)
    expect([code, stderr]).toEqual([0, ""])
    expect(JSON.parse(stdout).hits).toHaveLength(1)
  })
})
