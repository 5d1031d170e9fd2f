/**
 * Building a snapshot of 64 shards against building one LanceDB table of the same Parquet file, on disk, each
 * in a process of its own:
 *
 * ```
 * npm run words:full && npm run bench:build [-- --times 10] [--only fast,IVF_FLAT] [--input rows.parquet]
 * ```
 *
 * Prints time, processor time, peak memory and bytes, and how the times compare. `--times`: so many times the
 * rows, moved a little. The input has the columns `id` and `vector`; the word set if none is given.
 */
import { execFile } from "node:child_process"
import { createReadStream } from "node:fs"
import { readdir, stat } from "node:fs/promises"
import { loadavg } from "node:os"
import { join } from "node:path"
import { parseArgs, promisify } from "node:util"
import type { PeerIndex, PeerRequest } from "./build-peer-child.js"
import { appendHistory } from "./history.js"
import { writeJittered } from "./jittered.js"
import { fromRepository } from "./paths.js"
import { build, round, table, withDirectory } from "./support.js"
import { WORDS_FILE } from "./words.js"

const SHARDS = 64
const SUB_VECTORS = 20
const LAYOUTS = ["plain", "fast", "affinity"] as const
const PEER_INDEXES: readonly PeerIndex[] = ["IVF_FLAT", "HNSW_SQ", "IVF_PQ"]

const run = promisify(execFile)
const { values: options } = parseArgs({
  options: {
    input: { type: "string", default: WORDS_FILE },
    times: { type: "string", default: "1" },
    only: { type: "string", default: ["fast", "affinity", ...PEER_INDEXES].join() },
  },
})
const only = options.only.split(",")

interface Measured {
  readonly name: string
  readonly seconds: number
  /** Of all threads: says more than the time if others use the machine. */
  readonly cpuSeconds: number
  readonly peakMiB: number
  readonly mib: number
  /** Processes that wanted a core meanwhile: times are only worth something if others took none. */
  readonly load: number
  readonly stagesMs?: Readonly<Record<string, number>>
}

async function sizeMib(dir: string): Promise<number> {
  const entries = await readdir(dir, { recursive: true, withFileTypes: true })
  const files = entries.filter((entry) => entry.isFile())
  const sizes = await Promise.all(files.map((file) => stat(join(file.parentPath, file.name))))
  return Math.round(sizes.reduce((sum, { size }) => sum + size, 0) / 2 ** 20)
}

const mib = (bytes: number): number => Math.round(bytes / 2 ** 20)
const load = (): number => round(loadavg()[0]!, 1)

await withDirectory(async (dir) => {
  const times = Number(options.times)
  const input = times === 1 ? options.input : join(dir, "rows.parquet")
  if (times !== 1) await writeJittered(options.input, times, input)
  // Once before, so that the first build is not the one that waits for the disk.
  for await (const _ of createReadStream(input));
  const results: Measured[] = []
  const note = (result: Measured): void => {
    results.push(result)
    console.log(`${result.name}: ${result.seconds} s, ${result.cpuSeconds} s of processors`)
  }
  for (const layout of LAYOUTS.filter((name) => only.includes(name))) {
    const to = join(dir, layout)
    const request = { input, to, store: {}, backend: "sqlite-vec", shards: SHARDS, layout } as const
    const { report, peakBytes, cpuSeconds } = await build(request)
    const { total, ...stagesMs } = report.timingsMs
    note({
      name: `vecsnap ${layout}`,
      seconds: round(total! / 1000, 1),
      cpuSeconds: round(cpuSeconds, 1),
      peakMiB: mib(peakBytes),
      mib: await sizeMib(to),
      load: load(),
      stagesMs,
    })
    for (const text of report.notes) console.log(`${layout}: ${text}`)
  }
  for (const index of PEER_INDEXES.filter((name) => only.includes(name))) {
    const peerDir = join(dir, index)
    const request: PeerRequest = {
      input,
      dir: peerDir,
      index,
      partitions: SHARDS * times,
      subVectors: SUB_VECTORS,
    }
    const child = fromRepository("dist/bench/build-peer-child.js")
    const { stdout } = await run(process.execPath, [child, JSON.stringify(request)])
    const { readMs, totalMs, cpuSeconds, peakBytes } = JSON.parse(stdout)
    note({
      name: `LanceDB ${index}`,
      seconds: round(totalMs / 1000, 1),
      cpuSeconds: round(cpuSeconds, 1),
      peakMiB: mib(peakBytes),
      mib: await sizeMib(peerDir),
      load: load(),
      stagesMs: { read: Math.round(readMs), index: Math.round(totalMs - readMs) },
    })
  }
  const secondsOf = (name: string) => results.find((result) => result.name === name)?.seconds
  const against = (seconds: number, peer: string): number | string => {
    const theirs = secondsOf(`LanceDB ${peer}`)
    return theirs === undefined ? "" : round(seconds / theirs)
  }
  console.log(
    `\n${table(
      ["", "s", "cpu s", "of IVF_FLAT", "of HNSW_SQ", "peak MiB", "MiB on disk", "load", "stages, s"],
      results.map((result) => [
        result.name,
        result.seconds,
        result.cpuSeconds,
        against(result.seconds, "IVF_FLAT"),
        against(result.seconds, "HNSW_SQ"),
        result.peakMiB,
        result.mib,
        result.load,
        Object.entries(result.stagesMs ?? {})
          .filter(([, ms]) => ms >= 100)
          .map(([stage, ms]) => `${stage} ${round(ms / 1000, 1)}`)
          .join(", "),
      ]),
    )}`,
  )
  const figures = { shards: SHARDS, times, results }
  console.log(`\n${JSON.stringify(figures)}`)
  appendHistory("build", figures)
})
