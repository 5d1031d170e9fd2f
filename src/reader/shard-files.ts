/**
 * The local disk cache: one directory per shard content, checksummed, shared by processes, kept across restarts.
 *
 * A shard is downloaded into a directory of its own under `.partial`, verified file by file, and renamed into place: a
 * directory under its final name is complete. Two processes that download the same shard race for the rename; whoever
 * loses uses the winner's.
 */
import { createHash, randomUUID } from "node:crypto"
import { mkdir, rename, rm, stat } from "node:fs/promises"
import { dirname, join } from "node:path"
import { corrupt, notFound, unavailable } from "../errors.js"
import { shardBytes } from "../manifest/figures.js"
import type { ShardEntry, ShardFile } from "../manifest/manifest.js"
import { sha256OfFile } from "../storage/checksum.js"
import type { ObjectStore } from "../storage/store.js"
import type { Telemetry } from "./telemetry.js"

/** Name of a shard's content: equal for equal files, whichever run or root they are in. */
export function contentKey({ files }: ShardEntry): string {
  const hash = createHash("sha256")
  for (const { name, sha256 } of files) hash.update(`${name}\0${sha256}\n`)
  return hash.digest("hex").slice(0, 40)
}

export interface ShardFiles {
  /** Directory that holds the shard's files, downloaded and verified if they were not there. */
  locate(entry: ShardEntry, signal?: AbortSignal): Promise<string>
  /** Shards downloaded so far. */
  readonly downloads: number
}

export function createShardFiles(
  store: ObjectStore,
  cacheDir: string,
  telemetry: Pick<Telemetry, "download">,
): ShardFiles {
  let downloads = 0
  return {
    async locate(entry, signal) {
      const dir = join(cacheDir, contentKey(entry))
      if (await isComplete(dir, entry)) return dir
      await telemetry.download(entry.shard, shardBytes(entry), () => download(entry, dir, signal))
      downloads++
      return dir
    },
    get downloads() {
      return downloads
    },
  }

  async function download(entry: ShardEntry, dir: string, signal: AbortSignal | undefined): Promise<void> {
    const partial = join(cacheDir, ".partial", `${process.pid}-${randomUUID()}`)
    try {
      await makeDirectory(partial)
      for (const file of entry.files) await downloadFile(entry, file, join(partial, file.name), signal)
      await moveInto(partial, dir, entry)
    } finally {
      await rm(partial, { recursive: true, force: true })
    }
  }

  async function downloadFile(
    entry: ShardEntry,
    { name, size, sha256 }: ShardFile,
    path: string,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    const key = `${entry.folder}/${name}`
    await mkdir(dirname(path), { recursive: true })
    const info = await store.getFile(key, path, { signal, expectedBytes: size })
    if (info === undefined) {
      throw notFound(`${store.url} has no ${key}, which the manifest lists for shard ${entry.shard}`, {
        url: store.url,
        key,
        shard: entry.shard,
      })
    }
    if (info.size !== size) {
      throw corrupt(`${key} has ${info.size} bytes, the manifest says ${size}`, {
        key,
        expected: size,
        actual: info.size,
      })
    }
    const actual = await sha256OfFile(path)
    if (actual !== sha256) {
      throw corrupt(`${key} is damaged: its SHA-256 is ${actual}, the manifest says ${sha256}`, {
        key,
        expected: sha256,
        actual,
      })
    }
  }
}

/** Whether a directory holds all files of the shard, at full size. Contents were verified before it got its name. */
async function isComplete(dir: string, { files }: ShardEntry): Promise<boolean> {
  for (const { name, size } of files) {
    const info = await stat(join(dir, name)).catch(() => undefined)
    if (info?.size !== size) return false
  }
  return true
}

async function makeDirectory(path: string): Promise<void> {
  try {
    await mkdir(path, { recursive: true })
  } catch (error) {
    throw unavailable(
      `the cache directory ${path} cannot be made: ${(error as Error).message}; choose another with cacheDir`,
      { path },
      error,
    )
  }
}

async function moveInto(partial: string, dir: string, entry: ShardEntry): Promise<void> {
  for (let attempt = 0; ; attempt++) {
    try {
      await rename(partial, dir)
      return
    } catch (error) {
      // A directory is there: another process was faster, or it is one that lacks files, which makes way.
      if (await isComplete(dir, entry)) return
      if (attempt === 2)
        throw unavailable(`the cache directory ${dir} cannot be replaced`, { path: dir }, error)
      await rename(dir, `${partial}-old`).catch(() => {})
      await rm(`${partial}-old`, { recursive: true, force: true })
    }
  }
}
