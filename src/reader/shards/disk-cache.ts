/**
 * Directories of files on the local disk, one per content: shared by processes without locks, kept across
 * restarts, bounded in bytes.
 *
 * ```
 * <directory>/<content>/<file>…              complete: it got its name by a rename
 * <directory>/<content>.ranges/<file>…       parts of files (ranged-files.ts); the rest of them are holes
 * <directory>/<content>/.use-<owner>         a claim: somebody has it open
 * <directory>/<content>/.evict-<owner>       somebody is about to remove it
 * <directory>/.partial/<owner>/…             being filled, or being removed
 * ```
 *
 * Nothing that is claimed is removed. Whoever claims first writes its `.use` and then looks for an `.evict`;
 * whoever evicts first writes its `.evict` and then looks for a `.use`. So at least one of the two sees the
 * other and steps back. Two processes that fill the same content race for the rename; whoever loses uses the
 * winner's.
 *
 * The last use of a content is the modification time of its directory, which claiming and releasing renew by
 * themselves. Owners that were killed leave their files behind; see `owner.ts` for who counts as gone.
 *
 * Symbolic links are not followed out of the cache: a content is a directory, and its files are files, or it
 * is not there.
 *
 * Files are not synced to the device: after a power failure a file may be short, which every claim notices by
 * its size.
 */
import {
  access,
  constants,
  lstat,
  mkdir,
  readdir,
  realpath,
  rename,
  rm,
  statfs,
  utimes,
  writeFile,
} from "node:fs/promises"
import { join } from "node:path"
import { setTimeout as sleep } from "node:timers/promises"
import { isOwnerGone, newOwnerName, RENEW_MS } from "../../async/owner.js"
import { createSemaphore } from "../../async/semaphore.js"
import { unavailable } from "../../errors.js"
import { errorCode, fileError, filesBelow, OWNER_ONLY_DIRECTORY } from "../../storage/files.js"

/**
 * What a directory holds, and under which name: 40 hex digits; with `.ranges` after them, files that come in
 * parts, of which none needs to be there.
 */
export interface Content {
  readonly name: string
  readonly files: readonly { readonly name: string; readonly size: number }[]
}

/** A directory that stays as it is until it is released. */
export interface Claim {
  readonly dir: string
  /** Idempotent. */
  release(): Promise<void>
}

export interface DiskCache {
  readonly directory: string
  /** Claims a content; undefined if it is not there, or not complete. */
  claim(content: Content): Promise<Claim | undefined>
  /**
   * Makes room, lets `fill` write the files of a content into an empty directory, gives it its name and
   * claims it. Throws `Unavailable` if the disk is full, `InvalidInput` if it cannot be written, and what
   * `fill` throws.
   */
  add(content: Content, fill: (dir: string) => Promise<void>): Promise<Claim>
  /**
   * Makes room for so many bytes more in a content that is claimed, and runs `write`, which adds them. Throws
   * as {@link DiskCache.add}.
   */
  grow(bytes: number, write: () => Promise<void>): Promise<void>
  /** Removes a content, also if others have it open. */
  discard(content: Content): Promise<void>
  /** Removes a content unless somebody has it open. */
  leave(content: Content): Promise<void>
  /** The bound in bytes. */
  maxBytes(): Promise<number>
  /** Releases all claims. */
  close(): Promise<void>
}

const CACHE_BYTES_DEFAULT_MAX = 20 * 2 ** 30
const CONTENT_NAME = /^[0-9a-f]{40}(\.ranges)?$/
const USE = ".use-"
const EVICT = ".evict-"
/** An eviction takes a few file operations between its `.evict` and the rename. One this old has died. */
const EVICT_STALE_MS = 10_000
const EVICT_POLL_MS = 10
/** Of the blocks that `stat` counts, whatever those of the file system are. */
const BLOCK_BYTES = 512
/** Share of the bound that a process adds before it looks again at what others have added. */
const UNSEEN_SHARE = 1 / 16

/**
 * How often a place that is taken is tried for: each time other processes have filled it, and evicted it,
 * just then.
 */
const OCCUPIED_ATTEMPTS = 100
const isOccupied = (error: unknown): boolean => ["ENOTEMPTY", "EEXIST"].includes(errorCode(error) ?? "")

/**
 * The disk cache in `directory`, which is made when first needed.
 *
 * @param limitBytes bound of all contents together; default 20 GiB, or half of what the cache holds and the
 * disk has free, whichever is less. Contents in use may exceed it.
 */
export function createDiskCache(directory: string, limitBytes?: number): DiskCache {
  const partials = join(directory, ".partial")
  /** Files and directories of ours, whose time stamps are to be renewed. */
  const owned = new Set<string>()
  const claims = new Set<Claim>()
  const roomMaking = createSemaphore(1)
  let renewing: NodeJS.Timeout | undefined
  let swept = false
  let bound = limitBytes
  /**
   * Bytes of all contents when last looked at, of those that we added since, and of those that we are adding.
   */
  let seenBytes: number | undefined
  let addedBytes = 0
  let addingBytes = 0

  const pathOf = (name: string): string => join(directory, name)

  function own(path: string): void {
    owned.add(path)
    renewing ??= setInterval(() => {
      const now = new Date()
      for (const each of owned) utimes(each, now, now).catch(() => {})
    }, RENEW_MS).unref()
  }

  /** A claim on a directory, by the file `lease`, or by nothing where none can be written. */
  function toClaim(dir: string, lease: string | undefined): Claim {
    if (lease !== undefined) own(lease)
    const claim: Claim = {
      dir,
      async release() {
        if (!claims.delete(claim) || lease === undefined) return
        owned.delete(lease)
        await rm(lease, { force: true }).catch(() => {})
      },
    }
    claims.add(claim)
    return claim
  }

  const isClaimedHere = (dir: string): boolean => Array.from(claims).some((claim) => claim.dir === dir)

  async function claim(content: Content): Promise<Claim | undefined> {
    const dir = pathOf(content.name)
    for (;;) {
      if (!(await isComplete(dir, content))) return undefined
      const lease = join(dir, `${USE}${newOwnerName()}`)
      try {
        await writeFile(lease, "", { flag: "wx" })
      } catch (error) {
        // It went just now. Or it is in a cache that we may only read: then it is used without saying so.
        if (errorCode(error) === "ENOENT") continue
        return toClaim(dir, undefined)
      }
      if (!(await isMarked(dir, EVICT, EVICT_STALE_MS))) return toClaim(dir, lease)
      await rm(lease, { force: true })
      await sleep(EVICT_POLL_MS)
    }
  }

  async function add(content: Content, fill: (dir: string) => Promise<void>): Promise<Claim> {
    const needBytes = sizeOf(content)
    const partial = join(partials, newOwnerName())
    const dir = pathOf(content.name)
    await makePartials()
    await makeDirectory(partial)
    own(partial)
    try {
      await sweep()
      await makeRoom(needBytes)
      try {
        await fill(partial)
        const lease = `${USE}${newOwnerName()}`
        await onDisk("write", partial, writeFile(join(partial, lease), "", { flag: "wx" }))
        for (;;) {
          if (await place(partial, content)) {
            addedBytes += needBytes
            return toClaim(dir, join(dir, lease))
          }
          const claimed = await claim(content)
          // Else what another process had put there was evicted just now: ours is still to be had.
          if (claimed !== undefined) return claimed
        }
      } finally {
        addingBytes -= needBytes
      }
    } finally {
      owned.delete(partial)
      await rm(partial, { recursive: true, force: true }).catch(() => {})
    }
  }

  /** Gives a filled directory its name. False if another process was faster. */
  async function place(partial: string, content: Content): Promise<boolean> {
    const dir = pathOf(content.name)
    for (let attempt = 0; ; attempt++) {
      try {
        await rename(partial, dir)
        return true
      } catch (error) {
        // A directory is there: another process was faster, or it is one that lacks files, which makes way.
        if (await isComplete(dir, content)) return false
        const attempts = isOccupied(error) ? OCCUPIED_ATTEMPTS : 3
        if (attempt + 1 >= attempts) throw fileError("replace", dir, error)
        await remove(dir)
      }
    }
  }

  /** Takes a directory out of the cache at once, then deletes it. False if it is gone already. */
  async function remove(dir: string): Promise<boolean> {
    const gone = join(partials, newOwnerName())
    try {
      await makePartials()
      await rename(dir, gone)
    } catch (error) {
      const code = errorCode(error)
      if (code === "ENOENT") return false
      if (code === "EACCES" || code === "EPERM") return await putAside(dir, error)
      // A directory of an image's lower layer (overlayfs) cannot be renamed. To remove it piece by piece is
      // as good for all but who claims it at this moment, who then finds files missing and downloads them.
      if (code !== "EXDEV") throw fileError("remove", dir, error)
      await onDisk("remove", dir, rm(dir, { recursive: true, force: true }))
      return true
    }
    await rm(gone, { recursive: true, force: true }).catch(() => {})
    return true
  }

  /**
   * A directory of another user's cannot be emptied, nor moved to another directory; but whoever owns the
   * cache may give it another name. There it stays, for its owner to remove.
   */
  async function putAside(dir: string, error: unknown): Promise<boolean> {
    await rename(dir, pathOf(`.foreign-${newOwnerName()}`)).catch(() => {
      throw fileError("remove", dir, error)
    })
    return true
  }

  /** Removes a content unless somebody has it open. */
  async function evict(name: string): Promise<boolean> {
    const dir = pathOf(name)
    if (isClaimedHere(dir)) return false
    const mark = join(dir, `${EVICT}${newOwnerName()}`)
    try {
      await writeFile(mark, "", { flag: "wx" })
      if (!(await isMarked(dir, USE))) return await remove(dir)
    } catch {
      // Gone, or not ours to remove; then others must do.
    }
    await rm(mark, { force: true }).catch(() => {})
    return false
  }

  /** Reserves room for `needBytes`, evicting what was not used for longest. */
  function makeRoom(needBytes: number): Promise<void> {
    return roomMaking.run(async () => {
      const free = await freeBytes()
      const unseen = addedBytes + addingBytes + needBytes
      const fits = seenBytes !== undefined && bound !== undefined && seenBytes + unseen <= bound
      if (!fits || addedBytes > bound! * UNSEEN_SHARE || needBytes > free) await evictFor(needBytes)
      addingBytes += needBytes
    })
  }

  async function evictFor(needBytes: number): Promise<void> {
    const contents = await listContents()
    seenBytes = contents.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0)
    addedBytes = 0
    bound ??= defaultBytes(seenBytes, await freeBytes())
    const free = await freeBytes()
    // Before anything is evicted for it: no eviction makes room for what is larger than the disk.
    if (needBytes > free + seenBytes) throw diskFull(needBytes, free + seenBytes)
    const excessBytes = Math.max(seenBytes + addingBytes + needBytes - bound, needBytes - free)
    let freedBytes = 0
    for (const { name, sizeBytes } of byLastUse(contents)) {
      if (freedBytes >= excessBytes) break
      if (await evict(name)) freedBytes += sizeBytes
    }
    seenBytes -= freedBytes
    if (needBytes > free + freedBytes) throw diskFull(needBytes, free + freedBytes)
  }

  const diskFull = (needBytes: number, freeBytes: number): Error =>
    unavailable(`the disk of ${directory} is full: a shard takes ${needBytes} bytes, ${freeBytes} are free`, {
      path: directory,
      code: "ENOSPC",
      expected: needBytes,
      actual: freeBytes,
    })

  async function listContents(): Promise<readonly ListedContent[]> {
    const names = await readdir(directory).catch(() => [])
    // Only what has a name of ours is ever removed: the directory may hold other things.
    const listed = names.filter((name) => CONTENT_NAME.test(name)).map((name) => listContent(name))
    return (await Promise.all(listed)).filter((content) => content !== undefined)
  }

  async function listContent(name: string): Promise<ListedContent | undefined> {
    const dir = pathOf(name)
    try {
      const { mtimeMs } = await lstat(dir)
      if (!(await isDirectory(dir))) return undefined
      const paths = await filesBelow(dir)
      // Marks come and go.
      const infos = await Promise.all(paths.map((path) => lstat(path).catch(() => undefined)))
      const sizes = infos.map((info) => (info?.isFile() ? bytesHeld(name, info) : 0))
      return { name, lastUsedMs: mtimeMs, sizeBytes: sizes.reduce((sum, size) => sum + size, 0) }
    } catch {
      // Evicted by another process just now.
      return undefined
    }
  }

  async function freeBytes(): Promise<number> {
    const { bavail, bsize, blocks } = await onDisk("read", directory, statfs(directory))
    // Some network file systems do not tell.
    return blocks === 0 ? Number.POSITIVE_INFINITY : bavail * bsize
  }

  async function makeDirectory(path: string): Promise<void> {
    await onDisk("make", path, mkdir(path, { recursive: true, mode: OWNER_ONLY_DIRECTORY }))
  }

  /** A link in its place makes way: what is behind it is neither filled nor swept. */
  async function makePartials(): Promise<void> {
    const info = await lstat(partials).catch(() => undefined)
    if (info?.isSymbolicLink()) await onDisk("remove", partials, rm(partials, { force: true }))
    await makeDirectory(partials)
  }

  /** Removes, once, what killed processes have left behind. */
  async function sweep(): Promise<void> {
    if (swept) return
    swept = true
    for (const name of await readdir(partials).catch(() => [])) {
      const path = join(partials, name)
      const info = await lstat(path).catch(() => undefined)
      if (info === undefined || !isOwnerGone(name, info.mtimeMs)) continue
      await rm(path, { recursive: true, force: true }).catch(() => {})
    }
  }

  return {
    directory,
    claim,
    add,
    async grow(bytes, write) {
      await makeRoom(bytes)
      try {
        await write()
        addedBytes += bytes
      } finally {
        addingBytes -= bytes
      }
    },
    async leave({ name }) {
      if (await evict(name)) seenBytes = undefined
    },
    async discard({ name }) {
      await remove(pathOf(name))
      seenBytes = undefined
    },
    async maxBytes() {
      if (bound === undefined) {
        await makeDirectory(directory)
        const contents = await listContents()
        const heldBytes = contents.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0)
        bound ??= defaultBytes(heldBytes, await freeBytes())
      }
      return bound
    },
    async close() {
      clearInterval(renewing)
      await Promise.all(Array.from(claims, (each) => each.release()))
    },
  }
}

/** A content as found on the disk. */
export interface ListedContent {
  readonly name: string
  readonly sizeBytes: number
  readonly lastUsedMs: number
}

/** In the order in which they are to go: what was not used for longest first, by name where that is equal. */
export function byLastUse(contents: readonly ListedContent[]): readonly ListedContent[] {
  return [...contents].sort((a, b) => a.lastUsedMs - b.lastUsedMs || (a.name < b.name ? -1 : 1))
}

/**
 * The bound where none is given. What the cache holds counts as free: else it would shrink at every restart.
 */
export function defaultBytes(heldBytes: number, freeBytes: number): number {
  return Math.min(CACHE_BYTES_DEFAULT_MAX, Math.floor((heldBytes + freeBytes) / 2))
}

/** What a file takes: of one that comes in parts only those that are there. A system may not tell. */
function bytesHeld(
  name: string,
  { size, blocks }: { readonly size: number; readonly blocks: number },
): number {
  const held = blocks * BLOCK_BYTES
  return name.endsWith(".ranges") && held > 0 ? Math.min(size, held) : size
}

const sizeOf = ({ files }: Content): number => files.reduce((sum, { size }) => sum + size, 0)

/** Whether a directory holds all files at full size. What is in them was verified before it got its name. */
async function isComplete(dir: string, { files }: Content): Promise<boolean> {
  if (!(await isDirectory(dir))) return false
  // Whatever was just seen may go at any moment.
  const resolved = (path: string): Promise<string | undefined> => realpath(path).catch(() => undefined)
  const realDir = await resolved(dir)
  if (realDir === undefined) return false
  for (const { name, size } of files) {
    const path = join(realDir, name)
    const info = await lstat(path).catch(() => undefined)
    if (!info?.isFile() || info.size !== size || (await resolved(path)) !== path) return false
    // Those of an image may be another user's: what cannot be read is as good as missing.
    if (!(await isReadable(path))) return false
  }
  return true
}

const isReadable = (path: string): Promise<boolean> =>
  access(path, constants.R_OK).then(
    () => true,
    () => false,
  )

/** Whether there is a directory, not a link to one. */
async function isDirectory(path: string): Promise<boolean> {
  return (await lstat(path).catch(() => undefined))?.isDirectory() === true
}

/**
 * Whether a directory holds a mark whose owner is there still. Removes the marks of those that are gone, and
 * that are older than `staleMs`. A directory that went away counts as marked for eviction, since it was.
 */
async function isMarked(
  dir: string,
  prefix: typeof USE | typeof EVICT,
  staleMs = Number.POSITIVE_INFINITY,
): Promise<boolean> {
  const names = await readdir(dir).catch(() => undefined)
  if (names === undefined) return prefix === EVICT
  let marked = false
  for (const name of names.filter((each) => each.startsWith(prefix))) {
    const path = join(dir, name)
    const info = await lstat(path).catch(() => undefined)
    if (info === undefined) continue
    const stale = Date.now() - info.mtimeMs > staleMs || isOwnerGone(name.slice(prefix.length), info.mtimeMs)
    if (stale) await rm(path, { force: true }).catch(() => {})
    else marked = true
  }
  return marked
}

/** Awaits a file operation, and turns its error into one of ours. */
function onDisk<T>(action: string, path: string, operation: Promise<T>): Promise<T> {
  return operation.catch((error) => {
    throw fileError(action, path, error)
  })
}
