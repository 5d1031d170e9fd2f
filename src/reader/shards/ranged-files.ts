/**
 * The files of a stored shard that is not on the local disk: read in ranges, which are kept there.
 *
 * What was read of a file lies in a sparse file of its name, at its place. Nothing says which parts are
 * there: a part is there if it has the SHA-256 that it must have, which a hole has not. So whatever a process
 * that was killed, a power failure or another process at work on the same file leaves behind, what is read is
 * sound, or fetched again.
 */
import { constants } from "node:fs"
import { type FileHandle, open, readFile, rename, rm, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { abortable } from "../../async/abortable.js"
import { newOwnerName } from "../../async/owner.js"
import { corrupt, messageOf, throwIfAborted } from "../../errors.js"
import type { ShardSource } from "../../shards/source.js"
import {
  checkStretch,
  checkWithin,
  fromStretches,
  isSound,
  joinStretches,
  stretchesOf,
  stretchRange,
} from "../../shards/stretches.js"
import { assertSha256, assertSize } from "../../snapshot/content.js"
import { neededFiles, type SnapshotShard, type StoredFile, shardFiles } from "../../snapshot/snapshot.js"
import { sha256OfBytes } from "../../storage/checksum.js"
import { OWNER_ONLY } from "../../storage/files.js"
import type { ObjectStore } from "../../storage/store.js"
import type { DiskCache } from "./disk-cache.js"
import { missingFile } from "./in-place.js"

const { O_CREAT, O_RDWR } = constants
/** Stretches that nobody asked for and that are read between two others, at most: 64 KiB. */
const GAP = 4

export interface RangedFiles {
  readonly source: ShardSource
  /** Why something could not be kept, the last time that it could not; undefined if all could. */
  readonly problem: string | undefined
  /** Ends what is under way. */
  close(): Promise<void>
}

export interface RangedOptions {
  readonly store: ObjectStore
  /** Has checksums of its files. */
  readonly entry: SnapshotShard
  readonly cache: Pick<DiskCache, "grow">
  /** Where parts are kept, in `cache`; claimed until this is closed. */
  readonly dir: string
  /** A directory with the whole shard, fetched if need be. */
  readonly localDir: () => Promise<string>
}

export function createRangedFiles(options: RangedOptions): RangedFiles {
  const { store, entry, cache, dir } = options
  const ending = new AbortController()
  const files = new Map(shardFiles({ ...entry, files: neededFiles(entry) }).map((file) => [file.name, file]))
  const parts = new Map<string, PartedFile>()
  const wholes = new Map<string, Promise<Uint8Array>>()
  let problem: string | undefined

  /** What cannot be kept was read all the same. */
  async function keep(bytes: number, write: () => Promise<void>): Promise<void> {
    try {
      await cache.grow(bytes, write)
    } catch (error) {
      problem = messageOf(error)
    }
  }

  function fileNamed(name: string): StoredFile {
    const file = files.get(name)
    if (file !== undefined) return file
    throw corrupt(`shard ${entry.shard} has no file ${name}`, { file: name, shard: entry.shard })
  }

  function partedFile(name: string, sums: Uint8Array): PartedFile {
    const known = parts.get(name)
    if (known !== undefined) return known
    const file = fileNamed(name)
    const fetch = async (start: number, end: number): Promise<Uint8Array> => {
      const object = await store.get(file.key, { range: { start, end }, signal: ending.signal })
      if (object === undefined) throw missingFile(store, file.key, entry.shard)
      assertSize(file.key, object.size, file.size)
      return object.body
    }
    const made = new PartedFile(file, join(dir, name), sums, fetch, keep)
    parts.set(name, made)
    return made
  }

  /** A whole file, from where it was kept if it is sound there. */
  function wholeFile(name: string): Promise<Uint8Array> {
    const known = wholes.get(name)
    if (known !== undefined) return known
    const reading = obtainWhole(fileNamed(name), join(dir, name))
    wholes.set(name, reading)
    const forget = () => wholes.delete(name)
    reading.then(forget, forget)
    return reading
  }

  async function obtainWhole({ key, size, sha256 }: StoredFile, path: string): Promise<Uint8Array> {
    const kept = await readFile(path).catch(() => undefined)
    if (kept?.length === size && sha256OfBytes(kept) === sha256) return kept
    const object = await store.get(key, { maxBytes: size, signal: ending.signal })
    if (object === undefined) throw missingFile(store, key, entry.shard)
    assertSize(key, object.size, size)
    assertSha256(key, sha256OfBytes(object.body), sha256)
    await keep(size, async () => {
      const incoming = `${path}.${newOwnerName()}`
      try {
        await writeFile(incoming, object.body, { mode: OWNER_ONLY, flag: "wx" })
        await rename(incoming, path)
      } finally {
        await rm(incoming, { force: true })
      }
    })
    return object.body
  }

  return {
    source: {
      name: `${store.url}/${entry.folder}`,
      isLocal: false,
      localDir: options.localDir,
      async read(name, ranges, { signal, sums } = {}) {
        throwIfAborted(signal)
        if (sums !== undefined) return abortable(partedFile(name, sums).read(ranges), signal)
        checkWithin(fileNamed(name).key, ranges, fileNamed(name).size)
        const bytes = await abortable(wholeFile(name), signal)
        return ranges.map(({ start, end }) => bytes.subarray(start, end))
      },
      async readFile(name, { signal } = {}) {
        throwIfAborted(signal)
        return abortable(wholeFile(name), signal)
      },
    },
    get problem() {
      return problem
    },
    async close() {
      ending.abort()
      await Promise.allSettled([...wholes.values(), ...Array.from(parts.values(), (part) => part.close())])
    },
  }
}

/** A file that is had in stretches. */
class PartedFile {
  readonly #file: StoredFile
  readonly #path: string
  readonly #sums: Uint8Array
  readonly #fetch: (start: number, end: number) => Promise<Uint8Array>
  readonly #keep: (bytes: number, write: () => Promise<void>) => Promise<void>
  /** Stretches that are being read. */
  readonly #reading = new Map<number, Promise<Uint8Array>>()
  /** Undefined where no file can be made. */
  #handle: Promise<FileHandle | undefined> | undefined

  constructor(
    file: StoredFile,
    path: string,
    sums: Uint8Array,
    fetch: (start: number, end: number) => Promise<Uint8Array>,
    keep: (bytes: number, write: () => Promise<void>) => Promise<void>,
  ) {
    this.#file = file
    this.#path = path
    this.#sums = sums
    this.#fetch = fetch
    this.#keep = keep
  }

  async read(ranges: Parameters<typeof stretchesOf>[0]): Promise<readonly Uint8Array[]> {
    checkWithin(this.#file.key, ranges, this.#file.size)
    const wanted = stretchesOf(ranges)
    const missing = wanted.filter((index) => !this.#reading.has(index))
    if (missing.length > 0) this.#begin(missing)
    // Looked up before anything is awaited: each goes when it has been read.
    const reading = wanted.map((index) => this.#reading.get(index)!)
    const stretches = new Map<number, Uint8Array>()
    await Promise.all(
      reading.map(async (stretch, i) => {
        stretches.set(wanted[i]!, await stretch)
      }),
    )
    return ranges.map((range) => fromStretches(range, stretches))
  }

  async close(): Promise<void> {
    await Promise.allSettled(this.#reading.values())
    await (await this.#handle)?.close()
  }

  #begin(indexes: readonly number[]): void {
    const all = this.#obtain(indexes)
    for (const index of indexes) {
      const one = all.then((stretches) => stretches.get(index)!)
      this.#reading.set(index, one)
      const forget = () => this.#reading.delete(index)
      one.then(forget, forget)
    }
  }

  async #obtain(indexes: readonly number[]): Promise<ReadonlyMap<number, Uint8Array>> {
    this.#handle ??= openSparse(this.#path, this.#file.size)
    const handle = await this.#handle
    const stretches = new Map<number, Uint8Array>()
    await Promise.all(
      indexes.map(async (index) => {
        const kept = handle && (await this.#kept(handle, index))
        if (kept !== undefined) stretches.set(index, kept)
      }),
    )
    const missing = indexes.filter((index) => !stretches.has(index))
    const requests = joinStretches(missing, GAP)
    await Promise.all(
      requests.map(async ({ first, last }) => {
        const { size } = this.#file
        const start = stretchRange(first, size).start
        const bytes = await this.#fetch(start, stretchRange(last, size).end)
        for (let index = first; index <= last; index++) {
          const range = stretchRange(index, size)
          const stretch = bytes.subarray(range.start - start, range.end - start)
          checkStretch(this.#file.key, stretch, index, this.#sums)
          stretches.set(index, stretch)
        }
        if (handle !== undefined) await this.#keep(bytes.length, () => writeAt(handle, bytes, start))
      }),
    )
    return stretches
  }

  async #kept(handle: FileHandle, index: number): Promise<Uint8Array | undefined> {
    const { start, end } = stretchRange(index, this.#file.size)
    const bytes = new Uint8Array(end - start)
    try {
      const { bytesRead } = await handle.read(bytes, 0, bytes.length, start)
      return bytesRead === bytes.length && isSound(bytes, index, this.#sums) ? bytes : undefined
    } catch {
      return undefined
    }
  }
}

/** A file of so many bytes, all of them a hole if it was not there. */
async function openSparse(path: string, size: number): Promise<FileHandle | undefined> {
  const handle = await open(path, O_RDWR | O_CREAT, OWNER_ONLY).catch(() => undefined)
  await handle?.truncate(size).catch(() => {})
  return handle
}

async function writeAt(handle: FileHandle, bytes: Uint8Array, start: number): Promise<void> {
  for (let written = 0; written < bytes.length; ) {
    const { bytesWritten } = await handle.write(bytes, written, bytes.length - written, start + written)
    written += bytesWritten
  }
}
