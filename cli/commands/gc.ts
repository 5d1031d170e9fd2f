import { Command } from "commander"
import { type CollectReport, collect } from "../../src/index.js"
import { addRetentionOptions, type RetentionFlags } from "../build-options.js"
import { resolveRetention } from "../build-request.js"
import { type Io, printJson } from "../io.js"
import { withStore } from "../open.js"
import { addOutputOptions, addStorageOptions, type OutputFlags, type StorageFlags } from "../options.js"
import { stderrLogger } from "../progress.js"
import { type Column, countOf, formatBytes, paintFor, renderTable, widthOf } from "../render.js"

const EXAMPLES = `
Examples:
  vecsnap gc s3://vectors/words                      shows what would be removed
  vecsnap gc s3://vectors/words --yes
  vecsnap gc s3://vectors/words --keep-last 7 --keep-days 30 --yes
  vecsnap gc ./.demo --json`

interface GcFlags extends StorageFlags, OutputFlags, RetentionFlags {
  readonly yes?: boolean
}

/** `vecsnap gc`: removes what nothing needs any more. */
export function gcCommand(io: Io): Command {
  const command = new Command("gc")
    .description(
      "remove old snapshots and what failed builds left; without --yes, show what would be removed",
    )
    .argument("[url]", "root of the snapshots; default: `to` of vecsnap.yaml")
    .option("--yes", "remove; default: only show")
    .addHelpText("after", EXAMPLES)
  addRetentionOptions(command)
  addStorageOptions(command)
  addOutputOptions(command)
  return command.action((url: string | undefined, flags: GcFlags) =>
    withStore(io, url, flags, async (store, config) => {
      const report = await collect(store, {
        ...resolveRetention(flags, config),
        yes: flags.yes ?? false,
        signal: io.signal,
        logger: stderrLogger(io, flags.debug),
      })
      if (flags.json) printJson(io, { ...report, now: report.now.toISOString() })
      else io.stdout.write(renderReport(report, io))
    }),
  )
}

const KEPT: readonly Column[] = [{ title: "kept" }, { title: "why", flexible: true }]
const GONE: readonly Column[] = [{ title: "snapshot" }, { title: "manifest", flexible: true }]
const KINDS: readonly Column[] = [
  { title: "kind" },
  { title: "objects", align: "right" },
  { title: "size", align: "right" },
]

function renderReport(report: CollectReport, io: Io): string {
  const { dryRun, removed, kept, protectedRuns, foreign, failed, problems, clock } = report
  const paint = paintFor(io.stdout, io.env)
  const options = { width: widthOf(io.stdout), paint }
  const table = (columns: readonly Column[], rows: readonly (readonly string[])[]): string =>
    rows.length === 0 ? "" : `${renderTable(columns, rows, options)}\n`
  const kinds = Object.entries(removed.byKind).filter(([, { objects }]) => objects > 0)
  const list = (title: string, lines: readonly string[]): string =>
    lines.length === 0 ? "" : `${title}\n${lines.map((text) => `  ${text}\n`).join("")}\n`
  const shown = foreign.objects > foreign.keys.length ? [...foreign.keys, "…"] : foreign.keys
  const verb = dryRun ? "would go" : "removed"
  const notice = dryRun ? "\ndry run: nothing was removed; add --yes\n" : "\n"
  return [
    table(
      KEPT,
      kept.map(({ run, reasons }) => [run, reasons.join("; ")]),
    ),
    table(
      GONE.map((column, i) => (i === 0 ? { ...column, title: verb } : column)),
      removed.snapshots.map(({ run, manifest }) => [run, manifest]),
    ),
    table(
      KINDS,
      kinds.map(([kind, { objects, bytes }]) => [kind, String(objects), formatBytes(bytes)]),
    ),
    list(
      "runs that go on, of which nothing is removed:",
      protectedRuns.map(({ run, reason }) => `${run}: ${reason}`),
    ),
    list(`not ours, left alone: ${countOf(foreign.objects, "object")}`, shown),
    list(
      paint.red("not removed:"),
      failed.map(({ key, reason }) => `${key}: ${reason}`),
    ),
    list(paint.yellow("to be looked at:"), problems),
    clock === "machine"
      ? "ages are by the clock of this machine, since the store may not be written\n\n"
      : "",
    `${verb}: ${countOf(removed.snapshots.length, "snapshot")}, ${countOf(removed.objects, "object")}, ${formatBytes(removed.bytes)}`,
    failed.length > 0 ? `; failed: ${countOf(failed.length, "object")}` : "",
    notice,
  ].join("")
}
