/**
 * Shards of a root that is a directory of this machine: opened where they lie, without a copy.
 *
 * Each file is read once and compared with its checksum. What was found sound is not read again as long as
 * its ETag is the same, which in a local store is made of size, time of modification and inode. A shard that
 * is opened for the first time may be read in ranges before that, each of which has a checksum of its own.
 */
import { isVecsnapError, notFound } from "../../errors.js"
import { localDirectory, type ShardSource } from "../../shards/source.js"
import { assertSha256, assertSize } from "../../snapshot/content.js"
import {
  neededFiles,
  type SnapshotShard,
  type StoredFile,
  shardFileKey,
  shardFiles,
} from "../../snapshot/snapshot.js"
import { sha256OfBytes, sha256OfFile } from "../../storage/checksum.js"
import type { ObjectStore } from "../../storage/store.js"

/** A store whose objects are files. */
export type FileStore = ObjectStore & Required<Pick<ObjectStore, "filePath">>

export const hasFiles = (store: ObjectStore): store is FileStore => store.filePath !== undefined

/** Files that are remembered, over all snapshots that a reader meets while it lives. */
const SOUND_MAX = 2 ** 16

export interface InPlaceShards {
  /**
   * The directory that has the shard's files, all of them sound. Throws `NotFound` or `Corrupt`, naming the
   * file that is not.
   */
  locate(shard: SnapshotShard, signal?: AbortSignal): Promise<string>
  /** Whether all files of the shard were found sound before. */
  isSound(shard: SnapshotShard): boolean
  /** The shard's files in ranges, of which only what is read is compared with its checksums. */
  inRanges(shard: SnapshotShard): ShardSource
  /** Has the files of a shard read again when they are next asked for. */
  forget(shard: SnapshotShard): void
}

export function createInPlaceShards(store: FileStore): InPlaceShards {
  /** ETags of files that were read and found sound, by key. */
  const sound = new Map<string, string>()

  async function check(
    shard: number,
    { key, size, sha256 }: StoredFile,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    const info = await store.head(key, { signal })
    if (info === undefined) throw missingFile(store, key, shard)
    if (sound.get(key) === info.etag) return
    assertSize(key, info.size, size)
    assertSha256(key, await sha256OfFile(store.filePath(key)), sha256)
    sound.set(key, info.etag)
    // The one that was read longest ago: a cache by last use reserves memory for all when it is made, which
    // took a third of the time of opening a snapshot.
    if (sound.size > SOUND_MAX) for (const [oldest] of sound) return void sound.delete(oldest)
  }

  async function locate(shard: SnapshotShard, signal?: AbortSignal): Promise<string> {
    const files = shardFiles({ ...shard, files: neededFiles(shard) })
    await Promise.all(files.map((file) => check(shard.shard, file, signal)))
    return store.filePath(shard.folder)
  }

  /** Runs a read of a file; if that is not there at all, its snapshot may have been removed. */
  async function unlessMissing<T>(shard: SnapshotShard, name: string, read: () => Promise<T>): Promise<T> {
    try {
      return await read()
    } catch (error) {
      const key = shardFileKey(shard, name)
      if (!isVecsnapError(error, "Corrupt") || (await store.head(key)) !== undefined) throw error
      throw missingFile(store, key, shard.shard)
    }
  }

  return {
    locate,
    isSound: (shard) =>
      shardFiles({ ...shard, files: neededFiles(shard) }).every(({ key }) => sound.has(key)),
    inRanges(shard) {
      const local = localDirectory(store.filePath(shard.folder))
      return {
        name: local.name,
        isLocal: false,
        localDir: () => locate(shard),
        async read(name, ranges, options = {}) {
          // What has no checksums of its own is compared as a whole.
          if (options.sums === undefined) await locate(shard, options.signal)
          return unlessMissing(shard, name, () => local.read(name, ranges, options))
        },
        async readFile(name, options) {
          const bytes = await unlessMissing(shard, name, () => local.readFile(name, options))
          const { sha256 } = shard.files.find((file) => file.name === name) ?? {}
          assertSha256(shardFileKey(shard, name), sha256OfBytes(bytes), sha256)
          return bytes
        },
      }
    },
    forget(shard) {
      for (const { key } of shardFiles(shard)) sound.delete(key)
    },
  }
}

/** What there is to say of a file that a manifest lists and storage does not have. */
export function missingFile(store: ObjectStore, key: string, shard: number): Error {
  const message = `${store.url} has no ${key}, which the manifest lists for shard ${shard}`
  return notFound(message, { url: store.url, key, shard })
}
