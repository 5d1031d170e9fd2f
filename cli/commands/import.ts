import { Command, Option } from "commander"
import { withoutUndefined } from "../../src/defined.js"
import {
  BACKEND_NAMES,
  type BackendName,
  type FieldType,
  type ImportReport,
  importSnapshot,
} from "../../src/index.js"
import { openStore } from "../../src/storage/open.js"
import { resolveGates } from "../build-request.js"
import { printRefusal } from "../gates-table.js"
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
import { parseFields } from "../parse.js"
import { createLogger, createProgress } from "../progress.js"
import { countOf, formatBytes, formatCount, paintFor, renderFacts, shellQuote } from "../render.js"

const NOTES = `
The rows come in the same shards, and queries find them by the same routing; with checksums, so that verify, gates and gc
apply. Gates are those of vecsnap.yaml.

Examples:
  vecsnap import s3://vectors/spark --to s3://vectors/words
  vecsnap import s3://vectors/spark --to ./words --fields 'lang:string,year:int64' --ids string`

interface ImportFlags extends StorageFlags, OutputFlags, SnapshotFlags {
  readonly to: string
  readonly fields?: Readonly<Record<string, FieldType>>
  readonly ids?: "string" | "int64"
  readonly backend?: BackendName
  readonly tempDir?: string
  readonly publish: boolean
  readonly quiet?: boolean
}

/** `vecsnap import`: makes a snapshot of ours of one of another format. */
export function importCommand(io: Io): Command {
  const command = new Command("import")
    .description("make a snapshot of one that another program has written")
    .argument("<url>", "root of the snapshot to import")
    .requiredOption("--to <url>", "root of the snapshots")
    .option("--fields <name:type,…>", "typed fields to take out of the payloads", parseFields)
    .addOption(
      new Option("--ids <type>", "type of the ids; string where they are mixed").choices(["string", "int64"]),
    )
    .addOption(
      new Option("--backend <name>", "what builds the shards; default: that of the snapshot").choices([
        ...BACKEND_NAMES,
      ]),
    )
    .option("--no-publish", "do not make it live")
    .option("--temp-dir <dir>", "where the temporary directory is made; default: the system's")
    .option("--quiet", "no progress")
    .addHelpText("after", NOTES)
  addSnapshotOption(command)
  addStorageOptions(command)
  addOutputOptions(command)
  return command.action((url: string, flags: ImportFlags) =>
    withStore(io, url, flags, async (store, config) => {
      const progress = createProgress(io, { quiet: flags.quiet })
      const target = openStore(flags.to, storeOptions(flags, config))
      try {
        const { fields, ids, backend, tempDir, snapshot, publish } = flags
        const report = await importSnapshot(store, {
          ...withoutUndefined({ fields, ids, backend, tempDir, snapshot, gates: resolveGates(config) }),
          publish,
          to: target,
          signal: io.signal,
          onProgress: progress.show,
          logger: createLogger(io, progress, flags.debug),
        })
        progress.end()
        if (flags.json) printJson(io, { ...report, replaced: report.replaced ?? null })
        else io.stdout.write(renderImport(report, io))
      } catch (error) {
        progress.end()
        if (!flags.json) printRefusal(error, io)
        throw error
      } finally {
        target.close()
      }
    }),
  )
}

function renderImport(report: ImportReport, io: Io): string {
  const paint = paintFor(io.stdout, io.env)
  const { run, url, source, rows, shards, bytes, changedPayloads, published } = report
  const done = published ? paint.green("imported") : paint.yellow("imported, not published:")
  return `${done} ${paint.bold(`snapshot ${run}`)} at ${url}\n${renderFacts(
    [
      ["from", `${source.format} run ${source.run} at ${source.url}`],
      ["rows", formatCount(rows)],
      ["shards", `${countOf(shards.total, "shard")}, ${formatBytes(bytes)}`],
      [
        "payloads",
        changedPayloads > 0
          ? `${formatCount(changedPayloads)} with null in place of NaN or an infinity`
          : undefined,
      ],
    ],
    paint,
  )}\nNext:\n  vecsnap verify ${shellQuote(url)} --deep\n`
}
