/**
 * Shards of a root that is a directory of this machine: opened where they lie, without a copy.
 *
 * Each file is read once and compared with its checksum. What was found sound is not read again as long as
 * its ETag is the same, which in a local store is made of size, time of modification and inode.
 */
import { LRUCache } from "lru-cache"
import { notFound } from "../../errors.js"
import { assertSha256, assertSize } from "../../snapshot/content.js"
import { neededFiles, type SnapshotShard, type StoredFile, shardFiles } from "../../snapshot/snapshot.js"
import { sha256OfFile } from "../../storage/checksum.js"
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
  /** Has the files of a shard read again when they are next asked for. */
  forget(shard: SnapshotShard): void
}

export function createInPlaceShards(store: FileStore): InPlaceShards {
  /** ETags of files that were read and found sound, by key. */
  const sound = new LRUCache<string, string>({ max: SOUND_MAX })

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
  }

  return {
    async locate(shard, signal) {
      const files = shardFiles({ ...shard, files: neededFiles(shard) })
      await Promise.all(files.map((file) => check(shard.shard, file, signal)))
      return store.filePath(shard.folder)
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
