import { Command } from "commander"
import type { History, HistoryPublication, HistorySnapshot, Publication } from "../../src/index.js"
import { readHistory } from "../../src/maintenance/history.js"
import { snapshotBytes } from "../../src/manifest/figures.js"
import { defaultRecall } from "../../src/recall/curves.js"
import type { Snapshot } from "../../src/snapshot/snapshot.js"
import { type Io, printJson } from "../io.js"
import { withStore } from "../open.js"
import { addOutputOptions, addStorageOptions, type OutputFlags, type StorageFlags } from "../options.js"
import { wholeNumber } from "../parse.js"
import { formatShare } from "../recall.js"
import {
  type Column,
  formatBytes,
  formatCount,
  formatDuration,
  formatTime,
  paintFor,
  renderTable,
  widthOf,
} from "../render.js"

const EXAMPLES = `
A line per publication: a snapshot that a rollback made live again is there twice. "collected": its files are gone.
"recall": what the build measured of the ten nearest at the snapshot's own number of probes.

Examples:
  vecsnap history s3://vectors/words
  vecsnap history ./.demo --limit 1 --json`

interface HistoryFlags extends StorageFlags, OutputFlags {
  readonly limit: number
}

/** `vecsnap history`: the snapshots that were published at a root, newest first. */
export function historyCommand(io: Io): Command {
  const command = new Command("history")
    .description("list the snapshots that were published, newest first, and tell which one is live")
    .argument("[url]", "root of the snapshots; default: `to` of vecsnap.yaml")
    .option("--limit <n>", "publications listed at most", wholeNumber(1), 20)
    .addHelpText("after", EXAMPLES)
  addStorageOptions(command)
  addOutputOptions(command)
  return command.action((url: string | undefined, flags: HistoryFlags) =>
    withStore(io, url, flags, async (store) => {
      const history = await readHistory(store, { limit: flags.limit, signal: io.signal })
      if (flags.json) printJson(io, historyDocument(store.url, history))
      else io.stdout.write(renderHistory(history, io))
    }),
  )
}

function historyDocument(url: string, { format, live, publications, unpublished, total }: History): object {
  return {
    url,
    format,
    live: live?.run ?? null,
    publishedAt: live?.publishedAt.toISOString() ?? null,
    publications: publications.map((entry) => ({
      ...publicationDocument(entry.publication),
      live: entry.live,
      replacedBy: entry.replacedBy ? publicationDocument(entry.replacedBy) : null,
      ...snapshotDocument(entry),
    })),
    unpublished: unpublished.map((entry) => ({
      run: entry.run,
      createdAt: entry.createdAt.toISOString(),
      ...snapshotDocument(entry),
    })),
    total,
  }
}

const publicationDocument = ({ number, run, publishedAt, action, signedBy }: Publication): object => ({
  number,
  run,
  publishedAt: publishedAt.toISOString(),
  action,
  signedBy: signedBy ?? [],
})

const snapshotDocument = ({ key, pinned, manifest, problem }: HistorySnapshot): object => ({
  manifest: key,
  createdAt: manifest?.createdAt.toISOString() ?? null,
  rows: manifest?.rows ?? null,
  bytes: manifest ? snapshotBytes(manifest) : null,
  shards: manifest?.sharding.shards ?? null,
  strategy: manifest?.sharding.strategy ?? null,
  backend: manifest?.backend ?? null,
  recall: recallAt10(manifest) ?? null,
  buildMs: manifest?.build?.timingsMs.total ?? null,
  pinned,
  problem: problem ?? null,
})

const COLUMNS: readonly Column[] = [
  { title: "" },
  { title: "published" },
  { title: "run" },
  { title: "rows", align: "right" },
  { title: "size", align: "right" },
  { title: "shards", align: "right" },
  { title: "strategy" },
  { title: "backend" },
  { title: "recall", align: "right" },
  { title: "built in", align: "right" },
  { title: "", flexible: true },
]

function renderHistory({ live, publications, unpublished, total }: History, io: Io): string {
  const options = { width: widthOf(io.stdout), paint: paintFor(io.stdout, io.env) }
  const published = publications.map((entry) => [
    entry.live ? "*" : "",
    formatTime(entry.publication.publishedAt),
    ...snapshotCells(entry),
    notesOf(entry),
  ])
  const older = total - publications.length
  const footer = [
    live ? `* live: run ${live.run}, published ${formatTime(live.publishedAt)}` : "no snapshot is live",
    older > 0 ? `${formatCount(older)} older not listed (--limit)` : "",
  ].filter(Boolean)
  const waiting = unpublished.map((entry) => [
    "",
    `built ${formatTime(entry.createdAt)}`,
    ...snapshotCells(entry),
    [entry.pinned ? "pinned" : "", entry.problem ?? ""].filter(Boolean).join("; "),
  ])
  const table = renderTable(COLUMNS, published, options)
  if (waiting.length === 0) return `${table}\n${footer.join("; ")}\n`
  const columns = COLUMNS.with(1, { title: "not in the history" })
  return `${table}\n${footer.join("; ")}\n\n${renderTable(columns, waiting, options)}`
}

const snapshotCells = ({ run, manifest }: HistorySnapshot): string[] => [
  run,
  manifest ? formatCount(manifest.rows) : "",
  manifest ? formatBytes(snapshotBytes(manifest)) : "",
  manifest ? formatCount(manifest.sharding.shards) : "",
  manifest?.sharding.strategy ?? "",
  manifest?.backend ?? "",
  recallCell(manifest),
  manifest?.build?.timingsMs.total === undefined ? "" : formatDuration(manifest.build.timingsMs.total),
]

/** Recall of the ten nearest by default. */
const recallAt10 = (manifest: Snapshot | undefined): number | undefined =>
  manifest && defaultRecall(manifest, 10)?.mean

function recallCell(manifest: Snapshot | undefined): string {
  const recall = recallAt10(manifest)
  return recall === undefined ? "" : formatShare(recall)
}

const notesOf = ({ publication, replacedBy, pinned, problem }: HistoryPublication): string =>
  [
    publication.action === "publish" ? "" : `by ${publication.action}`,
    publication.signedBy ? `signed by ${publication.signedBy.join(", ")}` : "",
    pinned ? "pinned" : "",
    replacedBy ? `replaced by ${replacedBy.run}` : "",
    problem ?? "",
  ]
    .filter(Boolean)
    .join("; ")
