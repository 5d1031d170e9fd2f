/** Shards of a snapshot as files of a temporary directory: downloaded, used, and removed. */
import { mkdir, rm } from "node:fs/promises"
import { dirname } from "node:path"
import { isVecsnapError, notFound, VecsnapError } from "../errors.js"
import { assertSha256, assertSize } from "../manifest/content.js"
import type { ShardPool, ShardReader, ShardSpec } from "../shards/backend.js"
import { localDirectory } from "../shards/source.js"
import { type SnapshotShard, type StoredFile, shardFileKey } from "../snapshot/snapshot.js"
import { sha256OfFile } from "../storage/checksum.js"
import { fileError } from "../storage/files.js"
import type { CallOptions, ObjectStore } from "../storage/store.js"

/** Shards that lie on the local disk at a time. */
export const SHARDS_AT_A_TIME = 2

/** Memory for vectors of all open shards; a shard that does not fit is searched in its file. */
export const POOL_OPTIONS = { workers: SHARDS_AT_A_TIME, memoryBytes: 256 * 2 ** 20 }

/** The files of a shard with their keys, and where they lie below the shard's folder. */
export const shardFiles = (shard: SnapshotShard): readonly (StoredFile & { readonly name: string })[] =>
  shard.files.map((file) => ({ ...file, key: shardFileKey(shard, file.name) }))

/** Downloads an object and checks it. Throws `NotFound`, or `Corrupt`, naming it, with both values. */
export async function download(
  store: ObjectStore,
  { key, size, sha256 }: StoredFile,
  path: string,
  options?: CallOptions,
): Promise<void> {
  await mkdir(dirname(path), { recursive: true }).catch((error) => {
    throw fileError("make", dirname(path), error)
  })
  const info = await store.getFile(key, path, { ...options, expectedBytes: size })
  if (info === undefined) throw notFound(`${key} is missing`, { key })
  assertSize(key, info.size, size)
  assertSha256(key, await sha256OfFile(path), sha256)
}

/** Runs `use` with an empty directory, and removes it with all that is in it. */
export async function withDirectory<T>(dir: string, use: () => Promise<T>): Promise<T> {
  await mkdir(dir).catch((error) => {
    throw fileError("make", dir, error)
  })
  try {
    return await use()
  } finally {
    await rm(dir, { recursive: true, force: true })
  }
}

/** Opens a shard whose files lie in `dir` for the duration of `use`. What is thrown names the shard by its folder in the store. */
export async function withShard<T>(
  pool: ShardPool,
  dir: string,
  entry: SnapshotShard,
  spec: ShardSpec,
  use: (reader: ShardReader) => Promise<T>,
): Promise<T> {
  try {
    const reader = await pool.open(localDirectory(dir), spec, entry.index)
    try {
      return await use(reader)
    } finally {
      await reader.close()
    }
  } catch (error) {
    if (!isVecsnapError(error)) throw error
    const message = error.message.replaceAll(dir, entry.folder)
    throw new VecsnapError(error.tag, message, error.details, error)
  }
}
