/** A snapshot of ours as one of another format, for programs that read that. */
import { join } from "node:path"
import { invalidInput, unsupported } from "../../errors.js"
import { type Logger, silentLogger } from "../../logger.js"
import { findSnapshot, formatByName, readLiveSnapshot } from "../../manifest/formats.js"
import { clusterType } from "../../sharding/cluster/options.js"
import { hasDescriptors } from "../../sharding/cluster/routing/routing.js"
import type { ShardingOptions } from "../../sharding/registry.js"
import type { TrustOptions } from "../../shards/pools.js"
import type { BackendName } from "../../shards/registry.js"
import type { SnapshotFormat, WrittenSnapshot } from "../../snapshot/format.js"
import type { Snapshot } from "../../snapshot/snapshot.js"
import { recordsSource } from "../../sources/records.js"
import type { StoreOptions } from "../../storage/open.js"
import { type Root, withRoot } from "../../storage/root.js"
import type { ObjectStore } from "../../storage/store.js"
import { withTempDir } from "../../storage/temp-dir.js"
import type { BuildInput } from "../../writer/job.js"
import { buildSnapshot } from "../build-snapshot.js"
import type { BuildOptions, BuildReport } from "../options.js"
import { openShardRecords, readShardRows } from "./records.js"

export interface ExportOptions extends TrustOptions {
  /** Root of the snapshots to be: of its own, that holds none of another format. */
  readonly to: Root
  /** Name of the format: "shardyfusion". */
  readonly format: string
  /** Run to export; default: what is live. */
  readonly snapshot?: string | undefined
  /** Default: that of the snapshot. */
  readonly backend?: BackendName | undefined
  /**
   * `s3://bucket/key` that the root will be at, by which the snapshot names its files; default: `to`, which
   * must then be such a URL.
   */
  readonly prefix?: string | undefined
  readonly tempDir?: string | undefined
  /** How to reach roots that are named by URLs. */
  readonly store?: StoreOptions | undefined
  readonly signal?: AbortSignal | undefined
  /** Told after each shard. */
  readonly onShard?: ((done: number, of: number) => void) | undefined
  readonly logger?: Logger | undefined
}

export interface ExportReport extends WrittenSnapshot {
  /** Root of the snapshot. */
  readonly url: string
  readonly format: string
  readonly backend: BackendName
  /** Whether rows were placed anew, since the format cannot route as the snapshot does. */
  readonly placedAnew: boolean
}

/**
 * Writes a snapshot in another format and makes it live there. Rows are written once each; where the layout
 * makes copies, or routes otherwise than by centroids, they are placed anew by centroid, as the layout
 * `plain` does. One shard at a time is in memory.
 *
 * Throws `NotFound` if there is no snapshot, `InvalidInput` for rows that the format cannot hold (naming the
 * record) or a root with snapshots of another format, `Unsupported` for what the format does not know or has
 * already, `Conflict` if another snapshot was published there meanwhile.
 */
export async function exportSnapshot(from: Root, options: ExportOptions): Promise<ExportReport> {
  const format = writableFormat(options.format)
  return withRoot(from, options, async (source) => {
    const { snapshot, format: sourceFormat } =
      options.snapshot === undefined
        ? await readLiveSnapshot(source, options)
        : await findSnapshot(source, options.snapshot, options)
    if (sourceFormat === format) {
      throw unsupported(
        `snapshot ${snapshot.run} at ${source.url} is of the format ${format.name} already: copy its root, or import it first`,
        { url: source.url, format: format.name },
      )
    }
    const artifacts = await sourceFormat.readArtifacts(source, snapshot, options)
    if (!hasDescriptors(artifacts)) return write(source, snapshot, sourceFormat, format, options, false)
    return withTempDir(options.tempDir, "vecsnap-export", async (dir) => {
      const root = join(dir, "plain")
      await placeAnew(source, snapshot, root, dir, options)
      return withRoot(root, {}, async (store) => {
        const plain = await readLiveSnapshot(store, options)
        return write(store, plain.snapshot, plain.format, format, options, true)
      })
    })
  })
}

/**
 * Builds a snapshot and writes it in another format. It is built in a temporary directory first, with the
 * layout `plain` where it is of the strategy `cluster`. Throws as {@link buildSnapshot} and
 * {@link exportSnapshot} do.
 */
export async function buildExported(
  input: BuildInput,
  build: Omit<BuildOptions, "to" | "publish" | "retention" | "gates" | "allow" | "force" | "reuse">,
  options: ExportOptions,
): Promise<{ readonly built: BuildReport; readonly exported: ExportReport }> {
  writableFormat(options.format)
  return withTempDir(options.tempDir ?? build.tempDir, "vecsnap-export", async (dir) => {
    const root = join(dir, "built")
    const sharding = build.sharding && plainly(build.sharding)
    const built = await buildSnapshot(input, {
      ...build,
      ...(sharding && { sharding }),
      to: root,
      locator: false,
    })
    return { built, exported: await exportSnapshot(root, options) }
  })
}

/** The layouts, of which none but `plain` can be told to others. */
function plainly(sharding: ShardingOptions): ShardingOptions {
  if (!("layout" in sharding || sharding.strategy === clusterType.name)) return sharding
  const { layout = "auto" } = sharding as { readonly layout?: string }
  if (layout !== "auto" && layout !== "plain")
    throw invalidInput(`the layout ${layout} cannot be told to other formats: use plain`, { layout })
  return { ...sharding, layout: "plain" } as ShardingOptions
}

function writableFormat(name: string): SnapshotFormat & Required<Pick<SnapshotFormat, "write">> {
  const format = formatByName(name)
  if (format?.write !== undefined) return format as SnapshotFormat & Required<Pick<SnapshotFormat, "write">>
  throw unsupported(`option format is "${name}", expected a format that snapshots can be exported to`, {
    format: name,
  })
}

async function write(
  source: ObjectStore,
  snapshot: Snapshot,
  sourceFormat: SnapshotFormat,
  format: ReturnType<typeof writableFormat>,
  options: ExportOptions,
  placedAnew: boolean,
): Promise<ExportReport> {
  const { signal, tempDir, trust, isolation, backend = snapshot.backend, logger = silentLogger } = options
  const artifacts = await sourceFormat.readArtifacts(source, snapshot, { signal })
  return withTempDir(tempDir, "vecsnap-export", async (dir) => {
    const records = openShardRecords(source, snapshot, dir, { signal, trust, isolation })
    try {
      const entries = new Map(snapshot.shards.map((entry) => [entry.shard, entry]))
      const content = {
        snapshot,
        artifacts,
        shards: [...entries.keys()],
        readShard: (shard: number) => readShardRows(records, entries.get(shard)!, snapshot.schema),
      }
      return await withRoot(options.to, options, async (store) => {
        const { prefix, onShard } = options
        const written = await format.write(store, content, { signal, tempDir, backend, prefix, onShard })
        logger.info({ run: written.run, format: format.name }, "a snapshot was exported")
        return { ...written, url: store.url, format: format.name, backend, placedAnew }
      })
    } finally {
      await records.close()
    }
  })
}

/** The rows of a snapshot, each once, in as many shards by centroid. */
async function placeAnew(
  source: ObjectStore,
  snapshot: Snapshot,
  to: string,
  dir: string,
  { signal, tempDir, trust, isolation, logger }: ExportOptions,
): Promise<void> {
  const { schema, sharding, backend, custom } = snapshot
  const records = openShardRecords(source, snapshot, join(dir, "shards"), { signal, trust, isolation })
  async function* rows() {
    for (const entry of snapshot.shards) for await (const batch of records.read(entry)) yield* batch
  }
  const fields = Object.fromEntries(schema.fields.map(({ name, type }) => [name, type]))
  try {
    await buildSnapshot(recordsSource(rows(), { fields, name: `snapshot ${snapshot.run}` }), {
      to,
      metric: schema.metric,
      backend,
      sharding: plainSharding(sharding),
      // Copies have the id of their row.
      onDuplicate: "first",
      locator: false,
      certificate: false,
      ...(custom && { custom }),
      ...(schema.model !== undefined && { model: schema.model }),
      tempDir,
      signal,
      logger,
    })
  } finally {
    await records.close()
  }
}

function plainSharding({ shards, options }: Snapshot["sharding"]): ShardingOptions {
  const { probes, seed, iterations, sampleRows } = options as Readonly<Record<string, number>>
  return {
    strategy: clusterType.name,
    shards,
    layout: "plain",
    probes,
    seed,
    iterations,
    sampleRows,
  } as ShardingOptions
}
