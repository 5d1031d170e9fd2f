import { availableParallelism } from "node:os"
import { Command } from "commander"
import { withoutUndefined } from "../../src/defined.js"
import {
  type InputFacts,
  openSource,
  planSnapshot,
  readInputFacts,
  type SnapshotPlan,
  type SourceColumns,
} from "../../src/index.js"
import { listOf, quoted } from "../../src/wording.js"
import { addMappingOptions, addPlanOptions, type PlanFlags } from "../build-options.js"
import { resolveSource } from "../build-request.js"
import { loadConfig } from "../config.js"
import { type Io, printJson } from "../io.js"
import { addOutputOptions, addStorageOptions } from "../options.js"
import {
  formatBytes,
  formatCount,
  formatDuration,
  type Paint,
  paintFor,
  plainPaint,
  renderFacts,
} from "../render.js"

const NOTES = `
The number of rows of Parquet files is read from their metadata, other inputs are read once; the first 10,000 rows are
looked at. Times and probes are estimates: the machine and data that they come from are in docs/performance.md.

Examples:
  vecsnap plan words.parquet
  vecsnap plan 'day/*.parquet' --memory-limit 4GiB --json | jq .plan.shards
  vecsnap build words.parquet --to ./words --strategy cluster --shards auto`

/**
 * `vecsnap plan`: how a snapshot of an input could be built, what that would take, and why. Writes nothing.
 */
export function planCommand(io: Io): Command {
  const command = new Command("plan")
    .description("propose shards, backend and layout for an input, and say what they cost")
    .argument("[inputs...]", "files, globs, s3:// objects; default: `input` of vecsnap.yaml")
    .addHelpText("after", NOTES)
  addPlanOptions(command)
  addMappingOptions(command)
  addStorageOptions(command)
  addOutputOptions(command)
  return command.action(async (inputs: readonly string[], flags: PlanFlags) => {
    const config = await loadConfig(flags.config, io)
    const request = resolveSource(inputs, flags, config)
    const source = await openSource(request.inputs, request.source)
    let columns: SourceColumns | undefined
    const facts = await readInputFacts(source, {
      signal: io.signal,
      onColumns: (found) => {
        columns = found
      },
    })
    const shards = flags.shards ?? config.sharding?.shards
    const plan = planSnapshot(
      facts,
      withoutUndefined({
        metric: flags.metric ?? config.metric,
        backend: flags.backend ?? config.backend,
        shards: shards === "auto" ? undefined : shards,
        memoryLimit: flags.memoryLimit ?? config["memory-limit"],
        cores: flags.parallelism ?? config.parallelism ?? availableParallelism(),
      }),
    )
    const input = { ...facts, notes: source.notes ?? [], columns: columns ?? null }
    if (flags.json) printJson(io, { input, plan })
    else io.stdout.write(renderPlan(input, plan, paintFor(io.stdout, io.env)))
  })
}

/** What is known of the input, and what will be read of it. */
type PlannedInput = InputFacts & {
  readonly notes?: readonly string[]
  readonly columns?: SourceColumns | null
}

/** The plan as lines of facts, each with its reason. */
function renderPlan(facts: PlannedInput, plan: SnapshotPlan, paint: Paint = plainPaint): string {
  const { reasons, layout, replication } = plan
  const columns = facts.columns ?? undefined
  const { smallest, mean, largest } = facts.norms
  const norms = [smallest, mean, largest].map((norm) => norm.toPrecision(3)).join(" / ")
  return `${renderFacts(
    [
      ["input", facts.name],
      ...(facts.notes ?? []).map((note) => ["", paint.dim(note)] as const),
      ["ids", columns && quoted(columns.id)],
      ["vectors", columns && quoted(columns.vector)],
      ["payload", columns && listOf(columns.payload)],
      [
        "",
        columns && columns.payloadVectors.length > 0
          ? paint.dim(
              `${listOf(columns.payloadVectors)}: vectors too, as text; --payload-columns leaves them out`,
            )
          : undefined,
      ],
      ["rows", `${formatCount(facts.rows)}, ${facts.dim} dimensions`],
      ["vector lengths", `${norms} (smallest / mean / largest of ${formatCount(facts.sampledRows)} rows)`],
      ["shards", formatCount(plan.shards)],
      ["", paint.dim(reasons.shards)],
      ["backend", plan.backend],
      ["", paint.dim(reasons.backend)],
      ["layout", replication > 1 ? `${layout}, replication ${replication}` : layout],
      ["", paint.dim(reasons.layout)],
      ["size", formatBytes(plan.sizeBytes)],
      ["", paint.dim(reasons.size)],
      [
        "memory",
        `${formatBytes(plan.buildMemoryBytes)} to build, ${formatBytes(plan.readerMemoryBytes)} to read`,
      ],
      ["", paint.dim(reasons.memory)],
      ["cold query", `${formatCount(plan.coldRequests)} requests, ${formatBytes(plan.coldBytes)}`],
      ["", paint.dim(reasons.query)],
      ["build time", `about ${formatDuration(plan.buildSeconds * 1000)}`],
      ["", paint.dim(reasons.time)],
    ],
    paint,
  )}`
}
