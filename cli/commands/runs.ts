import { Command } from "commander"
import type { RunInfo } from "../../src/index.js"
import { listRuns } from "../../src/maintenance/runs.js"
import { type Io, printJson } from "../io.js"
import { withStore } from "../open.js"
import { addOutputOptions, addStorageOptions, type OutputFlags, type StorageFlags } from "../options.js"
import { wholeNumber } from "../parse.js"
import {
  type Column,
  formatCount,
  formatDuration,
  formatTime,
  formatValue,
  paintFor,
  renderTable,
  widthOf,
} from "../render.js"

const NOTES = `
A run is "running" as long as it renews its lease, and "abandoned" when it does not: it was killed, or lost the store.

Examples:
  vecsnap runs s3://vectors/words
  vecsnap runs ./.demo --limit 1 --json`

interface RunsFlags extends StorageFlags, OutputFlags {
  readonly limit: number
}

/** `vecsnap runs`: the builds at a root, what they do or how they ended. */
export function runsCommand(io: Io): Command {
  const command = new Command("runs")
    .description("list the runs, latest first: what they do, or how they ended")
    .argument("[url]", "root of the snapshots; default: `to` of vecsnap.yaml")
    .option("--limit <n>", "runs listed at most", wholeNumber(1), 20)
    .addHelpText("after", NOTES)
  addStorageOptions(command)
  addOutputOptions(command)
  return command.action((url: string | undefined, flags: RunsFlags) =>
    withStore(io, url, flags, async (store) => {
      const all = await listRuns(store, { signal: io.signal })
      const runs = all.slice(0, flags.limit)
      if (flags.json) return printJson(io, { url: store.url, runs: runs.map(runDocument), total: all.length })
      const older = all.length - runs.length
      const footer = older > 0 ? `\n${formatCount(older)} older not listed (--limit)\n` : ""
      io.stdout.write(
        all.length === 0 ? `no run is recorded at ${store.url}\n` : `${renderRuns(runs, io)}${footer}`,
      )
    }),
  )
}

function runDocument({ run, state, live, renewedAt, record, problem }: RunInfo): object {
  return {
    run,
    state,
    live,
    published: record?.published ?? null,
    stage: record?.stage ?? null,
    startedAt: record?.startedAt.toISOString() ?? null,
    renewedAt: renewedAt.toISOString(),
    leaseSeconds: record?.leaseSeconds ?? null,
    host: record?.host ?? null,
    pid: record?.pid ?? null,
    tool: record?.tool ?? null,
    versions: record?.versions ?? null,
    configDigest: record?.configDigest ?? null,
    base: record?.base ?? null,
    manifest: record?.manifest ?? null,
    counts: record?.counts ?? null,
    error: record?.error ?? null,
    problem: problem ?? null,
  }
}

const COLUMNS: readonly Column[] = [
  { title: "" },
  { title: "started" },
  { title: "run" },
  { title: "state" },
  { title: "stage" },
  { title: "took", align: "right" },
  { title: "rows", align: "right" },
  { title: "where" },
  { title: "", flexible: true },
]

function renderRuns(runs: readonly RunInfo[], io: Io): string {
  const cells = runs.map(({ run, state, live, renewedAt, record, problem }) => [
    live ? "*" : "",
    formatTime(record?.startedAt ?? renewedAt),
    run,
    state,
    record?.stage ?? "",
    record ? formatDuration(record.updatedAt.getTime() - record.startedAt.getTime()) : "",
    record?.counts ? formatCount(record.counts.rows) : "",
    record ? `${record.host}:${record.pid}` : "",
    formatValue(
      problem ??
        record?.error?.message ??
        (record?.state === "succeeded" && !record.published ? "not published" : ""),
    ),
  ])
  return renderTable(COLUMNS, cells, { width: widthOf(io.stdout), paint: paintFor(io.stdout, io.env) })
}
