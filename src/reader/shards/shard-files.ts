/**
 * The files of shards on the local disk: where they lie if the root is a directory, else found in the disk
 * cache or downloaded into it, checksummed file by file.
 */
import { createHash } from "node:crypto"
import { rm } from "node:fs/promises"
import { isAbsolute, join, relative, resolve } from "node:path"
import { abortable } from "../../async/abortable.js"
import { invalidInput, isVecsnapError, throwIfAborted, VecsnapError } from "../../errors.js"
import type { ShardReader } from "../../shards/backend.js"
import { localDirectory, type ShardSource } from "../../shards/source.js"
import { downloadIfThere } from "../../snapshot/content.js"
import {
  neededFiles,
  type SnapshotShard,
  type StoredFile,
  shardBytes,
  shardFiles,
} from "../../snapshot/snapshot.js"
import { sha256OfFile } from "../../storage/checksum.js"
import type { ObjectStore } from "../../storage/store.js"
import { makeTempDir } from "../../storage/temp-dir.js"
import type { Telemetry } from "../report/telemetry.js"
import type { OpenOptions } from "../types.js"
import { type Claim, type Content, createDiskCache, type DiskCache } from "./disk-cache.js"
import { createInPlaceShards, hasFiles, missingFile } from "./in-place.js"
import { createRangedFiles } from "./ranged-files.js"
import type { OpenedShard } from "./shard-cache.js"

/**
 * Name of a shard's content: equal for equal files, whichever run or root they are in. Where their checksums
 * are not known, their folder and sizes stand for them, since what lies in a folder never changes.
 */
export function contentKey(shard: SnapshotShard): string {
  const { folder } = shard
  const hash = createHash("sha256")
  for (const { name, size, sha256 = `${folder} ${size}` } of neededFiles(shard))
    hash.update(`${name}\0${sha256}\n`)
  return hash.digest("hex").slice(0, 40)
}

/** Throws `InvalidInput` for a bound that is not one, and an unknown `whenCacheFails`. */
export function assertCacheOptions(options: OpenOptions<unknown>): void {
  const { cacheBytes, openShardBytes, idleSeconds, whenCacheFails = "fail", fetch = "auto" } = options
  for (const [option, value] of Object.entries({ cacheBytes, openShardBytes, idleSeconds })) {
    if (value !== undefined && !(value > 0)) {
      throw invalidInput(`option ${option} is ${value}, expected a number above 0`, { option, value })
    }
  }
  if (!["auto", "ranges", "whole"].includes(fetch)) {
    const message = `option fetch is ${JSON.stringify(fetch)}, expected "auto", "ranges" or "whole"`
    throw invalidInput(message, { option: "fetch", value: fetch })
  }
  if (whenCacheFails !== "fail" && whenCacheFails !== "temporary") {
    throw invalidInput(`option whenCacheFails is "${whenCacheFails}", expected "fail" or "temporary"`, {
      option: "whenCacheFails",
      value: whenCacheFails,
    })
  }
}

export interface ShardFilesOptions {
  readonly cacheDir: string
  /** Bound of the disk cache in bytes; see `createDiskCache` for the default. */
  readonly cacheBytes?: number | undefined
  /**
   * What happens when the cache directory cannot be written: an error (default), or a private temporary
   * directory.
   */
  readonly whenCacheFails?: "fail" | "temporary" | undefined
  /** "whole": through the disk cache, even if the root is a directory of this machine. */
  readonly fetch?: OpenOptions<unknown>["fetch"] | undefined
  /** With trusted keys, too, shards are copied before they are opened. */
  readonly trustedKeys?: OpenOptions<unknown>["trustedKeys"] | undefined
  /** Files of an untrusted root may change after they were compared with their checksums, unless copied. */
  readonly trust?: OpenOptions<unknown>["trust"] | undefined
  readonly telemetry: Pick<Telemetry, "download">
}

export interface ShardFiles {
  /**
   * The shard's files, downloaded and verified if they were not there; not evicted before they are released.
   */
  locate(entry: SnapshotShard, signal?: AbortSignal): Promise<Claim>
  /**
   * Opens a shard by `open`, which gets its files. They are released when it is closed. With `options.ranges`
   * one that is not there may be opened before it is downloaded, from ranges of its files.
   */
  openShard(
    entry: SnapshotShard,
    open: (source: ShardSource) => Promise<ShardReader>,
    options?: OpenFilesOptions,
  ): Promise<OpenedShard>
  /** Downloads a shard if it is not there. Returns whether it was downloaded. */
  fetch(entry: SnapshotShard, signal?: AbortSignal): Promise<boolean>
  /**
   * Reads the local copy of a shard and removes it if its checksums are off, so that it is downloaded again.
   * Others that have it open keep what they have. Returns whether a copy was removed.
   */
  drop(entry: SnapshotShard): Promise<boolean>
  /** Room for shards, in bytes: the bound of the disk cache; Infinity for those that are read in place. */
  maxBytes(): Promise<number>
  /** Releases what is still claimed, and removes the temporary directory. */
  close(): Promise<void>
  /** Shards downloaded so far. */
  readonly downloads: number
  /**
   * Why the cache directory could not be written, the last time that it could not; undefined if it always
   * could.
   */
  readonly problem: string | undefined
}

export interface OpenFilesOptions {
  readonly signal?: AbortSignal | undefined
  /** Whether what opens it can do without a local copy. Default false. */
  readonly ranges?: boolean | undefined
  /** Told true when a shard is open from ranges, and false when all of it had to be fetched for it. */
  readonly onRanges?: ((isRanged: boolean) => void) | undefined
}

/** With fewer bytes a shard is downloaded at once, unless ranges are asked for. */
const WHOLE_BYTES = 2 ** 20

/**
 * Contents that are being looked for or downloaded in this process, by their directory; settled ones are not
 * in it.
 */
const busy = new Map<string, Promise<void>>()

export function createShardFiles(store: ObjectStore, options: ShardFilesOptions): ShardFiles {
  const cacheDir = resolve(options.cacheDir)
  const shared = createDiskCache(cacheDir, options.cacheBytes)
  // Whoever can write to the root could change a file after it was compared with its checksum.
  const isGuarded = options.trust === "untrusted" || options.trustedKeys !== undefined
  const isCopied = options.fetch === "whole" || isGuarded
  const inPlace = !isCopied && hasFiles(store) ? createInPlaceShards(store) : undefined
  let temporary: Promise<DiskCache> | undefined
  let downloads = 0
  let problem: string | undefined

  /** The shard's files, and whether they had to be downloaded. */
  function obtain(
    entry: SnapshotShard,
    signal: AbortSignal | undefined,
  ): Promise<{ claim: Claim; downloaded: boolean }> {
    const content = contentOf(entry)
    return exclusively(join(cacheDir, content.name), signal, async () => {
      if (inPlace !== undefined) {
        const dir = await inPlace.locate(entry, signal)
        return { claim: { dir, release: async () => {} }, downloaded: false }
      }
      const found = await claimContent(content)
      if (found !== undefined) return { claim: found.claim, downloaded: false }
      const claim = await options.telemetry.download(entry.shard, shardBytes(entry), () =>
        download(entry, content, signal),
      )
      downloads++
      return { claim, downloaded: true }
    })
  }

  async function download(
    entry: SnapshotShard,
    content: Content,
    signal: AbortSignal | undefined,
  ): Promise<Claim> {
    const { claim } = await addContent(content, async (dir) => {
      const needed = shardFiles({ ...entry, files: neededFiles(entry) })
      for (const file of needed) await downloadFile(entry, file, join(dir, file.name), signal)
    })
    return claim
  }

  /** Adds a content to the cache, or to the temporary one if that cannot be written. */
  async function addContent(
    content: Content,
    fill: (dir: string) => Promise<void>,
  ): Promise<{ readonly claim: Claim; readonly cache: DiskCache }> {
    if (temporary === undefined) {
      try {
        return { claim: await shared.add(content, fill), cache: shared }
      } catch (error) {
        if (!isFaultIn(cacheDir, error)) throw error
        problem = error.message
        if (options.whenCacheFails !== "temporary") throw cacheFailed(cacheDir, error)
        temporary ??= makeTemporary()
      }
    }
    const cache = await temporary
    return { claim: await cache.add(content, fill), cache }
  }

  /** A content that is there, and in which cache. */
  async function claimContent(
    content: Content,
  ): Promise<{ readonly claim: Claim; readonly cache: DiskCache } | undefined> {
    for (const cache of [shared, await temporary]) {
      const claim = await cache?.claim(content)
      if (cache !== undefined && claim !== undefined) return { claim, cache }
    }
    return undefined
  }

  /** Whether a shard is to be read in ranges as long as it is not there. */
  function isRanged(entry: SnapshotShard): boolean {
    // Another process opens what is not trusted, from files.
    if (options.fetch === "whole" || options.trust === "untrusted") return false
    // Nothing but checksums tells that what was read now and what was read before are of one file.
    if (neededFiles(entry).some(({ sha256 }) => sha256 === undefined)) return false
    return options.fetch === "ranges" || shardBytes(entry) >= WHOLE_BYTES
  }

  async function openInPlace(
    source: ShardSource,
    open: (source: ShardSource) => Promise<ShardReader>,
    onRanges: OpenFilesOptions["onRanges"],
  ): Promise<OpenedShard> {
    let isWhole = false
    const localDir = (): Promise<string> => {
      isWhole = true
      onRanges?.(false)
      return source.localDir()
    }
    const reader = await open({ ...source, localDir })
    if (!isWhole) onRanges?.(true)
    return releasing(reader, async () => {})
  }

  async function openRanged(
    entry: SnapshotShard,
    open: (source: ShardSource) => Promise<ShardReader>,
    onRanges: OpenFilesOptions["onRanges"],
  ): Promise<OpenedShard> {
    const content = rangesOf(entry)
    const { claim, cache } = (await claimContent(content)) ?? (await addContent(content, async () => {}))
    const copies: Promise<Claim>[] = []
    const files = createRangedFiles({
      store,
      entry,
      cache,
      dir: claim.dir,
      async localDir() {
        onRanges?.(false)
        if (copies.length === 0) copies.push(obtain(entry, undefined).then((copy) => copy.claim))
        // Another one who asks may have more luck.
        return (
          await copies[0]!.catch((error) => {
            copies.length = 0
            throw error
          })
        ).dir
      },
    })
    const release = async (): Promise<void> => {
      await files.close()
      problem = files.problem ?? problem
      const copied = await Promise.allSettled(copies)
      for (const copy of copied) if (copy.status === "fulfilled") await copy.value.release()
      await claim.release()
      const whole = await cache.claim(contentOf(entry))
      if (whole === undefined) return
      // Of no use any more.
      await whole.release()
      await cache.leave(content)
    }
    try {
      const reader = await open(files.source)
      // Some shards take a copy all the same.
      if (copies.length === 0) onRanges?.(true)
      return releasing(reader, release)
    } catch (error) {
      await release()
      throw error
    }
  }

  async function makeTemporary(): Promise<DiskCache> {
    try {
      return createDiskCache(await makeTempDir(undefined, "vecsnap-cache"), options.cacheBytes)
    } catch (error) {
      temporary = undefined
      throw error
    }
  }

  async function downloadFile(
    entry: SnapshotShard,
    file: StoredFile,
    path: string,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    if (await downloadIfThere(store, file, path, { signal })) return
    throw missingFile(store, file.key, entry.shard)
  }

  return {
    async locate(entry, signal) {
      return (await obtain(entry, signal)).claim
    },
    async openShard(entry, open, { signal, ranges = false, onRanges } = {}) {
      if (inPlace !== undefined && ranges && isRanged(entry) && !inPlace.isSound(entry)) {
        return openInPlace(inPlace.inRanges(entry), open, onRanges)
      }
      const isAway = inPlace === undefined && ranges && isRanged(entry)
      const found = isAway ? await claimContent(contentOf(entry)) : undefined
      if (isAway && found === undefined) {
        throwIfAborted(signal)
        return openRanged(entry, open, onRanges)
      }
      const claim = found?.claim ?? (await obtain(entry, signal)).claim
      try {
        return releasing(await open(localDirectory(claim.dir)), () => claim.release())
      } catch (error) {
        await claim.release()
        throw error
      }
    },
    async fetch(entry, signal) {
      const { claim, downloaded } = await obtain(entry, signal)
      await claim.release()
      return downloaded
    },
    drop(entry) {
      inPlace?.forget(entry)
      const content = contentOf(entry)
      return exclusively(join(cacheDir, content.name), undefined, async () => {
        let dropped = false
        for (const cache of [shared, await temporary]) {
          const claim = await cache?.claim(content)
          if (cache === undefined || claim === undefined) continue
          const intact = await isIntact(claim.dir, entry)
          await claim.release()
          if (intact) continue
          await cache.discard(content)
          dropped = true
        }
        return dropped
      })
    },
    maxBytes: async () => (inPlace === undefined ? shared.maxBytes() : Infinity),
    async close() {
      await shared.close()
      const cache = await temporary?.catch(() => undefined)
      await cache?.close()
      if (cache !== undefined) await rm(cache.directory, { recursive: true, force: true })
    },
    get downloads() {
      return downloads
    },
    get problem() {
      return problem
    },
  }
}

const contentOf = (entry: SnapshotShard): Content => ({ name: contentKey(entry), files: neededFiles(entry) })

/** Parts of its files. */
const rangesOf = (entry: SnapshotShard): Content => ({ name: `${contentKey(entry)}.ranges`, files: [] })

/** Runs `work` while nobody else in this process works on the same directory. */
async function exclusively<T>(
  dir: string,
  signal: AbortSignal | undefined,
  work: () => Promise<T>,
): Promise<T> {
  for (let other = busy.get(dir); other !== undefined; other = busy.get(dir)) await abortable(other, signal)
  const running = work()
  busy.set(
    dir,
    running.then(
      () => {},
      () => {},
    ),
  )
  try {
    return await running
  } finally {
    busy.delete(dir)
  }
}

/** Whether all files are what the manifest says, byte for byte. */
async function isIntact(dir: string, entry: SnapshotShard): Promise<boolean> {
  for (const { name, sha256 } of neededFiles(entry)) {
    if ((await sha256OfFile(join(dir, name)).catch(() => undefined)) !== sha256) return false
  }
  return true
}

/** Whether an error is one of the file system, about something in `dir`: not one of the store. */
function isFaultIn(dir: string, error: unknown): error is VecsnapError {
  if (!isVecsnapError(error)) return false
  const { path, code } = error.details
  if (typeof path !== "string" || typeof code !== "string") return false
  const inside = relative(dir, path)
  return !inside.startsWith("..") && !isAbsolute(inside)
}

/** Whatever is wrong with the directory, it is not the call that meets it which is: never `InvalidInput`. */
const cacheFailed = (dir: string, error: VecsnapError): VecsnapError =>
  new VecsnapError(
    "Unavailable",
    `the cache directory ${dir} cannot be used: ${error.message}; ` +
      'choose another with cacheDir, or go on without by whenCacheFails: "temporary"',
    { ...error.details, ...(error.tag === "InvalidInput" && { lasting: true }) },
    error,
  )

/** A shard whose files are released when it is closed. */
const releasing = (reader: ShardReader, release: () => Promise<void>): OpenedShard => ({
  reader,
  close: () => reader.close().finally(release),
})
