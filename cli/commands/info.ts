import { Command } from "commander"
import type { Manifest } from "../../src/index.js"
import { shardFigures, snapshotBytes } from "../../src/manifest/figures.js"
import { loadTrustedKeys } from "../../src/snapshot/signatures/keys.js"
import { judgeSignatures } from "../../src/snapshot/signatures/verdict.js"
import { type Io, printJson } from "../io.js"
import { readShown, type ShownSnapshot, withStore } from "../open.js"
import {
  addOutputOptions,
  addSnapshotOption,
  addStorageOptions,
  type OutputFlags,
  type SnapshotFlags,
  type StorageFlags,
} from "../options.js"
import { describeRecall, describeTargets } from "../recall.js"
import {
  countOf,
  formatBytes,
  formatCount,
  formatTime,
  formatValue,
  paintFor,
  renderFacts,
} from "../render.js"
import { addTrustedKeyOption, type TrustedKeyFlags, trustedKeys } from "../signing.js"
import { describeTimings } from "../timings.js"

const EXAMPLES = `
Examples:
  vecsnap info s3://vectors/words
  vecsnap info s3://vectors/words --snapshot k3x9q1z7w2ab
  vecsnap info ./.demo --json | jq .rows`

interface InfoFlags extends StorageFlags, OutputFlags, SnapshotFlags, TrustedKeyFlags {}

/**
 * `vecsnap info`: what a snapshot is, by default the live one, and how it was built. Reads pointer and
 * manifest only.
 */
export function infoCommand(io: Io): Command {
  const command = new Command("info")
    .description("say what a snapshot is: rows, dimension, strategy, sizes, build")
    .argument("[url]", "root of the snapshots; default: `to` of vecsnap.yaml")
    .addHelpText("after", EXAMPLES)
  addSnapshotOption(command)
  addTrustedKeyOption(command, "say whether this public key has signed it")
  addStorageOptions(command)
  addOutputOptions(command)
  return command.action((url: string | undefined, flags: InfoFlags) =>
    withStore(io, url, flags, async (store, config) => {
      const shown = await readShown(store, flags, io.signal)
      const signed = await judgeShown(shown, trustedKeys(flags, config))
      if (flags.json) printJson(io, infoDocument(store.url, shown, signed))
      else io.stdout.write(renderInfo(store.url, shown, signed, io))
    }),
  )
}

/** Who signed it, as it says, and what is to be thought of that. */
interface ShownSignature {
  readonly keys: readonly string[]
  /** Whether a trusted key has signed it; null where none were given. */
  readonly trusted: boolean | null
  /** Why it is not trusted. */
  readonly problem: string | null
}

async function judgeShown(
  { signature }: ShownSnapshot,
  given: ReturnType<typeof trustedKeys>,
): Promise<ShownSignature> {
  const keys = signature?.signatures.map(({ key }) => key) ?? []
  if (given === undefined) return { keys, trusted: null, problem: null }
  const verdict = judgeSignatures(signature, await loadTrustedKeys("trustedKeys", given))
  return verdict.valid
    ? { keys: verdict.by, trusted: true, problem: null }
    : { keys, trusted: false, problem: verdict.reason }
}

function describeSigned({ keys, trusted, problem }: ShownSignature): string | undefined {
  if (trusted === false) return `not trusted: it ${problem}`
  if (keys.length === 0) return undefined
  return `by key ${keys.join(", ")}${trusted ? ", which is trusted" : ", not checked: give --trusted-key"}`
}

function infoDocument(
  url: string,
  { key, pointer, manifest }: ShownSnapshot,
  signature: ShownSignature,
): object {
  const { schema, sharding, build } = manifest
  return {
    url,
    run: manifest.run,
    manifest: key,
    live: pointer !== undefined,
    createdAt: manifest.createdAt.toISOString(),
    publishedAt: pointer?.publishedAt.toISOString() ?? null,
    base: manifest.base ?? null,
    rows: manifest.rows,
    copies: manifest.copies ?? 0,
    bytes: snapshotBytes(manifest),
    dim: schema.dim,
    metric: schema.metric,
    idType: schema.id.type,
    fields: schema.fields.map(({ name, type }) => ({ name, type })),
    model: schema.model ?? null,
    backend: manifest.backend,
    strategy: sharding.strategy,
    options: sharding.options,
    shards: shardFigures(manifest),
    locator: manifest.locator === undefined ? null : { bytes: manifest.locator.size },
    recall: manifest.recall ?? null,
    signature,
    build: { ...build, startedAt: build.startedAt.toISOString() },
    custom: manifest.custom,
  }
}

function renderInfo(
  url: string,
  { pointer, manifest }: ShownSnapshot,
  signature: ShownSignature,
  io: Io,
): string {
  const { schema, build } = manifest
  const fields = schema.fields.map(({ name, type }) => `${name}:${type}`).join(", ")
  const custom = Object.entries(manifest.custom).map(([key, value]) => `${key}=${formatValue(value)}`)
  const paint = paintFor(io.stdout, io.env)
  return `${paint.bold(`snapshot ${manifest.run}`)} at ${url}\n${renderFacts(
    [
      ["rows", describeRows(manifest)],
      ["vectors", `${schema.dim} dimensions, ${schema.metric}`],
      ["ids", describeIds(manifest)],
      ["fields", formatValue(fields) || undefined],
      ["model", schema.model === undefined ? undefined : formatValue(schema.model)],
      ["strategy", describeStrategy(manifest)],
      ["shards", describeShards(manifest)],
      ["backend", manifest.backend],
      ["size", formatBytes(snapshotBytes(manifest))],
      ["recall", manifest.recall === undefined ? "not measured" : describeRecall(manifest.recall)],
      ["targets", manifest.recall && describeTargets(manifest.recall)],
      ["careful", manifest.recall?.notes.map(formatValue).join("; ") || undefined],
      ["built", `${formatTime(manifest.createdAt)}, by ${formatValue(build.tool)}`],
      ["published", pointer === undefined ? "not live" : formatTime(pointer.publishedAt)],
      ["signed", describeSigned(signature)],
      ["replaced", manifest.base === undefined ? undefined : `run ${manifest.base}`],
      ["left out", describeLeftOut(manifest)],
      ["build time", describeTimings(build.timingsMs)],
      ["custom", custom.join(", ") || undefined],
    ],
    paint,
  )}`
}

function describeRows({ rows, copies }: Manifest): string {
  if (copies === undefined) return formatCount(rows)
  return `${formatCount(rows)}, stored x${((rows + copies) / rows).toFixed(2)}`
}

const describeIds = ({ schema, locator }: Manifest): string =>
  locator === undefined
    ? `${schema.id.type}, no locator: lookups ask every shard`
    : `${schema.id.type}, located in ${formatBytes(locator.size)}`

function describeStrategy({ sharding }: Manifest): string {
  const options = Object.entries(sharding.options).map(([name, value]) => `${name} ${formatValue(value)}`)
  return [sharding.strategy, ...options].join(", ")
}

function describeShards(manifest: Manifest): string {
  const { total, empty, reused, smallestRows, largestRows, skew } = shardFigures(manifest)
  const notes = [empty > 0 ? `${empty} empty` : "", reused > 0 ? `${reused} reused` : ""].filter(Boolean)
  const counted = `${formatCount(total)}${notes.length > 0 ? ` (${notes.join(", ")})` : ""}`
  return `${counted}, ${formatCount(smallestRows)} to ${countOf(largestRows, "row")}, skew ${skew.toFixed(2)}`
}

function describeLeftOut({ build }: Manifest): string | undefined {
  const bad = build.skippedRows > 0 ? countOf(build.skippedRows, "bad row") : undefined
  const duplicates = build.duplicateRows > 0 ? countOf(build.duplicateRows, "duplicate") : undefined
  return [bad, duplicates].filter(Boolean).join(", ") || undefined
}
