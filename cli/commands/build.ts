import { Command } from "commander"
import { withoutUndefined } from "../../src/defined.js"
import {
  type BuildOptions,
  type BuildReport,
  buildExported,
  buildSnapshot,
  type ChosenSettings,
  type CollectSummary,
  chooseSettings,
  type ExportReport,
  openSource,
  type ShardingOptions,
} from "../../src/index.js"
import { readLive } from "../../src/manifest/current.js"
import { FORMAT_NAMES } from "../../src/manifest/formats.js"
import { shortened } from "../../src/wording.js"
import { addBuildOptions, addMappingOptions, addShardingOptions, type BuildFlags } from "../build-options.js"
import { type BuildRequest, hasAutoShards, resolveBuild } from "../build-request.js"
import { loadConfig } from "../config.js"
import { printRefusal, renderGates } from "../gates-table.js"
import { type Io, printJson } from "../io.js"
import { addOutputOptions, addStorageOptions } from "../options.js"
import { createLogger, createProgress } from "../progress.js"
import { describeRecall, describeTargets } from "../recall.js"
import {
  countOf,
  formatBytes,
  formatCount,
  type Paint,
  paintFor,
  plainPaint,
  renderFacts,
  shellQuote,
  widthOf,
} from "../render.js"
import { withSummary } from "../summary.js"
import { describeTimings } from "../timings.js"
import { usageError } from "../usage-error.js"
import { renderExport } from "./export.js"

const NOTES = `
Inputs are Parquet, CSV, JSON Lines (also .gz, .zst), Arrow IPC or .npy: files, globs, s3:// objects, "-" for standard
input. Without a strategy, records are clustered, and the number of shards and the backend are chosen by the rows and the
dimension of the input, as \`vecsnap plan\` proposes them; what was chosen is printed first. vecsnap.yaml in the working directory may hold all settings that a nightly job repeats; flags override it.

Examples:
  vecsnap build words.parquet --to ./words
  vecsnap build words.parquet --to ./words --strategy cluster --shards 16
  vecsnap build 'day/*.parquet' --to s3://vectors/days --strategy explicit --shards 7 --shard-column weekday
  vecsnap build --sql "select id, emb as vector, tenant from 'in.parquet'" --fields tenant:string \\
      --to s3://vectors/tenants --strategy cel --cel 'shard_hash(tenant) % 16u' --shards 16
  vecsnap build words.parquet --to ./words --strategy cluster --shards 16 --allow rows
  zcat words.jsonl.gz | vecsnap build - --format jsonl --to ./words --strategy lsh --shards 8 --json`

/** `vecsnap build`: builds a snapshot and makes it live. */
export function buildCommand(io: Io): Command {
  const command = new Command("build")
    .description("build a snapshot from vectors and publish it")
    .argument("[inputs...]", "files, globs, s3:// objects, or - for standard input")
    .addHelpText("after", NOTES)
  addBuildOptions(command)
  addShardingOptions(command)
  addMappingOptions(command)
  addStorageOptions(command)
  addOutputOptions(command)
  command
    .option("--input-format <name>", "format of the inputs, where --format names that of the snapshot")
    .option("--prefix <url>", "with --format shardyfusion: s3:// URL that the root will be at; default: --to")
  return command.action(async (inputs: readonly string[], given: ExportedFlags) => {
    const { flags, written } = formatsOf(given)
    // A configuration that can't be read names no summary file, but the flag does.
    let summaryFile = flags.summaryFile
    await withSummary(
      () => summaryFile,
      io,
      async () => {
        const config = await loadConfig(flags.config, io)
        summaryFile ??= config["summary-file"]
        try {
          const request = resolveBuild(inputs, flags, config)
          if (written !== undefined) {
            const exported = await runExported(request, flags, { format: written, prefix: given.prefix }, io)
            const document = { ...exported, replaced: exported.replaced ?? null }
            if (flags.json) printJson(io, document)
            else io.stdout.write(renderExport(exported, io))
            return document
          }
          const report = await runBuild(request, flags, io)
          const document = reportDocument(report)
          if (flags.json) printJson(io, document)
          else io.stdout.write(renderReport(report, paintFor(io.stdout, io.env), widthOf(io.stdout)))
          return document
        } catch (error) {
          if (!flags.json) printRefusal(error, io)
          throw error
        }
      },
    )
  })
}

interface ExportedFlags extends BuildFlags {
  readonly inputFormat?: string
  readonly prefix?: string
}

/** `--format` names the format of the inputs, or one that a snapshot is to be written in. */
function formatsOf({ inputFormat, ...given }: ExportedFlags): {
  readonly flags: BuildFlags
  readonly written: string | undefined
} {
  const { format, ...others } = given
  const written = FORMAT_NAMES.slice(1).find((name) => name === format)
  if (written === undefined && inputFormat !== undefined && format !== undefined)
    throw usageError(`--input-format and --format ${format} are both of the inputs: give one of them`)
  const ofInputs = written === undefined ? (format ?? inputFormat) : inputFormat
  return { flags: { ...others, ...(ofInputs !== undefined && { format: ofInputs }) }, written }
}

/** Builds, and writes what was built in the format of another program. */
async function runExported(
  { inputs, source, queries, build }: BuildRequest,
  flags: BuildFlags,
  { format, prefix }: { readonly format: string; readonly prefix: string | undefined },
  io: Io,
): Promise<ExportReport> {
  if (build.publish === false)
    throw usageError(`--no-publish goes with our own format only: what is written as ${format} becomes live`)
  const progress = createProgress(io, { quiet: flags.quiet })
  try {
    if (build.gates !== undefined) progress.line(`gates go with our own format only: none is checked`)
    const settled = await settle(inputs, source, build, io, progress.line)
    const opened = await openSource(inputs, source)
    const { to, sharding: _, publish: _publish, gates: _gates, retention: _retention, ...rest } = build
    const logger = createLogger(io, progress, flags.debug)
    const { exported } = await buildExported(
      opened,
      {
        ...rest,
        ...settled,
        ...(queries && { queries: await openSource(queries.inputs, queries.source) }),
        signal: io.signal,
        onProgress: progress.show,
        logger,
      },
      {
        ...withoutUndefined({ prefix, store: build.store, tempDir: build.tempDir }),
        to,
        format,
        signal: io.signal,
        logger,
      },
    )
    return exported
  } finally {
    progress.end()
  }
}

const reportDocument = (report: BuildReport): object => ({
  ...report,
  replaced: report.replaced ?? null,
  collected: report.collected ?? null,
  recall: report.recall ?? null,
})

/** Builds, with progress and warnings on stderr. */
export async function runBuild(
  { inputs, source, queries, build }: BuildRequest,
  { quiet, debug }: Pick<BuildFlags, "quiet" | "debug">,
  io: Io,
): Promise<BuildReport> {
  const progress = createProgress(io, { quiet })
  try {
    const settled = await settle(inputs, source, build, io, progress.line)
    const opened = await openSource(inputs, source)
    for (const note of opened.notes ?? []) progress.line(note)
    const { sharding: _, ...rest } = build
    const report = await buildSnapshot(opened, {
      ...rest,
      ...settled,
      ...(queries && { queries: await openSource(queries.inputs, queries.source) }),
      signal: io.signal,
      onProgress: progress.show,
      logger: createLogger(io, progress, debug),
    })
    for (const reason of report.skippedReasons) progress.line(`skipped: ${reason}`)
    return report
  } finally {
    progress.end()
  }
}

/** Settings that are to be chosen by a look at the input: the number of shards, and with it the backend. */
async function settle(
  inputs: readonly string[],
  source: BuildRequest["source"],
  build: BuildRequest["build"],
  io: Io,
  say: (line: string) => void,
): Promise<Pick<BuildOptions, "sharding" | "backend">> {
  const { sharding, metric, backend, memoryLimit, parallelism, onBadRow, to, store } = build
  if (!hasAutoShards(sharding)) return withoutUndefined({ sharding, backend })
  if (inputs.includes("-")) {
    throw usageError(
      "the number of shards is chosen by a look at the input, but standard input can be read only once: give --shards",
    )
  }
  const looked = await openSource(inputs, source)
  // The result of SQL may be another one the next time, but can be had.
  if (inputs.length > 0 && !looked.repeatable) {
    throw usageError(
      `the number of shards is chosen by a look at the input, but ${looked.name} can be read only once: give --shards`,
    )
  }
  const chosen = await chooseSettings(looked, {
    metric,
    backend,
    memoryLimit,
    parallelism,
    onBadRow,
    dim: await dimOfLive(to, store, io.signal),
    signal: io.signal,
  })
  const { shards } = chosen.sharding
  const flags = flagsOf({ ...sharding, shards }, chosen, metric ?? "cosine")
  say(`settings: ${flags.join(" ")}`)
  say(`shards auto: ${chosen.plan.reasons.shards}`)
  return { sharding: { ...sharding, shards } as ShardingOptions, backend: chosen.backend }
}

/** Of the snapshot that the build replaces, if it can be read: what stands in the way, the build will say. */
const dimOfLive = (
  to: string,
  store: BuildOptions["store"],
  signal: AbortSignal,
): Promise<number | undefined> =>
  readLive(to, withoutUndefined({ store, signal })).then(
    ({ manifest }) => manifest.schema.dim,
    () => undefined,
  )

/** The settings of a build as the flags that would change them. */
function flagsOf(
  { strategy, shards }: { readonly strategy: string; readonly shards: number },
  { backend, columns }: ChosenSettings,
  metric: string,
): readonly string[] {
  const chosen = { strategy, shards, backend, metric }
  const mapping = columns && {
    "id-column": columns.id,
    "vector-column": columns.vector,
    "payload-columns": shortened(columns.payload.join(","), 200),
  }
  return Object.entries({ ...chosen, ...mapping }).map(
    ([flag, value]) => `--${flag} ${shellQuote(String(value))}`,
  )
}

function renderReport(report: BuildReport, paint: Paint = plainPaint, width?: number): string {
  const {
    rows,
    copies,
    dim,
    skippedRows,
    duplicateRows,
    shards,
    bytes,
    requests: { bytesRead: _, bytesWritten, ...operations },
  } = report
  const requests = Object.entries(operations)
    .filter(([, count]) => count > 0)
    .map(([operation, count]) => `${formatCount(count)} ${operation}`)
  const leftOut = [
    skippedRows > 0 ? countOf(skippedRows, "bad row") : "",
    duplicateRows > 0 ? countOf(duplicateRows, "duplicate") : "",
  ].filter(Boolean)
  const notes = [
    shards.empty > 0 ? `${formatCount(shards.empty)} empty` : "",
    shards.reused > 0 ? `${formatCount(shards.reused)} unchanged and reused` : "",
  ].filter(Boolean)
  const facts = renderFacts(
    [
      ["rows", `${formatCount(rows)}, ${dim} dimensions`],
      [
        "copies",
        copies > 0 ? `${formatCount(copies)}, stored x${((rows + copies) / rows).toFixed(2)}` : undefined,
      ],
      ["left out", leftOut.join(", ") || undefined],
      ["shards", [formatCount(shards.total), ...notes].join(", ")],
      [
        "shard size",
        `${formatCount(shards.smallestRows)} to ${countOf(shards.largestRows, "row")}, skew ${shards.skew.toFixed(2)}`,
      ],
      ["recall", report.recall && describeRecall(report.recall)],
      ["targets", report.recall && describeTargets(report.recall)],
      ["size", `${formatBytes(bytes)}, ${formatBytes(bytesWritten)} uploaded`],
      ["time", describeTimings(report.timingsMs)],
      ["requests", requests.join(", ") || undefined],
      ["replaced", report.replaced === undefined ? undefined : `run ${report.replaced}`],
      ["collected", report.collected && describeCollected(report.collected)],
    ],
    paint,
  )
  const url = shellQuote(report.url)
  // The first snapshot of a root has nothing to be compared with: a table would say no more.
  const judged = report.gates.some(({ verdict }) => verdict !== "not applicable")
  const gates = judged
    ? `
${renderGates(report.gates, { paint, width })}`
    : ""
  const done = report.published ? paint.green("published") : paint.yellow("built, not published:")
  const next = report.published
    ? [`query ${url} --like <id>`, `info ${url}`]
    : [`query ${url} --snapshot ${report.run} --like <id>`, `publish ${url} ${report.run}`]
  return `${done} ${paint.bold(`snapshot ${report.run}`)} at ${report.url}
${facts}${gates}
Next:
${next
  .map(
    (command) => `  vecsnap ${command}
`,
  )
  .join("")}`
}

const describeCollected = (collected: CollectSummary): string =>
  "failure" in collected
    ? `nothing: ${collected.failure}`
    : collected.objects === 0
      ? "nothing"
      : `${countOf(collected.snapshots.length, "snapshot")}, ${countOf(collected.objects, "object")}, ${formatBytes(collected.bytes)}`
