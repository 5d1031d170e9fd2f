import { mkdir, readdir, readFile, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { describe, expect, it } from "vitest"
import {
  type BuildOptions,
  buildSnapshot,
  listRuns,
  openStore,
  publishRun,
  readHistory,
} from "../../src/index.js"
import { wrapStore } from "../../src/storage/wrap-store.js"
import { runCli } from "../support/cli.js"
import { FIELDS, makeRecords } from "../support/records.js"
import { ALL } from "../support/scope.js"
import { withTempDir } from "../support/stores.js"

const RECORDS = makeRecords(60, { dim: 4 })
const SHARDING = { strategy: "lsh", shards: 2 } as const

const build = (to: BuildOptions["to"], options: Partial<BuildOptions> = {}, records = RECORDS) =>
  buildSnapshot(records, { to, fields: FIELDS, sharding: SHARDING, reuse: false, ...options })

const nextSecond = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 1100))

describe("a build with retention", () => {
  it("collects after it has published, and tells what", () =>
    withTempDir(async (dir) => {
      const store = openStore(join(dir, "root"))
      const runs = [await build(store), await build(store)].map(({ run }) => run)
      await nextSecond()
      const { collected, published } = await build(store, { retention: { keepLast: 1, graceSeconds: 0 } })
      expect(published).toBe(true)
      // What has just been replaced is the last to be within a grace period of any length.
      expect(collected).toMatchObject({ snapshots: expect.arrayContaining([runs[0]]), failedObjects: 0 })
      const { publications } = await readHistory(store)
      expect(publications.at(-1)).toMatchObject({ run: runs[0], problem: "collected" })
      expect(publications[0]!.live).toBe(true)
      expect(publications[0]!.problem).toBeUndefined()
    }))

  it("has published all the same if the collection fails, and says why", () =>
    withTempDir(async (dir) => {
      const inner = openStore(join(dir, "root"))
      const store = {
        ...wrapStore(inner, (operation, call) =>
          operation === "list" ? Promise.reject(new Error("listing is not allowed")) : call(),
        ),
      }
      const report = await build(store, { retention: { keepLast: 1 } })
      expect(report).toMatchObject({ published: true, collected: { failure: "listing is not allowed" } })
    }))

  it("collects nothing if it publishes nothing, or if nobody asked", () =>
    withTempDir(async (dir) => {
      const to = join(dir, "root")
      expect((await build(to)).collected).toBeUndefined()
      const kept = await build(to, { publish: false, retention: { keepLast: 1 } })
      expect([kept.published, kept.collected]).toEqual([false, undefined])
    }))

  it.each([
    [{ keepLast: 0 }, "keepLast is 0"],
    [{ keepLast: 101 }, "keepLast is 101"],
    [{ graceSeconds: -1 }, "graceSeconds is -1"],
  ])("refuses %j before anything is read or written", async (retention, message) => {
    const input = {
      [Symbol.iterator]: () => {
        throw new Error("it was read")
      },
    }
    await expect(
      buildSnapshot(input, { to: "memory://retention", sharding: SHARDING, retention }),
    ).rejects.toThrow(message)
  })
})

describe("publishing a stored run", () => {
  it("checks its gates first, and the run's record tells what came of it", () =>
    withTempDir(async (dir) => {
      const store = openStore(join(dir, "root"))
      const first = await build(store)
      const gates = { rows: { maxDropPercent: 10 } }
      const half = await build(store, { publish: false }, RECORDS.slice(0, 30))
      await expect(publishRun(store, half.run, { gates })).rejects.toMatchObject({
        tag: "GateRefused",
        details: { run: half.run },
      })
      expect((await readHistory(store)).live!.run).toBe(first.run)
      const published = await publishRun(store, half.run, { gates, allow: ["rows"] })
      expect(published.replaced).toBe(first.run)
      expect(published.gates).toContainEqual(expect.objectContaining({ gate: "rows", verdict: "allowed" }))
      const [latest] = await listRuns(store)
      expect(latest).toMatchObject({ run: half.run, live: true, record: { published: true } })
    }))

  it("says that another was published since before it measures anything", () =>
    withTempDir(async (dir) => {
      const store = openStore(join(dir, "root"))
      const late = await build(store, { publish: false })
      await build(store)
      const gates = { rows: { min: 1_000_000 } }
      await expect(publishRun(store, late.run, { gates })).rejects.toMatchObject({ tag: "Conflict" })
    }))
})

describe("vecsnap build --summary-file", () => {
  const lines = RECORDS.map(
    ({ id, vector }) => `${JSON.stringify({ id, vector: Array.from(vector) })}\n`,
  ).join("")
  const summary = async (path: string) => JSON.parse(await readFile(path, "utf8"))

  it("holds the report, or the error, and the exit code; always whole", () =>
    withTempDir(async (dir) => {
      await writeFile(join(dir, "in.jsonl"), lines)
      const path = join(dir, "summary.json")
      const args = [
        ...["build", join(dir, "in.jsonl"), "--to", join(dir, "root"), "--strategy", "lsh", "--shards", "2"],
        ...["--summary-file", path, "--quiet"],
      ]
      expect((await runCli(args)).code).toBe(0)
      const report = await summary(path)
      expect(report).toMatchObject({ exitCode: 0, published: true, rows: 60, collected: null })

      await writeFile(join(dir, "in.jsonl"), `${lines}{"id": "x", "vector": [1]}\n`)
      expect((await runCli(args)).code).toBe(2)
      expect(await summary(path)).toMatchObject({ exitCode: 2, error: { tag: "InvalidInput" } })
      expect((await readdir(dir)).sort()).toEqual(["in.jsonl", "root", "summary.json"])

      const config = join(dir, "vecsnap.yaml")
      await writeFile(config, "metrik: l2\n")
      expect((await runCli([...args, "--config", config])).code).toBe(2)
      expect((await summary(path)).error.message).toContain("unknown key metrik")
    }))

  it.runIf(ALL)("is named in a warning if it can't be written; the build has succeeded", () =>
    withTempDir(async (dir) => {
      await writeFile(join(dir, "in.jsonl"), lines)
      await mkdir(join(dir, "folder"))
      const args = [
        ...["build", join(dir, "in.jsonl"), "--to", join(dir, "root"), "--strategy", "lsh", "--shards", "2"],
        ...["--summary-file", join(dir, "folder"), "--quiet"],
      ]
      const { code, stderr } = await runCli(args)
      expect(code).toBe(0)
      expect(stderr).toBe(`warning: the summary file ${join(dir, "folder")} was not written (EISDIR)\n`)
      expect(await readdir(join(dir, "folder"))).toEqual([])
    }),
  )
})
