/**
 * The highest number of a publication that was seen at a root, by any process that uses the cache directory:
 * an empty file whose name is the number.
 *
 * ```
 * <cacheDir>/.seen/<SHA-256 of the root's URL, 40 digits>/<number>
 * ```
 *
 * It needs no lock. Whoever has seen a number makes its file, then removes those of lower ones; the highest
 * that is there counts, so that nobody can take back what another has seen.
 */
import { mkdir, open, readdir, rm } from "node:fs/promises"
import { join } from "node:path"
import { sha256OfBytes } from "../../storage/checksum.js"
import { errorCode, fileError, OWNER_ONLY, OWNER_ONLY_DIRECTORY } from "../../storage/files.js"

export interface SeenNumbers {
  readonly directory: string
  /** 0 if none was seen. Throws `Unavailable` if that cannot be told. */
  highest(): Promise<number>
  /** Throws `Unavailable` if it cannot be kept. */
  note(number: number): Promise<void>
}

const NUMBER = /^[1-9]\d{0,15}$/

export function createSeenNumbers(cacheDir: string, url: string): SeenNumbers {
  const directory = join(cacheDir, ".seen", sha256OfBytes(Buffer.from(url)).slice(0, 40))

  async function numbers(): Promise<readonly number[]> {
    try {
      const names = await readdir(directory)
      return names.filter((name) => NUMBER.test(name)).map(Number)
    } catch (error) {
      if (errorCode(error) === "ENOENT") return []
      throw fileError("read", directory, error)
    }
  }

  return {
    directory,
    highest: async () => Math.max(0, ...(await numbers())),
    async note(number) {
      const path = join(directory, String(number))
      try {
        await mkdir(directory, { recursive: true, mode: OWNER_ONLY_DIRECTORY })
        await (await open(path, "a", OWNER_ONLY)).close()
      } catch (error) {
        throw fileError("write", path, error)
      }
      const lower = (await numbers()).filter((other) => other < number)
      // What stays is lower and does no harm.
      await Promise.allSettled(lower.map((other) => rm(join(directory, String(other)), { force: true })))
    },
  }
}
