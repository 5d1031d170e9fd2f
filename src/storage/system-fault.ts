/**
 * The last place where errors of the system become ours: whatever nobody foresaw further in, of files,
 * sockets and the databases inside, reaches no caller without a tag.
 */
import { constants } from "node:os"
import { isVecsnapError, lastingFault, unavailable, type VecsnapError } from "../errors.js"
import { errorCode, fileError } from "./files.js"

/** What a call of the system does to a path, for messages; of others, its name. */
const ACTIONS: Readonly<Record<string, string>> = {
  scandir: "list",
  opendir: "list",
  stat: "look at",
  lstat: "look at",
  fstat: "look at",
  access: "look at",
  mkdir: "make",
  mkdtemp: "make",
  unlink: "remove",
  rm: "remove",
  rmdir: "remove",
  ftruncate: "cut",
  fsync: "write",
  copyfile: "copy",
}

/** What an operating system's call says of itself beside its message. */
interface SystemFacts {
  readonly syscall?: unknown
  readonly path?: unknown
  readonly dest?: unknown
  readonly address?: unknown
  readonly port?: unknown
}

/**
 * An error of the system as {@link fileError} tells it, any other as it is. Errors of SQLite, LanceDB and
 * DuckDB that stand for one of the system are among them: by their codes, or what they say in words.
 *
 * @param about what was done when it occurred, for errors that name no path: "reading rows.jsonl"
 */
export function asTagged(error: unknown, about?: string): unknown {
  if (isVecsnapError(error) || !(error instanceof Error)) return error
  const code = errorCode(error) ?? ""
  if (code in constants.errno) return ofSystem(error, code, about)
  const inside = codeOfDatabase(code) ?? codeOfWords(error.message)
  return inside === undefined ? error : withoutPath(inside, error.message, about, error)
}

function ofSystem(error: Error, code: string, about: string | undefined): VecsnapError {
  const { syscall, path, dest, address, port } = error as SystemFacts
  const call = typeof syscall === "string" ? syscall : "use"
  const action = ACTIONS[call] ?? call
  if (typeof path === "string")
    return typeof dest === "string"
      ? fileError(`${action} ${path} to`, dest, error)
      : fileError(action, path, error)
  if (typeof address === "string") return fileError(action, [address, port].filter(Boolean).join(":"), error)
  return withoutPath(code, error.message, about, error)
}

/** Never `InvalidInput`: nothing tells that a name of the caller's was wrong. */
function withoutPath(code: string, message: string, about: string | undefined, cause: Error): VecsnapError {
  const raise = LASTING.has(code) ? lastingFault : unavailable
  return raise(`${about ?? "a call"} fails for a reason of the machine: ${message}`, { code }, cause)
}

const LASTING: ReadonlySet<string> = new Set(["EACCES", "EPERM", "EROFS", "ENOENT", "ENOTDIR"])

/** SQLite's result codes that are of the files' environment, not of their content. */
function codeOfDatabase(code: string): string | undefined {
  const [, result] = /^SQLITE_([A-Z]+)/.exec(code) ?? []
  return result === undefined ? undefined : SQLITE[result]
}

const SQLITE: Readonly<Record<string, string>> = {
  FULL: "ENOSPC",
  IOERR: "EIO",
  CANTOPEN: "EMFILE",
  NOMEM: "ENOMEM",
  READONLY: "EROFS",
  PERM: "EACCES",
}

/** Rust tells the number ("(os error 28)"), C++ what the C library says of it. */
function codeOfWords(message: string): string | undefined {
  const [, number] = /\(os error (\d+)\)/.exec(message) ?? []
  if (number !== undefined)
    return Object.entries(constants.errno).find(([, value]) => value === Number(number))?.[0]
  return WORDS.find(([pattern]) => pattern.test(message))?.[1]
}

const WORDS: readonly (readonly [RegExp, string])[] = [
  [/no space left on device/i, "ENOSPC"],
  [/too many open files/i, "EMFILE"],
  [/read-only file system/i, "EROFS"],
  [/disk quota exceeded/i, "EDQUOT"],
]
