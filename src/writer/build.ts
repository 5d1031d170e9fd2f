/**
 * A build, from a source to a stored snapshot, in two halves: rows become stored shards (rows-to-shards.ts), and those a
 * snapshot (shards-to-snapshot.ts).
 *
 * Nothing of it is live: `release/` checks what was built and moves the pointer. A failure or a crash leaves at most files that
 * no manifest names.
 */
import { rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { invalidInput } from "../errors.js"
import { needsTraining, resolveSharding, strategyType } from "../sharding/registry.js"
import { backendByName } from "../shards/registry.js"
import { recordsSource } from "../sources/records.js"
import { expectingDim, type Source } from "../sources/source.js"
import type { BuildContext, BuildInput, BuildPlan } from "./job.js"
import { resolveWriterOptions, type WriterOptions } from "./options.js"
import { rowsToShards, type ShardedRows } from "./rows-to-shards.js"
import { openScratch } from "./scratch.js"
import { type StoredSnapshot, shardsToSnapshot } from "./shards-to-snapshot.js"
import { makeTempDir } from "./temp-dir.js"

/** Checks input and options before anything is read or written. Throws `InvalidInput`, or `Unsupported` without the backend's package. */
export async function planBuild(input: BuildInput, options: WriterOptions): Promise<BuildPlan> {
  const resolved = resolveWriterOptions(options)
  const sharding = resolveSharding(resolved.sharding)
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
  const source = isSource(input) ? input : recordsSource(input, { fields: resolved.fields ?? {} })
  await backendByName(resolved.backend).assertInstalled("build")
  return { source, options: resolved, sharding }
}

export type BuiltSnapshot = StoredSnapshot & Omit<ShardedRows, "parts">

/**
 * Builds a snapshot and stores it whole, manifest included, without making it live.
 *
 * Goes over the input once, or twice where the strategy must be trained. Whatever is thrown, the temporary directory is gone.
 */
export async function buildUnpublished(plan: BuildPlan, context: BuildContext): Promise<BuiltSnapshot> {
  const directory = await makeTempDir(plan.options.tempDir ?? tmpdir())
  try {
    // Vectors that come as bytes are read by the dimension of what is replaced.
    const source = expectingDim(plan.source, context.run.base?.manifest.schema.dim)
    const job = { ...plan, ...context, source, scratch: openScratch({ directory }) }
    const { parts, ...report } = await rowsToShards(job)
    return { ...(await shardsToSnapshot(job, parts)), ...report }
  } finally {
    await rm(directory, { recursive: true, force: true })
  }
}

const isSource = (input: BuildInput): input is Source =>
  "read" in input && typeof input.read === "function" && "repeatable" in input
