/**
 * Local files as the stores use them: bodies to upload, targets to download into, and errors of the file
 * system as ours.
 */
import { type FileHandle, mkdir, open, readdir, rm, unlink } from "node:fs/promises"
import { join } from "node:path"
import {
  corrupt,
  type ErrorDetails,
  invalidInput,
  isVecsnapError,
  lastingFault,
  unavailable,
  type VecsnapError,
} from "../errors.js"
import type { PutBody } from "./store.js"

/** The code of a system error ("ENOENT"), if it is one. */
export function errorCode(error: unknown): string | undefined {
  if (!(error instanceof Error) || !("code" in error)) return undefined
  return typeof error.code === "string" ? error.code : undefined
}

// Of the machine, and stays until somebody puts it right.
const LASTING: Readonly<Record<string, string>> = {
  EACCES: "permission denied",
  EPERM: "operation not permitted",
  EROFS: "the file system is read-only",
  ENOENT: "no such file or directory",
  EXDEV: "a part of its path is on another file system",
  ENXIO: "no such device",
  ENODEV: "no such device",
}
// Of the path: whoever named it must name another.
const OF_THE_PATH: Readonly<Record<string, string>> = {
  EEXIST: "it exists already",
  EISDIR: "it is a directory",
  ENOTDIR: "a part of its path is a file, not a directory",
  ENAMETOOLONG: "a part of its path is too long for the file system",
  ELOOP: "too many symbolic links",
}
// What may pass, as has everything else.
const PASSING: Readonly<Record<string, string>> = {
  ENOSPC: "no space left on the device",
  EDQUOT: "the disk quota is used up",
  EMFILE: "too many open files in this process",
  ENFILE: "too many open files on this machine",
  EIO: "input/output error",
  ESTALE: "the network file system has lost it",
  EBUSY: "it is in use",
  EPIPE: "whoever reads it has gone",
  ENOMEM: "out of memory",
  EAGAIN: "the machine lacks resources for it now",
}

/**
 * An error of the file system as one of ours: `InvalidInput` for a path that cannot be one, else
 * `Unavailable`: lasting where nothing but somebody's hand helps (a permission, a missing directory), else
 * not (a full disk is worth a retry once there is room). Errors that are ours already pass unchanged.
 *
 * @param action what was tried on `path`, as in "cannot read /data/x"
 */
export function fileError(action: string, path: string, error: unknown): VecsnapError {
  if (isVecsnapError(error)) return error
  const code = errorCode(error) ?? "unknown error"
  const details: ErrorDetails = { path, code }
  const [fault, said] =
    code in OF_THE_PATH
      ? [invalidInput, OF_THE_PATH[code]]
      : code in LASTING
        ? [lastingFault, LASTING[code]]
        : []
  if (fault !== undefined) return fault(`cannot ${action} ${path}: ${said}`, details, error)
  return unavailable(`cannot ${action} ${path}: ${PASSING[code] ?? code}`, details, error)
}

/** Permissions of a downloaded file: read and written by whoever runs the process, by nobody else. */
export const OWNER_ONLY = 0o600

/** Permissions of a directory for downloaded files. */
export const OWNER_ONLY_DIRECTORY = 0o700

/**
 * The paths of all regular files below a directory, in no order. No symbolic link is followed, which the
 * recursive `readdir` of newer Node versions does (seen in 26).
 */
export async function filesBelow(dir: string): Promise<string[]> {
  const entries = await readdir(dir, { withFileTypes: true })
  const lists = entries.map((entry) => {
    const path = join(dir, entry.name)
    if (entry.isDirectory()) return filesBelow(path)
    return entry.isFile() ? [path] : []
  })
  return (await Promise.all(lists)).flat()
}

/** Bytes to be uploaded, in memory or in a file, read piece by piece. */
export interface BodySource {
  readonly sizeBytes: number
  /**
   * The bytes from `start` up to but not including `end`. Throws `Corrupt` if the file has shrunk meanwhile.
   */
  read(start: number, end: number): Promise<Uint8Array>
}

/** Opens a body, hands it to `use`, and closes it whatever happens. */
export async function withBody<T>(body: PutBody, use: (source: BodySource) => Promise<T>): Promise<T> {
  if (body instanceof Uint8Array) {
    return use({ sizeBytes: body.byteLength, read: async (start, end) => body.subarray(start, end) })
  }
  const { file } = body
  const handle = await open(file, "r").catch((error) => {
    throw namedError("read", file, error)
  })
  try {
    const stat = await handle.stat()
    if (!stat.isFile()) throw invalidInput(`cannot read ${file}: it is not a regular file`, { path: file })
    return await use({
      sizeBytes: stat.size,
      read: (start, end) => readRange(handle, file, start, end),
    })
  } finally {
    await handle.close()
  }
}

/**
 * An error about a file to upload, or to download to: whoever names one where there is nothing is to blame.
 */
export function namedError(action: string, file: string, error: unknown): VecsnapError {
  if (errorCode(error) !== "ENOENT") return fileError(action, file, error)
  return invalidInput(
    `cannot ${action} ${file}: no such file or directory`,
    { path: file, code: "ENOENT" },
    error,
  )
}

/** Reads exactly the bytes from `start` up to `end`; `Corrupt` if the file ends before. */
export async function readRange(
  handle: FileHandle,
  path: string,
  start: number,
  end: number,
): Promise<Uint8Array> {
  const bytes = new Uint8Array(end - start)
  let filled = 0
  while (filled < bytes.length) {
    const { bytesRead } = await handle
      .read(bytes, filled, bytes.length - filled, start + filled)
      .catch((error) => {
        throw fileError("read", path, error)
      })
    if (bytesRead === 0) {
      const got = start + filled
      throw corrupt(`${path} ends after ${got} bytes, expected at least ${end}`, { path, expected: end, got })
    }
    filled += bytesRead
  }
  return bytes
}

/**
 * Creates the file `path`, which must not exist, and lets `write` fill it. If that fails, the file is
 * removed; a file that was there before is left alone (`InvalidInput`).
 *
 * @param mode permissions, less those that the umask takes; by default those of any new file
 */
export async function createFile<T>(
  path: string,
  write: (handle: FileHandle) => Promise<T>,
  mode?: number,
): Promise<T> {
  const handle = await open(path, "wx", mode).catch((error) => {
    throw namedError("create", path, error)
  })
  try {
    const result = await write(handle)
    await handle.close()
    return result
  } catch (error) {
    await handle.close().catch(() => undefined)
    await unlink(path).catch(() => undefined)
    throw isFileFault(error) ? fileError("write", path, error) : error
  }
}

// What fills the file may fail for reasons of its own, such as a connection that breaks.
function isFileFault(error: unknown): boolean {
  const code = errorCode(error) ?? ""
  return code in LASTING || code in OF_THE_PATH || code in PASSING
}

/** Makes the directory `dir`, which must not exist, runs `use`, and removes it with all that is in it. */
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
