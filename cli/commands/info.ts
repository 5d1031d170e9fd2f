import { Command } from "commander"
import { shardFigures, snapshotBytes } from "../../src/manifest/figures.js"
import { loadTrustedKeys } from "../../src/snapshot/signatures/keys.js"
import { judgeSignatures } from "../../src/snapshot/signatures/verdict.js"
import type { Snapshot } from "../../src/snapshot/snapshot.js"
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
  { format, key, snapshot, publishedAt, fellBack }: ShownSnapshot,
  signature: ShownSignature,
): object {
  const { schema, sharding, build } = snapshot
  return {
    url,
    format,
    run: snapshot.run,
    manifest: key,
    live: publishedAt !== undefined,
    createdAt: snapshot.createdAt.toISOString(),
    publishedAt: publishedAt?.toISOString() ?? null,
    base: snapshot.base ?? null,
    rows: snapshot.rows,
    copies: snapshot.copies ?? 0,
    bytes: snapshotBytes(snapshot),
    dim: schema.dim,
    metric: schema.metric,
    idType: schema.id.type,
    fields: schema.fields.map(({ name, type }) => ({ name, type })),
    model: schema.model ?? null,
    backend: snapshot.backend,
    strategy: sharding.strategy,
    options: sharding.options,
    shards: shardFigures(snapshot),
    locator: snapshot.locator === undefined ? null : { bytes: snapshot.locator.size },
    recall: snapshot.recall ?? null,
    signature,
    build: build === undefined ? null : { ...build, startedAt: build.startedAt.toISOString() },
    custom: snapshot.custom ?? {},
    notes: notesOf({ snapshot, fellBack }),
  }
}

const notesOf = ({ snapshot, fellBack }: Pick<ShownSnapshot, "snapshot" | "fellBack">): readonly string[] => [
  ...(fellBack === undefined ? [] : [fellBack]),
  ...(snapshot.notes ?? []),
]

function renderInfo(url: string, shown: ShownSnapshot, signature: ShownSignature, io: Io): string {
  const { format, snapshot, publishedAt } = shown
  const { schema, build, custom: given = {} } = snapshot
  const fields = schema.fields.map(({ name, type }) => `${name}:${type}`).join(", ")
  const custom = Object.entries(given).map(([key, value]) => `${key}=${formatValue(value)}`)
  const careful = [...notesOf(shown), ...(snapshot.recall?.notes ?? [])]
  const paint = paintFor(io.stdout, io.env)
  return `${paint.bold(`snapshot ${snapshot.run}`)} at ${url}\n${renderFacts(
    [
      ["format", format],
      ["rows", describeRows(snapshot)],
      ["vectors", `${schema.dim} dimensions, ${schema.metric}`],
      ["ids", describeIds(snapshot)],
      ["fields", formatValue(fields) || undefined],
      ["model", schema.model === undefined ? undefined : formatValue(schema.model)],
      ["strategy", describeStrategy(snapshot)],
      ["shards", describeShards(snapshot)],
      ["backend", snapshot.backend],
      ["size", formatBytes(snapshotBytes(snapshot))],
      ["recall", snapshot.recall === undefined ? "not measured" : describeRecall(snapshot.recall)],
      ["targets", snapshot.recall && describeTargets(snapshot.recall)],
      ["careful", careful.map(formatValue).join("; ") || undefined],
      ["built", `${formatTime(snapshot.createdAt)}${build ? `, by ${formatValue(build.tool)}` : ""}`],
      ["published", publishedAt === undefined ? "not live" : formatTime(publishedAt)],
      ["signed", describeSigned(signature)],
      ["replaced", snapshot.base === undefined ? undefined : `run ${snapshot.base}`],
      ["left out", describeLeftOut(snapshot)],
      ["build time", build && describeTimings(build.timingsMs)],
      ["custom", custom.join(", ") || undefined],
    ],
    paint,
  )}`
}

function describeRows({ rows, copies }: Snapshot): string {
  if (copies === undefined) return formatCount(rows)
  return `${formatCount(rows)}, stored x${((rows + copies) / rows).toFixed(2)}`
}

const describeIds = ({ schema, locator }: Snapshot): string =>
  locator === undefined
    ? `${schema.id.type}, no locator: lookups ask every shard`
    : `${schema.id.type}, located in ${formatBytes(locator.size)}`

function describeStrategy({ sharding }: Snapshot): string {
  const options = Object.entries(sharding.options).map(([name, value]) => `${name} ${formatValue(value)}`)
  return [sharding.strategy, ...options].join(", ")
}

function describeShards(snapshot: Snapshot): string {
  const { total, empty, reused, smallestRows, largestRows, skew } = shardFigures(snapshot)
  const notes = [empty > 0 ? `${empty} empty` : "", reused > 0 ? `${reused} reused` : ""].filter(Boolean)
  const counted = `${formatCount(total)}${notes.length > 0 ? ` (${notes.join(", ")})` : ""}`
  return `${counted}, ${formatCount(smallestRows)} to ${countOf(largestRows, "row")}, skew ${skew.toFixed(2)}`
}

function describeLeftOut({ build }: Snapshot): string | undefined {
  if (build === undefined) return undefined
  const bad = build.skippedRows > 0 ? countOf(build.skippedRows, "bad row") : undefined
  const duplicates = build.duplicateRows > 0 ? countOf(build.duplicateRows, "duplicate") : undefined
  return [bad, duplicates].filter(Boolean).join(", ") || undefined
}
