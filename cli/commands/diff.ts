import { Command } from "commander"
import { withoutUndefined } from "../../src/defined.js"
import {
  type ChangedRows,
  diffSnapshots,
  type RowChange,
  type SnapshotDiff,
  stringifyJson,
} from "../../src/index.js"
import { type Io, printJson } from "../io.js"
import { withStore } from "../open.js"
import {
  addOutputOptions,
  addStorageOptions,
  addTrustOption,
  type OutputFlags,
  type StorageFlags,
  type TrustFlags,
  trustOptions,
} from "../options.js"
import { wholeNumber } from "../parse.js"
import {
  countOf,
  formatBytes,
  formatCount,
  formatDuration,
  formatTime,
  formatValue,
  paintFor,
  renderFacts,
} from "../render.js"

const NOTES = `
<a> and <b> are run ids (vecsnap history lists them), or the words live and previous. Shards with the same content in both
are not read; the others are downloaded, a few at a time.

Examples:
  vecsnap diff s3://vectors/words previous live
  vecsnap diff s3://vectors/words k3v9x2m4q7ab live --json
  vecsnap diff ./.demo previous live --ids | jq -r 'select(.change == "removed") | .id'`

interface DiffFlags extends StorageFlags, OutputFlags, TrustFlags {
  readonly ids?: boolean
  readonly limit?: number
  readonly tempDir?: string
}

/** `vecsnap diff`: what changed from one snapshot to another. */
export function diffCommand(io: Io): Command {
  const command = new Command("diff")
    .description("compare two snapshots: rows added, removed and changed, routing, parameters")
    .argument("<url>", "root of the snapshots")
    .argument("<a>", "the earlier snapshot: a run id, live or previous")
    .argument("<b>", "the later snapshot")
    .option("--ids", "print every row that differs as a line of JSON, and the summary on stderr")
    .option("--limit <n>", "ids listed of each kind of change; default 10", wholeNumber(0))
    .option("--temp-dir <dir>", "where the temporary directory is made; default: the system's")
    .addHelpText("after", NOTES)
  addTrustOption(command)
  addStorageOptions(command)
  addOutputOptions(command)
  return command.action((url: string, a: string, b: string, flags: DiffFlags) =>
    withStore(io, url, flags, async (store, config) => {
      const { limit, tempDir } = flags
      const onRow = (row: RowChange): void => void io.stdout.write(`${stringifyJson(row)}\n`)
      const options = withoutUndefined({ limit, tempDir, ...trustOptions(flags, config), signal: io.signal })
      const diff = await diffSnapshots(store, a, b, flags.ids ? { ...options, onRow } : options)
      if (flags.ids) io.stderr.write(renderDiff(diff, io))
      else if (flags.json) printJson(io, diffDocument(diff))
      else io.stdout.write(renderDiff(diff, io))
    }),
  )
}

const diffDocument = ({ routing, parameters, ...diff }: SnapshotDiff): object => ({
  ...diff,
  before: { ...diff.before, createdAt: diff.before.createdAt.toISOString() },
  after: { ...diff.after, createdAt: diff.after.createdAt.toISOString() },
  routing: { centroids: routing.centroids ?? null, elsewhere: routing.elsewhere ?? null },
  parameters: parameters.map(({ name, before, after }) => ({
    name,
    before: before ?? null,
    after: after ?? null,
  })),
})

function renderDiff({ before, after, rows, shards, routing, parameters }: SnapshotDiff, io: Io): string {
  const paint = paintFor(io.stdout, io.env)
  const figures = ({ run, createdAt, rows, bytes, buildMs }: SnapshotDiff["before"]): string =>
    `${run} of ${formatTime(createdAt)}: ${countOf(rows, "row")}, ${formatBytes(bytes)}, built in ${formatDuration(buildMs)}`
  const { changed } = rows
  const parts = `vector ${formatCount(changed.vector)}, fields ${formatCount(changed.fields)}, payload ${formatCount(changed.payload)}`
  const shifts = routing.centroids?.map(({ distance }) => distance)
  return renderFacts(
    [
      ["before", figures(before)],
      ["after", figures(after)],
      ["added", listed(rows.added)],
      ["removed", listed(rows.removed)],
      ["changed", changed.count === 0 ? "0" : `${listed(changed)}; ${parts}`],
      ["moved", listed(rows.moved)],
      ["unchanged", formatCount(rows.unchanged)],
      ["shards", `${formatCount(shards.same)} with the same content, ${formatCount(shards.read)} read`],
      [
        "centroids",
        shifts &&
          `moved by ${Math.max(...shifts).toPrecision(3)} at most, ${mean(shifts).toPrecision(3)} on average`,
      ],
      [
        "routing",
        routing.elsewhere === undefined
          ? undefined
          : `the earlier one would send ${countOf(routing.elsewhere, "row")} elsewhere (${((100 * routing.elsewhere) / after.rows).toFixed(1)} %)`,
      ],
      ...parameters.map(
        ({ name, before, after }) => [name, formatValue(`${before ?? "none"} → ${after ?? "none"}`)] as const,
      ),
    ],
    paint,
  )
}

function listed({ count, ids }: ChangedRows): string {
  if (ids.length === 0) return formatCount(count)
  const more = count > ids.length ? ", …" : ""
  return `${formatCount(count)}: ${ids.map(formatValue).join(", ")}${more}`
}

const mean = (values: readonly number[]): number =>
  values.reduce((sum, value) => sum + value, 0) / values.length
