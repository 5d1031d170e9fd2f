import { readdir, readlink } from "node:fs/promises"
import { expect, it, vi } from "vitest"
import { type BackendName, buildSnapshot, openSnapshot, openStore } from "../../src/index.js"
import { bruteForce, makeRecords } from "../support/records.js"
import { withTempDir } from "../support/stores.js"

const SEARCHERS = 8
const SNAPSHOTS = 20
const SHARDS = 3
const K = 6
const QUERIES = [
  [0.3, -0.2, 0.5, 0.1],
  [-0.4, 0.6, 0.1, -0.3],
]

/** Records of the n-th snapshot: its own vectors, and ids that name it. */
const recordsOf = (n: number) =>
  makeRecords(120, { dim: 4, seed: n + 1, shards: SHARDS }).map((record, row) => ({
    id: `s${n}-${row}`,
    vector: record.vector,
    shard: row % SHARDS,
  }))

const nearestOf = (n: number): readonly string[][] =>
  QUERIES.map((query) => bruteForce(recordsOf(n), "cosine", query, K).map(({ id }) => String(id)))

/** What a leak would let grow. */
async function resources(cacheDir: string) {
  const files = await Promise.all(
    (await readdir("/proc/self/fd")).map((fd) => readlink(`/proc/self/fd/${fd}`).catch(() => "")),
  )
  const active = process.getActiveResourcesInfo()
  return {
    files: files.filter((file) => file !== "").length,
    shardFiles: new Set(files.filter((file) => file.startsWith(cacheDir))).size,
    threads: (await readdir("/proc/self/task")).length,
    ports: active.filter((resource) => resource === "MessagePort" || resource === "Worker").length,
  }
}

it.skipIf(process.platform !== "linux").each<BackendName>(["sqlite-vec", "lancedb"])(
  "eight searchers see twenty %s snapshots come, each answer from one, and nothing is left open",
  (backend) =>
    withTempDir(async (cacheDir) => {
      const to = `memory://reader-swap-${backend}-${process.pid}`
      const store = openStore(to)
      const numbers = new Map<string, number>()
      const pointers: Uint8Array[] = []
      // Built beforehand, so that the searchers do not slow the builds down; publishing is the move of the pointer.
      for (let n = 0; n <= SNAPSHOTS; n++) {
        const sharding = { strategy: "explicit", shards: SHARDS } as const
        const { run } = await buildSnapshot(recordsOf(n), { to: store, backend, sharding })
        numbers.set(run, n)
        pointers.push((await store.get("_CURRENT"))!.body)
      }
      const runs = [...numbers.keys()]
      await store.put("_CURRENT", pointers[0]!)
      let live = runs[0]!
      const open = () => openSnapshot(to, { cacheDir, workers: 2 })
      const ask = { k: K, shards: "all" } as const
      // Libraries keep threads and files of their own from their first use on.
      {
        await using first = await open()
        await Promise.all(Array.from({ length: SEARCHERS }, () => first.searchMany(QUERIES, ask)))
      }
      const before = await resources(cacheDir)
      expect(before.shardFiles).toBe(0)

      const reader = await open()
      const answers = new Map<string, Set<string>>()
      const onLive = new Set<number>()
      let onAnswer = (): void => {}
      let publishing = true
      const searchers = Array.from({ length: SEARCHERS }, async (_, searcher) => {
        while (publishing) {
          const results = await reader.searchMany(QUERIES, ask)
          const snapshot = results[0]!.snapshot
          expect(results.every((result) => result.complete && result.snapshot === snapshot)).toBe(true)
          const known = answers.get(snapshot) ?? new Set()
          known.add(JSON.stringify(results.map(({ hits }) => hits.map(({ id }) => id))))
          answers.set(snapshot, known)
          if (snapshot === live) onLive.add(searcher)
          onAnswer()
        }
      })
      const failure = Promise.all(searchers)
      const everyoneHasAnswered = () =>
        new Promise<void>((resolve) => {
          onAnswer = () => {
            if (onLive.size === SEARCHERS) resolve()
          }
          onAnswer()
        })
      try {
        for (let n = 1; n <= SNAPSHOTS; n++) {
          await Promise.race([everyoneHasAnswered(), failure])
          const from = live
          await store.put("_CURRENT", pointers[n]!)
          onLive.clear()
          live = runs[n]!
          expect(await reader.refresh()).toMatchObject({ changed: true, from, to: live })
        }
        await Promise.race([everyoneHasAnswered(), failure])
      } finally {
        publishing = false
        await failure
      }

      expect([...answers.keys()].map((run) => numbers.get(run))).toEqual(
        Array.from({ length: SNAPSHOTS + 1 }, (_, n) => n),
      )
      for (const [run, seen] of answers) {
        expect([...seen].map((ids) => JSON.parse(ids))).toEqual([nearestOf(numbers.get(run)!)])
      }
      // The old ones were let go of while the reader worked, not only when it was closed.
      expect(reader.stats()).toMatchObject({ openShards: SHARDS, shardDownloads: SHARDS * SNAPSHOTS })
      await vi.waitFor(
        async () => expect((await resources(cacheDir)).shardFiles).toBeLessThanOrEqual(SHARDS),
        { timeout: 10_000 },
      )

      await reader.close()
      expect(reader.stats()).toMatchObject({
        openShards: 0,
        openShardBytes: 0,
        calls: { running: 0, queued: 0, refused: 0 },
      })
      await vi.waitFor(
        async () => {
          const after = await resources(cacheDir)
          expect(after.shardFiles).toBe(0)
          // LanceDB has a pool of native threads of its own for the whole process, which grows with load.
          const threads = backend === "sqlite-vec" ? (["threads"] as const) : []
          for (const what of ["files", "ports", ...threads] as const) {
            expect(after[what], what).toBeLessThanOrEqual(before[what])
          }
        },
        { timeout: 10_000 },
      )
    }),
  120_000,
)
