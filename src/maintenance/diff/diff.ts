/**
 * What changed from one snapshot to another. Shards are downloaded a few at a time, and memory does not grow
 * with the number of rows. Shards of equal content under the same number are not read: the rows in them are
 * the same. Where rows have copies they are read unless all shards are equal, since a row may be in a shard
 * that changed and in one that did not.
 */

import { rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { inLanes } from "../../async/lanes.js"
import { assertWholeNumber, notFound } from "../../errors.js"
import { readArtifacts } from "../../manifest/artifacts.js"
import { readManifest, readPointer } from "../../manifest/current.js"
import { snapshotBytes } from "../../manifest/figures.js"
import { findManifest } from "../../manifest/history.js"
import type { Manifest, ShardEntry } from "../../manifest/manifest.js"
import { compareIds, type Id } from "../../records.js"
import { restoreStrategy } from "../../sharding/registry.js"
import type { Strategy } from "../../sharding/strategy.js"
import { assertTrust, createShardPool, type TrustOptions } from "../../shards/pools.js"
import { openerOf } from "../../shards/registry.js"
import { withShard } from "../../shards/with-shard.js"
import { download } from "../../snapshot/content.js"
import { shardFiles, shardSpecOf } from "../../snapshot/snapshot.js"
import { withDirectory } from "../../storage/files.js"
import { type Root, type RootOptions, withRoot } from "../../storage/root.js"
import type { ObjectStore } from "../../storage/store.js"
import { asTempFault, makeTempDir } from "../../storage/temp-dir.js"
import { type Buckets, bucketBits, createBuckets, ROWS_PER_BUCKET } from "../buckets.js"
import { ROW_PARTS, type RowPart } from "../row-hashes.js"
import { POOL_OPTIONS, SHARDS_AT_A_TIME } from "../shard-reading.js"
import { changedParameters, type ParameterChange } from "./parameters.js"
import { type CentroidShift, canReroute, centroidShifts, countElsewhere } from "./routing.js"
import { addRow, compareBuckets, type RowChange } from "./rows.js"

const LIMIT_DEFAULT = 10

export interface DiffOptions extends RootOptions, TrustOptions {
  /** Ids kept of each kind of change, the lowest; default 10. */
  readonly limit?: number | undefined
  /** Told every row that is not the same in both, in no particular order. */
  readonly onRow?: ((row: RowChange) => void | Promise<void>) | undefined
  /** Where the temporary directory is made; default: the system's. */
  readonly tempDir?: string | undefined
  /** Rows compared in memory at a time, about; default 100,000. */
  readonly rowsPerBucket?: number | undefined
  readonly signal?: AbortSignal | undefined
}

export interface SnapshotFigures {
  readonly run: string
  readonly createdAt: Date
  readonly rows: number
  readonly bytes: number
  /** Time that the build took until its manifest was written. */
  readonly buildMs: number
}

/** Rows that changed in one way: how many, and the lowest ids. */
export interface ChangedRows {
  readonly count: number
  readonly ids: readonly Id[]
}

export interface SnapshotDiff {
  readonly url: string
  readonly before: SnapshotFigures
  readonly after: SnapshotFigures
  readonly rows: {
    readonly added: ChangedRows
    readonly removed: ChangedRows
    /** Same id, other content; in how many of them each part differs. */
    readonly changed: ChangedRows & Readonly<Record<RowPart, number>>
    /** Rows of which no shard is the same, whether or not their content is. */
    readonly moved: ChangedRows
    /** Rows with the same content, moved or not. */
    readonly unchanged: number
  }
  readonly shards: {
    /** Shards with the same content under the same number. */
    readonly same: number
    /** Shards that were downloaded, of both snapshots. */
    readonly read: number
  }
  readonly routing: {
    /** For each centroid of `after` the nearest of `before`; absent unless both are clustered alike. */
    readonly centroids: readonly CentroidShift[] | undefined
    /**
     * Rows of `after` that the routing of `before` would send to another shard; absent where that can't be
     * told.
     */
    readonly elsewhere: number | undefined
  }
  readonly parameters: readonly ParameterChange[]
}

/**
 * Compares two snapshots of a root; each is a run id, or "live", or "previous": what was live before the live
 * one.
 *
 * Throws `NotFound` if one of them is not there, `Corrupt` if something of them is damaged, `Unavailable` if
 * the store does not answer, `InvalidInput` for what is no run id.
 */
export async function diffSnapshots(
  root: Root,
  beforeName: string,
  afterName: string,
  options: DiffOptions = {},
): Promise<SnapshotDiff> {
  return withRoot(root, options, async (store) => {
    const { limit = LIMIT_DEFAULT, onRow, tempDir, rowsPerBucket = ROWS_PER_BUCKET, signal } = options
    const { trust, isolation } = options
    assertTrust(options)
    assertWholeNumber("limit", limit, 0)
    assertWholeNumber("rowsPerBucket", rowsPerBucket, 1)
    const before = await readNamed(store, beforeName, signal)
    const after = await readNamed(store, afterName, signal)
    const arrays = {
      before: await readArtifacts(store, before, { signal }),
      after: await readArtifacts(store, after, { signal }),
    }
    const same = sameShards(before, after)
    const copied = before.copies !== undefined || after.copies !== undefined
    const allSame = same.size === before.shards.length && same.size === after.shards.length
    const leftOut: ReadonlySet<number> = copied && !allSame ? new Set() : same
    // Copies are where no routing sends a row.
    const oldRouting =
      !copied && canReroute(before, after)
        ? await restoreStrategy(before.sharding, arrays.before, before.schema)
        : undefined

    const dir = await makeTempDir(tempDir, "vecsnap-diff")
    try {
      const bits = bucketBits(Math.max(storedRows(before), storedRows(after)), rowsPerBucket)
      const how = { dir, bits, signal, trust, isolation }
      const left = await collectRows(store, before, leftOut, { ...how, name: "before" })
      const right = await collectRows(store, after, leftOut, { ...how, name: "after", oldRouting })
      const tally = createTally(limit)
      for (let bucket = 0; bucket < left.buckets.count; bucket++) {
        const changes = compareBuckets(await left.buckets.read(bucket), await right.buckets.read(bucket), {
          before: before.schema.id,
          after: after.schema.id,
        })
        for (const change of changes) {
          tally.add(change)
          await onRow?.(change)
        }
      }
      return {
        url: store.url,
        before: figuresOf(before),
        after: figuresOf(after),
        rows: tally.result(after.rows),
        shards: { same: same.size, read: left.shards + right.shards },
        routing: {
          centroids: centroidShifts(before, after, arrays),
          elsewhere: oldRouting && right.elsewhere,
        },
        parameters: changedParameters(before, after),
      }
    } catch (error) {
      throw asTempFault(tempDir ?? tmpdir(), dir, error)
    } finally {
      await rm(dir, { recursive: true, force: true })
    }
  })
}

/** The manifest of a run, of what is live, or of what was live before that. */
async function readNamed(
  store: ObjectStore,
  name: string,
  signal: AbortSignal | undefined,
): Promise<Manifest> {
  if (name !== "live" && name !== "previous")
    return readManifest(store, (await findManifest(store, name, { signal })).key, { signal })
  const pointer = await readPointer(store, { signal })
  const named = name === "live" ? pointer : pointer?.history.find(({ run }) => run !== pointer.run)
  if (named !== undefined) return readManifest(store, named.manifest, { signal })
  throw notFound(
    name === "live"
      ? `nothing is live at ${store.url}`
      : `${store.url} knows of no snapshot before the live one`,
    { url: store.url, snapshot: name },
  )
}

/**
 * Shards that hold the same rows in both. The fingerprint covers rows, dimension, metric, type of ids, fields
 * and backend.
 */
function sameShards(before: Manifest, after: Manifest): ReadonlySet<number> {
  const fingerprints = new Map(before.shards.map(({ shard, fingerprint }) => [shard, fingerprint]))
  const same = after.shards.filter(({ shard, fingerprint }) => fingerprints.get(shard) === fingerprint)
  return new Set(same.map(({ shard }) => shard))
}

interface Collected {
  readonly buckets: Buckets
  /** Shards that were read. */
  readonly shards: number
  /** Rows that the other snapshot's routing would send elsewhere. */
  readonly elsewhere: number
}

/** Puts the rows of all shards, apart from those to be left out, into buckets. */
async function collectRows(
  store: ObjectStore,
  manifest: Manifest,
  leaveOut: ReadonlySet<number>,
  options: TrustOptions & {
    readonly dir: string
    readonly name: string
    readonly bits: number
    readonly signal: AbortSignal | undefined
    readonly oldRouting?: Strategy | undefined
  },
): Promise<Collected> {
  const { dir, name, bits, signal, oldRouting } = options
  const spec = shardSpecOf(manifest.schema)
  const buckets = createBuckets(dir, name, bits)
  const wanted = manifest.shards.filter(({ shard }) => !leaveOut.has(shard))
  const pool = createShardPool(openerOf(manifest), POOL_OPTIONS, options)
  let elsewhere = 0

  const collectShard = async (entry: ShardEntry, signal: AbortSignal): Promise<void> => {
    const copy = join(dir, `${name}-shard-${entry.shard}`)
    await withDirectory(copy, async () => {
      for (const file of shardFiles(entry)) await download(store, file, join(copy, file.name), { signal })
      await withShard(pool, copy, entry, spec, async (reader) => {
        for await (const batch of reader.records()) {
          signal.throwIfAborted()
          for (const record of batch) await addRow(buckets, record, entry.shard, spec.fields)
          // Rows of a shard that is left out are there by the other snapshot's routing too.
          if (oldRouting) elsewhere += countElsewhere(oldRouting, batch, entry.shard, manifest, entry.folder)
        }
      })
    })
  }
  try {
    await inLanes(wanted, SHARDS_AT_A_TIME, collectShard, signal)
    await buckets.finish()
  } finally {
    await pool.close()
  }
  return { buckets, shards: wanted.length, elsewhere }
}

const storedRows = ({ rows, copies = 0 }: Manifest): number => rows + copies

const figuresOf = (manifest: Manifest): SnapshotFigures => ({
  run: manifest.run,
  createdAt: manifest.createdAt,
  rows: manifest.rows,
  bytes: snapshotBytes(manifest),
  buildMs: manifest.createdAt.getTime() - manifest.build.startedAt.getTime(),
})

/** Counts changes and keeps the lowest ids of each kind. */
function createTally(limit: number) {
  const kinds = {
    added: new LowestIds(limit),
    removed: new LowestIds(limit),
    changed: new LowestIds(limit),
    moved: new LowestIds(limit),
  }
  const parts: Record<RowPart, number> = { vector: 0, fields: 0, payload: 0 }
  return {
    add({ id, change, parts: differing = [], toShard }: RowChange): void {
      kinds[change].add(id)
      for (const part of ROW_PARTS) if (differing.includes(part)) parts[part]++
      if (change === "changed" && toShard !== undefined) kinds.moved.add(id)
    },
    result: (rowsAfter: number): SnapshotDiff["rows"] => ({
      added: kinds.added.result(),
      removed: kinds.removed.result(),
      changed: { ...kinds.changed.result(), ...parts },
      moved: kinds.moved.result(),
      unchanged: rowsAfter - kinds.added.count - kinds.changed.count,
    }),
  }
}

class LowestIds {
  count = 0
  readonly #limit: number
  #ids: Id[] = []

  constructor(limit: number) {
    this.#limit = limit
  }

  add(id: Id): void {
    this.count++
    this.#ids.push(id)
    // Sorting now and then keeps the cost per id small.
    if (this.#ids.length > 2 * this.#limit + 100) this.#ids = this.#lowest()
  }

  result(): ChangedRows {
    return { count: this.count, ids: this.#lowest() }
  }

  #lowest(): Id[] {
    return this.#ids.sort(compareIds).slice(0, this.#limit)
  }
}
