/**
 * A store in a directory: a key is a path below it. Works between processes, and between machines that share
 * the directory through a file system with atomic `rename` and `link`.
 *
 * - An object is written to `.vecsnap/tmp`, synced, then put in place whole: with `link` if the key is new
 *   (which fails if it exists, so a create is exclusive), else with `rename` under the lock of
 *   `local-lock.ts`. Files are never changed in place, so an open file is one version, whatever happens to
 *   its name.
 * - An ETag is made of inode, time of modification and size. The file that replaces another exists beside it
 *   for a moment, so its inode differs. The time tells apart versions that share an inode because an earlier
 *   one is gone; since clocks of file systems are coarse, it is given a random fraction of a second.
 * - A key cannot be another key's directory: "a" and "a/b" do not fit together here, unlike on object
 *   storage.
 */
import { randomBytes, randomUUID } from "node:crypto"
import { type BigIntStats, constants } from "node:fs"
import {
  copyFile,
  type FileHandle,
  link,
  lstat,
  mkdir,
  open,
  readdir,
  rename,
  rmdir,
  stat,
  unlink,
  writeFile,
} from "node:fs/promises"
import { dirname, join, resolve } from "node:path"
import { conflict, corrupt, invalidInput, isVecsnapError, throwIfAborted, unsupported } from "../errors.js"
import { createFile, errorCode, fileError, namedError, OWNER_ONLY, readRange } from "./files.js"
import { createReplaceLock, type ReplaceLock } from "./local-lock.js"
import {
  assertExpectedSize,
  assertFits,
  assertKey,
  assertOnePrecondition,
  assertRange,
  assertReadKey,
  assertReadPrefix,
  compareKeys,
  isKey,
} from "./rules.js"
import type {
  CallOptions,
  ChangedObject,
  DeleteFailure,
  GetFileOptions,
  GetOptions,
  ListedObject,
  ObjectInfo,
  ObjectStore,
  PutBody,
  PutOptions,
  StoredObject,
  WholeGetOptions,
} from "./store.js"

/** The directory below the root that holds temporary files and the lock, and no objects. */
const PRIVATE_DIRECTORY = ".vecsnap"
/** A temporary file this old belongs to a process that died: no copy of a shard takes as long. */
const ABANDONED_AFTER_MS = 24 * 60 * 60 * 1000
const STATS_IN_FLIGHT = 32
/**
 * Kept on the disk for when it is full: a collection replaces the pointer before it removes anything, and
 * that must not fail for want of a few blocks.
 */
const RESERVE_BYTES = 64 * 1024
const COPY_BYTES = 2 ** 20

/**
 * Opens the store in `directory`, which is created by the first `put`.
 *
 * @param url the store as the user named it, for messages; `directory` by default
 */
export function openLocalStore(directory: string, url: string = directory): ObjectStore {
  return new LocalStore(resolve(directory), url)
}

class LocalStore implements ObjectStore {
  readonly url: string
  readonly #root: string
  readonly #temporaries: string
  readonly #reserve: string
  readonly #lock: ReplaceLock
  #swept: Promise<void> | undefined

  constructor(root: string, url: string) {
    this.url = url
    this.#root = root
    this.#temporaries = join(root, PRIVATE_DIRECTORY, "tmp")
    this.#reserve = join(root, PRIVATE_DIRECTORY, "reserve")
    this.#lock = createReplaceLock(join(root, PRIVATE_DIRECTORY, "lock"), randomUUID)
  }

  async get(key: string, options: GetOptions = {}): Promise<StoredObject | undefined> {
    const { range, signal } = options
    const path = this.#sourceOf(key)
    if (range !== undefined) assertRange(range)
    throwIfAborted(signal)
    if (path === undefined) return undefined
    const handle = await openIfFile(path)
    if (handle === undefined) return undefined
    try {
      const info = infoOf(await handle.stat({ bigint: true }))
      const { start, end } = range ?? { start: 0, end: info.size }
      if (end > info.size) {
        throw corrupt(`${path} has ${info.size} bytes, expected at least ${end}`, {
          key,
          expected: end,
          got: info.size,
        })
      }
      assertFits(options, info.size, path, key)
      const body = await readRange(handle, path, start, end)
      throwIfAborted(signal)
      return { ...info, body }
    } catch (error) {
      throw fileError("read", path, error)
    } finally {
      await handle.close()
    }
  }

  async getIfChanged(key: string, etag: string, options?: WholeGetOptions): Promise<ChangedObject> {
    const info = await this.head(key, options)
    return info?.etag === etag ? "unchanged" : this.get(key, options)
  }

  async getFile(key: string, target: string, options: GetFileOptions = {}): Promise<ObjectInfo | undefined> {
    const { signal } = options
    const path = this.#sourceOf(key)
    throwIfAborted(signal)
    if (path === undefined) return undefined
    const source = await openIfFile(path)
    if (source === undefined) return undefined
    try {
      // Of the open file, which is one version whatever is put in its place.
      const info = infoOf(await source.stat({ bigint: true }))
      assertExpectedSize(options, info.size, path, key)
      // Written anew, since a copy by the system takes over the source's permissions: others may have chosen
      // them.
      await createFile(
        target,
        async (handle) => {
          for (let start = 0; start < info.size; start += COPY_BYTES) {
            throwIfAborted(signal)
            const bytes = await readRange(source, path, start, Math.min(info.size, start + COPY_BYTES))
            await handle.writeFile(bytes)
          }
          throwIfAborted(signal)
        },
        OWNER_ONLY,
      )
      return info
    } finally {
      await source.close()
    }
  }

  async head(key: string, { signal }: CallOptions = {}): Promise<ObjectInfo | undefined> {
    const path = this.#sourceOf(key)
    throwIfAborted(signal)
    return path === undefined ? undefined : infoIfFile(path)
  }

  async put(key: string, body: PutBody, options: PutOptions = {}): Promise<{ readonly etag: string }> {
    const path = this.#pathOf(key)
    assertOnePrecondition(options)
    throwIfAborted(options.signal)
    await this.#prepare()
    for (;;) {
      try {
        const etag = await this.#tryPut(key, path, body, options)
        if (etag !== undefined) return { etag }
      } catch (error) {
        if (!(await this.#makesRoom(body, error))) throw error
      }
    }
  }

  /**
   * One round of writing and putting in place; undefined if it must be done again, because the lock was
   * stolen.
   */
  async #tryPut(key: string, path: string, body: PutBody, options: PutOptions): Promise<string | undefined> {
    const temporary = join(this.#temporaries, randomUUID())
    const etag = await writeTemporary(temporary, body)
    try {
      throwIfAborted(options.signal)
      const firstTry = options.ifMatch === undefined ? await placeNew(temporary, path) : "exists"
      if (firstTry === "placed") {
        await unlink(temporary)
        return etag
      }
      if (options.ifAbsent) {
        throw conflict(`${path} exists already`, { key, got: (await infoIfFile(path))?.etag })
      }
      const replaced = await this.#lock.hold(async (holder) => {
        if (!(await holder.stage(temporary))) return false
        const existing = await infoIfFile(path)
        if (options.ifMatch !== undefined && existing?.etag !== options.ifMatch) {
          throw conflict(`${path} has another version than expected`, {
            key,
            expected: options.ifMatch,
            got: existing?.etag,
          })
        }
        // Removed since `placeNew` saw it: from the start again.
        if (existing === undefined) return false
        return holder.commit(path)
      }, options.signal)
      if (!replaced) return undefined
      await syncDirectory(dirname(path))
      return etag
    } catch (error) {
      throw fileError("write", path, error)
    } finally {
      // Gone where it was put in place; else it must not stay behind.
      await unlink(temporary).catch(() => undefined)
    }
  }

  async *list(prefix: string, { signal }: CallOptions = {}): AsyncGenerator<ListedObject> {
    assertReadPrefix(prefix)
    if (prefix.startsWith("/")) return
    yield* this.#walk(prefix.slice(0, prefix.lastIndexOf("/") + 1), prefix, signal)
  }

  /** Lists the objects below `directory`, a key prefix that is empty or ends with "/". */
  async *#walk(
    directory: string,
    prefix: string,
    signal: AbortSignal | undefined,
  ): AsyncGenerator<ListedObject> {
    throwIfAborted(signal)
    const entries = await readDirectory(join(this.#root, directory))
    // All keys below the directory "a" start with "a/", so that is what ranks it among its siblings: after
    // "a-b".
    const names = entries
      .filter((entry) => entry.isDirectory() || entry.isFile())
      .map((entry) => directory + entry.name + (entry.isDirectory() ? "/" : ""))
      .filter((name) => name.startsWith(prefix) && !isPrivate(name) && canBeKey(name))
      .sort(compareKeys)
    for (let i = 0; i < names.length; i += STATS_IN_FLIGHT) {
      const chunk = names.slice(i, i + STATS_IN_FLIGHT)
      const infos = await Promise.all(
        chunk.map((name) => (name.endsWith("/") ? undefined : infoIfFile(join(this.#root, name)))),
      )
      for (const [j, name] of chunk.entries()) {
        throwIfAborted(signal)
        if (name.endsWith("/")) {
          yield* this.#walk(name, prefix, signal)
        } else {
          const info = infos[j]
          if (info !== undefined) yield { key: name, ...info }
        }
      }
    }
  }

  async delete(keys: readonly string[], { signal }: CallOptions = {}): Promise<readonly DeleteFailure[]> {
    const paths = keys.map((key) => this.#pathOf(key))
    const failures: DeleteFailure[] = []
    for (const [i, path] of paths.entries()) {
      throwIfAborted(signal)
      try {
        await this.#remove(path, signal)
      } catch (error) {
        if (isVecsnapError(error, "Aborted")) throw error
        failures.push({ key: keys[i]!, reason: fileError("remove", path, error).message })
      }
    }
    return failures
  }

  async #remove(path: string, signal: AbortSignal | undefined): Promise<void> {
    // Looked at first, so that nothing is created in a directory where there is nothing to remove.
    if ((await infoIfFile(path)) === undefined) return
    await this.#assertNoLinks()
    let done = false
    while (!done) {
      done = await this.#lock.hold(
        async (holder) => (await infoIfFile(path)) === undefined || holder.remove(path),
        signal,
      )
    }
    // A directory that is not empty, or was filled meanwhile, stays: rmdir refuses. So does one that is gone
    // already.
    for (let parent = dirname(path); parent !== this.#root; parent = dirname(parent)) {
      const removed = await rmdir(parent).then(
        () => true,
        () => false,
      )
      if (!removed) break
    }
  }

  filePath(key: string): string {
    return this.#pathOf(key)
  }

  close(): void {}

  /** No path for a key behind slashes: directories know of no empty names. */
  #sourceOf(key: string): string | undefined {
    assertReadKey(key)
    return key.startsWith("/") ? undefined : this.#pathOf(key)
  }

  #pathOf(key: string): string {
    assertKey(key)
    if (isPrivate(`${key}/`)) {
      throw invalidInput(`the key "${key}" is reserved: "${PRIVATE_DIRECTORY}" holds the store's own files`, {
        key,
      })
    }
    return join(this.#root, key)
  }

  /** Nothing is written or swept behind a link: what lies there is not the store's. */
  async #assertNoLinks(): Promise<void> {
    const directory = join(this.#root, PRIVATE_DIRECTORY)
    for (const path of [directory, this.#temporaries, join(directory, "lock")]) {
      const info = await lstat(path).catch(() => undefined)
      if (info?.isSymbolicLink())
        throw invalidInput(`${path} is a link, expected a directory: remove the link`, { path })
    }
  }

  /** Whether a small object failed for a full disk, and there was a reserve to give up for it. */
  async #makesRoom(body: PutBody, error: unknown): Promise<boolean> {
    const isSmall = body instanceof Uint8Array && body.byteLength <= RESERVE_BYTES / 2
    if (!isSmall || !isVecsnapError(error) || error.details.code !== "ENOSPC") return false
    return unlink(this.#reserve).then(
      () => true,
      () => false,
    )
  }

  /** Makes room for temporary files; once per store, also removes those of processes that died. */
  async #prepare(): Promise<void> {
    await this.#assertNoLinks()
    try {
      await mkdir(this.#temporaries, { recursive: true })
      this.#swept ??= removeAbandoned(this.#temporaries).then(() => keepReserve(this.#reserve))
      await this.#swept
    } catch (error) {
      throw fileError("create", this.#temporaries, error)
    }
  }
}

/** Whether a key, or a prefix that ends with "/", is below the private directory. */
function isPrivate(name: string): boolean {
  return name.startsWith(`${PRIVATE_DIRECTORY}/`)
}

// Files of other origin may have names that no key has; they are not objects.
function canBeKey(name: string): boolean {
  return isKey(name.endsWith("/") ? `${name}x` : name)
}

/** Best effort: a disk that has no room for it now may have later. */
async function keepReserve(path: string): Promise<void> {
  const held = await stat(path).catch(() => undefined)
  if (held?.size === RESERVE_BYTES) return
  const aside = `${path}-${randomUUID()}`
  // Random, so that no file system stores less than that.
  await writeFile(aside, randomBytes(RESERVE_BYTES), { flag: "wx", mode: 0o600 })
    .then(() => rename(aside, path))
    .catch(() => unlink(aside).catch(() => undefined))
}

async function removeAbandoned(directory: string): Promise<void> {
  for (const name of await readdir(directory)) {
    const path = join(directory, name)
    // By the time of creation: the time of modification is the random one of an ETag.
    const info = await lstat(path).catch(() => undefined)
    if (info !== undefined && Date.now() - info.ctimeMs > ABANDONED_AFTER_MS) {
      await unlink(path).catch(() => undefined)
    }
  }
}

/**
 * Writes and syncs a new file; on failure there is none. Returns the ETag that it keeps wherever it is moved.
 */
async function writeTemporary(path: string, body: PutBody): Promise<string> {
  return createFile(path, async (handle) => {
    if (body instanceof Uint8Array) {
      await handle.writeFile(body)
    } else {
      // The copy takes over the permissions of its source, but an object is to have those of any new file.
      const { mode } = await handle.stat()
      await copyFile(body.file, path, constants.COPYFILE_FICLONE).catch((error) => {
        // The target has just been created.
        throw errorCode(error) === "ENOENT"
          ? namedError("read", body.file, error)
          : fileError(`copy ${body.file} to`, path, error)
      })
      await handle.chmod(mode)
    }
    const nowMs = Date.now()
    await handle.utimes(nowMs / 1000, (nowMs - Math.random() * 1000) / 1000)
    await handle.sync()
    return infoOf(await handle.stat({ bigint: true })).etag
  })
}

/** Gives a file a second name, `path`, which must be new. Creates the directories above it. */
async function placeNew(temporary: string, path: string): Promise<"placed" | "exists"> {
  for (;;) {
    try {
      await link(temporary, path)
      await syncDirectory(dirname(path))
      return "placed"
    } catch (error) {
      const code = errorCode(error)
      if (code === "EEXIST") {
        if ((await lstat(path).catch(() => undefined))?.isDirectory()) {
          throw invalidInput(
            `cannot write ${path}: it is a directory, since other keys are below it`,
            { path },
            error,
          )
        }
        return "exists"
      }
      if (code === "EPERM" || code === "ENOTSUP" || code === "EOPNOTSUPP" || code === "ENOSYS") {
        throw unsupported(
          `cannot create ${path}: its file system has no hard links, which make creation exclusive`,
          { path },
          error,
        )
      }
      if (code !== "ENOENT") throw error
      // The directory is missing, or was removed since the last round because it was empty.
      await createDirectory(dirname(path))
    }
  }
}

/** Creates a directory and those above it, and makes sure that they survive a crash of the machine. */
async function createDirectory(path: string): Promise<void> {
  const first = await mkdir(path, { recursive: true }).catch((error) => {
    // One of them was removed in between; the caller comes again.
    if (errorCode(error) === "ENOENT") return undefined
    if (errorCode(error) !== "EEXIST") throw error
    throw invalidInput(`cannot create ${path}: a part of it is a file, another key`, { path }, error)
  })
  if (first === undefined) return
  for (let created = path; created.length >= first.length; created = dirname(created)) {
    await syncDirectory(dirname(created))
  }
}

async function syncDirectory(path: string): Promise<void> {
  const handle = await open(path, "r").catch((error) => {
    // Removed again already, with what was in it.
    if (errorCode(error) === "ENOENT") return undefined
    throw error
  })
  try {
    await handle?.sync()
  } finally {
    await handle?.close()
  }
}

/** The open file at `path`; undefined if there is none, or a directory. */
async function openIfFile(path: string): Promise<FileHandle | undefined> {
  try {
    // A named pipe would be waited for, by one of the few threads that do this.
    const handle = await open(path, constants.O_RDONLY | constants.O_NONBLOCK)
    if ((await handle.stat()).isFile()) return handle
    await handle.close()
    return undefined
  } catch (error) {
    if (isAbsence(error)) return undefined
    throw fileError("read", path, error)
  }
}

async function infoIfFile(path: string): Promise<ObjectInfo | undefined> {
  try {
    const stats = await stat(path, { bigint: true })
    return stats.isFile() ? infoOf(stats) : undefined
  } catch (error) {
    if (isAbsence(error)) return undefined
    throw fileError("read", path, error)
  }
}

// ENOTDIR: the key is below another key, which is a file.
function isAbsence(error: unknown): boolean {
  const code = errorCode(error)
  return code === "ENOENT" || code === "ENOTDIR"
}

function infoOf(stats: BigIntStats): ObjectInfo {
  const etag = `"${[stats.ino, stats.mtimeNs, stats.size].map((part) => part.toString(36)).join("-")}"`
  return { size: Number(stats.size), etag, lastModified: new Date(Number(stats.mtimeMs)) }
}

async function readDirectory(path: string) {
  try {
    return await readdir(path, { withFileTypes: true })
  } catch (error) {
    if (isAbsence(error)) return []
    throw fileError("list", path, error)
  }
}
