import { readdir } from "node:fs/promises"
import { describe, expect, it } from "vitest"
import { buildSnapshot, openSnapshot, openStore } from "../../src/index.js"
import { FIELDS, makeRecords } from "../support/records.js"
import { withTempDir } from "../support/stores.js"

const SHARDS = 6
const PER_REFRESH = 20
const REFRESHES = 500
const WARM_UP = 50
const RSS_MARGIN_BYTES = 96 * 2 ** 20

/** What a leak would let grow. */
async function resources() {
  return {
    files: (await readdir("/proc/self/fd")).length,
    threads: (await readdir("/proc/self/task")).length,
    handles: process.getActiveResourcesInfo().length,
    rssBytes: process.memoryUsage.rss(),
  }
}

describe.skipIf(process.platform !== "linux")("a reader that runs for long", () => {
  it(
    "holds no more files, threads, handles and memory after 10,000 searches, 500 refreshes and 2,000 evictions",
    () =>
      withTempDir(async (cacheDir) => {
        const to = `memory://cache-soak-${process.pid}`
        const store = openStore(to)
        const snapshots: { run: string; pointer: Uint8Array; prefix: string }[] = []
        for (const [seed, prefix] of ["odd", "even"].entries()) {
          const records = makeRecords(120, { dim: 8, seed, shards: SHARDS }).map((record) => ({
            ...record,
            id: `${prefix}-${String(record.id)}`,
          }))
          const { run } = await buildSnapshot(records, {
            to,
            fields: FIELDS,
            sharding: { strategy: "explicit", shards: SHARDS },
          })
          snapshots.push({ run, pointer: (await store.get("_CURRENT"))!.body, prefix })
        }
        const query = new Float32Array(8).fill(0.1)
        const reader = await openSnapshot(to, { cacheDir, maxOpenShards: 2, workers: 2, cacheBytes: 10 ** 6 })
        const idle = await resources()
        let warm = idle
        let searches = 0
        for (let refreshes = 0; refreshes < REFRESHES; refreshes++) {
          if (refreshes === WARM_UP) warm = await resources()
          const live = snapshots[refreshes % 2]!
          await store.put("_CURRENT", live.pointer)
          expect(await reader.refresh()).toMatchObject({ changed: true, to: live.run })
          // One wave: neighbours share shards, and more shards are wanted than there are places.
          const answers = await Promise.all(
            Array.from({ length: PER_REFRESH }, (_, n) =>
              reader.search(query, { k: 3, shards: [n % SHARDS] }),
            ),
          )
          for (const { snapshot, hits } of answers) {
            expect(snapshot).toBe(live.run)
            expect(hits.every(({ id }) => String(id).startsWith(live.prefix))).toBe(true)
          }
          searches += answers.length
        }
        const { shardOpens, openShards } = reader.stats()
        const after = await resources()
        expect(searches).toBe(10_000)
        expect(openShards).toBe(2)
        expect(shardOpens - openShards).toBeGreaterThanOrEqual(2_000)
        expect(after.files).toBeLessThanOrEqual(warm.files + 4)
        expect(after.threads).toBeLessThanOrEqual(warm.threads)
        expect(after.handles).toBeLessThanOrEqual(warm.handles + 4)
        expect(after.rssBytes).toBeLessThanOrEqual(warm.rssBytes + RSS_MARGIN_BYTES)

        await reader.close()
        expect((await resources()).files).toBeLessThanOrEqual(idle.files)
        const contents = (await readdir(cacheDir)).filter((name) => !name.startsWith("."))
        const marks = await Promise.all(contents.map((content) => readdir(`${cacheDir}/${content}`)))
        expect(marks.flat().filter((name) => name.startsWith("."))).toEqual([])
      }),
    90_000,
  )
})
