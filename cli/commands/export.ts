import { Command, Option } from "commander"
import { withoutUndefined } from "../../src/defined.js"
import { BACKEND_NAMES, type BackendName, type ExportReport, exportSnapshot } from "../../src/index.js"
import { FORMAT_NAMES } from "../../src/manifest/formats.js"
import { openStore } from "../../src/storage/open.js"
import { type Io, printJson } from "../io.js"
import { withStore } from "../open.js"
import {
  addOutputOptions,
  addSnapshotOption,
  addStorageOptions,
  type OutputFlags,
  type SnapshotFlags,
  type StorageFlags,
  storeOptions,
} from "../options.js"
import { createLogger, createProgress } from "../progress.js"
import { countOf, formatBytes, formatCount, paintFor, renderFacts } from "../render.js"

const NOTES = `
What is live there is replaced only if it is still what was live when the export began. Rows are written once each. The
layouts affinity and fast route as other programs cannot: their rows are placed anew, by centroid.

Examples:
  vecsnap export s3://vectors/words --to s3://vectors/words-python --format shardyfusion
  vecsnap export ./words --to ./words-python --format shardyfusion --prefix s3://vectors/words-python --backend lancedb`

interface ExportFlags extends StorageFlags, OutputFlags, SnapshotFlags {
  readonly to: string
  readonly format: string
  readonly prefix?: string
  readonly backend?: BackendName
  readonly tempDir?: string
  readonly quiet?: boolean
}

/** `vecsnap export`: writes a snapshot in another format. */
export function exportCommand(io: Io): Command {
  const command = new Command("export")
    .description("write a snapshot in the format of another program")
    .argument("[url]", "root of the snapshots; default: `to` of vecsnap.yaml")
    .requiredOption("--to <url>", "root of the snapshots to be, one of its own")
    .addOption(
      new Option("--format <name>", "format to write").choices(FORMAT_NAMES.slice(1)).makeOptionMandatory(),
    )
    .option("--prefix <url>", "s3:// URL that the root will be at; default: --to")
    .addOption(
      new Option("--backend <name>", "what builds the shards; default: that of the snapshot").choices([
        ...BACKEND_NAMES,
      ]),
    )
    .option("--temp-dir <dir>", "where the temporary directory is made; default: the system's")
    .option("--quiet", "no progress")
    .addHelpText("after", NOTES)
  addSnapshotOption(command)
  addStorageOptions(command)
  addOutputOptions(command)
  return command.action((url: string | undefined, flags: ExportFlags) =>
    withStore(io, url, flags, async (store, config) => {
      const progress = createProgress(io, { quiet: flags.quiet })
      const target = openStore(flags.to, storeOptions(flags, config))
      try {
        const { format, prefix, backend, tempDir, snapshot } = flags
        const report = await exportSnapshot(store, {
          ...withoutUndefined({ prefix, backend, tempDir, snapshot }),
          to: target,
          format,
          signal: io.signal,
          onShard: (done, total) => progress.show({ stage: "shards", done, total, unit: "shards" }),
          logger: createLogger(io, progress, flags.debug),
        })
        progress.end()
        if (flags.json) printJson(io, { ...report, replaced: report.replaced ?? null })
        else io.stdout.write(renderExport(report, io))
      } finally {
        progress.end()
        target.close()
      }
    }),
  )
}

/** What was exported, as a few lines. */
export function renderExport(report: ExportReport, io: Pick<Io, "stdout" | "env">): string {
  const paint = paintFor(io.stdout, io.env)
  const { run, url, format, rows, shards, bytes, backend, placedAnew, replaced } = report
  return `${paint.green("exported")} ${paint.bold(`snapshot ${run}`)} to ${url}\n${renderFacts(
    [
      ["format", format],
      ["rows", formatCount(rows)],
      ["shards", `${countOf(shards, "shard")} of ${backend}, ${formatBytes(bytes)}`],
      ["placed", placedAnew ? "anew, by centroid" : undefined],
      ["replaced", replaced === undefined ? undefined : `run ${replaced}`],
    ],
    paint,
  )}`
}
