/**
 * A build, from a source to a stored snapshot, in two halves: rows become stored shards (rows-to-shards.ts),
 * and those a snapshot (shards-to-snapshot.ts).
 *
 * Nothing of it is live: `release/` checks what was built and moves the pointer. A failure or a crash leaves
 * at most files that no manifest names.
 */

import { invalidInput } from "../errors.js"
import type { Logger } from "../logger.js"
import { needsTraining, resolveDescription, resolveSharding, strategyType } from "../sharding/registry.js"
import { backendByName } from "../shards/registry.js"
import { recordsSource } from "../sources/records.js"
import { expectingDim, type Source, type SourceColumns } from "../sources/source.js"
import { withTempDir } from "../storage/temp-dir.js"
import { listOf, quoted } from "../wording.js"
import { type ChosenSettings, chooseSettings } from "./advice/choose.js"
import type { BuildContext, BuildInput, BuildPlan } from "./job.js"
import { resolveWriterOptions, type WriterOptions } from "./options.js"
import { rowsToShards, type ShardedRows } from "./rows-to-shards.js"
import { openScratch } from "./scratch.js"
import { type StoredSnapshot, shardsToSnapshot } from "./shards-to-snapshot.js"

/**
 * Checks input and options before anything is read or written. Throws `InvalidInput`, or `Unsupported`
 * without the backend's package.
 */
export async function planBuild(input: BuildInput, options: WriterOptions): Promise<BuildPlan> {
  const given = resolveWriterOptions(options)
  const source = announcing(
    isSource(input) ? input : recordsSource(input, { fields: given.fields ?? {} }),
    given.logger,
  )
  const { placedBy } = given
  const isOpen = given.sharding === undefined && placedBy === undefined
  const chosen = isOpen ? await chooseFor(source, options) : undefined
  const resolved = chosen === undefined ? given : { ...given, backend: chosen.backend }
  const sharding =
    placedBy === undefined
      ? resolveSharding(given.sharding ?? chosen!.sharding)
      : resolveDescription(placedBy.sharding)
  if (resolved.routingFrom !== undefined && !needsTraining(sharding)) {
    throw invalidInput(
      `option routingFrom takes trained routing, but strategy ${sharding.strategy} is not trained`,
      { option: "routingFrom" },
    )
  }
  if (resolved.queries !== undefined && strategyType(sharding.strategy).queriesBy !== "vector") {
    throw invalidInput(
      `option queries goes with strategies that rank shards for a vector, but strategy ${sharding.strategy} has its shards named`,
      { option: "queries" },
    )
  }
  await backendByName(resolved.backend).assertInstalled("build")
  return { source, options: resolved, sharding }
}

/** Throws `InvalidInput` for an input of which nothing would be left to build from. */
async function chooseFor(source: Source, options: WriterOptions): Promise<ChosenSettings> {
  if (!source.repeatable) {
    throw invalidInput(
      `no sharding is given, and ${source.name} cannot be looked at first, since it may be read only once; expected option sharding, for example { strategy: "cluster", shards: 16 }`,
      { option: "sharding" },
    )
  }
  const chosen = await chooseSettings(source, options)
  const { sharding, backend, plan } = chosen
  options.logger?.info({ sharding, backend }, `sharding chosen by the input: ${plan.reasons.shards}`)
  return chosen
}

/** The source, telling at its first reading what is read and what is not. */
function announcing(source: Source, logger: Logger): Source {
  let isTold = false
  return {
    name: source.name,
    repeatable: source.repeatable,
    fields: source.fields,
    ...(source.countRows && { countRows: () => source.countRows!() }),
    read(options) {
      if (isTold) return source.read(options)
      isTold = true
      for (const note of source.notes ?? []) logger.info({ input: source.name }, note)
      const onColumns = (columns: SourceColumns): void => {
        tellColumns(columns, source.name, logger)
        options.onColumns?.(columns)
      }
      return source.read({ ...options, onColumns })
    },
  }
}

function tellColumns(columns: SourceColumns, input: string, logger: Logger): void {
  const { id, vector, payload, payloadVectors } = columns
  logger.info(
    { input, id, vector, payload },
    `ids are column ${quoted(id)}, vectors ${quoted(vector)}, the payload ${listOf(payload)}`,
  )
  if (payloadVectors.length === 0) return
  const these = payloadVectors.length === 1 ? "a list of numbers" : "lists of numbers"
  logger.warn(
    { input, payloadVectors },
    `the payload of every record holds ${listOf(payloadVectors)}, ${these}, as text; name the payload columns to leave that out`,
  )
}

export type BuiltSnapshot = StoredSnapshot & Omit<ShardedRows, "parts">

/**
 * Builds a snapshot and stores it whole, manifest included, without making it live.
 *
 * Goes over the input once, or twice where the strategy must be trained. Whatever is thrown, the temporary
 * directory is gone.
 */
export async function buildUnpublished(plan: BuildPlan, context: BuildContext): Promise<BuiltSnapshot> {
  return withTempDir(plan.options.tempDir, "vecsnap-build", async (directory) => {
    // Vectors that come as bytes are read by the dimension of what is replaced.
    const source = expectingDim(plan.source, context.run.base?.manifest.schema.dim)
    const job = { ...plan, ...context, source, scratch: openScratch({ directory }) }
    const { parts, ...report } = await rowsToShards(job)
    return { ...(await shardsToSnapshot(job, parts)), ...report }
  })
}

const isSource = (input: BuildInput): input is Source =>
  "read" in input && typeof input.read === "function" && "repeatable" in input
