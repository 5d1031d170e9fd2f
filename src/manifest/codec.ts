/**
 * The wire form of manifests, versions 1 and 2. The second is the first with `requires`: names of what a
 * reader must know; a snapshot that needs none is written as version 1.
 *
 * Unknown keys are ignored, so that later versions may add some; an unknown `version`, or an unknown name in
 * `requires`, is refused. Everything that a program would act on (keys, file names, shard numbers, sums) is
 * checked here, once; what leaves this file is sound.
 */
import { z } from "zod"
import { corrupt } from "../errors.js"
import { FIELD_TYPES, type Json } from "../records.js"
import { MAX_SHARDS } from "../sharding/options.js"
import { isStrategyName } from "../sharding/registry.js"
import type { ShardBackend } from "../shards/backend.js"
import { BACKEND_NAMES, type BackendName, backendByName } from "../shards/registry.js"
import type { SigningKey } from "../snapshot/signatures/keys.js"
import { signStatement } from "../snapshot/signatures/verdict.js"
import { shardFileKey } from "../snapshot/snapshot.js"
import { isKey } from "../storage/rules.js"
import { METRICS } from "../vectors/metric.js"
import { quoted } from "../wording.js"
import {
  boundedList,
  boundedObject,
  count,
  decodeDocument,
  encodeDocument,
  runId,
  sha256,
  time,
} from "./document.js"
import { isSafeFileName, manifestKey, parseKey, shardFolder } from "./keys.js"
import { INDEX_MAX_BYTES } from "./locator.js"
import type { Manifest, ShardFile } from "./manifest.js"
import { signatureBlock } from "./signed.js"

/** Room for the most shards there may be, with the files that a LanceDB shard has. */
export const MANIFEST_MAX_BYTES = 128 * 2 ** 20
const FILE_NAME_MAX_BYTES = 255
const FILE_NAME_MAX_PARTS = 16

/** More than any model has; what is sized by it stays within memory. */
const DIM_MAX = 2 ** 20
/** Routing artifacts are read whole when a snapshot is opened. */
const ARTIFACTS_MAX_BYTES = 512 * 2 ** 20

/** Several arrays lie in one object; the id locator is listed by itself. */
const ARTIFACTS_MAX = 64
const FIELDS_MAX = 10_000
/** A LanceDB shard has ten or so. */
const FILES_MAX = 1000
/** Figures of recall, names of stages, facts of an index. */
const FIGURES_MAX = 10_000

// The list may grow after this module was loaded.
const isBackend = (name: unknown): boolean => (BACKEND_NAMES as readonly unknown[]).includes(name)

const json: z.ZodType<Json> = z.custom<Json>((value) => value !== undefined)

const file = z.object({ size: count, sha256 })
const routingFile = file.extend({
  key: z.string().refine((key) => parseKey(key)?.kind === "routing", "a routing key"),
})

/** Rows whose exact distances a search for ten neighbours computes; a reader has room for them. */
const BEST_MAX = 100_000
const share = z.number().min(0).max(1)
const shares = boundedList(share, MAX_SHARDS)
const targetFigures = z.object({
  target: share,
  probes: z.number().min(0),
  rows: count.optional(),
  recall: share,
  low: share,
  high: share,
})
const recall = z.object({
  queries: z.object({
    kind: z.enum(["rows", "given"]),
    count,
    seed: z.number().int(),
    demand: count.optional(),
    choseThresholds: z.boolean().optional(),
    choosing: count.optional(),
  }),
  rows: count,
  routedBy: z.enum(["vector", "row"]),
  probes: boundedList(z.number().int().min(1), MAX_SHARDS).refine(isFilled, "an empty list"),
  curves: boundedList(
    z.object({
      k: z.number().int().min(1),
      recall: shares,
      low: shares,
      high: shares,
      zero: shares,
      p05: shares,
    }),
    FIGURES_MAX,
  ).refine(isFilled, "an empty list"),
  stopping: z.enum(["rule", "fixed"]),
  targets: boundedList(targetFigures, FIGURES_MAX),
  cells: z
    .object({
      targets: boundedList(z.number().gt(0).lt(1), FIGURES_MAX),
      rows: boundedList(z.number().int().min(1), FIGURES_MAX),
      best: boundedList(z.number().int().min(1).max(BEST_MAX), FIGURES_MAX),
      recall: boundedList(share, FIGURES_MAX),
      rowsPerCell: z.number().min(1),
      stored: z.object({ count, targets: boundedList(targetFigures, FIGURES_MAX) }).optional(),
    })
    .optional(),
  insideShards: z.object({ mean: share, least: share }).optional(),
  notes: boundedList(z.string(), FIGURES_MAX),
})

const schema = z.object({
  run: runId,
  createdAt: time,
  base: runId.nullable(),
  // What is optional came after the first snapshots of this version.
  basePublication: count.optional(),
  schema: z.object({
    dim: z.number().int().min(1).max(DIM_MAX),
    metric: z.enum(METRICS),
    id: z.object({ type: z.enum(["string", "int64"]), wide: z.boolean() }),
    fields: boundedList(
      z.object({ name: z.string().min(1), type: z.enum(FIELD_TYPES), wide: z.boolean().default(false) }),
      FIELDS_MAX,
    ),
    model: z.string().nullable(),
  }),
  sharding: z.object({
    strategy: z.string().refine(isStrategyName, "a strategy that this version has"),
    shards: z.number().int().min(1).max(MAX_SHARDS),
    options: z.record(z.string(), z.unknown()),
    artifacts: boundedList(routingFile, ARTIFACTS_MAX),
  }),
  locator: routingFile.extend({ index: file }).optional(),
  codes: routingFile.optional(),
  backend: z.custom<BackendName>(isBackend, { error: () => `expected one of ${BACKEND_NAMES.join(", ")}` }),
  rows: count,
  copies: z.number().int().min(1).optional(),
  shards: boundedList(
    z.object({
      shard: count,
      rows: z.number().int().min(1),
      folder: z.string().refine(isShardFolder, "a shard's folder"),
      files: boundedList(
        file.extend({
          name: z.string().refine(isShardFileName, "a relative file name"),
          optional: z.boolean().optional(),
        }),
        FILES_MAX,
      ).refine(isFilled, "an empty list"),
      index: boundedObject(FIGURES_MAX).pipe(
        z.object({ kind: z.string() }).catchall(z.union([z.string(), z.number(), z.boolean()])),
      ),
      fingerprint: sha256,
    }),
    MAX_SHARDS,
  ),
  recall: recall.optional(),
  build: z.object({
    tool: z.string(),
    startedAt: time,
    skippedRows: count,
    duplicateRows: count,
    timingsMs: boundedObject(FIGURES_MAX).pipe(z.record(z.string(), z.number())),
    norms: z
      .object({ p05: z.number(), median: z.number(), p95: z.number(), zeroRows: count, rows: count })
      .optional(),
  }),
  custom: z.record(z.string(), json),
})
const KIND = {
  format: "vecsnap",
  version: 1,
  schema: schema.extend({ requires: z.array(z.string()).optional() }),
  requiring: { version: 2, known: ["rows-by-cell"] },
}

/** What a reader must know to open the shards. */
function requirementsOf({ backend, shards }: Pick<Manifest, "backend" | "shards">): readonly string[] {
  const names = new Set<string>()
  for (const { index } of shards) {
    for (const name of backendByName(backend).requires?.(index) ?? []) names.add(name)
  }
  return [...names]
}

const falls = (values: readonly number[]): boolean => values.some((value, i) => value < values[i - 1]!)

function isFilled(list: readonly unknown[]): boolean {
  return list.length > 0
}

// The local cache keeps files of its own beside those of a shard; their names start with a dot. Parts of
// names are as long as file systems take, and "C:" is a drive.
function isShardFileName(name: string): boolean {
  const isPart = (part: string): boolean =>
    !part.startsWith(".") && !part.includes(":") && Buffer.byteLength(part) <= FILE_NAME_MAX_BYTES
  const parts = name.split("/")
  return isSafeFileName(name) && parts.length <= FILE_NAME_MAX_PARTS && parts.every(isPart)
}

function isShardFolder(folder: string): boolean {
  const parsed = parseKey(`${folder}/file`)
  return parsed?.kind === "shard" && shardFolder(parsed.run, parsed.shard, parsed.attempt) === folder
}

/** Writes a manifest, signed by the keys if there are any; see `signed.ts`. */
export function encodeManifest(manifest: Manifest, keys: readonly SigningKey[] = []): Buffer {
  const { run, createdAt, base, basePublication, schema, sharding, artifacts, locator, codes } = manifest
  const { backend, rows, copies, shards, recall, build, custom } = manifest
  const body = {
    run,
    createdAt: createdAt.toISOString(),
    base: base ?? null,
    ...(basePublication !== undefined && { basePublication }),
    schema: { ...schema, model: schema.model ?? null },
    sharding: { ...sharding, artifacts },
    ...(locator && { locator }),
    ...(codes && { codes }),
    backend,
    rows,
    ...(copies !== undefined && { copies }),
    ...(recall && { recall }),
    build: { ...build, startedAt: build.startedAt.toISOString() },
    custom,
    shards,
  }
  const sign = (statement: Buffer) => signStatement(statement, keys)
  const further = keys.length === 0 ? undefined : (content: Buffer) => signatureBlock(content, sign)
  return encodeDocument(KIND, body, further, requirementsOf(manifest))
}

/**
 * Reads a manifest. Throws `Corrupt` if its bytes or its meaning are damaged and `Unsupported` if a later
 * version of vecsnap wrote it; both name `key`.
 */
export function decodeManifest(bytes: Uint8Array, key: string): Manifest {
  // Readers fetch no more than that; a build reads back what it is about to write.
  if (bytes.length > MANIFEST_MAX_BYTES)
    throw corrupt(`${key} has ${bytes.length} bytes, expected at most ${MANIFEST_MAX_BYTES}`, { key })
  const wire = decodeDocument(KIND, bytes, key)
  const { sharding, schema, base, locator, codes, requires = [], ...rest } = wire
  const { artifacts, ...description } = sharding
  const manifest: Manifest = {
    ...rest,
    base: base ?? undefined,
    basePublication: wire.basePublication,
    schema: { ...schema, model: schema.model ?? undefined },
    sharding: description,
    artifacts,
    locator,
    ...(codes && { codes }),
    shards: wire.shards as Manifest["shards"],
  }
  const unsaid = requirementsOf(manifest).find((name) => !requires.includes(name))
  if (unsaid !== undefined)
    throw corrupt(`${key} contradicts itself: its shards need ${unsaid}, which it does not require`, { key })
  const fault = findFault(manifest, key)
  if (fault !== undefined) throw corrupt(`${key} contradicts itself: ${fault}`, { key })
  return manifest
}

/** What a schema can't express: sums, order and ranges across the shards. */
function findFault(manifest: Manifest, key: string): string | undefined {
  const { run, createdAt, sharding, artifacts, locator, codes, shards, rows, copies = 0, recall } = manifest
  const backend = backendByName(manifest.backend)
  if (manifestKey(createdAt, run) !== key)
    return `it is the manifest of run ${run} of ${createdAt.toISOString()}`
  if (locator && !(locator.index.size >= 1 && locator.index.size <= Math.min(locator.size, INDEX_MAX_BYTES)))
    return `the index of its locator has ${locator.index.size} of ${locator.size} bytes`
  const artifactBytes = artifacts.reduce((sum, { size }) => sum + size, codes?.size ?? 0)
  if (artifactBytes > ARTIFACTS_MAX_BYTES)
    return `its routing artifacts and codebook have ${artifactBytes} bytes, expected at most ${ARTIFACTS_MAX_BYTES}`
  if (recall !== undefined) {
    const { probes, curves, cells } = recall
    if (probes.some((count, i) => i > 0 && count <= probes[i - 1]!))
      return "the probes of its recall do not rise"
    const lists = curves.flatMap((curve) => [curve.recall, curve.low, curve.high, curve.zero, curve.p05])
    const other = lists.find(({ length }) => length !== probes.length)
    const { targets = [], rows = [], best = [], recall: reached = [] } = cells ?? {}
    const ragged = [rows, best, reached].find((list) => list.length !== targets.length)
    if (ragged) return `its rule for cells has ${ragged.length} figures for ${targets.length} targets`
    if (targets.some((target, i) => i > 0 && target <= targets[i - 1]!) || falls(rows) || falls(best))
      return "its rule for cells does not rise with the targets"
    if (other) return `its recall has ${other.length} figures for ${probes.length} numbers of probes`
  }
  let previous = -1
  let sum = 0
  for (const { shard, rows, folder, files } of shards) {
    const fault = findFileFault(folder, files) ?? findUnknownFile(backend, files)
    if (fault !== undefined) return `shard ${shard} ${fault}`
    if (shard >= sharding.shards) return `it lists shard ${shard} of ${sharding.shards}`
    if (shard <= previous) return `shard ${shard} follows shard ${previous}`
    previous = shard
    sum += rows
  }
  if (sum === rows + copies) return undefined
  const said = copies === 0 ? `${rows}` : `${rows} and ${copies} copies`
  return `its shards have ${sum} rows in all, but it says ${said}`
}

/**
 * A file that a shard needs and that its backend has no use for: whatever it is there for, it is not one of
 * ours.
 */
function findUnknownFile(backend: ShardBackend, files: readonly ShardFile[]): string | undefined {
  const unknown = files.find(({ name, optional }) => optional !== true && !backend.knowsFile(name))
  if (unknown !== undefined)
    return `has the file ${quoted(unknown.name)}, which shards of ${backend.name} do not have`
  return files.every(({ optional }) => optional === true) ? "has optional files only" : undefined
}

/**
 * What of a shard's files cannot be: names that no key has, or that two files cannot have beside one another.
 */
function findFileFault(folder: string, files: readonly ShardFile[]): string | undefined {
  // As file systems see it that do not tell cases or forms of Unicode apart.
  const names = files.map(({ name }) => name.normalize("NFC").toLowerCase())
  const taken = new Set(names)
  if (taken.size < names.length) return "has two files of one name"
  for (const [i, name] of names.entries()) {
    if (!isKey(shardFileKey({ folder }, files[i]!.name))) return `has a file whose name is not part of a key`
    for (let end = name.lastIndexOf("/"); end > 0; end = name.lastIndexOf("/", end - 1))
      if (taken.has(name.slice(0, end))) return `has a file below another`
  }
  return undefined
}
