import { writeFile } from "node:fs/promises"
import { resolve } from "node:path"
import { Command } from "commander"
import { withoutUndefined } from "../../src/defined.js"
import { type Evaluation, evaluateSnapshot, openSource } from "../../src/index.js"
import { namedError } from "../../src/storage/files.js"
import { addVectorFileOptions, type VectorFileFlags } from "../build-options.js"
import { resolveQuerySource } from "../build-request.js"
import { loadConfig } from "../config.js"
import { renderEvalPage } from "../eval-page.js"
import { type Io, printJson } from "../io.js"
import {
  addOutputOptions,
  addSnapshotOption,
  addStorageOptions,
  addTrustOption,
  type OutputFlags,
  rootUrl,
  type SnapshotFlags,
  type StorageFlags,
  storeOptions,
  type TrustFlags,
  trustOptions,
} from "../options.js"
import { parseCounts, parseShareList, wholeNumber } from "../parse.js"
import { stderrLogger } from "../progress.js"
import { formatShare, KIND_NAMES } from "../recall.js"
import { type Column, countOf, formatCount, paintFor, renderTable, widthOf } from "../render.js"
import { addTrustedKeyOption, type TrustedKeyFlags, trustedKeys } from "../signing.js"

const NOTES = `
Searches with more and more probes, and compares what is found with the true neighbours, for which all shards are downloaded
and gone over. Without --queries, rows of the snapshot are searched for; real queries that are unlike the rows find less. Last,
the figures are held against the certificate of the build: "agrees" if the difference is within the 95 % interval.

Examples:
  vecsnap eval s3://vectors/words
  vecsnap eval s3://vectors/words --queries queries.npy --probes 1,4,8 --target-recall .95
  vecsnap eval ./.demo --sample 200 --report recall.html`

interface EvalFlags
  extends VectorFileFlags,
    StorageFlags,
    OutputFlags,
    SnapshotFlags,
    TrustedKeyFlags,
    TrustFlags {
  readonly queries?: readonly string[]
  readonly k?: readonly number[]
  readonly probes?: readonly number[]
  readonly targetRecall?: readonly number[]
  readonly sample?: number
  readonly seed?: number
  readonly report?: string
  readonly tempDir?: string
}

/** `vecsnap eval`: measures the recall of a published snapshot, and compares it with its certificate. */
export function evalCommand(io: Io): Command {
  const command = new Command("eval")
    .description("measure the recall of a snapshot by probes, and compare it with its certificate")
    .argument("[url]", "root of the snapshots; default: `to` of vecsnap.yaml")
    .option("--queries <files...>", "real queries: .npy, Parquet, JSON Lines and so on; default: rows")
    .option("--k <1,10,100>", "numbers of neighbours, at most 100", parseCounts)
    .option("--probes <1,4,8>", "numbers of probes; default: 1,2,4,8,16 and the snapshot's own", parseCounts)
    .option("--target-recall <.95>", "recalls to ask for; default: .9,.95,.98", parseShareList)
    .option("--sample <n>", "rows to search for, without queries; default: 500", wholeNumber(1))
    .option("--seed <n>", "which rows; default: 1", wholeNumber(0))
    .option("--report <file.html>", "write a page with the curves, shard sizes and how often each is probed")
    .option("--temp-dir <dir>", "where shards are downloaded to for a while; default: the system's")
    .addHelpText("after", NOTES)
  addVectorFileOptions(command, "queries")
  addSnapshotOption(command)
  addTrustedKeyOption(command)
  addTrustOption(command)
  addStorageOptions(command)
  addOutputOptions(command)
  return command.action(async (url: string | undefined, flags: EvalFlags) => {
    const config = await loadConfig(flags.config, io)
    const store = storeOptions(flags, config)
    const evaluation = await evaluateSnapshot(
      rootUrl(url, config),
      withoutUndefined({
        queries: flags.queries && (await openSource(flags.queries, resolveQuerySource(flags, config))),
        sample: flags.sample,
        ks: flags.k,
        probes: flags.probes,
        targets: flags.targetRecall,
        snapshot: flags.snapshot,
        trustedKeys: trustedKeys(flags, config),
        seed: flags.seed,
        tempDir: flags.tempDir ?? config["temp-dir"],
        store,
        ...trustOptions(flags, config),
        signal: io.signal,
        logger: stderrLogger(io, flags.debug),
      }),
    )
    if (flags.json) printJson(io, evalDocument(evaluation))
    else io.stdout.write(renderEvaluation(evaluation, io))
    if (flags.report !== undefined) await writePage(flags.report, evaluation, io)
  })
}

const evalDocument = (evaluation: Evaluation): object => ({
  ...evaluation,
  certificate: evaluation.certificate ?? null,
})

async function writePage(file: string, evaluation: Evaluation, io: Io): Promise<void> {
  try {
    await writeFile(resolve(io.cwd, file), await renderEvalPage(evaluation))
  } catch (error) {
    throw namedError("write the report", file, error)
  }
}

function renderEvaluation(evaluation: Evaluation, io: Io): string {
  const { snapshot, url, queries, rows, probes, curves, targets, kinds, compared, certificate } = evaluation
  const paint = paintFor(io.stdout, io.env)
  const options = { width: widthOf(io.stdout), paint }
  const kind =
    queries.kind === "rows" ? countOf(queries.count, "row") : `${formatCount(queries.count)} real queries`
  const shown = curves.find(({ k }) => k === 10) ?? curves.at(-1)!
  const columns: readonly Column[] = [
    { title: "probes", align: "right" },
    ...curves.map(({ k }): Column => ({ title: `recall@${k}`, align: "right" })),
    { title: `none of ${shown.k}`, align: "right" },
    { title: "5th percentile", align: "right" },
    { title: `certified @${shown.k}`, align: "right" },
    { title: "difference", align: "right" },
    { title: "" },
  ]
  const table = probes.map((count, at) => {
    const known = compared.find((one) => one.k === shown.k && one.probes === count)
    return [
      formatCount(count),
      ...curves.map(
        ({ recall, low, high }) => `${formatShare(recall[at]!)} ±${(50 * (high[at]! - low[at]!)).toFixed(1)}`,
      ),
      formatShare(shown.zero[at]!),
      formatShare(shown.p05[at]!),
      known ? formatShare(known.certified) : "",
      known ? signed(known.difference) : "",
      known === undefined ? "" : known.agrees ? "agrees" : paint.yellow("differs"),
    ]
  })
  const targetTable = renderTable(
    [
      { title: "target", align: "right" },
      { title: "queries" },
      { title: "reached", align: "right" },
      { title: "probes on average", align: "right" },
    ],
    targets.flatMap(({ target }) =>
      kinds.flatMap(({ kind, targets: own }) => {
        const figures = own.find((one) => one.target === target)
        if (figures === undefined) return []
        const { recall, low, high, probes: average } = figures
        const margin = `±${(50 * (high - low)).toFixed(1)}`
        return [
          [formatShare(target), KIND_NAMES[kind], `${formatShare(recall)} ${margin}`, average.toFixed(2)],
        ]
      }),
    ),
    options,
  )
  const notes = certificate?.notes ?? ["the snapshot has no recall certificate to compare with"]
  return `${paint.bold(`snapshot ${snapshot}`)} at ${url}: ${kind} against ${formatCount(rows)} rows

${renderTable(columns, table, options)}${targets.length > 0 ? `\n${targetTable}` : ""}
${notes.map((note) => `  ${certificate ? "certificate: " : ""}${note}\n`).join("")}`
}

/** "+1.2", "-0.3", in percent; what rounds to nothing is "0.0". */
function signed(difference: number): string {
  const percent = (100 * difference).toFixed(1)
  if (Number(percent) === 0) return "0.0"
  return difference < 0 ? percent : `+${percent}`
}
