/**
 * Where the files of one shard are, for a backend that opens it.
 */
import { open } from "node:fs/promises"
import { join } from "node:path"
import { corrupt, throwIfAborted } from "../errors.js"
import { errorCode, fileError, readRange } from "../storage/files.js"
import {
  type ByteRange,
  checkStretch,
  checkWithin,
  fromStretches,
  stretchesOf,
  stretchRange,
} from "./stretches.js"

/** The files of one shard: what its manifest says, for as long as the shard is open. */
export interface ShardSource {
  /** For messages: where the files are. */
  readonly name: string
  /** Whether all files are in a local directory already, so that `localDir` has nothing to fetch. */
  readonly isLocal: boolean
  /** A local directory with all files of the shard. */
  localDir(): Promise<string>
  /**
   * Bytes of a file, by its path below the shard's folder: one array a range, in their order. Absent where
   * only whole shards can be had. Throws `Corrupt` if the file is missing, damaged, or ends within a range.
   */
  read?(file: string, ranges: readonly ByteRange[], options?: RangeOptions): Promise<readonly Uint8Array[]>
  /** All bytes of a file. As `read`, and there where that is. */
  readFile?(file: string, options?: Pick<RangeOptions, "signal">): Promise<Uint8Array>
}

export interface RangeOptions {
  readonly signal?: AbortSignal | undefined
  /**
   * SHA-256 of every stretch of the file (stretches.ts), by which all that is read is checked. Without them a
   * source that has checksums of whole files only may read the whole file.
   */
  readonly sums?: Uint8Array | undefined
}

/**
 * A shard whose files lie in the local directory `dir`, which need not be there before one of them is asked
 * for.
 */
export function localDirectory(dir: string): Required<ShardSource> {
  return {
    name: dir,
    isLocal: true,
    localDir: async () => dir,
    async read(file, ranges, { signal, sums } = {}) {
      throwIfAborted(signal)
      return withFile(join(dir, file), async (read, size) => {
        if (sums === undefined) return Promise.all(ranges.map(read))
        checkWithin(join(dir, file), ranges, size)
        const stretches = new Map<number, Uint8Array>()
        const wanted = stretchesOf(ranges)
        const check = async (index: number): Promise<void> => {
          const bytes = await read(stretchRange(index, size))
          checkStretch(join(dir, file), bytes, index, sums)
          stretches.set(index, bytes)
        }
        await Promise.all(wanted.map(check))
        return ranges.map((range) => fromStretches(range, stretches))
      })
    },
    async readFile(file, { signal } = {}) {
      throwIfAborted(signal)
      return withFile(join(dir, file), (read, size) => read({ start: 0, end: size }))
    },
  }
}

async function withFile<T>(
  path: string,
  use: (read: (range: ByteRange) => Promise<Uint8Array>, size: number) => Promise<T>,
): Promise<T> {
  const handle = await open(path).catch((error: unknown) => {
    if (errorCode(error) === "ENOENT") throw corrupt(`${path} is missing`, { file: path }, error)
    throw fileError("read", path, error)
  })
  try {
    const { size } = await handle.stat()
    return await use(({ start, end }) => readRange(handle, path, start, end), size)
  } finally {
    await handle.close()
  }
}
