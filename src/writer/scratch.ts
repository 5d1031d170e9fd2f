/**
 * Where a build keeps what it needs for a while: rows on their way to their shards, hashes of ids, files
 * before they are uploaded.
 *
 * Files have names, are written at their end only, and are read from their start. So the local directory of
 * today may become any place that tasks in several processes share. A scratch store is opened from plain
 * data, which can be sent to them.
 */
import { type FileHandle, open, readFile, rm, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { notFound } from "../errors.js"

export interface ScratchLocation {
  /** A local directory that exists and that nothing else writes to. */
  readonly directory: string
}

export interface Scratch {
  readonly location: ScratchLocation
  /** Adds to the end of a file, made if it does not exist. One call at a time for each file. */
  append(name: string, content: Uint8Array | Iterable<Uint8Array>): Promise<void>
  /** Opens a file to be read from its start. Throws `NotFound` if it does not exist. */
  read(name: string): Promise<ScratchReader>
  /** The content of a file that fits into memory. Throws `NotFound` if it does not exist. */
  readWhole(name: string): Promise<Buffer>
  /** Removes a file, or a folder with all that is in it. What does not exist is no error. */
  remove(name: string): Promise<void>
  /**
   * The local path of a file or folder, for what must have one: uploads, and backends that write files of
   * their own.
   */
  path(name: string): string
}

export interface ScratchReader {
  /**
   * Fills the buffer with what comes next. Returns how many bytes there were: fewer than asked for only at
   * the end.
   */
  fill(buffer: Uint8Array): Promise<number>
  close(): Promise<void>
}

export function openScratch(location: ScratchLocation): Scratch {
  const { directory } = location
  const path = (name: string): string => join(directory, name)

  async function found<T>(name: string, reading: Promise<T>): Promise<T> {
    try {
      return await reading
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error
      throw notFound(`there is no scratch file ${path(name)}`, { path: path(name) }, error)
    }
  }

  return {
    location,
    append: (name, content) => writeFile(path(name), content, { flag: "a" }),
    read: async (name) => readerOf(await found(name, open(path(name)))),
    readWhole: (name) => found(name, readFile(path(name))),
    remove: (name) => rm(path(name), { recursive: true, force: true }),
    path,
  }
}

function readerOf(file: FileHandle): ScratchReader {
  return {
    async fill(buffer) {
      let filled = 0
      while (filled < buffer.length) {
        const { bytesRead } = await file.read(buffer, filled, buffer.length - filled)
        if (bytesRead === 0) break
        filled += bytesRead
      }
      return filled
    },
    close: () => file.close(),
  }
}
