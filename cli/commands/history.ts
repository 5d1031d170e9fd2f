import { Command } from "commander"
import {
  type HistoryEntry,
  isVecsnapError,
  type LivePointer,
  listManifests,
  type Manifest,
  type ObjectStore,
  readManifest,
  readPointer,
  snapshotBytes,
  VecsnapError,
} from "../../src/index.js"
import {
  addOutputOptions,
  addStorageOptions,
  type OutputFlags,
  type StorageFlags,
  wholeNumber,
} from "../arguments.js"
import { type Io, printJson } from "../io.js"
import { withStore } from "../open.js"
import {
  type Column,
  formatBytes,
  formatCount,
  formatTime,
  paintFor,
  renderTable,
  widthOf,
} from "../render.js"

const EXAMPLES = `
Examples:
  vecsnap history s3://vectors/words
  vecsnap history ./.demo --limit 1 --json`

interface HistoryFlags extends StorageFlags, OutputFlags {
  readonly limit: number
}

/** A snapshot that was built; `problem` in place of its figures if its manifest cannot be read. */
interface Row extends HistoryEntry {
  readonly live: boolean
  readonly manifest?: Manifest
  readonly problem?: string
}

/** `vecsnap history`: the snapshots that were built at a root, newest first. */
export function historyCommand(io: Io): Command {
  const command = new Command("history")
    .description("list the snapshots that were built, newest first, and tell which one is live")
    .argument("[url]", "root of the snapshots; default: `to` of vecsnap.yaml")
    .option("--limit <n>", "snapshots listed at most", wholeNumber(1), 20)
    .addHelpText("after", EXAMPLES)
  addStorageOptions(command)
  addOutputOptions(command)
  return command.action((url: string | undefined, flags: HistoryFlags) =>
    withStore(io, url, flags, async (store) => {
      const [pointer, entries] = await Promise.all([
        readPointer(store, { signal: io.signal }),
        listManifests(store, { signal: io.signal }),
      ])
      if (entries.length === 0)
        throw new VecsnapError("NotFound", `no snapshot was built at ${store.url} yet`, { url: store.url })
      const rows = await readRows(store, entries.slice(0, flags.limit), pointer, io.signal)
      if (flags.json) printJson(io, historyDocument(store.url, pointer, rows, entries.length))
      else io.stdout.write(renderHistory(rows, entries.length, pointer, io))
    }),
  )
}

async function readRows(
  store: ObjectStore,
  entries: readonly HistoryEntry[],
  pointer: LivePointer | undefined,
  signal: AbortSignal,
): Promise<readonly Row[]> {
  const rows: Row[] = []
  // One after the other: a history is short, and this way --limit bounds what is in memory.
  for (const entry of entries) {
    const live = entry.key === pointer?.manifest
    try {
      rows.push({ ...entry, live, manifest: await readManifest(store, entry.key, { signal }) })
    } catch (error) {
      // One damaged manifest must not hide the others: a history is what one looks at when something is damaged.
      if (!["Corrupt", "NotFound", "Unsupported"].some((tag) => isVecsnapError(error) && error.tag === tag))
        throw error
      rows.push({ ...entry, live, problem: (error as Error).message })
    }
  }
  return rows
}

function historyDocument(
  url: string,
  pointer: LivePointer | undefined,
  rows: readonly Row[],
  total: number,
): object {
  const snapshots = rows.map(({ key, run, createdAt, live, manifest, problem }) => ({
    run,
    manifest: key,
    createdAt: createdAt.toISOString(),
    live,
    rows: manifest?.rows ?? null,
    bytes: manifest ? snapshotBytes(manifest) : null,
    shards: manifest?.sharding.shards ?? null,
    strategy: manifest?.sharding.strategy ?? null,
    backend: manifest?.backend ?? null,
    problem: problem ?? null,
  }))
  return {
    url,
    live: pointer?.run ?? null,
    publishedAt: pointer?.publishedAt.toISOString() ?? null,
    snapshots,
    total,
  }
}

const COLUMNS: readonly Column[] = [
  { title: "" },
  { title: "built" },
  { title: "run" },
  { title: "rows", align: "right" },
  { title: "size", align: "right" },
  { title: "shards", align: "right" },
  { title: "strategy" },
  { title: "backend" },
  { title: "", flexible: true },
]

function renderHistory(
  rows: readonly Row[],
  total: number,
  pointer: LivePointer | undefined,
  io: Io,
): string {
  const cells = rows.map(({ run, createdAt, live, manifest, problem }) => [
    live ? "*" : "",
    formatTime(createdAt),
    run,
    manifest ? formatCount(manifest.rows) : "",
    manifest ? formatBytes(snapshotBytes(manifest)) : "",
    manifest ? formatCount(manifest.sharding.shards) : "",
    manifest?.sharding.strategy ?? "",
    manifest?.backend ?? "",
    problem ?? "",
  ])
  const table = renderTable(COLUMNS, cells, { width: widthOf(io.stdout), paint: paintFor(io.stdout, io.env) })
  const live =
    pointer === undefined
      ? "no snapshot is live"
      : `* live: run ${pointer.run}, published ${formatTime(pointer.publishedAt)}`
  const older = total - rows.length
  return `${table}\n${live}${older > 0 ? `; ${formatCount(older)} older not listed (--limit)` : ""}\n`
}
