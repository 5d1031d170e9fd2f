/**
 * `npm run soak -- [--seconds 120]`: a reader that works for long: 16 searches in flight all the time, and
 * every ten seconds another snapshot goes live. Prints what memory it takes, and fails if it grows: the mean
 * of the last tenth of the time may be 1.1 times that of the first, and once no shard is open, little more
 * than the budget for vectors may be left.
 */
import { spawn } from "node:child_process"
import { once } from "node:events"
import { setTimeout } from "node:timers/promises"
import { fileURLToPath } from "node:url"
import { parseArgs } from "node:util"
import { loadSentenceQueries, loadSentences } from "../../bench/sentences.js"
import { buildSnapshot, openSnapshot, rollback, type VectorRecord } from "../../src/index.js"
import { withTempDir } from "../../src/storage/temp-dir.js"

const MIB = 2 ** 20
const ROWS = 24_000
/** Of the rows of one snapshot so many are not in the next. */
const CHANGED = 6_000
const SNAPSHOTS = 3
const IN_FLIGHT = 16
const REFRESH_MS = 10_000
/** Until heaps have their size; not counted. */
const WARM_UP_SECONDS = 20
const IDLE_SECONDS = 3
/** So that the rows of one snapshot fit, and those of two do not. */
const BUDGET_BYTES = 48 * MIB
const GROWTH_MAX = 1.1
const SAMPLE_MS = 250
const REST_MS = 3000

const { values, positionals } = parseArgs({
  options: { seconds: { type: "string", default: "120" }, root: { type: "string" } },
  allowPositionals: true,
})
const seconds = Number(values.seconds)
if (!(seconds >= 40)) throw new Error(`--seconds is ${values.seconds}, expected a number from 40`)
if (values.root === undefined) await build()
else await read(values.root, positionals)

/** In a process of its own, whose memory says nothing of that of a reader. */
async function build(): Promise<void> {
  const { vectors, dim } = loadSentences()
  await withTempDir(undefined, "vecsnap-soak", async (root) => {
    const runs: string[] = []
    for (let snapshot = 0; snapshot < SNAPSHOTS; snapshot++) {
      const records = Array.from({ length: ROWS }, (_, i): VectorRecord => {
        const row = snapshot * CHANGED + i
        return { id: row, vector: vectors.subarray(row * dim, (row + 1) * dim) }
      })
      const sharding = { strategy: "cluster", shards: 16, layout: "fast" } as const
      runs.push((await buildSnapshot(records, { to: root, sharding })).run)
      console.log(`built snapshot ${snapshot + 1} of ${SNAPSHOTS}`)
    }
    const reader = spawn(
      process.execPath,
      [fileURLToPath(import.meta.url), "--seconds", values.seconds, "--root", root, ...runs],
      { stdio: "inherit" },
    )
    const [code] = await once(reader, "exit")
    process.exitCode = code ?? 1
  })
}

/** Reads, in turn, the snapshots of these runs, of which the last is live. */
async function read(root: string, runs: readonly string[]): Promise<void> {
  const { queries, dim } = loadSentenceQueries()
  await using reader = await openSnapshot(root, { memoryBytes: BUDGET_BYTES, idleSeconds: IDLE_SECONDS })
  const samples: number[] = []
  const end = Date.now() + 1000 * seconds
  let searches = 0
  let refreshes = 0
  const search = async (first: number): Promise<void> => {
    for (let i = first; Date.now() < end; i++, searches++) {
      const place = (i % (queries.length / dim)) * dim
      const { hits } = await reader.search(queries.subarray(place, place + dim), { targetRecall: 0.95 })
      if (hits.length !== 10) throw new Error(`a search found ${hits.length} rows, expected 10`)
    }
  }
  const swap = async (): Promise<void> => {
    while (Date.now() + REFRESH_MS < end) {
      await setTimeout(REFRESH_MS)
      await rollback(root, { to: runs[refreshes % runs.length]! })
      if (!(await reader.refresh()).changed) throw new Error("a refresh found nothing new")
      refreshes++
    }
  }
  const watch = async (): Promise<void> => {
    await setTimeout(1000 * WARM_UP_SECONDS)
    while (Date.now() < end) {
      samples.push(process.memoryUsage.rss())
      await setTimeout(SAMPLE_MS)
    }
  }
  await Promise.all([...Array.from({ length: IN_FLIGHT }, (_, first) => search(first)), swap(), watch()])

  const tenths = Array.from({ length: 10 }, (_, tenth) =>
    mean(samples.slice((tenth * samples.length) / 10, ((tenth + 1) * samples.length) / 10)),
  )
  console.log(`${searches} searches, ${refreshes} refreshes in ${seconds} s`)
  console.log(`MiB by tenths of the time: ${tenths.map((bytes) => Math.round(bytes / MIB)).join(" ")}`)
  const growth = tenths.at(-1)! / tenths[0]!
  check("the last tenth is", growth, GROWTH_MAX, "times the first")

  while (reader.stats().openShards > 0) await setTimeout(SAMPLE_MS)
  // Whoever waits for the garbage collector to give memory back waits for it here, too.
  await setTimeout(REST_MS)
  const rest = process.memoryUsage.rss() / MIB
  check("without open shards", rest, (BUDGET_BYTES + 200 * MIB) / MIB, "MiB are left")
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length
}

function check(what: string, found: number, most: number, unit: string): void {
  const isGood = found <= most
  console.log(`${isGood ? "good" : "BAD "}: ${what} ${found.toFixed(2)} ${unit}, at most ${most}`)
  if (!isGood) process.exitCode = 1
}
