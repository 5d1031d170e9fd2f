import { mkdir, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { setTimeout as sleep } from "node:timers/promises"
import { describe, expect, it } from "vitest"
import { openSnapshot, stringifyJson } from "../../src/index.js"
import { finished, runCli, startCli } from "../support/cli.js"
import { makeRecords, seededRandom } from "../support/records.js"
import { ALL, THOROUGH } from "../support/scope.js"
import { s3Root, type TestRoot, withTempDir } from "../support/stores.js"

const KILLS = THOROUGH ? 4 : 1
const COUNT = 4000

/** Either backend is killed on one kind of storage, or both on both. */
const KINDS: Record<string, readonly string[]> = ALL
  ? { "sqlite-vec": ["a local directory", "S3"], lancedb: ["a local directory", "S3"] }
  : { "sqlite-vec": ["a local directory"], lancedb: ["S3"] }

/** A file of records whose ids tell which generation they are of. */
async function writeGeneration(path: string, generation: string): Promise<void> {
  const lines = makeRecords(COUNT, { dim: 32 }).map(({ vector }, n) =>
    stringifyJson({ id: `${generation}-${n}`, vector: Array.from(vector) }),
  )
  await writeFile(path, lines.join("\n"))
}

/** Which generation is live. Fails unless all of its shards answer, with rows of that generation only. */
async function liveGeneration({ url, store }: TestRoot, cacheDir: string): Promise<string> {
  await using reader = await openSnapshot(url, { store, cacheDir })
  expect(reader.snapshot.rows).toBe(COUNT)
  const { hits } = await reader.search(new Float32Array(32).fill(0.1), { k: COUNT, shards: "all" })
  expect(hits.length).toBe(COUNT)
  const generations = new Set(hits.map(({ id }) => String(id).split("-")[0]!))
  expect(generations.size).toBe(1)
  return [...generations][0]!
}

describe.each(Object.entries(KINDS))("a killed %s build", (backend, kinds) => {
  it.each(kinds)("leaves the old snapshot live and readable in %s", (kind) =>
    withTempDir(async (dir) => {
      const root: TestRoot =
        kind === "S3" ? s3Root(`crash-${backend}`) : { url: join(dir, "root"), store: {} }
      const tempDir = join(dir, "tmp")
      await mkdir(tempDir)
      for (const generation of ["old", "new"])
        await writeGeneration(join(dir, `${generation}.jsonl`), generation)
      const build = (generation: string): string[] => [
        ...["build", join(dir, `${generation}.jsonl`), "--to", root.url, "--backend", backend],
        ...["--strategy", "cluster", "--shards", "6", "--temp-dir", tempDir],
      ]

      const started = performance.now()
      const first = await runCli(build("old"))
      expect(first.code, first.stderr).toBe(0)
      const durationMs = performance.now() - started

      const random = seededRandom(2026)
      let kills = 0
      for (let attempt = 0; kills < KILLS && attempt < 3 * KILLS; attempt++) {
        const child = startCli(build("new"))
        const end = finished(child)
        await sleep(random() * durationMs)
        const killed = child.kill("SIGKILL")
        const { signal } = await end
        const live = await liveGeneration(root, join(dir, "cache"))
        if (killed && signal === "SIGKILL" && live === "old") kills++
        else {
          // It was faster than the kill, and so the new snapshot is live, whole; the old one is put back.
          expect(live).toBe("new")
          expect((await runCli(build("old"))).code).toBe(0)
        }
      }
      expect(kills).toBe(KILLS)

      // Nothing that the killed builds left behind is in the way of the next one.
      const last = await runCli(build("new"))
      expect(last.code, last.stderr).toBe(0)
      expect(await liveGeneration(root, join(dir, "cache"))).toBe("new")
    }),
  )
})
