import { Command } from "commander"
import type { Manifest } from "../../src/index.js"
import { shardFigures, snapshotBytes } from "../../src/manifest/figures.js"
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
import { describeTimings } from "../timings.js"

const EXAMPLES = `
Examples:
  vecsnap info s3://vectors/words
  vecsnap info s3://vectors/words --snapshot k3x9q1z7w2ab
  vecsnap info ./.demo --json | jq .rows`

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
  addStorageOptions(command)
  addOutputOptions(command)
  return command.action((url: string | undefined, flags: StorageFlags & OutputFlags & SnapshotFlags) =>
    withStore(io, url, flags, async (store) => {
      const shown = await readShown(store, flags, io.signal)
      if (flags.json) printJson(io, infoDocument(store.url, shown))
      else io.stdout.write(renderInfo(store.url, shown, io))
    }),
  )
}

function infoDocument(url: string, { key, pointer, manifest }: ShownSnapshot): object {
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
    build: { ...build, startedAt: build.startedAt.toISOString() },
    custom: manifest.custom,
  }
}

function renderInfo(url: string, { pointer, manifest }: ShownSnapshot, io: Io): string {
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
