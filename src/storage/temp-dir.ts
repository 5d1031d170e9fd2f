/**
 * Temporary directories: private, named after their owner, and removed by the next one if their owner was
 * killed.
 */
import { mkdir, readdir, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join, relative } from "node:path"
import { isProcessGone, newOwnerName } from "../async/owner.js"
import { isVecsnapError, unavailable, VecsnapError } from "../errors.js"
import { errorCode, fileError } from "./files.js"

/**
 * Makes the directory `<purpose>-<owner>` in `parent`, by default the system's, and removes those of that
 * purpose which killed processes of this machine have left there. Throws `Unavailable`, naming the directory
 * and what to set.
 *
 * @param purpose begins with "vecsnap-"
 */
export async function makeTempDir(parent: string | undefined, purpose: `vecsnap-${string}`): Promise<string> {
  const at = parent ?? tmpdir()
  await removeAbandoned(at, `${purpose}-`)
  const dir = join(at, `${purpose}-${newOwnerName()}`)
  try {
    await mkdir(dir, { mode: 0o700 })
  } catch (error) {
    throw tempFault(at, fileError("make", dir, error))
  }
  return dir
}

/**
 * Runs `work` with such a directory, and removes it. What goes wrong in it is told with its name and what to
 * set.
 */
export async function withTempDir<T>(
  parent: string | undefined,
  purpose: `vecsnap-${string}`,
  work: (dir: string) => Promise<T>,
): Promise<T> {
  const dir = await makeTempDir(parent, purpose)
  try {
    return await work(dir)
  } catch (error) {
    throw asTempFault(parent ?? tmpdir(), dir, error)
  } finally {
    await rm(dir, { recursive: true, force: true })
  }
}

/** An error about something in the temporary directory `dir` as one that says so; any other as it is. */
export function asTempFault(parent: string, dir: string, error: unknown): unknown {
  if (isVecsnapError(error)) {
    const { path, code } = error.details
    const ofSystem = typeof path === "string" && typeof code === "string"
    return ofSystem && isInside(dir, path) && error.tag !== "Corrupt" ? tempFault(parent, error) : error
  }
  const { path } = error as { readonly path?: unknown }
  if (typeof path === "string" && errorCode(error) !== undefined) {
    return isInside(dir, path) ? tempFault(parent, fileError("use", path, error)) : error
  }
  // Databases and streams tell it in words of their own, without the path. All that is written before the
  // upload lies here.
  if (!isFullDisk(error)) return error
  return tempFault(parent, unavailable("no space left on the device", { path: dir, code: "ENOSPC" }, error))
}

const isFullDisk = (error: unknown): boolean =>
  ["ENOSPC", "SQLITE_FULL"].includes(errorCode(error) ?? "") ||
  (error instanceof Error && /no space left on device|database or disk is full/i.test(error.message))

const isInside = (dir: string, path: string): boolean => !relative(dir, path).startsWith("..")

/** Whatever is wrong with it, no record and no query is: never `InvalidInput`. */
const tempFault = (parent: string, error: VecsnapError): VecsnapError =>
  new VecsnapError(
    "Unavailable",
    `the temporary directory ${parent} cannot be used: ${error.message}; choose another by tempDir (--temp-dir) or TMPDIR`,
    { ...error.details, ...(error.tag === "InvalidInput" && { lasting: true }) },
    error,
  )

/** Best effort: what can't be removed, or is removed by another process meanwhile, is no reason to fail. */
async function removeAbandoned(parent: string, prefix: string): Promise<void> {
  const names = await readdir(parent).catch(() => [])
  const abandoned = names.filter(
    (name) => name.startsWith(prefix) && isProcessGone(name.slice(prefix.length)),
  )
  for (const name of abandoned) await rm(join(parent, name), { recursive: true, force: true }).catch(() => {})
}
