/**
 * Checks of one snapshot. What several snapshots share is checked once; all faults are found, not just the
 * first.
 */
import { mkdir } from "node:fs/promises"
import { join } from "node:path"
import { inLanes } from "../../async/lanes.js"
import { corrupt, isVecsnapError, notFound } from "../../errors.js"
import { findMissing } from "../../manifest/files.js"
import { decodeLocatorIndex, hashOfId } from "../../manifest/locator.js"
import { restoreStrategy } from "../../sharding/registry.js"
import type { ShardOpener, ShardPool } from "../../shards/backend.js"
import { createShardPool, type TrustOptions } from "../../shards/pools.js"
import { backendByName, openerOf } from "../../shards/registry.js"
import { withShard } from "../../shards/with-shard.js"
import { readCodes } from "../../snapshot/codes.js"
import { assertSize, download } from "../../snapshot/content.js"
import type { SnapshotFormat } from "../../snapshot/format.js"
import {
  type LocatorEntry,
  type Snapshot,
  type SnapshotShard,
  type StoredFile,
  shardFileKey,
  shardFiles,
  shardSpecOf,
  snapshotFiles,
  strategyContextOf,
} from "../../snapshot/snapshot.js"
import { sha256OfBytes } from "../../storage/checksum.js"
import { withDirectory } from "../../storage/files.js"
import type { ObjectStore } from "../../storage/store.js"
import type { SnapshotCodes } from "../../vectors/cells/codebook.js"
import type { NpyArray } from "../../vectors/npy.js"
import { type Buckets, bucketBits, createBuckets, ROWS_PER_BUCKET } from "../buckets.js"
import { POOL_OPTIONS, SHARDS_AT_A_TIME } from "../shard-reading.js"
import { checkIds, encodeShardRow } from "./ids.js"
import { checkRecords } from "./shard.js"

/** HEAD requests in flight at a time. */
const HEADS = 32

/**
 * Something that is missing or damaged: the object, and a sentence that names it, what was found and what was
 * expected.
 */
export interface Found {
  readonly key: string
  readonly message: string
}

export interface SnapshotCheck {
  readonly key: string
  /** Absent if it can't be read. */
  readonly snapshot: Snapshot | undefined
  readonly faults: readonly Found[]
}

/** What was looked at, each thing counted once. */
export interface Checked {
  readonly objects: number
  /** Bytes of these objects, as the manifests have them. */
  readonly bytes: number
  readonly shards: number
  readonly rows: number
}

export interface Verifier {
  /**
   * Checks the snapshot that is described under this key. Throws `Unavailable` if the store fails, never for
   * damage.
   */
  check(key: string): Promise<SnapshotCheck>
  checked(): Checked
  /** Ends worker threads. The directory is the caller's. */
  close(): Promise<void>
}

export interface VerifierOptions extends TrustOptions {
  /** Whether contents are read, and not only looked for. */
  readonly deep: boolean
  /** An empty directory, for shards that are being read and for ids. */
  readonly dir: string
  /** Is given a manifest before anything is made of it; throws `Corrupt` if it is not believed. */
  readonly believe?: ((bytes: Uint8Array, key: string) => void) | undefined
  readonly signal: AbortSignal | undefined
}

interface ShardCheck {
  readonly faults: readonly Found[]
  /** Absent if the shard could not be read. */
  readonly ids: Buckets | undefined
  readonly homeRows?: number | undefined
}

interface CodesCheck {
  readonly codes: SnapshotCodes | undefined
  /** Whether that is what the snapshot has: not where it is damaged or missing. */
  readonly isSound: boolean
  readonly fault?: Found | undefined
}

export function createVerifier(
  store: ObjectStore,
  format: SnapshotFormat,
  { deep, dir, believe, signal, ...trust }: VerifierOptions,
): Verifier {
  const files = new Map<string, Promise<Found | undefined>>()
  const shards = new Map<string, ShardCheck>()
  const counted = { objects: new Map<string, number>(), shards: new Map<string, number>() }
  const pools = new Map<ShardOpener, ShardPool>()
  let directories = 0

  const newDirectory = (): string => join(dir, String(directories++))

  function poolOf(opener: ShardOpener): ShardPool {
    const known = pools.get(opener)
    if (known !== undefined) return known
    const pool = createShardPool(opener, POOL_OPTIONS, trust)
    pools.set(opener, pool)
    return pool
  }

  /** Whether an object is there, with its size. Asked once per object. */
  function present(file: StoredFile): Promise<Found | undefined> {
    const { key, size } = file
    const name = `${key} ${size}`
    const known = files.get(name)
    if (known !== undefined) return known
    counted.objects.set(key, size)
    const check = findMissing(store, file, { signal }).then(
      (missing) => missing && { key, message: `${key} ${missing.problem}` },
    )
    files.set(name, check)
    return check
  }

  async function check(key: string): Promise<SnapshotCheck> {
    counted.objects.set(key, 0)
    let snapshot: Snapshot
    try {
      const check = believe && ((bytes: Uint8Array) => believe(bytes, key))
      snapshot = await format.readSnapshot(store, key, { check, signal })
    } catch (error) {
      if (!isFault(error)) throw error
      const message = isVecsnapError(error, "NotFound") ? `${key} is missing` : error.message
      return { key, snapshot: undefined, faults: [{ key, message }] }
    }
    const missing = await inLanes(snapshotFiles(snapshot), HEADS, present, signal)
    const faults = missing.filter((fault) => fault !== undefined)
    const absent = new Set(faults.map((fault) => fault.key))
    for (const { folder, rows } of snapshot.shards) counted.shards.set(folder, rows)

    faults.push(...(await checkRouting(key, snapshot, absent)))
    const codes = await checkCodes(snapshot, absent)
    if (codes.fault) faults.push(codes.fault)
    if (deep) faults.push(...(await checkContents(key, snapshot, absent, codes)))
    else if (snapshot.locator && !absent.has(snapshot.locator.key))
      faults.push(...(await checkLocatorIndex(snapshot.locator, snapshot.rows)))
    return { key, snapshot, faults }
  }

  /** The strategy can be restored from its artifacts. */
  async function checkRouting(
    key: string,
    snapshot: Snapshot,
    absent: ReadonlySet<string>,
  ): Promise<readonly Found[]> {
    const arrays: Record<string, NpyArray> = {}
    const faults: Found[] = []
    for (const artifact of snapshot.artifacts) {
      if (absent.has(artifact.key)) continue
      const fault = await faultIn(artifact.key, async () => {
        Object.assign(arrays, await format.readArtifacts(store, { artifacts: [artifact] }, { signal }))
      })
      if (fault) faults.push(fault)
    }
    if (faults.length > 0 || snapshot.artifacts.some((artifact) => absent.has(artifact.key))) return faults
    try {
      await restoreStrategy(snapshot.sharding, arrays, strategyContextOf(snapshot))
    } catch (error) {
      if (!isFault(error)) throw error
      faults.push({ key, message: `${key} has a routing that can't be restored: ${error.message}` })
    }
    return faults
  }

  /** The codebook can be read; it is small. */
  async function checkCodes(snapshot: Snapshot, absent: ReadonlySet<string>): Promise<CodesCheck> {
    const { codes } = snapshot
    if (codes === undefined || absent.has(codes.key))
      return { codes: undefined, isSound: codes === undefined }
    let read: SnapshotCodes | undefined
    const fault = await faultIn(codes.key, async () => {
      read = await readCodes(store, snapshot, { signal })
    })
    return { codes: read, isSound: fault === undefined, fault }
  }

  /** The index of the locator can be read; it is small. */
  async function checkLocatorIndex(locator: LocatorEntry, rows: number): Promise<readonly Found[]> {
    const { key, size, index } = locator
    const fault = await faultIn(key, async () => {
      const range = { start: size - index.size, end: size }
      const object = await store.get(key, { range, signal })
      if (object === undefined) throw notFound(`${key} is missing`, { key })
      assertSize(key, object.size, size)
      const actual = sha256OfBytes(object.body)
      if (actual !== index.sha256) {
        throw corrupt(
          `the index of ${key} is damaged: its SHA-256 is ${actual}, the manifest says ${index.sha256}`,
        )
      }
      decodeLocatorIndex(object.body, locator, rows)
    })
    return fault ? [fault] : []
  }

  /** Every byte of every file, every row of every shard, and the ids of all shards together. */
  async function checkContents(
    key: string,
    snapshot: Snapshot,
    absent: ReadonlySet<string>,
    codes: CodesCheck,
  ): Promise<readonly Found[]> {
    const faults: Found[] = []
    const readable: { shard: number; ids: Buckets }[] = []
    let homeRows = 0
    await inLanes(
      snapshot.shards,
      SHARDS_AT_A_TIME,
      async (entry, signal) => {
        const {
          faults: found,
          ids,
          homeRows: atHome,
        } = await checkShard(snapshot, entry, absent, codes, signal)
        faults.push(...found)
        homeRows += atHome ?? Number.NaN
        if (ids !== undefined) readable.push({ shard: entry.shard, ids })
      },
      signal,
    )
    // In the order of the manifest, whichever was done first.
    faults.sort((a, b) => (a.key < b.key ? -1 : a.key > b.key ? 1 : 0))
    if (!Number.isNaN(homeRows) && homeRows !== snapshot.rows) {
      const message = `${key} has ${snapshot.rows} rows, but its shards say that they are the home of ${homeRows}`
      faults.push({ key, message })
    }
    const scratch = newDirectory()
    await withDirectory(scratch, async () => {
      const { rows, copies, locator } = snapshot
      const path = join(scratch, "locator")
      let usable = locator !== undefined && !absent.has(locator.key)
      if (locator && usable) {
        const fault = await faultIn(locator.key, () => download(store, locator, path, { signal }))
        usable = fault === undefined
        if (fault) faults.push(fault)
      }
      const complete = readable.length === snapshot.shards.length
      const options = { name: `snapshot ${snapshot.run}`, dir: scratch, rows, copies, complete }
      const withLocator = { ...options, locator: locator && usable ? { entry: locator, path } : undefined }
      const fault = await faultIn(locator?.key ?? key, async () => {
        for (const { about, message } of await checkIds(readable, withLocator)) {
          faults.push({ key: about === "locator" ? locator!.key : key, message })
        }
      })
      if (fault) faults.push(fault)
    })
    return faults
  }

  async function checkShard(
    snapshot: Snapshot,
    entry: SnapshotShard,
    absent: ReadonlySet<string>,
    codes: CodesCheck,
    signal: AbortSignal,
  ): Promise<ShardCheck> {
    const { folder, files, rows, index } = entry
    const plain = shardSpecOf(snapshot.schema)
    const spec = shardSpecOf(snapshot.schema, codes.codes)
    const name = JSON.stringify([snapshot.backend, folder, files, rows, index, plain, snapshot.codes?.sha256])
    const known = shards.get(name)
    if (known !== undefined) return known
    const copy = newDirectory()
    const checked = await withDirectory(copy, async (): Promise<ShardCheck> => {
      const faults: Found[] = []
      for (const file of shardFiles(entry)) {
        if (absent.has(file.key)) continue
        const fault = await faultIn(file.key, () => download(store, file, join(copy, file.name), { signal }))
        if (fault) faults.push(fault)
      }
      if (faults.length > 0 || files.some((file) => absent.has(shardFileKey(entry, file.name))))
        return { faults, ids: undefined }
      const idsDir = newDirectory()
      await mkdir(idsDir)
      const ids = createBuckets(idsDir, "ids", bucketBits(rows, ROWS_PER_BUCKET))
      // Of files that cannot be what they are made of, once more: only where there is all to compare with.
      const recheck = snapshot.opener || !codes.isSound ? undefined : backendByName(snapshot.backend).check
      const vectors = new Float32Array(recheck ? rows * spec.dim : 0)
      let read = 0
      let homeRows: number | undefined
      const fault = await faultIn(folder, async () => {
        await withShard(poolOf(openerOf(snapshot)), copy, entry, spec, async (reader) => {
          const problems = await checkRecords(folder, reader, rows, spec, (record) => {
            if (recheck && read < rows) vectors.set(record.vector, read * spec.dim)
            read++
            return ids.add(hashOfId(record.id)!, encodeShardRow(record, spec.fields))
          })
          faults.push(...problems.map((message) => ({ key: folder, message })))
        })
        if (!recheck || faults.length > 0) return
        const checked = await recheck(copy, { rows, vectors }, spec, index)
        homeRows = checked.homeRows
        faults.push(...checked.problems.map((problem) => ({ key: folder, message: `${folder}: ${problem}` })))
      })
      await ids.finish()
      return fault ? { faults: [...faults, fault], ids: undefined } : { faults, ids, homeRows }
    })
    shards.set(name, checked)
    return checked
  }

  return {
    check,
    checked: () => ({
      objects: counted.objects.size,
      bytes: sum(counted.objects.values()),
      shards: counted.shards.size,
      rows: sum(counted.shards.values()),
    }),
    async close() {
      await Promise.all(Array.from(pools.values(), (pool) => pool.close()))
    },
  }
}

const sum = (values: Iterable<number>): number => [...values].reduce((total, value) => total + value, 0)

/**
 * Whether an error tells of stored data that is missing or damaged, rather than of the store or of this
 * machine.
 */
const isFault = (error: unknown): error is Error =>
  isVecsnapError(error, "Corrupt") || isVecsnapError(error, "NotFound")

/** What a check of the object finds wrong, if anything. What else it throws is thrown on. */
async function faultIn(key: string, check: () => Promise<void>): Promise<Found | undefined> {
  try {
    await check()
    return undefined
  } catch (error) {
    if (!isFault(error)) throw error
    return { key, message: error.message }
  }
}
