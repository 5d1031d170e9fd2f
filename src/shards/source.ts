/**
 * Where the files of one shard are, for a backend that opens it.
 */
import { open } from "node:fs/promises"
import { join } from "node:path"
import { corrupt, throwIfAborted } from "../errors.js"
import { errorCode, fileError, readRange } from "../storage/files.js"

/** The files of one shard: what its manifest says, for as long as the shard is open. */
export interface ShardSource {
  /** For messages: where the files are. */
  readonly name: string
  /** A local directory with all files of the shard. */
  localDir(): Promise<string>
  /**
   * Bytes of a file, by its path below the shard's folder: one array a range, in their order. Absent where
   * only whole shards can be had. Throws `Corrupt` if the file is missing or ends within a range.
   */
  read?(
    file: string,
    ranges: readonly ByteRange[],
    signal?: AbortSignal | undefined,
  ): Promise<readonly Uint8Array[]>
}

/** Bytes from `start` up to but not including `end`; `0 <= start <= end`. */
export interface ByteRange {
  readonly start: number
  readonly end: number
}

/**
 * A shard whose files lie in the local directory `dir`, which need not be there before one of them is asked
 * for.
 */
export function localDirectory(dir: string): Required<ShardSource> {
  return {
    name: dir,
    localDir: async () => dir,
    async read(file, ranges, signal) {
      throwIfAborted(signal)
      const path = join(dir, file)
      const handle = await open(path).catch((error: unknown) => {
        if (errorCode(error) === "ENOENT") throw corrupt(`${path} is missing`, { file: path }, error)
        throw fileError("read", path, error)
      })
      try {
        return await Promise.all(ranges.map(({ start, end }) => readRange(handle, path, start, end)))
      } finally {
        await handle.close()
      }
    },
  }
}
